"""Training speed beside plain `trl sft`: the same rows, model, tokens and settings, in one run.

    python scripts/bench_train.py --lawqa lawqa_jp --tokenizer Qwen/Qwen3-0.6B --chat-template template.jinja

Three programs train the same steps on permuted lawqa_jp rows, once with the deciding statutes (gold) and once with the three
best passages of a search (rag): `trl sft`, this project's launcher row by row, and the launcher with shared prefixes. The
model is a small Qwen3 with random weights. Its tokenizer is the real one, cut to the tokens that occur, which leaves every
row's tokens as they are: on a CPU TRL projects every position onto the vocabulary, on a GPU only the labelled ones, and
150,000 unused words would be most of the work. LoRA dropout is off, so losses and gradient norms of the three must agree, to
the four digits that are logged; where they do not, the script ends with 1. Speeds are of the steps after the warm-up, by the time stamps of their log lines, the best
of all rounds; peak memory is the resident set of the program and its children.
"""

import argparse
import ast
import csv
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the script also runs where the package is not installed

from lawft_trl.data.chat import encode, end_of_turn, load_tokenizer, prompt_text
from lawft_trl.data.rows import Row, read_rows
from lawft_trl.quiet import quiet_libraries

ROOT = Path(__file__).resolve().parents[1]
KWARGS = {"enable_thinking": False}
PROGRAMS = ("trl sft", "lawft, row by row", "lawft, shared prefixes")
# Both command lines get these; batches as in recipes/parents/small_set.yaml, rows in their order so that all do the same.
TRAINING = {
    "per_device_train_batch_size": 2,
    "gradient_accumulation_steps": 4,
    "learning_rate": 1e-4,
    "lr_scheduler_type": "constant",
    "train_sampling_strategy": "sequential",
    "gradient_checkpointing": True,
    "optim": "adamw_torch",
    "max_grad_norm": 1.0,
    "logging_steps": 1,
    "save_strategy": "no",
    "use_cpu": True,
    "bf16": False,
    "dataloader_pin_memory": False,
    "seed": 42,
}
ROWS_PER_STEP = TRAINING["per_device_train_batch_size"] * TRAINING["gradient_accumulation_steps"]
LORA = {"r": 16, "lora_alpha": 32, "lora_dropout": 0.0}


@dataclass(frozen=True)
class Result:
    """One program's run.

    Attributes:
        seconds: of the steps after the warm-up.
        memory: peak resident set in GiB.
        curve: (loss, gradient norm) of every step, in the four digits that are logged.
        said: what the launcher said of shared prefixes.
    """

    seconds: float
    memory: float
    curve: list[tuple[float, float]]
    said: str


def main() -> int:
    options = arguments()
    quiet_libraries()
    os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": str(options.threads)}
    agreed = True
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        data = [sys.executable, "-m", "lawft_trl.cli", "data", "lawqa", "--from", options.lawqa, "--out", work / "data", "--top-k", "3"]
        subprocess.run(list(map(str, data)), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT)
        tokenizer = load_tokenizer(options.tokenizer, template=options.chat_template)
        print(f"Qwen3 with hidden size {options.hidden} and {options.layers} layers, float32, LoRA, {options.threads} CPU threads")
        for pattern in options.patterns:
            agreed &= compare(work / pattern, work / "data" / f"direct_{pattern}", tokenizer, options)
    return 0 if agreed else 1


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lawqa", default=os.environ.get("LAWFT_LAWQA_DIR"), help="a clone of lawqa_jp (default: $LAWFT_LAWQA_DIR)")
    parser.add_argument("--tokenizer", default=os.environ.get("LAWFT_QWEN2_TOKENIZER"), help="name or folder (default: $LAWFT_QWEN2_TOKENIZER)")
    parser.add_argument("--chat-template", type=Path, help="a .jinja file, where the tokenizer has none")
    parser.add_argument("--patterns", nargs="+", default=["gold", "rag"], choices=["gold", "rag"])
    parser.add_argument("--steps", type=int, default=10, help=f"measured steps of {ROWS_PER_STEP} rows (default 10)")
    parser.add_argument("--warm-up", type=int, default=2, help="steps before them (default 2)")
    parser.add_argument("--rounds", type=int, default=2, help="how often each program runs, in turn (default 2)")
    parser.add_argument("--max-length", type=int, default=2048, help="longer rows are left out (default 2048)")
    parser.add_argument("--hidden", type=int, default=256, help="hidden size of the random model (default 256)")
    parser.add_argument("--layers", type=int, default=4, help="its layers (default 4)")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (default 2)")
    options = parser.parse_args()
    if not options.lawqa or not options.tokenizer:
        parser.error("name lawqa_jp (--lawqa) and the tokenizer (--tokenizer)")
    return options


def compare(work: Path, rows_folder: Path, tokenizer, options: argparse.Namespace) -> bool:
    """Runs the three programs on one kind of rows and prints their table; whether their losses agree."""
    work.mkdir()
    (file,) = rows_folder.glob("train_*.jsonl")
    turn_end = end_of_turn(tokenizer, KWARGS)
    texts = {row.source: (prompt_text(tokenizer, row.prompt, KWARGS), row.output + turn_end) for row in read_rows(file)}
    rows = chosen(read_rows(file), {source: len(encode(tokenizer, "".join(pair))) for source, pair in texts.items()}, options)
    tokens = [len(encode(tokenizer, "".join(texts[row.source]))) for row in rows]
    small = cut_tokenizer(tokenizer, ["".join(texts[row.source]) for row in rows])
    save_model(small, work / "model", options)
    write_inputs(work, file, rows, texts, turn_end)
    commands = {name: command(name, work, options) for name in PROGRAMS}
    results: dict[str, list[Result]] = {name: [] for name in PROGRAMS}
    for _ in range(options.rounds):
        for name in PROGRAMS:
            results[name].append(measure(commands[name], options, work))
    measured = tokens[options.warm_up * ROWS_PER_STEP :]
    print(f"\n{rows_folder.name}: {len(measured)} rows of {sum(measured) / len(measured):.0f} tokens on average, {len(small):,} tokens in the vocabulary")
    print(f"{'':24}{'rows/s':>10}{'tokens/s':>10}{'peak GiB':>10}{'against trl sft':>17}")
    best = {name: min(result.seconds for result in results[name]) for name in PROGRAMS}
    for name in PROGRAMS:
        memory = min(result.memory for result in results[name])
        speed = f"{len(measured) / best[name]:10.2f}{sum(measured) / best[name]:10.0f}{memory:10.2f}"
        print(f"{name:24}{speed}{best[PROGRAMS[0]] / best[name]:16.2f}x")
    print(results[PROGRAMS[2]][0].said)
    reference = results[PROGRAMS[0]][0].curve
    curves = [result.curve for name in PROGRAMS for result in results[name]]
    gap = max(abs(a - b) / b for curve in curves for step, same in zip(curve, reference, strict=True) for a, b in zip(step, same, strict=True))
    print(f"loss from {reference[0][0]:.4f} to {reference[-1][0]:.4f}; losses and gradient norms of the three differ by at most {gap:.1e} of their value")
    return gap < 2e-3


def chosen(rows: list[Row], lengths: dict[str, int], options: argparse.Namespace) -> list[Row]:
    """Whole questions in all their orders, of all lengths alike, as many as the steps need, mixed."""
    questions: dict[str, list[Row]] = {}
    for row in rows:
        questions.setdefault(row.id, []).append(row)
    fitting = [copies for copies in questions.values() if max(lengths[row.source] for row in copies) <= options.max_length]
    fitting.sort(key=lambda copies: lengths[copies[0].source])
    needed = (options.warm_up + options.steps) * ROWS_PER_STEP // 4
    if needed > len(fitting):
        sys.exit(f"{needed} questions are needed and {len(fitting)} have rows of at most {options.max_length} tokens; lower --steps")
    picked = [fitting[place * len(fitting) // needed] for place in range(needed)]
    random.Random(0).shuffle(picked)
    return [row for copies in picked for row in copies]


def cut_tokenizer(tokenizer, texts: list[str]):
    """The byte-level BPE tokenizer with only the tokens that the texts need; it splits those texts as before.

    A token stays if it occurs, is a single byte or a special one, or is merged into one that stays. Every merge that was
    used is among tokens that stay, and merges that were not used change nothing.
    """
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    state = json.loads(tokenizer.backend_tokenizer.to_str())
    vocabulary, merges = state["model"]["vocab"], [tuple(merge) for merge in state["model"]["merges"]]
    parts: dict[str, list[str]] = {}
    for left, right in merges:
        parts.setdefault(left + right, []).extend((left, right))
    special = {token["content"] for token in state["added_tokens"]}
    open_tokens = [token for token in vocabulary if len(token) == 1]
    open_tokens += {token for text in texts for token in tokenizer.convert_ids_to_tokens(encode(tokenizer, text))} - special
    kept: set[str] = set()
    while open_tokens:
        token = open_tokens.pop()
        if token not in kept:
            kept.add(token)
            open_tokens += parts.get(token, ())
    state["model"]["vocab"] = {token: index for index, token in enumerate(sorted(kept, key=vocabulary.__getitem__))}
    state["model"]["merges"] = [[left, right] for left, right in merges if {left, right, left + right} <= kept]
    for index, token in enumerate(state["added_tokens"]):
        token["id"] = len(kept) + index
    small = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(state)),
        eos_token=tokenizer.eos_token,
        pad_token=tokenizer.pad_token or tokenizer.eos_token,
        chat_template=tokenizer.chat_template,
    )
    for text in texts:
        before, after = (each.convert_ids_to_tokens(encode(each, text)) for each in (tokenizer, small))
        if before != after:
            raise RuntimeError(f"the cut tokenizer splits {text[:40]!r} otherwise")
    return small


def save_model(tokenizer, folder: Path, options: argparse.Namespace) -> None:
    from transformers import Qwen3Config, Qwen3ForCausalLM, set_seed

    set_seed(0)
    config = Qwen3Config(
        vocab_size=-(-len(tokenizer) // 64) * 64,
        hidden_size=options.hidden,
        intermediate_size=3 * options.hidden,
        num_hidden_layers=options.layers,
        num_attention_heads=options.hidden // 64,
        num_key_value_heads=max(1, options.hidden // 128),
        head_dim=64,
        max_position_embeddings=8192,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    Qwen3ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def write_inputs(work: Path, file: Path, rows: list[Row], texts: dict[str, tuple[str, str]], turn_end: str) -> None:
    """The rows as `lawft data` wrote them, the same as prompt and completion, and both programs' settings."""
    lines = file.read_text(encoding="utf-8").splitlines()
    (work / "rows.jsonl").write_text("".join(lines[int(row.source.rpartition(":")[2]) - 1] + "\n" for row in rows), encoding="utf-8")
    (work / "trl").mkdir()
    pairs = [dict(zip(("prompt", "completion"), texts[row.source], strict=True)) for row in rows]
    (work / "trl" / "train.jsonl").write_text("".join(json.dumps(pair, ensure_ascii=False) + "\n" for pair in pairs), encoding="utf-8")
    steps = {"max_steps": len(rows) // ROWS_PER_STEP, "max_length": None}
    flat = {"model_name_or_path": str(work / "model"), "dtype": "float32", "attn_implementation": "sdpa", "eos_token": turn_end}
    flat |= {"dataset_name": str(work / "trl"), "output_dir": str(work / "trl_out"), "use_peft": True, "lora_target_modules": ["all-linear"]}
    flat |= {("lora_r" if key == "r" else key): value for key, value in LORA.items()} | TRAINING | steps
    (work / "trl.yaml").write_text(json.dumps(flat), encoding="utf-8")  # JSON is YAML
    recipe = {
        "pattern": {"answer": "direct", "statutes": "gold" if file.parent.name.endswith("gold") else "retrieved"},
        "data": {"train": str(work / "rows.jsonl")},
        "model": {"name_or_path": str(work / "model"), "dtype": "float32", "attn_implementation": "sdpa"},
        "lora": {**LORA, "target_modules": "all-linear"},
        "training": {**TRAINING, **steps},
    }
    (work / "recipe.yaml").write_text(json.dumps(recipe), encoding="utf-8")


def command(name: str, work: Path, options: argparse.Namespace) -> list[str]:
    if name == PROGRAMS[0]:
        return [str(Path(sys.executable).with_name("trl")), "sft", "--config", str(work / "trl.yaml")]
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(ROOT / "accelerate_configs" / "cpu.yaml")]
    shared = "true" if name == PROGRAMS[2] else "false"
    overrides = [f"data.shared_prefix={shared}", f"training.output_dir={work / 'run'}", "--force"]
    return [*launch, str(ROOT / "lawft_trl" / "sft.py"), str(work / "recipe.yaml"), *overrides]


def measure(program: list[str], options: argparse.Namespace, work: Path) -> Result:
    """Runs a program and stamps its log lines, one a step, as they come."""
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    stamps, curve, said, errors = [], [], "", work / "stderr.txt"
    with errors.open("w") as stream:
        process = subprocess.Popen(program, stdout=subprocess.PIPE, stderr=stream, text=True, env=environment, cwd=ROOT)
        for line in process.stdout:
            if "'loss': " in line:  # TRL prints what it logs, the launcher a line of text and keeps the figures in its folder
                stamps.append(time.monotonic())
                entry = ast.literal_eval(line[line.index("{") :].strip())
                curve.append((float(entry["loss"]), float(entry["grad_norm"])))
            elif line.startswith("step ") and " | loss " in line:
                stamps.append(time.monotonic())
            elif line.startswith("Shared prefixes: "):
                said = line.strip()
        _, status, usage = os.wait4(process.pid, 0)
    if status != 0 or len(stamps) != options.warm_up + options.steps:
        sys.exit(f"{' '.join(program)} ended with {os.waitstatus_to_exitcode(status)} after {len(stamps)} steps:\n{errors.read_text()[-3000:]}")
    return Result(stamps[-1] - stamps[options.warm_up - 1], usage.ru_maxrss / 2**20, curve or logged_curve(work / "run"), said)


def logged_curve(run: Path) -> list[tuple[float, float]]:
    """(loss, gradient norm) of every step, in as many digits as TRL prints."""
    with (run / "training_metrics.csv").open(encoding="utf-8", newline="") as stream:
        logged = [(float(line["loss"]), float(line["grad_norm"])) for line in csv.DictReader(stream) if line["loss"]]
    return [(float(f"{loss:.4g}"), float(f"{norm:.4g}")) for loss, norm in logged]


if __name__ == "__main__":
    sys.exit(main())
