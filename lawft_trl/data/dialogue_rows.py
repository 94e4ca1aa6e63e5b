"""Rows of dialogues: one for every turn of the tutor, with as much of the history before it as is wanted and fits."""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lawft_trl import __version__
from lawft_trl.data.dialogue_card import render_dialogue_card
from lawft_trl.data.dialogues import Conversation, clean, load_conversations
from lawft_trl.data.near_duplicates import ngrams, plain, text_index
from lawft_trl.data.questions import shared_passage_groups
from lawft_trl.data.splits import split_hash, split_questions
from lawft_trl.errors import InputError
from lawft_trl.folders import whole_folder, write_json, write_text
from lawft_trl.text_files import file_sha256

Messages = tuple[dict[str, str], ...]
FOLDER = "dialogue"  # what the rows' `meta.mode` and the recipe's `pattern.answer` say, too


@dataclass(frozen=True, kw_only=True)
class Window:
    """A turn of the tutor and what it answers.

    Attributes:
        prompt: the messages before it, from a turn of the user to a turn of the user.
        output: what the tutor says.
        turn: which message of the conversation that is, counted from 1.
        left_out: how many messages at the beginning of the conversation are not in `prompt`.
        tokens: the length that was counted, `None` where nothing was.
    """

    prompt: Messages
    output: str
    turn: int
    left_out: int = 0
    tokens: int | None = None


def windows(
    conversation: Conversation,
    *,
    max_turns: int | None = None,
    max_tokens: int | None = None,
    count: Callable[[Messages, str], int] | None = None,
) -> Iterator[Window]:
    """One window for every turn of the tutor; the oldest turns leave it in pairs, so that it always begins with the user.

    Args:
        conversation: one without faults.
        max_turns: the most messages, that of the tutor included; at least 2.
        max_tokens: the longest window, as `count` measures it. The turn that is answered always stays, so a window of one
            question and its answer may be longer; `tokens` says so.
        count: the tokens of a prompt and an output together.
    """
    for place, message in enumerate(conversation.messages):
        if message["role"] != "assistant":
            continue
        start = 0 if max_turns is None else max(0, place + 1 - max_turns)
        start += start % 2
        output = message["content"]
        tokens = count(conversation.messages[start:place], output) if count else None
        while max_tokens is not None and tokens > max_tokens and start + 1 < place:
            start += 2
            tokens = count(conversation.messages[start:place], output)
        yield Window(prompt=conversation.messages[start:place], output=output, turn=place + 1, left_out=start, tokens=tokens)


def window_record(window: Window, conversation: Conversation, *, dataset: str) -> dict[str, Any]:
    """A window as a row record, in the form `{"prompt", "completion", "meta"}` that `read_rows` reads."""
    return {
        "prompt": list(window.prompt),
        "completion": [{"role": "assistant", "content": window.output}],
        "meta": {
            "id": f"{conversation.id}#{window.turn}",
            "dataset": dataset,
            "mode": FOLDER,
            "group": conversation.group,
            "conversation": conversation.id,
            "turn": window.turn,
            "topic": conversation.topic,
            "left_out": window.left_out,
            "source_file": Path(re.sub(r":\d+$", "", conversation.source)).name,
        },
    }


def join_conversations(conversations: Sequence[Conversation], asked: Mapping[str, Sequence[Window]]) -> list[Conversation]:
    """The conversations with the groups joined of those that ask the same, so that no split divides them.

    Two ask the same if the history before a turn of the one is that before a turn of the other, letter for letter or by
    nine tenths of their character 5-grams: what `find_overlaps` calls the same prompt or a near-duplicate.

    Args:
        conversations: all of the data set.
        asked: id -> the conversation's windows.
    """
    owners, texts = [], []
    for position, conversation in enumerate(conversations):
        for window in asked[conversation.id]:
            owners.append(position)
            texts.append(plain("\n".join(message["content"] for message in window.prompt)))
    grams = [ngrams([text]) for text in texts]
    index = text_index(grams, [False] * len(grams), [False])
    keys: list[list[Any]] = [[("group", conversation.group)] for conversation in conversations]
    for place, owner in enumerate(owners):
        keys[owner].append(("text", texts[place]))
        for near in index.similar(grams[place], False):
            if owners[near] != owner:
                pair = (min(owner, owners[near]), max(owner, owners[near]))
                keys[owner].append(pair)
                keys[owners[near]].append(pair)
    first: dict[str, str] = {}
    names = shared_passage_groups(keys, "near")
    for name, conversation in zip(names, conversations, strict=True):
        first.setdefault(name, conversation.group)
    return [replace(conversation, group=first[name]) for name, conversation in zip(names, conversations, strict=True)]


def token_counter(tokenizer: str) -> Callable[[Messages, str], int]:
    """A `count` for `windows`: tokens of a prompt under a tokenizer's chat template, of the output and the end of the turn."""
    from lawft_trl.data.chat import encode, end_of_turn, load_tokenizer, prompt_text

    loaded, kwargs = load_tokenizer(tokenizer), {"enable_thinking": False}
    end = end_of_turn(loaded, kwargs)
    return lambda prompt, output: len(encode(loaded, prompt_text(loaded, prompt, kwargs) + output + end))


def build_dialogues(
    files: Sequence[Path],
    out: Path,
    *,
    shares: Mapping[str, float],
    seed: int,
    max_turns: int | None = None,
    max_tokens: int | None = None,
    tokenizer: str | None = None,
    attribution: str | None = None,
    force: bool = False,
) -> dict[str, Any]:
    """Validates, cleans and splits conversations, and writes `OUT/dialogue/train_160.jsonl` and the others, the manifest, the
    card, and the cleaned conversations.

    A file is named after its split and the conversations in it. The split is by conversation (and by group, see
    `join_conversations`), every topic having its share in each part.

    Args:
        files: conversations, see `load_conversations`.
        out: the folder to make; it appears whole or not at all.
        shares: share of the conversations per held-out split, e.g. `{"test": 0.1, "dev": 0.1}`.
        seed: seed of the split.
        max_turns: see `windows`.
        max_tokens: see `windows`; needs `tokenizer`.
        tokenizer: name or folder of a tokenizer with a chat template, in whose tokens lengths are counted; without one the
            card counts characters.
        attribution: who wrote them, under which licence; without it the files' names are all that is said.
        force: replace an existing `out`.

    Returns:
        The manifest.

    Raises:
        InputError: for faulty conversations, impossible settings, or a turn that does not fit into `max_tokens` even alone.
    """
    _refuse_settings(max_turns, max_tokens, tokenizer)
    cleaned = clean(load_conversations(files))
    count = token_counter(tokenizer) if tokenizer else None
    asked = {
        conversation.id: list(windows(conversation, max_turns=max_turns, max_tokens=max_tokens, count=count))
        for conversation in cleaned.conversations
    }
    _refuse_too_long(cleaned.conversations, asked, max_tokens)
    conversations = join_conversations(cleaned.conversations, asked)
    parts = {name: part for name, part in split_questions(conversations, shares, seed, stratum="topic", unit="conversations").items() if part}
    dataset = files[0].stem
    manifest: dict[str, Any] = {
        "dataset": dataset,
        "made_with": f"lawft-trl {__version__}",
        "attribution": attribution or f"From {', '.join(file.name for file in files)}.",
        "law_as_of": [],  # they state no law
        "sources": [{"file": file.name, "sha256": file_sha256(file)} for file in files],
        "seed": seed,
        "shares": dict(shares),
        "conversations": len(conversations),
        "windows": {"max_turns": max_turns, "max_tokens": max_tokens, "tokenizer": tokenizer},
        "cleaned": cleaned.counts,
        "dropped": cleaned.dropped,
        "split_sha256": split_hash(parts),
        "splits": {name: _describe(part) for name, part in parts.items()},
        "files": {},
    }
    with whole_folder(out, force=force, mark="manifest.json", rename="--out") as folder:
        (folder / FOLDER).mkdir()
        for name, part in parts.items():
            records = [window_record(window, conversation, dataset=dataset) for conversation in part for window in asked[conversation.id]]
            path = folder / FOLDER / f"{name}_{len(part)}.jsonl"
            write_text(path, _lines(records))
            manifest["files"][f"{FOLDER}/{path.name}"] = {
                "conversations": len(part),
                "rows": len(records),
                "shortened": sum(bool(record["meta"]["left_out"]) for record in records),
                "lengths": _quantiles(_lengths(part, asked, count)),
                "sha256": file_sha256(path),
            }
        texts = [{"id": item.id, "topic": item.topic, "group": item.group, "messages": item.messages} for item in conversations]
        write_text(folder / "conversations.jsonl", _lines({key: value for key, value in text.items() if value} for text in texts))
        write_json(folder / "manifest.json", manifest)
        write_text(folder / "ATTRIBUTION.txt", manifest["attribution"] + "\n")
        write_text(folder / "data_card.md", render_dialogue_card(manifest))
    return manifest


def _lines(records: Iterable[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def _refuse_settings(max_turns: int | None, max_tokens: int | None, tokenizer: str | None) -> None:
    problems = []
    if max_turns is not None and max_turns < 2:
        problems.append(f"--max-turns {max_turns}: expected at least 2, a question and its answer")
    if max_tokens is not None and max_tokens < 1:
        problems.append(f"--max-tokens {max_tokens}: expected at least 1")
    if max_tokens is not None and tokenizer is None:
        problems.append("--max-tokens needs --tokenizer NAME_OR_PATH, in whose tokens it counts")
    if problems:
        raise InputError(f"{len(problems)} setting(s) cannot be used; nothing was written", problems)


def _refuse_too_long(conversations: Sequence[Conversation], asked: Mapping[str, Sequence[Window]], max_tokens: int | None) -> None:
    long = [
        (window.tokens, f"{conversation.source}, conversation {conversation.id}, turn {window.turn}: {window.tokens} tokens")
        for conversation in conversations
        for window in asked[conversation.id]
        if max_tokens is not None and window.tokens > max_tokens
    ]
    if long:
        raise InputError(
            f"{len(long)} turn(s) and the one turn each answers are longer than --max-tokens {max_tokens}; nothing is cut within a turn: "
            f"set --max-tokens {max(tokens for tokens, _ in long)}, or shorten them",
            [text for _, text in sorted(long, reverse=True)],
        )


def _describe(part: Sequence[Conversation]) -> dict[str, Any]:
    return {
        "conversations": len(part),
        "groups": len({conversation.group for conversation in part}),
        "topics": dict(sorted(Counter(conversation.topic for conversation in part).items())),
        "ids": [conversation.id for conversation in part],
    }


def _lengths(
    part: Sequence[Conversation], asked: Mapping[str, Sequence[Window]], count: Callable[[Messages, str], int] | None
) -> list[int]:
    """Tokens of every row, or characters of its messages where no tokenizer was named."""
    found = [window for conversation in part for window in asked[conversation.id]]
    if count:
        return [window.tokens for window in found]
    return [sum(len(message["content"]) for message in window.prompt) + len(window.output) for window in found]


def _quantiles(lengths: Sequence[int]) -> dict[str, int]:
    ordered = sorted(lengths)
    return {name: ordered[min(len(ordered) - 1, int(share * len(ordered)))] for name, share in (("median", 0.5), ("95 %", 0.95), ("longest", 1))}
