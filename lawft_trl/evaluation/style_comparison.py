"""Two models' replies to the same turns, compared by their style; what was had too cheaply. No torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lawft_trl.data.near_duplicates import plain
from lawft_trl.evaluation.paired import cluster_interval, sign_flip
from lawft_trl.evaluation.style import describe_style
from lawft_trl.recipe_style import StylePatterns

_SIGNIFICANT = 0.05
_FEWEST_LETTERS = 64  # of which distinct-2 says something


@dataclass(frozen=True, kw_only=True)
class ScoredReply:
    """A reply and its score, as `predictions.jsonl` holds them.

    Attributes:
        id: the turn's, `"c001#4"`.
        conversation: which conversation it is of.
        group: equal for conversations that no split divides.
        prompt_sha256: hash of the history.
        reply: what was said.
        cut: whether it reached the greatest length.
        style: its score.
    """

    id: str
    conversation: str
    group: str
    prompt_sha256: str
    reply: str
    cut: bool
    style: float


def describe_replies(replies: Sequence[ScoredReply], patterns: StylePatterns, *, seed: int) -> dict[str, Any]:
    """The figures of `describe_style`, but the `style` is the mean over conversations of the mean over their turns; with its
    `interval` (95 %, bootstrap over groups), `conversations`, `cut`, the share of replies that reached the greatest length, and
    `distinct_2_by_letters`: distinct-2 of the first 64, 128, 256, … letters, by which replies of unequal length are compared.

    Args:
        replies: of one model, at least one.
        patterns: what their style was scored by.
        seed: of the bootstrap.
    """
    scores, said = _by_conversation(replies), [reply.reply for reply in replies]
    return {
        **describe_style(said, patterns),
        "distinct_2_by_letters": _distinct_by_letters(said),
        "style": float(np.mean(list(scores.values()))),
        "interval": list(cluster_interval(list(scores.values()), _groups(replies, scores), seed)),
        "conversations": len(scores),
        "cut": sum(reply.cut for reply in replies) / len(replies),
    }


def compare_replies(first: Sequence[ScoredReply], second: Sequence[ScoredReply], *, seed: int) -> dict[str, Any]:
    """Paired comparison of two models' style; the unit is the conversation, with the mean over its turns.

    Args:
        first: replies of one model.
        second: of the other, to the same turns.
        seed: of bootstrap and sign flips.

    Returns:
        `difference` (second minus first), `interval` (95 % percentile bootstrap over groups of conversations), `p_value` (signs
        of whole groups flipped), `rose`, `fell` and `same` (numbers of conversations), `conversations`, `groups`, `verdict`
        and `reason`.

    Raises:
        ValueError: when the two were not asked the same.
    """
    asked = [{(reply.id, reply.prompt_sha256, reply.conversation, reply.group) for reply in side} for side in (first, second)]
    if asked[0] != asked[1]:
        raise ValueError(f"the two models were not asked the same: {len(asked[0] ^ asked[1])} prompts differ")
    before, after = _by_conversation(first), _by_conversation(second)
    changes = [after[name] - before[name] for name in before]
    groups = _groups(first, before)
    low, high = cluster_interval(changes, groups, seed)
    p_value = sign_flip(changes, groups, seed)
    verdict, reason = judge_style(low, high, p_value)
    return {
        "difference": float(np.mean(changes)),
        "interval": [low, high],
        "p_value": p_value,
        "rose": sum(change > 0 for change in changes),
        "fell": sum(change < 0 for change in changes),
        "same": sum(change == 0 for change in changes),
        "conversations": len(changes),
        "groups": len(set(groups)),
        "verdict": verdict,
        "reason": reason,
    }


def judge_style(low: float, high: float, p_value: float) -> tuple[str, str]:
    """The verdict on a difference with the interval `[low, high]`, and why."""
    if low <= 0 <= high:
        return "no evidence", "the interval of the difference contains 0"
    if p_value >= _SIGNIFICANT:
        return "no evidence", f"the paired test does not agree with the interval (p = {p_value:.2g})"
    side = "above" if low > 0 else "below"
    return ("better" if low > 0 else "worse"), f"the whole interval of the difference is {side} 0"


def find_gaming(base: Mapping[str, Any], tuned: Mapping[str, Any], tutor: Mapping[str, Any]) -> list[dict[str, str]]:
    """Signs that a style was had too cheaply, the gravest first, in the form of a report's diagnosis.

    They do not change the verdict, which is on the style alone; they say what it is worth.

    Args:
        base: figures of the base model's replies, as `describe_replies` returns them, with `perplexity`.
        tuned: those of the tuned model's.
        tutor: those of the tutor's own turns.
    """
    percent = "{:.0%}".format
    letters = max(set.intersection(*(set(side["distinct_2_by_letters"]) for side in (base, tuned, tutor))), key=int, default=None)
    # Of too few letters nothing is said: all are taken for different
    base, tuned, tutor = ({**side, "distinct_2": side["distinct_2_by_letters"].get(letters, 1.0)} for side in (base, tuned, tutor))

    def sides(key: str, form: Any) -> str:
        return f"{form(tuned[key])} (base {form(base[key])}, tutor {form(tutor[key])})"

    def number(value: float | None) -> str:
        return "-" if value is None else f"{value:.1f}"

    surprise = [side["perplexity"] for side in (tuned, base)]
    signs = (
        (tuned["empty"] > base["empty"] + 0.05, "silence", f"replies without a sentence: {sides('empty', percent)}", "train less, or with a lower training.learning_rate"),
        (
            tuned["same_reply"] > max(base["same_reply"], tutor["same_reply"]) + 0.2,
            "one reply for all",
            f"replies that are the same as an earlier one: {sides('same_reply', percent)}",
            "fewer epochs, a lower training.learning_rate, or more varied dialogues",
        ),
        (
            tuned["repeated_within"] > max(base["repeated_within"], tutor["repeated_within"]) + 0.1,
            "repetition",
            f"text that stands in the reply before: {sides('repeated_within', percent)}",
            "fewer epochs or a lower training.learning_rate",
        ),
        (tuned["cut"] > base["cut"] + 0.1, "no end", f"replies that did not end: {sides('cut', percent)}", "a longer evaluation.max_new_tokens, or more steps"),
        (
            tuned["only_questions"] > max(base["only_questions"], tutor["only_questions"]) + 0.2,
            "nothing but questions",
            f"replies whose every sentence asks: {sides('only_questions', percent)}",
            "read the replies: the tutor of the dialogues also answers",
        ),
        (
            tuned["distinct_2"] < 0.5 * min(base["distinct_2"], tutor["distinct_2"]),
            "few words",
            f"distinct-2 of the first {letters} letters: {sides('distinct_2', '{:.2f}'.format)}",
            "fewer epochs, or more varied dialogues",
        ),
        (
            tuned["characters"] < 0.5 * min(base["characters"], tutor["characters"]),
            "short replies",
            f"characters per reply: {sides('characters', '{:.0f}'.format)}",
            "read the replies: a short question is easily in style",
        ),
        (
            None not in surprise and surprise[0] > 2 * surprise[1],
            "odd language",
            f"the base finds the replies stranger than its own: perplexity {sides('perplexity', number)}",
            "read the replies: another manner alone is strange to the base, as the tutor's is; if they are broken, a lower training.learning_rate or fewer epochs",
        ),
    )
    return [{"name": name, "says": says, "try_next": try_next} for found, name, says, try_next in signs if found]


def _distinct_by_letters(replies: Sequence[str]) -> dict[str, float]:
    """Number of letters, a power of two -> distinct-2 of the first so many letters of all replies."""
    different, pairs, letters, found = set(), 0, 0, {}
    for text in map(plain, replies):
        for place in range(len(text)):
            letters += 1
            if place:
                pairs += 1
                different.add(text[place - 1 : place + 1])
            if pairs and letters >= _FEWEST_LETTERS and letters.bit_count() == 1:
                found[str(letters)] = len(different) / pairs
    return found


def _by_conversation(replies: Sequence[ScoredReply]) -> dict[str, float]:
    """Conversation -> mean style of its replies, in the order of their names."""
    scores: dict[str, list[float]] = {}
    for reply in sorted(replies, key=lambda each: (each.conversation, each.id)):
        scores.setdefault(reply.conversation, []).append(reply.style)
    return {name: float(np.mean(values)) for name, values in scores.items()}


def _groups(replies: Sequence[ScoredReply], conversations: Mapping[str, float]) -> list[str]:
    """The group of each conversation."""
    found = {reply.conversation: reply.group for reply in replies}
    return [found[name] for name in conversations]
