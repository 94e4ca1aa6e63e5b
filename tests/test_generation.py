"""Generated answers with the tiny model: where they end, what leaks into them, how samples are drawn and counted."""

import dataclasses
import logging
import math
from collections import Counter

import pytest
from conftest import QUICKSTART, TINY_MODEL, rows_file
from hypothesis import given
from hypothesis import strategies as st

from lawft_trl.data.questions import LETTERS
from lawft_trl.data.rows import Row, read_rows
from lawft_trl.errors import InputError
from lawft_trl.evaluation.asking import ask, unique_questions
from lawft_trl.evaluation.generation import Generation, generate_answers, majority
from lawft_trl.evaluation.held_out import changed_settings, with_evaluation
from lawft_trl.evaluation.letters import score_letters
from lawft_trl.recipe import load_recipe
from lawft_trl.recipe_sections import EvaluationSection

KWARGS = {"enable_thinking": False}
GREEDY = Generation(max_new_tokens=6)


@pytest.fixture(scope="module")
def asked(sample_data, tiny_tokenizer):
    rows = unique_questions(read_rows(rows_file(sample_data, "dev")))[::16]
    return ask(rows, tiny_tokenizer, KWARGS)


@pytest.fixture
def model(asked):
    """The tiny model without its preference for `c`: the letters' logits are equal at the mean of the hidden states."""
    import torch
    from transformers import AutoModelForCausalLM

    model, states = AutoModelForCausalLM.from_pretrained(TINY_MODEL, dtype="float32").eval(), []
    hook = model.lm_head.register_forward_pre_hook(lambda _, inputs: states.append(inputs[0][:, -1]))
    with torch.no_grad():
        for item in asked:
            model(torch.tensor([item.input_ids]), logits_to_keep=1)
        hook.remove()
        mean, letters = torch.cat(states).mean(dim=0), asked[0].label_ids
        logits = model.lm_head.weight[letters] @ mean
        model.lm_head.weight[letters] -= (logits - logits.mean())[:, None] * mean / (mean @ mean)
    return model


def generate(model, tokenizer, asked, generation=GREEDY, batch_size=5):
    return generate_answers(model, tokenizer, asked, generation, template_kwargs=KWARGS, batch_size=batch_size, progress="test")


def short_row(text="答えは"):
    return Row(prompt=({"role": "user", "content": text},), output="a", source="here:1")


def test_the_recipe_says_how_long_and_how_often():
    assert Generation.of(EvaluationSection(), "direct") == Generation(max_new_tokens=16, samples=1, temperature=0.7, seed=0)
    assert Generation.of(EvaluationSection(), "cot").max_new_tokens == 1024
    said = EvaluationSection(max_new_tokens=99, samples=5, temperature=1.2, seed=3)
    assert Generation.of(said, "cot") == Generation(max_new_tokens=99, samples=5, temperature=1.2, seed=3)


def test_greedy_answers_are_the_most_probable_letters_in_the_order_asked(model, tiny_tokenizer, asked):
    """The tiny model answers with one letter, so that what it writes is what letter scoring finds most probable."""
    written = generate(model, tiny_tokenizer, asked)
    scored = score_letters(model, asked, pad_token_id=0, batch_size=8, progress="test")
    assert [(p.id, p.order, p.letter) for p in written] == [(p.id, p.order, p.letter) for p in scored]
    assert [p.outputs for p in written] == [(p.letter,) for p in scored]
    assert {p.cut for p in written} == {0} and {p.letter_logprobs for p in written} == {None}
    assert len({p.letter for p in written}) > 2
    assert generate(model, tiny_tokenizer, asked[::-1], batch_size=1) == written[::-1]


def test_nothing_of_the_models_generation_config_leaks_in(model, tiny_tokenizer, asked, caplog, recwarn):
    from transformers import GenerationConfig
    from transformers.utils import logging as transformers_logging

    expected = generate(model, tiny_tokenizer, asked)
    own = GenerationConfig(
        do_sample=True, temperature=0.6, top_p=0.95, top_k=20, min_p=0.1, repetition_penalty=5.0, no_repeat_ngram_size=1,
        suppress_tokens=list(range(100, 2000)), min_new_tokens=4, max_length=3, num_beams=2, eos_token_id=[2, 0],
    )  # fmt: skip
    model.generation_config = own
    transformers_logging.enable_propagation()
    recwarn.clear()
    with caplog.at_level(logging.WARNING):
        assert generate(model, tiny_tokenizer, asked) == expected
    transformers_logging.disable_propagation()
    assert caplog.records == [] and list(recwarn) == []
    assert model.generation_config is own


def test_an_answer_ends_at_every_end_token(model, asked):
    """The model's own list, the tokenizer's, and the chat template's where neither names it."""
    from lawft_trl.data.chat import load_tokenizer

    tokenizer = load_tokenizer(str(TINY_MODEL))
    expected = generate(model, tokenizer, asked)
    model.generation_config.eos_token_id = None
    assert generate(model, tokenizer, asked) == expected, "the tokenizer's"
    tokenizer.eos_token = "<|endoftext|>"
    assert generate(model, tokenizer, asked) == expected, "the template's"
    letter = tokenizer.convert_tokens_to_ids("a")
    model.generation_config.eos_token_id = [0, letter]
    ended = generate(model, tokenizer, asked)
    for before, now in zip(expected, ended, strict=True):
        assert now.outputs == (("",) if before.letter == "a" else before.outputs), "each of the model's"
    assert {prediction.letter for prediction in ended} <= {None, "b", "c", "d"} and {None} < {prediction.letter for prediction in ended}


def test_answers_without_an_end_are_counted_as_cut(model, tiny_tokenizer, asked):
    assert [p.cut for p in generate(model, tiny_tokenizer, asked[:4], Generation(max_new_tokens=1))] == [1, 1, 1, 1]
    assert [p.cut for p in generate(model, tiny_tokenizer, asked[:4], Generation(max_new_tokens=2))] == [0, 0, 0, 0]


def test_special_tokens_and_thoughts_reach_the_parser(model, tiny_tokenizer, asked, monkeypatch):
    """What the model writes is dictated here; all else is real."""
    import torch

    from lawft_trl.data.chat import encode

    def dictate(text):
        tokens = encode(tiny_tokenizer, text)

        def forced(**inputs):
            rows = inputs["input_ids"]
            return torch.cat([rows, torch.tensor([tokens] * len(rows))], dim=1)

        monkeypatch.setattr(model, "generate", forced)
        return generate(model, tiny_tokenizer, asked[:1])[0]

    thought = dictate("<think>\nbかもしれない。\n</think>\n\nc<|im_end|>")
    assert (thought.outputs, thought.letter, thought.cut) == (("<think>\nbかもしれない。\n</think>\n\nc",), "c", 0)
    endless = dictate("<think>\n答え: b\nいや、答え: b\n")
    assert (endless.letter, endless.cut) == (None, 1)
    another_turn = dictate("a<|im_start|>user\n次は d か。")
    assert another_turn.letter == "a" and "<|im_start|>" in another_turn.outputs[0]


def test_a_thought_that_the_template_opens_belongs_to_the_output(model, tiny_tokenizer):
    from lawft_trl.data.chat import load_tokenizer

    tokenizer = load_tokenizer(str(TINY_MODEL))
    tokenizer.chat_template += "{%- if add_generation_prompt %}{{- '<think>\\n' }}{%- endif %}"
    [prediction] = generate(model, tokenizer, ask([short_row()], tokenizer, KWARGS, letters=False))
    assert prediction.outputs[0].startswith("<think>\n") and prediction.letter is None


def test_what_exceeds_the_context_window_is_refused(model, tiny_tokenizer, asked):
    longest = max(len(item.input_ids) for item in asked)
    with pytest.raises(InputError) as caught:
        generate(model, tiny_tokenizer, asked, Generation(max_new_tokens=4096 - longest + 1))
    [first, mend] = caught.value.problems
    assert asked[0].row.source.partition(":")[0] in first and f"{longest} tokens of prompt and up to" in first
    assert "1 of 6 questions do not fit the model's context window of 4096 tokens" in str(caught.value)
    assert "evaluation.max_new_tokens (--max-new-tokens)" in mend


def test_samples_do_not_depend_on_their_batch(model, tiny_tokenizer, asked):
    asked = asked[::2]
    sampling = Generation(max_new_tokens=6, samples=4, temperature=1.5)
    first = generate(model, tiny_tokenizer, asked, sampling, batch_size=7)
    assert generate(model, tiny_tokenizer, asked[::-1], sampling, batch_size=3)[::-1] == first
    assert generate(model, tiny_tokenizer, asked[3:4], sampling) == first[3:4]
    assert generate(model, tiny_tokenizer, asked, dataclasses.replace(sampling, seed=1)) != first
    assert {len(prediction.outputs) for prediction in first} == {4}
    assert any(len(set(prediction.outputs)) > 1 for prediction in first)
    more = generate(model, tiny_tokenizer, asked, dataclasses.replace(sampling, samples=5))
    assert [prediction.outputs[:4] for prediction in more] == [prediction.outputs for prediction in first]


@pytest.mark.parametrize("temperature", [0.7, 1.5])
def test_samples_follow_the_models_distribution(model, tiny_tokenizer, asked, temperature):
    """Frequencies of the first token against softmax(logits / T), within 4.5 standard errors."""
    import torch

    asked = [dataclasses.replace(asked[0], input_ids=asked[0].input_ids[-40:])]  # quick to read
    drawn = 2000
    sampling = Generation(max_new_tokens=1, samples=drawn, temperature=temperature)
    [prediction] = generate(model, tiny_tokenizer, asked, sampling, batch_size=500)
    with torch.inference_mode():
        logits = model(torch.tensor([asked[0].input_ids])).logits[0, -1].double()
    expected = torch.softmax(logits / temperature, dim=0)
    counts = Counter(prediction.outputs)
    seen = 0
    for letter, token in zip(LETTERS, asked[0].label_ids, strict=True):
        p = float(expected[token])
        seen += p > 0.02
        assert abs(counts[letter] / drawn - p) <= 4.5 * math.sqrt(p * (1 - p) / drawn) + 1e-9, (letter, counts[letter] / drawn, p)
    assert seen >= 2, "at least two letters are probable enough for this to mean something"


@given(st.lists(st.sampled_from([*LETTERS, None]), max_size=12))
def test_majority(letters):
    chosen = majority(letters)
    counts = {letter: letters.count(letter) for letter in LETTERS}
    best = [letter for letter in LETTERS if counts[letter] == max(counts.values())]
    assert chosen == (best[0] if len(best) == 1 else None)
    assert majority(letters[::-1]) == chosen and majority([*letters, None, None]) == chosen
    if chosen:
        assert majority([*letters, chosen]) == chosen
        assert majority([*letters, *[other for other in "abcd" if other != chosen for _ in range(counts[chosen] - counts[other])]]) is None


def test_settings_of_one_evaluation_and_what_it_is_called():
    recipe = load_recipe(QUICKSTART)
    wanted = {"samples": 3, "orders": None, "batch_size": 4, "temperature": recipe.evaluation.temperature}
    changed = with_evaluation(recipe, **wanted)
    assert changed.evaluation == dataclasses.replace(recipe.evaluation, samples=3, batch_size=4)
    assert changed_settings(recipe, wanted) == ["samples3"], "what the recipe says, or what changes no answer, is not named"
    assert recipe.evaluation.samples == 1
