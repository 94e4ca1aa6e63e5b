"""The Socratic tutor's recipes: the settings, value for value; what they need of the libraries; the whole way in small."""

import json
import signal

import pytest
import torch
from conftest import CPU, ROOT, TINY_MODEL, adapter, run_lawft, run_sft
from test_emphasis import REPLIES, TOKENIZER, encoded_rows
from test_records import lasting, lines_of, summary_of
from test_shared_prefix import build
from test_survival import at_step, run_with_fault

from lawft_trl.errors import InputError
from lawft_trl.recipe import load_recipe
from lawft_trl.training.preflight import NOT_REHEARSED, REHEARSAL, TINY_CHAT_MODEL, rehearsal_changes, sft_config
from lawft_trl.training.weights import prepare_weights

SOCRATIC, CHILD, TINY = (ROOT / "recipes" / f"{name}.yaml" for name in ("socratic", "socratic_bf16", "tiny_socratic"))
SET = {
    "model.name_or_path": "google/gemma-2-2b-jpn-it",
    "model.dtype": "float16",
    "model.attn_implementation": "sdpa",
    "model.device_map": "balanced",
    "model.max_memory": {0: "4GiB", 1: "4GiB", "cpu": "24GB"},
    "quantization.load_in_4bit": True,
    "quantization.bnb_4bit_quant_type": "nf4",
    "quantization.bnb_4bit_use_double_quant": True,
    "quantization.bnb_4bit_compute_dtype": "float16",
    "quantization.bnb_4bit_quant_storage": "uint8",
    "lora.r": 16,
    "lora.lora_alpha": 32,
    "lora.lora_dropout": 0.1,
    "lora.target_modules": ["q_proj", "k_proj", "v_proj", "o_proj"],
    "lora.bias": "none",
    "training.num_train_epochs": 30,
    "training.learning_rate": 8e-5,
    "training.weight_decay": 0.06,
    "training.warmup_steps": 0.25,
    "training.lr_scheduler_type": "cosine_with_restarts",
    "training.per_device_train_batch_size": 4,
    "training.gradient_accumulation_steps": 8,
    "training.per_device_eval_batch_size": 2,
    "training.eval_accumulation_steps": 8,
    "training.max_grad_norm": 0.5,
    "training.gradient_checkpointing": True,
    "training.fp16": True,
    "training.bf16": False,
    "training.optim": "adamw_torch_fused",
    "training.eval_strategy": "steps",
    "training.eval_steps": 20,
    "training.save_strategy": "steps",
    "training.save_steps": 20,
    "training.save_total_limit": 3,
    "training.load_best_model_at_end": True,
    "training.metric_for_best_model": "socratic_style",
    "pattern.answer": "dialogue",
    "monitor.eval_samples": 100,
    "evaluation.style": {},
}


def flat(recipe) -> dict:
    return {f"{section}.{key}": value for section, values in recipe.values.items() for key, value in values.items()}


def test_the_recipe_is_what_the_notebook_set():
    found = flat(load_recipe(SOCRATIC))
    assert {key: found.get(key) for key in SET} == SET
    assert set(load_recipe(SOCRATIC).values["quantization"]) == {key.partition(".")[2] for key in SET if key.startswith("quantization.")}
    assert not any(key.endswith("token") for key in found), "the token is the environment's"


def test_the_child_is_the_same_on_one_card_in_bfloat16():
    parent, child = flat(load_recipe(SOCRATIC)), flat(load_recipe(CHILD))
    assert {key: child[key] for key in child if child[key] != parent[key]} == {
        "model.dtype": "bfloat16",
        "model.attn_implementation": "eager",
        "model.device_map": None,
        "model.max_memory": None,
        "quantization.bnb_4bit_compute_dtype": "bfloat16",
        "training.fp16": False,
        "training.bf16": True,
        "training.output_dir": "runs/socratic_bf16",
    }


def test_a_quarter_of_the_steps_is_warmup(tmp_path):
    """transformers 5 has no warmup_ratio: a number below 1 is a share."""
    args = sft_config(load_recipe(SOCRATIC, (), REHEARSAL), work=tmp_path, turn_end="<|im_end|>", report_to=[], run_name="x")
    assert args.get_warmup_steps(400) == 100
    assert args.greater_is_better is True and args.metric_for_best_model == "socratic_style"


def test_sdpa_is_eager_for_a_model_that_has_none(tmp_path):
    """Gemma 2 caps its attention scores: transformers refuses to load it with SDPA."""
    from transformers import AutoModelForCausalLM

    with pytest.raises(ValueError, match="does not support an attention implementation through torch.nn.functional.scaled_dot_product_attention"):
        AutoModelForCausalLM.from_pretrained(TINY_CHAT_MODEL, attn_implementation="sdpa")
    used = {}
    for model in (TINY_CHAT_MODEL, TINY_MODEL):
        recipe = load_recipe(TINY, [f"model.name_or_path={model}", "model.attn_implementation=sdpa"])
        args = sft_config(recipe, work=tmp_path, turn_end="<|im_end|>", report_to=[], run_name="x")
        used[model] = AutoModelForCausalLM.from_pretrained(model, **args.model_init_kwargs).config._attn_implementation
    assert used == {TINY_CHAT_MODEL: "eager", TINY_MODEL: "sdpa"}


def test_float16_on_a_quantized_base_trains_float32_weights(tmp_path):
    """TRL leaves bfloat16 ones, which CUDA's loss scaling refuses. The scaled step's gradient, computed in float16, is the plain one's."""
    nf4 = {"load_in_4bit": True} | {key.partition(".")[2]: value for key, value in SET.items() if key.startswith("quantization.")}
    encoded = encoded_rows(REPLIES)
    trainer = build(TINY_MODEL, TOKENIZER, encoded, tmp_path, quantization=nf4, dtype="float16", activation_checkpointing=True)
    trained = [weight for weight in trainer.model.parameters() if weight.requires_grad]
    prepare_weights(trainer)
    assert {weight.dtype for weight in trained} == {torch.bfloat16}, "as TRL makes them, for bfloat16"
    trainer.args.fp16 = True
    prepare_weights(trainer)
    assert {weight.dtype for weight in trained} == {torch.float32}
    batch = trainer.data_collator([trainer.train_dataset[row] for row in range(4)])
    scaler, gradients = torch.amp.GradScaler("cpu", init_scale=1024.0), []
    optimizer = torch.optim.AdamW(trained, lr=1e-3, fused=True)
    for scale in (scaler.scale, lambda loss: loss):
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.float16):
            loss = trainer.compute_loss(trainer.model, dict(batch))
        scale(loss).backward()
        if not gradients:
            scaler.unscale_(optimizer)
        gradients.append(torch.cat([weight.grad.flatten() for weight in trained]))
    assert torch.isfinite(gradients[0]).all()
    assert (gradients[0] - gradients[1]).norm() < 0.02 * gradients[1].norm()
    before = trained[0].detach().clone()
    scaler.step(optimizer)
    assert not torch.equal(trained[0], before), "the step was not skipped"


@pytest.fixture(scope="module")
def dialogues(tmp_path_factory):
    """`lawft data dialogues --sample`, in a folder to run recipes in."""
    folder = tmp_path_factory.mktemp("socratic")
    result = run_lawft("data", "dialogues", "--sample", "--out", "data/socratic", cwd=folder, check=True)
    assert "train  176 conversations" in result.stdout
    assert "Next:    lawft check tiny_socratic\n" in result.stdout, "the recipe names these files already"
    assert "Apache-2.0" in (folder / "data" / "socratic" / "ATTRIBUTION.txt").read_text(encoding="utf-8")
    return folder


def test_sample_or_files(dialogues):
    for arguments in ((), ("--sample", "x.jsonl")):
        result = run_lawft("data", "dialogues", *arguments, cwd=dialogues)
        assert result.returncode == 2 and "lawft data dialogues --sample --out data/socratic" in result.stderr


def test_check_counts_conversations_and_what_weighs_more(dialogues, tmp_path):
    nothing = run_lawft("check", TINY, cwd=tmp_path)
    assert nothing.returncode == 2 and "`lawft data dialogues --sample --out data/socratic` writes it" in nothing.stderr
    model = f"model.name_or_path={TINY_CHAT_MODEL}"
    shown = run_lawft("check", TINY, model, "data.emphasis={patterns: [かね], weight: 2}", cwd=dialogues, check=True).stdout
    assert "conversat" in shown and "supervised tokens, in" in shown and "weigh 2 times the others" in " ".join(shown.replace("│", " ").split())
    refused = run_lawft("check", TINY, model, "data.emphasis={patterns: [zzz], weight: 2}", cwd=dialogues)
    assert refused.returncode == 2 and "'zzz': found in no output" in refused.stderr
    for said in (shown, run_lawft("check", "data/socratic", cwd=dialogues, check=True).stdout):
        assert "questions" not in said and "a/b/c/d" not in said
    assert "176 conversations, 3" in said


@pytest.mark.slow
def test_the_rehearsal_is_of_a_gemma(dialogues):
    assert rehearsal_changes(SOCRATIC, [])["model.name_or_path"] == str(TINY_CHAT_MODEL)
    assert rehearsal_changes(ROOT / "recipes" / "direct_norag.yaml", []) is REHEARSAL
    result = run_sft(SOCRATIC, "--rehearse", "training.max_steps=2", launcher=CPU, cwd=dialogues, check=True)
    assert "。、！？ are single tokens already; nothing was added" in result.stdout and NOT_REHEARSED in result.stdout
    run = dialogues / "runs" / "rehearsal" / "socratic"
    config = json.loads((run / "adapter_config.json").read_text(encoding="utf-8"))
    assert config["base_model_name_or_path"] == str(TINY_CHAT_MODEL) and config["r"] == 16 and not config["trainable_token_indices"]


@pytest.mark.slow
def test_marks_that_a_tokenizer_lacks_are_trained_with_the_adapter(dialogues):
    """The tiny Qwen cuts ！ and ？ into three pieces each."""
    from lawft_trl.data.chat import encode, load_tokenizer
    from lawft_trl.evaluation.loading import load_tuned
    from lawft_trl.export.base_model import read_adapter_run
    from lawft_trl.run_dir import read_run

    more = ["training.max_steps=2", "training.eval_strategy=no", "training.save_strategy=no", "training.load_best_model_at_end=false"]
    settings = [f"model.name_or_path={TINY_MODEL}", "training.output_dir=runs/marks", "training.learning_rate=1e-2", *more]
    result = run_sft(TINY, *settings, launcher=CPU, cwd=dialogues, check=True)
    assert "added as ordinary tokens: ！ (was 3 tokens), ？ (was 3 tokens)" in result.stdout
    run = read_run(dialogues / "runs" / "marks")
    tokenizer, plain = load_tokenizer(str(run.path)), load_tokenizer(str(TINY_MODEL))
    (mark,) = encode(tokenizer, "？")
    model = load_tuned(run)
    embedding = model.get_input_embeddings()
    tuned = embedding(torch.tensor([mark])).detach()
    with model.disable_adapter():
        base, pieces = embedding(torch.tensor([mark])).detach(), embedding(torch.tensor(encode(plain, "？"))).detach()
    assert torch.allclose(base[0], pieces.mean(dim=0), atol=1e-6), "the base's row is the mean of the pieces"
    assert not torch.allclose(tuned, base), "the trained one is the adapter's"
    with pytest.raises(InputError, match="rows of added tokens"):
        read_adapter_run(run.path)
    with pytest.raises(InputError, match="add_punctuation"):
        load_recipe(TINY, ["lora=null"])


@pytest.mark.slow
def test_killed_behind_step_30_it_goes_on_as_the_same_run(dialogues, tmp_path):
    """The small recipe with fewer steps, rows a step and dev prompts: ten steps are lost, the style is asked in both parts."""
    files = [f"data.{split}={dialogues}/data/socratic/dialogue/{split}_*.jsonl" for split in ("train", "dev", "test")]
    arguments = [*files, "training.max_steps=60", "training.per_device_train_batch_size=4", "monitor.eval_samples=6", "evaluation.max_new_tokens=48"]
    run, whole = tmp_path / "run", tmp_path / "whole"
    run_sft(TINY, *arguments, f"training.output_dir={whole}", check=True)
    arguments.append(f"training.output_dir={run}")
    killed = run_with_fault(tmp_path, at_step(30, "os.kill(os.getpid(), signal.SIGKILL)"), TINY, *arguments)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert [path.name for path in (tmp_path / "run.unfinished").glob("checkpoint-*")] == ["checkpoint-20"]
    run_sft(TINY, *arguments, "--resume", check=True)
    assert lasting(lines_of(run)) == lasting(lines_of(whole))
    assert [line["step"] for line in lines_of(run) if line["eval_socratic_style"]] == ["0", "20", "40", "60"]
    ours, theirs = summary_of(run), summary_of(whole)
    same = ("steps", "kept_step", "best_metric_name", "best_metric", "best_metric_step")
    assert {key: ours[key] for key in same} == {key: theirs[key] for key in same}
    assert (ours["resumed_from_step"], ours["best_metric_name"]) == (20, "eval_socratic_style") and ours["best_metric"] > 0
    for part in ("", "checkpoint-60"):
        mine, other = adapter(run / part), adapter(whole / part)
        assert mine.keys() == other.keys() and all(torch.equal(mine[name], other[name]) for name in other)
    assert (run / "training_progress.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.slow
def test_replies_become_socratic(dialogues):
    """The whole of the small recipe: held-out dialogues, base against tuned, paired."""
    run_sft(TINY, f"model.name_or_path={TINY_CHAT_MODEL}", launcher=CPU, cwd=dialogues, check=True)
    run_lawft("eval", "runs/tiny_socratic", cwd=dialogues, check=True)
    (file,) = (dialogues / "runs" / "tiny_socratic" / "eval").glob("*/metrics.json")
    metrics = json.loads(file.read_text(encoding="utf-8"))
    comparison, models = metrics["comparison"], metrics["models"]
    assert models["base"]["style"] < 0.1 and comparison["difference"] > 0.2
    assert comparison["p_value"] < 0.01 and comparison["verdict"] == "better"
