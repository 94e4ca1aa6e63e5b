"""`lawft openai`: fine-tuning jobs over OpenAI's API, at OpenAI or at `lawft serve-jobs`."""

import argparse
import contextlib
import dataclasses
import json
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lawft_trl.errors import InputError

if TYPE_CHECKING:
    from lawft_trl.openai_jobs.connection import Server
    from lawft_trl.openai_jobs.jobs import Update
    from lawft_trl.openai_jobs.training_file import FileReport

_SHOWN = 20  # places of one finding; --json has all
_ENDED_OTHERWISE, _STILL_RUNNING = 1, 3


def add(verbs: Any) -> None:
    """Declares the verbs."""
    parser = verbs.add_parser(
        "openai",
        help="fine-tuning jobs over OpenAI's API: check, cost, upload, create, watch, cancel, pull",
        description="The server is --base-url, else $OPENAI_BASE_URL, else OpenAI; the key is $OPENAI_API_KEY. lawft serve-jobs speaks the same API "
        "on your own machine. Ids and names go to stdout, everything else to stderr. docs/openai.md",
    )
    steps = parser.add_subparsers(required=True, metavar="STEP")
    _add_file_verbs(steps)
    _add_create(steps)

    watch = _server_verb(steps, "watch", _watch, "follow a job to its end, from its first event on; without JOB_ID: list the jobs")
    watch.add_argument("job", nargs="?", metavar="JOB_ID")
    watch.add_argument("--deadline", type=float, default=86_400.0, metavar="SECONDS", help="wait no longer than this; the job goes on (default 86400, a day)")
    watch.add_argument("--interval", type=float, default=5.0, metavar="SECONDS", help="between two looks (default 5)")
    watch.epilog = "Exit code: 0 succeeded; 1 failed, cancelled or ended otherwise; 2 the server cannot be asked; 3 the deadline is over and the job is not."

    _server_verb(steps, "cancel", _cancel, "cancel a job").add_argument("job", metavar="JOB_ID")

    pull = _server_verb(steps, "pull", _pull, "the record of a job that has ended: tuned model, metrics, checkpoints, result files")
    pull.add_argument("job", metavar="JOB_ID")
    pull.add_argument("--out", type=Path, required=True, metavar="FILE", help="the JSON file to write")
    pull.add_argument("--force", action="store_true", help="replace it")


def _add_file_verbs(steps: Any) -> None:
    check = steps.add_parser("check", help="what is wrong with a training file, line by line", description="Ends with 2 if there is an error, as lawft check does.")
    check.add_argument("file", type=Path, metavar="FILE", help='JSONL, {"messages": [...]} on each line')
    check.add_argument("--validation", type=Path, metavar="FILE", help="the validation file, which must have no example in common with it")
    _counting(check)
    check.add_argument("--max-tokens", type=int, metavar="N", help="tokens an example may have (default: the model's limit, where it is known)")
    check.add_argument("--strict", action="store_true", help="treat warnings as errors")
    check.add_argument("--json", action="store_true", help="print the findings as JSON instead, with every place")
    check.set_defaults(run=_check)

    cost = steps.add_parser("cost", help="tokens of a training, and its price by a list or rate of yours", description="Money only from what you give: no price is built in.")
    cost.add_argument("file", type=Path, metavar="FILE", help="a training file without errors")
    _counting(cost)
    cost.add_argument("--epochs", type=float, default=3, metavar="N", help="how often the file is read (default 3)")
    cost.add_argument("--prices", type=Path, metavar="FILE", help="dated price list (docs/openai.md)")
    cost.add_argument("--gpu-hour-rate", type=float, metavar="RATE", help="for a local training: what an hour of the GPU costs")
    cost.add_argument("--tokens-per-second", type=float, metavar="N", help="for a local training: how fast it trains, as it was measured")
    cost.set_defaults(run=_cost)

    upload = _server_verb(steps, "upload", _upload, "upload a training or validation file; prints its id")
    upload.add_argument("file", type=Path, metavar="FILE")
    upload.add_argument("--unchecked", action="store_true", help="upload it although lines of it are in no form to train on")


def _add_create(steps: Any) -> None:
    create = _server_verb(steps, "create", _create, "create a job from an uploaded file; prints its id")
    create.add_argument("training_file", metavar="TRAINING_FILE_ID", help="what lawft openai upload printed")
    create.add_argument("--model", required=True, metavar="NAME", help="the model to tune, as the server names it")
    create.add_argument("--validation-file", metavar="FILE_ID")
    create.add_argument("--suffix", metavar="TEXT", help="part of the tuned model's name, 1 to 64 characters")
    create.add_argument("--seed", type=int, metavar="N", help="0 to 2^31 - 1")
    create.add_argument("--n-epochs", type=_or_auto(int), metavar="N", help="1 to 50, or auto")
    create.add_argument("--batch-size", type=_or_auto(int), metavar="N", help="1 to 256, or auto")
    create.add_argument("--learning-rate-multiplier", type=_or_auto(float), metavar="X", help="above 0, or auto")
    create.add_argument("--metadata", type=_pair, action="append", default=[], metavar="KEY=VALUE", help="kept with the job; up to 16")


def _server_verb(steps: Any, name: str, run: Callable[[argparse.Namespace], int], help: str) -> argparse.ArgumentParser:
    verb = steps.add_parser(name, help=help, description=help[0].upper() + help[1:] + ".")
    verb.add_argument("--base-url", metavar="URL", help="the server (default $OPENAI_BASE_URL, else OpenAI), e.g. http://127.0.0.1:8080/v1")
    verb.add_argument("--timeout", type=float, default=60.0, metavar="SECONDS", help="for one attempt (default 60)")
    verb.set_defaults(run=run)
    return verb


def _counting(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--model", metavar="NAME", help="the model to be tuned: OpenAI's name, or ft:NAME:… for a tuned one")
    verb.add_argument("--tokenizer", metavar="FOLDER", help="count with this model's tokenizer, for models that are not OpenAI's")


def _or_auto(kind: type) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        return text if text == "auto" else kind(text)

    read.__name__ = f"{kind.__name__} or auto"  # argparse: invalid int or auto value: '1.5'
    return read


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"expected KEY=VALUE, found {text!r}")
    return key, value


def _check(options: argparse.Namespace) -> None:
    from lawft_trl.doctor.findings import count_severities, finding_record, with_strictness
    from lawft_trl.openai_jobs.training_file import check_training_file

    if options.max_tokens is not None and options.max_tokens < 1:
        raise InputError(f"--max-tokens {options.max_tokens}: expected at least 1")
    reports = check_training_file(
        options.file, validation=options.validation, model=options.model, tokenizer=options.tokenizer, max_tokens=options.max_tokens
    )
    reports = [dataclasses.replace(report, findings=with_strictness(report.findings, strict=options.strict)) for report in reports]
    if options.json:
        records = [{"file": str(report.file.path), **report.figures, "findings": [finding_record(found) for found in report.findings]} for report in reports]
        print(json.dumps({"reports": records}, ensure_ascii=False, indent=2))
    else:
        for report in reports:
            _print_report(report)
    findings = [found for report in reports for found in report.findings]
    if any(found.severity == "error" for found in findings):
        raise InputError(f"{', '.join(str(report.file.path) for report in reports)}: {count_severities(findings)} found")


def _print_report(report: "FileReport") -> None:
    from rich.console import Console
    from rich.text import Text

    from lawft_trl.doctor.findings import findings_table

    console, figures, name = Console(), report.figures, str(report.file.path)
    tokens, answers = figures["tokens"], figures["answer_characters"]
    console.print(Text(name, style="bold"), soft_wrap=True)
    lines = [
        f"{figures['examples']} examples of {figures['lines']} lines, {figures['messages']} messages, {figures['trained_answers']} trained answers "
        f"({figures['different_answers']} different), {figures['system_messages']} system messages",
        f"tokens per example, min / median / max: {tokens['min']} / {tokens['median']:g} / {tokens['max']}; {tokens['sum']} in all ({tokens['counted_by']})",
        f"characters per answer, min / median / max: {answers['min']} / {answers['median']:g} / {answers['max']}",
    ]
    if figures["distinct_2"] is not None:
        lines.append(f"distinct-1 {figures['distinct_1']:.3f}, distinct-2 {figures['distinct_2']:.3f} (characters)")
    for line in lines:
        console.print(Text(f"  {line}"))
    if not report.findings:
        console.print(Text("  nothing found", style="green"))
        return
    console.print(findings_table([dataclasses.replace(found, examples=found.examples[:_SHOWN]) for found in report.findings], name))
    longest = max(len(found.examples) for found in report.findings)
    if longest > _SHOWN:
        console.print(f"  the first {_SHOWN} places of each finding; --json has all", highlight=False)


def _cost(options: argparse.Namespace) -> None:
    from lawft_trl.openai_jobs.cost import estimate_cost

    cost = estimate_cost(
        options.file,
        model=options.model,
        epochs=options.epochs,
        prices=options.prices,
        tokenizer=options.tokenizer,
        gpu_hour_rate=options.gpu_hour_rate,
        tokens_per_second=options.tokens_per_second,
    )
    lengths = cost.counts.lengths
    print(f"{options.file}: {len(lengths)} examples, {sum(lengths):,} tokens × {cost.epochs:g} epochs = {cost.trained_tokens:,} trained tokens")
    print(f"counted with {cost.counts.counted_by}" if cost.counts.exact else cost.counts.counted_by)
    about = "" if cost.counts.exact else "about "
    if cost.prices is not None:
        print(f"price: {about}{cost.price:,.2f} {cost.prices.currency} (prices of {cost.prices.date}, {cost.prices.per_million['training']:g} per million)")
    if cost.gpu_hours is not None:
        print(f"local: {about}{cost.gpu_hours:,.2f} GPU hours at {cost.tokens_per_second:g} tokens/s")
    if cost.gpu_price is not None:
        print(f"local: {about}{cost.gpu_price:,.2f} at {cost.gpu_hour_rate:g} an hour, in that currency")
    if cost.prices is None and cost.gpu_price is None:
        print("no price: give --prices FILE, a dated list, or --gpu-hour-rate and --tokens-per-second (docs/openai.md)")


def _upload(options: argparse.Namespace) -> None:
    from lawft_trl.doctor.findings import count_severities
    from lawft_trl.doctor.text_checks import personal_findings
    from lawft_trl.openai_jobs.jobs import upload_file
    from lawft_trl.openai_jobs.token_counts import training_rows
    from lawft_trl.openai_jobs.training_file import read_training_file

    file = read_training_file(options.file, least=1)
    findings = file.findings
    if any(found.severity == "error" for found in findings) and not options.unchecked:
        raise InputError(f"{options.file}: {count_severities(findings)} found; nothing was uploaded", [f"lawft openai check {options.file}", "--unchecked uploads it all the same"])
    server = _connect(options)
    if not server.is_local:
        for found in personal_findings(training_rows(list(file.examples.values()), file.sources)):
            _say(f"WARNING: {found.code}: {found.message} in {found.count} of {found.total} answers and their prompts; they leave this machine")
    _say(f"uploading {options.file} ({options.file.stat().st_size:,} bytes) to {server.address}")
    file_id = server.told(upload_file(server, options.file))
    print(file_id, flush=True)
    _say(f"Next:    lawft openai create {file_id} --model NAME{_same_server(options, server)}")


def _create(options: argparse.Namespace) -> None:
    import datetime

    from lawft_trl.openai_jobs.connection import CLOSING, LOCAL
    from lawft_trl.openai_jobs.jobs import JobRequest, create_job, shutdown_warnings

    names = [field.name for field in dataclasses.fields(JobRequest) if field.name != "metadata"]
    request = JobRequest(**{name: getattr(options, name) for name in names}, metadata=dict(options.metadata))
    request.require_usable()
    server = _connect(options)
    if server.is_openai:
        _say(f"WARNING: {CLOSING}; {LOCAL}")
    for warning in shutdown_warnings(server, [request.model], datetime.date.today()):
        _say(f"WARNING: {warning}")
    job = create_job(server, request)
    job_id = server.told(job.id)
    print(job_id, flush=True)
    _say(f"{job_id} is {server.told(str(job.status))}\nNext:    lawft openai watch {job_id}{_same_server(options, server)}")


def _watch(options: argparse.Namespace) -> int:
    from lawft_trl.openai_jobs.jobs import failure, has_ended, list_jobs, watch_job

    wrong = [f"--{name} {value:g}: expected above 0" for name, value in (("deadline", options.deadline), ("interval", options.interval)) if not 0 < value < float("inf")]
    if wrong:
        raise InputError(f"lawft openai watch: {len(wrong)} option(s) cannot be used", wrong)
    server = _connect(options)
    if options.job is None:
        for job in list_jobs(server):
            print("  ".join(server.told(str(value)) for value in (job.id, job.status, job.model, job.fine_tuned_model or "")).rstrip())
        return 0
    again = f"lawft openai watch {options.job}{_same_server(options, server)}"
    try:
        with _progress() as show:
            job = watch_job(server, options.job, show=show, deadline=options.deadline, interval=options.interval)
    except KeyboardInterrupt:
        _say(f"the job goes on at {server.address}; to go on watching: {again}\nto end it: {again.replace(' watch ', ' cancel ')}")
        raise
    job_id = server.told(job.id)
    if not has_ended(job):
        _say(f"{job_id} is still {server.told(str(job.status))} after {options.deadline:g} seconds; it goes on. To go on watching: {again}")
        return _STILL_RUNNING
    if job.status != "succeeded":
        _say(f"{job_id} ended: {server.told(str(job.status))}{': ' + server.told(failure(job)) if failure(job) else ''}")
        return _ENDED_OTHERWISE
    if not job.fine_tuned_model:
        _say(f"{job_id} succeeded, but the server names no tuned model; lawft openai pull {job_id} --out FILE{_same_server(options, server)} keeps what it says")
        return _ENDED_OTHERWISE
    print(server.told(job.fine_tuned_model), flush=True)
    _say(f"Next:    lawft openai pull {job_id} --out {job_id}.json{_same_server(options, server)}")
    return 0


@contextlib.contextmanager
def _progress() -> "Iterator[Callable[[Update], None]]":
    """A progress bar with the events above it; plain lines where stderr is no terminal."""
    from tqdm import tqdm

    with tqdm(unit="step", disable=not sys.stderr.isatty(), file=sys.stderr) as bar:

        def show(update: "Update") -> None:
            if update.kind == "metrics" and update.step and not bar.disable:
                bar.total, bar.n = update.total or bar.total, update.step
                bar.set_postfix({name: f"{value:.4g}" for name, value in update.metrics.items()})
                return
            bar.write(_update_line(update), file=sys.stderr)
            sys.stderr.flush()

        yield show


def _update_line(update: "Update") -> str:
    figures = "".join(f"  {name} {value:.4g}" for name, value in update.metrics.items())
    if update.kind == "metrics" and update.step:
        return f"step {update.step}/{update.total or '?'}{figures}"
    mark = {"state": "== ", "trouble": "?? "}.get(update.kind, "" if update.level == "info" else f"{update.level}: ")
    return f"{mark}{update.text}{figures}"


def _cancel(options: argparse.Namespace) -> None:
    from lawft_trl.openai_jobs.jobs import cancel_job

    server = _connect(options)
    job = cancel_job(server, options.job)
    _say(f"{server.told(job.id)} is {server.told(str(job.status))}")


def _pull(options: argparse.Namespace) -> None:
    import datetime

    from lawft_trl.folders import write_json
    from lawft_trl.openai_jobs.job_record import job_record
    from lawft_trl.openai_jobs.jobs import shutdown_warnings

    if options.out.is_dir() or not options.out.absolute().parent.is_dir():
        raise InputError(f"--out {options.out}: expected a file in a folder that is there")
    if options.out.exists() and not options.force:
        raise InputError(f"--out {options.out}: already there; give another, or --force to replace it")
    server = _connect(options)
    record = job_record(server, options.job)
    names = [name for name in (record["tuned_model"], record["base_model"]) if name]
    record["warnings"] = shutdown_warnings(server, names, datetime.date.today())
    record["pulled_at"] = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    write_json(options.out, record)
    for warning in [*record["warnings"], *(f"{file['id']}: {file['error']}" for file in record["result_files"] if "error" in file)]:
        _say(f"WARNING: {server.told(warning)}")
    if record["tuned_model"]:
        print(server.told(record["tuned_model"]))
    figures = ", ".join(f"{name} {value:.4g}" for name, value in record["final_metrics"].items())
    _say(f"{server.told(record['job'])} {server.told(str(record['state']))}; {server.told(figures) or 'no metrics'}; {len(record['checkpoints'])} checkpoints, {len(record['result_files'])} result files: {options.out}")


def _connect(options: argparse.Namespace) -> "Server":
    from lawft_trl.openai_jobs.connection import connect

    server = connect(options.base_url, timeout=options.timeout)
    if server.address.startswith("http://") and not server.is_local:
        _say(f"WARNING: {server.address}: the key and the data go over the network unencrypted; use https")
    return server


def _same_server(options: argparse.Namespace, server: "Server") -> str:
    """The option that leads to it again, without the password that may stand in an URL."""
    return f" --base-url {shlex.quote(server.address)}" if options.base_url else ""


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
