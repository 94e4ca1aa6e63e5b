"""`lawft statutes`: texts of law become a corpus of passages; the corpus is indexed, searched and measured."""

import argparse
import os
import re
import zipfile
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from lawft_trl.commands import retrieval
from lawft_trl.errors import InputError

_SHOWN = 5  # lines on what was skipped; all are in the manifest
_TEXTS = (".md", ".txt")


def add(verbs: Any) -> None:
    """Declares the verb."""
    statutes = verbs.add_parser("statutes", help="texts of law -> a corpus of passages, its index, search")
    sources = statutes.add_subparsers(required=True, metavar="SOURCE")

    lawqa = _source(sources, "lawqa", _lawqa, "the statutes that the questions of lawqa_jp show", "lawqa_jp")
    folder = os.environ.get("LAWFT_LAWQA_DIR")
    lawqa.add_argument("--from", dest="folder", type=Path, default=Path(folder) if folder else None, metavar="FOLDER",
                       help="a clone of lawqa_jp, or one of its JSON files (default: $LAWFT_LAWQA_DIR, else it is downloaded)")  # fmt: skip

    files = _source(sources, "files", _files, "Markdown (## law, ### 第N条, #### 第M項) or plain text", "files")
    files.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="a file, or a folder with .md and .txt files")
    files.add_argument("--law", default="", metavar="TITLE", help="title of the law, where the text has no ## (default: the file's name)")
    _day(files, "the day on which the texts are the law in force (default: not stated)")

    xml = _source(sources, "xml", _xml, "XML files of e-Gov, one law each", "xml")
    xml.add_argument("paths", nargs="+", type=Path, metavar="FILE", help="a file, or a folder with .xml files")
    _day(xml, "of laws in several revisions take the one in force on this day (default: not stated)")
    _amending(xml)

    bulk = _source(sources, "zip", _zip, "e-Gov's bulk zip, https://laws.e-gov.go.jp/bulkdownload", "the zip's name")
    bulk.add_argument("file", type=Path, metavar="FILE", help="all_xml.zip, or the zip of one category; it is not unpacked")
    _day(bulk, "take of each law the revision in force on this day", required=True)
    _amending(bulk)

    fetch = _source(sources, "fetch", _fetch, "e-Gov's API, law by law", "egov")
    fetch.add_argument("laws", nargs="*", metavar="LAW", help="law id, law number (平成三年法律第九十号), exact title or known abbreviation")
    fetch.add_argument("--category", action="append", default=[], dest="categories", metavar="CODE",
                       help="every law of an e-Gov category in force on the day, 001 to 050 (046: 民事), or all (the bulk zip is faster)")  # fmt: skip
    _day(fetch, "take the law of this day (default: today)")
    fetch.add_argument("--cache", type=Path, metavar="FOLDER", help="where answers are kept (default: the system's cache folder)")
    fetch.add_argument("--api", metavar="URL", help="where the API is (default: https://laws.e-gov.go.jp/api/2)")

    retrieval.add(sources)


def _source(sources: Any, name: str, run: Any, help: str, out: str) -> argparse.ArgumentParser:
    parser = sources.add_parser(name, help=f"corpus from {help}", description=f"Makes a corpus from {help}.")
    parser.add_argument("--out", type=Path, help=f"the folder to make (default: statutes/{out})")
    parser.add_argument("--force", action="store_true", help="replace the folder")
    parser.set_defaults(run=run)
    return parser


def _day(parser: argparse.ArgumentParser, help: str, *, required: bool = False) -> None:
    parser.add_argument("--as-of", type=_parse_day, required=required, metavar="YYYY-MM-DD", help=help)


def _amending(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--amending", action="store_true", help="take the supplementary provisions of amending laws too (often most of the text)")


def _parse_day(text: str) -> date:
    try:
        if not re.fullmatch(r"\d{4}-\d\d-\d\d", text, re.ASCII):
            raise ValueError
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no date; write year, month and day as in 2025-04-01") from None


def _today() -> date:
    """The date in Japan, whose law it is."""
    return datetime.now(timezone(timedelta(hours=9))).date()


def _refuse_future(day: date | None, instead: str) -> None:
    if day and day > _today():
        raise InputError(f"--as-of {day}: that day is to come, and the law may change before it", [f"give {_today()} or an earlier day; {instead}"])


def _out(options: argparse.Namespace, name: str) -> Path:
    """The folder to make; says what goes with a corpus that is to be replaced."""
    out = options.out or Path("statutes") / name
    made_from_it = [part for part in ("index", "retrieval_eval") if (out / part).is_dir()]
    if options.force and made_from_it:
        print(f"{out}: replacing the corpus removes {' and '.join(made_from_it)}, to be made again afterwards")
    return out


def _lawqa(options: argparse.Namespace) -> None:
    import json

    from lawft_trl.data.lawqa import ATTRIBUTION, find_lawqa, read_lawqa
    from lawft_trl.data.lawqa_download import download_lawqa
    from lawft_trl.statutes.headed_text import lawqa_passages, read_law_ids
    from lawft_trl.statutes.passages import write_corpus
    from lawft_trl.text_files import file_sha256, read_text

    file = find_lawqa(options.folder or download_lawqa())
    read_lawqa(file)  # so that a faulty file is refused with all its faults
    contexts = [sample["コンテキスト"] for sample in json.loads(read_text(file))["samples"]]
    law_list = file.parent / "law_list.json"
    law_ids = read_law_ids(law_list) if law_list.is_file() else {}
    out = _out(options, "lawqa_jp")
    sources = {"source": file.name, "source_sha256": file_sha256(file), "contexts": len(contexts), "skipped": []}
    passages = lawqa_passages(contexts, law_ids=law_ids)
    _show(write_corpus(passages, out, as_of="", attribution=ATTRIBUTION, sources=sources, force=options.force), out)


def _files(options: argparse.Namespace) -> None:
    from lawft_trl.statutes.headed_text import read_text_files
    from lawft_trl.statutes.passages import write_corpus

    _refuse_future(options.as_of, "or leave it out")
    paths = _text_paths(options.paths)
    passages = read_text_files(paths, law=options.law, as_of=options.as_of.isoformat() if options.as_of else "")
    names = [path.name for path in paths]
    out = _out(options, "files")
    manifest = write_corpus(
        passages,
        out,
        as_of=options.as_of.isoformat() if options.as_of else "",
        attribution=f"From {', '.join(names[:10])}{' and others' if len(names) > 10 else ''}.",
        sources={"source": "text files", "files": names, "skipped": []},
        force=options.force,
    )
    _show(manifest, out)


def _text_paths(paths: list[Path]) -> list[Path]:
    """The files as they are given, and of folders the texts below them; the rest is for the reader to refuse."""
    found, problems = {}, []
    for path in paths:
        below = sorted(file for file in path.rglob("*") if file.suffix.lower() in _TEXTS) if path.is_dir() else [path]
        if not below:
            problems.append(f"{path}: no {' or '.join(_TEXTS)} file in this folder")
        problems += [
            f"{file}: a zip archive, not text; e-Gov's: lawft statutes zip {file} --as-of YYYY-MM-DD; any other: unpack it or save it as text"
            for file in below
            if zipfile.is_zipfile(file)
        ]
        found |= dict.fromkeys(below)
    if problems:
        raise InputError("texts of law", problems)
    return list(found)


def _xml(options: argparse.Namespace) -> None:
    from lawft_trl.statutes.egov_bulk import build_from_files

    _refuse_future(options.as_of, "or leave it out")
    out = _out(options, "xml")
    _show(build_from_files(options.paths, out, as_of=options.as_of, amending_supplements=options.amending, force=options.force), out)


def _zip(options: argparse.Namespace) -> None:
    from lawft_trl.statutes.egov_bulk import build_from_zip

    out = _out(options, options.file.stem)
    _show(build_from_zip(options.file, out, as_of=options.as_of, amending_supplements=options.amending, force=options.force), out)


def _fetch(options: argparse.Namespace) -> None:
    import pooch

    from lawft_trl.statutes.egov_api import BASE_URL, build_from_api

    if not options.laws and not options.categories:
        raise InputError("lawft statutes fetch: which laws?", ["name laws (lawft statutes fetch 借地借家法 民法), or give --category 046"])
    _refuse_future(options.as_of, "for a day to come, as far as laws are promulgated: lawft statutes zip")
    out = _out(options, "egov")
    manifest = build_from_api(
        options.laws,
        out,
        as_of=options.as_of or _today(),
        cache=options.cache or Path(pooch.os_cache("lawft-trl")) / "egov",
        categories=options.categories,
        force=options.force,
        base_url=options.api or BASE_URL,
    )
    _show(manifest, out)


def _show(manifest: dict[str, Any], out: Path) -> None:
    """Prints what a corpus holds and, briefly, what was left out."""
    print(f"{manifest['passages']:,} passages of {manifest['laws']:,} laws, law as of {manifest['as_of'] or 'a day not stated'}")
    counts = {
        "passages that occur twice": manifest.get("duplicates", 0),
        "earlier revisions": manifest.get("revisions_older", 0),
        "revisions to come": manifest.get("revisions_future", 0),
        "laws not yet in force": manifest.get("laws_future", 0),
        "laws without text": len(manifest.get("laws_without_text", [])),
    }
    if any(counts.values()):
        print("left out: " + ", ".join(f"{count:,} {what}" for what, count in counts.items() if count))
    if missing := manifest.get("laws_text_missing"):
        print(f"WARNING: {len(missing):,} laws are NOT in this corpus that may have been in force on {manifest['as_of']}: the revisions that were "
              f"given begin later (laws_text_missing in manifest.json), the first: {', '.join(missing[:_SHOWN])}; take a later day, or: "
              "lawft statutes fetch")  # fmt: skip
    skipped = manifest["skipped"]
    if skipped:
        print(f"skipped: {len(skipped):,}" + (f", the first {_SHOWN}:" if len(skipped) > _SHOWN else ":"))
        print(*(f"  - {line}" for line in skipped[:_SHOWN]), sep="\n")
    print(f"{out}: passages.jsonl, manifest.json, ATTRIBUTION.txt; next: lawft statutes index {out}")
