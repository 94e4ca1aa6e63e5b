"""How fast `lawft` answers, beside `trl sft --help` on the same machine.

    python scripts/measure_startup.py

Runs the three commands in turn, five times each after a warm-up, and prints the medians and their ratios.
"""

import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROUNDS = 5


def seconds(command: list[str]) -> float:
    """Wall-clock seconds of one command, whatever its exit code."""
    started = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    return time.perf_counter() - started


def main() -> None:
    trl, lawft = (shutil.which(name, path=Path(sys.executable).parent) for name in ("trl", "lawft"))
    if not trl or not lawft:
        sys.exit("trl and lawft must be installed beside this Python")
    with tempfile.TemporaryDirectory() as folder:
        broken = Path(folder) / "broken.yaml"
        broken.write_text("training:\n  learnig_rate: 1e-4\n", encoding="utf-8")
        commands = {
            "trl sft --help": [trl, "sft", "--help"],
            "lawft --help": [lawft, "--help"],
            "lawft recipe show BROKEN": [lawft, "recipe", "show", str(broken)],
        }
        for command in commands.values():
            seconds(command)
        times = {name: [] for name in commands}
        for _ in range(ROUNDS):
            for name, command in commands.items():
                times[name].append(seconds(command))
    slow = times.pop("trl sft --help")
    print(f"{'trl sft --help':26} {statistics.median(slow):7.3f} s")
    for name, measured in times.items():
        ratio = statistics.median(one / other for one, other in zip(slow, measured, strict=True))
        print(f"{name:26} {statistics.median(measured):7.3f} s   {ratio:5.0f} times faster")


if __name__ == "__main__":
    main()
