"""Asks a teacher model for reasons and keeps those that lead to the gold letter and pass every check."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from tqdm.auto import tqdm

from lawft_trl.data.prompts import build_messages
from lawft_trl.data.questions import Question
from lawft_trl.errors import InputError
from lawft_trl.prices import Prices
from lawft_trl.reasons.cache import Request, Response, ResponseCache
from lawft_trl.reasons.verify import AcceptedReasons, parse_reasons, reasons_problems

_FORM = """【理由の書き方】
・次の五行だけを書く。見出し、前置き、まとめ、箇条書きや太字の記号は付けない。
a （この選択肢についての理由）
b （この選択肢についての理由）
c （この選択肢についての理由）
d （この選択肢についての理由）
答え: （記号一文字）
・理由は選択肢ごとに一行とし、四つすべてについて、それぞれの内容に即して書く。同じ文を使い回さない。"""
_QUOTING = """・判断の決め手となる条文の言葉を「」で囲み、示された条文から一字一句そのまま引用する。省略も言い換えもしない。
・選択肢の言葉を引くときは『』で囲み、その選択肢からそのまま引用する。
・「」と『』は引用だけに使い、ほかの引用符は使わない。
・その選択肢が条文のどの言葉と一致し、又はどこで食い違うかを述べる。
・条文番号を挙げるときは、示された条文か問題文にあるものに限る。"""
_WITHOUT_STATUTES = "・条文は示されていないので、「」や『』で引用せず、条文番号も挙げない。"
_NO_LETTERS = "・理由の文中では、選択肢を記号、番号、順序（「前の選択肢」など）で指さない。選択肢の順序は入れ替わることがある。"


class Teacher(Protocol):
    """What answers requests: `endpoint.Endpoint` or `in_process.InProcess`."""

    def send(self, requests: Iterable[Request], keep: Callable[[Request, Response], bool]) -> dict[str, str]:
        """Asks, hands every response to `keep` until that says `False`, and returns key -> error of what failed."""


@dataclass(frozen=True, kw_only=True)
class Asking:
    """How a teacher is asked.

    Attributes:
        model: the teacher's name.
        parameters: sampling parameters as they are sent; a `seed` is the first sample's and grows by one a sample.
        samples: at most so many per question; the next is asked for only when those before it were rejected.
        price: of the model; `None` counts tokens alone.
        max_tokens: nothing is sent after so many tokens of prompts and answers in this run.
        max_cost: the same for what they cost; needs `price`.
    """

    model: str
    parameters: Mapping[str, Any]
    samples: int = 4
    price: Prices | None = None
    max_tokens: int | None = None
    max_cost: float | None = None


@dataclass(kw_only=True)
class Outcome:
    """What came of asking.

    Attributes:
        kept: the questions with their reasons, in the order they were given.
        sample_of: id of a kept question -> the sample its reasons are from.
        rejected: kind of problem -> number of samples that had it; a sample may have several.
        samples: number of samples that were judged.
        exhausted: ids of the questions whose samples were all rejected.
        failed: id -> error of the questions that got no answer.
        unfinished: ids of the questions with samples still to ask for when the run reached its limit.
        prompt_tokens: sent in this run.
        completion_tokens: received in this run.
        cached: number of the judged samples that were not sent, because they had been answered before.
        stopped: which limit ended the run, `""` if none.
    """

    kept: list[Question] = field(default_factory=list)
    sample_of: dict[str, int] = field(default_factory=dict)
    rejected: Counter = field(default_factory=Counter)
    samples: int = 0
    exhausted: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    unfinished: list[str] = field(default_factory=list)
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached: int = 0
    stopped: str = ""


def teacher_messages(question: Question) -> list[dict[str, str]]:
    """The prompt: the question as every model here is asked it, then the form of the reasons. It does not give the answer away."""
    [message] = build_messages(question, answer="cot", statutes=question.statutes)
    form = "\n".join([_FORM, _QUOTING if question.statutes else _WITHOUT_STATUTES, _NO_LETTERS])
    return [{"role": "user", "content": f"{message['content']}\n\n{form}"}]


def judge(question: Question, response: Response) -> tuple[dict[str, str], list[str]]:
    """The reasons of a response, and what keeps them from being used (`"kind: …"`; see `verify.reasons_problems`)."""
    if response.finish_reason == "length":
        return {}, ["cut: the answer reached its greatest length"]
    reasons, letter = parse_reasons(response.text)
    if not reasons or letter is None:
        return {}, [f"form: not four lines of reasons and a last line 答え: {response.text[-60:]!r}"]
    if letter != question.answer:
        return reasons, ["wrong answer: the letter is not the gold letter"]
    return reasons, reasons_problems(question, reasons, question.statutes)


def ask_teacher(questions: Sequence[Question], teacher: Teacher, cache: ResponseCache, asking: Asking) -> Outcome:
    """Collects verified reasons for questions, sample after sample.

    Every question is asked once; those whose sample was rejected are asked again, up to `asking.samples` times. Among
    the samples of a question the first that passes is taken, and the questions are judged in the order given, so that
    equal responses give equal results however they arrived.

    Args:
        questions: without their reasons; whether they may be asked is decided before.
        teacher: who answers.
        cache: responses of this and earlier runs; what it holds is not sent again.
        asking: model, parameters and limits.

    Raises:
        InputError: when the teacher cannot be reached or does not count the tokens a limit needs.
    """
    outcome, pending, accepted = Outcome(), list(questions), AcceptedReasons()
    for sample in range(asking.samples):
        requests = {question.id: _request(question, asking, sample) for question in pending}
        missing = {request.key: request for request in requests.values() if cache.get(request.key) is None}
        failed = _send(teacher, missing, {question.id: question for question in pending}, cache, asking, outcome, sample)
        rejected = []
        for question in pending:
            request = requests[question.id]
            response = cache.get(request.key)
            if response is None:
                if request.key in failed:
                    outcome.failed[question.id] = failed[request.key]
                else:
                    outcome.unfinished.append(question.id)
                continue
            outcome.samples += 1
            outcome.cached += request.key not in missing
            reasons, problems = judge(question, response)
            twin = None if problems else accepted.near_identical(reasons)
            if twin is not None:
                problems = [f"near-identical: but for letters and numbers the reasons are those of {twin}"]
            if problems:
                outcome.rejected.update({problem.split(":")[0] for problem in problems})
                rejected.append(question)
                continue
            accepted.add(question.id, reasons)
            outcome.kept.append(replace(question, reasons=reasons))
            outcome.sample_of[question.id] = sample
        pending = rejected
        if outcome.stopped and sample + 1 < asking.samples:
            outcome.unfinished += [question.id for question in pending]
            pending = []
        if not pending:
            break
    outcome.exhausted = [question.id for question in pending]
    place = {question.id: index for index, question in enumerate(questions)}
    outcome.kept.sort(key=lambda question: place[question.id])
    return outcome


def _request(question: Question, asking: Asking, sample: int) -> Request:
    parameters = dict(asking.parameters)
    if "seed" in parameters:
        parameters["seed"] += sample
    return Request(
        question=question.id, model=asking.model, messages=teacher_messages(question), parameters=parameters, sample=sample
    )


def _send(
    teacher: Teacher,
    missing: Mapping[str, Request],
    questions: Mapping[str, Question],
    cache: ResponseCache,
    asking: Asking,
    outcome: Outcome,
    sample: int,
) -> dict[str, str]:
    """Sends what is missing, counts its tokens into `outcome`, and shows how it goes."""
    if not missing or outcome.stopped:
        return {}
    passed = 0
    with tqdm(total=len(missing), desc=f"sample {sample + 1} of {asking.samples}", unit="question", delay=3) as bar:

        def keep(request: Request, response: Response) -> bool:
            nonlocal passed
            cache.add(request, response)
            outcome.prompt_tokens += response.prompt_tokens or 0
            outcome.completion_tokens += response.completion_tokens or 0
            limited = asking.max_tokens is not None or asking.max_cost is not None
            if limited and None in (response.prompt_tokens, response.completion_tokens):
                raise InputError(f"{asking.model}: the endpoint reports no token usage, so --max-tokens and --max-cost cannot be kept")
            passed += not judge(questions[request.question], response)[1]
            outcome.stopped = outcome.stopped or _limit_reached(outcome, asking)
            bar.set_postfix_str(f"kept {len(outcome.kept) + passed}, {_spent(outcome, asking.price)}", refresh=False)
            bar.update()
            return not outcome.stopped

        return teacher.send(missing.values(), keep)


def _limit_reached(outcome: Outcome, asking: Asking) -> str:
    """Which limit a run has reached, `""` if none."""
    tokens = outcome.prompt_tokens + outcome.completion_tokens
    if asking.max_tokens is not None and tokens >= asking.max_tokens:
        return f"--max-tokens {asking.max_tokens}"
    if asking.max_cost is not None and asking.price.of(input=outcome.prompt_tokens, output=outcome.completion_tokens) >= asking.max_cost:
        return f"--max-cost {asking.max_cost}"
    return ""


def _spent(outcome: Outcome, price: Prices | None) -> str:
    """Tokens and, where prices are known, money of this run."""
    text = f"{outcome.prompt_tokens:,} + {outcome.completion_tokens:,} tokens"
    if price is None:
        return text
    return text + f", {price.of(input=outcome.prompt_tokens, output=outcome.completion_tokens):.4f} {price.currency}"
