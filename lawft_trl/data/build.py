"""From questions to files of rows: one folder per pattern, each split a file, a manifest and a data card."""

import json
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from tqdm.auto import tqdm

from lawft_trl import __version__
from lawft_trl.data.card import render_card
from lawft_trl.data.contexts import (
    RETRIEVED,
    Context,
    assign_kinds,
    gold_context,
    retrieved_context,
    training_context,
)
from lawft_trl.data.prompts import Answer
from lawft_trl.data.questions import LETTERS, ORDERS, Question, write_questions
from lawft_trl.data.retrieval import question_query
from lawft_trl.data.rows import question_to_record
from lawft_trl.data.splits import fold_questions, join_near_duplicates, split_hash, split_questions
from lawft_trl.errors import InputError
from lawft_trl.folders import whole_folder, write_json
from lawft_trl.statutes.headed_text import lawqa_passages
from lawft_trl.statutes.passages import read_manifest, write_corpus
from lawft_trl.statutes.search import Hit, Index, build_index, open_index
from lawft_trl.text_files import file_sha256

# Folder name -> form of the answer, and which statutes its prompts show. `mixed_*` recipes read a direct and a cot folder.
PATTERNS: dict[str, tuple[Answer, Literal["none", "retrieved", "gold"]]] = {
    "direct_norag": ("direct", "none"),
    "cot_norag": ("cot", "none"),
    "direct_rag": ("direct", "retrieved"),
    "cot_rag": ("cot", "retrieved"),
    "direct_gold": ("direct", "gold"),
}
DEFAULT_MIX = {RETRIEVED: 1.0}


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where the questions are from, as the manifest and the rows say it.

    Attributes:
        dataset: name of the data set, `meta.dataset` of its rows.
        file: what the questions were read from.
        attribution: source and licence, kept beside the rows.
        license_file: the licence's text, copied beside the rows; `None` where there is none.
        known_issues: ids of questions whose gold answer is in doubt, flagged in rows, manifest and card.
    """

    dataset: str
    file: Path
    attribution: str
    license_file: Path | None = None
    known_issues: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class Retrieval:
    """How the retrieved patterns find their statutes.

    Attributes:
        corpus: a corpus folder with its index; `None` makes one of the questions' own statutes, in `OUT/statutes`.
        top_k: passages per prompt.
        mix: kind of context -> its share of the training questions, see `contexts.assign_kinds`.
        hidden: keys of articles that are never shown, such as those of an evaluation set.
    """

    corpus: Path | None = None
    top_k: int = 3
    mix: Mapping[str, float] | None = None
    hidden: frozenset[str] = frozenset()


def build_rows(
    questions: Sequence[Question],
    out: Path,
    *,
    source: Source,
    shares: Mapping[str, float],
    seed: int,
    retrieval: Retrieval = Retrieval(),
    folds: int = 0,
    tokenizer: str | None = None,
    force: bool = False,
) -> dict[str, Any]:
    """Splits questions and writes rows for every pattern, `manifest.json` and `data_card.md`.

    Files are named after their split and the questions in it, `direct_norag/train_84.jsonl`. Training questions are
    written in all four orders of their choices, so that every letter is the answer equally often; the other splits in
    their original order (evaluation makes the orders itself). `cot_*` training rows need reasons; without them only
    rows for scoring are written.

    Args:
        questions: all questions of the data set.
        out: the folder to make; it appears whole or not at all.
        source: where the questions are from.
        shares: share of the questions per held-out split, e.g. `{"test": 0.2, "dev": 0.1}`.
        seed: seed of the split and of what the training prompts show.
        retrieval: how the retrieved patterns find their statutes.
        folds: 0, or the number of folds of a grouped cross-validation: every fold is a folder `fold_1_of_5` whose test
            split is one fold; `shares["test"]` then does not count.
        tokenizer: name or folder of a tokenizer, for the token lengths in the card.
        force: replace an existing `out`.

    Returns:
        The manifest.
    """
    questions = join_near_duplicates(questions)
    manifest = {
        "dataset": source.dataset,
        "made_with": f"lawft-trl {__version__}",
        "attribution": source.attribution,
        "source": {"file": source.file.name, "sha256": file_sha256(source.file)},
        "seed": seed,
        "shares": dict(shares),
        "questions": len(questions),
        "law_as_of": sorted({question.as_of for question in questions}),
        "known_issues": sorted(source.known_issues & {question.id for question in questions}),
    }
    with whole_folder(out, force=force, mark="manifest.json", rename="--out") as folder:
        hits, manifest["retrieval"] = _search(questions, folder, retrieval)
        write = _Writer(source=source, retrieval=retrieval, seed=seed, hits=hits, tool=manifest["retrieval"].get("engine", ""))
        if folds:
            parts = fold_questions(questions, folds, seed)
            manifest["folds"] = {}
            for number, test in enumerate(parts, start=1):
                rest = [question for part in parts if part is not test for question in part]
                dev = {"dev": shares.get("dev", 0.0)}
                fold = {name: members for name, members in split_questions(rest, dev, seed).items() if members} | {"test": test}
                name = f"fold_{number}_of_{folds}"
                manifest["folds"][name] = write.parts(folder / name, fold)
        else:
            parts = {name: members for name, members in split_questions(questions, shares, seed).items() if members}
            manifest |= write.parts(folder, parts)
        write_questions(folder / "questions.jsonl", questions)
        write_json(folder / "manifest.json", manifest)
        (folder / "ATTRIBUTION.txt").write_text(source.attribution + "\n", encoding="utf-8")
        if source.license_file:
            shutil.copyfile(source.license_file, folder / source.license_file.name)
        (folder / "data_card.md").write_text(render_card(manifest, questions, folder, tokenizer=tokenizer), encoding="utf-8")
    return manifest


def _search(questions: Sequence[Question], folder: Path, retrieval: Retrieval) -> tuple[dict[str, list[Hit]], dict[str, Any]]:
    """The hits of every question, more than are shown, and what the manifest says of the search; nothing to search, no hits."""
    corpus = retrieval.corpus
    days = {question.as_of for question in questions}
    if corpus is None:
        if not all(question.statutes for question in questions):
            return {}, {"corpus": None, "why": "not every question shows statutes, and no corpus was named (--statutes)"}
        if len(days) > 1:
            return {}, {"corpus": None, "why": "the questions are about the law of different days, and no corpus was named (--statutes)"}
        corpus = folder / "statutes"
        statutes = [statute for question in questions for statute in question.statutes]
        passages = lawqa_passages(statutes, source="questions", as_of="".join(days))
        write_corpus(passages, corpus, as_of="".join(days), attribution="The questions' own statutes.", sources={})
        build_index(corpus)
    index = open_index(corpus)
    wanted = retrieval.top_k + max((len({*question.provisions, *question.statutes}) for question in questions), default=0)
    hits = {
        question.id: _visible_hits(index, question, wanted, retrieval.hidden)
        for question in tqdm(questions, desc="searching", unit="question", delay=3)
    }
    described = read_manifest(corpus)
    return hits, {
        "corpus": "the questions' own statutes" if retrieval.corpus is None else str(retrieval.corpus),
        "sha256": described["sha256"],
        "laws": described["laws"],
        "passages": described["passages"],
        "law_as_of": described["as_of"],
        "questions_of_another_day": sum(bool(question.as_of) and question.as_of != described["as_of"] for question in questions),
        "engine": index.record["engine"],
        "top_k": retrieval.top_k,
        "mix": dict(retrieval.mix or DEFAULT_MIX),
    }


def _visible_hits(index: Index, question: Question, wanted: int, hidden: frozenset[str]) -> list[Hit]:
    """The best `wanted` hits that are not hidden; fewer only where the corpus has no more."""
    k = wanted
    while True:
        found = index.search(question_query(question), k)
        visible = [hit for hit in found if hit.article_key not in hidden]
        if len(visible) >= wanted or len(found) < k:
            return [replace(hit, rank=rank) for rank, hit in enumerate(visible[:wanted], start=1)]
        k *= 2


@dataclass(frozen=True, kw_only=True)
class _Writer:
    """What all files of a data set have in common while they are written."""

    source: Source
    retrieval: Retrieval
    seed: int
    hits: Mapping[str, Sequence[Hit]]
    tool: str

    def parts(self, folder: Path, parts: Mapping[str, Sequence[Question]]) -> dict[str, Any]:
        """Writes `folder/<pattern>/<split>_<questions>.jsonl`; returns what the manifest says of the split and files."""
        kinds = assign_kinds(parts["train"], self.retrieval.mix or DEFAULT_MIX, self.seed)
        files = {}
        for pattern, (answer, statutes) in PATTERNS.items():
            everyone = [question for members in parts.values() for question in members]
            if (statutes == "gold" and not all(question.statutes for question in everyone)) or (statutes == "retrieved" and not self.hits):
                continue
            for name, members in parts.items():
                if answer == "cot" and name != "test":  # nothing can be learned from an answer without its reasons
                    members = [question for question in members if question.reasons]
                if not members:
                    continue
                contexts = {question.id: self._context(question, statutes, kinds if name == "train" else {}) for question in members}
                path = folder / pattern / f"{name}_{len(members)}.jsonl"
                files[f"{pattern}/{path.name}"] = self._file(path, members, answer, contexts, ORDERS if name == "train" else ORDERS[:1])
        return {
            "split_sha256": split_hash(parts),
            "splits": {name: _describe(members) for name, members in parts.items()},
            "files": files,
        }

    def _context(self, question: Question, statutes: str, kinds: Mapping[str, str]) -> Context:
        if statutes == "none":
            return Context()
        if statutes == "gold":
            return gold_context(question)
        common = {"top_k": self.retrieval.top_k, "retriever": self.tool}
        if question.id in kinds:
            return training_context(question, self.hits[question.id], kinds[question.id], seed=self.seed, **common)
        return retrieved_context(question, self.hits[question.id], **common)

    def _file(
        self, path: Path, members: Sequence[Question], answer: Answer, contexts: Mapping[str, Context], orders: Sequence[str]
    ) -> dict[str, Any]:
        records = [
            question_to_record(
                question,
                answer=answer,
                context=contexts[question.id],
                dataset=self.source.dataset,
                source_file=self.source.file.name,
                order=order,
            )
            for question in members
            for order in orders
        ]
        for record in records:
            if record["meta"]["id"] in self.source.known_issues:
                record["meta"]["known_issue"] = True
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")
        described = {
            "questions": len(members),
            "rows": len(records),
            "sha256": file_sha256(path),
            "answers": _letters(record["meta"]["correct"] for record in records),
        }
        retrieved = [context for context in contexts.values() if context.passages]
        if retrieved:
            known = [context for context in retrieved if context.known]
            described["gold_known"] = len(known)
            described["gold_shown"] = sum(bool(context.gold_shown) for context in known)
            described["all_gold_shown"] = sum(not context.missing for context in known)
            described["contexts"] = dict(sorted(Counter(context.kind for context in retrieved).items()))
        scoring_only = sum(bool(record["meta"].get("scoring_only")) for record in records)
        if scoring_only:
            described["scoring_only"] = scoring_only
        return described


def parse_mix(text: str) -> dict[str, float]:
    """Reads `"retrieved=0.6,gold_inserted=0.2,distractors=0.2"`.

    Raises:
        InputError: for anything else; unknown kinds and sums are refused where the shares are used.
    """
    try:
        shares = [(kind.strip(), float(share)) for kind, share in (part.split("=") for part in text.split(","))]
        if len(dict(shares)) < len(shares):
            raise ValueError("a kind is given twice")
        return dict(shares)
    except ValueError:
        raise InputError(f"--mix {text}: expected KIND=SHARE, separated by commas, e.g. retrieved=0.6,gold_inserted=0.2,distractors=0.2") from None


def _describe(members: Sequence[Question]) -> dict[str, Any]:
    return {
        "questions": len(members),
        "groups": len({question.group or question.id for question in members}),
        "laws": dict(sorted(Counter(question.law for question in members).items())),
        "answers": _letters(question.answer for question in members),
        "ids": [question.id for question in members],
    }


def _letters(answers) -> dict[str, int]:
    counts = Counter(answers)
    return {letter: counts[letter] for letter in LETTERS}
