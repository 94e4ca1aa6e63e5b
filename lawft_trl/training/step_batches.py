"""Several processes: the rows of an optimizer step are shared out so that each process computes about as many tokens.

A batch is padded to its longest row, and all processes wait for the one with the most tokens. Dealt in their order, as
accelerate does, one long row makes everyone wait. Here the rows of a step are sorted by length and cut into batches of about
equal size, padding included: few long rows in one, many short ones in another. Which rows a step has does not change, nor
does its gradient but for rounding: the loss is a sum over the supervised tokens of all processes, divided by their number.

transformers has a sampler of this kind, `training.train_sampling_strategy: batch_rebalance`, which draws in an order of its
own that the recipe's seed does not change, and under DDP in that of the first epoch after a resume in a later one (5.23).
"""

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from accelerate.data_loader import BatchSamplerShard, SeedableRandomSampler
from torch.utils.data import BatchSampler, Sampler, SequentialSampler

if TYPE_CHECKING:
    from torch.utils.data import DataLoader
    from trl import SFTTrainer


def balance_processes(trainer: "SFTTrainer") -> str:
    """Makes a built trainer of several processes share out each step's rows by their tokens; leaves one process as it is.

    Returns:
        What was done, or why nothing was.
    """
    why = _obstacle(trainer)
    if why is not None:
        return f"Batches: as they are drawn; {why}"
    trainer.get_train_dataloader = functools.partial(_balanced_loader, trainer, trainer.get_train_dataloader)
    return f"Batches: the rows of a step are shared out by tokens among {trainer.accelerator.num_processes} processes"


def _obstacle(trainer: "SFTTrainer") -> str | None:
    """Why batches stay as they are; `None` where they can be balanced."""
    args, accelerator = trainer.args, trainer.accelerator
    if accelerator.num_processes == 1:
        return "one process"
    if args.train_sampling_strategy not in ("random", "sequential"):
        return f"training.train_sampling_strategy is {args.train_sampling_strategy}"
    settings = args.accelerator_config
    if settings.split_batches or settings.dispatch_batches or not (settings.use_seedable_sampler and settings.even_batches):
        return "training.accelerator_config deals them in another way"
    if accelerator.parallelism_config is not None:
        return "several processes work on the same rows"
    if not (args.average_tokens_across_devices and trainer.model_accepts_loss_kwargs):
        return "the loss is averaged batch by batch, and would weigh rows otherwise (training.average_tokens_across_devices)"
    if trainer.aux_loss_enabled:
        return "the load-balancing loss of a mixture of experts is averaged batch by batch"
    if args.neftune_noise_alpha is not None:
        return "training.neftune_noise_alpha scales its noise by the length of a batch"
    return None


def _balanced_loader(trainer: "SFTTrainer", build: Callable[[], "DataLoader"]) -> "DataLoader":
    """The trainer's own loader with `StepBatches` in the place of its batch sampler."""
    loader = build()
    shard = loader.batch_sampler
    if not isinstance(shard, BatchSamplerShard) or not isinstance(shard.batch_sampler.sampler, SeedableRandomSampler | SequentialSampler):
        raise RuntimeError("accelerate shares out batches otherwise than the tested version does (see constraints.txt)")
    shard.batch_sampler = StepBatches(
        shard.batch_sampler.sampler,
        row_lengths(trainer),
        rows=trainer._train_batch_size,
        accumulation=trainer.args.gradient_accumulation_steps,
        processes=shard.num_processes,
        drop_last=shard.drop_last,
    )
    shard.batch_size = None  # for accelerate: they hold different numbers of rows
    return loader


def row_lengths(trainer: "SFTTrainer") -> list[int]:
    """Tokens of each row (or item of several rows) of the trainer's training set."""
    return [len(ids) for ids in trainer.train_dataset["input_ids"]]


class StepBatches(BatchSampler):
    """The batches of all processes, step by step; accelerate gives each process its every `processes`-th one.

    Args:
        sampler: the order of the rows, the same in all processes; a step has those it would have without balancing.
        lengths: tokens of each row.
        rows: rows of an unbalanced batch. No batch here is larger than so many of the step's longest row.
        accumulation: batches per process and step.
        processes: how many there are.
        drop_last: whether rows that do not fill a batch of every process are left out at the end of an epoch. Otherwise the last
            step has fewer rows, and only where processes would get none are some of the first repeated.
    """

    def __init__(
        self, sampler: Sampler[int], lengths: Sequence[int], *, rows: int, accumulation: int, processes: int, drop_last: bool = False
    ) -> None:
        self.sampler = sampler  # accelerate tells it the epoch
        self.batch_size = None
        self.drop_last = drop_last
        self.lengths = lengths
        self.processes = processes
        at_once = rows * processes
        count = len(lengths) // at_once * at_once if drop_last else len(lengths)
        full, rest = divmod(count, at_once * accumulation)
        self._steps = [(at_once * accumulation, accumulation)] * full  # rows, batches per process
        if rest:
            self._steps.append((rest, math.ceil(rest / at_once)))

    def __len__(self) -> int:
        return self.processes * sum(batches for _, batches in self._steps)

    def __iter__(self) -> Iterator[list[int]]:
        order, start = list(self.sampler), 0
        for count, batches in self._steps:
            chosen = order[start : start + count]
            start += count
            missing = max(0, batches * self.processes - count)
            chosen += (order * math.ceil(missing / len(order)))[:missing]
            yield from share_out(chosen, self.lengths, processes=self.processes, batches=batches)

    def largest(self) -> list[int]:
        """The batch of the first epoch with most tokens, padding included."""
        return max(self, key=lambda batch: padded(batch, self.lengths))


def padded(batch: Sequence[int], lengths: Sequence[int]) -> int:
    """Tokens of a batch, padding included."""
    return len(batch) * max(lengths[row] for row in batch)


def share_out(rows: Sequence[int], lengths: Sequence[int], *, processes: int, batches: int) -> list[list[int]]:
    """Cuts the rows of a step into batches and deals these to processes.

    Args:
        rows: at least one for every batch.
        lengths: tokens of each row of the training set.
        processes: how many.
        batches: how many each of them gets.

    Returns:
        `batches × processes` batches, the first of each process, then the second of each, larger ones first.
    """
    cost = functools.partial(padded, lengths=lengths)
    cut = sorted(_cut(sorted(rows, key=lambda row: -lengths[row]), lengths, processes * batches), key=cost, reverse=True)
    work, dealt = [0] * processes, []
    for start in range(0, len(cut), processes):
        # Batches that are computed at the same time are about equally large; the largest for who has had least
        hands = dict(zip(sorted(range(processes), key=work.__getitem__), cut[start : start + processes], strict=True))
        for process in range(processes):
            work[process] += cost(hands[process])
            dealt.append(hands[process])
    if sorted(row for batch in dealt for row in batch) != sorted(rows):
        raise RuntimeError("a row was lost when a step was shared out")
    return dealt


def _cut(rows: Sequence[int], lengths: Sequence[int], count: int) -> list[list[int]]:
    """`count` batches of rows that are sorted from the longest, the largest as small as it can be."""
    low, high = lengths[rows[0]], len(rows) * lengths[rows[0]]
    while low < high:
        limit = (low + high) // 2
        low, high = (low, limit) if len(_fill(rows, lengths, limit)) <= count else (limit + 1, high)
    cut = _fill(rows, lengths, low)
    while len(cut) < count:
        largest = max((batch for batch in cut if len(batch) > 1), key=lambda batch: padded(batch, lengths))
        cut.remove(largest)
        cut += [largest[: len(largest) // 2], largest[len(largest) // 2 :]]
    return cut


def _fill(rows: Sequence[int], lengths: Sequence[int], limit: int) -> list[list[int]]:
    """Batches of at most `limit` tokens each, padding included; `limit` is at least that of the first row."""
    filled, start = [], 0
    while start < len(rows):
        size = limit // lengths[rows[start]]
        filled.append(list(rows[start : start + size]))
        start += size
    return filled
