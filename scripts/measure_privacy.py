"""Recall and precision of the placeholders, kind by kind, on the labelled texts of tests/fixtures/personal_texts.txt.

    python scripts/measure_privacy.py [FILE]

A value counts as found when no character of it is left in what would be sent; a replacement counts as right when it touches
a labelled value. The texts were written for this project with made-up data, by those who wrote the rules: expect less elsewhere.
"""

import re
import sys
from collections import Counter
from pathlib import Path

from lawft_trl.assistant.personal_kinds import KINDS
from lawft_trl.assistant.privacy import pseudonymise

TEXTS = Path(__file__).parents[1] / "tests" / "fixtures" / "personal_texts.txt"
_LABEL = re.compile(r"\[\[([^:\]]+):([^\]]+)\]\]")
_PLACEHOLDER = re.compile(r"〔([^〔〕0-9]+)[0-9]+〕")


def read_labelled(path: Path) -> list[tuple[str, list[tuple[str, int, int]]]]:
    """The texts, and the `(kind, start, end)` of what is labelled in each."""
    texts = []
    for body in re.split(r"^=== .*\n", path.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        text, spans, last = "", [], 0
        for match in _LABEL.finditer(body):
            text += body[last : match.start()]
            spans.append((match[1], len(text), len(text) + len(match[2])))
            text, last = text + match[2], match.end()
        texts.append((text + body[last:], spans))
    return texts


def replaced_spans(text: str) -> list[tuple[str, int, int]]:
    """`(kind, start, end)` of what a text loses to placeholders."""
    hidden, table = pseudonymise(text)
    spans, place, last = [], 0, 0
    for match in _PLACEHOLDER.finditer(hidden):
        place += match.start() - last
        length = len(table.restore(match[0]))
        spans.append((match[1], place, place + length))
        place, last = place + length, match.end()
    return spans


def main() -> None:
    """Prints the table, and what was missed and what was replaced without need."""
    labelled, found, replaced, right, faults = Counter(), Counter(), Counter(), Counter(), []
    for text, spans in read_labelled(Path(sys.argv[1]) if len(sys.argv) > 1 else TEXTS):
        gone = replaced_spans(text)
        covered = {place for _, start, end in gone for place in range(start, end)}
        for kind, start, end in spans:
            labelled[kind] += 1
            whole = all(place in covered or text[place].isspace() for place in range(start, end))
            found[kind] += whole
            faults += [] if whole else [f"missed, at least in part: {kind} {text[start:end]}"]
        for kind, start, end in gone:
            replaced[kind] += 1
            touches = any(start < other_end and other_start < end for _, other_start, other_end in spans)
            right[kind] += touches
            faults += [] if touches else [f"replaced without need: {kind} {text[start:end]}"]
    print("kind       labelled  found  recall  replaced  right  precision")
    for kind in (*KINDS, "all"):
        counts = [each.total() if kind == "all" else each[kind] for each in (labelled, found, replaced, right)]
        shares = [f"{part / whole:.2f}" if whole else "-" for part, whole in ((counts[1], counts[0]), (counts[3], counts[2]))]
        print(f"{kind:　<6} {counts[0]:6} {counts[1]:6} {shares[0]:>7} {counts[2]:9} {counts[3]:6} {shares[1]:>10}")
    print(*faults, sep="\n")


if __name__ == "__main__":
    main()
