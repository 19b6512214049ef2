"""Captures attention maps and query, key and value vectors of chosen layers; the other layers use fused attention.

It is an attention function in transformers' registry: models are switched to it by name, and their code is unchanged.
"""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedConfig, PreTrainedModel

from trainer.architectures.dropout import attend, drop, probabilities
from trainer.errors import Unavailable

NAME, FUSED = "stillroom", "sdpa"  # keys of the registry: ours, and transformers' for torch's fused attention
# Options of models that change nothing, or that the mask already contains.
_HARMLESS = (
    "is_causal",
    "sliding_window",
    "position_ids",
    "use_cache",
    "return_dict",
    "output_attentions",
    "output_hidden_states",
    "cu_seq_lens_q",
    "cu_seq_lens_k",
    "deterministic",
)


@dataclass
class Seen:
    """What a forward pass left behind. Layers count from 1 in the order of their calls; a recursion is a layer.

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
    """The name of the attention function that a model uses; None if transformers does not tell.

    The public interface can set it (`set_attn_implementation`), but not read it.
    """
    name: str | None = getattr(config, "_attn_implementation", None)
    return name


@contextmanager
def capturing(
    model: PreTrainedModel, *, maps: Collection[int] = (), vectors: Collection[int] = (), after_dropout: bool = False
) -> Iterator[Seen]:
    """Collect maps and vectors of these layers (from 1) from the forward pass in the block.

    after_dropout: the maps as transformers returns them in training, whose rows do not sum to 1 (the papers' code);
    otherwise the probabilities before dropout. Raises Unavailable after the block if the model does not use
    transformers' attention interface.
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
    if missing := (seen.wanted_maps - set(seen.maps)) | (seen.wanted_vectors - set(seen.vectors)):
        raise Unavailable(
            f"{type(model).__name__} exposes no attention of layer {min(missing)}; it has {seen.layer} such layers.",
            next_step="Choose a recipe without attention terms (distil), or a model of the BERT family.",
        )


def quicken_attention(model: PreTrainedModel) -> None:
    """Switch a model with fused attention to the fast dropout noise of trainer.architectures.dropout.

    On the CPU torch's attention with dropout also computes whole maps, and draws its noise slowly: a fifth of a small
    model's training step. Models that do not use transformers' attention interface are not changed.
    """
    if attention_of(model.config) == FUSED:
        model.set_attn_implementation(NAME)


def _attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **options: Any,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """query, key, value: (rows, heads, tokens, head width); returns the context (rows, tokens, heads, head width)."""
    seen = _open[-1] if _open else None
    if seen:
        seen.layer += 1
        if seen.layer in seen.wanted_vectors:
            vectors = [part.transpose(1, 2).flatten(2) for part in (query, key, value)]
            seen.vectors[seen.layer] = vectors[0], vectors[1], vectors[2]
    wanted = seen is not None and seen.layer in seen.wanted_maps
    plain = _is_plain(module, query, key, attention_mask, options)
    if not plain or not (wanted or (dropout and query.device.type == "cpu")):  # only plain attention is captured
        fused: tuple[torch.Tensor, torch.Tensor | None]
        fused = _fused(module, query, key, value, attention_mask, dropout, scaling, **options)
        return fused
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    query, key = query.to(value.dtype), key.to(value.dtype)
    bias = _bias(attention_mask, value.dtype)
    if seen is not None and wanted:
        before = probabilities(query * scaling, [(key, value, bias)])
        after = drop(before, dropout) if dropout else before
        seen.maps[seen.layer] = after if seen.after_dropout else before
        context = after @ value
    else:
        context = attend(query, key, value, bias, dropout, scaling)
    return context.transpose(1, 2).contiguous(), None


def _is_plain(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    mask: torch.Tensor | None,
    options: Mapping[str, Any],
) -> bool:
    """Whether attention is a softmax of masked products and nothing else: no shared keys, sinks or learned biases.

    Without a mask, a causal model relies on torch to add one.
    """
    causal = options.get("is_causal")
    causal = getattr(module, "is_causal", True) if causal is None else causal
    has_more = any(value is not None for name, value in options.items() if name not in _HARMLESS)
    return query.shape[1] == key.shape[1] and not (mask is None and causal) and not has_more


def _bias(mask: torch.Tensor | None, dtype: torch.dtype) -> torch.Tensor | None:
    """The bias that a mask adds to the scores: for a boolean mask the lowest number where it is False."""
    lowest = torch.finfo(dtype).min
    if mask is None:
        return None
    if mask.dtype == torch.bool:
        return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(~mask, lowest)
    return mask.clamp(min=lowest).to(dtype)


_fused = AttentionInterface()[FUSED]
AttentionInterface.register(NAME, _attention)
AttentionMaskInterface.register(NAME, AttentionMaskInterface()[FUSED])
