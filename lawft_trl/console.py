"""What the dialogues in a terminal have in common: lines come in, pieces of an answer go out."""

import contextlib
import sys
from collections.abc import Iterator


def input_lines(prompt: str, *, interactive: bool) -> Iterator[str]:
    """The lines of standard input; on a terminal with a prompt, a history and editing, until Ctrl-D or Ctrl-C."""
    if not interactive:
        sys.stdin.reconfigure(errors="replace")
        yield from sys.stdin
        return
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  gives `input` its editing; Windows has none
    with contextlib.suppress(EOFError, KeyboardInterrupt):
        while True:
            yield input(prompt)


def write(text: str) -> None:
    """A piece of an answer, at once."""
    sys.stdout.write(text)
    sys.stdout.flush()
