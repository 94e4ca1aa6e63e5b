"""`lawft assistant`: contract review, legal questions, risk analysis and drafting, in the terminal or as a page."""

import argparse
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lawft_trl.errors import InputError

if TYPE_CHECKING:
    from lawft_trl.assistant.desk import Order
    from lawft_trl.assistant.models import ModelEntry

_PURPOSES = ("attorney", "in-house", "study")
_TASKS = ("review", "ask", "risks", "draft")


def add(verbs: Any) -> None:
    """Declares the verb."""
    verb = verbs.add_parser(
        "assistant",
        help="the legal assistant, in the terminal or as a page (docs/assistant_page.md, docs/manual.ja.md)",
        description="Reviews contracts, answers questions of law, lists risks and drafts, with a run's model or one behind an OpenAI-compatible URL. "
        "Without --web and without one of --review, --ask, --risks, --draft it is a dialogue in the terminal.",
        epilog="Exit code: 0; 1 where the model gave no answer; 2 for input that cannot be used.",
    )
    verb.add_argument("path", type=Path, nargs="?", metavar="RUN", help="a finished run: its model is served on this machine for as long as the assistant runs")
    models = verb.add_argument_group("the model, instead of RUN")
    models.add_argument("--models", type=Path, metavar="FILE", help="a models file (docs/client.md); with --model ALIAS")
    models.add_argument("--base-url", metavar="URL", help="of an OpenAI-compatible endpoint, http://127.0.0.1:8000/v1; with --model NAME")
    models.add_argument("--model", metavar="NAME", help="alias in the models file, or the id at --base-url")
    models.add_argument("--base", metavar="NAME", help="id of the untuned model at --base-url, to compare with")
    models.add_argument("--with-base", action="store_true", help="serve the untuned model of RUN too, to compare with (twice the memory)")
    models.add_argument("--api-key-env", metavar="VARIABLE", help="environment variable with the key for --base-url")
    models.add_argument("--allow-remote", action="store_true", help="consent that text is sent to a model on another machine, private names and numbers replaced")
    verb.add_argument("--corpus", type=Path, metavar="FOLDER", help="an indexed corpus of statutes (lawft statutes); without it every citation is unverified")
    verb.add_argument("--accept", choices=_PURPOSES, help="agree to the notice of the first use, as what you use it; remembered for the terminal")
    tasks = verb.add_argument_group("one task, not a dialogue").add_mutually_exclusive_group()
    tasks.add_argument("--review", type=Path, metavar="FILE", help="review a contract: .pdf .docx .txt .md")
    tasks.add_argument("--ask", metavar="QUESTION", help="answer a question of law")
    tasks.add_argument("--risks", type=Path, metavar="FILE", help="list the risks in a document")
    tasks.add_argument("--draft", type=Path, metavar="TEMPLATE", help="draft from a template; with --facts")
    verb.add_argument("--facts", type=Path, metavar="FILE", help="facts for --draft: lines `name: value`, or prose")
    verb.add_argument("--template", type=Path, metavar="FILE", help="your own template that --review compares the contract with")
    verb.add_argument("--side", choices=("tuned", "base"), default="tuned", help="which model does the one task (default tuned)")
    verb.add_argument("--out", type=Path, metavar="FILE", help="write the result there, as its ending says: .md or .docx")
    verb.add_argument("--force", action="store_true", help="replace --out")
    page = verb.add_argument_group("the page")
    page.add_argument("--web", action="store_true", help="serve the page instead, until Ctrl-C")
    page.add_argument("--port", type=int, default=7860, help="default 7860")
    page.add_argument("--host", default="127.0.0.1", help="another than a loopback address needs --auth")
    page.add_argument("--auth", action="append", default=[], metavar="USER:VARIABLE", help="a user, and the environment variable with the password; may be repeated")
    verb.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from lawft_trl.assistant.desk import open_desk
    from lawft_trl.assistant.terminal import check_out, once, require_acceptance, talk, warn

    order = _order(options)  # whatever can be refused is, before a model is started
    if options.corpus:
        from lawft_trl.statutes.search import open_index

        open_index(options.corpus)
    if options.out:
        check_out(options.out, force=options.force)
    if options.web:
        from lawft_trl.assistant.page_server import page_access, serve_page

        access = page_access(options.host, options.port, options.auth)
    else:
        require_acceptance(options.accept)
    with _models(options) as (entry, base):
        desk = open_desk(entry, base=base, corpus=options.corpus, allow_remote=options.allow_remote)
        if options.web:
            serve_page(desk, access)
            return 0
        if order is None:
            return talk(desk)
        warn(desk)
        if options.side not in desk.models:
            raise InputError("--side base: no untuned model is known", ["--base NAME beside --base-url, base_model: in the models file, or --with-base beside RUN"])
        return once(desk, order, options.side, options.out)


def _order(options: argparse.Namespace) -> "Order | None":
    """The one task of the options, its files read; `None` for a dialogue or the page.

    Raises:
        InputError: for options that do not go together.
    """
    given = [name for name in _TASKS if getattr(options, name) is not None]
    rules = (
        (bool(options.path) + bool(options.models) + bool(options.base_url) != 1, "give one of RUN, --models FILE, --base-url URL"),
        (bool(options.models or options.base_url) != bool(options.model), "--model NAME goes with --models or --base-url, and they need it"),
        (bool(options.base) and not options.base_url, "--base goes with --base-url; in a models file it is `base_model:`, beside RUN it is --with-base"),
        (options.with_base and not options.path, "--with-base goes with RUN"),
        (bool(options.api_key_env) and not options.base_url, "--api-key-env goes with --base-url; in a models file it is `api_key_env:`"),
        (options.web and bool(given), f"--web and --{given[0] if given else ''}: one or the other"),
        (not options.web and bool(options.auth), "--auth goes with --web"),
        (bool(options.facts) != ("draft" in given), "--draft TEMPLATE and --facts FILE go together"),
        (bool(options.template) and "review" not in given, "--template goes with --review"),
        (options.ask is not None and not options.ask.strip(), "--ask: write a question"),
        (options.side == "base" and bool(options.path) and not options.with_base, "--side base beside RUN needs --with-base"),
        (options.side == "base" and bool(options.base_url) and not options.base, "--side base beside --base-url needs --base NAME"),
        (bool(options.out) and not given, "--out goes with one of --review, --ask, --risks, --draft"),
    )
    problems = [problem for broken, problem in rules if broken]
    if problems:
        raise InputError("lawft assistant: options that do not go together", problems)
    if not given:
        return None
    from lawft_trl.assistant.desk import Order
    from lawft_trl.assistant.terminal import open_document

    if options.ask is not None:
        return Order(task="question_answer", text=options.ask)
    if options.risks:
        return Order(task="risk_analysis", document=open_document(options.risks))
    if options.draft:
        return Order(task="drafting", document=open_document(options.draft), text=open_document(options.facts).text)
    return Order(task="contract_review", document=open_document(options.review), template=open_document(options.template) if options.template else None)


@contextlib.contextmanager
def _models(options: argparse.Namespace) -> "Iterator[tuple[ModelEntry, ModelEntry | None]]":
    """The models to ask, served here where they are a run's."""
    from lawft_trl.assistant.models import entry_from_url, read_models

    if options.path:
        from lawft_trl.assistant.own_server import served_run

        with served_run(options.path, with_base=options.with_base) as entries:
            yield entries
    elif options.base_url:
        yield entry_from_url(options.base_url, options.model, base_model=options.base, api_key_env=options.api_key_env), None
    else:
        models = read_models(options.models)
        if options.model not in models:
            raise InputError(f"{options.models}: no model {options.model}", [f"it has {', '.join(models)}"])
        yield models[options.model], None
