"""How a question is put to a model: the one renderer that training, evaluation and serving share."""

from collections.abc import Sequence
from typing import Literal

from lawft_trl.data.questions import LETTERS, Question

Answer = Literal["direct", "cot"]

# Nothing in these sentences names a particular letter (an example answer primes it) and nothing speaks of statutes
# unless statutes are shown. "Most fitting", not "correct": many questions ask for the statement that is wrong.
_TASK = "次の法律問題を読み、問いに対する答えとして最も適切な選択肢を一つ選んでください。"
_TASK_WITH_STATUTES = "次の条文と法律問題を読み、条文に照らして、問いに対する答えとして最も適切な選択肢を一つ選んでください。"
_FORM: dict[Answer, str] = {
    "direct": "選択肢の記号一文字だけを答えてください。",
    "cot": "まず理由を述べ、最後の行に「答え:」に続けて選択肢の記号一文字を書いてください。",
}


def build_messages(
    question: Question, *, answer: Answer, statutes: Sequence[str] = (), system: str | None = None
) -> list[dict[str, str]]:
    """Renders a question as chat messages, without its answer.

    Args:
        question: what is asked. Its own `statutes` are not read: what is shown is decided by the caller.
        answer: `"direct"` asks for the letter alone, `"cot"` for reasons and then the letter on a last line.
        statutes: the passages to show, best first; none gives a prompt that does not mention statutes.
        system: text of a system message; `None` sends none.

    Returns:
        `[{"role": "system", ...}, {"role": "user", ...}]`, the first only when `system` is given.
    """
    parts = [_TASK_WITH_STATUTES if statutes else _TASK]
    if statutes:
        parts.append("【条文】\n" + "\n\n".join(statutes))
    # The letter stands before its choice and nothing before the letter, so that it is the same token as in the answer.
    choices = "\n".join(f"{letter} {question.choices[letter]}" for letter in LETTERS)
    parts += [f"【問題】\n{question.question}", f"【選択肢】\n{choices}", f"【答え方】\n{_FORM[answer]}"]
    user = {"role": "user", "content": "\n\n".join(parts)}
    return [user] if system is None else [{"role": "system", "content": system}, user]


# What a reasoned answer says first when the statutes shown do not hold, or do not all hold, what decides: the model learns
# to say so instead of reading something into them.
UNSUPPORTED = "示された条文の中に、この問いを直接定める条文は見当たらない。次の理由は、示されていない条文による。"
PARTLY_SUPPORTED = "示された条文だけでは、すべての選択肢を判断することはできない。次の理由には、示されていない条文によるものがある。"


def answer_text(question: Question, *, answer: Answer, caveat: str = "") -> str:
    """The answer that `build_messages` asks for: the letter, or a line of reasons for every choice and then the letter.

    Args:
        question: without `reasons`, a reasoned answer is its last line alone.
        answer: the form, as in `build_messages`.
        caveat: what the reasons begin with, `UNSUPPORTED`, `PARTLY_SUPPORTED` or nothing.
    """
    if answer == "direct":
        return question.answer
    lines = [f"{letter} {question.reasons[letter]}" for letter in LETTERS if question.reasons]
    return "\n".join([*([caveat] if caveat and lines else []), *lines, f"答え: {question.answer}"])
