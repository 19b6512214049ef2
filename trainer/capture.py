"""Attention maps and query, key and value vectors of chosen layers, while the others run through fused attention.

An attention function of transformers' own registry: models are switched to it by name, their code stays as it is.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

from trainer.dropout import attend, drop, probabilities
from trainer.errors import Unavailable

NAME = "stillroom"  # a key of the registry


@dataclass
class Seen:
    """What a forward pass left. Layers count from 1 in the order of their calls; a recursion is a layer.

    maps: layer -> (rows, heads, tokens, tokens); vectors: layer -> query, key and value, each (rows, tokens, hidden).
    """

    wanted_maps: frozenset[int]
    wanted_vectors: frozenset[int]
    after_dropout: bool
    layer: int = 0
    maps: dict[int, torch.Tensor] = field(default_factory=dict)
    vectors: dict[int, tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = field(default_factory=dict)


_open: list[Seen] = []  # innermost last


@contextmanager
def capturing(
    model: torch.nn.Module, *, maps: Collection[int] = (), vectors: Collection[int] = (), after_dropout: bool = False
) -> Iterator[Seen]:
    """Collect maps and vectors of these layers (from 1) from the forward pass in the block.

    after_dropout: the maps as transformers returns them in training, rows no longer summing to 1 (the papers' code);
    otherwise the probabilities before it. Raises Unavailable after the block if the model did not pass its attention
    through transformers' interface.
    """
    if not maps and not vectors:
        yield Seen(frozenset(), frozenset(), after_dropout)
        return
    if model.config._attn_implementation != NAME:
        model.set_attn_implementation(NAME)
    seen = Seen(frozenset(maps), frozenset(vectors), after_dropout)
    _open.append(seen)
    try:
        yield seen
    finally:
        _open.pop()
    if lacking := (seen.wanted_maps - set(seen.maps)) | (seen.wanted_vectors - set(seen.vectors)):
        raise Unavailable(
            f"{type(model).__name__} shows no attention of layer {min(lacking)}; it has {seen.layer} such layers.",
            next_step="Choose a recipe without attention terms (distil), or a model of the BERT family.",
        )


def quicken_attention(model: torch.nn.Module) -> None:
    """Let a model that trains with dropout in its fused attention use the noise of trainer.dropout.

    On the CPU torch's own attention with dropout writes the maps out as well, and draws its noise slowly: a fifth of a
    small model's step. Models whose attention does not go through transformers' interface stay as they are.
    """
    if model.config._attn_implementation == "sdpa":
        model.set_attn_implementation(NAME)


def _attention(module, query, key, value, attention_mask, dropout: float = 0.0, scaling=None, **_):
    """query, key, value: (rows, heads, tokens, width of a head); returns the context (rows, tokens, heads, width)."""
    seen = _open[-1] if _open else None
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    if seen:
        seen.layer += 1
        if seen.layer in seen.wanted_vectors:
            seen.vectors[seen.layer] = tuple(part.transpose(1, 2).flatten(2) for part in (query, key, value))
    wanted = seen is not None and seen.layer in seen.wanted_maps
    if wanted or (dropout and query.device.type == "cpu"):
        query, key = query.to(value.dtype), key.to(value.dtype)
        bias = _bias(attention_mask, value.dtype)
        if wanted:
            before = probabilities(query * scaling, [(key, value, bias)])
            after = drop(before, dropout) if dropout else before
            seen.maps[seen.layer] = after if seen.after_dropout else before
            context = after @ value
        else:
            context = attend(query, key, value, bias, dropout, scaling)
    else:
        context = scaled_dot_product_attention(
            query, key, value, attn_mask=attention_mask, dropout_p=dropout, scale=scaling
        )
    return context.transpose(1, 2).contiguous(), None


def _bias(mask: torch.Tensor | None, dtype: torch.dtype) -> torch.Tensor | None:
    """What a mask adds to the scores: the lowest number where a boolean one is False."""
    lowest = torch.finfo(dtype).min
    if mask is None:
        return None
    if mask.dtype == torch.bool:
        return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(~mask, lowest)
    return mask.clamp(min=lowest).to(dtype)


AttentionInterface.register(NAME, _attention)
AttentionMaskInterface.register(NAME, sdpa_mask)
