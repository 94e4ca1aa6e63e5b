"""Emphasis: exactly the tokens of the spans weigh more, by exactly the weight, and nothing else changes."""

import re

import pytest
import torch
from conftest import QUICKSTART, TINY_MODEL
from hypothesis import given, settings
from hypothesis import strategies as st
from test_shared_prefix import build, distance, one_step

from lawft_trl.data.chat import load_tokenizer
from lawft_trl.data.rows import Row
from lawft_trl.errors import InputError
from lawft_trl.recipe import load_recipe
from lawft_trl.training.emphasis import emphasise, row_weights, span_tokens
from lawft_trl.training.supervision import encode_rows, prove_trainer

KWARGS = {"enable_thinking": False}
EMPHASIS = {"patterns": ["のかね", "君[はがの]"], "weight": 3.0}
REPLIES = [
    "では、君は正義を何だと考えるのかね？",
    "正義は大切です。",
    "君の言う徳とは何だろうか。もう一度聞くが、知っているのかね？",
    "なるほど。それは、人によって違うということかね。",
]
TOKENIZER = load_tokenizer(str(TINY_MODEL))


def encoded_rows(outputs):
    rows = [Row(prompt=({"role": "user", "content": f"君は徳を知るのかね？ {n}"},), output=text, meta={}, source=f"r:{n}") for n, text in enumerate(outputs)]
    return encode_rows(rows, TOKENIZER, template_kwargs=KWARGS, max_length=None)


def compiled(emphasis=EMPHASIS):
    return [re.compile(pattern) for pattern in emphasis["patterns"]]


def by_bytes(item, patterns) -> list[bool]:
    """What `span_tokens` says, without offsets: a byte-level token has one letter for every byte of the text it stands for."""
    output = item.row.output
    wanted = b"".join(
        (b"\x01" if any(match.start() <= place < match.end() for pattern in patterns for match in pattern.finditer(output)) else b"\x00") * len(letter.encode())
        for place, letter in enumerate(output)
    )
    marks, at = [], 0
    for token in TOKENIZER.convert_ids_to_tokens(item.input_ids[item.prompt_length : -1]):
        marks.append(1 in wanted[at : at + len(token)])
        at += len(token)
    assert at == len(wanted)
    return [*marks, False]


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.sampled_from(["では", "君は", "君の", "のかね", "？", "。", "正義", "😀", "a", "\n", "髙"]), min_size=1, max_size=12).map("".join).filter(str.strip),
    st.lists(st.sampled_from(["のかね", "君[はの]", "か", "義", "😀", "[？。]+", "。$", "a.", "では、?君"]), min_size=1, max_size=4, unique=True),
)
def test_marked_are_the_tokens_that_hold_a_byte_of_a_span(output, patterns):
    (item,) = encoded_rows([output.strip()])
    found = compiled({"patterns": patterns})
    assert span_tokens(item, TOKENIZER, found, KWARGS) == by_bytes(item, found)


@given(st.lists(st.booleans(), min_size=1, max_size=60), st.floats(0.01, 100))
def test_weights_have_their_ratio_and_the_mean_one(marks, weight):
    weights = row_weights(marks, weight)
    assert sum(weights) == pytest.approx(len(marks), rel=1e-12)
    ratio = dict(zip(marks, weights, strict=True))
    if len(ratio) == 2:
        assert ratio[True] / ratio[False] == pytest.approx(weight)
    assert len(set(weights)) == len(ratio)
    assert row_weights(marks, 1.0) == [1.0] * len(marks)


def gradient_by_hand(trainer, encoded, emphasis) -> tuple[float, torch.Tensor]:
    """Weighted mean over the supervised tokens of all rows, from plain logits, row by row without padding."""
    model, total, count = trainer.model, 0.0, 0
    for item in encoded:
        ids = torch.tensor([item.input_ids])
        hidden = model.get_base_model().model(input_ids=ids).last_hidden_state
        logits = hidden @ model.get_output_embeddings().weight.T
        losses = torch.nn.functional.cross_entropy(logits[0, :-1], ids[0, 1:], reduction="none")[item.prompt_length - 1 :]
        marks = by_bytes(item, compiled(emphasis))
        raw = torch.tensor([emphasis["weight"] if mark else 1.0 for mark in marks])
        total = total + (losses * raw / raw.mean()).sum()
        count += len(marks)
    loss = total / count
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return loss.item(), torch.cat([gradient.double().flatten() for gradient in torch.autograd.grad(loss, trained)])


@pytest.mark.parametrize(("batch", "accumulation"), [(4, 1), (1, 4), (3, 2)])
def test_the_gradient_is_that_of_the_weighted_loss(tmp_path, batch, accumulation):
    """In one batch, in four accumulated ones, and in two of different sizes."""
    encoded = encoded_rows(REPLIES)
    trainer = build(TINY_MODEL, TOKENIZER, encoded, tmp_path, per_device_train_batch_size=batch, gradient_accumulation_steps=accumulation)
    said = emphasise(trainer, encoded, EMPHASIS, KWARGS)
    assert "of 4 rows, weigh 3 times the others" in said
    prove_trainer(trainer, encoded)
    expected_loss, expected = gradient_by_hand(trainer, encoded, EMPHASIS)
    plain_loss, plain = gradient_by_hand(trainer, encoded, EMPHASIS | {"weight": 1.0})
    loss, gradient = one_step(trainer)
    assert loss == pytest.approx(expected_loss, rel=1e-5)
    assert distance(gradient, expected) < 1e-5
    assert distance(plain, expected) > 1e-2 and abs(plain_loss - expected_loss) > 1e-3, "it makes a difference"


def test_weight_one_is_off_to_the_last_bit_and_eval_loss_is_the_plain_one(tmp_path):
    encoded, results = encoded_rows(REPLIES), {}
    for name, emphasis in {"off": None, "one": EMPHASIS | {"weight": 1.0}, "three": EMPHASIS}.items():
        trainer = build(TINY_MODEL, TOKENIZER, encoded, tmp_path / name, per_device_train_batch_size=2, gradient_accumulation_steps=2)
        assert (emphasise(trainer, encoded, emphasis, KWARGS) is None) == (emphasis is None)
        before = trainer.evaluate()["eval_loss"]
        results[name] = (before, *one_step(trainer))
    assert results["one"][:2] == results["off"][:2] and torch.equal(results["one"][2], results["off"][2])
    assert results["three"][0] == results["off"][0]
    assert not torch.equal(results["three"][2], results["off"][2])


def test_patterns_that_are_nowhere_are_refused(tmp_path):
    encoded = encoded_rows(REPLIES)
    trainer = build(TINY_MODEL, TOKENIZER, encoded, tmp_path)
    with pytest.raises(InputError, match="(?s)none of 4 training rows holds a span.*'ですかな'"):
        emphasise(trainer, encoded, {"patterns": ["ですかな"], "weight": 2.0}, KWARGS)


@pytest.mark.parametrize(
    ("value", "more", "texts"),
    [
        ("{patterns: [], weight: 2}", [], ["expected a list of regular expressions"]),
        ("{patterns: ['(', 'a*'], weight: 0}", [], ["'(' is no regular expression", "'a*' also matches the empty text", "weight: expected a number above 0"]),
        ("{patterns: [か], weight: 2, only: x}", [], ["unknown only"]),
        ("{patterns: [か]}", [], ["weight: expected a number"]),
        ("{patterns: [か], weight: 2}", ["data.shared_prefix=2"], ["set data.shared_prefix: false"]),
        ("{patterns: [か], weight: 2}", ["training.label_smoothing_factor=0.1", "training.loss_type=dft"], ["leave out training.label_smoothing_factor", "loss_type is dft"]),
        ("2", [], ["expected a mapping or null"]),
    ],
)
def test_faults_are_answered_at_once(value, more, texts):
    with pytest.raises(InputError) as error:
        load_recipe(QUICKSTART, [f"data.emphasis={value}", *more])
    assert all(text in str(error.value) for text in texts), error.value
    assert load_recipe(QUICKSTART).data.emphasis is None
