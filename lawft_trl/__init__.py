"""Fine-tuning open LLMs for Japanese legal work with TRL, and proving whether it helped."""

__version__ = "0.1.0"
