"""Switches off what the libraries send home, and what they say that a user of a recipe can do nothing about."""

import logging
import os
import sys
import warnings

_TELEMETRY = {
    "HF_HUB_DISABLE_TELEMETRY": "1",  # huggingface_hub, and through it TRL, transformers, datasets
    "DISABLE_TELEMETRY": "1",  # its older name, which others read as well
    "DO_NOT_TRACK": "1",  # what many tools have agreed on
    # wandb 0.31 calls its maker's server also in offline mode, for its own figures, unless this is off (docs/monitoring.md).
    "WANDB_ERROR_REPORTING": "false",
    "GRADIO_ANALYTICS_ENABLED": "False",  # Trackio stands on Gradio
}


def quiet_libraries() -> None:
    """To be called before the libraries are imported; what the user has set in the environment stays."""
    # The libraries report each use to their makers. Users of legal data have not agreed to that.
    for variable, off in _TELEMETRY.items():
        os.environ.setdefault(variable, off)
    if not sys.stderr.isatty():  # in a log file their bars are floods of carriage returns
        for library in ("HF_DATASETS", "HF_HUB"):
            os.environ.setdefault(f"{library}_DISABLE_PROGRESS_BARS", "1")
    # TRL 1.16 uses names of transformers that transformers 5.23 calls deprecated.
    warnings.filterwarnings("ignore", message=".*gradient_checkpointing` is deprecated", category=FutureWarning)
    # bitsandbytes asks for an optional CPU kernel from the hub, also where nothing is quantized.
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
