"""What the server knows, in one SQLite file: uploads, jobs, their events. It is whole after a `kill -9` at any moment."""

import contextlib
import json
import secrets
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

ACTIVE = ("validating_files", "queued", "running")
Level = Literal["info", "warn", "error"]

_TABLES = """
CREATE TABLE IF NOT EXISTS files (place INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE NOT NULL, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS jobs (place INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE NOT NULL, body TEXT NOT NULL, asked TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS events (place INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE NOT NULL, job TEXT NOT NULL, body TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS events_of_job ON events (job, place);
"""


class Store:
    """Keeps records as the API shows them, in the order they came. Safe for several threads of one process.

    Args:
        file: the SQLite file.
    """

    def __init__(self, file: Path) -> None:
        self._lock = threading.RLock()
        self._connection = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=FULL")
        self._connection.executescript(_TABLES)

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            self._connection.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All that is written in the block stands, or nothing of it."""
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    # Files

    def add_file(self, record: Mapping[str, Any]) -> None:
        """Adds an upload or a result."""
        self._write("INSERT INTO files (id, body) VALUES (?, ?)", record["id"], json.dumps(record))

    def file(self, identifier: str) -> dict[str, Any] | None:
        """A file's record."""
        return self._one("SELECT body FROM files WHERE id = ?", identifier)

    def files(self, *, after: str | None, limit: int, newest_first: bool, purpose: str | None) -> tuple[list[dict[str, Any]], bool]:
        """A page of files, and whether there are more. Raises `KeyError` where there is no file `after`."""
        which = ("AND json_extract(body, '$.purpose') = ?", purpose) if purpose is not None else ("",)
        return self._page("files", *which, after=after, limit=limit, newest_first=newest_first)

    def delete_file(self, identifier: str) -> None:
        """Forgets a file."""
        self._write("DELETE FROM files WHERE id = ?", identifier)

    # Jobs

    def add_job(self, job: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
        """Adds a job.

        Args:
            job: what the API shows of it.
            asked: what else is to be known of it.
        """
        self._write("INSERT INTO jobs (id, body, asked) VALUES (?, ?, ?)", job["id"], json.dumps(job), json.dumps(asked))

    def job(self, identifier: str) -> dict[str, Any] | None:
        """What the API shows of a job."""
        return self._one("SELECT body FROM jobs WHERE id = ?", identifier)

    def asked(self, identifier: str) -> dict[str, Any]:
        """What else is known of a job."""
        return self._one("SELECT asked FROM jobs WHERE id = ?", identifier) or {}

    def remember(self, identifier: str, asked: Mapping[str, Any]) -> None:
        """Replaces what else is known of a job."""
        self._write("UPDATE jobs SET asked = ? WHERE id = ?", json.dumps(asked), identifier)

    def jobs(self, *, after: str | None = None, limit: int = -1, metadata: Mapping[str, str] | None = None) -> tuple[list[dict[str, Any]], bool]:
        """A page of jobs, newest first, and whether there are more; all without a limit. Raises `KeyError` as `files`."""
        found, _ = self._page("jobs", "", after=after, limit=-1, newest_first=True)
        found = [job for job in found if (metadata or {}).items() <= (job["metadata"] or {}).items()]
        return (found, False) if limit < 0 else (found[:limit], len(found) > limit)

    def oldest(self, status: str) -> dict[str, Any] | None:
        """The job that came first of those with a status."""
        return self._one("SELECT body FROM jobs WHERE json_extract(body, '$.status') = ? ORDER BY place LIMIT 1", status)

    def count_active(self) -> int:
        """How many jobs have not come to an end."""
        return sum(job["status"] in ACTIVE for job in self.jobs()[0])

    def change(self, identifier: str, changes: Mapping[str, Any], *, only_from: Sequence[str] = ACTIVE) -> bool:
        """Changes a job, unless its status is another by now: a job that was cancelled stays so.

        Returns:
            Whether it was changed.
        """
        with self._lock:
            job = self.job(identifier)
            if job is None or job["status"] not in only_from:
                return False
            self._write("UPDATE jobs SET body = ? WHERE id = ?", json.dumps({**job, **changes}), identifier)
            return True

    def tuned(self, name: str) -> dict[str, Any] | None:
        """The job whose tuned model has a name."""
        return self._one("SELECT body FROM jobs WHERE json_extract(body, '$.fine_tuned_model') = ?", name)

    # Events

    def add_event(self, job: str, message: str, *, level: Level = "info", data: Mapping[str, Any] | None = None) -> None:
        """Adds an event; with `data` it is one of metrics."""
        event = {
            "id": new_id("ftevent"),
            "object": "fine_tuning.job.event",
            "created_at": int(time.time()),
            "level": level,
            "message": message,
            "type": "message" if data is None else "metrics",
            "data": dict(data or {}),
        }
        self._write("INSERT INTO events (id, job, body) VALUES (?, ?, ?)", event["id"], job, json.dumps(event))

    def events(self, job: str, *, after: str | None, limit: int) -> tuple[list[dict[str, Any]], bool]:
        """A page of a job's events, newest first, and whether there are more. Raises `KeyError` as `files`."""
        return self._page("events", "AND job = ?", job, after=after, limit=limit, newest_first=True)

    def _page(self, table: str, where: str, *values: str, after: str | None, limit: int, newest_first: bool) -> tuple[list[dict[str, Any]], bool]:
        order, beyond = ("DESC", "<") if newest_first else ("ASC", ">")
        with self._lock:
            if after is not None:
                row = self._connection.execute(f"SELECT place FROM {table} WHERE id = ? {where}", (after, *values)).fetchone()
                if row is None:
                    raise KeyError(after)
                where, values = f"{where} AND place {beyond} ?", (*values, row[0])
            query = f"SELECT body FROM {table} WHERE 1 {where} ORDER BY place {order} LIMIT ?"
            found = [json.loads(body) for (body,) in self._connection.execute(query, (*values, limit + 1 if limit >= 0 else -1))]
        return (found, False) if limit < 0 else (found[:limit], len(found) > limit)

    def _one(self, query: str, *values: str) -> dict[str, Any] | None:
        with self._lock:
            row = self._connection.execute(query, values).fetchone()
        return json.loads(row[0]) if row else None

    def _write(self, statement: str, *values: str) -> None:
        with self._lock:
            self._connection.execute(statement, values)


def new_id(kind: str) -> str:
    """A new identifier, `"ftjob-…"`."""
    return f"{kind}-{secrets.token_hex(12)}"
