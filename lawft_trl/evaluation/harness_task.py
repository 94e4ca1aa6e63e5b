"""A task folder for lm-evaluation-harness: the held-out questions exactly as `lawft eval` asks them."""

import json
import re
import shutil
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lawft_trl import __version__
from lawft_trl.data.build import PATTERNS
from lawft_trl.data.prompts import build_messages
from lawft_trl.data.questions import ORDERS
from lawft_trl.data.rows import Row, read_rows, row_question
from lawft_trl.errors import InputError
from lawft_trl.evaluation.asking import unique_questions
from lawft_trl.folders import refuse_existing, whole_folder
from lawft_trl.text_files import file_sha256

SCORING = Path(__file__).parents[1] / "assets" / "harness_task" / "content_average.py"
_SHOWN = {"none": "no statutes", "retrieved": "retrieved statutes", "gold": "the deciding statutes"}


def write_harness_task(paths: Sequence[Path], out: Path, *, name: str | None = None, force: bool = False) -> dict[str, int]:
    """Writes the tasks `NAME_none`, `NAME_retrieved`, `NAME_gold`, as far as there are rows for them, and the group `NAME`.

    Args:
        paths: files of rows, each with one kind of statutes, or data folders, whose direct test rows are taken.
        out: the folder to make; it appears whole or not at all.
        name: of the group; the rows' `meta.dataset` where none is given.
        force: replace an existing `out`.

    Returns:
        Task name -> its number of questions; each has a doc for every one of the four orders.

    Raises:
        InputError: when rows cannot be asked in four orders, or the files do not fit together.
    """
    refuse_existing(out, force=force, mark=SCORING.name, rename="--out")
    files = [file for path in paths for file in (_test_files(path) if path.is_dir() else [path])]
    kinds = _rows_by_statutes(files)
    rows = {kind: unique_questions(kinds[kind]) for kind in _SHOWN if kind in kinds}
    _require_same_questions(rows)
    name = _name(rows, name)
    tasks = {f"{name}_{kind}": _docs(members) for kind, members in rows.items()}
    questions = {task: len(docs) // len(ORDERS) for task, docs in tasks.items()}
    source = next((folder for file in files for folder in file.resolve().parents[:3] if (folder / "ATTRIBUTION.txt").is_file()), None)
    with whole_folder(out, force=force, mark=SCORING.name, rename="--out") as folder:
        (folder / f"{name}.yaml").write_text(_group_yaml(name, tasks), encoding="utf-8")
        for task, docs in tasks.items():
            (folder / f"{task}.yaml").write_text(_task_yaml(task, system="system" in docs[0]), encoding="utf-8")
            (folder / f"{task}.jsonl").write_text("".join(json.dumps(doc, ensure_ascii=False) + "\n" for doc in docs), encoding="utf-8")
        shutil.copyfile(SCORING, folder / SCORING.name)
        for licence in ("ATTRIBUTION.txt", "LICENSE.md") if source else ():
            if (source / licence).is_file():
                shutil.copyfile(source / licence, folder / licence)
        (folder / "README.md").write_text(_readme(name, questions, files, source), encoding="utf-8")
    return questions


def _test_files(folder: Path) -> list[Path]:
    """The direct test rows of a data folder."""
    direct = [pattern for pattern, (answer, _) in PATTERNS.items() if answer == "direct"]
    found = [file for pattern in direct for file in sorted(folder.glob(f"{pattern}/test_*.jsonl"))]
    if not found:
        folds = sorted(folder.glob("fold_*"))
        mend = f"name one of its {len(folds)} folds, e.g. {folds[0]}" if folds else "name a folder that lawft data wrote with --test-share above 0, or files of rows"
        raise InputError(f"{folder}: no held-out rows here ({', '.join(f'{pattern}/test_*.jsonl' for pattern in direct)})", [mend])
    return found


def _rows_by_statutes(files: Iterable[Path]) -> dict[str, list[Row]]:
    """The rows of all files by the statutes they show.

    Raises:
        InputError: with every row that cannot be asked in four orders, and every file whose rows show various statutes.
    """
    found, problems = defaultdict(list), []
    for file in files:
        first: dict[str, Row] = {}
        for row in read_rows(file):
            kind, problem = _statutes_shown(row)
            if kind is None:
                problems.append(f"{row.source}: {problem}")
                continue
            first.setdefault(kind, row)
            found[kind].append(row)
        if len(first) > 1:
            shown = ", ".join(f"{_SHOWN[kind]} ({row.source})" for kind, row in first.items())
            problems.append(f"{file}: its rows show {shown}: one file for each, so that each is a task")
    if problems:
        raise InputError(f"{len(problems)} error(s) in the rows of the harness task", problems)
    return found


def _statutes_shown(row: Row) -> tuple[str | None, str]:
    """Which statutes a row shows, or `None` and what keeps it from a task."""
    if row.gold is None:
        return None, "no gold letter; set meta.correct to a, b, c or d"
    question = row_question(row)
    if question is None:
        return None, "its prompt is not what meta.question, meta.choices and meta.statutes give, so it cannot be asked in other orders; make the rows with lawft data"
    if not question.statutes:
        return "none", ""
    tool = row.meta.get("retriever_type")
    if not isinstance(tool, str) or tool in ("", "none"):
        return None, "it shows statutes, but meta.retriever_type does not say whose; set it to \"gold\" or to the search that found them"
    return ("gold" if tool == "gold" else "retrieved"), ""


def _require_same_questions(rows: Mapping[str, Sequence[Row]]) -> None:
    """Accuracies without and with statutes are read side by side, so they must be about the same questions."""
    ids = {kind: {row.id for row in members} for kind, members in rows.items()}
    everyone = set().union(*ids.values())
    missing = {kind: sorted(everyone - mine) for kind, mine in ids.items() if everyone - mine}
    if missing:
        raise InputError(
            "the tasks would be about different questions; name files of the same split, or write a folder for each",
            [f"with {_SHOWN[kind]}: {len(those)} of {len(everyone)} questions are missing, e.g. {those[0]}" for kind, those in missing.items()],
        )


def _name(rows: Mapping[str, Sequence[Row]], name: str | None) -> str:
    """The group's name.

    Raises:
        InputError: when rows of no or of several data sets have no common name, or the harness could not read it.
    """
    if name is None:
        datasets = {str(row.meta.get("dataset") or "") for members in rows.values() for row in members}
        name = min(datasets)
        if len(datasets) > 1 or not name:
            raise InputError("no name for the tasks: give one with --name", [f"meta.dataset of the rows: {', '.join(sorted(datasets)) or 'nothing'}"])
    if not re.fullmatch(r"\w[\w-]*", name):
        raise InputError(f"{name!r} cannot name a task: letters, digits, _ and - only; give another --name")
    return name


def _docs(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Question by question its four orders, as `lawft eval` asks them."""
    has_system = any(row.system for row in rows)
    docs = []
    for row in rows:
        question = row_question(row)
        for order in ORDERS:
            shown = question.in_order(order)
            prompt = build_messages(shown, answer="direct", statutes=question.statutes)[-1]["content"]
            doc = {"id": row.id, "group": str(row.meta.get("group") or row.id), "law": question.law, "order": order, "gold": shown.answer}
            docs.append({**doc, "known_issue": row.meta.get("known_issue") is True, **({"system": row.system or ""} if has_system else {}), "prompt": prompt})
    return docs


def _group_yaml(name: str, tasks: Iterable[str]) -> str:
    """The group has no figure of its own: accuracies without and with statutes are not to be averaged."""
    return "\n".join([f"group: {json.dumps(name, ensure_ascii=False)}", "task:", *(f"  - {task}" for task in tasks), "metadata:", "  version: 1", ""])


def _task_yaml(task: str, *, system: bool) -> str:
    # Without a delimiter, and with a whole field for the prompt: the harness would run a template over anything else.
    description = ['description: "{{system}}"'] if system else []
    lines = [
        f"task: {task}",
        "custom_dataset: !function content_average.load",
        "dataset_kwargs:",
        f"  docs: {task}.jsonl",
        "test_split: test",
        "output_type: multiple_choice",
        *description,
        "doc_to_text: prompt",
        "doc_to_choice: [a, b, c, d]",
        "doc_to_target: gold",
        'target_delimiter: ""',
        "num_fewshot: 0",
        "process_results: !function content_average.score",
        "metric_list:",
        "  - metric: acc",
        "    aggregation: !function content_average.mean",
        "    higher_is_better: true",
        "  - metric: content_acc",
        "    aggregation: !function content_average.content_accuracy",
        "    higher_is_better: true",
        "metadata:",
        "  version: 1",
        f'  made_with: "lawft-trl {__version__}"',
        "",
    ]
    return "\n".join(lines)


def _readme(name: str, questions: Mapping[str, int], files: Sequence[Path], source: Path | None) -> str:
    attribution = (
        (source / "ATTRIBUTION.txt").read_text(encoding="utf-8").strip() + "\n\n`ATTRIBUTION.txt`, and `LICENSE.md` where the source has one, belong to the questions"
        if source
        else "No ATTRIBUTION.txt lay beside the rows. Say here where the questions are from before you pass this folder on; that belongs to the questions"
    )
    read = "\n".join(f"- `{'/'.join(file.resolve().parts[-2:])}` (sha256 `{file_sha256(file)[:12]}`)" for file in files)
    return f"""# {name}: four-choice questions on Japanese law for lm-evaluation-harness

Made by `lawft harness` (lawft-trl {__version__}) from

{read}

{attribution}; `content_average.py` is under Apache-2.0.

| task | questions | docs | the prompt shows |
|---|---|---|---|
{chr(10).join(f"| `{task}` | {count} | {count * len(ORDERS)} | {_SHOWN[task.rpartition('_')[2]]} |" for task, count in questions.items())}

Each question is asked in four orders of its choices; over the four every choice stands once at every letter, so each letter is the gold one
equally often. A model is to be tested on questions it was not trained on: for a tuned one take the test rows of its own split.

## How to run it

    lm_eval --tasks {name} --include_path THIS_FOLDER --model hf \\
      --model_args pretrained=MODEL,enable_thinking=False,add_bos_token=False \\
      --apply_chat_template --batch_size 8 --log_samples --output_path results

- `--apply_chat_template` always; without it a model is asked something else.
- `enable_thinking=False` for Qwen3 and other templates that know it (others ignore it): otherwise the letter is read where the model would begin to think.
  Other arguments of the template: `--model_args '{{"pretrained": "MODEL", "chat_template_args": {{"NAME": "VALUE"}}}}'`.
- `add_bos_token=False`: the chat template has written the special tokens; nothing is put before them.
- A PEFT adapter: `pretrained=BASE,peft=RUN,tokenizer=RUN`.
- No `--num_fewshot`, and a `--limit` that four divides.

## What equals what

| here | `lawft eval` |
|---|---|
| `content_acc`: log-probabilities summed by choice over the four orders, one answer per question; the figure to report | accuracy |
| `acc`: prompts whose most probable letter is the gold one | accuracy in a single order |

Prompts and tokens are the same, so with `dtype=float32` the letters are. Two things differ. The harness counts the white space at the prompt's end to the
continuation: its four log-probabilities are all lower by one amount, which moves no answer. And it reads a bfloat16 model's logits in bfloat16,
whose steps can tie letters, where `lawft eval` computes them in float32. A prompt longer than the model's context is cut at its beginning, with a warning.
No standard error is printed: the orders of a question, and questions on one article (`group`), are not independent; `lawft eval` gives intervals.
"""
