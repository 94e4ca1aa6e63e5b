"""`lawft harness`: the held-out questions as tasks of lm-evaluation-harness."""

import argparse
from pathlib import Path
from typing import Any


def add(verbs: Any) -> None:
    """Declares the verb."""
    harness = verbs.add_parser(
        "harness",
        help="held-out questions -> a task folder for lm-evaluation-harness",
        description="Writes a folder that lm_eval --include_path reads: one task for each kind of statutes, every question in four orders.",
    )
    harness.add_argument("paths", type=Path, nargs="+", metavar="PATH",
                         help="rows of held-out questions (data/lawqa_jp/direct_gold/test_42.jsonl), or a data folder: its direct test rows")  # fmt: skip
    harness.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="the folder to make")
    harness.add_argument("--name", help="what the tasks' names begin with (default: the rows' data set)")
    harness.add_argument("--force", action="store_true", help="replace the folder")
    harness.set_defaults(run=_harness)


def _harness(options: argparse.Namespace) -> None:
    from lawft_trl.evaluation.harness_task import write_harness_task

    tasks = write_harness_task(options.paths, options.out, name=options.name, force=options.force)
    for task, questions in tasks.items():
        print(f"{task}: {questions} questions in four orders")
    if not (options.out / "ATTRIBUTION.txt").is_file():
        print("WARNING: no ATTRIBUTION.txt beside the rows; say in README.md where the questions are from before you pass the folder on")
    print(f"{options.out}: lm_eval --tasks {next(iter(tasks)).rpartition('_')[0]} --include_path {options.out} --model hf "
          "--model_args pretrained=MODEL,enable_thinking=False,add_bos_token=False --apply_chat_template (README.md there)")  # fmt: skip
