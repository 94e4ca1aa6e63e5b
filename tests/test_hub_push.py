"""`training.push_to_hub`: what reaches the hub, and what is said where nothing can; against a server on this machine."""

import json
import os
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest
from conftest import QUICKSTART, run_sft, settings
from hub_server import TOKEN, serving_hub


def hub_environment(hub) -> dict[str, str]:
    return {"HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}


@pytest.fixture(scope="module")
def pushed(small_data, tmp_path_factory) -> SimpleNamespace:
    """A run with checkpoints and a W&B log that was pushed when it was finished."""
    run = tmp_path_factory.mktemp("pushed") / "mine"
    with serving_hub() as hub:
        arguments = ["training.push_to_hub=true", "training.hub_private_repo=true", "training.report_to=wandb", "training.save_strategy=steps", "training.save_steps=1"]
        result = run_sft(QUICKSTART, *settings(small_data, run, *arguments), check=True, **hub_environment(hub))
    return SimpleNamespace(run=run, hub=hub, said=result.stdout)


def test_the_finished_run_is_pushed_and_nothing_else(pushed):
    run, hub = pushed.run, pushed.hub
    assert f"will be pushed to {hub.url}/someone/mine (new, private)" in pushed.said
    assert pushed.said.index("will be pushed") < pushed.said.index("step 1/3"), "before the training"
    assert [(made["name"], made["visibility"]) for made in hub.created] == [("mine", "private")], "once"
    assert set(hub.files) == {
        "README.md", "adapter_config.json", "adapter_model.safetensors", "chat_template.jinja", "training_metrics.csv", "recipe.yaml", "run.json",
        "tokenizer.json", "tokenizer_config.json", "training_progress.png", "training_summary.json",
    }  # fmt: skip
    assert all((run / name).read_bytes() == content for name, content in hub.files.items())
    assert json.loads(hub.files["run.json"])["status"] == "finished"
    assert b"lawft-trl" in hub.files["README.md"], "our card, not TRL's"
    assert TOKEN not in "".join(path.read_text(errors="replace") for path in run.glob("*.*") if path.is_file())


def test_a_push_that_fails_loses_nothing_and_says_how_to_push(pushed, tmp_path):
    """A finished run's own recipe, pushed to a hub that takes no commit."""
    run = tmp_path / "kept"
    shutil.copytree(pushed.run, run)
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    code = (
        "import sys\nfrom lawft_trl.recipe import load_recipe\nfrom lawft_trl.training.hub import push_finished\n"
        "push_finished(load_recipe(sys.argv[1], [f'training.output_dir={sys.argv[2]}', 'training.push_to_hub=true']))"
    )
    with serving_hub(refuse_commits=True) as hub:
        result = subprocess.run([sys.executable, "-c", code, run / "recipe.yaml", run], env=os.environ | hub_environment(hub), capture_output=True, text=True)
    assert "InputError" in result.stderr and "no room left" in result.stderr
    assert f"hf upload kept {run} . --include README.md" in result.stderr
    assert {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()} == before


@pytest.mark.parametrize(
    ("environment", "arguments", "expected"),
    [
        ({"HF_TOKEN": ""}, [], "no token of the hub is known here"),
        ({"HF_HUB_OFFLINE": "1"}, [], "unset HF_HUB_OFFLINE"),
        ({"HF_TOKEN": "hf_of_another"}, [], "Invalid"),
        ({}, ["training.hub_model_id=a/b/c"], "cannot be a name on the hub"),
    ],
)
def test_what_cannot_be_pushed_is_refused_before_the_training(small_data, tmp_path, environment, arguments, expected):
    with serving_hub() as hub:
        given = hub_environment(hub) | {"HF_HOME": str(tmp_path / "home")} | environment
        result = run_sft(QUICKSTART, *settings(small_data, tmp_path / "run", "training.push_to_hub=true", *arguments), **given)
    assert (result.returncode, "Traceback" in result.stderr) == (2, False), result.stderr
    assert expected in result.stderr
    assert not hub.created and not (tmp_path / "run.unfinished").exists()
