"""`lawft`: one command, a verb for every step. Each verb lives in a module of `lawft_trl.commands`."""

import argparse
import os
import sys
from typing import Any

from lawft_trl import __version__
from lawft_trl.commands import (
    assess,
    assistant,
    chat,
    check,
    compare,
    cv,
    data,
    eval,
    export,
    harness,
    improve,
    ladder,
    log,
    openai_verbs,
    plan,
    recipe,
    rescore,
    serve,
    serve_jobs,
    statutes,
    style,
    sweep,
)
from lawft_trl.errors import InputError
from lawft_trl.quiet import quiet_libraries


def main(arguments: list[str] | None = None) -> int:
    """Runs one verb; returns the exit code: the verb's own (0 where it gives none), or 2 for input that cannot be used."""
    options = _parser().parse_args(arguments)
    quiet_libraries()
    code = 0
    try:
        code = options.run(options) or 0
        sys.stdout.flush()
    except BrokenPipeError:  # `lawft … | head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return code
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; nothing half-written was left", file=sys.stderr)
        return 130
    return code


class _Parser(argparse.ArgumentParser):
    """A parser of options that are written out; the parsers of its verbs, and of theirs, are of the same class."""

    def __init__(self, **kwargs: Any):
        super().__init__(**{"allow_abbrev": False, **kwargs})


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="lawft",
        description="Fine-tuning open LLMs for Japanese legal work, and proving whether it helped.",
        epilog="Training: accelerate launch lawft_trl/sft.py recipes/NAME.yaml [section.key=value ...]",
    )
    parser.add_argument("--version", action="version", version=f"lawft-trl {__version__}")
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    training = (data, statutes, recipe, check, plan, eval, chat, cv, sweep, ladder, compare, rescore, log, export, harness, style)
    at_work = (serve, serve_jobs, openai_verbs, assistant, assess, improve)
    for verb in (*training, *at_work):
        verb.add(verbs)
    return parser


if __name__ == "__main__":
    sys.exit(main())
