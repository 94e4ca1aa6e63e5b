"""Rows of the embedding, and of the output projection, for tokens that a run's tokenizer has and its base's has not."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


def grow_embeddings(model: "PreTrainedModel", added: Mapping[int, Sequence[int]]) -> None:
    """Gives every added token a row in the embedding and in the output projection: the mean of the rows of its pieces.

    A random row would make every mark of every prompt noise until it is learned. Many models have more rows than their
    tokenizer has tokens; then nothing grows.

    Args:
        model: the base model, before it is wrapped with an adapter.
        added: what `add_punctuation` returns; nothing is done for `{}`.
    """
    import torch

    if not added:
        return
    rows = max(added) + 1
    if rows > model.get_input_embeddings().weight.shape[0]:
        model.resize_token_embeddings(rows, mean_resizing=False)
    with torch.no_grad():
        for layer in token_layers(model).values():
            for token, pieces in added.items():
                layer.weight[token] = layer.weight[list(pieces)].mean(dim=0)


def token_layers(model: "PreTrainedModel") -> "dict[str, torch.nn.Module]":
    """Name -> embedding, and output projection where it has weights of its own."""
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    tied = head is None or head.weight is embedding.weight
    wanted = [embedding] if tied else [embedding, head]
    return {name: module for name, module in model.named_modules() if any(module is layer for layer in wanted)}
