"""Shared-prefix training: every row is in the items, and loss and gradients are those of separate rows."""

import csv
import json
from pathlib import Path

import pytest
import torch
from conftest import CPU, QUICKSTART, SAMPLE, TINY_MODEL, TWO, adapter, run_sft
from hypothesis import given
from hypothesis import settings as example_settings
from hypothesis import strategies as st
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from lawft_trl.data.contexts import gold_context
from lawft_trl.data.questions import ORDERS, read_questions
from lawft_trl.data.rows import question_to_record, read_rows
from lawft_trl.errors import InputError
from lawft_trl.recipe import load_recipe
from lawft_trl.training import shared_prefix
from lawft_trl.training.prefix_items import branch_mask, collate_items, pack, unpack
from lawft_trl.training.preflight import keep_quantized_weights
from lawft_trl.training.shared_prefix import share_prefixes
from lawft_trl.training.supervision import encode_rows, prove_trainer

ADAPTER = {"r": 4, "lora_alpha": 8, "lora_dropout": 0.0, "target_modules": "all-linear", "task_type": "CAUSAL_LM", "init_lora_weights": False}
SIZES = {"vocab_size": 2048, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4, "head_dim": 16}
ARCHITECTURES = ("qwen3", "llama", "gemma2")


def write_rows(path: Path, questions: int, orders=ORDERS) -> Path:
    """Permuted gold-context rows of the first sample questions."""
    records = [
        question_to_record(question, answer="direct", context=gold_context(question), dataset="sample", source_file="x", order=order)
        for question in read_questions(SAMPLE)[:questions]
        for order in orders
    ]
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def encoded(tiny_tokenizer, tmp_path_factory):
    """Sixteen rows: four questions in four orders."""
    rows = read_rows(write_rows(tmp_path_factory.mktemp("rows") / "train.jsonl", 4))
    return encode_rows(rows, tiny_tokenizer, template_kwargs={"enable_thinking": False}, max_length=None)


def saved_model(folder: Path, kind: str, **config) -> Path:
    """A small random model of an architecture, on disk."""
    from transformers import AutoModelForCausalLM, Gemma2Config, LlamaConfig, Qwen3Config, set_seed

    classes = {"qwen3": Qwen3Config, "llama": LlamaConfig, "gemma2": Gemma2Config}
    own = {"gemma2": {"layer_types": ["full_attention"] * 3, "query_pre_attn_scalar": 16}}.get(kind, {})
    set_seed(0)
    shape = SIZES | {"num_key_value_heads": 2, "initializer_range": 0.1, "pad_token_id": 0} | own | config
    AutoModelForCausalLM.from_config(classes[kind](**shape)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {"tiny": TINY_MODEL} | {kind: saved_model(folder / kind, kind) for kind in ARCHITECTURES}


def build(model, tokenizer, encoded, out, *, quantization=None, dtype="float32", attention=None, **training):
    """The trainer as the launcher builds it, for one optimizer step over all sixteen rows in their order."""
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import BitsAndBytesConfig, set_seed
    from trl import SFTConfig, SFTTrainer

    set_seed(7)
    load = {"dtype": dtype, "device_map": {"": "cpu"}} | ({"attn_implementation": attention} if attention else {})
    base = {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 2, "gradient_checkpointing": False}
    base |= {"use_cpu": True, "bf16": False, "report_to": [], "max_steps": 1, "logging_steps": 1, "save_strategy": "no", "max_length": None}
    base |= {"completion_only_loss": True, "max_grad_norm": 0.0, "train_sampling_strategy": "sequential", "dataloader_pin_memory": False, "disable_tqdm": True}
    trainer = SFTTrainer(
        model=str(model),
        args=SFTConfig(output_dir=str(out), model_init_kwargs=load, eos_token="<|im_end|>", **base | training),
        train_dataset=Dataset.from_list([item.columns for item in encoded]),
        eval_dataset=Dataset.from_list([item.columns for item in encoded[:5]]),
        processing_class=tokenizer,
        quantization_config=BitsAndBytesConfig(**quantization) if quantization else None,
        peft_config=LoraConfig(**ADAPTER),
    )
    prove_trainer(trainer, encoded)
    if quantization:
        keep_quantized_weights(trainer.model)
    return trainer


def one_step(trainer) -> tuple[float, torch.Tensor]:
    """Loss and gradient of the trainer's first optimizer step, the gradient in float64."""
    from transformers import TrainerCallback

    class Catch(TrainerCallback):
        def on_pre_optimizer_step(self, args, state, control, model, **kwargs):
            trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
            self.gradient = torch.cat([parameter.grad.double().flatten() for parameter in trained])

    catch = Catch()
    trainer.add_callback(catch)
    loss = trainer.train().training_loss
    return loss, catch.gradient


def step_of(shared: bool, *arguments, **settings) -> tuple[float, torch.Tensor]:
    trainer = build(*arguments, **settings)
    encoded = arguments[2]
    assert share_prefixes(trainer, encoded, shared).on is shared
    return one_step(trainer)


def distance(first: torch.Tensor, second: torch.Tensor) -> float:
    """Relative, over all gradients as one vector."""
    return ((first - second).norm() / second.norm()).item()


# Numbers


@pytest.mark.parametrize(
    ("kind", "checkpointing"), [("tiny", False), ("qwen3", False), ("qwen3", True), ("llama", True), ("gemma2", False), ("gemma2", True)]
)
def test_loss_and_gradients_are_those_of_separate_rows(models, tiny_tokenizer, encoded, tmp_path, kind, checkpointing):
    """Real architectures by SDPA, and Gemma 2 by eager attention, which adds its mask to capped scores."""
    settings = {"gradient_checkpointing": checkpointing, "attention": "eager" if kind == "gemma2" else "sdpa"}
    runs = [step_of(shared, models[kind], tiny_tokenizer, encoded, tmp_path, **settings) for shared in (False, True)]
    (loss, gradient), (shared_loss, shared_gradient) = runs
    assert gradient.norm() > 1e-3
    assert shared_loss == pytest.approx(loss, rel=1e-6)
    assert distance(shared_gradient, gradient) < 1e-5


def test_in_bfloat16_the_difference_is_the_noise_of_bfloat16(models, tiny_tokenizer, encoded, tmp_path):
    """Measured against float32, items are no further off than separate rows are."""
    arguments = (models["qwen3"], tiny_tokenizer, encoded, tmp_path)
    exact_loss, exact = step_of(False, *arguments)
    _, gradient = step_of(False, *arguments, dtype="bfloat16", bf16=True)
    shared_loss, shared_gradient = step_of(True, *arguments, dtype="bfloat16", bf16=True)
    noise = distance(gradient, exact)
    assert 1e-4 < noise < 0.2
    assert distance(shared_gradient, exact) < 1.5 * noise
    assert shared_loss == pytest.approx(exact_loss, rel=2e-2)


def test_with_nf4_weights_too(models, tiny_tokenizer, encoded, tmp_path):
    """The base is quantized and computes in float32; TRL keeps the adapter of such a model in bfloat16, whose rounding remains."""
    quantization = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": torch.float32, "bnb_4bit_use_double_quant": True}
    arguments = (models["qwen3"], tiny_tokenizer, encoded, tmp_path)
    (loss, gradient), (shared_loss, shared_gradient) = (step_of(shared, *arguments, quantization=quantization) for shared in (False, True))
    assert shared_loss == pytest.approx(loss, rel=1e-5)
    assert distance(shared_gradient, gradient) < 1e-2


def test_dev_rows_are_evaluated_as_before(models, tiny_tokenizer, encoded, tmp_path):
    arguments = (models["qwen3"], tiny_tokenizer, encoded, tmp_path)
    plain, shared = build(*arguments), build(*arguments)
    share_prefixes(shared, encoded, True)
    assert shared.evaluate()["eval_loss"] == pytest.approx(plain.evaluate()["eval_loss"], rel=1e-6)


def losses(run: Path) -> list[float]:
    with (run / "training_metrics.csv").open(encoding="utf-8", newline="") as stream:
        return [float(line["loss"]) for line in csv.DictReader(stream) if line["loss"]]


@pytest.mark.slow
def test_whole_runs_by_the_launcher_learn_the_same(tmp_path):
    """Eight steps of the same rows in the same order: apart, shared in one process, and shared in two gloo processes."""
    train = write_rows(tmp_path / "train.jsonl", 16)
    common = [f"data.train={train}", "data.dev=null", "data.test=null", "training.max_steps=8", "training.logging_steps=1"]
    common += ["training.train_sampling_strategy=sequential", "lora.lora_dropout=0.0", "training.warmup_steps=0", "training.per_device_train_batch_size=4"]
    runs = {}
    for name, shared, accumulation, launcher in (("apart", "false", 2, CPU), ("shared", "true", 2, CPU), ("two", "true", 1, TWO)):
        runs[name] = tmp_path / name
        settings = [f"training.output_dir={runs[name]}", f"data.shared_prefix={shared}", f"training.gradient_accumulation_steps={accumulation}"]
        result = run_sft(QUICKSTART, *common, *settings, launcher=launcher, check=True, OMP_NUM_THREADS="1")
        assert result.stdout.count("Shared prefixes: ") == (shared == "true"), "said once, by rank 0"
    assert len(losses(runs["apart"])) == 8
    assert losses(runs["shared"]) == pytest.approx(losses(runs["apart"]), rel=1e-4)
    assert losses(runs["two"]) == pytest.approx(losses(runs["shared"]), rel=1e-4)
    theirs = adapter(runs["apart"])
    for name in ("shared", "two"):
        assert all(torch.allclose(tensor, theirs[key], atol=2e-4) for key, tensor in adapter(runs[name]).items())
    record = json.loads((runs["shared"] / "run.json").read_text(encoding="utf-8"))["shared_prefix"]
    assert (record["on"], record["items"], record["rows_per_item"]) == (True, 16, 4)
    assert record["row_tokens"] / record["item_tokens"] == record["gain"] > 1.5
    assert json.loads((runs["apart"] / "run.json").read_text(encoding="utf-8"))["shared_prefix"]["on"] is False


# Items

COLLATE = DataCollatorForLanguageModeling(pad_token_id=0)


@st.composite
def token_rows(draw) -> tuple[list[int], list[int]]:
    ids = draw(st.lists(st.integers(1, 3), min_size=1, max_size=12))
    prompt = draw(st.integers(1, len(ids)))
    return ids, [-100] * prompt + ids[prompt:]


@example_settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(token_rows(), min_size=1, max_size=5), min_size=1, max_size=3), st.booleans())
def test_what_is_packed_is_unpacked(groups, repeat):
    """Any rows: equal ones, one the beginning of another, single ones, some without supervised tokens, padded in a batch."""
    groups = [group + group[:1] for group in groups] if repeat else groups
    items = [pack(group) for group in groups]
    for group, item in zip(groups, items, strict=True):
        prefix, *rests = item["seq_lengths"]
        assert len(item["input_ids"]) == len(item["labels"]) == prefix + sum(rests)
        assert len(rests) == len(group) and min(rests) >= 1
        assert set(item["labels"][:prefix]) <= {-100}
        ends = any(labels[prefix] != -100 or len(ids) == prefix + 1 or labels[prefix + 1] != -100 for ids, labels in group)
        assert ends or len({ids[prefix] for ids, _ in group}) > 1, "a longer prefix would do"
    assert unpack(collate_items(COLLATE, items)) == [row for group in groups for row in group]


def test_the_mask_by_hand():
    """A prefix of two tokens, branches of one and two, one of padding."""
    mask = branch_mask(torch.tensor([[0, 0, 1, 2, 2, -1]]))[0, 0].int().tolist()
    assert mask == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 1, 0, 1, 0, 0],
        [1, 1, 0, 1, 1, 0],
        [1, 1, 0, 0, 0, 1],
    ]


def test_a_row_whose_first_token_is_supervised_is_refused():
    with pytest.raises(ValueError, match="nothing predicts it"):
        pack([([5, 6], [5, 6])])


@pytest.mark.parametrize(
    ("name", "place", "value", "fault"),
    [
        ("position_ids", 4, 9, "sees something else"),
        ("branch_ids", 2, 0, "sees something else"),
        ("branch_ids", 4, 1, "sees something else"),
        ("branch_ids", 3, 0, "prefix or padding is supervised"),
        ("labels", 0, 1, "prefix or padding is supervised"),
        ("labels", 4, 5, "does not stand behind"),
    ],
)
def test_a_batch_that_is_not_the_rows_is_recognised(name, place, value, fault):
    batch = collate_items(COLLATE, [pack([([1, 2, 3, 4], [-100, -100, -100, 4]), ([1, 2, 5, 6], [-100, -100, -100, 6])])])
    assert batch["branch_ids"].tolist() == [[0, 0, 1, 1, 2, 2]]
    batch[name][0, place] = value
    with pytest.raises(RuntimeError, match=fault):
        unpack(batch)


# Batches, and where it cannot be done


@pytest.fixture
def trainer(models, tiny_tokenizer, encoded, tmp_path):
    return build(models["qwen3"], tiny_tokenizer, encoded, tmp_path)


@pytest.mark.parametrize(
    ("batch", "accumulation", "expected"),
    [(8, 1, (4, 2, 1)), (2, 4, (4, 1, 2)), (2, 1, (2, 1, 1)), (6, 2, (4, 1, 3)), (12, 1, (4, 3, 1)), (10, 2, (4, 1, 5)), (6, 1, (2, 3, 1))],
)
def test_an_optimizer_step_holds_as_many_rows_as_the_recipe_says(trainer, encoded, batch, accumulation, expected):
    trainer.args.per_device_train_batch_size = trainer._train_batch_size = batch
    trainer.args.gradient_accumulation_steps = accumulation
    shared = share_prefixes(trainer, encoded, True)
    now = trainer.args.per_device_train_batch_size, trainer.args.gradient_accumulation_steps
    assert (shared.rows_per_item, *now) == expected
    assert next(iter(trainer.get_train_dataloader()))["branch_ids"].shape[0] == expected[1]


def test_two_copies_at_a_time_where_two_are_wanted(trainer, encoded):
    shared = share_prefixes(trainer, encoded, 2)
    assert (shared.rows_per_item, shared.items) == (2, 8) and 1.2 < shared.gain < 2
    assert trainer.args.per_device_train_batch_size * trainer.args.gradient_accumulation_steps == 8, "sixteen rows, as before"


def test_numbers_of_copies_that_cannot_be_are_refused(trainer, encoded):
    six = [item for item in encoded for _ in range(3)][:36]
    trainer.args.per_device_train_batch_size = 3
    trainer.args.gradient_accumulation_steps = 1
    with pytest.raises(InputError, match="data.shared_prefix is 2, and it cannot be done") as error:
        share_prefixes(trainer, six, 2)
    assert "of at least 2 and at most 2" in str(error.value)
    with pytest.raises(InputError, match="1 copies cannot share anything"):
        load_recipe(QUICKSTART, ["data.shared_prefix=1"])
    assert load_recipe(QUICKSTART, ["data.shared_prefix=2"]).data.shared_prefix == 2


def test_off_when_told_so(trainer, encoded):
    before = trainer.train_dataset
    shared = share_prefixes(trainer, encoded, False)
    assert str(shared) == "Shared prefixes: off; data.shared_prefix is false"
    assert trainer.train_dataset is before and shared.gain == 1.0


def test_on_by_itself_where_rows_are_permuted(trainer, encoded):
    shared = share_prefixes(trainer, encoded, None)
    assert shared.on and shared.gain >= 1.2
    assert str(shared).startswith("Shared prefixes: on; 4 items of 4 rows, ")


def refused(trainer, encoded, words: str) -> None:
    """Off with a reason where nothing is said, an error with that reason where it must be on; the trainer stays as it was."""
    before = trainer.train_dataset, trainer.data_collator, trainer.args.per_device_train_batch_size
    shared = share_prefixes(trainer, encoded, None)
    assert not shared.on and words in str(shared)
    with pytest.raises(InputError, match="data.shared_prefix is true, and it cannot be done") as error:
        share_prefixes(trainer, encoded, True)
    assert words in str(error.value)
    assert (trainer.train_dataset, trainer.data_collator, trainer.args.per_device_train_batch_size) == before


def test_rows_that_cannot_be_grouped_are_refused(trainer, encoded):
    refused(trainer, encoded[:-1], "a question has 3 or 4 row(s) and an optimizer step 16 per process")
    refused(trainer, encoded[::4], "a question has 1 row(s)")


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("neftune_noise_alpha", 5.0, "neftune_noise_alpha"),
        ("auto_find_batch_size", True, "auto_find_batch_size"),
    ],
)
def test_settings_under_which_rows_would_not_be_the_same_are_refused(trainer, encoded, setting, value, words):
    setattr(trainer.args, setting, value)
    refused(trainer, encoded, words)


def test_attention_that_takes_no_mask_is_refused(trainer, encoded):
    trainer.model.config._attn_implementation = "flash_attention_2"  # its package is for GPUs
    refused(trainer, encoded, "flash_attention_2 takes no mask of its own for every token; set model.attn_implementation: sdpa")


def test_such_attention_is_refused_before_a_model_is_loaded():
    with pytest.raises(InputError, match="data.shared_prefix: flash_attention_2 takes no mask"):
        load_recipe(QUICKSTART, ["data.shared_prefix=true", "model.attn_implementation=flash_attention_2"])
    load_recipe(QUICKSTART, ["model.attn_implementation=flash_attention_2"])


def test_a_window_is_refused_unless_no_row_is_longer(tiny_tokenizer, encoded, tmp_path):
    config = {"use_sliding_window": True, "max_window_layers": 0}
    narrow = saved_model(tmp_path / "narrow", "qwen3", sliding_window=64, **config)
    refused(build(narrow, tiny_tokenizer, encoded, tmp_path / "out"), encoded, "slides over 64 tokens, and the longest row has")
    wide = saved_model(tmp_path / "wide", "qwen3", sliding_window=1024, **config)
    runs = [step_of(shared, wide, tiny_tokenizer, encoded, tmp_path / "out") for shared in (False, True)]
    assert runs[1][0] == pytest.approx(runs[0][0], rel=1e-6)
    assert distance(runs[1][1], runs[0][1]) < 1e-5


def test_layers_with_a_state_are_refused(trainer, encoded):
    trainer.model.config.layer_types = ["full_attention", "linear_attention", "full_attention"]
    refused(trainer, encoded, "another kind than attention to everything: linear_attention")


def test_a_micro_batch_does_not_grow_unasked(trainer, encoded):
    trainer.args.per_device_train_batch_size = trainer._train_batch_size = 1
    shared = share_prefixes(trainer, encoded, None)
    assert not shared.on and "a micro-batch would hold up to" in shared.why
    assert share_prefixes(trainer, encoded, True).on


def test_little_gain_is_left_alone_unasked(models, tiny_tokenizer, encoded, tmp_path):
    """Rows whose output is most of them: reasons, say."""
    import dataclasses

    long = [dataclasses.replace(item, input_ids=item.input_ids + item.input_ids[-1:] * 1500) for item in encoded]
    trainer = build(models["qwen3"], tiny_tokenizer, long, tmp_path)
    shared = share_prefixes(trainer, long, None)
    assert not shared.on and "times fewer tokens" in shared.why


def test_a_model_that_ignores_the_mask_is_found_out(trainer, encoded, monkeypatch):
    """The branches then see each other; the tokens are all right and the numbers are not."""

    def ignore(model, args, kwargs):
        kwargs.pop("branch_ids", None)
        return args, kwargs

    monkeypatch.setattr(shared_prefix, "see_branches", ignore)
    with pytest.raises(InputError, match="Qwen3ForCausalLM gives other answers where prefixes are shared") as error:
        share_prefixes(trainer, encoded, None)
    assert "set data.shared_prefix: false" in str(error.value)
