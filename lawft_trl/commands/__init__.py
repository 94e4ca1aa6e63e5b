"""The verbs of `lawft`, a module each: `add` declares its arguments, the rest calls one function and prints what came of it."""
