"""Rows of the embedding for added punctuation: where they begin, and that they alone are trained with the adapter."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def grow_embeddings(model: "PreTrainedModel", added: Mapping[int, Sequence[int]]) -> None:
    """Gives every added token a row in the embedding and in the output projection: the mean of the rows of its pieces.

    A random row would make every mark of every prompt noise until it is learned. Many models have more rows than their
    tokenizer has tokens; then nothing grows.

    Args:
        model: the base model, before it is wrapped with an adapter.
        added: what `add_punctuation` returns; nothing is done for `{}`.
    """
    if not added:
        return
    rows = max(added) + 1
    if rows > model.get_input_embeddings().weight.shape[0]:
        model.resize_token_embeddings(rows, mean_resizing=False)
    with torch.no_grad():
        for layer in _layers(model).values():
            for token, pieces in added.items():
                layer.weight[token] = layer.weight[list(pieces)].mean(dim=0)


def with_trained_rows(lora: Mapping[str, Any], model: "PreTrainedModel", added: Mapping[int, Sequence[int]]) -> dict[str, Any]:
    """Arguments of `LoraConfig` that train the rows of added tokens too, and no other row; the same where none was added."""
    if not added:
        return dict(lora)
    return {**lora, "trainable_token_indices": {name: sorted(added) for name in _layers(model)}}


def show_bias(model: "PreTrainedModel") -> None:
    """Lets TRL read the `bias` of an output projection whose rows are trained, through PEFT's wrapper, which shows the weight alone.

    Args:
        model: as the trainer has wrapped it.
    """
    from peft.utils.other import TrainableTokensWrapper

    head = model.get_output_embeddings()
    if isinstance(head, TrainableTokensWrapper) and not hasattr(head, "bias"):
        head.bias = head.original_module.bias


def _layers(model: "PreTrainedModel") -> dict[str, torch.nn.Module]:
    """Name -> embedding, and output projection where it has weights of its own."""
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    tied = head is None or head.weight is embedding.weight
    wanted = [embedding] if tied else [embedding, head]
    return {name: module for name, module in model.named_modules() if any(module is layer for layer in wanted)}
