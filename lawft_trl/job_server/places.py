"""The server's folders."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where a server keeps what is not in its store.

    Attributes:
        folder: its own.
    """

    folder: Path

    def upload(self, identifier: str) -> Path:
        """An upload's, or a result's, content."""
        return self.folder / "files" / identifier

    def job(self, identifier: str) -> Path:
        """A job's rows, recipe and log."""
        return self.folder / "jobs" / identifier

    def run(self, identifier: str) -> Path:
        """A job's finished run, as any other."""
        return self.folder / "runs" / identifier
