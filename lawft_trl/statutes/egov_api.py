"""Laws from e-Gov's law API, version 2: politely asked for, each answer kept, so that a second run asks only for the rest.

The interface: https://laws.e-gov.go.jp/api/2/swagger-ui/ (no key; 公共データ利用規約 1.0). `GET /laws` lists laws,
`GET /law_data/{law_id}` gives the full text of one.
"""

import contextlib
import difflib
import hashlib
import io
import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from lawft_trl import __version__
from lawft_trl.errors import InputError
from lawft_trl.folders import refuse_existing, write_text
from lawft_trl.statutes.egov_answers import not_in_force, read_answer
from lawft_trl.statutes.egov_xml import ATTRIBUTION, read_law
from lawft_trl.statutes.passages import Passage, write_corpus
from lawft_trl.statutes.polite_http import Ask, describe, may_pass, polite_get

BASE_URL = "https://laws.e-gov.go.jp/api/2"
EVERY = "all"  # in place of a category code

_LAW_ID = re.compile(r"\d{3}[0-9A-Z]{12}")
_LAW_NUMBER = re.compile(r"(明治|大正|昭和|平成|令和).+第.+号")
_PAGE = 1000  # laws listed at once
_GIVE_UP_AFTER = 3  # laws in a row: the server is down, and retries for 9,000 laws would take days


def build_from_api(
    laws: Sequence[str], out: Path, *, as_of: date, cache: Path, categories: Sequence[str] = (), force: bool = False, **connection: Any
) -> dict[str, Any]:
    """Makes a corpus folder of laws from e-Gov's API and returns its manifest (see `write_corpus`).

    Args:
        laws: see `fetch_laws`, as `as_of`, `categories` and `connection` (its other arguments).
        out: the folder to make.
        cache: where the answers are kept; never emptied.
        force: replace an existing corpus.

    Raises:
        InputError: when a law could not be fetched, none is in force on the day, or `out` exists.
    """
    refuse_existing(out, force=force, mark="manifest.json", rename="--out")
    files, skipped = fetch_laws(laws, cache, as_of=as_of, categories=categories, **connection)
    tally = {
        "source": "e-Gov law API v2",
        "whole_laws": True,
        "asked": [*laws, *(f"category {code}" for code in categories)],
        "laws_without_text": [],
        "skipped": skipped,
    }
    passages = _passages(sorted(files), as_of, tally)
    return write_corpus(passages, out, as_of=as_of.isoformat(), attribution=ATTRIBUTION, sources=tally, force=force)


def fetch_laws(
    laws: Sequence[str],
    folder: Path,
    *,
    as_of: date,
    categories: Sequence[str] = (),
    base_url: str = BASE_URL,
    pause: float = 0.25,
    backoff: float = 1.0,
    timeout: float = 60.0,
) -> tuple[list[Path], list[str]]:
    """Sees to it that the answer for every law lies in `folder`, as `{law_id}.{as_of}.xml`.

    What lies there is not asked for again, neither texts nor look-ups, and nothing half-written ever does. One request
    is under way at a time. Status 429, 500, 502, 503 and 504, timeouts and broken connections are tried 5 times.

    Args:
        laws: law ids, law numbers (`"平成三年法律第九十号"`), exact titles, or abbreviations that e-Gov knows.
        folder: the cache; made when missing.
        as_of: the day whose law is asked for.
        categories: e-Gov's category codes (`"046"` is 民事), or `EVERY`: all their laws in force on the day.
        base_url: where the API is.
        pause: least number of seconds from the start of one request to the start of the next.
        backoff: seconds before the second try, doubled with every further one; `Retry-After` goes before it.
        timeout: seconds that a connection may be silent.

    Returns:
        The files, and a line on every law of the categories that is not in force.

    Raises:
        InputError: with every law that is unknown, ambiguous or could not be fetched. The others are in `folder`.
    """
    import httpx

    headers = {"User-Agent": f"lawft-trl/{__version__}", "Accept-Encoding": "gzip"}
    limits = httpx.Limits(max_connections=1)
    failures = 0
    with httpx.Client(headers=headers, limits=limits, timeout=timeout, follow_redirects=True) as client:
        ask = polite_get(client, base_url.rstrip("/"), pause=pause, backoff=backoff)
        try:
            law_ids, skipped, problems = _choose(laws, categories, ask, folder, as_of)
        except httpx.HTTPError as error:
            raise InputError(f"{base_url}: no list of laws was to be had", [describe(error)]) from None
        for law_id in tqdm(law_ids, unit="law", delay=3, desc="e-Gov"):
            path = _answer_path(folder, law_id, as_of)
            if path.exists():
                continue
            try:
                text = ask(f"/law_data/{law_id}", _text_parameters(as_of))
                read_answer(text, where=law_id, as_of=as_of, law_id=law_id)
            except (httpx.HTTPError, InputError) as error:
                problems.append(f"{law_id}: {describe(error)}" if isinstance(error, httpx.HTTPError) else str(error))
                failures = failures + 1 if may_pass(error) else 0
            else:
                _keep(path, text)
                failures = 0
            if failures == _GIVE_UP_AFTER:
                problems.append(f"stopped after {failures} failures in a row; the rest was not asked for")
                break
    files = [_answer_path(folder, law_id, as_of) for law_id in law_ids]
    if problems:
        kept = sum(path.exists() for path in files)
        raise InputError(
            f"{base_url}: {len(problems)} problem(s); {kept} of {len(files)} laws found are kept in {folder} and not asked for again",
            problems,
        )
    return files, skipped


def _passages(files: Sequence[Path], as_of: date, tally: dict[str, list[str]]) -> Iterator[Passage]:
    """The passages of kept answers, law by law; what cannot be used is noted in the tally."""
    for path in tqdm(files, unit="law", delay=3, desc="corpus"):
        answer = read_answer(_kept_text(path), where=f"{path} (delete it to fetch it again)", as_of=as_of)
        if answer.not_in_force:
            tally["skipped"].append(f"{answer.law} ({answer.law_id}): {answer.not_in_force}")
            continue
        try:
            passages = read_law(
                io.BytesIO(answer.xml), source=path.name, law_id=answer.law_id, revision=answer.revision, as_of=as_of.isoformat()
            )
        except InputError as error:
            tally["skipped"].append(str(error))
            continue
        if not passages:
            tally["laws_without_text"].append(f"{answer.law} ({answer.law_id})")
        yield from passages


def _keep(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text)
    except OSError as error:
        with contextlib.suppress(OSError):
            path.with_name(f".{path.name}.unfinished").unlink()
        raise InputError(f"{path}: cannot be written: {error.strerror}", ["make room, or give another --cache"]) from None


def _kept_text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: damaged: not UTF-8 at byte {error.start}", ["delete it to fetch it again"]) from None


def _answer_path(folder: Path, law_id: str, as_of: date) -> Path:
    return folder / f"{law_id}.{as_of.isoformat()}.xml"


def _text_parameters(as_of: date) -> dict[str, str]:
    return {
        "asof": as_of.isoformat(),
        "law_full_text_format": "xml",
        "response_format": "xml",
        "omit_amendment_suppl_provision": "true",  # the supplementary provisions of the laws that amended it
    }


def _choose(
    laws: Sequence[str], categories: Sequence[str], ask: Ask, folder: Path, as_of: date
) -> tuple[list[str], list[str], list[str]]:
    """The ids of the laws, each once; a line on each law of the categories that is not in force; problems."""
    chosen: dict[str, None] = {}
    skipped, problems = [], []
    for name in laws:
        try:
            chosen[_look_up(name, ask, folder, as_of)] = None
        except InputError as error:
            problems.append(str(error))
    for code in categories:
        empty = True
        for row in _list_laws({} if code == EVERY else {"category_cd": code}, ask, folder, as_of):
            empty = False
            if reason := not_in_force(row["revision_info"], as_of):
                skipped.append(f"{_show([row])}: {reason}")
            else:
                chosen[row["law_info"]["law_id"]] = None
        if empty:
            problems.append(f"category {code!r}: no law has it; e-Gov's codes go from 001 (憲法) to 050 (外事); 046 is 民事")
    return list(chosen), skipped, problems


def _look_up(name: str, ask: Ask, folder: Path, as_of: date) -> str:
    """The id of the one law with this id, number, title or abbreviation.

    Where several have had the title, it is the one in force on the day.
    """
    wanted = _plain(name)
    if _LAW_ID.fullmatch(wanted):
        return wanted
    query = "law_num" if _LAW_NUMBER.fullmatch(wanted) else "law_title"
    rows = list(_list_laws({query: wanted}, ask, folder, as_of))
    for names in (_titles, _abbreviations):
        found = [row for row in rows if wanted in names(row)]
        found = [row for row in found if not not_in_force(row["revision_info"], as_of)] or found
        if len(found) == 1:
            return found[0]["law_info"]["law_id"]
        if found:
            raise InputError(f"{name}: {len(found)} laws are called this; name one by its id: {_show(found)}")
    near = rows or list(_list_laws({"law_title": wanted[: max(2, len(wanted) // 2)]}, ask, folder, as_of))
    by_title = {str(row["revision_info"].get("law_title")): row for row in near}
    close = [by_title[title] for title in difflib.get_close_matches(wanted, by_title, n=5, cutoff=0.2)]
    hint = f"near it: {_show(close)}" if close else "look for its id at https://laws.e-gov.go.jp/"
    raise InputError(f"{name}: no law on e-Gov has this id, number (in kanji) or exact title; {hint}")


def _list_laws(query: Mapping[str, str], ask: Ask, folder: Path, as_of: date) -> Iterator[dict[str, Any]]:
    """The rows of `GET /laws`, page by page; the pages are kept in `folder` as the texts are."""
    offset = 0
    while True:
        asked = "laws" + "".join(f" {key}={value}" for key, value in query.items())
        # A hash, because a title may be longer than a file name can be.
        path = folder / f"laws-{hashlib.sha256(asked.encode()).hexdigest()[:12]}-{offset}.{as_of.isoformat()}.json"
        page = {"asof": as_of.isoformat(), "limit": str(_PAGE), "offset": str(offset), "response_format": "json"}
        kept = path.exists()
        text = _kept_text(path) if kept else ask("/laws", {**query, **page})
        try:
            answer = json.loads(text)
            rows = [row for row in answer["laws"] if row["law_info"]["law_id"] and row["revision_info"]]
            following = answer.get("next_offset") or 0
            if following and following <= offset:
                raise ValueError(f"next_offset {following} after offset {offset}")
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            where = f"{path} (delete it to fetch it again)" if kept else asked
            raise InputError(f"{where}: not a list of laws ({error!r}); it begins with {text.strip()[:60]!r}") from None
        if not kept:
            _keep(path, text)
        yield from rows
        if not following:
            return
        offset = following


def _titles(row: Mapping[str, Any]) -> set[str]:
    """The law's number, its title on the day and its title today."""
    revisions = [row["revision_info"], row.get("current_revision_info") or {}]
    return {_plain(name or "") for name in (row["law_info"].get("law_num"), *(info.get("law_title") for info in revisions))}


def _abbreviations(row: Mapping[str, Any]) -> set[str]:
    return {_plain(name) for name in re.split("[,、]", row["revision_info"].get("abbrev") or "")}


def _show(rows: Iterable[Mapping[str, Any]]) -> str:
    return ", ".join(f"{row['revision_info'].get('law_title')} ({row['law_info']['law_id']})" for row in rows)


def _plain(name: str) -> str:
    return "".join(unicodedata.normalize("NFKC", name).split())
