"""`lawft export`: a run's model for other programs, and whether it answers there as it does here."""

import argparse
from pathlib import Path
from typing import Any

from lawft_trl.commands.endpoint_options import add_endpoint_options, endpoint_problems, make_endpoint
from lawft_trl.errors import InputError

_SHOWN = 10  # flips that are printed; all are in export.json


def add(verbs: Any) -> None:
    """Declares the verb."""
    verb = verbs.add_parser(
        "export",
        help="merge a run's adapter, link it for serving, or check it for vLLM",
        description="Writes a run's model for other programs and compares its letters with the adapter's on held-out questions.",
        epilog="Exit code: 0; 1 when --vllm-check finds an error; 2 for what cannot be exported.",
    )
    verb.add_argument("path", type=Path, metavar="RUN", help="a finished run, e.g. runs/direct_norag")
    kind = verb.add_mutually_exclusive_group(required=True)
    kind.add_argument("--merge", action="store_true", help="base and adapter as one model")
    kind.add_argument("--gguf-ready", action="store_true", help="the same, checked for llama.cpp's converter, with its command")
    kind.add_argument("--serve-dir", action="store_true", help="a folder of links for `transformers serve`")
    kind.add_argument("--vllm-check", action="store_true", help="whether vLLM will take the adapter, and its command; writes nothing")
    kind.add_argument("--endpoint", metavar="URL", help="compare a running server with the adapter; writes nothing")
    verb.add_argument("--out", type=Path, metavar="FOLDER", help="the folder to make")
    verb.add_argument("--dtype", choices=("bfloat16", "float16", "float32"), help="of the merged weights (default bfloat16)")
    verb.add_argument("--copy", action="store_true", help="with --serve-dir: copies instead of links")
    verb.add_argument("--force", action="store_true", help="replace an existing export")
    proof = verb.add_argument_group("the proof")
    proof.add_argument("--questions", type=int, metavar="N", default=50, help="held-out questions that are asked at most (default 50)")
    proof.add_argument("--test", type=Path, metavar="FILE", help="other rows than the recipe's data.test")
    proof.add_argument("--no-proof", action="store_true", help="export without asking anything")
    served = verb.add_argument_group("with --endpoint")
    served.add_argument("--tuned", metavar="NAME", help="the endpoint's name for the model")
    add_endpoint_options(served)
    verb.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    _require_usable(options)
    if options.vllm_check:
        return check_for_vllm_command(options.path)
    asking = {"test": options.test, "questions": options.questions}
    if options.endpoint is not None:
        from lawft_trl.evaluation.served import Service
        from lawft_trl.export.served import prove_served

        service = Service(endpoint=make_endpoint(options), body=options.body)
        _print(prove_served(options.path, service=service, name=options.tuned, **asking), "the server")
        return 0
    common = {**asking, "proof": not options.no_proof, "force": options.force}
    if options.serve_dir:
        from lawft_trl.export.serve_folder import export_serve_folder

        record = export_serve_folder(options.path, options.out, copy=options.copy, **common)
    else:
        from lawft_trl.export.merged import export_merged

        record = export_merged(options.path, options.out, dtype=options.dtype or "bfloat16", gguf=options.gguf_ready, **common)
    if "dtype" in record:
        print(f"trained on {record['trained_on']}; merged into the base's own weights, in {record['dtype']}")
    _print(record, "the export")
    print(f"{options.out}: answers end at {', '.join(record['end_tokens'])}; {'details' if options.no_proof else 'all flips'} in export.json")
    print("\n".join(f"Next:    {command}" for command in record["next"]))
    return 0


def _require_usable(options: argparse.Namespace) -> None:
    writes = options.merge or options.gguf_ready or options.serve_dir
    problems = []
    if writes and options.out is None:
        problems.append("--out: missing; name the folder to make")
    if options.questions < 1:
        problems.append(f"--questions {options.questions}: expected at least 1; --no-proof asks nothing")
    if options.endpoint is not None:
        problems += endpoint_problems(options)
        if options.tuned is None:
            problems.append("--tuned: missing; the endpoint's name for the model (transformers serve: the folder it was started with)")
    elif options.tuned is not None:
        problems.append("--tuned: only with --endpoint URL")
    senseless = {
        "--out": options.out and not writes,
        "--force": options.force and not writes,
        "--dtype": options.dtype and not (options.merge or options.gguf_ready),
        "--copy": options.copy and not options.serve_dir,
        "--no-proof": options.no_proof and not writes,
        "--test": options.test and (options.vllm_check or options.no_proof),
    }
    problems += [f"{name}: has no meaning here; leave it out" for name, given in senseless.items() if given]
    if problems:
        raise InputError(f"lawft export: {len(problems)} option(s) cannot be used", problems)


def check_for_vllm_command(path: Path) -> int:
    """Prints what vLLM would stumble over in a run, and the command that serves it; 1 where it would refuse it."""
    from lawft_trl.export.vllm_adapter import check_for_vllm

    findings, command = check_for_vllm(path)
    for finding in findings:
        print(f"{finding.level}: {finding.says}\n  -> {finding.change}")
    refused = any(finding.level == "error" for finding in findings)
    print("vLLM will not serve this adapter rightly." if refused else f"Nothing found that vLLM refuses (read in its sources, not run). To serve it:\n  {command}")
    return 1 if refused else 0


def _print(record: dict[str, Any], what: str) -> None:
    if record["rehearsal"]:
        print("REHEARSAL on the tiny model: the way works; the answers mean nothing.")
    for warning in record["warnings"]:
        print(f"WARNING: {warning}")
    proof = record.get("proof")
    if proof is None:
        print(f"{what} was not compared with the adapter")
        return
    right, difference = proof["right"], proof["max_difference"]
    print(
        f"adapter and {what}: the same letter for {proof['same_letter']} of {proof['prompts']} prompts ({proof['questions']} questions); "
        f"right: {right['adapter']} and {right['other']}" + (f"; log-probabilities differ by at most {difference:.2g}" if difference is not None else "")
    )
    if "same_text" in proof:
        print(f"the same text for {proof['same_text']} of {proof['prompts']}; without a letter: {proof['unread']['adapter']} and {proof['unread']['other']}")
    for flip in proof["flips"][:_SHOWN]:
        print(f"  {flip['id']} ({flip['order']}): {flip['adapter']} became {flip['other']}, margin {flip['margin']:.3f}, gold {flip['gold']}")
    if len(proof["flips"]) > _SHOWN:
        print(f"  and {len(proof['flips']) - _SHOWN} more")
