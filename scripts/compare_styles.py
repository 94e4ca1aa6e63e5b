"""Compares the replies of two tuned models to the same held-out turns by their style: a paired test of one setting.

    python scripts/compare_styles.py runs/tiny_socratic runs/with_emphasis

Both runs must have been evaluated (`lawft eval RUN`). The unit is the conversation; see `evaluation/style_comparison.py`.
"""

import argparse
import json
from pathlib import Path

from lawft_trl.evaluation.style_comparison import ScoredReply, compare_replies

FIGURES = ("style", "only_questions", "same_reply", "repeated_within", "repeated_across", "distinct_2", "characters", "perplexity")


def read_evaluation(run: Path) -> tuple[list[ScoredReply], dict[str, float]]:
    """The tuned model's replies and their figures."""
    (folder,) = (path.parent for path in (run / "eval").glob("*/metrics.json"))
    lines = map(json.loads, (folder / "predictions.jsonl").read_text(encoding="utf-8").splitlines())
    replies = [ScoredReply(**{key: value for key, value in line.items() if key != "model"}) for line in lines if line["model"] == "tuned"]
    return replies, json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["models"]["tuned"]


def main() -> None:
    """Prints both runs' figures and the paired difference."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs=2, type=Path)
    (first, before), (second, after) = map(read_evaluation, parser.parse_args().runs)
    for name in FIGURES:
        print(f"{name:16} {before[name]:8.3f} {after[name]:8.3f}")
    found = compare_replies(first, second, seed=0)
    low, high = found["interval"]
    print(f"style, second minus first: {found['difference']:+.3f} (95 % interval {low:+.3f} to {high:+.3f}, p = {found['p_value']:.2g}), {found['verdict']}")


if __name__ == "__main__":
    main()
