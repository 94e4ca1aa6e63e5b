"""Switches off what the libraries send home, and what they say that a user of a recipe can do nothing about."""

import logging
import os
import warnings


def quiet_libraries() -> None:
    """To be called before the libraries are imported; what the user has set in the environment stays."""
    # TRL and huggingface_hub report each use to their makers. Users of legal data have not agreed to that.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    # TRL 1.16 uses names of transformers that transformers 5.23 calls deprecated.
    warnings.filterwarnings("ignore", message=".*gradient_checkpointing` is deprecated", category=FutureWarning)
    # bitsandbytes asks for an optional CPU kernel from the hub, also where nothing is quantized.
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
