"""Works off the queue: one thread validates new jobs, another trains them, one at a time, by this project's launcher.

Whatever a job is found in when the server starts, it goes on from there: its state is in the store and in its folders alone.
"""

import errno
import json
import logging
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lawft_trl import run_dir
from lawft_trl.errors import InputError
from lawft_trl.folders import write_text
from lawft_trl.job_server.children import end_children, end_leftovers, marked, start_child
from lawft_trl.job_server.job_recipes import Base, count_processes, job_recipe, resolved
from lawft_trl.job_server.job_results import results_csv, tuned_name
from lawft_trl.job_server.places import Places
from lawft_trl.job_server.store import Store, new_id
from lawft_trl.job_server.training_log import LogReader, failure
from lawft_trl.job_server.uploads import write_rows
from lawft_trl.recipe_views import resolved_yaml
from lawft_trl.training.checkpoints import last_checkpoint
from lawft_trl.training.child_runs import launch_command

FEWEST = 10  # examples of a training file
_INTERRUPTIONS = 3  # of a running job, by a server that died; then it is the job that kills it
_SECONDS_TO_SAVE = 270  # for a training that was told to end: it finishes its step, or its evaluation, and saves a checkpoint
_SECONDS_TO_CANCEL = 10
_SECONDS_TO_RECOVER = 10
_TICK = 0.3  # seconds between two looks
_BLAMED = {"validation_file": re.compile(r"dev\.jsonl|dev rows|^validation_file"), "training_file": re.compile(r"train\.jsonl|train rows|^training_file|^line ")}

_log = logging.getLogger("lawft.jobs")


class Worker:
    """The two threads.

    Args:
        store: the jobs.
        places: their folders.
        bases: what can be tuned.
        config_file: of accelerate launch.
    """

    def __init__(self, store: Store, places: Places, bases: dict[str, Base], config_file: Path | None) -> None:
        self.store, self.places, self.bases, self.config_file = store, places, bases, config_file
        self.processes = count_processes(config_file)
        self.stopping = threading.Event()
        self.threads = [threading.Thread(target=self._work, args=arguments, daemon=True) for arguments in (("validating_files", self._validate), ("queued", self._train))]

    def start(self) -> None:
        """Begins. Nothing is trained before what a killed server has left has ended; all else is answered meanwhile."""
        for thread in self.threads:
            thread.start()

    def stop(self) -> None:
        """Ends the processes, a training with a checkpoint, and puts its job back into the queue."""
        self.stopping.set()
        for thread in self.threads:
            thread.join()

    def _recover(self, job: str) -> None:
        """What to do with a job whose training the server's death has interrupted."""
        if (self.places.run(job) / "run.json").is_file():  # it was finished; `_train` says so
            self._put_back(job, "The server was killed when this job was done, and has been started again")
            return
        asked = self.store.asked(job)
        asked["interruptions"] = asked.get("interruptions", 0) + 1
        self.store.remember(job, asked)
        if asked["interruptions"] > _INTERRUPTIONS:
            self._fail(job, f"the server died {asked['interruptions']} times while this job was trained; it is not begun again", code="interrupted")
        else:
            self._put_back(job, "The server was killed while this job was running, and has been started again")

    def _put_back(self, job: str, why: str) -> None:
        """Puts a job whose training was interrupted back into the queue, as far as it was not cancelled meanwhile."""
        with self.store.transaction():
            if self.store.change(job, {"status": "queued"}):
                self.store.add_event(job, why, level="warn")

    def _begin(self) -> bool:
        """Waits for what a killed server has left, and puts its job back into the queue; whether that was done."""
        if left := len(marked(self.places.folder, leftover=True)):
            _log.warning("waiting up to %d seconds for %d processes of a server that was killed; its training may be saving a checkpoint", _SECONDS_TO_SAVE, left)
            end_leftovers(self.places.folder, seconds=_SECONDS_TO_SAVE, stopping=self.stopping)
        if self.stopping.is_set():
            return False
        while job := self.store.oldest("running"):
            self._recover(job["id"])
        return True

    def _work(self, status: str, step: Callable[[str], None]) -> None:
        begun = status != "queued"
        while not self.stopping.is_set():
            try:
                begun = begun or self._begin()
                if not begun:
                    continue
                if status == "queued":  # one job is trained at a time, so nobody trains one that is found running here
                    while job := self.store.oldest("running"):
                        self._put_back(job["id"], "The server could not write to its disk while this job was running")
                job = self.store.oldest(status)
                if job is None:
                    self.stopping.wait(_TICK)
                    continue
                self._attempt(job["id"], step)
            except (sqlite3.Error, OSError) as error:  # what stands in the store is gone on from
                _log.error("%s: %s", status, type(error).__name__)
                self.stopping.wait(_SECONDS_TO_RECOVER)

    def _attempt(self, job: str, step: Callable[[str], None]) -> None:
        try:
            step(job)
        except Exception as error:  # the next job is not to suffer from it
            if _is_passing(error):
                raise
            _log.error("%s: %s", job, type(error).__name__)
            self._fail(job, f"the server met an error of its own: {type(error).__name__}: {error}", code="internal_error")

    def _fail(self, job: str, message: str, *, code: str, param: str | None = None) -> None:
        changes = {"status": "failed", "finished_at": int(time.time()), "error": {"code": code, "message": message, "param": param}}
        if self.store.change(job, changes):
            self.store.add_event(job, f"The job failed: {message}", level="error")

    def _refuse(self, job: str, message: str) -> None:
        """Fails a job that was not queued, and names the file that is to blame, if it is one."""
        param = next((name for name, words in _BLAMED.items() if words.search(message)), None)
        self._fail(job, message, code="invalid_file" if param else "cannot_be_trained", param=param)

    # Validation

    def _validate(self, job: str) -> None:
        """Rows and recipe of a job, and what `lawft check` proves of them; then it is queued."""
        record = self.store.job(job)
        self.store.add_event(job, f"Validating training file: {record['training_file']}" + (f" and validation file: {record['validation_file']}" if record["validation_file"] else ""))
        folder = self.places.job(job)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            recipe, rows = self._prepare(job, record, folder)
        except InputError as error:
            self._refuse(job, str(error))
            return
        with (folder / "validation.log").open("w+b") as log:
            command = [sys.executable, "-m", "lawft_trl.job_server.validate_rows", str(folder / "recipe.yaml"), str(folder / "proven.json")]
            child = start_child(command, folder=self.places.folder, mark=f"validation {job}", output=log, death=signal.SIGKILL)
            self._wait(job, child, mark=f"validation {job}")
            log.seek(0)
            said = log.read().decode("utf-8", errors="replace")
        if self.stopping.is_set() or self.store.job(job)["status"] != "validating_files":
            return
        if child.returncode:
            self._refuse(job, failure(said).replace(f"{folder}/", ""))
            return
        proven = json.loads((folder / "proven.json").read_text(encoding="utf-8"))
        self.store.remember(job, {**self.store.asked(job), **rows, "proven": proven})
        hyperparameters = resolved(recipe, record["hyperparameters"], self.processes)
        method = {"type": "supervised", "supervised": {"hyperparameters": hyperparameters}}
        with self.store.transaction():
            if self.store.change(job, {"status": "queued", "hyperparameters": hyperparameters, "method": method, "seed": recipe.training("seed")}):
                for line in _told(rows, proven):
                    self.store.add_event(job, line)
                self.store.add_event(job, "Files validated, moving job to queued state")

    def _prepare(self, job: str, record: dict[str, Any], folder: Path) -> tuple[Any, dict[str, int]]:
        """Writes rows and recipe of a job; returns the recipe, and what the rows are."""
        base = self.bases.get(record["model"])
        if base is None:
            raise InputError(f"model {record['model']} is no longer among those this server was started with")
        examples, _, unweighted = write_rows(self.places.upload(record["training_file"]), folder / "train.jsonl", dataset=record["training_file"])
        if examples < FEWEST:
            raise InputError(f"training_file has {examples} example(s), but must have at least {FEWEST}")
        dev = None
        if record["validation_file"]:
            dev = folder / "dev.jsonl"
            write_rows(self.places.upload(record["validation_file"]), dev, dataset=record["validation_file"])
        asked = self.store.asked(job)
        recipe = job_recipe(
            base, record["hyperparameters"], train=folder / "train.jsonl", dev=dev, run=self.places.run(job), seed=asked["seed"], processes=self.processes
        )
        write_text(folder / "recipe.yaml", resolved_yaml(recipe))
        return recipe, {"examples": examples, "unweighted": unweighted}

    # Training

    def _train(self, job: str) -> None:
        """Trains a queued job, or goes on with it; whatever happens, its status is another at the end."""
        run = self.places.run(job)
        if (run / "run.json").is_file():  # it was finished, and the server did not live to say so
            if self.store.change(job, {"status": "running"}, only_from=["queued"]):
                self._succeed(job)
            return
        if not self.store.change(job, {"status": "running"}, only_from=["queued"]):
            return
        work = run_dir.unfinished(run)
        checkpoint = last_checkpoint(work) if (work / "run.json").is_file() else None
        how, said = [], "Fine-tuning job started"
        if checkpoint:
            how, said = ["--resume"], f"Fine-tuning goes on from {checkpoint.name}"
        elif work.exists():
            how, said = ["--force"], "No checkpoint was left to go on from; the training begins anew"
        self.store.add_event(job, said)
        mark, reader = f"job {job}", LogReader(self.places.job(job) / "training.log")
        with reader.path.open("ab") as log:
            command = [*launch_command(self.places.job(job) / "recipe.yaml", self.config_file), *how]
            child = start_child(command, folder=self.places.folder, mark=mark, output=log, death=signal.SIGTERM)
            self._wait(job, child, mark=mark, tick=lambda: self._tell(job, reader))
        self._tell(job, reader)
        if (run / "run.json").is_file():
            self._succeed(job)
        elif self.stopping.is_set():
            self._put_back(job, "The server was stopped; the job goes on when it is started again")
        elif self.store.job(job)["status"] == "cancelled":
            self.store.add_event(job, "The training's processes have ended")
        else:
            said = failure(reader.text()).replace(f"{self.places.folder}/", "")
            self._fail(job, f"{said} (exit code {child.returncode})", code="training_failed")

    def _wait(self, job: str, child: subprocess.Popen, *, mark: str, tick: Callable[[], None] = lambda: None) -> None:
        """Until a child has ended; ends it when its job is cancelled, the server stops, or an error leaves nobody to look after it."""
        try:
            while child.poll() is None:
                time.sleep(_TICK)
                tick()
                if self.stopping.is_set() or self.store.job(job)["status"] == "cancelled":
                    end_children(self.places.folder, mark, seconds=_SECONDS_TO_SAVE if self.stopping.is_set() else _SECONDS_TO_CANCEL)
        finally:  # also what a launcher that died has left
            end_children(self.places.folder, mark, seconds=_SECONDS_TO_SAVE if child.poll() is None else _SECONDS_TO_CANCEL)

    def _tell(self, job: str, reader: LogReader) -> None:
        """What the training has printed since, as events."""
        for message, figures in reader.news():
            self.store.add_event(job, message, data=figures)

    def _succeed(self, job: str) -> None:
        """Gives a finished run its name among the models, and its figures as a file."""
        run, record, asked = self.places.run(job), self.store.job(job), self.store.asked(job)
        content, tokens = results_csv(run / "training_metrics.csv")
        result = new_id("file")
        self.places.upload(result).write_bytes(content)
        name = tuned_name(record["model"], asked["suffix"], job)
        file = {"id": result, "object": "file", "bytes": len(content), "created_at": int(time.time()), "filename": "step_metrics.csv", "purpose": "fine-tune-results", "status": "processed"}
        changes = {"status": "succeeded", "fine_tuned_model": name, "finished_at": int(time.time()), "result_files": [result], "trained_tokens": tokens, "estimated_finish": None}
        with self.store.transaction():
            if not self.store.change(job, changes):
                self.places.upload(result).unlink()
                return
            self.store.add_file(file)
            self.store.add_event(job, f"New fine-tuned model created: {name}")
            self.store.add_event(job, "The job has successfully completed")


def _is_passing(error: Exception) -> bool:
    """Whether it may be over when there is room on the disk again; the job is not to blame."""
    return isinstance(error, sqlite3.OperationalError) or (isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT))


def _told(rows: dict[str, int], proven: dict[str, Any]) -> list[str]:
    """What was proven of a job's rows, in words."""
    lines = [f"{rows['examples']} examples make {proven['rows']} training rows, one for each turn of the assistant"]
    if rows["unweighted"]:
        lines[0] += f"; {rows['unweighted']} turns of weight 0 are read as context and not trained"
    lines.append(
        f"Supervision proven row by row: {proven['supervised']} of {proven['tokens']} tokens are in the loss, {proven['supervised_min']} to {proven['supervised_max']} a row: "
        f"exactly the answer and {proven['turn_end']}; nothing is cut (longest row {proven['longest']} tokens, limit {proven['limit']})"
    )
    if proven["dev_rows"]:
        lines.append(f"{proven['dev_rows']} validation rows, none of them in the training file")
    return lines
