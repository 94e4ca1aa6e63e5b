"""The one exception for input a user can mend."""

from collections.abc import Iterable

_SHOWN = 30  # problems that are printed unless all are wanted; a file in the wrong form has one on every line


class InputError(ValueError):
    """Something the user gave cannot be used; every fault found is listed, not only the first.

    Args:
        heading: what was being read or done, e.g. `"recipes/x.yaml: 2 errors"`.
        problems: one line per fault: where it is, what was found, what is allowed, what to type instead.
        cut: print the first problems only, and how many more there are.
    """

    def __init__(self, heading: str, problems: Iterable[str] = (), *, cut: bool = True):
        self.heading = heading
        self.problems = list(problems)
        last = _SHOWN if cut else len(self.problems)
        shown = [f"  - {problem}" for problem in self.problems[:last]]
        if len(self.problems) > last:
            shown.append(f"  - and {len(self.problems) - last} more")
        super().__init__("\n".join([heading, *shown]))
