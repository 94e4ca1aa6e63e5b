"""`lawft data`: questions become checked, split rows for every pattern."""

import argparse
import os
from pathlib import Path
from typing import Any

from lawft_trl.errors import InputError

SAMPLE = Path(__file__).parents[1] / "assets" / "sample" / "questions.jsonl"
_SAMPLE_ATTRIBUTION = "lawft-trl sample set: fictional statutes and questions made by scripts/make_sample_data.py, Apache-2.0."


def add(verbs: Any) -> None:
    """Declares the verb."""
    data = verbs.add_parser("data", help="questions and statutes -> checked, split rows for every pattern")
    sources = data.add_subparsers(required=True, metavar="SOURCE", dest="source")
    lawqa = sources.add_parser("lawqa", help="lawqa_jp of the Digital Agency")
    folder = os.environ.get("LAWFT_LAWQA_DIR")
    lawqa.add_argument("--from", dest="folder", type=Path, default=Path(folder) if folder else None, metavar="FOLDER",
                       help="a clone of lawqa_jp, or one of its JSON files (default: $LAWFT_LAWQA_DIR)")  # fmt: skip
    sources.add_parser("sample", help="the shipped questions on fictional statutes")
    own = sources.add_parser("questions", help="your own questions, one JSON object a line (docs/data.md)")
    own.add_argument("file", type=Path)
    for source in sources.choices.values():
        source.add_argument("--out", type=Path, help="the folder to make (default: data/<data set>)")
        source.add_argument("--test-share", type=float, default=0.3, help="share of held-out questions (default 0.3)")
        source.add_argument("--dev-share", type=float, default=0.1, help="share of dev questions (default 0.1)")
        source.add_argument("--seed", type=int, default=0, help="seed of the split (default 0)")
        source.add_argument("--force", action="store_true", help="replace the folder")
    data.set_defaults(run=_data)


def _data(options: argparse.Namespace) -> None:
    from lawft_trl.data.build import build_rows
    from lawft_trl.data.lawqa import ATTRIBUTION, find_lawqa, read_lawqa
    from lawft_trl.data.questions import read_questions

    if options.source == "lawqa":
        if options.folder is None:
            raise InputError(
                "lawft data lawqa: where lawqa_jp lies is not known",
                ["give --from FOLDER or set LAWFT_LAWQA_DIR; it is at https://github.com/digital-go-jp/lawqa_jp"],
            )
        file = find_lawqa(options.folder)
        questions, dataset, attribution = read_lawqa(file), "lawqa_jp", ATTRIBUTION
    elif options.source == "sample":
        file, dataset, attribution = SAMPLE, "sample", _SAMPLE_ATTRIBUTION
        questions = read_questions(file)
    else:
        file, dataset, attribution = options.file, options.file.stem, f"From {options.file.name}."
        questions = read_questions(file)
    out = options.out or Path("data") / dataset
    shares = {"test": options.test_share, "dev": options.dev_share}
    manifest = build_rows(
        questions,
        out,
        dataset=dataset,
        source_file=file,
        shares=shares,
        seed=options.seed,
        attribution=attribution,
        force=options.force,
    )
    for name, split in manifest["splits"].items():
        print(f"{name:5} {split['questions']:4} questions in {split['groups']:3} groups, answers {split['answers']}")
    without = sum(not question.statutes for question in questions)
    if without:
        print(f"direct_gold was not written: {without} of {len(questions)} questions show no statutes")
    print(f"{out}: {', '.join(manifest['files'])}, manifest.json (split {manifest['split_sha256'][:12]})")
