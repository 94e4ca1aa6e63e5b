"""Statutes: passages of law text, where they come from, and finding the ones a question rests on. No torch here."""
