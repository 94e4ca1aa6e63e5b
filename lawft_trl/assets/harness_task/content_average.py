"""lm-evaluation-harness: questions of four choices, each asked in four orders of its choices.

`lawft harness` writes a copy of this file beside the tasks that name its functions; it needs nothing of lawft-trl.
Licence: Apache-2.0.
"""

import json
import math
from collections import defaultdict
from pathlib import Path

LETTERS = "abcd"


def load(docs, **_):
    """The task's split `test`: the JSONL file `docs` beside this one, so that the folder can be moved.

    The harness also passes its metadata; it is not needed.
    """
    from datasets import Dataset

    with Path(__file__).with_name(docs).open(encoding="utf-8") as lines:
        return {"test": Dataset.from_list([json.loads(line) for line in lines])}


def score(doc, results):
    """One prompt: whether its most probable letter is the gold one, and what `content_acc` is made of.

    Args:
        doc: `order` says which choice stands at which letter; `gold` is the gold letter in this order.
        results: `(log-probability, whether it is the greedy continuation)` of the letters a, b, c, d.
    """
    logprobs = [logprob for logprob, _ in results]
    chosen = LETTERS[logprobs.index(max(logprobs))]
    return {
        "acc": float(chosen == doc["gold"]),
        "content_acc": {
            "id": doc["id"],
            "gold": doc["order"][LETTERS.index(doc["gold"])],
            "logprobs": dict(zip(doc["order"], logprobs, strict=True)),
        },
    }


def mean(items):
    """The share of prompts answered right.

    Not the harness's own mean, which comes with a standard error that takes the four orders of a question for four
    independent questions.
    """
    return sum(items) / len(items)


def content_accuracy(items):
    """The share of questions whose gold choice has the highest log-probability, summed over the orders.

    Every choice stands once at every letter, so what the model adds to a letter everywhere cancels. A draw is not
    right. A question that was not asked in all four orders (`--limit`) does not count; none left gives NaN.
    """
    questions = defaultdict(list)
    for item in items:
        questions[item["id"]].append(item)
    right = [_is_right(orders) for orders in questions.values() if len(orders) == len(LETTERS)]
    return sum(right) / len(right) if right else math.nan


def _is_right(orders):
    sums = {choice: math.fsum(order["logprobs"][choice] for order in orders) for choice in LETTERS}
    second, first = sorted(sums.values())[-2:]
    gold = orders[0]["gold"]
    return sums[gold] == first and not math.isclose(first, second, rel_tol=1e-9, abs_tol=1e-9)
