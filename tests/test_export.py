"""`lawft export`: merged, linked and served models answer as the adapter does, and what is refused or found says why."""

import argparse
import dataclasses
import importlib.util
import json
import math
import shutil
from pathlib import Path

import pytest
from conftest import NF4, QUICKSTART, TINY_MODEL, adapter, rows_file, run_sft, settings
from local_server import transformers_serve

from lawft_trl.commands import export as verb
from lawft_trl.data.rows import read_rows
from lawft_trl.errors import InputError
from lawft_trl.evaluation.metrics import Prediction
from lawft_trl.export import base_model, merged, proof
from lawft_trl.export.vllm_adapter import check_adapter, check_for_vllm
from lawft_trl.run_dir import read_run

FEW = ("--questions", "6")


def export(run: Path, *options) -> int:
    """`lawft export RUN OPTIONS`, in this process; `InputError` is left to the caller."""
    parser = argparse.ArgumentParser()
    verb.add(parser.add_subparsers())
    arguments = parser.parse_args(["export", str(run), *map(str, options)])
    return arguments.run(arguments) or 0


def record(out: Path) -> dict:
    return json.loads((out / "export.json").read_text(encoding="utf-8"))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def leftovers(folder: Path, *expected: str) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name not in expected)


def with_recipe(run: Path, out: Path, **sections: dict) -> Path:
    """A copy of a run whose recipe says something else."""
    from ruamel.yaml import YAML

    shutil.copytree(run, out)
    values = YAML(typ="safe", pure=True).load(out / "recipe.yaml")
    for section, entries in sections.items():
        values[section] = {**values.get(section, {}), **entries}
    YAML(typ="safe", pure=True).dump(values, out / "recipe.yaml")
    return out


@pytest.fixture(scope="module")
def plain(trained, tmp_path_factory) -> Path:
    """The merged model in float32, from a run that must stay as it is."""
    out, before = tmp_path_factory.mktemp("exports") / "deep" / "plain", contents(trained)
    assert export(trained, "--merge", "--dtype", "float32", "--out", out, *FEW) == 0
    assert contents(trained) == before, "the run is not touched"
    assert not leftovers(out.parent, "plain")
    return out


def test_the_merged_model_answers_alike_in_plain_transformers(trained, plain):
    """Scored here without any of the export's own code: transformers loads it, no adapter, no PEFT."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    run = read_run(trained)
    asked = proof.proof_prompts(run, AutoTokenizer.from_pretrained(trained), questions=6)
    adapter = proof.score_adapter(run, AutoTokenizer.from_pretrained(trained), asked)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(plain), AutoTokenizer.from_pretrained(plain)
    base = AutoModelForCausalLM.from_pretrained(TINY_MODEL)
    assert model.dtype == torch.float32 and not any("lora" in name for name, _ in model.named_parameters())
    differences, moved = [], []
    for item, expected in zip(asked, adapter, strict=True):
        text = tokenizer.apply_chat_template(list(item.messages), tokenize=False, add_generation_prompt=True, enable_thinking=False)
        ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
        for one, into in ((model, differences), (base, moved)):
            with torch.inference_mode():
                logprobs = one(ids).logits[0, -1].log_softmax(-1)[item.label_ids].tolist()
            into.append(max(abs(a - b) for a, b in zip(logprobs, expected.letter_logprobs.values(), strict=True)))
            if one is model:
                assert "abcd"[max(range(4), key=logprobs.__getitem__)] == expected.letter
    assert max(differences) < 1e-4 < min(moved), "as the adapter, and not as the base"
    assert record(plain)["proof"]["max_difference"] < 1e-4
    assert record(plain)["proof"]["same_letter"] == record(plain)["proof"]["prompts"] == 24 and record(plain)["proof"]["flips"] == []


def test_the_merged_folder_stops_and_tells_what_it_is(trained, plain):
    from transformers import AutoTokenizer, GenerationConfig

    tokenizer = AutoTokenizer.from_pretrained(plain)
    assert GenerationConfig.from_pretrained(plain).eos_token_id == [tokenizer.convert_tokens_to_ids("<|im_end|>")]
    assert json.loads((plain / "config.json").read_text())["eos_token_id"] == tokenizer.eos_token_id
    assert tokenizer.chat_template == AutoTokenizer.from_pretrained(trained).chat_template
    card = (plain / "README.md").read_text(encoding="utf-8")
    assert "library_name: transformers" in card and "base and LoRA adapter merged" in card
    found = record(plain)
    assert (found["kind"], found["dtype"], found["trained_on"], found["end_tokens"]) == ("merge", "float32", "float32 weights", ["<|im_end|>"])
    assert found["warnings"] == [] and found["rehearsal"] is False and len(found["adapter_sha256"]) == 64


def test_bfloat16_weights_are_rounded_once(trained, plain, tmp_path, capsys):
    """Every merged weight is that of the float32 merge, rounded: nothing was rounded on the way."""
    import torch
    from safetensors.torch import load_file

    assert export(trained, "--merge", "--out", tmp_path / "half", *FEW) == 0
    half, full = (load_file(folder / "model.safetensors") for folder in (tmp_path / "half", plain))
    assert set(half) == set(full) and {tensor.dtype for tensor in half.values()} == {torch.bfloat16}
    assert all(torch.equal(half[name], full[name].bfloat16()) for name in full)
    found = record(tmp_path / "half")["proof"]
    assert 1e-4 < found["max_difference"] < 1 and len(found["flips"]) == found["prompts"] - found["same_letter"]
    printed = capsys.readouterr().out
    assert f"the same letter for {found['same_letter']} of 24 prompts (6 questions)" in printed
    assert "trained on float32 weights; merged into the base's own weights, in bfloat16" in printed
    assert "vllm serve" in printed and "--quantization" not in printed


def test_what_is_there_is_kept(trained, tmp_path):
    out = tmp_path / "out"
    assert export(trained, "--merge", "--out", out, "--no-proof") == 0
    assert "proof" not in record(out)
    before = contents(out)
    with pytest.raises(InputError, match="already there.*--force"):
        export(trained, "--merge", "--out", out, "--no-proof")
    assert contents(out) == before
    (out / "mark").touch()
    assert export(trained, "--serve-dir", "--out", out, "--no-proof", "--force") == 0
    assert not (out / "mark").exists() and record(out)["kind"] == "serve-dir"
    assert (TINY_MODEL / "model.safetensors").is_file()
    assert export(trained, "--merge", "--out", out, "--no-proof", "--force") == 0, "links that are replaced take nothing with them"
    assert (TINY_MODEL / "model.safetensors").is_file() and (trained / "adapter_model.safetensors").is_file()
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.md").touch()
    with pytest.raises(InputError, match="something else is there"):
        export(trained, "--merge", "--out", foreign, "--force", "--no-proof")
    with pytest.raises(InputError, match="inside the run"):
        export(trained, "--merge", "--out", trained / "merged", "--no-proof")
    assert not leftovers(tmp_path, "out", "foreign") and not (trained / "merged").exists()


def test_a_full_disk_is_told_before_and_while_it_is_written(trained, small_disk, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(merged, "load_tuned", lambda run: pytest.fail("a model was loaded"))
        patch.setattr(proof, "load_tuned", lambda run: pytest.fail("a model was loaded"))
        with pytest.raises(InputError, match=r"needs 0\.07 GiB, and the disk of .* has 0\.00 GiB left"):
            export(trained, "--merge", "--out", small_disk / "new" / "out")
        with pytest.raises(InputError, match="needs .* GiB"):
            export(trained, "--serve-dir", "--copy", "--out", small_disk / "out")
    monkeypatch.setattr(merged, "require_room", lambda out, needed: None)  # as if others filled it meanwhile
    with pytest.raises(InputError, match="no space left on the disk"):
        export(trained, "--merge", "--out", small_disk / "out", "--no-proof")
    assert not leftovers(small_disk)


def test_the_size_is_that_of_the_weights(plain):
    from transformers import AutoConfig

    assert base_model.count_parameters(AutoConfig.from_pretrained(plain), trust_remote_code=False) == 1_377_664


def test_serve_dir_links_and_loads(trained, tmp_path, capsys):
    out = tmp_path / "serve"
    before, base = contents(trained), contents(TINY_MODEL)
    assert export(trained, "--serve-dir", "--out", out, *FEW) == 0
    assert contents(trained) == before and contents(TINY_MODEL) == base
    own = {path.name for path in out.iterdir() if not path.is_symlink()}
    links = {path.name: path.resolve() for path in out.iterdir() if path.is_symlink()}
    assert own == {"export.json", "generation_config.json"}
    assert links["model.safetensors"] == TINY_MODEL / "model.safetensors" and links["config.json"] == TINY_MODEL / "config.json"
    from_run = {"adapter_config.json", "adapter_model.safetensors", "chat_template.jinja", "tokenizer.json", "tokenizer_config.json"}
    assert set(links) == from_run | {"model.safetensors", "config.json"}
    assert all(links[name] == (trained / name).resolve() for name in from_run)
    found = record(out)["proof"]
    assert found["max_difference"] < 1e-5 and found["same_letter"] == found["prompts"] == 24
    printed = capsys.readouterr().out
    assert f"transformers serve {out} --host 127.0.0.1 --port 8000 --chat-template-kwargs '{{\"enable_thinking\": false}}'" in printed
    copied = tmp_path / "copied"
    assert export(trained, "--serve-dir", "--copy", "--out", copied, "--no-proof") == 0
    assert not any(path.is_symlink() for path in copied.iterdir())
    assert {path.name for path in copied.iterdir()} == {path.name for path in out.iterdir()}


def test_served_answers_are_the_adapters(trained, tmp_path, capsys):
    missing = [name for name in ("fastapi", "uvicorn", "openai", "pydantic") if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed: a real `transformers serve` was NOT asked")
    out = tmp_path / "serve"
    from safetensors.torch import save_file

    run = shutil.copytree(trained, tmp_path / "run", ignore=shutil.ignore_patterns("eval", "ladders"))
    louder = {name: tensor * (10 if "lora_B" in name else 1) for name, tensor in adapter(run).items()}  # three steps change no letter
    save_file(louder, run / "adapter_model.safetensors", metadata={"format": "pt"})
    assert export(run, "--serve-dir", "--out", out, "--no-proof") == 0
    before = contents(run)
    with transformers_serve() as url:
        assert export(run, "--endpoint", url, "--tuned", out, *FEW) == 0
        tuned = capsys.readouterr().out
        assert export(run, "--endpoint", url, "--tuned", TINY_MODEL, *FEW) == 0
        base = capsys.readouterr().out
    assert "the same letter for 24 of 24 prompts (6 questions)" in tuned and "the same text for 24 of 24" in tuned and "WARNING" not in tuned
    assert "get another letter than from the adapter" in base and "margin" in base and "24 of 24" not in base, "another model is found out"
    assert contents(run) == before


@pytest.mark.slow
def test_an_adapter_of_a_4bit_base_says_so(sample_data, tmp_path, capsys):
    run, out = tmp_path / "nf4", tmp_path / "out"
    run_sft(QUICKSTART, *settings(sample_data, run, *NF4), check=True)
    assert export(run, "--merge", "--dtype", "float32", "--out", out, "--questions", "40") == 0
    found = record(out)
    assert found["trained_on"] == "4-bit (nf4)"
    assert found["proof"]["max_difference"] > 0.05, "the merged model stands on weights that were not rounded to 4 bits"
    assert len(found["proof"]["flips"]) == found["proof"]["prompts"] - found["proof"]["same_letter"]
    printed = capsys.readouterr().out
    assert "trained on 4-bit (nf4); merged into the base's own weights" in printed
    assert all(f"{flip['id']} ({flip['order']}): {flip['adapter']} became {flip['other']}" in printed for flip in found["proof"]["flips"])
    findings, _ = check_for_vllm(run)
    assert [finding.level for finding in findings] == ["note"] and "4-bit (nf4)" in findings[0].says
    assert export(run, "--serve-dir", "--out", tmp_path / "serve", "--no-proof") == 0
    assert "--quantization bnb-4bit" in capsys.readouterr().out
    assert len(proof.proof_warnings({"flips": [1], "prompts": 10, "questions": 5, "right": {"adapter": 4, "other": 3}}, read_run(run))) == 1


def scored(letter: str, margin: float, *, identity: str = "q", written: bool = False) -> Prediction:
    logprobs = {other: math.log(0.1) for other in "abcd"} | {letter: math.log(0.1) + margin}
    values = {"letter_logprobs": None, "outputs": (letter,)} if written else {"letter_logprobs": logprobs}
    return Prediction(id=identity, group=identity, order="abcd", prompt_sha256=f"hash of {identity}", letter=letter, gold="a", **values)


def test_flips_margins_and_right_answers(trained):
    before = [scored("a", 0.5, identity="1"), scored("b", 0.25, identity="2"), scored("a", 2.0, identity="3")]
    after = [scored("a", 0.7, identity="1"), scored("a", 0.25, identity="2"), scored("c", 1.0, identity="3")]
    found = proof.compare_letters(before, after)
    assert [(flip["id"], flip["adapter"], flip["other"], flip["margin"]) for flip in found["flips"]] == [("2", "b", "a", 0.25), ("3", "a", "c", 2.0)]
    assert (found["prompts"], found["same_letter"], found["right"]) == (3, 1, {"adapter": 2, "other": 2})
    assert found["max_difference"] == pytest.approx(2.0)
    [warning] = proof.proof_warnings(found, read_run(trained))
    assert "2 of 3 prompts (66.7 %)" in warning and "4-bit" not in warning and "something is wrong" in warning
    assert proof.proof_warnings({**found, "prompts": 200}, read_run(trained)) == [], "1 % is no warning"
    assert proof.compare_letters(before, before)["flips"] == []
    written = [scored(letter, 0, identity=name, written=True) for letter, name in (("a", "1"), ("b", "2"), ("a", "3"))]
    served = proof.compare_letters(written, [written[0], dataclasses.replace(written[1], letter=None), written[2]], scored=before)
    assert served["max_difference"] is None and served["flips"] == [{"id": "2", "order": "abcd", "gold": "a", "adapter": "b", "other": None, "margin": 0.25}]
    with pytest.raises(RuntimeError, match="same prompts"):
        proof.compare_letters(before, after[::-1])


def test_every_end_token_the_templates_first(trained, tmp_path):
    """A base whose own file ends at another token, as Qwen2's base models do."""
    from transformers import AutoTokenizer

    base = tmp_path / "base"
    shutil.copytree(TINY_MODEL, base)
    (base / "generation_config.json").write_text('{"eos_token_id": [0, 1], "repetition_penalty": 1.1}')
    run = with_recipe(trained, tmp_path / "run", model={"name_or_path": str(base)})
    assert export(run, "--serve-dir", "--out", tmp_path / "out", "--no-proof") == 0
    written = json.loads((tmp_path / "out" / "generation_config.json").read_text())
    turn = AutoTokenizer.from_pretrained(trained).convert_tokens_to_ids("<|im_end|>")
    assert written["eos_token_id"] == [turn, 0, 1] and written["repetition_penalty"] == 1.1 and written["pad_token_id"] == 0
    assert not (tmp_path / "out" / "generation_config.json").is_symlink()
    (base / "generation_config.json").unlink()
    assert export(run, "--serve-dir", "--out", tmp_path / "out", "--no-proof", "--force") == 0
    assert json.loads((tmp_path / "out" / "generation_config.json").read_text())["eos_token_id"] == [turn]


def test_bases_that_cannot_be_exported(trained, tmp_path):
    base = tmp_path / "base"
    shutil.copytree(TINY_MODEL, base)
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}))
    run = with_recipe(trained, tmp_path / "run", model={"name_or_path": str(base)})
    with pytest.raises(InputError, match="stored quantized"):
        export(run, "--merge", "--out", tmp_path / "out")
    (base / "config.json").write_text(json.dumps(config))
    (base / "model.safetensors").rename(base / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"no \*\.safetensors here"):
        export(run, "--serve-dir", "--out", tmp_path / "out", "--no-proof")
    shutil.rmtree(base)
    with pytest.raises(InputError, match="the base of .* cannot be read"):
        export(run, "--merge", "--out", tmp_path / "out")
    (run / "adapter_config.json").unlink()
    with pytest.raises(InputError, match="no adapter here"):
        export(run, "--merge", "--out", tmp_path / "out")
    assert not leftovers(tmp_path, "run")


def test_gguf_ready_says_what_is_in_the_converters_way(trained, tmp_path, capsys):
    out = tmp_path / "out"
    assert export(trained, "--gguf-ready", "--out", out, "--no-proof") == 0
    printed = capsys.readouterr().out
    assert f"python llama.cpp/convert_hf_to_gguf.py {out} --outtype bf16 --outfile {out}-bf16.gguf" in printed
    assert "WARNING: the tokenizer is written in the form of transformers 5" in printed and "embeddings" not in printed
    from transformers import AutoTokenizer

    run = with_recipe(trained, tmp_path / "run")
    tokenizer = AutoTokenizer.from_pretrained(run)
    tokenizer.add_tokens(["<surplus>"])
    tokenizer.save_pretrained(run)
    assert export(run, "--gguf-ready", "--dtype", "float16", "--out", tmp_path / "surplus", "--no-proof") == 0
    assert "token 2048, the model has 2048 rows of embeddings" in capsys.readouterr().out
    with pytest.raises(InputError, match="bfloat16 or float16"):
        export(trained, "--gguf-ready", "--dtype", "float32", "--out", tmp_path / "no")


def test_float16_that_overflows_is_refused(trained, tmp_path):
    from safetensors.torch import load_file, save_file

    base = tmp_path / "base"
    shutil.copytree(TINY_MODEL, base)
    weights = load_file(base / "model.safetensors")
    weights["model.layers.0.mlp.down_proj.weight"][0, 0] = 1e6
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    run = with_recipe(trained, tmp_path / "run", model={"name_or_path": str(base)})
    with pytest.raises(InputError, match="float16 cannot; use --dtype bfloat16"):
        export(run, "--merge", "--dtype", "float16", "--out", tmp_path / "out", "--no-proof")
    assert not leftovers(tmp_path, "base", "run")


@pytest.mark.parametrize(
    ("settings", "level", "says"),
    [
        ({}, None, None),
        ({"use_rslora": True, "r": 64}, None, None),
        ({"target_modules": ["q_proj", "v_proj"], "layers_to_transform": [1]}, None, None),
        ({"r": 600}, "error", "rank 600"),
        ({"use_dora": True}, "error", "DoRA"),
        ({"modules_to_save": ["lm_head"]}, "error", "modules_to_save lm_head"),
        ({"bias": "all"}, "error", "biases"),
        ({"lora_bias": True}, "error", "biases"),
        ({"rank_pattern": {"q_proj": 4}}, "error", "rank_pattern"),
        ({"alpha_pattern": {"q_proj": 4}}, "error", "alpha_pattern"),
        ({"init_lora_weights": "pissa"}, "error", "init_lora_weights pissa"),
        ({"trainable_token_indices": [5]}, "error", "trainable_token_indices"),
        ({"target_modules": ["q_proj", "embed_tokens"]}, "note", "embed_tokens"),
    ],
    ids=str,
)
def test_the_lint_on_adapters_that_peft_makes(tmp_path, settings, level, says):
    from peft import LoraConfig, get_peft_model
    from safetensors import safe_open
    from transformers import AutoModelForCausalLM

    config = LoraConfig(**{"r": 8, "target_modules": "all-linear", "task_type": "CAUSAL_LM", **settings})
    get_peft_model(AutoModelForCausalLM.from_pretrained(TINY_MODEL), config).save_pretrained(tmp_path)
    with safe_open(tmp_path / "adapter_model.safetensors", framework="numpy") as file:
        findings = check_adapter(json.loads((tmp_path / "adapter_config.json").read_text()), file.keys())
    assert not findings if level is None else any(finding.level == level and says in finding.says for finding in findings), findings
    assert {finding.level for finding in findings} <= {level}
    assert all("lora." in finding.change or "--merge" in finding.change for finding in findings)


def test_the_check_prints_the_command_or_what_to_change(trained, tmp_path, capsys):
    before = contents(trained)
    assert export(trained, "--vllm-check") == 0
    printed = capsys.readouterr().out
    assert f"--enable-lora --lora-modules trained={trained}" in printed and "--generation-config vllm" in printed and "--max-lora-rank" not in printed
    assert f"--chat-template {trained}/chat_template.jinja" in printed
    run = with_recipe(trained, tmp_path / "run", model={"revision": "abc"})
    config = json.loads((run / "adapter_config.json").read_text())
    (run / "adapter_config.json").write_text(json.dumps({**config, "r": 33}))
    _, command = check_for_vllm(run)
    assert "--max-lora-rank 64" in command and "--revision abc" in command
    (run / "adapter_config.json").write_text(json.dumps({**config, "use_dora": True, "modules_to_save": ["lm_head"]}))
    assert export(run, "--vllm-check") == 1
    printed = capsys.readouterr().out
    assert printed.count("error: ") == 2 and "lora.use_dora: false" in printed and "vllm serve" not in printed
    (run / "adapter_model.safetensors").write_bytes(b"half")
    with pytest.raises(InputError, match=r"adapter_model\.safetensors: cannot be read"):
        check_for_vllm(run)
    assert contents(trained) == before


@pytest.mark.parametrize(
    ("options", "problems"),
    [
        (["--merge"], ["--out: missing"]),
        (["--merge", "--copy", "--questions", "0"], ["--out: missing", "--copy: has no meaning", "--questions 0"]),
        (["--vllm-check", "--out", "x", "--force", "--dtype", "float16"], ["--out: has", "--force: has", "--dtype: has"]),
        (["--endpoint", "localhost:8000"], ["--endpoint localhost:8000: expected http", "--tuned: missing"]),
        (["--serve-dir", "--out", "x", "--tuned", "n", "--dtype", "float16"], ["--tuned: only with --endpoint", "--dtype: has"]),
        (["--merge", "--out", "x", "--no-proof", "--test", "t.jsonl"], ["--test: has no meaning"]),
    ],
)
def test_options_that_have_no_meaning(trained, options, problems):
    with pytest.raises(InputError) as caught:
        export(trained, *options)
    assert len(caught.value.problems) == len(problems)
    assert all(any(found.startswith(problem) for found in caught.value.problems) for problem in problems), caught.value.problems


def test_the_proof_asks_the_rows_it_is_given(trained, sample_data, tmp_path):
    rows = rows_file(sample_data, "test").read_text(encoding="utf-8").splitlines()
    (tmp_path / "own.jsonl").write_text("\n".join(rows[-3:]), encoding="utf-8")
    assert export(trained, "--serve-dir", "--out", tmp_path / "out", "--test", tmp_path / "own.jsonl") == 0
    assert record(tmp_path / "out")["proof"]["questions"] == len({row.id for row in read_rows(tmp_path / "own.jsonl")}) == 3
    with pytest.raises(InputError, match=r"gone\.jsonl"):
        export(trained, "--serve-dir", "--out", tmp_path / "other", "--test", tmp_path / "gone.jsonl")
    assert not (tmp_path / "other").exists()
