"""The data card of a folder of the legal assistant's pairs: one page of Markdown for people."""

from collections.abc import Mapping
from typing import Any


def render_legal_card(manifest: Mapping[str, Any]) -> str:
    """The card.

    Args:
        manifest: what `build_legal` returns.
    """
    cited, answers, splits = manifest["citations"], manifest["answers"], manifest["splits"]
    lengths = answers["characters"]
    lines = [
        f"# Data card: {manifest['dataset']}",
        "",
        manifest["attribution"],
        "",
        f"- Made with {manifest['made_with']} from `{manifest['source']['file']}` (sha256 `{manifest['source']['sha256'][:12]}`), seed {manifest['seed']}.",
        f"- {manifest['pairs']} questions and answers in {sum(split['groups'] for split in splits.values())} groups; a group is never divided between two splits.",
        f"- {cited['total']} citations: {cited['verified']} 検証済, {cited['unverified']} 未検証. {_corpus(manifest['corpus'])}",
        "- 検証済 says that the article exists in the corpus, not that the answer is right. No lawyer has confirmed any answer here.",
        f"- Answers of {lengths['shortest']} to {lengths['longest']} characters, median {lengths['median']}; different runs of characters among all: "
        + ", ".join(f"distinct-{size} {share:.3f}" for size, share in answers["distinct_n"].items())
        + ".",
        "",
        "## Splits",
        "",
        "| split | pairs | groups | kinds |",
        "|---|---|---|---|",
    ]
    for name, split in splits.items():
        kinds = ", ".join(f"{kind} {count}" for kind, count in split["kinds"].items())
        lines.append(f"| {name} | {split['pairs']} | {split['groups']} | {kinds} |")
    lines += ["", "## Files", "", "| file | pairs | sha256 |", "|---|---|---|"]
    lines += [f"| `{name}` | {entry['pairs']} | `{entry['sha256'][:12]}` |" for name, entry in manifest["files"].items()]
    return "\n".join([*lines, "", "The files `openai_*.jsonl` hold the same conversations as `messages` alone."]) + "\n"


def _corpus(about: Mapping[str, Any] | None) -> str:
    if about is None:
        return "No corpus was given to look them up in (`--corpus`)."
    as_of = f", law as of {about['as_of']}" if about["as_of"] else ""
    return f"Looked up in the corpus with sha256 `{about['sha256'][:12]}`{as_of}; what is 未検証 is of laws that it does not hold, or not as a whole."
