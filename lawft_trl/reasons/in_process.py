"""A teacher that runs here: a model of transformers, for instance the base model itself."""

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from lawft_trl.data.chat import encode, end_of_turn, load_tokenizer, prompt_text
from lawft_trl.errors import InputError
from lawft_trl.reasons.cache import Request, Response

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_THINKING_OFF = {"enable_thinking": False}  # templates that know no such thing pass over it


class InProcess:
    """A loaded model that answers requests batch by batch.

    Args:
        name_or_path: a model id of the Hugging Face hub or a folder.
        batch_size: prompts that are answered together.
    """

    def __init__(self, name_or_path: str, *, batch_size: int):
        import torch
        from transformers import AutoModelForCausalLM

        self._name, self._batch_size = name_or_path, batch_size
        self._tokenizer: PreTrainedTokenizerBase = load_tokenizer(name_or_path)
        self._end = self._tokenizer.convert_tokens_to_ids(end_of_turn(self._tokenizer, _THINKING_OFF))
        device = "cuda:0" if torch.cuda.is_available() else "cpu"
        try:
            model = AutoModelForCausalLM.from_pretrained(name_or_path, dtype="auto", device_map={"": device})
        except (OSError, ValueError) as error:
            raise InputError(f"{name_or_path}: no model could be loaded: {str(error).strip().splitlines()[0]}") from error
        self._model: PreTrainedModel = model.eval()

    def send(self, requests: Iterable[Request], keep: Callable[[Request, Response], bool]) -> dict[str, str]:
        """Answers requests as `Endpoint.send` does.

        Every batch is sampled with the seed of its first request, so that the same requests in the same batches give
        the same answers.
        """
        requests, failed, room = list(requests), {}, getattr(self._model.config, "max_position_embeddings", None)
        fitting = []
        for request in requests:
            ids = encode(self._tokenizer, prompt_text(self._tokenizer, request.messages, _THINKING_OFF))
            if room is not None and len(ids) + request.parameters["max_tokens"] > room:
                failed[request.key] = f"{len(ids)} tokens of prompt and {request.parameters['max_tokens']} of answer exceed the model's {room}"
            else:
                fitting.append((request, ids))
        fitting.sort(key=lambda item: -len(item[1]))  # stable: batches hold little padding
        for start in range(0, len(fitting), self._batch_size):
            batch = fitting[start : start + self._batch_size]
            answers = self._generate([ids for _, ids in batch], batch[0][0].parameters)
            go_on = [keep(request, response) for (request, _), response in zip(batch, answers, strict=True)]
            if not all(go_on):
                break
        return failed

    def _generate(self, prompts: list[list[int]], parameters: Mapping[str, Any]) -> list[Response]:
        import torch

        width = max(map(len, prompts))
        ids = torch.tensor([[self._end] * (width - len(prompt)) + prompt for prompt in prompts], device=self._model.device)
        mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=self._model.device)
        temperature = parameters["temperature"]
        sampling = {"do_sample": True, "temperature": temperature} if temperature > 0 else {"do_sample": False}
        torch.manual_seed(parameters["seed"])
        with torch.inference_mode():
            output = self._model.generate(
                input_ids=ids,
                attention_mask=mask,
                max_new_tokens=parameters["max_tokens"],
                eos_token_id=self._end,
                pad_token_id=self._end,
                **sampling,
            )
        responses = []
        for prompt, tokens in zip(prompts, output[:, width:].tolist(), strict=True):
            length = tokens.index(self._end) if self._end in tokens else len(tokens)
            responses.append(
                Response(
                    text=self._tokenizer.decode(tokens[:length], skip_special_tokens=True),
                    finish_reason="stop" if length < len(tokens) else "length",
                    prompt_tokens=len(prompt),
                    completion_tokens=min(length + 1, len(tokens)),
                    teacher=self._name,
                )
            )
        return responses
