"""Runs a command that does not outlive the thread that started it: `python bound_child.py PARENT SIGNAL COMMAND…`.

Linux sends the signal when that thread ends, however it ends; the wish survives `exec`. Elsewhere nothing is sent. A script of its own, because what `subprocess` would run between fork and exec is not safe beside threads.
"""

import ctypes
import os
import sys
from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def bound(command: Sequence[str], death: int) -> list[str]:
    """The command, bound to the thread of this process that will start it, whose end it hears as the signal `death`."""
    return [sys.executable, __file__, str(os.getpid()), str(int(death)), *command]


if __name__ == "__main__":
    parent, number, *command = sys.argv[1:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)
    if os.getppid() != int(parent):  # it has died meanwhile
        sys.exit(1)
    os.execvp(command[0], command)
