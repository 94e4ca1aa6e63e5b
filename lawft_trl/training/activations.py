"""The peak memory of a forward and a backward pass, traced on fake tensors: shapes are real, nothing is computed or stored.

A formula per layer would have to be argued anew for every architecture, adapter, data type and mask. The trace instead runs
the model's own code, with its adapter, on tensors without data (`torch._subclasses.FakeTensorMode`) and adds up what is
alive. Layers are alike, so two and three of them are traced and the rest is extrapolated on a line.
"""

import contextlib
import copy
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lawft_trl.errors import InputError

if TYPE_CHECKING:
    from peft import LoraConfig
    from transformers import PretrainedConfig, PreTrainedModel

_TRACED_LAYERS = (2, 3)


@dataclass(frozen=True, kw_only=True)
class Pass:
    """One pass over a batch.

    Attributes:
        batch: rows.
        length: tokens of every row, padding included.
        training: forward and backward; otherwise a forward pass without gradients.
        dtype: data type of the weights that are not quantized, as torch calls it, e.g. `"bfloat16"`.
        autocast: data type of the mixed precision (`training.bf16`, `training.fp16`), or `None`.
        adapter_dtype: data type of the adapter's weights.
        checkpointing: whether layers are computed again in the backward pass.
        on_cpu: on a CPU dropout keeps its noise in full, and TRL projects all positions onto the vocabulary, in tiles.
    """

    batch: int
    length: int
    training: bool
    dtype: str
    autocast: str | None
    adapter_dtype: str
    checkpointing: bool
    on_cpu: bool


def peak_bytes(config: "PretrainedConfig", lora: "LoraConfig | None", work: Pass) -> int:
    """The most bytes alive at once in one pass, beside weights, adapter, gradients and optimizer states.

    Args:
        config: the model's configuration.
        lora: the adapter; `None` where all weights are trained.
        work: the pass. On a CPU the loss is part of it; on a GPU see `lawft_trl.training.estimate`.

    Raises:
        InputError: for a model that cannot be traced, e.g. because its computation depends on the data.
    """
    layers = config.get_text_config().num_hidden_layers
    if layers <= max(_TRACED_LAYERS):
        return _trace(_with_layers(config, layers), lora, work)
    few, more = (_trace(_with_layers(config, count), lora, work) for count in _TRACED_LAYERS)
    return more + (layers - _TRACED_LAYERS[1]) * (more - few)


def meta_model(config: "PretrainedConfig", lora: "LoraConfig | None", dtype: str) -> "PreTrainedModel":
    """A model without weights, with its adapter.

    Raises:
        InputError: when no causal language model can be made of the configuration, or the adapter does not fit it.
    """
    import torch
    from peft import get_peft_model
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        try:
            model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype))
        except (ValueError, ImportError) as error:
            raise InputError(f"no causal language model can be built from this config.json: {str(error).splitlines()[0]}") from error
        if lora is None:
            return model
        try:
            return get_peft_model(model, lora)
        except ValueError as error:
            raise InputError(f"the section lora does not fit the model: {str(error).splitlines()[0]}") from error


def _with_layers(config: "PretrainedConfig", count: int) -> "PretrainedConfig":
    config = copy.deepcopy(config)
    text = config.get_text_config()
    text.num_hidden_layers = count
    if getattr(text, "layer_types", None):
        text.layer_types = text.layer_types[:count]
    if config._attn_implementation not in (None, "eager"):
        config._attn_implementation = "sdpa"  # flash kernels cannot be traced; they keep the same tensors
    return config


def _trace(config: "PretrainedConfig", lora: "LoraConfig | None", work: Pass) -> int:
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    model = meta_model(config, copy.deepcopy(lora), work.dtype)
    model.train(work.training)
    if work.checkpointing and work.training:
        _enable_checkpointing(model, adapted=lora is not None)
    with FakeTensorMode(allow_non_fake_inputs=True):
        _to_fake_cpu(model, getattr(torch, work.adapter_dtype) if lora is not None else None)
        if not work.on_cpu:
            _keep_masks_of_dropout_only(model)
        try:
            with _live_bytes(model) as live:
                _run(model, work)
        except RuntimeError as error:  # what torch raises where shapes depend on data, or a kernel has no shape function
            raise InputError(
                f"the plan cannot trace this model (a mixture of experts?): {str(error).strip().splitlines()[0]}",
                ["rehearse it, and watch the memory of the first step"],
            ) from error
    return live.peak


def _run(model: "PreTrainedModel", work: Pass) -> None:
    """Forward, loss and, in training, backward; as TRL calls the model."""
    import torch

    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    ids = torch.zeros(work.batch, work.length, dtype=torch.long)
    # A batch of several rows is padded: the attention then gets a mask, repeats its keys and values, and keeps both. One row
    # alone needs neither; it is traced in the same way, which is some 5 % too much where layers are not checkpointed.
    mask = torch.ones(work.batch, 1, work.length, work.length, dtype=torch.bool)
    autocast = torch.autocast("cpu", dtype=getattr(torch, work.autocast)) if work.autocast else contextlib.nullcontext()
    call: dict[str, Any] = {"input_ids": ids, "attention_mask": mask, "use_cache": False}
    with torch.set_grad_enabled(work.training), autocast:
        if work.on_cpu:
            from trl.trainer.utils import add_fused_lm_head

            add_fused_lm_head(base, outputs=("log_probs", "entropy", "is_top1"))
            loss = base(**call, labels=ids, fused_lm_head=True).loss
        else:
            loss = base.base_model(**call).last_hidden_state.sum()
    if work.training:
        loss.backward()


def _enable_checkpointing(model: "PreTrainedModel", *, adapted: bool) -> None:
    if hasattr(model, "activation_checkpointing_enable"):  # its name from transformers 5.20 on
        model.activation_checkpointing_enable()
    else:
        model.gradient_checkpointing_enable()
    if adapted:
        model.enable_input_require_grads()


def _to_fake_cpu(model: "PreTrainedModel", adapter_dtype: Any) -> None:
    """Gives every weight a fake tensor; adapters their data type, and a gradient, as from the second micro-batch on."""
    import torch

    shared: dict[int, Any] = {}
    for module in model.modules():
        for name, old in list(module._parameters.items()):
            if old is not None and id(old) not in shared:
                dtype = adapter_dtype if adapter_dtype is not None and old.requires_grad else old.dtype
                new = torch.nn.Parameter(torch.empty(old.shape, dtype=dtype), requires_grad=old.requires_grad)
                new.grad = torch.empty_like(new) if old.requires_grad else None
                shared[id(old)] = new
            if old is not None:
                module._parameters[name] = shared[id(old)]
        for name, old in list(module._buffers.items()):
            if old is not None:
                module._buffers[name] = torch.empty(old.shape, dtype=old.dtype)


def _keep_masks_of_dropout_only(model: "PreTrainedModel") -> None:
    """On a GPU dropout keeps one byte per element, its mask; on a CPU it keeps the noise in the input's type."""
    import torch

    def fused(p: float) -> Callable:
        return lambda x: torch.native_dropout(x, p, True)[0]

    for module in model.modules():
        if isinstance(module, torch.nn.Dropout) and module.p > 0 and module.training:
            module.forward = fused(module.p)


@dataclass
class _Live:
    now: int = 0
    peak: int = 0


@contextlib.contextmanager
def _live_bytes(model: "PreTrainedModel") -> Iterator[_Live]:
    """Counts the bytes of all storages that are made inside the block, while they live."""
    from torch import Tensor
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    live = _Live()
    # The model's own storages are not counted, views of them neither.
    known = {tensor.untyped_storage()._cdata for tensor in (*model.parameters(), *model.buffers())}
    known |= {weight.grad.untyped_storage()._cdata for weight in model.parameters() if weight.grad is not None}

    def forget(key: int, size: int) -> None:
        known.discard(key)
        live.now -= size

    class Count(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            for tensor in tree_leaves(result):
                if isinstance(tensor, Tensor) and (storage := tensor.untyped_storage())._cdata not in known:
                    known.add(storage._cdata)
                    live.now += storage.nbytes()
                    live.peak = max(live.peak, live.now)
                    weakref.finalize(storage, forget, storage._cdata, storage.nbytes())
            return result

    with Count():
        yield live
