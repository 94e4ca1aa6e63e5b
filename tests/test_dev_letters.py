"""Letters of the dev questions during training: by the user's own launcher, and what its figures and alarms rest on."""

import csv
import itertools
import json
import math
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import CPU, NF4, QUICKSTART, ROOT, TWO, adapter, rows_file, run_sft, settings

from lawft_trl.data.chat import load_tokenizer
from lawft_trl.data.questions import LETTERS, ORDERS
from lawft_trl.data.rows import read_rows
from lawft_trl.errors import InputError
from lawft_trl.evaluation.asking import ask, unique_questions
from lawft_trl.evaluation.letters import score_letters
from lawft_trl.evaluation.loading import load_tuned
from lawft_trl.evaluation.metrics import Prediction
from lawft_trl.recipe import Recipe, load_recipe
from lawft_trl.recipe_rules import _LETTER_METRICS
from lawft_trl.run_dir import read_run
from lawft_trl.sft import main
from lawft_trl.training.dev_letters import DevLetters, alarms, ask_dev_questions, letter_metrics, watch_dev_letters
from lawft_trl.training.preflight import REHEARSAL

KEYS = {f"eval_{name}" for name in (*_LETTER_METRICS, "letter_share_a", "letter_share_b", "letter_share_c", "letter_share_d", "letter_alarm")}
EVALUATED = ["training.max_steps=6", "training.eval_strategy=steps", "training.eval_steps=2", "training.per_device_train_batch_size=4"]
BEST = ["training.save_strategy=steps", "training.save_steps=2", "training.load_best_model_at_end=true"]
FREE = {"input": "次の文を要約せよ。", "output": "要約です。"}
FOREIGN = {"input": "正しいものはどれか。\na 甲\nb 乙\nc 丙\nd 丁\n", "output": "b"}


@pytest.fixture(scope="module")
def dev(sample_data, tmp_path_factory) -> Path:
    """Eleven questions that can be put in four orders, one that stands as it is, and a row that is no question: 45 prompts."""
    file = tmp_path_factory.mktemp("dev") / "dev.jsonl"
    lines = rows_file(sample_data, "dev").read_text(encoding="utf-8").splitlines()[:11]
    file.write_text("".join(line + "\n" for line in [*lines, *(json.dumps(row) for row in (FOREIGN, FREE))]), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def small(sample_data, tmp_path_factory) -> list[str]:
    """Settings for a few steps on the first 300 rows, which are quickly encoded, and without held-out ones."""
    file = tmp_path_factory.mktemp("small") / "train.jsonl"
    lines = rows_file(sample_data, "train").read_text(encoding="utf-8").splitlines()[:300]
    file.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return [*settings(sample_data, Path("unset")), f"data.train={file}", "data.test=null"]


@pytest.fixture(scope="module")
def watched(small, dev, tmp_path_factory) -> Path:
    """Six steps by `accelerate launch`, evaluated after every second one; the checkpoint is chosen by the letters."""
    run = tmp_path_factory.mktemp("watched") / "run"
    result = run_sft(QUICKSTART, *for_watched(small, dev, run), launcher=CPU, check=True)
    assert result.stdout.count("dev questions right by their letters:") == 4
    assert "before the training -> " in result.stdout and "at step 6" in result.stdout
    return run


def for_watched(small: list[str], dev: Path, run: Path) -> list[str]:
    chosen = [*BEST, "training.metric_for_best_model=eval_letter_accuracy"]
    return [*small, *EVALUATED, *chosen, f"data.dev={dev}", f"training.output_dir={run}"]


def log_of(run: Path) -> list[dict[str, float]]:
    """`training_metrics.csv`, without the empty cells."""
    with (run / "training_metrics.csv").open(encoding="utf-8", newline="") as stream:
        return [{key: float(value) for key, value in line.items() if value} for line in csv.DictReader(stream)]


def letters_of(run: Path) -> list[dict[str, float]]:
    return [{key: entry[key] for key in ("step", *KEYS)} for entry in log_of(run) if set(entry) >= KEYS]


def scored_again(run: Path, dev: Path) -> dict[str, float]:
    """The figures of the saved adapter, loaded as `lawft eval` does."""
    finished = read_run(run)
    tokenizer = load_tokenizer(str(run))
    rows = unique_questions([row for row in read_rows(dev) if row.gold])
    asked = ask(rows, tokenizer, finished.recipe.pattern.chat_template_kwargs)
    assert len(asked) == 11 * 4 + 1
    model = load_tuned(finished)
    return letter_metrics(score_letters(model, asked, pad_token_id=tokenizer.pad_token_id, batch_size=5, progress="again"))


def trained_here(monkeypatch, *overrides: str, resume: str | None = None) -> Recipe:
    """The launcher's own `main` in this process, which saves the seconds of a start."""
    monkeypatch.chdir(ROOT)
    recipe = load_recipe(QUICKSTART, list(overrides))
    main(recipe, resume=resume)
    return recipe


def test_every_evaluation_is_followed_by_its_letters(watched):
    lines = log_of(watched)
    assert [line["step"] for line in lines] == list(range(7)), "one line for each step, whatever was logged at it"
    assert [line["step"] for line in lines if set(line) >= KEYS] == [0, 2, 4, 6], "the first is the model before the training"
    assert all(set(line) >= KEYS | {"loss", "eval_loss"} for line in lines[2::2])
    assert all("entropy" in line for line in lines[1:])
    log = json.loads((watched / "checkpoint-6" / "trainer_state.json").read_text(encoding="utf-8"))["log_history"]
    for before, entry in itertools.pairwise(log):
        if set(entry) >= KEYS:
            assert set(entry) == KEYS | {"step", "epoch"}, "TRL's running means stay out of this entry"
            assert "eval_loss" in before and before["step"] == entry["step"]
            assert sum(entry[f"eval_letter_share_{letter}"] for letter in LETTERS) == pytest.approx(1)
            assert 0 <= entry["eval_letter_entropy"] <= 2
    assert [{key: entry[key] for key in ("step", *KEYS)} for entry in log if set(entry) >= KEYS] == letters_of(watched)


def test_the_best_checkpoint_is_the_one_with_most_right_letters(watched):
    state = json.loads((watched / "checkpoint-6" / "trainer_state.json").read_text(encoding="utf-8"))
    accuracies = {int(entry["step"]): entry["eval_letter_accuracy"] for entry in letters_of(watched) if entry["step"]}
    assert state["best_metric"] == max(accuracies.values()), "the greatest is the best, not the smallest"
    assert state["best_global_step"] == max(accuracies, key=lambda step: (accuracies[step], -step))
    best, kept = adapter(watched / f"checkpoint-{state['best_global_step']}"), adapter(watched)
    assert all(torch.equal(best[name], kept[name]) for name in kept)


def test_the_figures_are_those_of_the_saved_adapter(watched, dev):
    state = json.loads((watched / "checkpoint-6" / "trainer_state.json").read_text(encoding="utf-8"))
    (logged,) = (entry for entry in letters_of(watched) if entry["step"] == state["best_global_step"])
    again = scored_again(watched, dev)
    assert set(again) | {"eval_letter_alarm"} == KEYS
    assert {key: logged[key] for key in again} == pytest.approx(again, abs=1e-4)


def test_scoring_leaves_the_training_as_it_is(watched, small, dev, tmp_path, monkeypatch):
    """Dropout is on: anything drawn from a generator, or left in eval mode, would change the losses."""
    run = tmp_path / "run"
    trained_here(monkeypatch, *small, *EVALUATED, f"data.dev={dev}", f"training.output_dir={run}", "evaluation.dev_letters=false")
    assert read_run(run).recipe.values["lora"]["lora_dropout"] > 0
    assert not letters_of(run)
    for key in ("loss", "grad_norm", "entropy", "num_tokens", "eval_loss", "eval_mean_token_accuracy"):
        ours, theirs = ([entry[key] for entry in log_of(which) if key in entry] for which in (run, watched))
        assert ours == theirs, f"{key}: bit-equal"
    last = adapter(watched / "checkpoint-6")
    assert all(torch.equal(tensor, last[name]) for name, tensor in adapter(run).items())


def test_a_resumed_training_keeps_its_first_figures(watched, small, dev, tmp_path, monkeypatch):
    kept, work = tmp_path / "kept", watched.with_name("run.unfinished")
    shutil.copytree(watched, kept)
    watched.rename(work)  # as if it had been killed at its sixth step
    shutil.rmtree(work / "checkpoint-6")
    record = json.loads((work / "run.json").read_text(encoding="utf-8"))
    (work / "run.json").write_text(json.dumps(record | {"status": "unfinished"}), encoding="utf-8")
    try:
        trained_here(monkeypatch, *for_watched(small, dev, watched), resume="latest")
        assert len(letters_of(watched)) == 4, "the model before the training is not scored a second time"
        for ours, theirs in zip(letters_of(watched), letters_of(kept), strict=True):
            assert ours == pytest.approx(theirs, abs=1e-4)
    finally:
        for left in (watched, work):
            shutil.rmtree(left, ignore_errors=True)
        kept.rename(watched)


def test_a_planted_collapse_is_called_one_and_stopped(sample_data, small, dev, tmp_path, monkeypatch, capsys):
    train = tmp_path / "train.jsonl"
    lines = rows_file(sample_data, "train").read_text(encoding="utf-8").splitlines()
    only_a = [line for line in lines if json.loads(line)["output"] == "a"][:200]
    train.write_text("".join(line + "\n" for line in only_a), encoding="utf-8")
    run = tmp_path / "run"
    hard = ["training.learning_rate=5e-3", "training.warmup_steps=0", "training.max_steps=40", "training.per_device_train_batch_size=8"]
    chosen = ["training.metric_for_best_model=letter_gold_logprob", "evaluation.early_stopping_patience=2"]
    files = [f"data.train={train}", f"data.dev={dev}", f"training.output_dir={run}"]
    trained_here(monkeypatch, *small, *EVALUATED, *BEST, *hard, *chosen, *files)
    first, *later = letters_of(run)
    assert first["eval_letter_alarm"] == 0 and later[-1]["eval_letter_alarm"] == 1
    assert later[-1]["eval_letter_share_a"] >= 0.85 and later[-1]["eval_letter_entropy"] < 0.7
    assert "ALARM: label collapse: " in (said := capsys.readouterr().out) and "prompts are answered 'a'" in said
    values = [entry["eval_letter_gold_logprob"] for entry in later]
    assert later[-1]["step"] < 40, "stopped early"
    assert values.index(max(values)) == len(values) - 3, "two evaluations after the best one"
    best = adapter(run / f"checkpoint-{int(later[-3]['step'])}")
    assert all(torch.equal(best[name], tensor) for name, tensor in adapter(run).items()), "what was before the collapse is kept"


@pytest.mark.slow
def test_two_processes_see_what_one_sees(watched, small, dev, tmp_path):
    run = tmp_path / "run"
    two = run_sft(QUICKSTART, *for_watched(small, dev, run), "training.max_steps=2", launcher=TWO, check=True, OMP_NUM_THREADS="1")
    assert two.stdout.count("dev questions right by their letters:") == 2, "rank 0 alone speaks"
    first, last = letters_of(run)
    assert first == pytest.approx(letters_of(watched)[0], abs=1e-5)
    again = scored_again(run, dev)
    assert {key: last[key] for key in again} == pytest.approx(again, abs=1e-4), "the second share is not lost, nor counted twice"


def test_four_bits_and_gradient_checkpointing(small, dev, tmp_path, monkeypatch):
    run = tmp_path / "run"
    more = [*NF4, "training.max_steps=4", "training.gradient_checkpointing=true", "training.warmup_steps=0"]
    more.append("lora.lora_dropout=0.0")  # the trainer's own evaluation draws a seed for its data loader
    trained_here(monkeypatch, *small, *EVALUATED, *more, f"data.dev={dev}", f"training.output_dir={run}")
    assert len({entry["eval_letter_gold_logprob"] for entry in letters_of(run)}) == 3, "before, and after two and four steps"
    again = scored_again(run, dev)
    assert {key: letters_of(run)[-1][key] for key in again} == pytest.approx(again, abs=1e-2)

    alone = tmp_path / "alone"
    trained_here(monkeypatch, *small, *EVALUATED, *more, "training.eval_strategy=no", f"training.output_dir={alone}")
    for key in ("loss", "grad_norm"):
        ours, theirs = ([entry[key] for entry in log_of(which) if key in entry] for which in (run, alone))
        assert ours == theirs, f"{key}: an evaluation leaves the quantized weights as they are"


# Figures and alarms, of made-up predictions


def predictions(letters: str, *, mass: float = 1.0, gold: str | None = None) -> list[Prediction]:
    """One question for each four letters answered, in the four orders; the right choice is the one called `a` in the first."""
    made = []
    for index, letter in enumerate(letters):
        order = ORDERS[index % 4]
        probs = {other: mass * (0.7 if other == letter else 0.1) for other in LETTERS}
        made.append(
            Prediction(
                id=str(index // 4),
                group=str(index // 4),
                order=order,
                prompt_sha256="",
                letter=letter,
                gold=gold or LETTERS[order.index("a")],
                letter_logprobs={other: math.log(value) for other, value in probs.items()},
            )
        )
    return made


def test_figures_of_known_predictions():
    every_order_right = letter_metrics(predictions("adcb" * 2, mass=0.9))
    assert every_order_right["eval_letter_accuracy"] == every_order_right["eval_letter_single_order_accuracy"] == 1
    assert every_order_right["eval_letter_entropy"] == 2
    assert every_order_right["eval_letter_mass"] == pytest.approx(0.9)
    assert every_order_right["eval_letter_gold_logprob"] == pytest.approx(math.log(0.63))
    one_letter = letter_metrics(predictions("b" * 8))
    assert one_letter["eval_letter_share_b"] == 1 and one_letter["eval_letter_single_order_accuracy"] == 0.25
    assert one_letter["eval_letter_entropy"] == 0 and math.copysign(1, one_letter["eval_letter_entropy"]) == 1
    assert letter_metrics(predictions("ab" * 4))["eval_letter_entropy"] == 1
    assert {*every_order_right, "eval_letter_alarm"} == KEYS, "the recipe knows the same names"


EVEN = letter_metrics(predictions("abcd" * 10))


@pytest.mark.parametrize(
    ("now", "before", "expected"),
    [
        (predictions("abcd" * 10), EVEN, []),
        (predictions("b" * 34 + "a" * 6), EVEN, ["85% of 40 prompts are answered 'b', which is right in 25% of them (before the training 25% were). The"]),
        (predictions("b" * 33 + "a" * 7), EVEN, []),
        (predictions("b" * 36), EVEN, []),  # too few prompts
        (predictions("b" * 40, gold="b"), EVEN, []),  # b is right
        (predictions("c" * 40), letter_metrics(predictions("c" * 40)), ["It was so before"]),
        (predictions("abcd" * 10, mass=0.9), EVEN, ["only 0.90 of the probability is on any letter (before the training 1.00)"]),
        (predictions("abcd" * 10, mass=0.96), EVEN, []),
        (predictions("abcd" * 10, mass=0.9), letter_metrics(predictions("abcd" * 10, mass=0.8)), []),  # it is learning the form
        (predictions("d" * 40, mass=0.5), EVEN, ["label collapse", "format loss"]),
    ],
)
def test_alarms(now, before, expected):
    raised = alarms(now, before)
    assert len(raised) == len(expected)
    for text, part in zip(raised, expected, strict=True):
        assert part in text
        assert "try " in text


# What is asked, and by whom


def recipe_for(dev: Path, *overrides: str) -> Recipe:
    return load_recipe(QUICKSTART, [f"data.dev={dev}", "training.eval_strategy=steps", *overrides])


def test_only_answers_by_a_letter_are_asked(dev, tiny_tokenizer):
    rows = read_rows(dev)
    asked = ask_dev_questions(recipe_for(dev), rows, tiny_tokenizer)
    assert len(asked) == 45 and sum(item.row.output == "b" and "甲" in item.row.prompt[-1]["content"] for item in asked) == 1
    assert len(ask_dev_questions(recipe_for(dev, "evaluation.orders=1"), rows, tiny_tokenizer)) == 12
    assert ask_dev_questions(recipe_for(dev, "evaluation.dev_letters=false"), rows, tiny_tokenizer) == []
    assert ask_dev_questions(recipe_for(dev, "training.eval_strategy=no"), rows, tiny_tokenizer) == []
    assert ask_dev_questions(recipe_for(dev), rows[-1:], tiny_tokenizer) == []


def test_what_cannot_be_asked_is_explained(dev, tiny_tokenizer):
    rows = read_rows(dev)
    chosen = recipe_for(dev, "training.metric_for_best_model=eval_letter_mass")
    with pytest.raises(InputError, match="eval_letter_mass, but no row of data.dev is answered by a letter alone"):
        ask_dev_questions(chosen, rows[-1:], tiny_tokenizer)
    rows[1].meta["id"], rows[1].meta["dataset"] = rows[0].id, "another"
    with pytest.raises(InputError, match="evaluation.dev_letters: false leaves it"):
        ask_dev_questions(recipe_for(dev), rows, tiny_tokenizer)


def test_each_process_has_whole_questions_and_all_are_asked(dev, tiny_tokenizer):
    asked = ask_dev_questions(recipe_for(dev), read_rows(dev), tiny_tokenizer)
    shares = []
    for process in range(3):
        trainer = SimpleNamespace(accelerator=SimpleNamespace(process_index=process, num_processes=3))
        shares.append(DevLetters(trainer, asked, batch_size=4).asked)
    assert sum(map(len, shares)) == len(asked)
    ids = [{item.row.id for item in share} for share in shares]
    assert [len(each) for each in ids] == [4, 4, 4] and len(set.union(*ids)) == 12


def test_a_split_model_is_refused(dev, tiny_tokenizer):
    asked = ask_dev_questions(recipe_for(dev), read_rows(dev), tiny_tokenizer)
    split = SimpleNamespace(is_fsdp_enabled=True, is_deepspeed_enabled=False)
    with pytest.raises(InputError, match="evaluation.dev_letters: false"):
        watch_dev_letters(split, recipe_for(dev), asked)


STEPS = ["training.eval_strategy=steps", "data.dev=dev.jsonl"]


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["evaluation.early_stopping_patience=2"], "early_stopping_patience: counts evaluations: set training.eval_strategy: epoch"),
        ([*STEPS, "evaluation.early_stopping_patience=2"], "early_stopping_patience: needs training.metric_for_best_model"),
        ([*STEPS, "evaluation.early_stopping_patience=0"], "early_stopping_patience: expected at least 1"),
        ([*STEPS, "training.metric_for_best_model=eval_letter_acuracy"], "yields eval_letter_acuracy; did you mean letter_accuracy"),
        ([*STEPS, "training.metric_for_best_model=f1"], "no evaluation during training yields f1; there are eval_loss, "),
        ([*STEPS, "training.metric_for_best_model=letter_mass", "evaluation.dev_letters=false"], "letter_mass needs evaluation.dev_letters: true"),
        ([*STEPS, "training.metric_for_best_model=letter_mass", "pattern.answer=cot"], "pattern.answer is cot: set eval_loss"),
        (["training.load_best_model_at_end=true"], "the best is found by evaluations: set training.eval_strategy"),
        ([*STEPS, "training.load_best_model_at_end=true"], "set training.save_strategy: steps, as eval_strategy is (now no)"),
        ([*STEPS, *BEST, "training.eval_steps=1"], "set training.save_steps: 1, as often as is evaluated (now 2)"),
    ],
)
def test_contradictions_are_said_in_words(overrides, expected):
    with pytest.raises(InputError) as refused:
        load_recipe(QUICKSTART, overrides)
    assert expected in str(refused.value)


@pytest.mark.parametrize("metric", ["eval_letter_accuracy", "letter_gold_logprob", "eval_loss", "eval_mean_token_accuracy"])
def test_what_goes_together_is_accepted(metric):
    chosen = [f"training.metric_for_best_model={metric}", "evaluation.early_stopping_patience=3", "training.eval_steps=2"]
    load_recipe(QUICKSTART, [*STEPS, *BEST, *chosen])
    load_recipe(QUICKSTART, [*STEPS, *chosen, "training.load_best_model_at_end=true", "training.save_strategy=best"])


def test_a_recipe_that_stops_early_can_be_rehearsed():
    chosen = ["training.metric_for_best_model=eval_letter_accuracy", "evaluation.early_stopping_patience=3"]
    recipe = load_recipe(QUICKSTART, [*STEPS, *BEST, *chosen, "training.eval_steps=2"], REHEARSAL)
    assert recipe.evaluation.early_stopping_patience is None
