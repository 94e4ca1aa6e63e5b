"""`lawft serve-jobs`: OpenAI's fine-tuning API on this machine."""

import argparse
import re
from pathlib import Path
from typing import Any

from lawft_trl.errors import InputError

_SIZES = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3}


def add(verbs: Any) -> None:
    """Declares the verb."""
    verb = verbs.add_parser(
        "serve-jobs",
        help="OpenAI's fine-tuning API on this machine: files, jobs, models, chat",
        description="Serves /v1/files, /v1/fine_tuning/jobs, /v1/models and /v1/chat/completions; jobs are trained here, one at a time. docs/serve_jobs.md.",
    )
    verb.add_argument("--folder", type=Path, required=True, help="where everything is kept; made where there is none")
    verb.add_argument("--base", action="append", default=[], metavar="NAME=RECIPE",
                      help="a model that can be tuned, and how; may be given several times")  # fmt: skip
    verb.add_argument("--models", type=Path, metavar="FILE", help="the same as a YAML file of `NAME: RECIPE` lines, paths from the file's folder")
    verb.add_argument("--port", type=int, default=8080, help="default 8080")
    verb.add_argument("--host", default="127.0.0.1", help="default 127.0.0.1; any other needs LAWFT_JOBS_API_KEY")
    verb.add_argument("--max-upload", default="64M", metavar="SIZE", help="of a file, e.g. 512M (default 64M)")
    verb.add_argument("--served", type=int, default=2, metavar="N", help="models that are kept in memory to answer (default 2: base and tuned)")
    verb.add_argument("--config_file", type=Path, metavar="YAML", help="of accelerate launch (default: one process)")
    verb.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    bases, problems = _bases(options)
    size = options.max_upload.upper()
    if not re.fullmatch(r"[0-9]{1,15}[KMG]?", size):
        problems.append(f"--max-upload {options.max_upload}: expected a number of bytes, or one with K, M or G behind it")
    if not 1 <= options.port <= 65535:
        problems.append(f"--port {options.port}: expected 1 to 65535")
    if options.served < 1:
        problems.append(f"--served {options.served}: expected at least 1")
    if problems:
        raise InputError(f"lawft serve-jobs: {len(problems)} option(s) cannot be used", problems)
    try:
        from lawft_trl.job_server.server import serve_jobs
    except ModuleNotFoundError as error:
        raise InputError(f"lawft serve-jobs needs {error.name}, which is not installed", ["pip install 'lawft-trl[serve]'"]) from None
    limit = int(size.rstrip("KMG")) * _SIZES[size.lstrip("0123456789")]
    serve_jobs(
        options.folder,
        bases,
        host=options.host,
        port=options.port,
        max_upload=limit,
        most_served=options.served,
        config_file=options.config_file,
        say=lambda text: print(text, flush=True),
    )


def _bases(options: argparse.Namespace) -> tuple[dict[str, Path], list[str]]:
    """Name -> recipe, of the file and of the options, and what is wrong with them."""
    bases, problems = {}, []
    if options.models:
        from ruamel.yaml import YAML, YAMLError

        from lawft_trl.text_files import read_text

        try:
            named = YAML(typ="safe").load(read_text(options.models))
        except YAMLError as error:
            raise InputError(f"{options.models}: not YAML: {str(getattr(error, 'problem', error)).splitlines()[0]}") from None
        if not isinstance(named, dict) or not all(isinstance(part, str) for pair in named.items() for part in pair):
            raise InputError(f"{options.models}: expected lines `NAME: RECIPE`")
        bases = {name: options.models.parent / recipe for name, recipe in named.items()}
    for text in options.base:
        name, equals, recipe = text.partition("=")
        if not (name and equals and recipe):
            problems.append(f"--base {text}: expected NAME=RECIPE, e.g. tiny=recipes/parents/jobs_tiny.yaml")
        elif name in bases:
            problems.append(f"--base {text}: {name} is named twice")
        else:
            bases[name] = Path(recipe)
    return bases, problems
