"""The four tasks of the assistant: contract review, question answering, risk analysis, drafting."""
