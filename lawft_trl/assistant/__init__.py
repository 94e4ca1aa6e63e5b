"""The legal assistant: documents in, four tasks over any OpenAI-compatible endpoint, reports with notices out."""
