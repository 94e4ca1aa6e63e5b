"""Peak memory of short real trainings beside the estimate of `lawft plan`.

    python scripts/measure_memory.py

Small random Qwen3 models are trained for two steps on long rows of the sample data, each in a process of its own: on the CPU,
whose peak is the resident set (Linux), or with --gpu on the GPU as its allocator counts it (not verified: no GPU was at hand).
On the CPU the same training with an almost empty model says what Python and the libraries take. The error is that of the
rest, which the plan estimates.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # the script also runs where the package is not installed

TINY = ROOT / "lawft_trl" / "assets" / "tiny_model"
SHAPE = {"hidden_size": 640, "intermediate_size": 1920, "num_hidden_layers": 12, "num_attention_heads": 10, "num_key_value_heads": 5, "head_dim": 64}
EMPTY = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16}
VOCABULARY = 8192
STEPS = 2  # the optimizer has its states from the second one on

LONG = ["training.gradient_checkpointing=true", "training.per_device_train_batch_size=4"]


def nf4(compute: str) -> list[str]:
    return [f"quantization.{key}" for key in ("load_in_4bit=true", "bnb_4bit_quant_type=nf4", "bnb_4bit_use_double_quant=true", f"bnb_4bit_compute_dtype={compute}")]


def configurations(gpu: bool) -> dict[str, list[str]]:
    """Name -> overrides of the recipe."""
    if gpu:
        bf16 = ["model.dtype=bfloat16", "training.use_cpu=false", "training.bf16=true"]
        return {
            "bf16 LoRA": bf16,
            "bf16 LoRA, checkpointing": [*bf16, "training.gradient_checkpointing=true"],
            "bf16 LoRA, batch 4, checkpointing": [*bf16, *LONG],
            "NF4 QLoRA": [*bf16, *nf4("bfloat16")],
            "NF4 QLoRA, checkpointing, paged 8-bit AdamW": [*bf16, *nf4("bfloat16"), "training.gradient_checkpointing=true", "training.optim=paged_adamw_8bit"],
        }
    return {
        "float32 LoRA": [],
        "float32 LoRA, checkpointing": ["training.gradient_checkpointing=true"],
        "float32 LoRA, batch 4, checkpointing": LONG,
        "bfloat16 LoRA": ["model.dtype=bfloat16"],
        "NF4 QLoRA": nf4("float32"),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpu", action="store_true", help="on the GPU; larger shapes follow from --hidden and --layers")
    parser.add_argument("--hidden", type=int, default=SHAPE["hidden_size"], help="hidden size of the random model, a multiple of 128")
    parser.add_argument("--layers", type=int, default=SHAPE["num_hidden_layers"])
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        return child(options.child[0], options.child[1:])
    heads = options.hidden // 64
    shape = SHAPE | {"hidden_size": options.hidden, "intermediate_size": 3 * options.hidden, "num_hidden_layers": options.layers}
    shape |= {"num_attention_heads": heads, "num_key_value_heads": heads // 2}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        subprocess.run([sys.executable, "-m", "lawft_trl.cli", "data", "sample", "--out", folder / "data"], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
        make_model(folder / "model", shape)
        make_model(folder / "empty", EMPTY)
        make_rows(folder)
        base = 0
        if not options.gpu:
            empty = measure(folder, "empty", [])
            base = empty["peak"] - empty["planned"]
            print(f"Python and libraries: {mib(base)}, from a training of an almost empty model in the same run\n", flush=True)
        print(f"| training | tokens | planned | measured | error |{' reserved |' if options.gpu else ''}\n|---|---|---|---|---|{'---|' if options.gpu else ''}")
        worst = 0.0
        for title, overrides in configurations(options.gpu).items():
            result = measure(folder, "model", overrides)
            peak = result["peak"] - base
            error = result["planned"] / peak - 1
            worst = max(worst, abs(error))
            reserved = f" {mib(result['reserved'])} |" if options.gpu else ""
            print(f"| {title} | {result['batch']} × {result['longest']} | {mib(result['planned'])} | {mib(peak)} | {100 * error:+.1f} % |{reserved}", flush=True)
    print(f"\nlargest error {100 * worst:.1f} %; {result['parameters']:,} parameters, {result['trainable']:,} trained in the last")
    return 0 if worst <= 0.15 else 1


def mib(size: float) -> str:
    return f"{size / 2**20:,.0f} MiB"


def make_model(folder: Path, shape: dict) -> None:
    """A random Qwen3 with the bundled tokenizer."""
    import shutil

    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    Qwen3ForCausalLM(Qwen3Config(**shape, vocab_size=VOCABULARY, tie_word_embeddings=False, eos_token_id=2, pad_token_id=0)).save_pretrained(folder)
    for file in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(TINY / file, folder)


def make_rows(folder: Path) -> None:
    """Two long rows in turn, the second a little shorter: in the order they stand every batch is the longest and is padded."""
    (source,) = (folder / "data" / "direct_gold").glob("train_*.jsonl")
    rows = sorted((json.loads(line) for line in source.read_text(encoding="utf-8").splitlines()), key=lambda row: -len(row["input"]))
    text = rows[0]["input"] + "\n" + rows[1]["input"]
    lines = [json.dumps(rows[0] | {"input": f"{at:02d}" + text[20 * (at % 2) :]}, ensure_ascii=False) for at in range(16)]
    (folder / "rows.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def measure(folder: Path, model: str, overrides: list[str]) -> dict:
    """Trains in a new process; what it prints last."""
    settings = [f"model.name_or_path={folder / model}", f"data.train={folder / 'rows.jsonl'}", "data.dev=null", "data.test=null"]
    settings += ["training.per_device_train_batch_size=2", f"training.max_steps={STEPS}", f"training.output_dir={folder / 'run'}", "training.logging_steps=1", "training.train_sampling_strategy=sequential"]
    command = [sys.executable, __file__, "--child", str(ROOT / "recipes" / "tiny_direct_gold.yaml"), *settings, *overrides]
    # Large blocks go back to the system when they are freed, so that the resident set is what is alive.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536", "HF_HUB_OFFLINE": "1"}
    result = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT)
    if result.returncode:
        sys.exit(f"{' '.join(command)}\n{result.stderr[-3000:]}")
    return json.loads(result.stdout.splitlines()[-1])


def child(recipe_file: str, overrides: list[str]) -> int:
    """Trains a recipe and prints, as JSON, the estimate without libraries and the peak."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import BitsAndBytesConfig, set_seed
    from trl import SFTTrainer

    from lawft_trl.data.chat import end_of_turn
    from lawft_trl.quiet import quiet_libraries
    from lawft_trl.recipe import load_recipe
    from lawft_trl.training import estimate
    from lawft_trl.training.plan import count_rows
    from lawft_trl.training.preflight import (
        encode_role,
        keep_quantized_weights,
        read_roles,
        recipe_tokenizer,
        sft_config,
    )

    quiet_libraries()
    recipe = load_recipe(recipe_file, overrides)
    set_seed(0)
    tokenizer = recipe_tokenizer(recipe)
    encoded = encode_role(recipe, read_roles(recipe)["train"], tokenizer)
    quantization = recipe.values.get("quantization")
    trainer = SFTTrainer(
        model=recipe.model.name_or_path,
        args=sft_config(recipe, work=Path(recipe.values["training"]["output_dir"]), turn_end=end_of_turn(tokenizer, {}), report_to=[], run_name="memory"),
        train_dataset=Dataset.from_list([item.columns for item in encoded]),
        processing_class=tokenizer,
        quantization_config=BitsAndBytesConfig(**quantization) if quantization else None,
        peft_config=LoraConfig(**{"task_type": "CAUSAL_LM", **recipe.values["lora"]}),
    )
    if quantization:
        keep_quantized_weights(trainer.model)
    for weight in trainer.model.parameters():
        weight.data = weight.data.clone()  # off the mapped checkpoint, whose pages would count although the system can drop them
    on_gpu = torch.cuda.is_available() and not recipe.training("use_cpu")
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    else:
        Path("/proc/self/clear_refs").write_text("5")  # the peak of the resident set starts anew: loading is not training
    trainer.train()
    peak = torch.cuda.max_memory_allocated() if on_gpu else peak_resident()
    reserved = torch.cuda.max_memory_reserved() if on_gpu else None
    rows = count_rows(encoded, [])
    memory = estimate.estimate_memory(recipe, estimate.read_config(recipe), rows, libraries=0)
    planned = memory.total - memory.parts.get("fragmentation (allowance)", 0)  # which the allocator does not count as allocated
    print(json.dumps({
        "peak": peak, "reserved": reserved, "planned": planned, "parts": memory.parts, "parameters": memory.parameters,
        "trainable": memory.trainable, "longest": max(rows.lengths), "batch": recipe.training("per_device_train_batch_size"),
    }))  # fmt: skip
    return 0


def peak_resident() -> int:
    """Bytes."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return 1024 * int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])


if __name__ == "__main__":
    sys.exit(main())
