"""The legal assistant: models behind OpenAI-compatible endpoints, and what is done with them."""
