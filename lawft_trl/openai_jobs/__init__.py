"""Fine-tuning jobs over OpenAI's API: training files checked and counted, jobs made, watched and pulled, at OpenAI or at `lawft serve-jobs`."""
