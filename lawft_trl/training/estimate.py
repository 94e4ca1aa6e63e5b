"""How much memory and time a recipe needs, from the model's configuration and the rows' lengths; no weight is loaded.

Weights, adapter, gradients and optimizer states are counted from the model on the meta device; activations are traced (see
`lawft_trl.training.activations`). docs/memory.md has the measured peaks beside these estimates.
"""

import copy
import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lawft_trl.errors import InputError
from lawft_trl.recipe import Recipe
from lawft_trl.training.activations import Pass, meta_model, peak_bytes
from lawft_trl.training.cards import GIB, Card
from lawft_trl.training.prefix_choice import micro_batch

if TYPE_CHECKING:
    from peft import LoraConfig
    from transformers import PretrainedConfig

CUDA_CONTEXT = GIB // 2  # context, kernels, cuBLAS workspaces: 0.3 to 0.7 GiB by card and driver. An assumption.
FRAGMENTATION = 0.1  # of the activations: what the caching allocator holds beyond what is alive. An assumption.
CPU_LIBRARIES = round(0.55 * GIB)  # resident set of Python with the libraries, measured by scripts/measure_memory.py
TIGHT, FULL = 0.9, 1.0  # shares of a card's memory
# Share of the peak throughput that training reaches, and milliseconds per layer and micro-batch in which the GPU waits for
# its next kernel. Assumptions: well-fed large batches reach the first, single short rows the second.
MFU = (0.45, 0.15)
LAUNCH_MS = (0.0, 4.0)
_TILE = 32_768  # vocabulary entries TRL projects onto at once

_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True, kw_only=True)
class Rows:
    """What is trained, as token counts.

    Attributes:
        lengths: tokens of every sequence the model is given. Where copies of a question share their prefix, the packed ones.
        supervised: tokens in the loss, sequence by sequence.
        dev_longest: tokens of the longest row that is scored during training; 0 where none is.
        per_item: how many rows each sequence holds: 1, or the copies of a question that share their prefix.
    """

    lengths: tuple[int, ...]
    supervised: tuple[int, ...]
    dev_longest: int = 0
    per_item: int = 1


@dataclass(frozen=True, kw_only=True)
class Memory:
    """The peak on one device.

    Attributes:
        parts: what takes it -> bytes.
        parameters: of the base model.
        trainable: of them, or of the adapter.
    """

    parts: dict[str, int]
    parameters: int
    trainable: int

    @property
    def total(self) -> int:
        return sum(self.parts.values())


def read_config(recipe: Recipe) -> "PretrainedConfig":
    """The configuration of the recipe's model; nothing else of it is downloaded.

    Raises:
        InputError: when it cannot be had.
    """
    from transformers import AutoConfig

    model = recipe.model
    try:
        return AutoConfig.from_pretrained(
            model.name_or_path,
            revision=model.revision or "main",
            trust_remote_code=model.trust_remote_code,
            local_files_only=model.local_files_only,
        )
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"{model.name_or_path}: no configuration could be loaded: {str(error).strip().splitlines()[0]}",
            [
                "check the name, the network and `hf auth login`; for a folder, that it exists and holds config.json",
                "without a network: put config.json and the tokenizer's files of the model into a folder, and give "
                "model.name_or_path=FOLDER (no weights are needed)",
                "or plan the rehearsal: --rehearse",
            ],
        ) from error


def estimate_memory(
    recipe: Recipe, config: "PretrainedConfig", rows: Rows, *, processes: int = 1, libraries: int | None = None
) -> Memory:
    """The peak memory of training on one device.

    Args:
        recipe: a checked recipe.
        config: its model's configuration.
        rows: what is trained.
        processes: how many train side by side, each with the whole model (DDP).
        libraries: bytes taken before a model is loaded; `None` for what is usual on a GPU or a CPU.

    Raises:
        InputError: when model and adapter do not fit together, or the model cannot be planned.
    """
    dtype, quantization, lora = base_dtype(recipe, config), recipe.values.get("quantization"), _lora(recipe)
    weights, workspace, parameters = _kept(_weight_bytes, config, quantization, dtype)
    trainable = _kept(_trainable, config, lora, dtype)
    size = _BYTES[_adapter_dtype(recipe, config)]
    training, evaluation = _passes(recipe, config, rows)
    activations = max(_kept(peak_bytes, config, lora, work) for work in (training, evaluation) if work)
    on_cpu = training.on_cpu
    parts = dict(weights)
    if lora is not None:
        parts["adapter"] = sum(trainable) * size
    parts["gradients"] = sum(trainable) * size * (2 if processes > 1 else 1)  # DDP holds them twice: in its buckets too
    parts["optimizer states"] = optimizer_bytes(optimizer(recipe), trainable, size)
    parts["activations"] = activations
    if not on_cpu:
        parts["output projection and loss"] = _loss_bytes(recipe, config, rows, training)
    if quantization:
        parts["one weight, dequantized"] = workspace
    if libraries is None:
        libraries = CPU_LIBRARIES if on_cpu else CUDA_CONTEXT
    parts["Python and libraries" if on_cpu else "CUDA context"] = libraries
    if not on_cpu:
        parts["fragmentation (allowance)"] = round(FRAGMENTATION * activations)
    return Memory(parts=parts, parameters=parameters, trainable=sum(trainable))


def base_dtype(recipe: Recipe, config: "PretrainedConfig") -> str:
    """The type of the weights that are not quantized."""
    dtype = recipe.model.dtype
    if dtype == "auto":
        dtype = str(config.dtype or "float32").removeprefix("torch.")
    return dtype if dtype in _BYTES else "float32"


def mixed_precision(recipe: Recipe) -> str | None:
    """The type of the mixed precision; TRL turns bfloat16 on where neither is said."""
    if recipe.training("fp16"):
        return "float16"
    return "bfloat16" if recipe.training("bf16") in (True, None) else None


def optimizer(recipe: Recipe) -> str:
    """The optimizer's name; transformers computes its default, which the recipe's schema does not know."""
    return recipe.values["training"].get("optim", "adamw_torch_fused")


def _lora(recipe: Recipe) -> "LoraConfig | None":
    from peft import LoraConfig

    values = recipe.values.get("lora")
    # How it starts changes no size, and some starts decompose weights, which are not there
    return LoraConfig(**{"task_type": "CAUSAL_LM", **values, "init_lora_weights": True}) if values else None


def _adapter_dtype(recipe: Recipe, config: "PretrainedConfig") -> str:
    """PEFT keeps adapters in float32; TRL makes them bfloat16 where the base is quantized, which float16 cannot use."""
    if not recipe.values.get("lora"):
        return base_dtype(recipe, config)
    return "bfloat16" if "quantization" in recipe.values and not recipe.training("fp16") else "float32"


def step_shape(recipe: Recipe, rows: Rows) -> tuple[int, int]:
    """`(sequences per micro-batch, micro-batches per step)`, as the trainer will have them."""
    return micro_batch(recipe.training("per_device_train_batch_size"), recipe.training("gradient_accumulation_steps"), rows.per_item)


def _passes(recipe: Recipe, config: "PretrainedConfig", rows: Rows) -> tuple[Pass, Pass | None]:
    """The largest pass of training and, where rows are evaluated meanwhile, of evaluation."""
    training = Pass(
        batch=step_shape(recipe, rows)[0],
        length=max(rows.lengths),
        training=True,
        dtype=base_dtype(recipe, config),
        autocast=mixed_precision(recipe),
        adapter_dtype=_adapter_dtype(recipe, config),
        checkpointing=recipe.training("gradient_checkpointing"),
        on_cpu=bool(recipe.training("use_cpu")),
    )
    if recipe.training("eval_strategy") == "no" or not rows.dev_longest:
        return training, None
    batch = max(recipe.training("per_device_eval_batch_size"), recipe.evaluation.batch_size if recipe.evaluation.dev_letters else 1)
    return training, dataclasses.replace(training, training=False, batch=batch, length=rows.dev_longest)


_KEPT: dict[str, Any] = {}


def _kept(function: Callable, config: "PretrainedConfig", *arguments: Any) -> Any:
    """`function(config, *arguments)`, computed once: many changes of a recipe leave most of it as it is."""
    key = repr((function.__name__, config.to_json_string(), [each.to_dict() if hasattr(each, "to_dict") else each for each in arguments]))
    if key not in _KEPT:
        _KEPT[key] = function(config, *arguments)
    return _KEPT[key]


def _trainable(config: "PretrainedConfig", lora: "LoraConfig | None", dtype: str) -> list[int]:
    """Numbers of entries of the trained tensors."""
    model = meta_model(config, copy.deepcopy(lora), dtype)
    return [weight.numel() for weight in model.parameters() if weight.requires_grad]


def _weight_bytes(config: "PretrainedConfig", quantization: Mapping[str, Any] | None, dtype: str) -> tuple[dict[str, int], int, int]:
    """Bytes of the weights by kind, of the largest quantized one when it is computed with, and the number of parameters.

    bitsandbytes quantizes linear layers but the output projection. 4 bits: one float32 constant for 64 weights, or with double
    quantization one byte for 64 weights and one float32 for 256 of those, with a table of 1 KiB. 8 bits: one float32 per row.
    """
    model = meta_model(config, None, dtype)
    parameters = sum(weight.numel() for weight in model.parameters())
    if not quantization:
        return {f"weights ({dtype})": parameters * _BYTES[dtype]}, 0, parameters
    from bitsandbytes.nn import Linear4bit, Linear8bitLt
    from transformers import BitsAndBytesConfig
    from transformers.integrations import replace_with_bnb_linear
    from transformers.quantizers.base import get_keys_to_not_convert

    settings = BitsAndBytesConfig(**quantization)
    skipped = settings.llm_int8_skip_modules
    model = replace_with_bnb_linear(model, get_keys_to_not_convert(model) if skipped is None else skipped, settings)
    quantized = [module for module in model.modules() if isinstance(module, Linear4bit | Linear8bitLt)]
    packed = 0
    for module in quantized:
        size = module.in_features * module.out_features
        if isinstance(module, Linear8bitLt):
            packed += size + 4 * module.out_features
            continue
        blocks = math.ceil(size / 64)
        packed += size // 2 + (blocks + 4 * math.ceil(blocks / 256) + 1024 if settings.bnb_4bit_use_double_quant else 4 * blocks)
    names = {id(module.weight) for module in quantized}
    rest = sum(weight.numel() for weight in model.parameters() if id(weight) not in names) * _BYTES[dtype]
    kind = "4-bit" if settings.load_in_4bit else "8-bit"
    compute = str(settings.bnb_4bit_compute_dtype or dtype).removeprefix("torch.") if settings.load_in_4bit else dtype
    workspace = max((module.in_features * module.out_features for module in quantized), default=0) * _BYTES[compute]
    return {f"weights, {kind}": packed, f"weights not quantized ({dtype})": rest}, workspace, parameters


def optimizer_bytes(name: str, sizes: Sequence[int], size: int) -> int:
    """Bytes of an optimizer's states; names as `training.optim` has them.

    bitsandbytes keeps 8-bit states with one float32 per 256 entries, and 32-bit ones for tensors under 4,096 entries; "paged"
    states count in full, although they may leave the card. Names that are not known count as AdamW in float32.

    Args:
        name: the optimizer.
        sizes: numbers of entries of the trained tensors.
        size: bytes of an entry of them; torch's AdamW keeps its states in that type.
    """
    moments = 1 if "lion" in name or name in ("rmsprop", "adagrad") else 0 if name == "sgd" else 2
    if "8bit" in name:
        return moments * sum(4 * count if count < 4096 else count + 4 * math.ceil(count / 256) for count in sizes)
    if "adafactor" in name:
        return sum(4 * 2 * math.isqrt(count) for count in sizes)
    return moments * sum(sizes) * (size if name.startswith("adamw_torch") else 4)


def _loss_bytes(recipe: Recipe, config: "PretrainedConfig", rows: Rows, work: Pass) -> int:
    """On a GPU TRL projects the supervised positions only, tile by tile of the vocabulary, in the type of the computation."""
    text = config.get_text_config()
    positions = min(4096, sum(sorted(rows.supervised, reverse=True)[: work.batch]))
    columns = min(_TILE, text.vocab_size)
    compute = work.autocast or work.dtype
    cast = columns * text.hidden_size * _BYTES[compute] if compute != work.dtype else 0
    return positions * (columns * _BYTES[compute] + text.hidden_size * (4 + 2 * _BYTES[compute])) + cast


def verdict(total: int, available: int) -> str:
    """`fits`, `tight` (above 90 % of the memory) or `does not fit`."""
    return "fits" if total <= TIGHT * available else "tight" if total <= FULL * available else "does not fit"


def estimate_seconds(recipe: Recipe, config: "PretrainedConfig", rows: Rows, card: Card, *, steps: int) -> tuple[float, float] | None:
    """From and to how many seconds training takes on a card, without loading and evaluation; `None` without 16-bit precision.

    Floating point operations of a token: 2 per weight of the linear layers forward, as many backward for the inputs, as many
    again forward where layers are checkpointed, and as many backward for the weights where all of them are trained; 4 per
    position and attention channel for scores and values. Over it the reading (and dequantizing) of all weights per pass.
    """
    if mixed_precision(recipe) is None:
        return None
    text = config.get_text_config()
    model = meta_model(config, None, base_dtype(recipe, config))
    head = model.get_output_embeddings()
    from torch.nn import Linear

    linear = sum(m.weight.numel() for m in model.modules() if isinstance(m, Linear) and m is not head)
    channels = text.num_attention_heads * (getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads)
    batch, accumulation = step_shape(recipe, rows)
    length = expected_longest(rows.lengths, batch)
    forward = 2 * linear + 4 * length * channels * text.num_hidden_layers
    passes = 2 + bool(recipe.training("gradient_checkpointing")) + (not recipe.values.get("lora"))
    quantization = recipe.values.get("quantization") or {}
    read = 4.5 if quantization.get("load_in_4bit") else 1 if quantization.get("load_in_8bit") else _BYTES[base_dtype(recipe, config)]
    batches = steps * accumulation
    fast, slow = (
        batches
        * (
            batch * length * forward * passes / (share * card.tflops * 1e12)
            + passes * linear * read / (card.bandwidth * 1e9)
            + text.num_hidden_layers * launch / 1000
        )
        for share, launch in zip(MFU, LAUNCH_MS, strict=True)
    )
    return fast, slow


def expected_longest(lengths: Sequence[int], batch: int) -> float:
    """The expected length of the longest of `batch` rows drawn without replacement: what all of them are padded to."""
    ordered, count = sorted(lengths), len(lengths)
    batch = min(batch, count)
    total = math.comb(count, batch)
    return sum(length * (math.comb(at, batch - 1) / total) for at, length in enumerate(ordered))
