"""What is said of an unfinished run's checkpoints before it goes on."""

import json

import pytest
from transformers import TrainerState

from lawft_trl.training.checkpoints import drop_later


@pytest.mark.parametrize(("is_wanted", "best", "is_said"), [(True, 4, True), (True, 8, False), (True, None, False), (False, 4, False)])
def test_a_lost_best_checkpoint_is_said(tmp_path, is_wanted, best, is_said):
    """Goes on from step 8 of 12. The checkpoint of step 4 was removed when that of step 12 was better."""
    training = {"load_best_model_at_end": True} if is_wanted else {}
    (tmp_path / "run.json").write_text(json.dumps({"identity": {"recipe": {"training": training}, "processes": 1}}))
    for step in (8, 12):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        path = best and str(tmp_path / f"checkpoint-{best}")
        TrainerState(global_step=step, best_model_checkpoint=path).save_to_json(str(folder / "trainer_state.json"))
    said = []
    drop_later(tmp_path, tmp_path / "checkpoint-8", said.append)
    assert "checkpoint-12: removed" in said[0] and not (tmp_path / "checkpoint-12").exists()
    lost = ["checkpoint-4, the best until checkpoint-8, is gone: where no checkpoint from here on is better, the run ends with its last step"]
    assert [line.removeprefix(f"{tmp_path}: ") for line in said[1:]] == lost * is_said
