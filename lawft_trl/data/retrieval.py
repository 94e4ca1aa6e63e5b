"""Questions as queries, and whether the search finds the articles that decide them."""

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from lawft_trl.data.questions import Question
from lawft_trl.errors import InputError
from lawft_trl.folders import whole_folder, write_json, write_text
from lawft_trl.statutes.headed_text import article_keys
from lawft_trl.statutes.search import Hit, Index

QUERIES = ("question+choices", "question")
_MISS_AT = 3  # a question without a deciding article among the first three is a miss; prompts show three

# A question whose own words say nothing of its subject: 「次のうち、正しいものを教えてください。」
_BOILERPLATE = re.compile(
    r"(?:次の?(?:選択肢)?の?|以下の?(?:選択肢)?の?)うち、?(?:最も)?(?:正しい|誤っている|誤った|適切な|不適切な)(?:もの|選択肢)"
    r"(?:を(?:教えて|選んで)(?:ください|下さい)|はどれですか|はどれか)。?"
)


def question_query(question: Question, query: str = "question+choices") -> str:
    """What is searched for a question: its text and its choices, never its answer, statutes or reasons.

    The choices are sorted, so that the order they are shown in changes nothing.

    Args:
        question: any question.
        query: one of `QUERIES`; `"question"` leaves the choices out, for comparison.
    """
    choices = sorted(question.choices.values()) if query == "question+choices" else []
    return "\n".join([question.question, *choices])


def is_boilerplate(question: Question) -> bool:
    """Whether the question is nothing but 「次のうち、正しいものを教えてください。」, so that only its choices can be searched."""
    return bool(_BOILERPLATE.fullmatch("".join(question.question.split())))


def gold_articles(question: Question) -> tuple[str, ...]:
    """Keys of the articles that decide a question: its `provisions`, or what its statutes show where it has none."""
    shown = (key for statute in question.statutes for key in article_keys(statute))
    return question.provisions or tuple(dict.fromkeys(shown))


def evaluate_retrieval(
    index: Index,
    questions: Sequence[Question],
    ks: Sequence[int] = (1, 3, 5, 10),
    *,
    query: str = "question+choices",
    hops: int = 0,
) -> dict[str, Any]:
    """How often, and how completely, the deciding articles are found.

    Args:
        index: an opened index.
        questions: those without a deciding article are left out and counted.
        ks: numbers of articles that a prompt might show.
        query: one of `QUERIES`. With the choices, the queries of the question alone are measured too.
        hops: as in `Index.search`; what the hops add counts at each k, and `shown@k` says how many articles that were.

    Returns:
        `{"corpus", "engine", "hops", "questions", "without_gold", "groups", "misses"}`. Each group, all questions and
        the boilerplate ones by each query, has `questions` and for every k `hit@k` (any deciding article found) and
        `full@k` (all of them) with 95 % Wilson intervals, `recall@k` (mean share of them), `shown@k` (mean number of
        articles), and `mrr` (mean of 1 / rank of the first, 0 where none is found). A miss lists a question, its
        deciding articles and what was found, for the first query.

    Raises:
        InputError: when no question says which articles decide it.
    """
    judged = [question for question in questions if gold_articles(question)]
    if not judged:
        raise InputError(
            "retrieval: no question says which articles decide it", ["give them `provisions` (article keys) or `statutes` (docs/data.md)"]
        )
    groups, misses = [], []
    for each in QUERIES[QUERIES.index(query) :]:
        found = {
            question.id: _search(index, question_query(question, each), ks, hops)
            for question in tqdm(judged, desc=f"searching by {each}", unit="question", delay=3)
        }
        if each == query:
            misses = [miss for question in judged if (miss := _miss(question, found[question.id]))]
        for name, members in (("all", judged), ("boilerplate", [question for question in judged if is_boilerplate(question)])):
            if members:
                groups.append({"query": each, "group": name, **_measure(members, found, ks)})
    return {
        "corpus_sha256": index.record["corpus_sha256"],
        "index": {key: index.record[key] for key in ("engine", "library", "tokenizer", "k1", "b", "articles", "passages")},
        "hops": hops,
        "questions": len(judged),
        "without_gold": len(questions) - len(judged),
        "groups": groups,
        "misses": misses,
    }


def _search(index: Index, query: str, ks: Sequence[int], hops: int) -> dict[int, list[Hit]]:
    """The hits at every k. Without hops those at a smaller k are the first of those at the largest."""
    if hops:
        return {k: index.search(query, k, hops=hops) for k in ks}
    hits = index.search(query, max(ks))
    return {k: hits[:k] for k in ks}


def _measure(members: Sequence[Question], found: dict[str, dict[int, list[Hit]]], ks: Sequence[int]) -> dict[str, Any]:
    measures: dict[str, Any] = {"questions": len(members)}
    gold = {question.id: set(gold_articles(question)) for question in members}
    for k in ks:
        shares = [
            len(gold[question.id].intersection(hit.article_key for hit in found[question.id][k])) / len(gold[question.id])
            for question in members
        ]
        measures[f"hit@{k}"] = _share(sum(share > 0 for share in shares), len(shares))
        measures[f"full@{k}"] = _share(sum(share == 1 for share in shares), len(shares))
        measures[f"recall@{k}"] = sum(shares) / len(shares)
        measures[f"shown@{k}"] = sum(len(found[question.id][k]) for question in members) / len(members)
    ranks = [
        next((hit.rank for hit in found[question.id][max(ks)] if hit.article_key in gold[question.id]), None) for question in members
    ]
    measures["mrr"] = sum(1 / rank for rank in ranks if rank) / len(members)
    return measures


def _share(count: int, total: int) -> dict[str, Any]:
    """A share with its 95 % Wilson score interval (Wilson 1927)."""
    from scipy.stats import binomtest

    interval = binomtest(count, total).proportion_ci(method="wilson")
    return {"share": count / total, "interval": [float(interval.low), float(interval.high)]}


def _miss(question: Question, found: dict[int, list[Hit]]) -> dict[str, Any] | None:
    """What to read of a question whose articles were not all found; `None` when they were."""
    hits = found[max(found)]
    gold = gold_articles(question)
    lacking = [key for key in gold if key not in {hit.article_key for hit in hits}]
    first = min((hit.rank for hit in hits if hit.article_key in gold), default=None)
    missed = first is None or first > _MISS_AT
    if not lacking and not missed:
        return None
    return {
        "id": question.id,
        "kind": f"none of the deciding articles in the first {_MISS_AT}" if missed else f"not all of them in the first {len(hits)}",
        "question": question.question,
        "choices": question.choices,
        "gold": list(gold),
        "not_found": lacking,
        "found": [
            {"rank": hit.rank, "article": hit.article_key, "gold": hit.article_key in gold, "via": hit.via, "score": round(hit.score, 3)}
            for hit in hits
        ],
    }


def write_retrieval(result: dict[str, Any], out: Path, *, force: bool = False) -> None:
    """Writes `retrieval.json` (the figures), `misses.jsonl` and `misses.md` (the same, for reading)."""
    with whole_folder(out, force=force, mark="retrieval.json", rename="--out") as folder:
        write_json(folder / "retrieval.json", {key: value for key, value in result.items() if key != "misses"})
        lines = [json.dumps(miss, ensure_ascii=False) + "\n" for miss in result["misses"]]
        write_text(folder / "misses.jsonl", "".join(lines))
        write_text(folder / "misses.md", "\n".join(_readable(result["misses"])) + "\n")


def _readable(misses: Iterable[dict[str, Any]]) -> list[str]:
    lines = ["# Questions whose articles were not found", ""]
    for miss in misses:
        lines += [f"## {miss['id']}", "", f"{miss['kind']}; ** marks the deciding articles.", "", miss["question"], ""]
        lines += [f"- {letter} {text}" for letter, text in miss["choices"].items()]
        lines += ["", *(f"- not found: **{key}**" for key in miss["not_found"])]
        for hit in miss["found"]:
            article = f"**{hit['article']}**" if hit["gold"] else hit["article"]
            lines.append(f"{hit['rank']}. {article} ({hit['via']}, {hit['score']})")
        lines.append("")
    return lines


def retrieval_table(result: dict[str, Any], ks: Sequence[int] = (1, 3, 5, 10)) -> str:
    """The figures as Markdown tables, in percent; brackets hold 95 % Wilson intervals."""
    lines = ["| query | questions | hit@k: " + " | ".join(map(str, ks)) + " | MRR |", "|---|---" + "|---" * (len(ks) + 1) + "|"]
    for group in result["groups"]:
        shares = [_percent(group[f"hit@{k}"]) for k in ks]
        lines.append(f"| {group['query']} | {group['group']} {group['questions']} | {' | '.join(shares)} | {group['mrr']:.3f} |")
    lines += ["", "| query | questions | " + " | ".join(f"recall / full@{k}" for k in ks) + " | articles shown |", "|---|---" + "|---" * (len(ks) + 1) + "|"]
    for group in result["groups"]:
        both = [f"{100 * group[f'recall@{k}']:.1f} / {100 * group[f'full@{k}']['share']:.1f}" for k in ks]
        shown = ", ".join(f"{group[f'shown@{k}']:.1f}" for k in ks)
        lines.append(f"| {group['query']} | {group['group']} {group['questions']} | {' | '.join(both)} | {shown} |")
    return "\n".join(lines)


def _percent(share: dict[str, Any]) -> str:
    low, high = (100 * bound for bound in share["interval"])
    return f"{100 * share['share']:.1f} [{low:.1f}, {high:.1f}]"
