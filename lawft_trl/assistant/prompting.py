"""The prompting strategies that an assessment compares: a better system message, worked examples, thinking first, and all three."""

from collections.abc import Sequence

from lawft_trl.data.legal_pairs import LegalPair
from lawft_trl.evaluation.answer_overlap import bigram_f1
from lawft_trl.statutes.passages import article_name

# The pair's own messages, as a tuned model was trained on them; each of the others changes what its name says.
STRATEGIES = ("plain", "system", "few_shot", "cot", "few_shot_cot")
WITH_EXAMPLES = ("few_shot", "few_shot_cot")
ANSWER_MARK = "【回答】"
THOUGHT_MARK = "【検討】"

SYSTEM = """\
あなたは、日本の企業法務を支援するアシスタントです。次の順に、です・ます調で簡潔に答えてください。
一、結論を先に述べます。
二、理由を、根拠となる法令の正式名と条（例：民法第415条）を示して述べます。存在を確かめられない条文は挙げません。
三、事実関係によって結論が変わる点を挙げ、弁護士に確認すべきことを述べます。
勝敗や金額などの結果は予測しません。"""
THINK_FIRST = f"""\
まず{THOUGHT_MARK}と書き、何が問題になるか、どの法令のどの条が関わるか、どの事実で結論が変わるかを検討してください。
そのあとに{ANSWER_MARK}と書き、質問者への回答だけを書いてください。"""


def build_prompt(pair: LegalPair, strategy: str, examples: Sequence[LegalPair]) -> list[dict[str, str]]:
    """The messages that ask a pair's question.

    Args:
        pair: whose question it is.
        strategy: one of `STRATEGIES`; `few_shot_cot` is the hybrid of all.
        examples: shown as earlier turns by the strategies of `WITH_EXAMPLES`.
    """
    thinks = strategy in ("cot", "few_shot_cot")
    system = SYSTEM if strategy in ("system", "few_shot_cot") else pair.system
    messages = [{"role": "system", "content": system}] if system else []
    for example in examples if strategy in WITH_EXAMPLES else ():
        messages.append({"role": "user", "content": _asked(example.question, thinks)})
        messages.append({"role": "assistant", "content": _thought(example) if thinks else example.answer})
    return [*messages, {"role": "user", "content": _asked(pair.question, thinks)}]


def choose_examples(pair: LegalPair, pool: Sequence[LegalPair], count: int) -> list[LegalPair]:
    """The examples for a pair: of its kind where there are such, the most alike first shown last, none of its own group."""
    others = [each for each in pool if each.group != pair.group and each.id != pair.id]
    ranked = sorted(others, key=lambda each: (each.kind != pair.kind, -bigram_f1(each.question, pair.question), each.id))
    return ranked[:count][::-1]


def answer_part(text: str, strategy: str) -> tuple[str, bool]:
    """What of a cleaned answer is scored, and whether it was marked as asked: after the last mark, where thinking came first."""
    if strategy not in ("cot", "few_shot_cot"):
        return text, True
    _, mark, after = text.rpartition(ANSWER_MARK)
    return (after.strip(), True) if mark else (text, False)


def _asked(question: str, thinks: bool) -> str:
    return f"{question}\n\n{THINK_FIRST}" if thinks else question


def _thought(example: LegalPair) -> str:
    """An example's answer with the thinking that its rubric says."""
    points = "。".join(point.point.rstrip("。") for point in example.required_points)
    cited = "、".join(f"{cited.law}{article_name(cited.article)}" for cited in example.citations)
    return f"{THOUGHT_MARK}\n要点：{points}。\n関わる条文：{cited}。\n{ANSWER_MARK}\n{example.answer}"
