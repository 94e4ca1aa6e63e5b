"""Whether a model answers the user's own questions alike in two forms: as an adapter, and as it was exported or is served."""

import gc
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lawft_trl.data.questions import ORDERS
from lawft_trl.data.rows import read_rows
from lawft_trl.evaluation.asking import Asked, ask
from lawft_trl.evaluation.held_out import held_out_file, questions_to_score
from lawft_trl.evaluation.letters import score_letters
from lawft_trl.evaluation.loading import load_tuned
from lawft_trl.evaluation.metrics import Prediction, content_answers, content_gold
from lawft_trl.run_dir import FinishedRun

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_MANY_FLIPS = 0.01  # share of prompts above which other letters are a warning
_HEADROOM = 1.2  # of a model's weights, for what a forward pass needs beside them


def proof_prompts(
    run: FinishedRun, tokenizer: "PreTrainedTokenizerBase", *, test: Path | None = None, questions: int = 50, letters: bool = True
) -> list[Asked]:
    """The first held-out questions of a run as prompts for the letter alone, in the orders its recipe evaluates.

    Runs that were trained on reasons are asked for the letter alone, too: what is compared are two forms of one model,
    and for that any prompt will do which both are asked.

    Args:
        run: a finished run.
        tokenizer: the run's.
        test: rows to ask instead of the recipe's `data.test`.
        questions: how many questions at most.
        letters: as for `lawft_trl.evaluation.asking.ask`.

    Raises:
        InputError: when there are no held-out rows, or rows that cannot be scored.
    """
    recipe, file = run.recipe, test or held_out_file(run)
    rows = questions_to_score(recipe, read_rows(file, system=recipe.pattern.system), file, "direct")[:questions]
    trim_to = recipe.max_length if recipe.data.overlong == "trim_statutes" else None
    orders = ORDERS[: recipe.evaluation.orders]
    return ask(rows, tokenizer, recipe.pattern.chat_template_kwargs, answer="direct", letters=letters, orders=orders, trim_to=trim_to)


def score_adapter(run: FinishedRun, tokenizer: "PreTrainedTokenizerBase", asked: Sequence[Asked]) -> list[Prediction]:
    """The letters of the run's adapter on its base as the run loaded it; the model is gone from memory afterwards."""
    return _score_and_free(load_tuned(run), run, tokenizer, asked, "adapter")


def score_folder(
    folder: Path, run: FinishedRun, tokenizer: "PreTrainedTokenizerBase", asked: Sequence[Asked]
) -> tuple[list[Prediction], str]:
    """The letters of an exported folder, loaded by transformers alone, as any other program would load it.

    Args:
        folder: a model's folder, with an adapter in it or without one.
        run: the run it was made from.
        tokenizer: the run's.
        asked: prompts.

    Returns:
        Predictions in the order of `asked`, and the device they were made on: the GPU where the weights fit.
    """
    import torch
    import transformers
    from transformers import AutoConfig, AutoModelForCausalLM

    trust = run.recipe.model.trust_remote_code
    architectures = AutoConfig.from_pretrained(folder, trust_remote_code=trust).architectures or [""]
    model_class = getattr(transformers, architectures[0], AutoModelForCausalLM)
    size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    use_gpu = torch.cuda.is_available() and not run.recipe.values["training"].get("use_cpu", False)
    device = "cuda:0" if use_gpu and size * _HEADROOM < torch.cuda.mem_get_info(0)[0] else "cpu"
    model = model_class.from_pretrained(folder, dtype="auto", device_map={"": device}, trust_remote_code=trust, local_files_only=True)
    return _score_and_free(model.eval(), run, tokenizer, asked, "exported"), device


def _score_and_free(
    model: "PreTrainedModel", run: FinishedRun, tokenizer: "PreTrainedTokenizerBase", asked: Sequence[Asked], progress: str
) -> list[Prediction]:
    import torch

    batch_size = run.recipe.evaluation.batch_size
    predictions = score_letters(model, asked, pad_token_id=tokenizer.pad_token_id, batch_size=batch_size, progress=progress)
    del model  # the caller holds no other reference
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return predictions


def compare_letters(
    adapter: Sequence[Prediction], other: Sequence[Prediction], *, scored: Sequence[Prediction] | None = None
) -> dict[str, Any]:
    """What two forms of one model make of the same prompts.

    Args:
        adapter: answers of the adapter.
        other: of the other form, to the same prompts in the same order; both scored, or both written and parsed.
        scored: the adapter's letters, scored, where `adapter` was written: the margins come from them.

    Returns:
        `prompts` and `questions`; `same_letter` (prompts); `flips`: for every other prompt its `id`, `order`, `gold`,
        the letters of `adapter` and `other`, and the adapter's `margin`, the difference of log-probability between its
        most probable letter and the next; `max_difference`: the greatest of a letter's log-probability (`None` for written
        answers); `right`: questions answered right by each, over all orders.
    """
    scored = scored or adapter
    if len({tuple(item.prompt_sha256 for item in side) for side in (adapter, other, scored)}) > 1:
        raise RuntimeError("the two forms were not asked the same prompts")
    flips, differences = [], []
    for before, after, score in zip(adapter, other, scored, strict=True):
        if before.letter_logprobs is not None and after.letter_logprobs is not None:
            differences += [abs(value - after.letter_logprobs[letter]) for letter, value in before.letter_logprobs.items()]
        if before.letter != after.letter:
            first, second = sorted(score.letter_logprobs.values(), reverse=True)[:2]
            letters = {"gold": before.gold, "adapter": before.letter, "other": after.letter}
            flips.append({"id": before.id, "order": before.order, **letters, "margin": round(first - second, 4)})
    gold = content_gold(adapter)
    right = {
        name: sum(letter == gold[question] for question, letter in content_answers(predictions).items())
        for name, predictions in (("adapter", adapter), ("other", other))
    }
    return {
        "prompts": len(adapter),
        "questions": len(gold),
        "same_letter": len(adapter) - len(flips),
        "max_difference": max(differences, default=None),
        "right": right,
        "flips": flips,
    }


def proof_warnings(proof: Mapping[str, Any], run: FinishedRun) -> list[str]:
    """What is to be said of a proof: nothing, or why so many letters differ."""
    flips, right = len(proof["flips"]), proof["right"]
    if flips <= _MANY_FLIPS * proof["prompts"]:
        return []
    text = (
        f"{flips} of {proof['prompts']} prompts ({100 * flips / proof['prompts']:.1f} %) get another letter than from the adapter; "
        f"right answers: {right['adapter']} of {proof['questions']} questions with the adapter, {right['other']} here. "
    )
    trained_on = quantized_to(run)
    if trained_on is not None:
        text += (
            f"The adapter was trained and evaluated on {trained_on} weights. On the base's own weights other answers are expected; "
            "the run's evaluation does not speak for them."
        )
    else:
        text += "Letters that were nearly tied flip by rounding; large margins among the flips mean that something is wrong."
    return [text]


def quantized_to(run: FinishedRun) -> str | None:
    """The form in which the run held the base's weights, e.g. `"4-bit (nf4)"`; `None` where they were not quantized."""
    quantization = run.recipe.values.get("quantization")
    if not quantization:
        return None
    if quantization.get("load_in_8bit"):
        return "8-bit"
    return f"4-bit ({quantization.get('bnb_4bit_quant_type', 'fp4')})"
