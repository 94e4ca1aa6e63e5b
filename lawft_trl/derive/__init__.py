"""Questions made from statutes by rule: the change is known, and so is the reason."""
