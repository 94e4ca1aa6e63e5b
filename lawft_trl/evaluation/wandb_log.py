"""An evaluation in Weights & Biases: figures under stable names, pictures, and a table of every question."""

import io
import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lawft_trl.errors import InputError
from lawft_trl.evaluation.figure_look import to_png
from lawft_trl.evaluation.figures import draw_evaluation
from lawft_trl.evaluation.folder import Evaluation
from lawft_trl.evaluation.metrics import content_answers, content_gold
from lawft_trl.evaluation.style_comparison import ScoredReply
from lawft_trl.recipe_sections import MonitorSection

if TYPE_CHECKING:
    import wandb

_FIGURES = ("accuracy", "single_order_accuracy", "balanced_accuracy", "macro_f1", "all_orders_correct", "rstd", "consistency", "label_mass", "unparsed")

_FILE_HEADER = 7  # bytes, before the first record of an offline file


def require_login(monitor: MonitorSection) -> None:
    """Finds out before any work is done that online logging has no key, or one that the server does not take. Never asks.

    Raises:
        InputError: saying which.
    """
    if monitor.wandb != "online":
        return
    import wandb

    try:
        fault = None if wandb.login(prompt=False, verify=True) else "no API key is known here"
    except (wandb.Error, OSError, ValueError) as error:  # the last is what it raises for a key in the wrong form
        fault = f"W&B cannot be used from here: {' '.join(str(error).split())}"
    if fault:
        raise InputError(
            f"monitor.wandb is online, but {fault}",
            ["run `wandb login`, export WANDB_API_KEY, or set monitor.wandb=offline and `wandb sync` later"],
        )


def begin_run(monitor: MonitorSection, *, run: str, folder: Path, **arguments: Any) -> "wandb.Run":
    """`wandb.init` as everything here is logged: nothing that is printed is taken, nothing is said, nobody is asked.

    Args:
        monitor: the recipe's section; nothing is sent unless its `wandb` is `online`.
        run: the run's name, by which its training and its evaluations are grouped unless WANDB_RUN_GROUP says otherwise.
        folder: where W&B keeps its files, in `wandb`.
        arguments: more of `wandb.init`'s.
    """
    import wandb

    os.environ.setdefault("WANDB_X_TRANSACTION_LOG_FLUSH_INTERVAL", "1")  # seconds; a process killed at once loses no more
    wandb.setup(settings=wandb.Settings(silent=True))  # `settings` of a run do not silence what is said beside it
    return wandb.init(
        project=monitor.project,
        group=os.environ.get("WANDB_RUN_GROUP", run),
        tags=monitor.tags,
        mode="online" if monitor.wandb == "online" else "offline",
        dir=str(folder),
        settings=wandb.Settings(silent=True, console="off"),
        **arguments,
    )


def where_logged(run: "wandb.Run", folder: Path) -> str:
    """Where a run can be seen: its address, or the command that sends what is in the folder.

    Args:
        run: as W&B began it.
        folder: where W&B keeps its files, or the name that folder has by the time the command is typed.
    """
    if not run.offline:
        return run.url
    # One folder for each time the run was begun or resumed, its name begins with the date; one killed at once is empty.
    # This time's may look so too: W&B writes the end of it after `finish` has returned.
    own = Path(run.dir).parent
    files = own.parent.glob(f"offline-run-*-{run.id}/*.wandb")
    parts = sorted(file.parent.name for file in files if file.parent == own or file.stat().st_size > _FILE_HEADER)
    return f"offline; to send it: {shlex.join(['wandb', 'sync', *(str(folder / 'wandb' / part) for part in parts)])}"


def log_evaluation(evaluation: Evaluation, monitor: MonitorSection, *, folder: Path) -> str:
    """Logs an evaluation as a W&B run of the job type `eval`, grouped with its training by the run's name.

    Logged are `eval/MODEL/accuracy` and the like, `eval/difference`, `eval/p_value` and `eval/verdict`; the report's
    figures as images; and `eval/predictions`, a line for each question. Nothing is sent unless `monitor.wandb` is
    `online`.

    Args:
        evaluation: as written.
        monitor: the recipe's section.
        folder: where W&B keeps its files.

    Returns:
        Where it can be seen; see `where_logged`.
    """
    import wandb

    metrics = evaluation.metrics
    run = begin_run(
        monitor,
        run=metrics["run"],
        folder=folder,
        name=f"{os.environ.get('WANDB_NAME', metrics['run'])}-{evaluation.path.name}",
        job_type="eval",
        config={key: metrics[key] for key in ("run", "model", "scorer", "answer", "statutes", "test_file", "test_sha256", "contaminated", "rehearsal")},
    )
    figures = draw_evaluation(metrics, evaluation.predictions, evaluation.questions)
    run.log({f"eval/{name}": wandb.Image(_image(to_png(figure)), caption=figure.get_label()) for name, figure in figures.items()})
    run.log({"eval/predictions": _table(evaluation)})
    run.summary.update(summary(metrics))
    run.finish()
    return where_logged(run, folder)


def log_style(metrics: Mapping[str, Any], replies: Mapping[str, Sequence[ScoredReply]], picture: bytes, monitor: MonitorSection, *, folder: Path) -> str:
    """The same of a style evaluation: `eval/MODEL/style` and the figures beside it, the picture, and a line for each turn.

    Args:
        metrics: as written.
        replies: model -> its replies.
        picture: PNG of their styles.
        monitor: the recipe's section.
        folder: the evaluation's, where W&B keeps its files.
    """
    import wandb

    kept = ("run", "model", "scorer", "answer", "statutes", "test_file", "test_sha256", "contaminated", "rehearsal", "patterns")
    name = f"{os.environ.get('WANDB_NAME', metrics['run'])}-{folder.name}"
    run = begin_run(monitor, run=metrics["run"], folder=folder, name=name, job_type="eval", config={key: metrics[key] for key in kept})
    paired, meaningless = metrics["comparison"], metrics["contaminated"] or metrics["rehearsal"]
    lines = [[said[0].id, *(part for reply in said for part in (reply.reply, reply.style))] for said in zip(*replies.values(), strict=True)]
    run.log({"eval/style": wandb.Image(_image(picture))})
    run.log({"eval/predictions": wandb.Table(columns=["id", *(f"{model}{part}" for model in replies for part in ("", " style"))], data=lines)})
    run.summary.update(
        {f"eval/{model}/{key}": value for model, figures in metrics["models"].items() for key, value in figures.items() if isinstance(value, int | float)}
        | {f"eval/{key}": paired[key] for key in ("difference", "p_value")}
        | {"eval/difference_low": paired["interval"][0], "eval/difference_high": paired["interval"][1]}
        | {"eval/verdict": "no verdict" if meaningless else paired["verdict"]}
        | {"eval/contaminated": bool(metrics["contaminated"]), "eval/rehearsal": metrics["rehearsal"]}
    )
    run.finish()
    return where_logged(run, folder)


def summary(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The evaluation's figures under the names they have in W&B."""
    found = {
        f"eval/{model}/{name}": described[name]
        for model, described in metrics["models"].items()
        for name in _FIGURES
        if described[name] is not None
    }
    found |= {"eval/contaminated": bool(metrics["contaminated"]), "eval/rehearsal": metrics["rehearsal"]}
    paired = metrics.get("comparison")
    if paired:
        meaningless = metrics["contaminated"] or metrics["rehearsal"]
        found |= {"eval/difference": paired["difference"], "eval/p_value": paired["p_value"]}
        found["eval/verdict"] = "no verdict" if meaningless else paired["verdict"]
        found |= {"eval/difference_low": paired["interval"][0], "eval/difference_high": paired["interval"][1]}
        found |= {"eval/gained": len(paired["gained"]), "eval/lost": len(paired["lost"])}
    return found


def _table(evaluation: Evaluation) -> "wandb.Table":
    import wandb

    answers = {model: content_answers(predictions) for model, predictions in evaluation.predictions.items()}
    gold = content_gold(next(iter(evaluation.predictions.values())))
    columns: Sequence[str] = ["id", "law", "question", "gold", *answers, *(f"{model} right" for model in answers)]
    lines = [
        [question, evaluation.questions[question]["law"], evaluation.questions[question]["question"], letter]
        + [found[question] for found in answers.values()]
        + [found[question] == letter for found in answers.values()]
        for question, letter in gold.items()
    ]
    return wandb.Table(columns=list(columns), data=lines)


def _image(png: bytes) -> Any:
    from PIL import Image

    return Image.open(io.BytesIO(png))
