"""`lawft chat`: try a finished run's model, beside its base."""

import argparse
from pathlib import Path
from typing import Any


def add(verbs: Any) -> None:
    """Declares the verb."""
    chat = verbs.add_parser("chat", help="talk with a finished run's model in the terminal (docs/chat.md)")
    chat.add_argument("folder", type=Path, metavar="RUN", help="the folder of a finished run")
    chat.add_argument("--temperature", type=float, default=0.0, help="0, the default, takes the most probable token, as lawft eval does")
    chat.add_argument("--max-new-tokens", type=int, metavar="N", help="the greatest length of an answer (default 512, or half the model's context)")
    chat.add_argument("--system", metavar="TEXT", help="the system message instead of the recipe's (pattern.system); '' for none")
    chat.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    from lawft_trl.evaluation.chat_session import converse, open_session
    from lawft_trl.run_dir import read_run

    system, temperature, length = options.system, options.temperature, options.max_new_tokens
    converse(open_session(read_run(options.folder), system=system, temperature=temperature, max_new_tokens=length))
