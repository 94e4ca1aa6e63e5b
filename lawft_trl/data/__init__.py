"""Questions, splits, prompts and rows. Nothing here imports torch."""
