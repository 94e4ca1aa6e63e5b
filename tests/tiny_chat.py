"""A Gemma-2 of random weights that takes turns in dialogues, a few dialogues, and a recipe of both."""

import json
import sys
from pathlib import Path

import torch
import yaml
from conftest import ROOT, run_lawft
from transformers import Gemma2Config, Gemma2ForCausalLM

DIALOGUES = ROOT / "lawft_trl" / "assets" / "dialogues" / "socratic.jsonl"


def make_model(folder: Path) -> Path:
    """Writes model and tokenizer, which is that of the bundled tiny chat model; quick, and it knows nothing."""
    sys.path.append(str(ROOT / "scripts"))
    from make_tiny_chat_model import read_dialogues, train_tokenizer

    tokenizer = train_tokenizer(read_dialogues(DIALOGUES))
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32}
    tokens = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    config = Gemma2Config(vocab_size=len(tokenizer), query_pre_attn_scalar=32, sliding_window=64, max_position_embeddings=1024, **sizes, **tokens)
    model = Gemma2ForCausalLM(config)
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<end_of_turn>")]
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_data(folder: Path) -> Path:
    """The rows of forty dialogues: 24 train, 8 dev and 8 test conversations."""
    lines = DIALOGUES.read_text(encoding="utf-8").splitlines(keepends=True)[:40]
    (folder / "forty.jsonl").write_text("".join(lines), encoding="utf-8")
    run_lawft("data", "dialogues", folder / "forty.jsonl", "--out", folder / "data", "--dev-share", "0.2", "--test-share", "0.2", check=True)
    return folder / "data" / "dialogue"


def make_recipe(folder: Path, model: Path, data: Path) -> Path:
    """A recipe of six steps, evaluated after every second one; the checkpoint is chosen by the style."""
    training = {"max_steps": 6, "learning_rate": 1e-2, "warmup_steps": 0, "per_device_train_batch_size": 4, "logging_steps": 1, "seed": 1}
    training |= {"eval_strategy": "steps", "eval_steps": 2, "save_strategy": "steps", "save_steps": 2, "load_best_model_at_end": True}
    training |= {"metric_for_best_model": "socratic_style", "max_length": 512, "use_cpu": True, "bf16": False, "dataloader_pin_memory": False}
    recipe = {
        "pattern": {"answer": "dialogue"},
        "data": {split: f"{data}/{split}_*.jsonl" for split in ("train", "dev", "test")},
        "model": {"name_or_path": str(model), "dtype": "float32"},
        "lora": {"r": 8, "lora_alpha": 16, "lora_dropout": 0.1, "target_modules": "all-linear"},
        "training": training | {"output_dir": str(folder / "run")},
        "monitor": {"eval_samples": 6},
        # Syllables that the random model falls into, and unlearns within a few steps
        "evaluation": {"style": {"addresses": ["い", "か", "た", "よ"]}, "max_new_tokens": 12, "batch_size": 4},
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe, allow_unicode=True), encoding="utf-8")
    return folder / "recipe.yaml"


def read_lines(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
