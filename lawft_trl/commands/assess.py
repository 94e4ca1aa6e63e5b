"""`lawft assess`: base and tuned answer held-out legal questions, and are compared by rule and by a judge."""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from lawft_trl.errors import InputError


def add(verbs: Any) -> None:
    """Declares the verb."""
    verb = verbs.add_parser(
        "assess",
        help="base against tuned on held-out legal questions (docs/assess.md)",
        description="Asks both models through an OpenAI-compatible endpoint, under one prompting strategy or more, and scores citations, required points, "
        "forbidden content, style and relevance by rule. Without an endpoint, RUN and its base are served on this machine.",
    )
    verb.add_argument("run_path", nargs="?", type=Path, metavar="RUN", help="the run of the tuned model: its training rows are checked against the pairs")
    verb.add_argument("--pairs", type=Path, required=True, metavar="FILE", help="held-out pairs, e.g. data/legal/dialogue/test_14.jsonl")
    verb.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="the folder to make")
    where = verb.add_argument_group("the models: --models and --model, or --base-url and --model, or RUN alone")
    where.add_argument("--models", type=Path, metavar="FILE", help="a models file (docs/client.md)")
    where.add_argument("--base-url", metavar="URL", help="of an OpenAI-compatible endpoint, http://127.0.0.1:8000/v1")
    where.add_argument("--model", metavar="NAME", help="the tuned model: an alias of the models file, or its id at the URL")
    where.add_argument("--base", metavar="NAME", help="the untuned model: an alias of the models file, or its id at the same URL (default: the entry's base_model)")
    where.add_argument("--api-key-env", metavar="VARIABLE", help="environment variable with the key of --base-url")
    verb.add_argument("--strategy", default="plain", metavar="LIST", help="comma-separated, of plain, system, few_shot, cot, few_shot_cot (default plain); the first is the headline's")
    verb.add_argument("--examples", type=Path, metavar="FILE", help="pairs that few_shot may show, e.g. the training rows")
    verb.add_argument("--shots", type=int, default=2, metavar="N", help="how many of them (default 2)")
    verb.add_argument("--corpus", type=Path, metavar="FOLDER", help="statutes corpus that cited articles are looked up in")
    verb.add_argument("--judge", metavar="ALIAS", help="a model that compares the answers: an alias of the models file, or an id at the URL")
    verb.add_argument("--injection-pairs", type=int, default=0, metavar="N", help="also review N sample contracts with an order to the model hidden in them (default 0; 16 see every form twice)")
    verb.add_argument("--against", type=Path, metavar="FOLDER", help="an earlier assessment of the same pairs, to compare the tuned model with")
    verb.add_argument("--max-tokens", type=int, default=1024, metavar="N", help="of an answer (default 1024)")
    verb.add_argument("--limit", type=int, metavar="N", help="ask only the first N pairs")
    verb.add_argument("--seed", type=int, default=0, help="sent with every question, and of the tests (default 0)")
    verb.add_argument("--timeout", type=float, default=300.0, metavar="SECONDS", help="for one answer (default 300)")
    verb.add_argument("--allow-overlap", action="store_true", help="go on where the model was trained on some of the pairs; the report says so")
    verb.add_argument("--force", action="store_true", help="replace the folder")
    verb.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    from lawft_trl.assistant.assessed_models import assessed_models
    from lawft_trl.assistant.assessment import MARK, assess
    from lawft_trl.assistant.assessment_plan import Plan, prepare
    from lawft_trl.assistant.assessment_report import assessment_lines
    from lawft_trl.folders import refuse_existing

    refuse_existing(options.out, force=options.force, mark=MARK, rename="--out")
    if not 0 < options.timeout < float("inf"):
        raise InputError(f"--timeout {options.timeout:g}: expected above 0")
    plan = Plan(
        pairs=options.pairs,
        strategies=tuple(name.strip() for name in options.strategy.split(",") if name.strip()),
        run=options.run_path,
        allow_overlap=options.allow_overlap,
        corpus=options.corpus,
        examples=options.examples,
        shots=options.shots,
        limit=options.limit,
        injection_pairs=options.injection_pairs,
        max_tokens=options.max_tokens,
        seed=options.seed,
        against=options.against,
    )
    prepare(plan)  # what is wrong with it is said before anything is served
    with assessed_models(
        run=options.run_path,
        models=options.models,
        base_url=options.base_url,
        model=options.model,
        base=options.base,
        judge=options.judge,
        api_key_env=options.api_key_env,
        timeout=options.timeout,
    ) as asked:
        found = assess(replace(plan, run=asked.run), asked.clients, options.out, judge=asked.judge, force=options.force)
    print("\n".join(assessment_lines(found.metrics)))
    print(f"{options.out}: report.md, {MARK}, predictions.jsonl, pairs.jsonl; what to do about it: lawft improve {options.out} --pairs TRAIN_FILE --out NEW_FOLDER")
