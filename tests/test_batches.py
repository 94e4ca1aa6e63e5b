"""Batches: what is longest comes first, and processes get about as many tokens each."""

import io
import json
import random
import sys

import pytest
import torch
from conftest import QUICKSTART, ROOT, TWO, _run
from hypothesis import given
from hypothesis import settings as example_settings
from hypothesis import strategies as st
from rich.console import Console
from test_shared_prefix import build, encoded, models, write_rows  # noqa: F401 (fixtures)

from lawft_trl.recipe import load_recipe
from lawft_trl.training.estimate import step_shape
from lawft_trl.training.longest_batch import LongestBatchFirst, try_longest_batch_first
from lawft_trl.training.plan import make_plan, print_plan, rows_of
from lawft_trl.training.shared_prefix import share_prefixes
from lawft_trl.training.step_batches import StepBatches, balance_processes, padded, share_out

# Sharing out


def imbalance(work: list[int]) -> float:
    return max(work) / (sum(work) / len(work))


def dealt_in_order(rows, lengths, *, processes, batches, size):
    """As accelerate does it."""
    cut = [rows[start : start + size] for start in range(0, len(rows), size)]
    return [sum(padded(batch, lengths) for batch in cut[process::processes]) for process in range(processes)]


@example_settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(1, 3000), min_size=1, max_size=60), st.integers(1, 5), st.integers(1, 4), st.integers(1, 4), st.booleans())
def test_every_row_once_and_no_batch_larger_than_without(lengths, processes, accumulation, rows, drop_last):
    sampler = StepBatches(range(len(lengths)), lengths, rows=rows, accumulation=accumulation, processes=processes, drop_last=drop_last)
    batches = list(sampler)
    assert len(batches) == len(sampler) and len(batches) % processes == 0
    found = sorted(row for batch in batches for row in batch)
    at_once = rows * processes
    if drop_last:
        assert found == list(range(len(lengths) // at_once * at_once))
    else:
        assert set(found) == set(range(len(lengths)))
        assert len(found) - len(lengths) < processes, "repeated only where a process would get none"
    step = at_once * accumulation
    for number in range(len(lengths) // step):
        mine = range(number * step, (number + 1) * step)
        part = batches[number * processes * accumulation : (number + 1) * processes * accumulation]
        assert sorted(row for batch in part for row in batch) == list(mine), "the rows that the step has anyway"
        longest = max(lengths[row] for row in mine)
        assert max(padded(batch, lengths) for batch in part) <= rows * longest


def test_long_and_short_rows_meet_their_like():
    lengths = [100, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10]
    assert share_out(range(11), lengths, processes=2, batches=1) == [[0], list(range(1, 11))]
    lengths = [50, 50, 20, 20, 20, 20]
    dealt = share_out(range(6), lengths, processes=2, batches=2)
    work = [sum(padded(batch, lengths) for batch in dealt[process::2]) for process in range(2)]
    assert work[0] == work[1] == 90


def test_processes_wait_less_for_each_other():
    draw = random.Random(1)
    lengths = [int(draw.lognormvariate(5.5, 0.8)) + 20 for _ in range(640)]
    before, after = [], []
    for start in range(0, 640, 32):
        rows = list(range(start, start + 32))
        before.append(dealt_in_order(rows, lengths, processes=4, batches=2, size=4))
        dealt = share_out(rows, lengths, processes=4, batches=2)
        after.append([sum(padded(batch, lengths) for batch in dealt[process::4]) for process in range(4)])
    assert sum(map(imbalance, before)) / 20 > 1.25 > 1.1 > sum(map(imbalance, after)) / 20
    assert sum(map(max, after)) < 0.7 * sum(map(max, before)), "the time that all wait for the slowest"


def test_one_process_is_left_as_it_is(models, tiny_tokenizer, encoded, tmp_path):  # noqa: F811
    trainer = build(models["qwen3"], tiny_tokenizer, encoded, tmp_path)
    assert balance_processes(trainer) == "Batches: as they are drawn; one process"
    assert "get_train_dataloader" not in vars(trainer)


# Two processes


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """What tests/two_processes.py found: five trainings in two gloo processes."""
    out = tmp_path_factory.mktemp("two") / "figures.json"
    command = [sys.executable, "-m", "accelerate.commands.launch", *TWO, ROOT / "tests" / "two_processes.py", out]
    _run(command, True, ROOT, {"OMP_NUM_THREADS": "1"})
    return json.loads(out.read_text(encoding="utf-8"))


def test_the_gradient_of_a_step_is_the_same(two):
    assert two["said"] == "Batches: the rows of a step are shared out by tokens among 2 processes"
    drawn, balanced = two["drawn"], two["balanced"]
    assert len(drawn["log"]) == len(balanced["log"]) == 5
    for step, (before, after) in enumerate(zip(drawn["log"], balanced["log"], strict=True)):
        if step < 2:  # the third step has six rows, of which accelerate fills up with the first of the epoch
            assert after == pytest.approx(before, rel=1e-4)
    assert imbalance(balanced["tokens"]) < imbalance(drawn["tokens"])
    assert sum(balanced["tokens"]) < sum(drawn["tokens"])
    assert balanced["largest"] <= drawn["largest"]


def test_a_balanced_training_is_resumed_to_the_bit(two):
    assert two["resumed"]["adapter"] == two["dropout"]["adapter"]
    assert two["resumed"]["log"] == two["dropout"]["log"]


def test_two_processes_try_the_longest_batch_and_train_the_same_to_the_bit(two):
    assert two["tried"]["adapter"] == two["dropout"]["adapter"]
    assert two["tried"]["log"] == two["dropout"]["log"]
    assert sum(two["tried"]["tokens"]) > sum(two["dropout"]["tokens"]), "it was computed"


# The longest batch


@pytest.mark.parametrize(("shared", "accumulation"), [(False, 1), (False, 2), (True, 2)], ids=["rows", "accumulated", "items"])
def test_the_longest_batch_is_computed_first_and_leaves_no_trace(models, tiny_tokenizer, encoded, tmp_path, capsys, shared, accumulation):  # noqa: F811
    settings = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": accumulation, "max_steps": 3, "train_sampling_strategy": "random"}
    logs, weights, shapes = [], [], []
    for first in (False, True):
        trainer = build(models["qwen3"], tiny_tokenizer, encoded, tmp_path, **settings)
        for module in trainer.model.modules():
            if hasattr(module, "lora_dropout"):
                module.lora_dropout["default"] = torch.nn.Dropout(0.3)
        share_prefixes(trainer, encoded, shared)
        seen: list[tuple] = []
        trainer.model.register_forward_pre_hook(lambda model, args, kwargs, seen=seen: seen.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True)
        if first:
            trainer.add_callback(LongestBatchFirst(trainer))
        trainer.train()
        logs.append([{key: value for key, value in entry.items() if "loss" in key or "num_tokens" in key} for entry in trainer.state.log_history])
        weights.append({name: weight.detach().clone() for name, weight in trainer.model.named_parameters() if weight.requires_grad})
        shapes.append(seen)
    longest = max(map(len, trainer.train_dataset["input_ids"]))
    size = trainer.args.per_device_train_batch_size
    assert shapes[1] == [(size, longest), *shapes[0]]
    assert logs[0] == logs[1]
    assert all(torch.equal(weight, weights[1][name]) for name, weight in weights[0].items())
    assert f"Longest batch: {size} × {longest:,} tokens, computed once before the first step; peak memory so far" in capsys.readouterr().out


def test_a_cpu_is_not_tried(models, tiny_tokenizer, encoded, tmp_path):  # noqa: F811
    trainer = build(models["qwen3"], tiny_tokenizer, encoded, tmp_path)
    try_longest_batch_first(trainer)
    assert not any(isinstance(callback, LongestBatchFirst) for callback in trainer.callback_handler.callbacks)


# Plans


def test_a_plan_counts_the_items_that_are_trained(models, tiny_tokenizer, encoded, tmp_path):  # noqa: F811
    train = write_rows(tmp_path / "train.jsonl", 4)

    def recipe(batch: int, accumulation: int):
        data = [f"data.train={train}", "data.dev=null", "data.test=null", "data.shared_prefix=null", "training.max_steps=-1"]
        steps = [f"training.per_device_train_batch_size={batch}", f"training.gradient_accumulation_steps={accumulation}", "training.num_train_epochs=3"]
        return load_recipe(QUICKSTART, [*data, *steps])

    trainer = build(models["qwen3"], tiny_tokenizer, encoded, tmp_path)
    shared = share_prefixes(trainer, encoded, None)
    rows, encode = rows_of(recipe(8, 2))
    assert sorted(rows.lengths) == sorted(map(len, trainer.train_dataset["input_ids"])) and sum(rows.lengths) == shared.item_tokens
    assert sum(rows.supervised) == 2 * 16, "a letter and the end of the turn, of every row"
    trained = trainer.args.per_device_train_batch_size, trainer.args.gradient_accumulation_steps
    assert (rows.per_item, *step_shape(recipe(8, 2), rows)) == (4, *trained)
    apart = encode(recipe(1, 8))
    assert (apart.per_item, len(apart.lengths)) == (1, 16), "one row at a time: an item would be more"

    plan = make_plan(recipe(4, 2))
    assert plan.steps == 3 * 2
    console = Console(record=True, width=200, file=io.StringIO())
    print_plan(plan, console)
    printed = console.export_text()
    assert "16 in 4 items of 4 (data.shared_prefix); tokens min / median / longest" in printed
    assert f"activations, 1 × {max(rows.lengths)} tokens" in printed
