"""BigBird (Zaheer et al. 2020) with block-sparse attention: transformers' classes, faster, for the same weights.

A block of 64 tokens attends to itself, both neighbours, the first and the last block, and some random blocks; the first
and the last block attend to everything. Transformers 5 draws random blocks in training only, seeded by the layer's
number; in evaluation it uses the first block for each of them, which therefore counts 1 + num_random_blocks times. So
does this module, without changing NumPy's generator. With `seeded_blocks: true` in its config a model uses blocks that
are drawn once per layer and head, distinct and outside the window, in training and evaluation, as in the paper.

An input of up to (5 + 2 x num_random_blocks) blocks gets full attention, as in transformers; the next long one gets
sparse attention again, unlike in transformers (trap T20). Trailing padding that all rows share is not computed, but
counts as length when blocks are chosen.
"""

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch.nn.functional import pad
from transformers.modeling_outputs import BaseModelOutputWithPoolingAndCrossAttentions
from transformers.models.big_bird import modeling_big_bird as library
from transformers.utils import can_return_tuple

from trainer.architectures.blocks import (
    LOW,
    Drawn,
    Shared,
    Window,
    attend,
    attend_blocks,
    in_pieces,
    keeps_levels,
    refuse_maps,
    used_length,
)

# Private functions of transformers' attention that draw its blocks in training.
DRAWING = (
    "_bigbird_block_rand_mask",
    "_bigbird_block_rand_mask_with_head",
    "_get_rand_attn_plan",
    "_get_single_block_row_attention",
)


@dataclass(frozen=True)
class Tokens:
    """The tokens of a forward pass, shared by all layers.

    real: which are not padding, (rows, tokens). size: tokens per block. blocks: of the input before padding was cut,
    None if it is so short that attention is full. dropout: of full attention; sparse attention has none.
    """

    real: torch.Tensor
    size: int
    blocks: int | None
    dropout: float = 0.0
    seeded: bool = False

    @cached_property
    def bias(self) -> torch.Tensor:
        """0 at real tokens, a large negative number at padding, (rows, tokens)."""
        return torch.zeros(self.real.shape, device=self.real.device).masked_fill(~self.real, LOW)

    @cached_property
    def whole(self) -> bool:
        """Whether no token is padding."""
        return bool(self.real.all())

    @cached_property
    def shared(self) -> list[slice]:
        """The positions of the first block, and of the last one unless it was cut off."""
        cut = self.blocks is not None and self.blocks * self.size > self.real.shape[1]
        return [slice(0, self.size), *([] if cut else [slice(-self.size, None)])]

    @cached_property
    def window(self) -> Window:
        """What the blocks after the first see of their neighbours, without the shared blocks; everything if attention
        is full.
        """
        if self.blocks is None:
            return Window(size=self.real.shape[1], span=0, bias=self.bias)
        bias = self.bias.clone()
        for place in self.shared:
            bias[:, place] = LOW
        return Window(size=self.size, span=1, start=1, bias=bias)

    def at(self, states: torch.Tensor) -> torch.Tensor:
        """The states of the shared blocks: (rows, tokens, ...) -> (rows, one or two blocks, ...)."""
        return torch.cat([states[:, place] for place in self.shared], dim=1)


class BigBirdBlockSparseAttention(library.BigBirdBlockSparseAttention):
    """The same three projections, with attention in blocks and without a map of all pairs of tokens."""

    def forward(self, hidden_states: torch.Tensor, *masks: Any, **_: Any) -> tuple[torch.Tensor, None]:
        """hidden_states: (rows, tokens, hidden); returns the context of the same shape."""
        tokens: Tokens = masks[-1]  # the layer passes masks by position
        query, key, value = (part(hidden_states) for part in (self.query, self.key, self.value))
        attention = self._sparse if tokens.blocks else self._full
        return attention(query, key, value, tokens), None

    def _full(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, tokens: Tokens) -> torch.Tensor:
        return attend_blocks(query, self.num_attention_heads, tokens.window, (key, value), dropout=tokens.dropout)

    def _sparse(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, tokens: Tokens) -> torch.Tensor:
        """The first and the last block see everything; the others see their neighbours, these two and random blocks."""
        heads, size = self.num_attention_heads, tokens.size
        others, bias = self._others(key, value, tokens), tokens.at(tokens.bias)
        if not others:  # in evaluation the first block also replaces each random one
            bias[:, :size] += math.log(1 + self.num_random_blocks)
        context = attend_blocks(
            query[:, size : -size if len(tokens.shared) == 2 else None],
            heads,
            tokens.window,
            (key, value),
            (Shared(bias), tokens.at(key), tokens.at(value)),
            *others,
        )
        ends, key, value = (
            states.unflatten(2, (heads, -1)).transpose(1, 2) for states in (tokens.at(query), key, value)
        )
        seen = tokens.bias[:, None, None].to(query.dtype).expand(-1, -1, ends.shape[2], -1)
        ends = attend(ends, key, value, seen).transpose(1, 2).flatten(2)
        context = torch.cat([ends[:, :size], context, ends[:, size:]], dim=1)
        return context if tokens.whole else context.masked_fill(~tokens.real[..., None], 0)

    def _others(
        self, key: torch.Tensor, value: torch.Tensor, tokens: Tokens
    ) -> list[tuple[Drawn, torch.Tensor, torch.Tensor]]:
        """The random blocks, if any, as attend_blocks takes them. Blocks that were cut off are hidden."""
        if tokens.blocks is None or not (self.training or tokens.seeded):
            return []
        heads, rows, count = self.num_attention_heads, len(key), key.shape[1] // tokens.size
        table = self._drawn(tokens.blocks, seeded=tokens.seeded).to(key.device).transpose(0, 1)[: count - 1]
        gone = table >= count
        table = table.masked_fill(gone, 0)  # (blocks of queries, heads, chosen)
        bias = tokens.bias.unflatten(1, (count, -1))[:, table].masked_fill(gone[..., None], LOW).flatten(3)
        numbers = torch.arange(rows, device=key.device)[:, None, None, None] * count + table
        numbers = numbers * heads + torch.arange(heads, device=key.device)[:, None]
        keys, values = (
            states.unflatten(2, (heads, -1)).unflatten(1, (count, -1)).transpose(2, 3).flatten(0, 2)
            for states in (key, value)
        )
        return [(Drawn(numbers, bias), keys, values)]

    def _drawn(self, count: int, *, seeded: bool) -> torch.Tensor:
        heads, chosen = self.num_attention_heads, self.num_random_blocks
        if seeded:
            return draw(self.seed, heads, count, chosen)
        blocks = library_blocks(self.seed, heads, count, chosen, self.block_size, self.max_seqlen)
        return draw(self.seed, heads, count, chosen) if blocks is None else blocks


class BigBirdLayer(library.BigBirdLayer):
    """transformers' BigBird layer, with the feed-forward part computed in pieces."""

    def feed_forward_chunk(self, attention_output: torch.Tensor) -> torch.Tensor:
        """(rows, tokens, hidden) -> the same shape."""
        return in_pieces(super().feed_forward_chunk, attention_output)


class BigBirdModel(library.BigBirdModel):
    """The same model, padded to complete blocks only; a short input does not change its attention type."""

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        **_: Any,
    ) -> BaseModelOutputWithPoolingAndCrossAttentions:
        """As transformers' model, but trailing padding that all rows share is not computed: its states are zero.

        Raises Unavailable if attention maps are requested.
        """
        refuse_maps(self, output_attentions)
        states = self.embeddings(
            input_ids=input_ids, token_type_ids=token_type_ids, position_ids=position_ids, inputs_embeds=inputs_embeds
        )
        mask = torch.ones_like(states[..., 0]) if attention_mask is None else attention_mask
        config, length = self.config, states.shape[1]
        blocks = -(-length // config.block_size)
        change = -(-used_length(mask) // config.block_size) * config.block_size - length  # once, not in every layer
        states, mask = pad(states, (0, 0, 0, change)), pad(mask, (0, change))
        tokens = Tokens(
            real=mask > 0,
            size=config.block_size,
            blocks=blocks if length > (5 + 2 * config.num_random_blocks) * config.block_size else None,
            dropout=config.attention_probs_dropout_prob if self.training else 0.0,
            seeded=getattr(config, "seeded_blocks", False),
        )
        keeps = keeps_levels(self, output_hidden_states)
        collected = [states] if keeps else []
        for layer in self.encoder.layer:
            states = layer(states, blocked_encoder_mask=tokens)
            collected += [states] if keeps else []
        states = pad(states, (0, 0, 0, -change))
        levels = tuple(pad(level, (0, 0, 0, -change)) for level in collected) or None
        pooled = None if self.pooler is None else self.activation(self.pooler(states[:, 0]))
        return BaseModelOutputWithPoolingAndCrossAttentions(
            last_hidden_state=states, pooler_output=pooled, hidden_states=levels
        )


@lru_cache(maxsize=256)
def draw(layer: int, heads: int, count: int, chosen: int) -> torch.Tensor:
    """Random blocks for the query blocks 1 to count - 2, (heads, count - 2, chosen), seeded by the layer's number.

    They are distinct, outside the window, and neither the first nor the last of the `count` blocks.
    """
    query_block, other = torch.arange(1, count - 1)[:, None], torch.arange(count)
    taken = ((query_block - other).abs() <= 1) | (other == 0) | (other == count - 1)
    noise = torch.rand(heads, count - 2, count, generator=torch.Generator().manual_seed(layer))
    return noise.masked_fill(taken, -1).topk(chosen, dim=2).indices


@lru_cache(maxsize=256)
def library_blocks(layer: int, heads: int, count: int, chosen: int, size: int, longest: int) -> torch.Tensor | None:
    """The blocks that transformers draws in training for an input of count x size tokens, (heads, count - 2, chosen).

    Its own functions draw them from NumPy's global generator, which is then restored. They are private: None if
    transformers has renamed one.
    """
    theirs, tokens = library.BigBirdBlockSparseAttention, count * size
    if not all(hasattr(theirs, name) for name in DRAWING):
        return None
    layer_like: Any = SimpleNamespace(
        training=True, _get_single_block_row_attention=theirs._get_single_block_row_attention
    )
    before = np.random.get_state()
    try:
        np.random.seed(layer)
        if tokens in (1024, 3072, 4096):  # the plans of the paper
            sizes = (longest, longest, size, size, chosen)
            drawn = [theirs._bigbird_block_rand_mask(layer_like, *sizes, last_idx=1024) for _ in range(heads)]
            drawn = [rows[: count - 2] for rows in drawn]
        else:
            plan = theirs._get_rand_attn_plan(tokens, size, chosen)
            sizes = (tokens, tokens, size, size, heads)
            drawn = theirs._bigbird_block_rand_mask_with_head(layer_like, *sizes, *plan)
    finally:
        np.random.set_state(before)
    return torch.from_numpy(np.stack(drawn)).long()


QUICK = {
    library.BigBirdModel: BigBirdModel,
    library.BigBirdLayer: BigBirdLayer,
    library.BigBirdBlockSparseAttention: BigBirdBlockSparseAttention,
}
