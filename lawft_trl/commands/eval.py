"""`lawft eval`: base and tuned on the held-out questions or dialogues, here or served, or what a set of questions can show."""

import argparse
import sys
from pathlib import Path
from typing import Any

from lawft_trl.commands.endpoint_options import add_endpoint_options, endpoint_problems, make_endpoint
from lawft_trl.errors import InputError

# Options that change the recipe's section `evaluation`, under its keys.
_SETTINGS = ("orders", "samples", "temperature", "max_new_tokens", "batch_size")


def add(verbs: Any) -> None:
    """Declares the verb."""
    verb = verbs.add_parser("eval", help="score base and tuned on the held-out questions")
    verb.add_argument("path", type=Path, metavar="RUN", nargs="?", help="a finished run, e.g. runs/direct_norag")
    verb.add_argument("--test", type=Path, metavar="FILE", help="other rows than the recipe's data.test")
    verb.add_argument("--name", help="the evaluation's folder in RUN/eval (default: the test file's name, and how it was asked if not as the recipe says)")
    verb.add_argument("--force", action="store_true", help="replace an existing evaluation")
    verb.add_argument("--power", type=Path, metavar="FILE", help="no RUN: what the questions or rows in FILE can show, before training")
    asking = verb.add_argument_group("how the questions are asked (default: as the recipe says)")
    asking.add_argument("--scorer", choices=("letters", "generate"), help="letters: their probabilities; generate: the answer is written and parsed")
    asking.add_argument("--answer", choices=("direct", "cot"), help="the letter alone, or reasons and then the letter")
    asking.add_argument("--orders", type=int, choices=(1, 4), help="in how many orders of its choices a question is asked")
    asking.add_argument("--samples", type=int, metavar="K", help="answers per prompt; above 1 they are sampled and the majority counts")
    asking.add_argument("--temperature", type=float, metavar="T", help="of the sampling")
    asking.add_argument("--max-new-tokens", type=int, metavar="N", help="the longest answer")
    asking.add_argument("--batch-size", type=int, metavar="N", help="prompts at a time")
    served = verb.add_argument_group("models that are served")
    served.add_argument("--endpoint", metavar="URL", help="OpenAI-compatible base URL, e.g. http://localhost:8000/v1; answers are generated")
    served.add_argument("--tuned", metavar="NAME", help="the endpoint's name for the run's tuned model")
    served.add_argument("--base", metavar="NAME", help="and for its base; without it the tuned model stands alone")
    served.add_argument("--model", metavar="NAME", help="no RUN: any model, asked the rows of --test")
    served.add_argument("--out", type=Path, metavar="FOLDER", help="no RUN: the evaluation folder to make")
    add_endpoint_options(served)
    verb.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    _require_usable(options)
    if options.power is not None:
        from lawft_trl.evaluation.plan import plan_set, render_plan

        print(render_plan(plan_set(options.power)))
    elif options.endpoint is not None:
        _print(_served(options))
    else:
        from lawft_trl.evaluation.evaluate import evaluate_run

        _print(
            evaluate_run(
                options.path,
                test=options.test,
                name=options.name,
                force=options.force,
                scorer=options.scorer,
                answer=options.answer,
                **_settings(options),
            )
        )


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    """Those of the recipe's section `evaluation` that the command gives."""
    return {name: value for name in _SETTINGS if (value := getattr(options, name)) is not None}


def _served(options: argparse.Namespace) -> dict[str, Any]:
    from lawft_trl.evaluation.evaluate_served import evaluate_served, evaluate_served_run
    from lawft_trl.evaluation.served import Service

    service = Service(endpoint=make_endpoint(options), body=options.body)
    common = {"service": service, "answer": options.answer, "force": options.force, **_settings(options)}
    try:
        if options.path is None:
            return evaluate_served(options.test, options.out, model=options.model, **common)
        names = {side: name for side, name in (("base", options.base), ("tuned", options.tuned)) if name}
        return evaluate_served_run(options.path, names=names, test=options.test, name=options.name, **common)
    except KeyboardInterrupt:
        print("the answers so far are kept: the same command asks only for the rest", file=sys.stderr)
        raise


def _require_usable(options: argparse.Namespace) -> None:
    """Raises `InputError` with everything that is wrong with the options."""
    if options.power is not None:
        names = ("path", "test", "name", "force", "scorer", "answer", *_SETTINGS, "endpoint", "tuned", "base", "model", "out")
        others = ["RUN" if name == "path" else f"--{name.replace('_', '-')}" for name in names if getattr(options, name)]
        if others:
            raise InputError(f"--power evaluates no run; leave out {', '.join(others)}")
        return
    if options.path is None and options.endpoint is None:
        raise InputError(
            "name a finished run (lawft eval RUN), questions to plan with (lawft eval --power FILE), or a served model "
            "(lawft eval --endpoint URL --model NAME --test FILE --out FOLDER)"
        )
    problems = [
        f"--{name.replace('_', '-')} {value}: expected at least 1"
        for name in ("samples", "max_new_tokens", "batch_size")
        if (value := getattr(options, name)) is not None and value < 1
    ]
    if options.temperature is not None and not 0 < options.temperature < float("inf"):
        problems.append(f"--temperature {options.temperature:g}: expected above 0; greedy answers are --samples 1")
    problems += _without_endpoint(options) if options.endpoint is None else _with_endpoint(options)
    if problems:
        raise InputError(f"lawft eval: {len(problems)} option(s) cannot be used", problems)


def _without_endpoint(options: argparse.Namespace) -> list[str]:
    given = [name for name in ("tuned", "base", "model", "out", "body") if getattr(options, name)]
    return [f"--{name}: only for models that are served; add --endpoint URL" for name in given]


def _with_endpoint(options: argparse.Namespace) -> list[str]:
    problems = endpoint_problems(options)
    if options.scorer == "letters":
        problems.append("--scorer letters: an endpoint does not tell the probabilities of all four letters; leave it out, answers are generated")
    if options.batch_size is not None:
        problems.append("--batch-size: only for a model that runs here; an endpoint has --concurrency")
    run = options.path is not None
    if options.base is not None and options.base == options.tuned:
        problems.append(f"--base and --tuned are both {options.base!r}: one model would be compared with itself")
    needed = ("tuned",) if run else ("model", "test", "out")
    senseless = ("model", "out") if run else ("tuned", "base", "name")
    kind = "a RUN" if run else "a served model without a RUN"
    problems += [f"--{name}: missing; {kind} needs it" for name in needed if getattr(options, name) is None]
    problems += [f"--{name}: not for {kind}; it has {', '.join(f'--{other}' for other in needed)}" for name in senseless if getattr(options, name) is not None]
    return problems


def _print(metrics: dict[str, Any]) -> None:
    if metrics["answer"] == "dialogue":
        from lawft_trl.evaluation.style_report import style_lines

        print("\n".join(style_lines(metrics)))
    else:
        _print_letters(metrics)
    print(f"Report: {metrics['report']}")
    if "wandb" in metrics:
        print(f"W&B:    {metrics['wandb']}")


def _print_letters(metrics: dict[str, Any]) -> None:
    if metrics["contaminated"]:
        print(metrics["contaminated"])
    for warning in metrics["warnings"]:
        print(f"WARNING: {warning}")
    if earlier := metrics.get("served", {}).get("answers_from_an_earlier_try"):
        print(f"{earlier} answers are from an earlier try; --force asks everything again")
    width = max(map(len, metrics["models"]))
    for name, model in metrics["models"].items():
        unread = f"; {model['unparsed']} answers without a letter" if model["unparsed"] else ""
        print(f"{name:{width}}  {model['correct']}/{model['questions']} ({100 * model['accuracy']:.1f} %){unread}")
    if paired := metrics.get("comparison"):
        low, high = (100 * bound for bound in paired["interval"])
        nothing_meant = metrics["contaminated"] or metrics["rehearsal"]
        print(
            f"{'no verdict, the figures alone would say ' if nothing_meant else ''}{paired['verdict']}: {100 * paired['difference']:+.1f} points "
            f"[{low:+.1f}, {high:+.1f}], gained {len(paired['gained'])}, lost {len(paired['lost'])}, p = {paired['p_value']:.2g} ({paired['reason']})"
        )
    for found in metrics["diagnosis"]:
        print(f"{found['name']}: {found['says']}")
