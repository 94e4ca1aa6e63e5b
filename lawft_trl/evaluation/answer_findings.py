"""What is wrong with the answers themselves: their form, their end, and the letters they prefer. No torch.

Findings as `lawft_trl.evaluation.diagnosis` lists them; thresholds and their reasons: docs/evaluation.md.
"""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lawft_trl.data.questions import LETTERS
from lawft_trl.evaluation.metrics import Prediction, question_groups
from lawft_trl.evaluation.paired import cluster_interval, holm, sign_flip
from lawft_trl.evaluation.report import share

Finding = dict[str, str]

_SIGNIFICANT = 0.05
_COLLAPSED = 0.85  # of the prompts get one letter; the history this project answers to had 100 of 140, and 20 of 27
_OVER_GOLD = 0.30  # by which that share exceeds the letter's share of the gold answers, for sets asked in one order
_PREFERRED = 0.10  # by which a letter is chosen more often than it is right
_RSTD_RISE = 5.0  # points, as in the verdict
_LABEL_MASS = 0.95  # as in the verdict
_READABLE = 0.5  # with less on any letter, which of the four is highest says nothing
_TEXT_FAULTS = 0.05  # of the answers: without a letter, of another form, cut
_REPEATS = 5  # of a line, or of a phrase at the end
_PHRASE, _TAIL = 40, 400  # characters


@dataclass(frozen=True)
class Pair:
    """The model the findings are about, and what it is compared with; `None` where there is nothing."""

    model: Mapping[str, Any]
    answers: Sequence[Prediction]
    base: Mapping[str, Any] | None
    base_answers: Sequence[Prediction] | None


def answer_findings(pair: Pair, answer: str) -> list[Finding]:
    """What is wrong with a model's answers, whatever they are about.

    Args:
        pair: the model and what it is compared with.
        answer: the form of answer that was asked for.
    """
    found = [*_label_mass(pair), *_written_form(pair, answer), *_repetition(pair, answer)]
    mass = pair.model["label_mass"]
    return found + (_letters(pair) if mass is None or mass >= _READABLE else [])


def finding(name: str, says: str, try_next: str) -> Finding:
    """A finding: its name, what was seen, in figures, and one thing to do about it."""
    return {"name": name, "says": says, "try_next": try_next}


def _label_mass(pair: Pair) -> list[Finding]:
    """Letters were scored, and the model would write something else."""
    mass = pair.model["label_mass"]
    if mass is None or _bounds(pair.answers, lambda p: sum(p.letter_probs.values()))[1] >= _LABEL_MASS:
        return []
    unreadable = "; which letter is the most probable of the four then says little" if mass < _READABLE else ""
    before = "" if pair.base is None else f" (base: {pair.base['label_mass']:.3g})"
    return [
        finding(
            "format-loss",
            f"Only {mass:.3g} of the probability after the prompt is on any letter{before}: the model would begin its answer with something else{unreadable}.",
            "Read what it writes: `lawft eval RUN --scorer generate`. If that is the form of the training outputs (`lawft check RECIPE` "
            "says so: letter-asked), make them the bare letter; if not, lower training.learning_rate.",
        )
    ]


def _written_form(pair: Pair, answer: str) -> list[Finding]:
    """Answers were written, and have no letter or another form than was asked for."""
    if not any(p.outputs for p in pair.answers):
        return []
    silent = _raised(pair, lambda p: p.is_silent, even_if_before=True)
    strange = _raised(pair, lambda p: any(not _is_bare(text) for text in p.outputs)) if answer == "direct" else None
    says = [f"{silent} of the answers have no letter that can be read"] if silent else []
    says += [f"{strange} are not the bare letter that was asked for"] if strange else []
    if not says:
        return []
    faulty = Counter(text for p in pair.answers for text in p.outputs if p.is_silent or (strange and not _is_bare(text)))
    shown = f", mostly {_quoted(faulty.most_common(1)[0][0])}" if faulty else ""
    return [
        finding(
            "format-loss",
            " and ".join(says) + shown + ".",
            "Compare with the training outputs: `lawft check RECIPE` shows what is trained, and says letter-asked where the prompt asks "
            "for one letter and the output is more. Make the outputs what the prompt asks for, and train again.",
        )
    ]


def _repetition(pair: Pair, answer: str) -> list[Finding]:
    """Answers that do not end, or go round in circles."""
    if not any(p.outputs for p in pair.answers):
        return []
    cut = _raised(pair, lambda p: p.cut / max(1, len(p.outputs)), even_if_before=True)
    loops = _raised(pair, lambda p: sum(map(_repeats, p.outputs)) / max(1, len(p.outputs)), even_if_before=True)
    if not cut and not loops:
        return []
    says = [f"{cut} of the answers reach the greatest length without an end"] if cut else []
    says += [f"{loops} repeat a line or a phrase {_REPEATS} times or more"] if loops else []
    if cut and not loops and answer == "cot":
        mend = "They do not repeat themselves, so they may only be long: set evaluation.max_new_tokens higher and evaluate again with --force."
    else:
        mend = "Make sure that the end of the turn is trained (`lawft check RECIPE` shows the last trained token), then lower training.learning_rate or train fewer epochs."
    return [finding("repetition", " and ".join(says) + ".", mend)]


def _letters(pair: Pair) -> list[Finding]:
    """One letter too often: nearly always, or more often than it is right and more than the base."""
    prompts = len(pair.answers)
    chosen, gold = Counter(p.letter for p in pair.answers), Counter(p.gold for p in pair.answers)
    excess = {letter: (chosen[letter] - gold[letter]) / prompts for letter in LETTERS}
    letter = max(excess, key=excess.__getitem__)
    facts = f"`{letter}` is the answer to {share(chosen[letter] / prompts)} of the prompts and right for {share(gold[letter] / prompts)}"
    if pair.base is not None:
        facts += f" (base: {share(pair.base['letters'][letter] / prompts)})"
    if chosen[letter] >= _COLLAPSED * prompts and excess[letter] >= _OVER_GOLD:
        before = pair.base is not None and pair.base["letters"][letter] >= chosen[letter]
        return [
            finding(
                "label-collapse",
                f"{facts}.",
                "It was so before the training, which has not overcome it: train more steps, or with a higher training.learning_rate."
                if before
                else "Look at the letters of the training rows (`lawft check RECIPE` says letter-skew); those of `lawft data` come in four orders, so "
                "that every letter is right equally often. If they are balanced, lower training.learning_rate or train fewer epochs.",
            )
        ]
    groups = list(question_groups(pair.answers).values())
    over = [_per_question(pair.answers, lambda p, a=a: (p.letter == a) - (p.gold == a)) for a in LETTERS]
    p_values = holm([sign_flip(list(values.values()), groups, 0) for values in over])
    rise = pair.model["rstd"] - (0.0 if pair.base is None else pair.base["rstd"])
    if excess[letter] < _PREFERRED or p_values[LETTERS.index(letter)] >= _SIGNIFICANT or rise <= _RSTD_RISE:
        return []
    before = "" if pair.base is None else f" (base: {pair.base['rstd']:.1f})"
    own = pair.model["one_order"]
    prior = own is not None and own["debiased"]["accuracy"] > own["as_asked"]["accuracy"]
    return [
        finding(
            "position-bias",
            f"{facts}; RStd {pair.model['rstd']:.1f}{before}, the same choice in every order for {share(pair.model['consistency'])} of the questions.",
            "Train on all four orders of every question (`lawft data` writes them), and ask in four orders (evaluation.orders: 4)"
            + ("; where only one can be asked, take off `label_prior` of metrics.json." if prior else "."),
        )
    ]


def _per_question(predictions: Sequence[Prediction], value: Callable[[Prediction], float]) -> dict[str, float]:
    """Question id -> mean over its orders, questions in the order of `question_groups`."""
    values = defaultdict(list)
    for prediction in predictions:
        values[prediction.id].append(value(prediction))
    return {question: float(np.mean(found)) for question, found in values.items()}


def _bounds(predictions: Sequence[Prediction], value: Callable[[Prediction], float]) -> tuple[float, float]:
    """The 95 % interval of the mean over the questions."""
    return cluster_interval(list(_per_question(predictions, value).values()), list(question_groups(predictions).values()), 0)


def _raised(pair: Pair, value: Callable[[Prediction], float], *, even_if_before: bool = False) -> str | None:
    """A share of answers, as text, if it is surely above 5 % and, unless it counts anyway, clearly above the base's."""
    now = _per_question(pair.answers, value)
    if _bounds(pair.answers, value)[0] <= _TEXT_FAULTS:
        return None
    if pair.base_answers is None:
        return share(np.mean(list(now.values())))
    before = _per_question(pair.base_answers, value)
    rise = [now[question] - before[question] for question in now]
    grown = np.mean(rise) >= _TEXT_FAULTS and sign_flip(rise, list(question_groups(pair.answers).values()), 0) < _SIGNIFICANT
    text = f"{share(np.mean(list(now.values())))} (base: {share(np.mean(list(before.values())))})"
    return text if grown or even_if_before else None


def _is_bare(text: str) -> bool:
    return unicodedata.normalize("NFKC", text).strip().lower() in LETTERS


def _repeats(text: str) -> bool:
    lines = Counter(line.strip() for line in text.splitlines() if line.strip())
    phrase = rf"(\w.{{1,{_PHRASE - 1}}}?)\1{{{_REPEATS - 1}}}"  # begins with a letter, a kanji or a digit: a ruled line is none
    return max(lines.values(), default=0) >= _REPEATS or re.search(phrase, text[-_TAIL:], re.DOTALL) is not None


def _quoted(text: str) -> str:
    line = " ".join(text.split())
    return f"「{line[:_PHRASE]}{'…' if len(line) > _PHRASE else ''}」"
