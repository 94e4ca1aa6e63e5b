"""Generated answers of models behind an OpenAI-compatible endpoint: vLLM, `transformers serve`, OpenAI and others.

The server renders the prompt and decides what else a model's `generation_config` sets, a repetition penalty for instance
(vLLM: `--generation-config vllm` switches that off; `transformers serve` takes it from the model's folder).
"""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tqdm.auto import tqdm

from lawft_trl.errors import InputError
from lawft_trl.evaluation.asking import Asked
from lawft_trl.evaluation.generation import Generation, read_outputs
from lawft_trl.evaluation.metrics import Prediction
from lawft_trl.reasons.cache import Request, Response, ResponseCache, open_cache
from lawft_trl.reasons.endpoint import Endpoint
from lawft_trl.run_dir import now

_STRICT_HOSTS = ("api.openai.com", "openai.azure.com")  # refuse what the OpenAI API does not know; their models have no chat template
_SOUND_ENDS = ("stop", "length")
_QUIET_SECONDS = 3


@dataclass(frozen=True, kw_only=True)
class Service:
    """An endpoint, and what is sent to it beside the questions.

    Attributes:
        endpoint: where to send.
        body: more parameters of every request; `None` leaves out one that would be sent.
    """

    endpoint: Endpoint
    body: Mapping[str, Any] = field(default_factory=dict)

    def parameters(self, generation: Generation, template_kwargs: Mapping[str, Any], stop: str | None) -> dict[str, Any]:
        """The parameters of a request for the first sample.

        Args:
            generation: length and sampling.
            template_kwargs: arguments of the chat template, which the server applies.
            stop: the template's end of turn, for models whose own end token is another one.
        """
        sampled = generation.samples > 1
        parameters: dict[str, Any] = {"temperature": generation.temperature if sampled else 0, "seed": generation.seed}
        if sampled:
            parameters["top_p"] = 1
        host = urlsplit(self.endpoint.url).hostname or ""
        if any(host == strict or host.endswith(f".{strict}") for strict in _STRICT_HOSTS):
            parameters["max_completion_tokens"] = generation.max_new_tokens
        else:
            parameters["max_tokens"] = generation.max_new_tokens
            parameters |= {"chat_template_kwargs": dict(template_kwargs)} if template_kwargs else {}
            parameters |= {"stop": [stop]} if stop else {}
        return {name: value for name, value in {**parameters, **self.body}.items() if value is not None}


def ask_served(
    endpoint: Endpoint,
    names: Mapping[str, str],
    asked: Sequence[Asked],
    *,
    samples: int,
    parameters: Mapping[str, Any],
    cache: Path,
    opened: str = "",
) -> tuple[dict[str, list[Prediction]], dict[str, Any]]:
    """Asks every model everything.

    Args:
        endpoint: where to send.
        names: model -> the name the endpoint knows it by.
        asked: prompts; the messages are sent. Where they have tokens, the endpoint's count is held against them.
        samples: answers per prompt; each has the seed after that of the one before.
        parameters: of a request for the first sample, see `Service.parameters`.
        cache: folder in which answers are kept as they come, for the next try.
        opened: what the chat template writes of the answer before the model does, see `generation.opened_thought`.

    Returns:
        Model -> its predictions in the order of `asked`, and what is to be said of the asking: `started`,
        `seconds`, `warnings` and `served`.

    Raises:
        InputError: when a request failed for good: an answer that is missing is not a wrong one.
    """
    started, started_at = time.monotonic(), now()
    responses: dict[str, list[list[Response]]] = {}
    requested = sent = 0
    try:
        with open_cache(cache) as kept:
            for side, name in names.items():
                requests = [[_request(item, name, parameters, sample) for sample in range(samples)] for item in asked]
                wanted = {request.key: request for of_item in requests for request in of_item}
                requested += len(wanted)
                sent += _send(endpoint, wanted, kept, progress=side)
                responses[side] = [[kept.get(request.key) for request in of_item] for of_item in requests]
    except InputError as error:
        raise InputError(error.heading, [*error.problems, *_kept(cache)]) from error
    predictions = {
        side: [_read(item, texts, opened) for item, texts in zip(asked, answers, strict=True)] for side, answers in responses.items()
    }
    received = {side: [one for texts in answers for one in texts] for side, answers in responses.items()}
    answered_as = {side: sorted({one.teacher for one in answers}) for side, answers in received.items()}
    ends = Counter(one.finish_reason for answers in received.values() for one in answers)
    served = {
        "endpoint": endpoint.address,
        "models": dict(names),
        "answered_as": answered_as,
        "parameters": dict(parameters),
        "finish_reasons": dict(ends),
        "answers_from_an_earlier_try": requested - sent,
    }
    warnings = _odd_names(answered_as) + _odd_ends(ends) + _other_prompts(asked, responses)
    return predictions, {"started": started_at, "seconds": round(time.monotonic() - started, 1), "warnings": warnings, "served": served}


def _kept(cache: Path) -> list[str]:
    file = cache / "responses.jsonl"
    lines = file.read_bytes().count(b"\n") if file.is_file() else 0
    return [f"the {lines} answers so far are kept in {cache}: the same command asks only for the rest"] if lines else []


def _request(item: Asked, model: str, parameters: Mapping[str, Any], sample: int) -> Request:
    if "seed" in parameters:
        parameters = {**parameters, "seed": parameters["seed"] + sample}
    return Request(question=f"{item.row.id} ({item.order})", model=model, messages=item.messages, parameters=parameters, sample=sample)


def _send(endpoint: Endpoint, wanted: Mapping[str, Request], kept: ResponseCache, *, progress: str) -> int:
    """Sends what was not answered before and returns how many that were.

    Raises:
        InputError: when a request failed for good: without its answer there is no evaluation.
    """
    missing = [request for key, request in wanted.items() if kept.get(key) is None]
    with tqdm(total=len(missing), desc=progress, unit="answer", delay=_QUIET_SECONDS) as bar:

        def keep(request: Request, response: Response) -> bool:
            kept.add(request, response)
            bar.update()
            return True

        failed = endpoint.send(missing, keep)
    if failed:
        raise InputError(
            f"{endpoint.address}: {len(failed)} of {len(wanted)} requests failed; no evaluation was written, and none of them counts as a wrong answer",
            [f"{wanted[key].question}: {error}" for key, error in failed.items()],
        )
    return len(missing)


def _read(item: Asked, responses: Sequence[Response], opened: str) -> Prediction:
    """A thought that the chat template opens is not in the text a server sends, unless it gives the thought back itself."""
    texts = [one.text if "think>" in one.text and "<think>" in one.text else opened + one.text for one in responses]
    return read_outputs(item, texts, [one.finish_reason == "length" for one in responses])


def _odd_names(answered_as: Mapping[str, Sequence[str]]) -> list[str]:
    if len(answered_as) == 2 and answered_as["base"] == answered_as["tuned"]:
        same = ", ".join(answered_as["base"])
        return [f"The endpoint calls base and tuned by one name, {same}: it may have asked one model twice."]
    return []


def _odd_ends(ends: Mapping[str, int]) -> list[str]:
    odd = ", ".join(f"{count} × {reason}" for reason, count in ends.items() if reason not in _SOUND_ENDS)
    return [f"Answers that ended neither by themselves nor at the greatest length: {odd}."] if odd else []


def _other_prompts(asked: Sequence[Asked], responses: Mapping[str, Sequence[Sequence[Response]]]) -> list[str]:
    """A prompt of another length than the run's tokenizer and chat template make is another prompt."""
    counts = [
        (len(item.input_ids), of_item[0].prompt_tokens)
        for answers in responses.values()
        for item, of_item in zip(asked, answers, strict=True)
        if item.input_ids and of_item[0].prompt_tokens is not None
    ]
    other = [(mine, theirs) for mine, theirs in counts if mine != theirs]
    if not other:
        return []
    return [
        f"{len(other)} of {len(counts)} prompts have another length on the endpoint (the first: {other[0][1]} tokens instead of {other[0][0]}): "
        "its chat template or tokenizer is not the run's."
    ]
