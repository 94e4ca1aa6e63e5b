"""A corpus from e-Gov's XML files: the bulk zip (all_xml.zip), or single files.

Every file of the zip is one revision of one law, `{law_id}_{date of entry into force}_{id of the amending law}` (zeros for
the law as enacted), and `all_law_list.csv` lists them. The zip holds, of each law, the revision in force on the day it was
downloaded and those that are to come, and no past ones. So a day after the download is answered as far as the law was
promulgated by then, while for a day before it the laws amended since are missing. A law that begins, in the zip, after the
day is in `laws_text_missing` where its first revision there is by an amending law: it may have been in force for long, with
a text the zip does not hold. Where it is the law as enacted, it was not yet in force (`laws_future` counts these).

Laws that were repealed or lost effect by the day of the download are not in the zip. A repeal still to come cannot be seen
in it: neither the XML nor the list says when a law ends. What is left of a law whose articles all read 削除 gives no passage
and is named in `laws_without_text`.
"""

import csv
import io
import re
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any, TypeVar

from tqdm.auto import tqdm

from lawft_trl.errors import InputError
from lawft_trl.statutes.egov_xml import ATTRIBUTION, read_law
from lawft_trl.statutes.passages import Passage, write_corpus

Item = TypeVar("Item")

_REVISION = re.compile(r"([0-9A-Z]+)_(\d{8})_([0-9A-Z]+)")
_LIST = "all_law_list.csv"
_MAX_BYTES = 100_000_000  # the largest law has 17 MB
_MAX_RATIO = 200  # of unpacked to packed size, where it is worth asking; laws have about 11


def build_from_zip(
    zip_path: Path, out: Path, *, as_of: date, amending_supplements: bool = False, force: bool = False
) -> dict[str, Any]:
    """Makes a corpus folder of e-Gov's bulk zip and returns its manifest.

    Args:
        zip_path: all_xml.zip, or the zip of one category; read in place, one law at a time.
        out: the folder to make.
        as_of: the day whose law is taken: of each law the latest revision in force on it.
        amending_supplements: see `read_law`.
        force: replace an existing corpus.

    Returns:
        The manifest of `write_corpus` and in it the counts of `bulk_passages`.

    Raises:
        InputError: when the file is no zip, holds no law in force on the day, or the corpus cannot be written.
    """
    tally: dict[str, Any] = {"source": zip_path.name, "whole_laws": True}
    passages = bulk_passages(zip_path, as_of=as_of, tally=tally, amending_supplements=amending_supplements)
    return write_corpus(passages, out, as_of=as_of.isoformat(), attribution=ATTRIBUTION, sources=tally, force=force)


def build_from_files(
    paths: Sequence[Path],
    out: Path,
    *,
    as_of: date | None = None,
    amending_supplements: bool = False,
    force: bool = False,
) -> dict[str, Any]:
    """Makes a corpus folder of single XML files and returns its manifest.

    Files named by a revision id (as in the zip) are chosen among by the day; others are taken as they are.

    Args:
        paths: see `xml_files`.
        out: the folder to make.
        as_of: the day whose law is taken; `None` where it is not known, and then no law may come in two revisions.
        amending_supplements: see `read_law`.
        force: replace an existing corpus.

    Raises:
        InputError: when no file holds a law in force on the day, a law comes in two revisions and no day is given, two
            files that were taken hold one law, or the corpus cannot be written.
    """
    named, others = [], []
    for path in xml_files(paths):
        match = _REVISION.fullmatch(path.stem) or _REVISION.fullmatch(path.parent.name)
        if match:
            named.append((match[0], path))
        else:
            others.append(("", path))
    day = as_of.isoformat() if as_of else ""
    tally: dict[str, Any] = {"source": "e-Gov XML", "whole_laws": True, "files": len(named) + len(others), "skipped": [], "laws_without_text": []}
    if as_of is None:
        _refuse_two_revisions(named)
    chosen = [*_in_force(named, as_of, tally), *others]

    def passages() -> Iterator[Passage]:
        files: dict[str, Path] = {}  # by law id
        twice = []
        for revision, path in tqdm(chosen, unit="law", delay=3, desc="e-Gov XML"):
            try:
                data = _read_file(path)
            except InputError as error:
                tally["skipped"].append(str(error))
                continue
            found = _law(data, path.name, revision, day, tally, amending_supplements)
            first = files.setdefault(found[0].law_id, path) if found else path
            if first != path:
                twice.append(f"{found[0].law} ({found[0].law_id}): {first} and {path}; keep one")
            yield from found
        if twice:
            raise InputError("one law in two files: two revisions would be mixed", twice)

    return write_corpus(passages(), out, as_of=day, attribution=ATTRIBUTION, sources=tally, force=force)


def bulk_passages(
    zip_path: Path, *, as_of: date, tally: dict[str, Any], amending_supplements: bool = False
) -> Iterator[Passage]:
    """The passages of the laws in e-Gov's bulk zip, in the order of law ids whatever the order in the zip.

    Of two revisions that came into force on one day the one of the amending law with the higher id is taken. If the file
    of the revision in force cannot be read, the law is left out: an older revision would not be the law of that day.

    Args:
        zip_path: the zip.
        as_of: the day whose law is taken.
        tally: is filled on the way: `files` in the zip, `revisions_older` and `revisions_future` left out, `laws_future`
            of which there is no other revision, `laws_text_missing` (the first revision in the zip of laws that may have
            been in force with an earlier text), `marked_not_in_force`: laws taken although the list (made before `as_of`,
            then) has them as not yet in force, `laws_without_text` (names), `skipped` (lines: file and reason).
        amending_supplements: see `read_law`.

    Raises:
        InputError: when the file is no zip or holds no law in force on the day.
    """
    tally |= {"files": 0, "marked_not_in_force": 0, "laws_without_text": [], "skipped": []}
    with _open_zip(zip_path) as archive:
        named = []
        for info in archive.infolist():
            path = Path(info.filename)
            if path.suffix.lower() != ".xml":
                continue
            tally["files"] += 1
            if _REVISION.fullmatch(path.stem):
                named.append((path.stem, info))
            else:
                tally["skipped"].append(f"{info.filename}: not named by a revision id ({{law id}}_{{yyyymmdd}}_{{amending law id}})")
        if not tally["files"]:
            raise InputError(f"{zip_path}: no XML file of a law in it", ["expected: all_xml.zip of https://laws.e-gov.go.jp/bulkdownload"])
        chosen = _in_force(named, as_of, tally)
        _compare_with_list(archive, {revision for revision, _ in named}, {revision for revision, _ in chosen}, tally)
        if not chosen:
            raise InputError(
                f"{zip_path}: no law in it is in force on {as_of}: {tally['laws_future']} come into force later, of "
                f"{len(tally['laws_text_missing'])} it holds later revisions only",
                tally["skipped"],
            )
        for revision, info in tqdm(chosen, unit="law", delay=3, desc=zip_path.name):
            try:
                data = _read_member(archive, info)
            except InputError as error:
                tally["skipped"].append(str(error))
                continue
            source = f"{zip_path.name}/{info.filename}"
            yield from _law(data, source, revision, as_of.isoformat(), tally, amending_supplements)


def xml_files(paths: Sequence[Path]) -> list[Path]:
    """The files that are meant, sorted by name: files as they are given, of folders the `*.xml` below them.

    Raises:
        InputError: for what is missing, an empty folder, or a zip.
    """
    files, problems = set(), []
    for path in paths:
        below = list(path.rglob("*.xml")) if path.is_dir() else []
        if path.suffix.lower() == ".zip":
            problems.append(f"{path}: a zip, not an XML file; e-Gov's is read whole: lawft statutes zip {path} --as-of YYYY-MM-DD")
        elif not path.exists():
            problems.append(f"{path}: no such file (looked in {path.parent.resolve()})")
        elif path.is_dir() and not below:
            problems.append(f"{path}: no *.xml in this folder")
        files |= set(below) if path.is_dir() else {path}
    if problems or not files:
        raise InputError("XML files of laws", problems or ["none was named"])
    return sorted(files, key=lambda path: (path.name, str(path)))


def _law(
    data: bytes, source: str, revision: str, as_of: str, tally: dict[str, Any], amending_supplements: bool
) -> list[Passage]:
    """The passages of one file; none, and a note in the tally, if it cannot be used."""
    try:
        passages = read_law(
            io.BytesIO(data),
            source=source,
            law_id=revision.partition("_")[0],
            revision=revision,
            as_of=as_of,
            amending_supplements=amending_supplements,
        )
    except InputError as error:
        tally["skipped"].append(str(error))
        return []
    if not passages:
        tally["laws_without_text"].append(source)
    return passages


def _in_force(named: Iterable[tuple[str, Item]], as_of: date | None, tally: dict[str, Any]) -> list[tuple[str, Item]]:
    """Of each law the latest revision in force on the day, in the order of law ids."""
    tally |= {"revisions_older": 0, "revisions_future": 0, "laws_future": 0, "laws_text_missing": []}
    last_day = f"{as_of:%Y%m%d}" if as_of else "99999999"
    by_law = defaultdict(list)
    for revision, item in named:
        by_law[revision.split("_")[0]].append((revision, item))
    chosen = []
    for law in sorted(by_law):
        begun = sorted((found for found in by_law[law] if found[0].split("_")[1] <= last_day), key=lambda found: found[0])
        tally["revisions_future"] += len(by_law[law]) - len(begun)
        tally["revisions_older"] += max(0, len(begun) - 1)
        if not begun:
            first = min(revision for revision, _ in by_law[law])
            if first.rpartition("_")[2].strip("0"):
                tally["laws_text_missing"].append(first)
            else:
                tally["laws_future"] += 1
        chosen += begun[-1:]
    return chosen


def _refuse_two_revisions(named: Sequence[tuple[str, Path]]) -> None:
    by_law = defaultdict(list)
    for revision, path in named:
        by_law[revision.split("_")[0]].append(path)
    problems = [f"{law}: {', '.join(map(str, paths))}" for law, paths in sorted(by_law.items()) if len(paths) > 1]
    if problems:
        raise InputError("laws in more than one revision: say which day's law you want (an as-of date), or name one file of each", problems)


def _compare_with_list(archive: zipfile.ZipFile, present: set[str], chosen: set[str], tally: dict[str, Any]) -> None:
    """Notes what `all_law_list.csv` says otherwise: files that are missing, laws taken that it has as 未施行."""
    info = next((info for info in archive.infolist() if Path(info.filename).name == _LIST), None)
    if info is None:
        return
    try:
        rows = list(csv.reader(io.StringIO(_read_member(archive, info).decode("utf-8-sig"), newline="")))
    except (InputError, UnicodeDecodeError, csv.Error) as error:
        tally["skipped"].append(f"{_LIST}: cannot be read and was not compared: {error}")
        return
    for row in rows[1:]:
        if len(row) < 14:
            continue
        law, url, mark = row[11:14]
        revision = f"{law}_{url.rpartition('/')[2]}"
        tally["marked_not_in_force"] += bool(mark.strip()) and revision in chosen
        if revision not in present:
            tally["skipped"].append(f"{revision}: listed in {_LIST}, but not in the zip")


def _open_zip(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file (looked in {path.parent.resolve()})") from None
    except IsADirectoryError:
        raise InputError(f"{path}: this is a folder; a zip is expected") from None
    except zipfile.BadZipFile:
        raise InputError(f"{path}: not a zip, or one that was not downloaded to its end ({path.stat().st_size:,} bytes)") from None
    except (OSError, NotImplementedError, ValueError) as error:
        raise InputError(f"{path}: cannot be read: {error}; download it again") from None


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """A file of the zip; its checksum is compared. Every way in which it can be unusable is an `InputError`."""
    if info.flag_bits & 1:
        raise InputError(f"{info.filename}: encrypted")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise InputError(f"{info.filename}: packed by method {info.compress_type}, which e-Gov does not use")
    if info.file_size > _MAX_BYTES:
        raise InputError(f"{info.filename}: {info.file_size:,} bytes; a law has at most {_MAX_BYTES:,}")
    if info.file_size > max(1_000_000, _MAX_RATIO * info.compress_size):
        raise InputError(f"{info.filename}: unpacks to {info.file_size:,} bytes, {_MAX_RATIO} times its size or more, as no text does")
    try:
        return archive.read(info)
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, NotImplementedError, ValueError) as error:
        raise InputError(f"{info.filename}: cannot be unpacked: {error}") from None


def _read_file(path: Path) -> bytes:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise InputError(f"{path}: {path.stat().st_size:,} bytes; a law has at most {_MAX_BYTES:,}")
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
