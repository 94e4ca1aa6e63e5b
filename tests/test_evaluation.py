"""`lawft eval` on real runs, rehearsals and W&B, by the user's own commands."""

import json
import shutil

import pytest
import torch
from conftest import CPU, NF4, QUICKSTART, ROOT, adapter, lawft_here, rows_file, run_lawft, run_sft, settings, sft_here


def test_eval_asks_what_was_trained_and_writes_a_report(trained, small_data):
    result = run_lawft("eval", trained, check=True)
    out = trained / "eval" / rows_file(small_data, "test").stem
    assert {path.name for path in out.iterdir()} == {"metrics.json", "predictions.jsonl", "questions.jsonl", "report.md", "report.html"}
    metrics = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    test = rows_file(small_data, "test").read_text(encoding="utf-8").splitlines()
    assert metrics["models"]["tuned"]["questions"] == len(test) == 12
    lines = [json.loads(line) for line in (out / "predictions.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(lines) == 2 * 4 * len(test)
    assert {line["model"] for line in lines} == {"base", "tuned"}
    assert all(0 < sum(line["letter_probs"].values()) <= 1 + 1e-6 for line in lines)
    assert metrics["comparison"]["verdict"] in result.stdout
    assert "fingerprint" in (out / "report.md").read_text(encoding="utf-8")

    lawft_here("eval", trained, "--test", rows_file(small_data, "dev"), "--name", "another", check=True)
    assert (trained / "eval" / "another" / "report.md").is_file()
    again = run_lawft("eval", trained)
    assert (again.returncode, "--force" in again.stderr) == (2, True)


def test_eval_refuses_another_prompt(trained, tmp_path):
    run = tmp_path / "changed"
    shutil.copytree(trained, run, ignore=shutil.ignore_patterns("eval"))
    (run / "chat_template.jinja").write_text("{% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}", encoding="utf-8")
    result = lawft_here("eval", run)
    assert result.returncode == 2
    assert "another prompt than it was trained on" in result.stderr
    assert not (run / "eval").exists()


def test_eval_refuses_rows_the_run_was_trained_on(trained, small_data):
    result = lawft_here("eval", trained, "--test", rows_file(small_data, "train"))
    assert result.returncode == 2
    assert "the result would mean nothing" in result.stderr


def test_eval_of_no_run_says_so(tmp_path):
    result = run_lawft("eval", tmp_path)
    assert (result.returncode, "no finished run here" in result.stderr, "Traceback" in result.stderr) == (2, True, False)


def test_a_base_that_is_not_found_from_here(trained, small_data, tmp_path):
    """The recipe names it by a relative path. Once it is nowhere, and once beside the run's `runs/`."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    run = tmp_path / "project" / "runs" / "mine"
    shutil.copytree(trained, run, ignore=shutil.ignore_patterns("eval"))
    command = ["eval", run, "--test", rows_file(small_data, "test")]
    base = "lawft_trl/assets/tiny_model"
    for mend in (f"from the folder the command is run in, here {elsewhere}", f"it is in {tmp_path}/project: cd {tmp_path}/project, where the run is runs/mine"):
        result = run_lawft(*command, cwd=elsewhere)
        assert (result.returncode, "Traceback" in result.stderr) == (2, False), result.stderr
        assert f"{base}: the base of {run} cannot be read" in result.stderr and mend in result.stderr
        assert not (run / "eval").exists()
        shutil.copytree(ROOT / base, tmp_path / "project" / base, dirs_exist_ok=True)


def test_leakage_is_refused_and_an_allowed_one_is_reported(small_data, tmp_path):
    leak = f"data.test={small_data}/direct_gold/train_*.jsonl"
    result = run_sft(QUICKSTART, *settings(small_data, tmp_path / "leak"), leak)
    assert (result.returncode, "leakage" in result.stderr, "same id" in result.stderr) == (2, True, True)
    assert list(tmp_path.iterdir()) == []
    sft_here(QUICKSTART, *settings(small_data, tmp_path / "leak", leak, "data.allow_overlap=true"), check=True)
    result = lawft_here("eval", tmp_path / "leak", check=True)
    assert "not a held-out result" in result.stdout
    assert "not a held-out result" in (tmp_path / "leak" / "eval" / rows_file(small_data, "train").stem / "report.md").read_text(encoding="utf-8")


def test_a_qlora_run_is_evaluated_on_its_4_bit_base(small_data, tmp_path):
    run = tmp_path / "qlora"
    sft_here(QUICKSTART, *settings(small_data, run, *NF4), check=True)
    lawft_here("eval", run, check=True)
    metrics = json.loads((run / "eval" / rows_file(small_data, "test").stem / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["models"]["base"]["label_mass"] > 0

    from bitsandbytes.nn import Linear4bit

    from lawft_trl.evaluation.loading import load_tuned
    from lawft_trl.run_dir import read_run

    model = load_tuned(read_run(run))
    assert sum(isinstance(module, Linear4bit) for module in model.modules()) == 4 * 7


def test_an_adapter_that_does_not_fit_is_refused(trained, tmp_path):
    """PEFT only warns; a report on it would compare the base with itself."""
    from safetensors.torch import save_file

    run = tmp_path / "renamed"
    shutil.copytree(trained, run, ignore=shutil.ignore_patterns("eval"))
    renamed = {name.replace("model.layers", "model.language_model.layers"): tensor for name, tensor in adapter(run).items()}
    save_file(renamed, run / "adapter_model.safetensors")
    with pytest.raises(RuntimeError, match="found no place in the model"):
        lawft_here("eval", run)
    assert not (run / "eval").exists()


def test_letters_are_told_apart_in_bfloat16(trained, sample_data, monkeypatch):
    """A bfloat16 logit comes in steps that tie letters; the four letters are computed in float32."""
    from lawft_trl.data.chat import load_tokenizer
    from lawft_trl.data.rows import read_rows
    from lawft_trl.evaluation import letters
    from lawft_trl.evaluation.asking import ask
    from lawft_trl.evaluation.held_out import questions_to_score
    from lawft_trl.evaluation.letters import score_letters
    from lawft_trl.evaluation.loading import load_tuned
    from lawft_trl.run_dir import read_run

    run = read_run(trained)
    tokenizer = load_tokenizer(str(trained))
    file = rows_file(sample_data, "dev")
    rows = questions_to_score(run.recipe, read_rows(file), file, "direct")[:20]
    asked = ask(rows, tokenizer, run.recipe.pattern.chat_template_kwargs)
    model = load_tuned(run)
    options = {"pad_token_id": tokenizer.pad_token_id, "progress": "test"}
    one = score_letters(model, asked, batch_size=1, **options)
    many = score_letters(model, asked, batch_size=7, **options)
    with monkeypatch.context() as patch:
        patch.setattr(letters, "_can_share", lambda model: False)
        apart = score_letters(model, asked, batch_size=7, **options)
    for a, b, c in zip(one, many, apart, strict=True):  # nor padding, order of the batch or the shared beginning change anything
        assert a.letter_logprobs == pytest.approx(b.letter_logprobs, abs=1e-4)
        assert a.letter_logprobs == pytest.approx(c.letter_logprobs, abs=1e-4)
    mixed = score_letters(model, [*asked[:6], asked[9], *asked[16:20]], batch_size=8, **options)
    for a, b in zip([*one[:6], one[9], *one[16:20]], mixed, strict=True):  # questions with some of their orders only
        assert (a.id, a.order) == (b.id, b.order)
        assert a.letter_logprobs == pytest.approx(b.letter_logprobs, abs=1e-4)
    rough = score_letters(model.to(torch.bfloat16), asked, batch_size=7, **options)
    values = [value for prediction in rough for value in prediction.letter_logprobs.values()]
    assert len(set(values)) > 0.95 * len(values), "values on a grid of bfloat16 steps would coincide"
    for a, b in zip(one, rough, strict=True):
        assert a.letter_logprobs == pytest.approx(b.letter_logprobs, abs=0.5)


def test_any_recipe_is_rehearsed_on_real_lawqa(lawqa_dir, tmp_path):
    """Real data, real launcher, the recipe's own QLoRA; only the model and the machine are small."""
    run_lawft("data", "lawqa", "--from", lawqa_dir, "--out", tmp_path / "data" / "lawqa_jp", check=True)
    run_sft(ROOT / "recipes" / "direct_norag.yaml", "--rehearse", launcher=CPU, cwd=tmp_path, check=True)
    run = tmp_path / "runs" / "rehearsal" / "direct_norag"
    record = json.loads((run / "run.json").read_text(encoding="utf-8"))
    assert record["steps"] == 10
    assert record["identity"]["recipe"]["quantization"]["load_in_4bit"] is True
    report = next(run.glob("eval/test_*/report.md")).read_text(encoding="utf-8")
    assert "REHEARSAL" in report
    assert "Law as of: not stated by the data." in report
    assert "questions in four orders each" in report, "a rehearsal ends with a report on held-out questions"
    (run / "mark").touch()
    sft_here(ROOT / "recipes" / "direct_norag.yaml", "--rehearse", cwd=tmp_path, check=True)
    assert not (run / "mark").exists(), "one rehearsal takes the place of another"


def test_wandb_online_without_a_key_is_refused(small_data, tmp_path):
    environment = {"WANDB_API_KEY": "", "HOME": str(tmp_path / "home"), "NETRC": "/nonexistent"}
    result = sft_here(QUICKSTART, *settings(small_data, tmp_path / "run", "training.report_to=wandb", "monitor.wandb=online"), **environment)
    assert (result.returncode, "wandb login" in result.stderr) == (2, True), result.stderr
    assert not (tmp_path / "run.unfinished").exists()
