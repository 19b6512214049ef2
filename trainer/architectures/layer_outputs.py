"""Attention maps and query, key and value vectors of chosen layers, while the others run through fused attention.

An attention function of transformers' own registry: models are switched to it by name, their code stays as it is.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedConfig

from trainer.architectures.dropout import attend, drop, probabilities
from trainer.errors import Unavailable

NAME, FUSED = "stillroom", "sdpa"  # keys of the registry: ours, and transformers' for torch's fused attention
# What models pass along that changes nothing, or stands in the mask already.
_HARMLESS = ("is_causal", "sliding_window", "position_ids", "use_cache", "return_dict")
_HARMLESS += ("output_attentions", "output_hidden_states", "cu_seq_lens_q", "cu_seq_lens_k", "deterministic")


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


def attention_of(config: PreTrainedConfig) -> str | None:
    """The name of the attention function that a model uses; None where transformers does not say.

    It can be set in public (`set_attn_implementation`), but not read.
    """
    return getattr(config, "_attn_implementation", None)


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
    if attention_of(model.config) != NAME:
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
    """Let a model that trains with dropout in its fused attention use the noise of trainer.architectures.dropout.

    On the CPU torch's own attention with dropout writes the maps out as well, and draws its noise slowly: a fifth of a
    small model's step. Models whose attention does not go through transformers' interface stay as they are.
    """
    if attention_of(model.config) == FUSED:
        model.set_attn_implementation(NAME)


def _attention(module, query, key, value, attention_mask, dropout: float = 0.0, scaling=None, **options):
    """query, key, value: (rows, heads, tokens, width of a head); returns the context (rows, tokens, heads, width)."""
    seen = _open[-1] if _open else None
    if seen:
        seen.layer += 1
        if seen.layer in seen.wanted_vectors:
            seen.vectors[seen.layer] = tuple(part.transpose(1, 2).flatten(2) for part in (query, key, value))
    wanted, plain = (
        seen is not None and seen.layer in seen.wanted_maps,
        _is_plain(module, query, key, attention_mask, options),
    )
    if not plain or not (wanted or (dropout and query.device.type == "cpu")):  # a map that is not plain is not shown
        return _fused(module, query, key, value, attention_mask, dropout, scaling, **options)
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    query, key = query.to(value.dtype), key.to(value.dtype)
    bias = _bias(attention_mask, value.dtype)
    if wanted:
        before = probabilities(query * scaling, [(key, value, bias)])
        after = drop(before, dropout) if dropout else before
        seen.maps[seen.layer] = after if seen.after_dropout else before
        context = after @ value
    else:
        context = attend(query, key, value, bias, dropout, scaling)
    return context.transpose(1, 2).contiguous(), None


def _is_plain(module, query: torch.Tensor, key: torch.Tensor, mask: torch.Tensor | None, options: dict) -> bool:
    """Whether attention is a soft-max of masked products and nothing else: no shared keys, sinks or learned biases.

    Without a mask a model that reads from left to right relies on torch to add one.
    """
    causal = options.get("is_causal")
    causal = getattr(module, "is_causal", True) if causal is None else causal
    more = any(value is not None for name, value in options.items() if name not in _HARMLESS)
    return query.shape[1] == key.shape[1] and not (mask is None and causal) and not more


def _bias(mask: torch.Tensor | None, dtype: torch.dtype) -> torch.Tensor | None:
    """What a mask adds to the scores: the lowest number where a boolean one is False."""
    lowest = torch.finfo(dtype).min
    if mask is None:
        return None
    if mask.dtype == torch.bool:
        return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(~mask, lowest)
    return mask.clamp(min=lowest).to(dtype)


_fused = AttentionInterface()[FUSED]
AttentionInterface.register(NAME, _attention)
AttentionMaskInterface.register(NAME, AttentionMaskInterface()[FUSED])
