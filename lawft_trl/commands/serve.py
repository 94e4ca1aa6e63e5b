"""`lawft serve`: a finished run's model behind an OpenAI-compatible address."""

import argparse
from pathlib import Path
from typing import Any

from lawft_trl.errors import InputError


def add(verbs: Any) -> None:
    """Declares the verb."""
    verb = verbs.add_parser(
        "serve",
        help="serve a run's model on this machine, or print the command of vLLM",
        description="Serves a finished run by `transformers serve` until Ctrl-C, on this machine only: it asks nobody for a key. docs/serving.md.",
        epilog="Exit code: 0; 1 when --vllm finds what vLLM refuses; 2 for what cannot be served.",
    )
    verb.add_argument("path", type=Path, metavar="RUN", help="a finished run, e.g. runs/direct_norag")
    verb.add_argument("--vllm", action="store_true", help="print the command for a GPU server with vLLM, and start nothing")
    verb.add_argument("--port", type=int, default=8000, help="of 127.0.0.1 (default 8000)")
    verb.add_argument("--name", metavar="NAME", help="the model's name for clients (default: the run's)")
    verb.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from lawft_trl.export.serving import serve_run

    if options.vllm:
        return _print_vllm(options)
    if not 1 <= options.port <= 65535:
        raise InputError(f"--port {options.port}: expected 1 to 65535")
    return serve_run(options.path, port=options.port, name=options.name, say=lambda text: print(text, flush=True))


def _print_vllm(options: argparse.Namespace) -> int:
    from lawft_trl.commands.export import check_for_vllm_command

    if options.name:
        raise InputError("--name: vLLM's name for the model stands in its command, --lora-modules NAME=FOLDER; leave it out")
    return check_for_vllm_command(options.path)
