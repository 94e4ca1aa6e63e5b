"""Short trainings in every process of a launch, for tests/test_batches.py: `accelerate launch tests/two_processes.py OUT.json`.

The rows are of very different lengths. The main process writes, for each training, its logged figures and a hash of its adapter.
"""

import hashlib
import json
import random
import sys
from pathlib import Path

import torch
from conftest import TINY_MODEL
from datasets import Dataset
from peft import LoraConfig
from transformers import TrainerCallback, set_seed
from trl import SFTConfig, SFTTrainer

from lawft_trl.training.longest_batch import LongestBatchFirst
from lawft_trl.training.step_batches import balance_processes

ROWS = 22  # of which a step has eight: the last one of an epoch has six


class Stop(TrainerCallback):
    """Ends a training early, as a signal would."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop = state.global_step == self.step


def trainer(out: Path, *, dropout: float = 0.0, saves: bool = False) -> SFTTrainer:
    set_seed(3)
    draw = random.Random(5)
    rows = []
    for _ in range(ROWS):
        length = draw.choice([12, 20, 30, 40, 150])
        rows.append({"input_ids": [draw.randrange(300, 2000) for _ in range(length)], "completion_mask": [0] * (length - 3) + [1] * 3})
    config = SFTConfig(
        output_dir=str(out), use_cpu=True, bf16=False, report_to=[], logging_steps=1, max_steps=5, save_strategy="steps" if saves else "no", save_steps=4, max_length=None,
        per_device_train_batch_size=2, gradient_accumulation_steps=2, learning_rate=1e-3, disable_tqdm=True, dataloader_pin_memory=False,
        gradient_checkpointing=False, seed=3, model_init_kwargs={"device_map": {"": "cpu"}}, completion_only_loss=True,
    )  # fmt: skip
    return SFTTrainer(
        str(TINY_MODEL),
        args=config,
        train_dataset=Dataset.from_list(rows),
        peft_config=LoraConfig(task_type="CAUSAL_LM", r=4, lora_dropout=dropout, target_modules="all-linear"),
    )


def figures(trained: SFTTrainer) -> dict:
    adapter = {name: weight for name, weight in trained.model.named_parameters() if weight.requires_grad}
    digest = hashlib.sha256(b"".join(adapter[name].detach().numpy().tobytes() for name in sorted(adapter))).hexdigest()
    log = [{key: value for key, value in entry.items() if key in ("loss", "grad_norm")} for entry in trained.state.log_history]
    return {"log": [entry for entry in log if "loss" in entry], "adapter": digest}


def main(out: Path) -> None:
    results = {}
    for name in ("drawn", "balanced", "dropout", "tried", "resumed"):
        run = trainer(out.parent / name, dropout=0.0 if name in ("drawn", "balanced") else 0.3, saves=name == "resumed")
        if name != "drawn":
            results["said"] = balance_processes(run)
        collate, tokens = run.data_collator, []
        run.data_collator = lambda rows, collate=collate, tokens=tokens: (tokens.append(len(rows) * max(len(row["input_ids"]) for row in rows)), collate(rows))[1]
        if name == "tried":
            run.add_callback(LongestBatchFirst(run))
        if name == "resumed":  # in its second epoch
            run.add_callback(Stop(4))
            run.train()
            run = trainer(out.parent / name, dropout=0.3)
            balance_processes(run)
            run.train(resume_from_checkpoint=str(out.parent / name / "checkpoint-4"))
        else:
            run.train()
        results[name] = figures(run)
        results[name]["tokens"] = run.accelerator.gather(torch.tensor([sum(tokens)])).tolist()
        results[name]["largest"] = max(run.accelerator.gather(torch.tensor([max(tokens)])).tolist())
    if run.accelerator.is_main_process:
        out.write_text(json.dumps(results), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
