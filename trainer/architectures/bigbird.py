"""BigBird (Zaheer et al. 2020) with block-sparse attention: transformers' classes, faster, for the same weights.

A block of 64 tokens sees itself, both neighbours, the first and the last block, and some that are drawn; the first and
the last see everything. Transformers 5 draws blocks in training only, by the layer's number; in evaluation it takes the
first block for each of them, which therefore counts 1 + num_random_blocks times. So do we, without touching NumPy's
random numbers. With `seeded_blocks: true` in its config a model uses blocks that are drawn once for each layer and
head, distinct and outside the window, in training and in evaluation: the attention of the paper.

An input of up to (5 + 2 x num_random_blocks) blocks is computed in full, as transformers does, and the next long one is
sparse again, as transformers does not (trap T20). Padding that all rows share at the end is not computed; the length
with it still tells what blocks see.
"""

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache
from types import SimpleNamespace

import numpy as np
import torch
from torch.nn.functional import pad
from transformers.modeling_outputs import BaseModelOutputWithPoolingAndCrossAttentions
from transformers.models.big_bird import modeling_big_bird as library
from transformers.utils.generic import can_return_tuple

from trainer.architectures.blocks import (
    LOW,
    attend,
    attend_blocks,
    block,
    in_pieces,
    keeps_levels,
    refuse_maps,
    unblock,
    used,
)


@dataclass(frozen=True)
class Tokens:
    """What all layers of a forward pass know of its tokens: which are real, (rows, tokens), and how long the input was
    before padding was cut off."""

    real: torch.Tensor
    length: int
    few: bool  # so few that they are computed in full
    dropout: float  # of attention in full; sparse attention has none
    seeded: bool

    @cached_property
    def bias(self) -> torch.Tensor:
        """(rows, tokens): 0 at real tokens, a large negative number at padding."""
        return torch.zeros(self.real.shape, device=self.real.device).masked_fill(~self.real, LOW)


class BigBirdBlockSparseAttention(library.BigBirdBlockSparseAttention):
    """The same three projections; attention in blocks, without a map of all pairs of tokens."""

    def forward(self, hidden_states: torch.Tensor, *masks, **_) -> tuple[torch.Tensor, None]:
        """hidden_states: (rows, tokens, hidden); gives the context of the same shape."""
        tokens: Tokens = masks[-1]  # the layer hands masks on by place
        parts = [part(hidden_states) for part in (self.query, self.key, self.value)]
        return (self._full if tokens.few else self._sparse)(*parts, tokens), None

    def _full(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, tokens: Tokens) -> torch.Tensor:
        rows, length = tokens.real.shape
        parts = [block(part, self.num_attention_heads, length)[:, 0] for part in (query, key, value)]
        own = torch.arange(rows, device=query.device)[:, None, None]
        context = attend_blocks(*parts, own, tokens.bias[:, None], dropout=tokens.dropout)
        return unblock(context[:, None], length)

    def _sparse(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, tokens: Tokens) -> torch.Tensor:
        (rows, length), heads = tokens.real.shape, self.num_attention_heads
        queries, keys, values = (block(part, heads, self.block_size) for part in (query, key, value))
        # (rows, count, heads, size, width)
        table, weight = self._choice(queries.shape[1], tokens)
        ends = [0, -1] if queries.shape[1] == self._blocks(tokens) else [0]  # the last block may be cut off
        bias = pad(tokens.bias, (0, -length % self.block_size), value=LOW).view(rows, -1, self.block_size)
        bias = bias[:, table] + weight[..., None]  # (rows, middle, heads or 1, chosen, size)
        table = table + torch.arange(rows, device=query.device)[:, None, None, None] * queries.shape[1]
        middle = attend_blocks(
            *(part.flatten(0, 1) for part in (queries[:, 1 : 1 + len(weight)], keys, values)),
            table.flatten(0, 1),
            bias.flatten(3).flatten(0, 1),
        )
        ends = queries[:, ends].transpose(1, 2).flatten(2, 3)  # (rows, heads, 1 or 2 x size, width)
        whole = (part.view(rows, length, heads, -1).transpose(1, 2) for part in (key, value))
        seen = tokens.bias[:, None, None].to(query.dtype).expand(-1, -1, ends.shape[2], -1)
        ends = attend(ends, *whole, seen).unflatten(2, (-1, self.block_size)).transpose(1, 2)
        context = torch.cat([ends[:, :1], middle.view(rows, -1, *ends.shape[2:]), ends[:, 1:]], dim=1)
        return unblock(context, length).masked_fill(~tokens.real[..., None], 0)

    def _blocks(self, tokens: Tokens) -> int:
        """How many blocks the whole input has."""
        return -(-tokens.length // self.block_size)

    def _choice(self, count: int, tokens: Tokens) -> tuple[torch.Tensor, torch.Tensor]:
        """The key blocks of the middle ones of `count` query blocks, (middle, heads or 1, chosen), and what each adds
        to its scores: a block that counts several times adds the logarithm of that, one that is listed twice or was cut
        off is hidden.
        """
        device, blocks = tokens.real.device, self._blocks(tokens)
        own = torch.arange(1, min(count, blocks - 1), device=device)
        first, last = torch.zeros_like(own), torch.full_like(own, blocks - 1)
        others = [first, own - 1, own, own + 1, *([last] if count == blocks else [])]
        table = torch.stack(others, dim=1)[:, None]  # (middle, 1, 4 or 5)
        weight = torch.zeros(table.shape, device=device)
        weight[:1, :, 1] = LOW  # this neighbour is the first block
        weight[blocks - 3 :, :, 3] = LOW  # and that the last
        drawn = self._drawn(blocks, seeded=tokens.seeded)
        if drawn is None:
            weight[..., 0] = math.log(1 + self.num_random_blocks)
        else:
            drawn = drawn.to(device).transpose(0, 1)[: len(own)]  # (middle, heads, num_random_blocks)
            table = torch.cat([table.expand(-1, drawn.shape[1], -1), drawn], dim=2)
            weight = pad(weight, (0, drawn.shape[2])).expand(table.shape)
        gone = table >= count
        return table.masked_fill(gone, 0), weight.masked_fill(gone, LOW)

    def _drawn(self, count: int, *, seeded: bool) -> torch.Tensor | None:
        heads, chosen = self.num_attention_heads, self.num_random_blocks
        if seeded:
            return draw(self.seed, heads, count, chosen)
        if not self.training:
            return None
        return library_blocks(self.seed, heads, count, chosen, self.block_size, self.max_seqlen)


class BigBirdLayer(library.BigBirdLayer):
    """The same layer, its feed-forward part in pieces."""

    def feed_forward_chunk(self, attention_output: torch.Tensor) -> torch.Tensor:
        """(rows, tokens, hidden) -> the same shape."""
        return in_pieces(super().feed_forward_chunk, attention_output)


class BigBirdModel(library.BigBirdModel):
    """The same model; it is not padded but cut, and a short input leaves it as it is."""

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
        **_,
    ):
        """As transformers' model, but not computed where all rows are padding at the end: zeros there.

        Raises Unavailable where attention maps are asked for.
        """
        refuse_maps(self, output_attentions)
        states = self.embeddings(
            input_ids=input_ids, token_type_ids=token_type_ids, position_ids=position_ids, inputs_embeds=inputs_embeds
        )
        mask = torch.ones_like(states[..., 0]) if attention_mask is None else attention_mask
        config, length = self.config, states.shape[1]
        kept = min(length, -(-used(mask) // config.block_size) * config.block_size)
        states, real = states[:, :kept], mask[:, :kept] > 0
        tokens = Tokens(
            real=real,
            length=length,
            few=length <= (5 + 2 * config.num_random_blocks) * config.block_size,
            dropout=config.attention_probs_dropout_prob if self.training else 0.0,
            seeded=getattr(config, "seeded_blocks", False),
        )
        levels = (states,) if keeps_levels(self, output_hidden_states) else None
        for layer in self.encoder.layer:
            states = layer(states, blocked_encoder_mask=tokens)
            levels = levels and (*levels, states)
        states, *levels = (pad(level, (0, 0, 0, length - kept)) for level in (states, *(levels or ())))
        pooled = None if self.pooler is None else self.activation(self.pooler(states[:, 0]))
        return BaseModelOutputWithPoolingAndCrossAttentions(
            last_hidden_state=states, pooler_output=pooled, hidden_states=tuple(levels) or None
        )


@lru_cache(maxsize=256)
def draw(layer: int, heads: int, count: int, chosen: int) -> torch.Tensor:
    """(heads, count - 2, chosen): blocks of `count`, distinct and outside the window and the first and last, for the
    query blocks 1 to count - 2. Fixed by the layer's number.
    """
    own, other = torch.arange(1, count - 1)[:, None], torch.arange(count)
    taken = ((own - other).abs() <= 1) | (other == 0) | (other == count - 1)
    noise = torch.rand(heads, count - 2, count, generator=torch.Generator().manual_seed(layer))
    return noise.masked_fill(taken, -1).topk(chosen, dim=2).indices


@lru_cache(maxsize=256)
def library_blocks(layer: int, heads: int, count: int, chosen: int, size: int, longest: int) -> torch.Tensor:
    """(heads, count - 2, chosen): the blocks that transformers draws in training for an input of count x size tokens.

    Its own functions draw them, from NumPy's global generator, which is put back as it was.
    """
    theirs, tokens = library.BigBirdBlockSparseAttention, count * size
    layer_like = SimpleNamespace(training=True, _get_single_block_row_attention=theirs._get_single_block_row_attention)
    before = np.random.get_state()
    try:
        np.random.seed(layer)
        if tokens in (1024, 3072, 4096):  # the plans of the paper
            sizes = (longest, longest, size, size, chosen)
            found = [theirs._bigbird_block_rand_mask(layer_like, *sizes, last_idx=1024) for _ in range(heads)]
            found = [rows[: count - 2] for rows in found]
        else:
            plan = theirs._get_rand_attn_plan(tokens, size, chosen)
            sizes = (tokens, tokens, size, size, heads)
            found = theirs._bigbird_block_rand_mask_with_head(layer_like, *sizes, *plan)
    finally:
        np.random.set_state(before)
    return torch.from_numpy(np.stack(found)).long()


QUICK = {
    library.BigBirdModel: BigBirdModel,
    library.BigBirdLayer: BigBirdLayer,
    library.BigBirdBlockSparseAttention: BigBirdBlockSparseAttention,
}
