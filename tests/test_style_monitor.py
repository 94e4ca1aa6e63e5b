"""The style of dev replies during training: what is logged, what is chosen by it, and that the training is the same without it."""

import csv
import json
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import QUICKSTART, ROOT, TWO, adapter, run_sft, sft_here
from tiny_chat import make_data, make_model, make_recipe

from lawft_trl.data.chat import load_tokenizer
from lawft_trl.data.rows import Row, read_rows
from lawft_trl.errors import InputError
from lawft_trl.evaluation.loading import load_tuned
from lawft_trl.evaluation.replies import Reply, dialogue_turns, forced_replies, perplexity, write_replies
from lawft_trl.evaluation.style import score_reply
from lawft_trl.recipe import load_recipe
from lawft_trl.recipe_rules import _STYLE_METRICS
from lawft_trl.recipe_style import SOCRATIC, StylePatterns
from lawft_trl.run_dir import read_run
from lawft_trl.sft import main
from lawft_trl.training.launch_checks import refuse_impossible
from lawft_trl.training.preflight import REHEARSAL
from lawft_trl.training.style_monitor import _LOGGED, evenly, style_metrics, watch_dev_rows

KEYS = {*_LOGGED.values(), "eval_style_cut", "eval_teacher_forced_style"}
KWARGS = {"enable_thinking": False}


@pytest.fixture(scope="module")
def recipe(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("style")
    return make_recipe(folder, make_model(folder / "model"), make_data(folder))


@pytest.fixture(scope="module")
def watched(recipe) -> Path:
    """Six steps, gradients recomputed."""
    result = sft_here(recipe, "training.gradient_checkpointing=true", check=True)
    assert result.stdout.count("style of dev replies: ") == 4
    assert "before the training -> " in result.stdout and "at step 6" in result.stdout
    return recipe.parent / "run"


@pytest.fixture(scope="module")
def base(recipe):
    """The model before the training, its tokenizer, and the dev rows as turns."""
    from transformers import AutoModelForCausalLM

    folder = recipe.parent / "model"
    tokenizer = load_tokenizer(str(folder))
    (file,) = (recipe.parent / "data" / "dialogue").glob("dev_*.jsonl")
    return AutoModelForCausalLM.from_pretrained(folder, dtype="float32").eval(), tokenizer, dialogue_turns(read_rows(file), tokenizer, KWARGS)


def log_of(run: Path) -> list[dict[str, float]]:
    """`training_metrics.csv`, without the empty cells."""
    with (run / "training_metrics.csv").open(encoding="utf-8", newline="") as stream:
        return [{key: float(value) for key, value in line.items() if value} for line in csv.DictReader(stream)]


def styles_of(run: Path) -> list[dict[str, float]]:
    return [entry for entry in log_of(run) if set(entry) >= KEYS]


def trained_here(monkeypatch, recipe: Path, *overrides: str) -> None:
    """The launcher's own `main` in this process, which saves the seconds of a start."""
    monkeypatch.chdir(ROOT)
    main(load_recipe(recipe, list(overrides)))


def test_every_evaluation_is_followed_by_the_style_of_its_replies(watched):
    state = json.loads((watched / "checkpoint-6" / "trainer_state.json").read_text(encoding="utf-8"))
    entries = [entry for entry in state["log_history"] if "eval_socratic_style" in entry]  # the CSV joins those of a step
    assert [entry["step"] for entry in entries] == [entry["step"] for entry in styles_of(watched)] == [0, 2, 4, 6], "the first is the model before the training"
    assert all(set(entry) == KEYS | {"step", "epoch"} for entry in entries), "TRL's running means stay out of these entries"
    assert all(0 <= value <= 1 for entry in entries for key, value in entry.items() if key not in ("eval_style_characters", "step", "epoch"))
    assert len([entry for entry in log_of(watched) if "loss" in entry]) == 6


def test_the_best_checkpoint_is_the_one_with_most_style(watched):
    state = json.loads((watched / "checkpoint-6" / "trainer_state.json").read_text(encoding="utf-8"))
    found = {int(entry["step"]): entry["eval_socratic_style"] for entry in styles_of(watched) if entry["step"]}
    assert len(set(found.values())) > 1, "else anything would be the best"
    assert state["best_metric"] == max(found.values()), "the greatest is the best"
    assert state["best_global_step"] == max(found, key=lambda step: (found[step], -step))
    best, kept = adapter(watched / f"checkpoint-{state['best_global_step']}"), adapter(watched)
    assert all(torch.equal(best[name], kept[name]) for name in kept)


def test_the_figures_are_those_of_the_saved_adapter(watched):
    run = read_run(watched)
    tokenizer = load_tokenizer(str(watched))
    turns = evenly(dialogue_turns(read_rows(Path(run.record["identity"]["data"]["dev"][0]["file"])), tokenizer, KWARGS), 6)
    model = load_tuned(run)
    replies = write_replies(model, tokenizer, turns, max_new_tokens=12, template_kwargs=KWARGS, batch_size=3, progress=None)
    again = style_metrics(
        [reply.text for reply in replies], [reply.cut for reply in replies], forced_replies(model, tokenizer, turns), patterns=StylePatterns(addresses=("い", "か", "た", "よ"))
    )
    logged = next(entry for entry in styles_of(watched) if entry["step"] == run.record["kept_step"])
    assert {key: logged[key] for key in again} == pytest.approx(again, abs=1e-9)


def test_the_training_is_the_same_without_it(watched, recipe, tmp_path, monkeypatch):
    """Dropout is on, and gradients are recomputed: anything drawn, or left in eval mode, would change the losses."""
    run = tmp_path / "run"
    without = ["evaluation.style=null", "training.metric_for_best_model=loss", "training.gradient_checkpointing=true"]
    trained_here(monkeypatch, recipe, *without, f"training.output_dir={run}")
    assert not styles_of(run)
    for key in ("loss", "grad_norm", "entropy", "num_tokens", "eval_loss"):
        ours, theirs = ([entry[key] for entry in log_of(which) if key in entry] for which in (run, watched))
        assert ours and ours == theirs, f"{key}: bit-equal"
    ours, theirs = adapter(run / "checkpoint-6"), adapter(watched / "checkpoint-6")
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())


def test_a_style_that_does_not_rise_stops_the_training(recipe, tmp_path, monkeypatch):
    run = tmp_path / "run"
    still = ["training.learning_rate=0", "training.max_steps=9", "training.eval_steps=1", "training.save_steps=1", "monitor.eval_samples=2"]
    trained_here(monkeypatch, recipe, *still, "evaluation.early_stopping_patience=2", f"training.output_dir={run}")
    assert [entry["step"] for entry in styles_of(run)] == [0, 1, 2, 3], "two evaluations after the first, which was the best"


@pytest.mark.slow
def test_two_processes_see_what_one_sees(watched, recipe, tmp_path):
    run = tmp_path / "run"
    two = run_sft(recipe, f"training.output_dir={run}", "training.max_steps=2", launcher=TWO, check=True, OMP_NUM_THREADS="1")
    assert two.stdout.count("style of dev replies: ") == 2, "rank 0 alone speaks"
    assert styles_of(run)[0] == pytest.approx(styles_of(watched)[0], abs=1e-6)


def test_asking_leaves_model_and_tokenizer_as_they_are(base):
    model, tokenizer, turns = base
    before = model.generation_config, model.config.use_cache, tokenizer.padding_side, torch.get_rng_state()
    write_replies(model, tokenizer, turns[:3], max_new_tokens=4, template_kwargs=KWARGS, batch_size=2, progress=None)
    forced_replies(model, tokenizer, turns[:3])
    assert model.generation_config is before[0] and model.config.use_cache == before[1] and tokenizer.padding_side == before[2]
    assert torch.equal(torch.get_rng_state(), before[3])


def test_padding_does_not_change_a_reply(base):
    model, tokenizer, turns = base
    one, four = (
        write_replies(model, tokenizer, turns[:8], max_new_tokens=8, template_kwargs=KWARGS, batch_size=size, progress=None) for size in (1, 4)
    )
    assert [reply.tokens for reply in one] == [reply.tokens for reply in four]
    assert all(reply.text == tokenizer.decode(reply.tokens, skip_special_tokens=True) for reply in one)


def test_the_tutor_s_places_are_read_in_pieces(base):
    """The same words and the same surprise as from the logits of everything at once, soft cap included; 300 tokens are three pieces."""
    model, tokenizer, turns = base
    long = max(turns, key=lambda turn: len(turn.output_ids))
    text = (long.row.output * 20)[:400]
    (turn,) = dialogue_turns([Row(prompt=long.row.prompt, output=text, source="here")], tokenizer, KWARGS)
    assert len(turn.output_ids) > 256 and model.config.final_logit_softcapping == 30
    with torch.inference_mode():
        logits = model(torch.tensor([turn.input_ids + turn.output_ids])).logits[0, len(turn.input_ids) - 1 : -1]
    words = tokenizer.decode(logits.argmax(dim=-1), skip_special_tokens=True)
    assert forced_replies(model, tokenizer, [turn]) == [words] and words
    loss = torch.nn.functional.cross_entropy(logits[:-1], torch.tensor(turn.output_ids[:-1]))
    replies = [Reply(text=text, tokens=turn.output_ids[:-1], cut=False)]
    assert perplexity(model, [turn], replies, progress=None) == pytest.approx(math.exp(loss), rel=1e-4)
    assert perplexity(model, [turn], [Reply(text="", tokens=[], cut=False)], progress=None) is None


def test_marks_are_not_dropped(base):
    _, tokenizer, _ = base
    tokenizer = load_tokenizer(tokenizer.name_or_path)
    tokenizer.add_tokens(["‥"])  # as the recipe's punctuation is, where it is no single token
    from lawft_trl.evaluation.replies import _decode

    assert _decode(tokenizer, tokenizer("では‥君は<end_of_turn>", add_special_tokens=False)["input_ids"]) == "では‥君は"


def test_figures_of_known_replies():
    found = style_metrics(["では、君は正義について何を考えているのかね？", "正義は大切です。"], [False, True], ["勇気とは何かね？"] * 2, patterns=SOCRATIC)
    assert found["eval_socratic_style"] == 0.5 and found["eval_teacher_forced_style"] == 0.6 == score_reply("勇気とは何かね？")
    assert found["eval_style_cut"] == found["eval_style_question"] == found["eval_style_only_questions"] == 0.5
    assert set(found) == KEYS >= {f"eval_{name}" for name in _STYLE_METRICS}, "the recipe knows the same names"


def test_samples_are_spread_evenly():
    assert evenly(range(10), 4) == [0, 2, 5, 7] and evenly(range(3), 100) == [0, 1, 2] and evenly([], 5) == []


# What recipes say of it


STEPS = ["pattern.answer=dialogue", "training.eval_strategy=steps", "data.dev=dev.jsonl"]


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["evaluation.style={}"], "command line: evaluation.style: is of dialogues, and pattern.answer is direct: set pattern.answer: dialogue"),
        ([*STEPS, "evaluation.style={ending: [か]}"], "command line: evaluation.style: ending: unknown; known are endings, addresses"),
        ([*STEPS, "evaluation.style={endings: か}"], "evaluation.style: endings: expected a list of non-empty strings"),
        ([*STEPS, "evaluation.style={ending_weight: 0.9}"], "evaluation.style: the weights must sum to 1"),
        ([*STEPS, "evaluation.style=socratic"], "evaluation.style: expected a mapping or null"),
        ([*STEPS, "training.metric_for_best_model=socratic_style"], "socratic_style needs evaluation.style: {}"),
        ([*STEPS, "training.metric_for_best_model=eval_socratik_style"], "yields eval_socratik_style; did you mean socratic_style"),
        ([*STEPS, "training.metric_for_best_model=letter_mass"], "pattern.answer is dialogue: set eval_socratic_style or eval_loss"),
        ([*STEPS, "evaluation.scorer=letters"], "letters is of four-choice answers, and pattern.answer is dialogue"),
        ([*STEPS, "evaluation.samples=3"], "replies of dialogues are greedy"),
        ([*STEPS, "monitor.eval_samples=0"], "monitor.eval_samples: expected at least 1"),
    ],
)
def test_faults_are_said_in_words(overrides, expected):
    with pytest.raises(InputError) as refused:
        load_recipe(QUICKSTART, overrides)
    assert expected in str(refused.value)


@pytest.mark.parametrize("metric", ["socratic_style", "eval_socratic_style", "eval_teacher_forced_style"])
def test_what_goes_together_is_accepted(recipe, metric):
    loaded = load_recipe(recipe, [f"training.metric_for_best_model={metric}", "evaluation.style={endings: [かい]}"])
    assert loaded.evaluation.style == {"endings": ["かい"]} and loaded.monitor.eval_samples == 6
    load_recipe(recipe, [], REHEARSAL)


def test_a_split_model_is_refused(recipe):
    loaded = load_recipe(recipe, ["training.use_cpu=false"])
    with pytest.raises(InputError) as refused:
        refuse_impossible(loaded, {"ACCELERATE_USE_FSDP": "true", "FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT"}, gpus=1)
    assert "evaluation.style needs the whole model in every process, and FSDP splits it: set evaluation.style=null training.metric_for_best" in str(refused.value)
    assert "dev_letters" not in str(refused.value), "dialogues have no letters"
    split = SimpleNamespace(is_fsdp_enabled=True, is_deepspeed_enabled=False)
    with pytest.raises(InputError, match="evaluation.style: null"):
        watch_dev_rows(split, loaded, [], [SimpleNamespace()])
