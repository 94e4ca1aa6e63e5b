"""Asking the base model and the tuned one, and saying what the answers prove. Only `predict` needs torch."""
