"""The data card of a folder of dialogue rows: one page of Markdown for people."""

from collections.abc import Mapping
from typing import Any


def render_dialogue_card(manifest: Mapping[str, Any]) -> str:
    """The card.

    Args:
        manifest: what `build_dialogues` returns.
    """
    window, splits = manifest["windows"], manifest["splits"]
    bounds = [f"at most {window[key]} {unit}" for key, unit in (("max_turns", "turns"), ("max_tokens", "tokens")) if window[key] is not None]
    lines = [
        f"# Data card: {manifest['dataset']}",
        "",
        manifest["attribution"],
        "",
        f"- Made with {manifest['made_with']} from " + ", ".join(f"`{source['file']}` (sha256 `{source['sha256'][:12]}`)" for source in manifest["sources"])
        + f", seed {manifest['seed']}.",
        f"- {manifest['conversations']} conversations in {sum(split['groups'] for split in splits.values())} groups. Conversations in which nearly the same "
        "is asked are one group, and a group is never divided between two splits.",
        "- One row for every turn of the tutor: the turns before it are the prompt" + (f", {' and '.join(bounds)} in all." if bounds else ", all of them."),
        "",
        "## Splits",
        "",
        "| split | conversations | groups | topics |",
        "|---|---|---|---|",
    ]
    for name, split in splits.items():
        topics = ", ".join(f"{topic or '(none)'} {count}" for topic, count in split["topics"].items())
        lines.append(f"| {name} | {split['conversations']} | {split['groups']} | {topics} |")
    unit = "tokens" if window["tokenizer"] else "characters"
    lines += ["", "## Files", "", f"| file | conversations | rows | with a shortened history | {unit} per row, median / 95 % / longest |", "|---|---|---|---|---|"]
    for name, entry in manifest["files"].items():
        lengths = " / ".join(f"{length:,}" for length in entry["lengths"].values())
        lines.append(f"| `{name}` | {entry['conversations']} | {entry['rows']} | {entry['shortened']} | {lengths} |")
    lines += ["", "## Cleaning", ""]
    if manifest["cleaned"]:
        lines += ["| rule | changed |", "|---|---|", *(f"| {rule} | {count} |" for rule, count in sorted(manifest["cleaned"].items()))]
        lines += ["", "Counted in turns; duplicates in conversations."]
        lines += ["", *(f"- left out: {line}" for line in manifest["dropped"])] if manifest["dropped"] else []
    else:
        lines.append("No rule changed anything.")
    return "\n".join(lines) + "\n"
