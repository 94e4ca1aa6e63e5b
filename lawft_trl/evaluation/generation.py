"""Generated answers: the model writes, the parser reads, and of several samples the letter that most of them give counts."""

import contextlib
import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from tqdm.auto import tqdm

from lawft_trl.data.chat import encode, end_of_turn
from lawft_trl.data.prompts import Answer
from lawft_trl.data.rows import Row
from lawft_trl.evaluation.answers import parse_answer
from lawft_trl.evaluation.asking import Asked, require_room
from lawft_trl.evaluation.metrics import Prediction
from lawft_trl.recipe_sections import EvaluationSection

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_MAX_NEW_TOKENS: dict[Answer | Literal["dialogue"], int] = {"direct": 16, "cot": 1024, "dialogue": 64}
_QUIET_SECONDS = 3  # a progress bar comes only for what takes longer
_LAST_TOKENS = 8  # of a prompt, enough to see a `<think>` that the chat template opens


@dataclass(frozen=True, kw_only=True)
class Generation:
    """How answers are generated.

    Attributes:
        max_new_tokens: the greatest length of an answer.
        samples: answers per prompt. 1: greedy; more: sampled.
        temperature: of the sampling. There is no top-p or top-k.
        seed: of the sampling.
    """

    max_new_tokens: int
    samples: int = 1
    temperature: float = 0.7
    seed: int = 0

    @classmethod
    def of(cls, evaluation: EvaluationSection, answer: Answer | Literal["dialogue"]) -> "Generation":
        """What a recipe's section `evaluation` says for this form of answer."""
        return cls(
            max_new_tokens=evaluation.max_new_tokens or _MAX_NEW_TOKENS[answer],
            samples=evaluation.samples,
            temperature=evaluation.temperature,
            seed=evaluation.seed,
        )


class Prompt(Protocol):
    """What can be put to a model: `Asked`, or a turn of a dialogue."""

    row: Row
    input_ids: list[int]

    @property
    def prompt_sha256(self) -> str: ...


@dataclass(frozen=True, kw_only=True)
class Written:
    """What a model wrote.

    Attributes:
        tokens: without the end token.
        cut: whether it reached the greatest length without one.
    """

    tokens: list[int]
    cut: bool


def generate_answers(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    asked: Sequence[Asked],
    generation: Generation,
    *,
    template_kwargs: Mapping[str, Any],
    batch_size: int,
    progress: str,
) -> list[Prediction]:
    """Lets a model write its answers and reads them.

    An answer ends at any end token of the model or the tokenizer and at the chat template's end of turn. Nothing of the
    model's own `generation_config` is applied otherwise: no top-p, and no repetition penalty, which would count the
    letters in the prompt against the letters as answers.

    Every sample draws from its own random numbers, so that it depends neither on the order of the prompts nor, but for
    rounding, on the other prompts of its batch.

    Args:
        model: a causal language model, perhaps with an adapter; its `eval` mode and device are used as they are.
        tokenizer: the one that `asked` was made with.
        asked: prompts, in any order.
        generation: length and sampling.
        template_kwargs: arguments of the chat template.
        batch_size: answers that are written together.
        progress: what the progress bar says.

    Returns:
        Predictions in the order of `asked`. Their `outputs` keep special tokens, apart from the end token, as text.

    Raises:
        InputError: for prompts that leave too little of the context window for an answer.
    """
    settings = {"template_kwargs": template_kwargs, "batch_size": batch_size, "progress": progress}
    predictions = []
    for item, written in zip(asked, write(model, tokenizer, asked, generation, **settings), strict=True):
        thought = opened_thought(tokenizer, item.input_ids)
        texts = [tokenizer.decode(one.tokens, skip_special_tokens=False, clean_up_tokenization_spaces=False) for one in written]
        predictions.append(read_outputs(item, [thought + text for text in texts], [one.cut for one in written]))
    return predictions


def write(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    asked: Sequence[Prompt],
    generation: Generation,
    *,
    template_kwargs: Mapping[str, Any],
    batch_size: int,
    progress: str | None,
) -> list[list[Written]]:
    """What a model writes after each prompt, `generation.samples` times; arguments as of `generate_answers`.

    Nothing is changed for good: not the model's `generation_config`, not the tokenizer, and no random number is drawn but
    from generators of its own.

    Args:
        progress: what the progress bar says; `None`: there is none.

    Raises:
        InputError: for prompts that leave too little of the context window for an answer.
    """
    require_room(model, asked, generation.max_new_tokens)
    ends = _end_tokens(model, tokenizer, template_kwargs)
    work = [(index, sample) for index in range(len(asked)) for sample in range(generation.samples)]
    work.sort(key=lambda item: -len(asked[item[0]].input_ids))  # batches hold little padding; what needs most memory comes first
    written: dict[int, list[Written]] = defaultdict(list)
    with tqdm(total=len(work), desc=progress, unit="answer", delay=_QUIET_SECONDS, disable=progress is None) as bar, _plain_defaults(model):
        for start in range(0, len(work), batch_size):
            batch = work[start : start + batch_size]
            answers = _generate(model, [(asked[index], sample) for index, sample in batch], ends, generation)
            for (index, _), tokens in zip(batch, answers, strict=True):
                length = next((place for place, token in enumerate(tokens) if token in ends), len(tokens))
                written[index].append(Written(tokens=tokens[:length], cut=length == len(tokens)))
            bar.update(len(batch))
    return [written[index] for index in range(len(asked))]


def read_outputs(item: Asked, outputs: Sequence[str], cut: Sequence[bool]) -> Prediction:
    """The prediction that one or several outputs make of a prompt.

    Args:
        item: what was asked.
        outputs: the answers.
        cut: for each whether it reached the greatest length.
    """
    letters = [parse_answer(output, choices=item.choices) for output in outputs]
    return item.prediction(letter=majority(letters), outputs=tuple(outputs), cut=sum(cut), unread=letters.count(None))


def majority(letters: Sequence[str | None]) -> str | None:
    """The letter that most answers give; answers without a letter have no vote, and a tie is no answer."""
    ranked = Counter(letter for letter in letters if letter is not None).most_common(2)
    if not ranked or (len(ranked) == 2 and ranked[0][1] == ranked[1][1]):
        return None
    return ranked[0][0]


def _end_tokens(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", template_kwargs: Mapping[str, Any]) -> list[int]:
    """Every token at which an answer ends."""
    of_model = model.generation_config.eos_token_id
    found = set(of_model if isinstance(of_model, list) else [of_model])
    found |= {tokenizer.eos_token_id, *encode(tokenizer, end_of_turn(tokenizer, template_kwargs))[:1]}
    return sorted(found - {None})


def opened_thought(tokenizer: "PreTrainedTokenizerBase", input_ids: Sequence[int]) -> str:
    """`<think>` where the prompt ends within a thought, so that an output which never leaves it is not taken for an answer."""
    tail = tokenizer.decode(input_ids[-_LAST_TOKENS:])
    return "<think>\n" if tail.rfind("<think>") > tail.rfind("</think>") else ""


@contextlib.contextmanager
def _plain_defaults(model: "PreTrainedModel") -> Iterator[None]:
    """Sets the model's `generation_config` aside: `generate` takes from it whatever a call leaves open."""
    from transformers import GenerationConfig

    inner = getattr(model, "get_base_model", lambda: model)()  # of an adapter's model
    own = inner.generation_config
    inner.generation_config = GenerationConfig()
    try:
        yield
    finally:
        inner.generation_config = own


def _generate(
    model: "PreTrainedModel", batch: Sequence[tuple[Prompt, int]], ends: Sequence[int], generation: Generation
) -> list[list[int]]:
    """The tokens written after each prompt, filled up after the end token of the shorter ones."""
    import torch
    from transformers import GenerationConfig

    width = max(len(item.input_ids) for item, _ in batch)
    ids = torch.tensor([[ends[0]] * (width - len(item.input_ids)) + item.input_ids for item, _ in batch], device=model.device)
    padding = torch.tensor([width - len(item.input_ids) for item, _ in batch], device=model.device)
    mask = (torch.arange(width, device=model.device) >= padding[:, None]).long()
    # Greedy; sampling is greedy too, with noise on the logits.
    config = GenerationConfig(
        do_sample=False, max_new_tokens=generation.max_new_tokens, eos_token_id=list(ends), pad_token_id=ends[0], use_cache=True
    )
    noise = [_noise(batch, generation, model.device)] if generation.samples > 1 else []
    with torch.inference_mode():
        output = model.generate(input_ids=ids, attention_mask=mask, generation_config=config, logits_processor=noise)
    return output[:, width:].tolist()


def _noise(batch: Sequence[tuple[Prompt, int]], generation: Generation, device: "torch.device") -> Any:
    """A logits processor whose greatest value is a draw from softmax(logits / temperature).

    With independent standard Gumbel noise g, argmax(logits / T + g) is distributed so (the Gumbel-max trick), and g =
    -log(e) for e from Exp(1). Unlike the sampling of `generate`, each row has a generator of its own.
    """
    import torch

    generators = []
    for item, sample in batch:
        asked = hashlib.sha256(f"{generation.seed} {sample} {item.prompt_sha256}".encode()).digest()
        generators.append(torch.Generator(device).manual_seed(int.from_bytes(asked[:8]) >> 1))

    def add_noise(_: "torch.Tensor", logits: "torch.Tensor") -> "torch.Tensor":  # (rows, vocabulary)
        noise = torch.empty_like(logits, dtype=torch.float32)
        for row, generator in zip(noise, generators, strict=True):
            row.exponential_(generator=generator)
        return logits.float() / generation.temperature - noise.log()

    return add_noise
