"""Where a model is weakest: the law and the type of question with the fewest right answers. No torch."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from lawft_trl.evaluation.metrics import share_right
from lawft_trl.evaluation.paired import holm

# Some laws of a set are always below others. A part is named when it is below the rest by a test that stays strict
# after Holm's correction over all parts; 0.01 and not 0.05, because questions of one law are not independent.
_CLEARLY = 0.01
_LEAST_QUESTIONS = 10
_EXAMPLES = 3

# What the end of a question asks for, the first rule that fits; before it stand facts and quotations, with words of their own.
_END = 40  # characters
_TYPES = (
    ("combination (組合せ)", r"組み?合わ?せ"),
    ("blank to fill (穴埋め)", r"空欄|空白|穴埋め|当てはまる|[\[(〔]\s*[\])〕]"),
    ("false statement (誤っているもの)", r"誤っている|誤り|正しくない|不適切|適切で(は)?ない"),
    ("true statement (正しいもの)", r"正しい|適切な"),
    ("exception (該当しないもの)", r"ない(もの|者|事項|行為|場合|こと)(又は\w+)?(はどれか|を)"),
    ("instance (該当するもの)", r"該当する(もの|場合|事項|行為)|(違反|抵触)する行為"),
    ("provision (条文)", r"条文"),
    ("number or period (数・期間)", r"いくら|どれだけ|何(日|年|月|箇月|時間|回|歳|人|メートル|キロ)|(期限|期間|上限|下限|限度|割合|額)はどれ"),
)


def question_type(question: str) -> str:
    """The type a question asks for at its end, `"other"` where no rule fits."""
    end = unicodedata.normalize("NFKC", question).strip()[-_END:]
    return next((name for name, pattern in _TYPES if re.search(pattern, end)), "other")


def lowest_part(part_of: Mapping[str, str], right: Mapping[str, bool]) -> dict[str, Any] | None:
    """The part of a set whose questions are answered worst, if it is clearly below the others.

    Args:
        part_of: question id -> its part, e.g. its law; `""` belongs to none.
        right: question id -> whether it was answered right.

    Returns:
        `part`; how many `parts` have 10 questions or more, the only ones that are compared; `questions`, `correct`,
        `accuracy`, `interval` (Wilson) of it; `others`, the accuracy of all other questions; `p_value` (Fisher's exact
        test against all others, one-sided, Holm over the parts); `wrong`, up to three ids of wrong answers. `None` where
        no part is clearly below the others.
    """
    from scipy.stats import fisher_exact  # a second to import, which each start of a training would pay

    members: dict[str, list[str]] = defaultdict(list)
    for question in right:
        members[part_of.get(question, "")].append(question)
    parts = {part: ids for part, ids in members.items() if part and len(ids) >= _LEAST_QUESTIONS}
    total, all_right = len(right), sum(right.values())
    hits = {part: sum(right[question] for question in ids) for part, ids in parts.items()}
    tests = [
        fisher_exact([[hits[part], len(ids) - hits[part]], [all_right - hits[part], total - len(ids) - all_right + hits[part]]], "less").pvalue
        for part, ids in parts.items()
    ]
    clear = {part: p_value for part, p_value in zip(parts, holm([float(p) for p in tests]), strict=True) if p_value < _CLEARLY}
    if not clear:
        return None
    lowest = min(clear, key=lambda part: hits[part] / len(parts[part]))
    ids = parts[lowest]
    return {
        "part": lowest,
        "parts": len(parts),
        **share_right([right[question] for question in ids]),
        "others": (all_right - hits[lowest]) / (total - len(ids)),
        "p_value": clear[lowest],
        "wrong": sorted(question for question in ids if not right[question])[:_EXAMPLES],
    }
