"""Whether a run's checkpoints and adapter fit the disk, and what is said when it runs full all the same."""

import errno
import math
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from lawft_trl.errors import InputError
from lawft_trl.recipe import Recipe
from lawft_trl.training.estimate import optimizer, optimizer_bytes
from lawft_trl.training.punctuation_rows import embedding_bytes

if TYPE_CHECKING:
    from trl import SFTTrainer

_MIB = 2**20
_SMALL_FILES = _MIB  # states of scheduler and random generators, log, README, settings
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# How safetensors (Rust) and torch's archive writer (C++) say it; the latter gives no reason, only that a write failed.
_FULL_WORDS = ("No space left on device", "Disk quota exceeded", "File too large", "PytorchStreamWriter failed", "inline_container.cc")


def refuse_small_disk(trainer: "SFTTrainer", recipe: Recipe, work: Path) -> None:
    """Compares what the run will write with what is free where it will write it.

    Args:
        trainer: built, not yet training.
        recipe: the resolved recipe.
        work: the folder the run trains in; it need not exist.

    Raises:
        InputError: with the figures, when it cannot fit.
    """
    final, checkpoint = written_bytes(trainer, recipe)
    kept = checkpoints_at_once(trainer)
    there = sum(file.stat().st_size for file in work.glob("checkpoint-*/**/*") if file.is_file())  # they make way for new ones
    place = next(path for path in (work, *work.resolve().parents) if path.exists())
    needed, free = final + kept * checkpoint - there, shutil.disk_usage(place).free
    if needed <= free:
        return
    parts = f"{kept} checkpoint(s) at once of {_mib(checkpoint)} each, and {_mib(final)} at the end"
    mends = [
        "make room, or give a training.output_dir on another disk",
        *(["keep fewer: training.save_total_limit=1 (one more is there while it is written)"] if kept > 2 else []),
        *(["training.save_strategy=no keeps none, and an interrupted run begins anew"] if kept else []),
    ]
    raise InputError(f"{work}: the run will write {_mib(needed)} ({parts}), and {_mib(free)} are free; nothing was trained", mends)


def written_bytes(trainer: "SFTTrainer", recipe: Recipe) -> tuple[int, int]:
    """Bytes of the finished run and of one checkpoint."""
    trained = [weight for weight in trainer.model.parameters() if weight.requires_grad]
    sizes = [weight.numel() for weight in trained]
    weights = sum(weight.numel() * weight.element_size() for weight in trained)
    tokenizer = len(trainer.processing_class.backend_tokenizer.to_str(pretty=True).encode())
    final = weights + embedding_bytes(trainer.model) + tokenizer + _SMALL_FILES
    return final, final + optimizer_bytes(optimizer(recipe), sizes, max((weight.element_size() for weight in trained), default=4))


def checkpoints_at_once(trainer: "SFTTrainer") -> int:
    """The most checkpoints that will stand side by side; an old one goes only after the new one is there."""
    args = trainer.args
    if args.save_strategy == "no":
        return 0
    batches = math.ceil(len(trainer.train_dataset) / (args.per_device_train_batch_size * args.world_size))
    per_epoch = max(1, math.ceil(batches / args.gradient_accumulation_steps))
    steps = args.max_steps if args.max_steps > 0 else math.ceil(per_epoch * args.num_train_epochs)
    each = args.save_steps if args.save_strategy == "steps" else args.eval_steps if args.save_strategy == "best" and args.eval_strategy == "steps" else per_epoch
    each = each * steps if each and each < 1 else each or 1  # below 1 it is a share of all steps
    saves = math.ceil(steps / each)
    if not args.save_total_limit or args.save_total_limit < 0:
        return saves
    return min(saves, max(args.save_total_limit, 2 if args.load_best_model_at_end else 1) + 1)


def is_out_of_space(error: BaseException) -> bool:
    """Whether a failed write says that the disk, a quota or a limit is full."""
    if isinstance(error, OSError):
        return error.errno in _FULL
    return any(words in str(error) for words in _FULL_WORDS)


def _mib(size: int) -> str:
    return f"{size / _MIB:,.1f} MiB"
