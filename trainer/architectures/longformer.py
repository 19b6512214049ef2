"""Longformer (Beltagy, Peters and Cohan 2020): transformers' classes with fast attention, for the same weights.

A token attends to a number of tokens on either side and to the global tokens. A global token, which has its own
projections, attends to all tokens, and all attend to it. The results equal those of transformers; there are no
attention maps.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch.nn.functional import pad
from transformers.models.longformer import modeling_longformer as library

from trainer.architectures.blocks import (
    LOW,
    Shared,
    Window,
    attend_blocks,
    in_pieces,
    keeps_levels,
    refuse_maps,
    used_length,
)
from trainer.architectures.dropout import drop


@dataclass(frozen=True)
class Tokens:
    """The tokens of a forward pass, shared by all layers: real (not padding) and flagged (global), (rows, tokens)."""

    real: torch.Tensor
    flagged: torch.Tensor

    @cached_property
    def most(self) -> int:
        """The largest number of global tokens in a row."""
        return int(self.flagged.sum(1).max())

    @cached_property
    def places(self) -> torch.Tensor:
        """The positions of the global tokens, (rows, most); rows with fewer are filled up with other positions."""
        return self.flagged.int().argsort(dim=1, descending=True, stable=True)[:, : self.most]

    @cached_property
    def there(self) -> torch.Tensor:
        """Which of these positions hold a global token, (rows, most)."""
        return self.flagged.gather(1, self.places)

    @cached_property
    def whole(self) -> bool:
        """Whether no token is padding."""
        return bool(self.real.all())

    @cached_property
    def shared(self) -> Shared:
        """The global tokens, which every other one sees."""
        return Shared(torch.zeros(self.there.shape, device=self.there.device).masked_fill(~self.there, LOW))

    @cached_property
    def windows(self) -> dict[int, Window]:
        """The windows created so far, by reach."""
        return {}

    def at(self, states: torch.Tensor) -> torch.Tensor:
        """The states at `places`: (rows, tokens, hidden) -> (rows, most, hidden)."""
        return states.gather(1, self.places[..., None].expand(-1, -1, states.shape[2]))

    def window(self, reach: int) -> Window:
        """The window of layers whose tokens attend to `reach` tokens on either side."""
        if reach not in self.windows:
            self.windows[reach] = self._window(reach)
        return self.windows[reach]

    def _window(self, reach: int) -> Window:
        device, tokens = self.real.device, self.real.shape[1]
        size = block_size(reach, tokens)
        count = -(-tokens // size)
        span = min(-(-reach // size), count - 1)
        keys = torch.arange((2 * span + 1) * size, device=device) - span * size
        far = (keys - torch.arange(size, device=device)[:, None]).abs() > reach  # (queries, keys)
        local = pad(self.real & ~self.flagged, (0, count * size - tokens))  # global tokens are among the shared keys
        return Window(
            size=size,
            span=span,
            bias=torch.zeros(local.shape, device=device).masked_fill(~local, LOW),
            inside=torch.zeros(far.shape, device=device).masked_fill(far, float("-inf")),
        )


class LongformerSelfAttention(library.LongformerSelfAttention):
    """The same six projections, with attention in blocks."""

    def forward(  # type: ignore[override]  # only LongformerModel below calls it, with Tokens as the mask
        self, hidden_states: torch.Tensor, attention_mask: Tokens, **_: Any
    ) -> tuple[torch.Tensor]:
        """hidden_states: (rows, tokens, hidden); returns the context of the same shape, zero at padding."""
        tokens, dropout = attention_mask, self.dropout if self.training else 0.0
        window = tokens.window(self.one_sided_attn_window_size)
        query, key, value = (part(hidden_states) for part in (self.query, self.key, self.value))
        others = [(tokens.shared, tokens.at(key), tokens.at(value))] if tokens.most else []
        spare = window.bias.shape[1] - query.shape[1]  # if this layer's blocks differ from those of the others
        length = query.shape[1]
        if spare:
            query, key, value = (pad(part, (0, 0, 0, spare)) for part in (query, key, value))
        context = attend_blocks(query, self.num_heads, window, (key, value), *others, dropout=dropout)
        context = context[:, :length]
        if not tokens.whole:
            context = context.masked_fill(~tokens.real[..., None], 0)
        if tokens.most:
            row, number = tokens.there.nonzero(as_tuple=True)
            at_global = self._global(hidden_states, tokens, dropout)[row, number]
            context = context.index_put((row, tokens.places[row, number]), at_global.to(context.dtype))
        return (context,)

    def _global(self, states: torch.Tensor, tokens: Tokens, dropout: float) -> torch.Tensor:
        """The context of the global tokens, (rows, most, hidden).

        Few queries meet all tokens, so the key projection is applied to the queries, and the value projection to the
        weighted means of the states: the same result without two more projections of every token.
        """
        heads, width, rows = self.num_heads, self.head_dim, len(states)
        query = self.query_global(tokens.at(states)).view(rows, tokens.most, heads, width)
        turn, shift = _by_head(self.key_global, heads)
        turned = torch.einsum("rghd,hde->rghe", query, turn.to(query.dtype))
        offset = torch.einsum("rghd,hd->rgh", query, shift.to(query.dtype))
        scores = (turned.flatten(1, 2) @ states.transpose(1, 2).to(turned.dtype) + offset.flatten(1)[..., None]).float()
        scores = (scores * width**-0.5).masked_fill(~tokens.real[:, None], LOW)  # (rows, most x heads, tokens)
        shares = torch.softmax(scores, dim=-1)
        shares = (drop(shares, dropout) if dropout else shares).to(turned.dtype)
        means = (shares @ states.to(turned.dtype)).view(rows, tokens.most, heads, -1)
        turn, shift = _by_head(self.value_global, heads)
        total = shares.sum(-1).view(rows, tokens.most, heads, 1)
        return (torch.einsum("rghe,hde->rghd", means, turn.to(means.dtype)) + total * shift.to(means.dtype)).flatten(2)


class LongformerLayer(library.LongformerLayer):
    """The same layer, with the feed-forward part in pieces."""

    def ff_chunk(self, attn_output: torch.Tensor) -> torch.Tensor:
        """(rows, tokens, hidden) -> the same shape."""
        return in_pieces(super().ff_chunk, attn_output)


class LongformerModel(library.LongformerModel):
    """The same model, padded to complete blocks only; no mask is quadratic in the number of tokens."""

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        global_attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        **_: Any,
    ) -> tuple[Any, ...] | library.LongformerBaseModelOutputWithPooling:
        """As transformers' model, but trailing padding that all rows share is not computed: its states are zero.

        Raises Unavailable if attention maps are requested.
        """
        refuse_maps(self, output_attentions)
        states = self.embeddings(
            input_ids=input_ids, position_ids=position_ids, token_type_ids=token_type_ids, inputs_embeds=inputs_embeds
        )
        mask = states.new_ones(states.shape[:2]) if attention_mask is None else attention_mask
        mask = mask if global_attention_mask is None else mask * (global_attention_mask + 1)
        windows = self.config.attention_window
        reach = (windows if isinstance(windows, int) else max(windows)) // 2
        change = padded_length(mask, reach) - mask.shape[1]  # once here instead of in every layer
        states, mask = pad(states, (0, 0, 0, change)), pad(mask, (0, change))
        tokens = Tokens(real=mask > 0, flagged=mask == 2)
        keeps = keeps_levels(self, output_hidden_states)
        collected = [states] if keeps else []
        for layer in self.encoder.layer:
            states = layer(states, attention_mask=tokens)[0]
            collected += [states] if keeps else []
        states = pad(states, (0, 0, 0, -change))
        pooled = None if self.pooler is None else self.pooler(states)
        levels = tuple(pad(level, (0, 0, 0, -change)) for level in collected) or None
        if return_dict is False:
            return (states, pooled, *([levels] if levels else []))
        return library.LongformerBaseModelOutputWithPooling(
            last_hidden_state=states, pooler_output=pooled, hidden_states=levels
        )


def block_size(reach: int, tokens: int) -> int:
    """The length of a block: half of `reach`, the tokens seen on one side; a short input is one block."""
    size = -(-reach // 2)
    return tokens if tokens <= 4 * size else size


def padded_length(mask: torch.Tensor, reach: int) -> int:
    """The length of the complete blocks that hold every real token of mask (rows, tokens)."""
    tokens = used_length(mask)
    size = block_size(reach, tokens)
    return -(-tokens // size) * size


def _by_head(projection: torch.nn.Linear, heads: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The weight, (heads, width, hidden), and the bias, (heads, width), of a projection."""
    return projection.weight.unflatten(0, (heads, -1)), projection.bias.unflatten(0, (heads, -1))


QUICK = {
    library.LongformerModel: LongformerModel,
    library.LongformerLayer: LongformerLayer,
    library.LongformerSelfAttention: LongformerSelfAttention,
}
