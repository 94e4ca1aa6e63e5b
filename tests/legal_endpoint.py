"""A chat endpoint whose models answer legal questions in a planted way, over real HTTP."""

import json
from collections.abc import Callable

from werkzeug import Response

from lawft_trl.assistant.client import LegalClient
from lawft_trl.assistant.models import entry_from_url

BAD = "よく分からないので、何とも言えない。"


class Endpoint:
    """Answers as `answer(model, messages)` says; keeps what was asked. Text, or a whole `Response`."""

    def __init__(self, httpserver, answer: Callable):
        self.url, self.asked, self.answer = httpserver.url_for("/v1"), [], answer
        httpserver.expect_request("/v1/chat/completions").respond_with_handler(self._respond)

    def _respond(self, request) -> Response:
        body = json.loads(request.get_data())
        self.asked.append(body)
        said = self.answer(body["model"], body["messages"])
        if isinstance(said, Response):
            return said
        text, finish = said if isinstance(said, tuple) else (said, "stop")
        choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text}}
        usage = {"prompt_tokens": 5, "completion_tokens": 5, "total_tokens": 10}
        answer = {"id": "x", "object": "chat.completion", "created": 1, "model": body["model"], "choices": [choice], "usage": usage}
        return Response(json.dumps(answer), content_type="application/json")

    def client(self, model: str, base: str | None = None, **options) -> LegalClient:
        return LegalClient(entry_from_url(self.url, model, base_model=base), retries=0, **options)

    def clients(self) -> dict:
        return {side: (self.client(side), side) for side in ("base", "tuned")}


def knows(pairs) -> Callable[[list], str]:
    """The gold answer to the question that messages end with."""
    golds = {pair.question: pair.answer for pair in pairs}
    return lambda messages: next(answer for question, answer in golds.items() if messages[-1]["content"].startswith(question))
