"""Reasons for the choices of a question: asked of a teacher model or written by hand, and verified before they are used."""
