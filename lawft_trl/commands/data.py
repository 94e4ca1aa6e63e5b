"""`lawft data`: questions become checked, split rows for every pattern."""

import argparse
import os
from pathlib import Path
from typing import Any

from lawft_trl.commands import derive, dialogues, legal, overlap, reasons
from lawft_trl.errors import InputError

SAMPLE = Path(__file__).parents[1] / "assets" / "sample" / "questions.jsonl"
_SAMPLE_ATTRIBUTION = "lawft-trl sample set: fictional statutes and questions made by scripts/make_sample_data.py, Apache-2.0."


def add(verbs: Any) -> None:
    """Declares the verb."""
    data = verbs.add_parser("data", help="questions and statutes -> checked, split rows for every pattern")
    sources = data.add_subparsers(required=True, metavar="SOURCE", dest="source")
    lawqa = sources.add_parser("lawqa", help="lawqa_jp of the Digital Agency")
    folder = os.environ.get("LAWFT_LAWQA_DIR")
    lawqa.add_argument("--from", dest="folder", type=Path, default=Path(folder) if folder else None, metavar="FOLDER",
                       help="a clone of lawqa_jp, or one of its JSON files (default: $LAWFT_LAWQA_DIR, else it is downloaded)")  # fmt: skip
    lawqa.set_defaults(run=_lawqa)
    sample = sources.add_parser("sample", help="the shipped questions on fictional statutes")
    sample.set_defaults(run=_sample)
    own = sources.add_parser("questions", help="your own questions, one JSON object a line (docs/data.md)")
    own.add_argument("file", type=Path)
    own.set_defaults(run=_questions)
    derived = derive.add(sources)
    derived.set_defaults(run=_derive)
    for source in (lawqa, sample, own):
        source.add_argument("--statutes", type=Path, metavar="CORPUS",
                            help="corpus the retrieved patterns search, with its index (default: the questions' own statutes)")  # fmt: skip
        source.add_argument("--reasons", type=Path, metavar="FILE",
                            help="reasons for some of the questions, for cot_* training rows (what lawft data reasons writes)")  # fmt: skip
    for source in (lawqa, sample, own):
        _add_row_options(source, test_share=0.3)
    _add_row_options(derived, test_share=0.0)  # they train; what is measured is another set
    dialogues.add(sources)
    legal.add(sources)
    reasons.add(sources)
    overlap.add(sources)


def _add_row_options(source: argparse.ArgumentParser, *, test_share: float) -> None:
    source.add_argument("--out", type=Path, help="the folder to make (default: data/<data set>)")
    source.add_argument("--test-share", type=float, default=test_share, help=f"share of held-out questions (default {test_share:g})")
    source.add_argument("--dev-share", type=float, default=0.1, help="share of dev questions (default 0.1)")
    source.add_argument("--folds", type=int, default=0, metavar="K", help="grouped cross-validation: K folders, each fold held out once")
    source.add_argument("--seed", type=int, default=0, help="seed of the split and of the training contexts (default 0)")
    source.add_argument("--top-k", type=int, default=3, metavar="K", help="articles that a retrieved prompt shows (default 3)")
    source.add_argument("--mix", default="retrieved=1", metavar="KIND=SHARE,...",
                        help="what retrieved training prompts show: retrieved, gold_inserted, distractors (default retrieved=1)")  # fmt: skip
    source.add_argument("--tokenizer", metavar="NAME_OR_PATH", help="count the data card's row lengths in its tokens")
    source.add_argument("--force", action="store_true", help="replace the folder")


def _lawqa(options: argparse.Namespace) -> None:
    from lawft_trl.data.build import Source
    from lawft_trl.data.lawqa import ATTRIBUTION, find_lawqa, known_issues, read_lawqa
    from lawft_trl.data.lawqa_download import download_lawqa

    file = find_lawqa(options.folder or download_lawqa())
    questions = _reasoned(read_lawqa(file), file, options)
    folder = file.resolve().parent
    licence = next((path for path in (folder / "LICENSE.md", folder.parent / "LICENSE.md") if path.is_file()), None)
    _build(
        questions,
        Source(dataset="lawqa_jp", file=file, attribution=ATTRIBUTION, license_file=licence, known_issues=known_issues(questions)),
        options,
        corpus=options.statutes,
    )


def _sample(options: argparse.Namespace) -> None:
    from lawft_trl.data.build import Source
    from lawft_trl.data.questions import read_questions

    _build(_reasoned(read_questions(SAMPLE), SAMPLE, options), Source(dataset="sample", file=SAMPLE, attribution=_SAMPLE_ATTRIBUTION), options, corpus=options.statutes)


def _questions(options: argparse.Namespace) -> None:
    from lawft_trl.data.build import Source
    from lawft_trl.data.questions import read_questions

    source = Source(dataset=options.file.stem, file=options.file, attribution=f"From {options.file.name}.")
    _build(_reasoned(read_questions(options.file), options.file, options), source, options, corpus=options.statutes)


def _derive(options: argparse.Namespace) -> None:
    from lawft_trl.data.build import Source
    from lawft_trl.folders import refuse_existing
    from lawft_trl.statutes.passages import read_manifest

    manifest = read_manifest(options.statutes)
    refuse_existing(_out(options, "derived"), force=options.force, mark="manifest.json", rename="--out")  # before minutes of work
    questions, excluded = derive.derive(options)
    file = options.statutes / "passages.jsonl"
    source = Source(dataset="derived", file=file, attribution=f"Questions derived by rule from statutes. {manifest['attribution']}")
    _build(questions, source, options, corpus=options.statutes, hidden=excluded)


def _reasoned(questions: list[Any], file: Path, options: argparse.Namespace) -> list[Any]:
    """The questions with the reasons of `--reasons`, every reason checked. Derived questions have theirs by rule."""
    from lawft_trl.data.questions import read_questions, with_reasons
    from lawft_trl.reasons.verify import refuse_bad_reasons

    if options.reasons:
        questions = with_reasons(questions, read_questions(options.reasons), options.reasons)
    refuse_bad_reasons(questions, str(options.reasons or file))
    return questions


def _out(options: argparse.Namespace, dataset: str) -> Path:
    return options.out or Path("data") / (dataset + (f"_{options.folds}_folds" if options.folds else ""))


def _build(
    questions: Any, source: Any, options: argparse.Namespace, *, corpus: Path | None, hidden: frozenset[str] = frozenset()
) -> None:
    from lawft_trl.data.build import PATTERNS, Retrieval, build_rows, parse_mix
    for name, least in (("top_k", 1), ("folds", 0)):
        if getattr(options, name) < least:
            raise InputError(f"--{name.replace('_', '-')} {getattr(options, name)}: expected at least {least}")
    out = _out(options, source.dataset)
    manifest = build_rows(
        questions,
        out,
        source=source,
        shares={"test": options.test_share, "dev": options.dev_share},
        seed=options.seed,
        retrieval=Retrieval(corpus=corpus, top_k=options.top_k, mix=parse_mix(options.mix), hidden=hidden),
        folds=options.folds,
        tokenizer=options.tokenizer,
        force=options.force,
    )
    parts = manifest.get("folds") or {"": manifest}
    for fold, entry in parts.items():
        for name, split in entry["splits"].items():
            print(f"{f'{fold} {name}'.strip():5} {split['questions']:4} questions in {split['groups']:3} groups, answers {split['answers']}")
    written = {name.split("/")[0] for entry in parts.values() for name in entry["files"]}
    search, reasoned = manifest["retrieval"], sum(bool(question.reasons) for question in questions)
    if search["corpus"] is None:
        print(f"*_rag were not written: {search['why']}")
    elif search["questions_of_another_day"]:
        print(f"WARNING: {search['questions_of_another_day']} questions are about the law of another day than the corpus ({search['law_as_of'] or 'not stated'})")
    if "direct_gold" not in written:
        print(f"direct_gold was not written: {sum(not question.statutes for question in questions)} of {len(questions)} questions show no statutes")
    if reasoned < len(questions):
        print(f"cot_*: {reasoned} of {len(questions)} questions have reasons (lawft data reasons); the others are in rows for scoring only")
    print(f"{out}: {', '.join(name for name in sorted(PATTERNS) if name in written)}; manifest.json, data_card.md, questions.jsonl")
