"""Memory and time before a training: counted parts against the libraries' own objects, traces against real passes, advice."""

import argparse
import dataclasses
import itertools
import json
import shutil
import statistics
from pathlib import Path

import pytest
from conftest import QUICKSTART, ROOT, TINY_MODEL
from hypothesis import given
from hypothesis import settings as fuzz
from hypothesis import strategies as st

from lawft_trl.commands import plan as verb
from lawft_trl.errors import InputError
from lawft_trl.recipe import load_recipe
from lawft_trl.training import smaller
from lawft_trl.training.activations import Pass, meta_model, peak_bytes
from lawft_trl.training.cards import CARDS, GIB, find_card, read_memory
from lawft_trl.training.estimate import (
    Rows,
    estimate_memory,
    estimate_seconds,
    expected_longest,
    optimizer_bytes,
    read_config,
    verdict,
)
from lawft_trl.training.plan import answering_out_of_memory

NF4 = ["load_in_4bit=true", "bnb_4bit_quant_type=nf4", "bnb_4bit_use_double_quant=true", "bnb_4bit_compute_dtype=float32"]
NF4 = [f"quantization.{setting}" for setting in NF4]
ROWS = Rows(lengths=(300, 400, 500), supervised=(2, 2, 2))
PASS = Pass(batch=2, length=96, training=True, dtype="float32", autocast=None, adapter_dtype="float32", checkpointing=False, on_cpu=True)


@pytest.fixture(scope="module")
def configs():
    return smaller.bundled_configs()


@pytest.fixture(scope="module")
def tiny():
    return read_config(load_recipe(QUICKSTART))


@pytest.fixture(scope="module")
def flat(tmp_path_factory) -> str:
    """An override that names a model of two layers: a folder with configuration and tokenizer, without weights."""
    folder = tmp_path_factory.mktemp("flat")
    for file in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(TINY_MODEL / file, folder)
    config = json.loads((TINY_MODEL / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 2, "layer_types": ["full_attention"] * 2}), encoding="utf-8")
    return f"model.name_or_path={folder}"


def lora(**values):
    from peft import LoraConfig

    return LoraConfig(**{"task_type": "CAUSAL_LM", "r": 8, "target_modules": "all-linear", **values})


def lawft_plan(*arguments) -> int:
    """`lawft plan ARGUMENTS` in this process."""
    parser = argparse.ArgumentParser()
    verb.add(parser.add_subparsers())
    options = parser.parse_args(["plan", *map(str, arguments)])
    return options.run(options)


def test_bundled_shapes_have_the_published_numbers_of_parameters(configs):
    # From the index files of the published checkpoints, tied embeddings counted once.
    published = {"Qwen/Qwen3-0.6B": 596_049_920, "Qwen/Qwen3-4B": 4_022_468_096, "Qwen/Qwen3-8B": 8_190_735_360}
    counted = {name: sum(weight.numel() for weight in meta_model(configs[name], None, "bfloat16").parameters()) for name in published}
    assert counted == published


def test_weights_adapter_and_optimizer_of_a_qlora(configs):
    recipe = load_recipe(ROOT / "recipes" / "direct_norag.yaml")
    memory = estimate_memory(recipe, configs["Qwen/Qwen3-8B"], ROWS)
    # Rank 16 on the seven linear layers: 16 × (inputs + outputs).
    shapes = [(4096, 4096), (4096, 1024), (4096, 1024), (4096, 4096), (4096, 12288), (4096, 12288), (12288, 4096)]
    assert memory.trainable == 36 * 16 * sum(map(sum, shapes)) == 43_646_976
    linear = 36 * sum(a * b for a, b in shapes)
    assert memory.parts["weights, 4-bit"] == pytest.approx(linear * (0.5 + 1 / 64 + 4 / 64 / 256), rel=1e-4)
    norms = 36 * (2 * 4096 + 2 * 128) + 4096
    assert memory.parts["weights not quantized (bfloat16)"] == 2 * (2 * 151936 * 4096 + norms), "embeddings and output projection stay in 16 bits"
    assert memory.parts["adapter"] == memory.parts["gradients"] == 2 * memory.trainable, "TRL makes adapters of quantized models bfloat16"
    assert memory.parts["one weight, dequantized"] == 2 * 4096 * 12288
    both = estimate_memory(recipe, configs["Qwen/Qwen3-8B"], ROWS, processes=2)
    assert both.parts["gradients"] == 2 * memory.parts["gradients"]
    assert {**both.parts, "gradients": 0} == {**memory.parts, "gradients": 0}, "the rest is the same on every card"


@pytest.mark.parametrize("double", [True, False])
def test_quantized_bytes_are_those_of_bitsandbytes(tiny, double):
    import torch
    from bitsandbytes.nn import Linear4bit
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    overrides = [*NF4, f"quantization.bnb_4bit_use_double_quant={str(double).lower()}"]
    recipe = load_recipe(QUICKSTART, overrides)
    real = AutoModelForCausalLM.from_pretrained(TINY_MODEL, quantization_config=BitsAndBytesConfig(**recipe.values["quantization"]), device_map="cpu")
    packed = 0
    for module in real.modules():
        if isinstance(module, Linear4bit):
            state = module.weight.quant_state
            packed += module.weight.nbytes + state.absmax.nbytes + (state.state2.absmax.nbytes + state.state2.code.nbytes if double else 0)
    rest = sum(w.nbytes for w in real.parameters() if w.dtype != torch.uint8)
    parts = estimate_memory(recipe, tiny, ROWS).parts
    assert (parts["weights, 4-bit"], parts["weights not quantized (float32)"]) == (packed, rest)


@pytest.mark.parametrize("name", ["adamw_torch", "adamw_torch_fused", "adamw_8bit", "paged_adamw_8bit", "paged_adamw_32bit", "lion_8bit", "sgd"])
def test_optimizer_bytes_are_those_of_the_optimizer(name):
    import bitsandbytes as bnb
    import torch

    makers = {
        "adamw_torch": torch.optim.AdamW, "adamw_torch_fused": lambda weights: torch.optim.AdamW(weights, fused=True), "adamw_8bit": bnb.optim.AdamW8bit,
        "paged_adamw_8bit": bnb.optim.PagedAdamW8bit, "paged_adamw_32bit": bnb.optim.PagedAdamW32bit, "lion_8bit": bnb.optim.Lion8bit, "sgd": torch.optim.SGD,
    }  # fmt: skip
    weights = [torch.nn.Parameter(torch.ones(shape)) for shape in ((128, 64), (16, 16), (5000,))]
    optimizer = makers[name](weights)
    for weight in weights:
        weight.grad = torch.ones_like(weight)
    optimizer.step()
    states = [value for state in optimizer.state.values() for key, value in state.items() if isinstance(value, torch.Tensor) and "qmap" not in key and key != "step"]
    assert optimizer_bytes(name, [w.numel() for w in weights], 4) == sum(value.nbytes for value in states)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_trace_is_what_a_real_pass_keeps(tiny, checkpointing):
    """Against torch's own hooks: the bytes that a real forward pass keeps for the backward one."""
    import torch
    from peft import get_peft_model
    from torch.autograd.graph import saved_tensors_hooks
    from transformers import AutoModelForCausalLM

    model = get_peft_model(AutoModelForCausalLM.from_config(tiny), lora()).train()
    if checkpointing:
        model.get_base_model().activation_checkpointing_enable()
        model.enable_input_require_grads()
    own = {weight.untyped_storage().data_ptr() for weight in (*model.parameters(), *model.buffers())}
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    ids = torch.zeros(PASS.batch, PASS.length, dtype=torch.long)
    mask = torch.ones(PASS.batch, 1, PASS.length, PASS.length, dtype=torch.bool)
    with saved_tensors_hooks(keep, lambda tensor: tensor):
        hidden = model.get_base_model().model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
    assert hidden.requires_grad
    work = dataclasses.replace(PASS, checkpointing=checkpointing, on_cpu=False)  # without TRL's loss, which the hooks do not see here
    traced = peak_bytes(tiny, lora(), work)
    one_layer = PASS.batch * PASS.length * 4 * 30 * tiny.hidden_size  # in the backward pass one layer is alive, too
    assert sum(kept.values()) <= traced <= sum(kept.values()) + one_layer


def test_the_trace_follows_the_recipe(tiny):
    peak = {name: peak_bytes(tiny, lora(lora_dropout=drop), dataclasses.replace(PASS, **change)) for name, drop, change in (
        ("plain", 0.0, {}), ("twice", 0.0, {"batch": 4}), ("checkpointed", 0.0, {"checkpointing": True}), ("scored", 0.0, {"training": False}),
        ("dropout", 0.1, {"on_cpu": False}), ("none", 0.0, {"on_cpu": False}), ("dropout on a CPU", 0.1, {}),
    )}  # fmt: skip
    assert peak["twice"] == pytest.approx(2 * peak["plain"], rel=0.02)
    assert peak["scored"] < peak["checkpointed"] < peak["plain"]
    assert peak["none"] < peak["dropout"]
    assert peak["dropout on a CPU"] - peak["plain"] > 1.5 * (peak["dropout"] - peak["none"]), "a CPU keeps the noise, a GPU a byte"


def test_layers_are_extrapolated_on_a_line(tiny):
    from lawft_trl.training import activations

    def all_layers(config):
        return activations._trace(config, lora(), PASS)

    deeper = activations._with_layers(tiny, 4)
    deeper.num_hidden_layers, deeper.layer_types = 7, ["full_attention"] * 7
    assert peak_bytes(deeper, lora(), PASS) == pytest.approx(all_layers(deeper), rel=1e-3)
    single = activations._with_layers(tiny, 1)
    assert peak_bytes(single, lora(), PASS) == all_layers(single)


def test_a_model_that_cannot_be_planned_is_refused():
    from transformers import BertConfig, MixtralConfig

    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 2, "num_key_value_heads": 2, "vocab_size": 64}
    with pytest.raises(InputError, match="cannot trace this model"):
        peak_bytes(MixtralConfig(**small), lora(target_modules=["q_proj"]), dataclasses.replace(PASS, on_cpu=False))
    with pytest.raises(InputError, match="does not fit the model"):
        meta_model(BertConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, is_decoder=True), lora(target_modules=["nowhere"]), "float32")


@given(st.lists(st.integers(1, 50), min_size=1, max_size=7), st.integers(1, 7))
def test_expected_longest_is_the_mean_over_all_batches(lengths, batch):
    batch = min(batch, len(lengths))
    assert expected_longest(lengths, batch) == pytest.approx(statistics.mean(max(chosen) for chosen in itertools.combinations(lengths, batch)))


@given(st.floats(0.01, 999).map(lambda x: round(x, 2)), st.sampled_from([("GiB", 2**30), ("gb", 10**9), (" MiB", 2**20), ("MB", 10**6)]))
def test_memory_with_its_unit_is_read(number, unit):
    assert read_memory(f"{number}{unit[0]}") == round(number * unit[1])


@fuzz(max_examples=300)
@given(st.text(max_size=8))
def test_any_memory_is_read_or_refused(text):
    try:
        assert read_memory(text) > 0
    except InputError as error:
        assert "e.g. 10GiB" in str(error)


def test_cards_are_plausible_and_found():
    for card in CARDS.values():
        assert 8 * GIB <= card.memory <= 200 * GIB and 50 <= card.tflops <= 2500 and 300 <= card.bandwidth <= 8000 and card.source
    assert find_card("RTX 3080") is find_card("rtx3080") is CARDS["rtx3080"]
    with pytest.raises(InputError, match="known: .*rtx3080"):
        find_card("rtx9999")


def test_verdict_is_tight_above_nine_tenths():
    assert [verdict(total, 1000) for total in (1, 900, 901, 1000, 1001)] == ["fits", "fits", "tight", "tight", "does not fit"]


def test_time_follows_steps_card_and_checkpointing(configs):
    config = configs["Qwen/Qwen3-1.7B"]
    recipe = load_recipe(ROOT / "recipes" / "direct_norag.yaml")

    def seconds(card="rtx3080", steps=100, *overrides):
        return estimate_seconds(load_recipe(recipe.path, overrides), config, ROWS, CARDS[card], steps=steps)

    fast, slow = seconds()
    assert 0 < fast < slow
    assert seconds(steps=200) == pytest.approx((2 * fast, 2 * slow))
    assert seconds("h100")[0] < fast / 4
    assert seconds("rtx3080", 100, "training.gradient_checkpointing=false")[0] == pytest.approx(fast * 2 / 3)
    # By hand: weights of the linear layers, 3 passes of 2 operations, 45 % of 59.5 TFLOPS, plus the reading of 4.5 bytes a weight.
    linear = 28 * 2048 * (2048 + 2 * 1024 + 2048 + 3 * 6144)
    length = (400 + 500 + 500) / 3
    attention = 4 * length * 2048 * 28
    by_hand = 400 * (2 * length * (2 * linear + attention) * 3 / (0.45 * 59.5e12) + 3 * 4.5 * linear / 760e9)
    assert fast == pytest.approx(by_hand)
    assert seconds("rtx3080", 100, "training.bf16=false") is None


def test_changes_fit_when_they_are_typed_and_cost_little_first(flat):
    overrides = [flat, "training.per_device_train_batch_size=8", "training.gradient_accumulation_steps=2"]
    recipe = load_recipe(QUICKSTART, overrides)
    tiny = read_config(recipe)
    needed = estimate_memory(recipe, tiny, ROWS).total

    def asked(limit):
        return smaller.changes_that_fit(recipe, tiny, ROWS, limit, encode=lambda changed: Rows(lengths=(300, 400, 400), supervised=(2, 2, 2)))

    first, *others = asked(0.95 * needed)
    assert first.overrides == ("training.per_device_train_batch_size=1", "training.gradient_accumulation_steps=16")
    assert [change.overrides for change in others] == [("training.gradient_checkpointing=true",), ("training.max_length=400", "data.overlong=trim_statutes")]
    for change in (first, others[0]):
        typed = load_recipe(QUICKSTART, [*overrides, *change.overrides])
        assert estimate_memory(typed, tiny, ROWS).total == change.total <= 0.95 * needed
    least = estimate_memory(load_recipe(QUICKSTART, [*overrides, *first.overrides, *others[0].overrides]), tiny, ROWS).total
    together = asked(least + 1000)
    assert together[0].overrides == first.overrides + others[0].overrides, "neither is enough alone"
    assert asked(GIB / 100) == [], "not even Python fits"


def test_a_smaller_model_of_the_family_is_the_last_resort():
    assert smaller.smaller_models("/models/Qwen3-4B") == ["Qwen/Qwen3-1.7B", "Qwen/Qwen3-0.6B"]
    assert smaller.smaller_models("somebody/other") == smaller.smaller_models("Qwen/Qwen3-0.6B") == []


def test_advice_after_out_of_memory_saves_what_the_estimate_missed(flat):
    recipe = load_recipe(QUICKSTART, [flat])
    needed = estimate_memory(recipe, read_config(recipe), ROWS).total
    lines = smaller.oom_advice(recipe, ROWS, 2 * needed, encode=lambda changed: ROWS)
    assert "out of memory: the estimate is" in lines[0] and "another process" in lines[1]
    assert lines[2].startswith("add training.per_device_train_batch_size=1 training.gradient_accumulation_steps=16")
    lines = smaller.oom_advice(recipe, ROWS, needed // 50, encode=lambda changed: ROWS)
    assert lines[-1].startswith("no change of the recipe makes it fit")


def test_a_gpu_that_runs_out_is_answered_with_what_to_type(small_data):
    import torch

    files = [f"data.{split}={small_data}/direct_gold/{split}_*.jsonl" for split in ("train", "dev", "test")]
    recipe = load_recipe(QUICKSTART, files)
    with pytest.raises(InputError) as caught, answering_out_of_memory(recipe, processes=1, available=2 * GIB):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore")
    assert caught.value.heading.startswith("out of memory: the estimate is") and "2.0 GiB" in caught.value.heading
    assert any("add training." in line for line in caught.value.problems)
    assert caught.value.problems[-1] == "what the GPU said: CUDA out of memory. Tried to allocate 2.00 GiB."
    with pytest.raises(ValueError, match="other"), answering_out_of_memory(recipe, processes=1):
        raise ValueError("other")


# The model a recipe for a card names, rows of a length its data has, and the card.
PROFILES = {
    "rtx3080/direct_rag": ("Qwen/Qwen3-4B", 2048, "rtx3080"),
}
PARENTS = {"gpu24gb": ("Qwen/Qwen3-8B", 2048, "rtx4090"), "gpu80gb": ("Qwen/Qwen3-14B", 2048, "a100-80")}


@pytest.mark.parametrize("name", [*PROFILES, *PARENTS])
def test_profiles_fit_the_cards_they_are_for(tmp_path, configs, name):
    model, length, card = (PROFILES | PARENTS)[name]
    path = ROOT / "recipes" / f"{name}.yaml"
    if name in PARENTS:
        path = tmp_path / "child.yaml"
        path.write_text(f"extends: [{ROOT}/recipes/direct_gold.yaml, {ROOT}/recipes/parents/{name}.yaml]\n", encoding="utf-8")
    recipe = load_recipe(path)
    assert recipe.model.name_or_path == model
    rows = Rows(lengths=(length,) * 8, supervised=(2,) * 8, dev_longest=length)
    assert verdict(estimate_memory(recipe, configs[model], rows).total, CARDS[card].memory) == "fits"


@pytest.mark.parametrize("name", ["direct_norag", "direct_gold", "direct_rag", "mixed_rag"])
def test_children_for_10_gb_change_the_machine_alone(name):
    child, parent = load_recipe(ROOT / "recipes" / "rtx3080" / f"{name}.yaml"), load_recipe(ROOT / "recipes" / f"{name}.yaml")
    assert child.values["pattern"] == parent.values["pattern"] and child.values["data"] == parent.values["data"]
    assert child.values["lora"] == parent.values["lora"] and child.training("learning_rate") == parent.training("learning_rate")
    rows = [recipe.training("per_device_train_batch_size") * recipe.training("gradient_accumulation_steps") for recipe in (child, parent)]
    assert rows[0] == rows[1] and child.training("output_dir") == f"runs/rtx3080/{name}"


def test_the_bad_runs_of_the_past_are_kept():
    third = load_recipe(ROOT / "recipes" / "history" / "v3_83_rows.yaml")
    assert (third.training("max_steps"), third.training("learning_rate"), third.values["lora"]["target_modules"]) == (6, 2e-5, ["q_proj", "v_proj"])
    assert third.training("per_device_train_batch_size") * third.training("gradient_accumulation_steps") == 16
    first = load_recipe(ROOT / "recipes" / "history" / "d4_command.yaml")
    assert (first.values["lora"]["r"], first.values["lora"]["lora_alpha"], first.training("learning_rate"), first.max_length) == (32, 64, 2e-4, 1024)


@pytest.fixture
def rows(tmp_path) -> list[str]:
    """Overrides that name six rows."""
    text = "".join(
        json.dumps({"messages": [{"role": "user", "content": f"{at}番の問い。" * (at + 4)}, {"role": "assistant", "content": "ab"[at % 2]}]}) + "\n"
        for at in range(6)
    )
    (tmp_path / "rows.jsonl").write_text(text, encoding="utf-8")
    return [f"data.train={tmp_path / 'rows.jsonl'}", "data.dev=null", "data.test=null", "pattern.statutes=none"]


def test_plan_is_printed_from_config_and_tokenizer_alone(rows, flat, capsys):
    folder = Path(flat.partition("=")[2])
    assert not lawft_plan(QUICKSTART, *rows, flat, "--memory", "8GiB")
    printed = capsys.readouterr().out
    for part in ("parameters         │ 951,040", "81,920 (8.61 %)", "320, each of 16 rows", "Python and libraries", "none is stated for a CPU"):
        assert part in printed, printed
    assert printed.splitlines()[-1].startswith("fits: "), printed
    assert len(list(folder.iterdir())) == 4, "nothing is downloaded or written"


def test_what_does_not_fit_comes_with_changes(rows, flat, capsys):
    assert not lawft_plan(QUICKSTART, *rows, flat, "--memory", "750MB", "--count", "2")
    printed = capsys.readouterr().out
    for part in ("each of 32 rows", "more cards save time and no memory", "training.per_device_train_batch_size=1 training.gradient_accumulation_steps=16"):
        assert part in printed, printed
    assert printed.splitlines()[-1].startswith("does not fit: ")


def test_without_a_card_there_is_no_verdict(rows, capsys):
    assert not lawft_plan(QUICKSTART, *rows, "--rehearse")
    assert capsys.readouterr().out.splitlines()[-1].startswith("No verdict: name the card")


def test_every_wrong_option_is_named_at_once():
    with pytest.raises(InputError) as caught:
        lawft_plan(QUICKSTART, "--gpu", "rtx9999", "--memory", "lots", "--count", "0")
    text = str(caught.value)
    for part in ("--gpu rtx9999", "known: ", "--memory lots", "e.g. 10GiB", "--count 0"):
        assert part in text


def test_a_model_out_of_reach_is_explained(tmp_path, rows):
    with pytest.raises(InputError) as caught:
        lawft_plan(QUICKSTART, *rows, "model.name_or_path=nobody/nothing", "--gpu", "rtx3080")
    assert "nobody/nothing: no configuration could be loaded" in str(caught.value) and "no weights are needed" in str(caught.value)
    (tmp_path / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match="no configuration could be loaded"):
        lawft_plan(QUICKSTART, *rows, f"model.name_or_path={tmp_path}")
