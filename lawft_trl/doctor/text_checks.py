"""Checks of the rows' texts as texts: characters, markup, personal data, length."""

from collections import Counter, defaultdict
from collections.abc import Sequence

from lawft_trl.data.rows import Row
from lawft_trl.doctor.characters import BROKEN, MARKUP, UNENCODABLE, find_characters
from lawft_trl.doctor.findings import Finding, around, examples_of
from lawft_trl.doctor.personal import find_personal


def texts_of(row: Row) -> list[str]:
    """Every text of a row: its messages and its output."""
    return [*(message["content"] for message in row.prompt), row.output]


def character_findings(rows: Sequence[Row]) -> list[Finding]:
    """Characters that cannot be written, that were broken by a wrong encoding, or that nobody sees."""
    hits: dict[str, list[tuple[Row, str]]] = defaultdict(list)
    kinds: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        found = {}
        for text in texts_of(row):
            for kind, position in find_characters(text):
                code = "unencodable-character" if kind == UNENCODABLE else "broken-text" if kind in BROKEN else "invisible-character"
                kinds[code][kind] += 1
                found.setdefault(code, (text, position))
        for code, (text, position) in found.items():
            hits[code].append((row, around(text, position)))
    meanings = {
        "unencodable-character": ("error", "half a character (JSON \\ud800), which no tokenizer can encode", "write the character whole, or delete it"),
        "broken-text": ("warning", "text that a wrong encoding has broken", "read the source again with its real encoding (iconv -f CP932 -t UTF-8 …)"),
        "invisible-character": (
            "warning",
            "characters that a reader does not see and a tokenizer does, or that are not the same everywhere",
            "delete them, write external characters (外字) with a standard one, and NFC-normalise separate voicing marks",
        ),
    }
    return [
        Finding(
            code=code,
            severity=severity,
            message=f"{message}: {', '.join(f'{kind} {count}×' for kind, count in kinds[code].most_common())}",
            count=len(hits[code]),
            total=len(rows),
            examples=examples_of(hits[code]),
            mend=mend,
        )
        for code, (severity, message, mend) in meanings.items()
        if hits[code]
    ]


def markup_findings(rows: Sequence[Row]) -> list[Finding]:
    """Turn markers and special tokens as literal text; the chat template writes the real ones."""
    hits, seen = [], Counter()
    for row in rows:
        found = [(text, match) for text in texts_of(row) for match in MARKUP.finditer(text)]
        seen.update(match[0].strip() for _, match in found)
        if found:
            hits.append((row, around(found[0][0], found[0][1].start())))
    if not hits:
        return []
    return [
        Finding(
            code="turn-markup",
            severity="warning",
            message=f"turn markers or special tokens stand in the text: {', '.join(name for name, _ in seen.most_common(5))}; "
            "a tokenizer may read them as the end of the turn",
            count=len(hits),
            total=len(rows),
            examples=examples_of(hits),
            mend="remove them: the model's chat template writes them when rows are trained and asked",
        )
    ]


def personal_findings(rows: Sequence[Row]) -> list[Finding]:
    """Suspected personal data; the values themselves are never shown."""
    hits, kinds = [], Counter()
    corporate = []
    for row in rows:
        found = [(kind, text) for text in texts_of(row) for kind, _, _ in find_personal(text)]
        personal = [(kind, text) for kind, text in found if kind != "corporate number"]
        kinds.update(kind for kind, _ in personal)
        if personal:
            hits.append((row, personal[0][1]))
        elif found:
            corporate.append((row, found[0][1]))
    findings = []
    if hits:
        findings.append(
            Finding(
                code="personal-data",
                severity="warning",
                message=f"suspected personal data (form and, for numbers, check digit): {', '.join(f'{kind} {count}×' for kind, count in kinds.most_common())}",
                count=len(hits),
                total=len(rows),
                examples=examples_of(hits),
                mend="look at these rows; a trained model can repeat what stands in them: replace it by invented values",
            )
        )
    if corporate:
        findings.append(
            Finding(
                code="corporate-number",
                severity="note",
                message="corporate numbers (法人番号): public, but they name a real company",
                count=len(corporate),
                total=len(rows),
                examples=examples_of(corporate),
                mend="none, if the text is about a real company",
            )
        )
    return findings


def long_output_findings(rows: Sequence[Row], limit: int) -> list[Finding]:
    """Outputs longer than `limit` characters."""
    hits = [(row, row.output) for row in rows if len(row.output) > limit]
    if not hits:
        return []
    return [
        Finding(
            code="long-output",
            severity="warning",
            message=f"outputs of more than {limit} characters, the longest {max(len(text) for _, text in hits)}; "
            "what is cut off in training or when the model is asked is the end, where the answer stands",
            count=len(hits),
            total=len(rows),
            examples=examples_of(hits),
            mend="shorten them, or set the limit with --max-output and the training's with training.max_length",
        )
    ]
