"""`lawft serve-jobs`: OpenAI's fine-tuning API on this machine, with this project's launcher behind it. docs/serve_jobs.md."""
