"""The one exception for input a user can mend."""

from collections.abc import Iterable

_SHOWN = 30  # problems that are printed; a file in the wrong form has one on every line


class InputError(ValueError):
    """Something the user gave cannot be used; every fault found is listed, not only the first.

    Args:
        heading: what was being read or done, e.g. `"recipes/x.yaml: 2 errors"`.
        problems: one line per fault: where it is, what was found, what is allowed, what to type instead.
    """

    def __init__(self, heading: str, problems: Iterable[str] = ()):
        self.heading = heading
        self.problems = list(problems)
        shown = [f"  - {problem}" for problem in self.problems[:_SHOWN]]
        if len(self.problems) > _SHOWN:
            shown.append(f"  - and {len(self.problems) - _SHOWN} more")
        super().__init__("\n".join([heading, *shown]))
