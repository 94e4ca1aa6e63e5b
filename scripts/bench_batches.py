"""Tokens of each process and step under DDP: rows dealt as they are drawn and shared out by tokens, side by side in one run.

    python scripts/bench_batches.py
    python scripts/bench_batches.py --train 'data/lawqa/direct_rag/train_*.jsonl' --tokenizer Qwen/Qwen3-0.6B

Two processes on the CPU (gloo) train the bundled tiny model for one epoch on random tokens, in rows whose lengths are drawn from a
log-normal distribution, or are those of the rows of a file. Both ways take turns. Printed are the tokens of the
process that has most in a step, divided by the mean of the processes (1.00: nobody waits), the tokens all wait for, the share
of padding, and the seconds. Seconds on a shared machine are noise; tokens are exact.
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # the script also runs where the package is not installed

TINY = ROOT / "lawft_trl" / "assets" / "tiny_model"
PROCESSES = 2
WAYS = ("as drawn", "by tokens")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=96, help="how many rows are drawn")
    parser.add_argument("--train", help="rows whose lengths are taken instead, as `lawft data` writes them")
    parser.add_argument("--tokenizer", default=str(TINY), help="which counts their tokens")
    parser.add_argument("--shrink", type=int, default=1, help="rows of so many times fewer tokens: a CPU is slow")
    parser.add_argument("--batch", type=int, default=4, help="rows of a batch, as a recipe would say")
    parser.add_argument("--accumulation", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2, help="how often each way is trained")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        return child(options)
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", ROOT / "accelerate_configs" / "multi_gpu.yaml"]
    command = [*launch, "--num_processes", str(PROCESSES), __file__, "--child", *sys.argv[1:]]
    quiet = {"TOKENIZERS_PARALLELISM": "false", "PYTHONWARNINGS": "ignore", "TQDM_DISABLE": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
    return subprocess.run(list(map(str, command)), env={"OMP_NUM_THREADS": "1", **os.environ, **quiet}).returncode


def row_lengths(options: argparse.Namespace) -> list[int]:
    """Tokens of each row."""
    if options.train is None:
        draw = random.Random(0)
        return [min(1024, 24 + int(draw.lognormvariate(4.6, 0.9))) for _ in range(options.rows)]
    import glob

    from lawft_trl.data.chat import load_tokenizer
    from lawft_trl.data.rows import read_rows
    from lawft_trl.training.supervision import encode_rows

    rows = [row for file in sorted(glob.glob(options.train)) for row in read_rows(Path(file))]
    encoded = encode_rows(rows, load_tokenizer(options.tokenizer), template_kwargs={"enable_thinking": False}, max_length=None)
    return [max(8, len(item.input_ids) // options.shrink) for item in encoded]


def child(options: argparse.Namespace) -> int:
    """One of the processes: trains both ways in turns; the first prints."""
    from accelerate.utils import gather_object

    lengths = row_lengths(options)
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    micro: dict[str, list[tuple[int, int]]] = {}
    losses: dict[str, list[float]] = {}
    for round_number in range(options.rounds):
        for way in WAYS if round_number % 2 == 0 else WAYS[::-1]:
            with tempfile.TemporaryDirectory() as folder:
                took, micro[way], losses[way] = train(options, lengths, way, folder)
            seconds[way].append(took)
    everyone = {way: gather_object([micro[way]]) for way in WAYS}
    if int(os.environ.get("RANK", "0")) == 0:
        report(options, lengths, everyone, seconds, losses)
    return 0


def train(options: argparse.Namespace, lengths: list[int], way: str, folder: str) -> tuple[float, list[tuple[int, int]], list[float]]:
    """Seconds of one epoch, `(tokens with padding, without)` of this process's batches, and the losses."""
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import set_seed
    from trl import SFTConfig, SFTTrainer

    from lawft_trl.training.step_batches import balance_processes

    set_seed(0)
    draw = random.Random(1)
    rows = [
        {"input_ids": [draw.randrange(300, 2000) for _ in range(length)], "completion_mask": [0] * (length - 2) + [1, 1]} for length in lengths
    ]
    config = {"use_cpu": True, "bf16": False, "gradient_checkpointing": False, "report_to": [], "disable_tqdm": True, "save_strategy": "no"}
    config |= {"per_device_train_batch_size": options.batch, "gradient_accumulation_steps": options.accumulation, "num_train_epochs": 1}
    config |= {"max_length": None, "logging_steps": 1, "dataloader_pin_memory": False, "completion_only_loss": True}
    trainer = SFTTrainer(
        str(TINY),
        args=SFTConfig(output_dir=folder, model_init_kwargs={"device_map": {"": "cpu"}}, **config),
        train_dataset=Dataset.from_list(rows),
        peft_config=LoraConfig(task_type="CAUSAL_LM", r=8, lora_dropout=0.0, target_modules="all-linear"),
    )
    if way == WAYS[1]:
        balance_processes(trainer)
    sizes: list[tuple[int, int]] = []
    trainer.model.register_forward_pre_hook(
        lambda model, args, kwargs: sizes.append((kwargs["attention_mask"].numel(), int(kwargs["attention_mask"].sum()))), with_kwargs=True
    )
    trainer.accelerator.wait_for_everyone()
    started = time.monotonic()
    trainer.log = lambda logs, *_: trainer.state.log_history.append(logs)  # nothing printed
    trainer.train()
    return time.monotonic() - started, sizes, [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def report(
    options: argparse.Namespace,
    lengths: list[int],
    everyone: dict[str, list[list[tuple[int, int]]]],
    seconds: dict[str, list[float]],
    losses: dict[str, list[float]],
) -> None:
    rows = f"{len(lengths)} rows of {min(lengths)} to {max(lengths)} tokens (mean {sum(lengths) / len(lengths):.0f})"
    print(f"{rows}, {PROCESSES} processes, {options.batch} rows × {options.accumulation} accumulated\n")
    print("| rows of a step | most / mean | tokens all wait for | padding | seconds |\n|---|---|---|---|---|")
    waited = {}
    for way in WAYS:
        steps = [
            [sum(tokens for tokens, _ in batches[start : start + options.accumulation]) for batches in everyone[way]]
            for start in range(0, len(everyone[way][0]), options.accumulation)
        ]
        most = [max(step) for step in steps]
        spread = sum(max(step) * len(step) / sum(step) for step in steps) / len(steps)
        padded, real = (sum(batch[at] for batches in everyone[way] for batch in batches) for at in (0, 1))
        waited[way] = sum(most)
        print(f"| {way} | {spread:.3f} | {sum(most):,} | {100 * (1 - real / padded):.1f} % | {', '.join(f'{each:.1f}' for each in seconds[way])} |")
    difference = max(abs(first - second) / first for first, second in zip(losses[WAYS[0]], losses[WAYS[1]], strict=True))
    faster = sum(seconds[WAYS[0]]) / sum(seconds[WAYS[1]])
    print(f"\n{waited[WAYS[0]] / waited[WAYS[1]]:.2f} times fewer tokens to wait for, {faster:.2f} times the speed; losses of full steps apart by {difference:.1e}")


if __name__ == "__main__":
    sys.exit(main())
