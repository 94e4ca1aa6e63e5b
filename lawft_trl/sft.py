"""Fine-tunes one recipe.

    accelerate launch lawft_trl/sft.py recipes/direct_norag.yaml training.learning_rate=1e-4

Options: --rehearse (the same recipe and data on the bundled tiny model, on the CPU), --resume [CHECKPOINT], --force.
"""

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Any

from lawft_trl import run_dir
from lawft_trl.doctor.examine import refuse_unfit
from lawft_trl.errors import InputError
from lawft_trl.quiet import quiet_libraries
from lawft_trl.recipe import Recipe, load_recipe
from lawft_trl.training.hub import announce_push, push_finished
from lawft_trl.training.monitor import finish_monitor, set_up_monitor, watch_training
from lawft_trl.training.preflight import (
    NOT_REHEARSED,
    REHEARSED_QUESTIONS,
    data_files,
    encode_role,
    read_roles,
    recipe_tokenizer,
    refuse_overlap,
    rehearsal_changes,
    require_device,
    require_scorable,
    sft_config,
)
from lawft_trl.training.stop_signals import end_with_launcher, hearing_signals, join_resume


def main(recipe: Recipe, *, resume: str | None = None, force: bool = False, rehearsal: bool = False) -> None:
    """Trains the recipe's adapter, or all weights where it has no section `lora`; the run's folder appears under its name when it is finished.

    Args:
        recipe: a checked recipe.
        resume: go on with an interrupted run of the same recipe and data, from the checkpoint of this name or `"latest"`.
        force: replace a finished run once the new one is finished; with `resume`, drop the checkpoints behind the named one.
        rehearsal: the recipe was changed to the tiny model; the run's reports say so.

    Raises:
        InputError: when data, prompt, machine or folder do not allow the run; nothing has been written then.
    """
    target = Path(recipe.values["training"]["output_dir"])
    run_dir.refuse_taken(target, resume=resume is not None, force=force)

    # Data: read, refuse what teaches nothing or something false, and leakage
    rows = read_roles(recipe)
    refuse_unfit(rows["train"], str(recipe.path))
    overlap = refuse_overlap(recipe, rows)

    # Libraries, loaded only now, and the seed before anything is drawn from it
    from accelerate import PartialState
    from datasets import Dataset
    from transformers import BitsAndBytesConfig, set_seed
    from trl import SFTTrainer

    from lawft_trl.data.chat import end_of_turn, prompt_fingerprint
    from lawft_trl.training.adapters import adapter_config, describe_trained, initial_adapter, save_tuned
    from lawft_trl.training.batches import prepare_batches
    from lawft_trl.training.checkpoints import refuse_unusable
    from lawft_trl.training.dev_letters import ask_dev_questions
    from lawft_trl.training.launch_checks import describe_placement, refuse_impossible, visible_gpus
    from lawft_trl.training.records import keep_records
    from lawft_trl.training.style_monitor import watch_dev_rows
    from lawft_trl.training.supervision import prove_trainer
    from lawft_trl.training.survival import prepare_survival, survive
    from lawft_trl.training.weights import model_to_train, prepare_weights

    training = recipe.values["training"]
    require_device(training)
    gpus, has_bf16 = visible_gpus()
    refuse_impossible(recipe, os.environ, gpus=gpus, bf16=has_bf16)
    set_seed(training["seed"])
    state = PartialState(cpu=training.get("use_cpu", False))

    # Tokens: every row encoded and proven
    tokenizer, kwargs = recipe_tokenizer(recipe), recipe.pattern.chat_template_kwargs
    encoded, encoded_dev = (encode_role(recipe, rows[role], tokenizer) for role in ("train", "dev"))
    require_scorable(recipe, rows["test"], tokenizer)
    asked_dev = ask_dev_questions(recipe, rows["dev"], tokenizer)

    # Run folder: a resumed run must be the same run
    work = run_dir.unfinished(target)
    fingerprint = prompt_fingerprint(tokenizer, system=recipe.pattern.system, template_kwargs=kwargs)
    identity = run_dir.identity(recipe, data_files(recipe), fingerprint, state.num_processes)
    refuse_unusable(target, identity, resume, force=force)
    report_to = set_up_monitor(recipe, work)

    # Trainer: TRL loads, quantizes and wraps the model
    args = sft_config(recipe, work=work, turn_end=end_of_turn(tokenizer, kwargs), report_to=report_to, run_name=target.name)
    quantization = BitsAndBytesConfig(**recipe.values["quantization"]) if "quantization" in recipe.values else None
    trainer = SFTTrainer(
        model=model_to_train(recipe, args, quantization),
        args=args,
        train_dataset=Dataset.from_list([item.columns for item in encoded]),
        eval_dataset=Dataset.from_list([item.columns for item in encoded_dev]) if encoded_dev else None,
        processing_class=tokenizer,
        quantization_config=quantization,
        peft_config=adapter_config(recipe),
    )
    prove_trainer(trainer, encoded)
    prepare_weights(trainer)
    shared = prepare_batches(trainer, encoded, recipe)
    watch_training(trainer, recipe, work)
    watch_dev_rows(trainer, recipe, asked_dev, encoded_dev)
    initial = initial_adapter(trainer, recipe)
    prepare_survival(trainer, recipe, encoded)
    records = keep_records(trainer, rows=len(encoded))

    # Train, save, give the run its name; rank 0 alone writes
    record = {
        "identity": identity,
        "command": sys.argv,
        "environment": run_dir.environment(),
        "overlap": overlap,
        "rehearsal": rehearsal,
        "rows_with_trimmed_statutes": sum(item.dropped_statutes > 0 for item in encoded),
        "shared_prefix": shared.record,
    }
    state.wait_for_everyone()
    if state.is_main_process and not resume:
        run_dir.begin(target, recipe, record)
    state.print(describe_placement(recipe, os.environ), describe_trained(trainer, recipe), *([shared] if recipe.data.shared_prefix is not False else []), sep="\n")
    with survive(trainer, recipe, resume=resume) as checkpoint:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        save_tuned(trainer, work, initial)
        if state.is_main_process:
            finish_run(recipe, work, target, records.finish(), rehearsal=rehearsal)
    state.wait_for_everyone()


def finish_run(recipe: Recipe, work: Path, target: Path, results: dict[str, Any], *, rehearsal: bool) -> None:
    """Gives a trained run its name and says what came of it.

    Args:
        recipe: the resolved recipe.
        work: the folder it was trained in.
        target: the folder it gets.
        results: the figures of `training_summary.json`.
        rehearsal: there is nothing to evaluate at length.
    """
    from lawft_trl.experiment_log import write_experiment
    from lawft_trl.model_card import write_model_card
    from lawft_trl.training.records import kept_line, summary_line

    notes = finish_monitor(recipe, work, target, results)
    run_dir.finish(work, target, results)
    write_experiment(target)
    write_model_card(target)
    following = [] if rehearsal else [f"Next:    lawft eval {target}"]
    kept = [kept_line(results)] if recipe.training("load_best_model_at_end") and results["best_metric_name"] else []
    print(f"\n{summary_line(results)}", *kept, f"{'Adapter' if 'lora' in recipe.values else 'Model'}:".ljust(9) + str(target), *notes, *following, sep="\n")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path, help="a YAML file, e.g. recipes/direct_norag.yaml")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="win over the recipe")
    parser.add_argument("--rehearse", action="store_true", help="run it on the bundled tiny model, on the CPU, for 10 steps")
    parser.add_argument("--resume", nargs="?", metavar="CHECKPOINT", help="go on with an interrupted run, from its latest checkpoint or the one named")
    parser.add_argument("--force", action="store_true", help="replace a finished run; with --resume CHECKPOINT, drop later ones")
    return parser.parse_intermixed_args(join_resume(sys.argv[1:]))


def run_from_command_line() -> int:
    """Runs the command line; returns the exit code, 2 for input that cannot be used."""
    arguments = parse_arguments()
    quiet_libraries()
    try:
        final, force = rehearsal_changes(arguments.recipe, arguments.overrides) if arguments.rehearse else {}, arguments.force
        if arguments.rehearse and not any(override.startswith("training.output_dir=") for override in arguments.overrides):
            final, force = {**final, "training.output_dir": f"runs/rehearsal/{arguments.recipe.stem}"}, True
        recipe = load_recipe(arguments.recipe, arguments.overrides, final)
        speaks = os.environ.get("RANK", "0") == "0"
        pushes = speaks and recipe.training("push_to_hub")
        if arguments.rehearse and speaks:
            print(NOT_REHEARSED, flush=True)
        if pushes:
            print(announce_push(recipe), flush=True)
        main(recipe, resume=arguments.resume, force=force, rehearsal=arguments.rehearse)
        if pushes:
            print(push_finished(recipe))
        if arguments.rehearse and recipe.data.test and speaks:
            from lawft_trl.evaluation.evaluate import evaluate_run

            metrics = evaluate_run(Path(recipe.values["training"]["output_dir"]), limit=REHEARSED_QUESTIONS)
            print(f"Report:  {metrics['report']}\n{metrics['warnings'][0]}")
    except InputError as error:
        # All processes of a machine meet the same error; one voice is enough. The others wait for it, because the
        # launcher ends all processes as soon as one has ended.
        if os.environ.get("LOCAL_RANK", "0") == "0":
            print(error, file=sys.stderr, flush=True)
        else:
            time.sleep(5)
        return 2
    return 0


if __name__ == "__main__":
    end_with_launcher()
    with hearing_signals():
        sys.exit(run_from_command_line())
