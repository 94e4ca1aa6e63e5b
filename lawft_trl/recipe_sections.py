"""What a recipe may say: its sections, their keys, and what each key may hold."""

import dataclasses
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lawft_trl.library_fields import Field, class_fields, lora_fields, quantization_fields, training_fields


@dataclass(frozen=True, kw_only=True)
class ModelSection:
    """Keyword arguments of `AutoModelForCausalLM.from_pretrained`; keys left out keep its defaults."""

    name_or_path: str
    """A model id of the Hugging Face hub or a local folder."""
    revision: str | None = None
    """Branch, tag or commit of the model repository."""
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    """Type of the weights that are not quantized; `auto` takes the checkpoint's."""
    attn_implementation: str | None = None
    """`sdpa`, `flash_attention_2`, `eager`, ..."""
    device_map: str | dict | None = None
    """Where the layers go in one process; leave it out under several processes."""
    max_memory: dict | None = None
    """With a `device_map`: the memory per device, e.g. `{0: 4GiB, cpu: 24GB}`."""
    trust_remote_code: bool = False
    """Run code that the model repository ships."""
    local_files_only: bool = False
    """Never ask the hub."""


@dataclass(frozen=True, kw_only=True)
class PatternSection:
    """Which experiment this is: what the model sees and in what form it answers."""

    answer: Literal["direct", "cot", "auto", "dialogue"] = "direct"
    """Which rows are trained, by `meta.mode`: the letter alone, reasons and then the letter, both, or turns of dialogues."""
    statutes: Literal["none", "retrieved", "gold"] = "none"
    """What the prompts show: no statutes, what a search found, or those that decide; rows of another kind are refused."""
    system: str | None = None
    """Text of the system message; null sends none (some chat templates then write one of their own)."""
    chat_template_kwargs: dict = dataclasses.field(default_factory=dict)
    """Arguments of the chat template. `enable_thinking: false` is added: an empty think block is no answer."""


@dataclass(frozen=True, kw_only=True)
class DataSection:
    """The JSONL files, from the folder the command is run in; `*` stands for any characters, as in `train_*.jsonl`."""

    train: str | list[str]
    """Rows to train on; a pattern may match several files."""
    dev: str | None = None
    """Rows for the loss during training (`training.eval_strategy`), and for the letters scored beside it."""
    test: str | None = None
    """Held-out rows of `lawft eval`; training refuses rows that are in it."""
    overlong: Literal["error", "trim_statutes"] = "error"
    """Rows longer than `training.max_length`: refuse them, or leave out statute passages from the last one."""
    allow_overlap: bool = False
    """Train although rows are in the test file. Every report of the run then says so."""
    shared_prefix: bool | int | None = False
    """Read what the permuted copies of a question begin with once, with the same loss (docs/shared_prefix.md): false: never;
    2: two copies at a time; true: as many as it can; null: where it can, and reads at least 1.2 times fewer tokens. Copies that are
    read together share a step: all four made the quickstart's model worse (-4.7 points, p = 0.007), two did not (-0.4)."""
    add_punctuation: bool = False
    """Give the tokenizer those of 。、！？ that it cuts into pieces as tokens, whose rows the adapter trains; most need none."""
    emphasis: dict | None = None
    """`{patterns: [...], weight: 2.0}`: what these regular expressions match in an output weighs so many times the rest of it in
    the loss (docs/socratic.md); null: all supervised tokens weigh the same."""


@dataclass(frozen=True, kw_only=True)
class MonitorSection:
    """Weights & Biases, where `training.report_to` names `wandb`."""

    wandb: Literal["offline", "online", "disabled"] | None = None
    """`offline` (null, too) writes to disk for a later `wandb sync`; `online` needs `wandb login` or WANDB_API_KEY."""
    project: str = "lawft-trl"
    """The W&B project."""
    tags: list[str] = dataclasses.field(default_factory=list)
    """Tags of the W&B run."""
    eval_samples: int = 100
    """The most dev prompts that are answered at each evaluation to score the style of the replies (`evaluation.style`)."""


@dataclass(frozen=True, kw_only=True)
class EvaluationSection:
    """How `lawft eval` scores the base model and the tuned one."""

    scorer: Literal["letters", "generate"] | None = None
    """`letters`: log-probability of the four letters, averaged by content over four orders of the choices; `generate`: the
    answer is written and parsed. null: letters for direct answers, generate for reasoned ones."""
    orders: int = 4
    """In how many orders of its choices a question is asked: 4, or 1, which is quicker and lets a preference for letters count."""
    batch_size: int = 8
    """Prompts per forward pass."""
    seed: int = 0
    """Seed of the bootstrap, and of the sampling of several answers."""
    max_new_tokens: int | None = None
    """The longest answer that is generated; null: 16 tokens for direct answers, 1024 for reasoned ones, 64 for
    dialogues."""
    samples: int = 1
    """Answers generated per prompt. 1: greedy; more: sampled, and the letter that most of them give counts."""
    temperature: float = 0.7
    """Of the sampling, where `samples` is above 1."""
    dev_letters: bool = True
    """Score the letters of the dev questions whenever the trainer evaluates (`training.eval_strategy`)."""
    style: dict | None = None
    """Of dialogues: score the style of replies to dev prompts whenever the trainer evaluates. `{}`: the Socratic style; its keys
    (`endings`, `addresses`, `openings`, `topics` and the weights, docs/style.md) make it another. null: never; `lawft eval` then
    scores the Socratic one."""
    early_stopping_patience: int | None = None
    """Stop after so many evaluations without a better `training.metric_for_best_model`; null: never."""


OWN_SECTIONS = {
    "pattern": PatternSection,
    "data": DataSection,
    "monitor": MonitorSection,
    "evaluation": EvaluationSection,
}
SECTIONS = ("pattern", "data", "model", "quantization", "lora", "training", "monitor", "evaluation")
OPTIONAL_SECTIONS = ("quantization", "lora")  # without `lora` all weights are trained

_DTYPES = ("bfloat16", "float16", "float32")
# Choices that the libraries check only when it is too late, or not at all.
_CHOICES = {
    "quantization.bnb_4bit_quant_type": ("nf4", "fp4"),
    "quantization.bnb_4bit_compute_dtype": _DTYPES,
    "quantization.bnb_4bit_quant_storage": ("uint8", *_DTYPES),
    "training.truncation_mode": ("keep_start",),
    "training.hub_strategy": ("end",),
    "training.train_sampling_strategy": ("random", "sequential", "group_by_length", "batch_rebalance"),
}


@functools.cache
def section_fields() -> dict[str, dict[str, Field]]:
    """Every key a recipe may have: section -> key -> what it may hold."""
    own = {name: class_fields(Path(__file__), section.__name__) for name, section in OWN_SECTIONS.items()}
    fields = own | {
        "model": class_fields(Path(__file__), "ModelSection"),
        "quantization": quantization_fields(),
        "lora": lora_fields(),
        "training": training_fields(),
    }
    for key, choices in _CHOICES.items():
        section, name = key.split(".")
        fields[section][name] = dataclasses.replace(fields[section][name], choices=choices)
    return {section: fields[section] for section in SECTIONS}
