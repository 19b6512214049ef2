"""MiniALBERT: one transformer layer applied several times, with small adapters for each recursion.

Nouriborji et al. 2023, "MiniALBERT: Model Distillation via Parameter-Efficient Recursive Transformers". The names of
modules are those of the published files. B: rows, n: tokens, E: embedding size, H: hidden size, V: vocabulary size.
"""

from typing import Any

import torch
from huggingface_hub.dataclasses import strict
from torch import nn
from transformers import (
    AttentionInterface,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.activations import ACT2FN
from transformers.masking_utils import create_bidirectional_mask
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import (
    BaseModelOutput,
    MaskedLMOutput,
)
from transformers.utils import can_return_tuple
from transformers.utils.output_capturing import capture_outputs

from trainer.architectures.layer_outputs import attention_of

# transformers looks for this name in the code of a model whose attention function may be set.
ALL_ATTENTION_FUNCTIONS = AttentionInterface()


@strict
class MiniAlbertConfig(PreTrainedConfig):
    """Sizes of a MiniALBERT; the defaults are ClinicalMiniALBERT's. `num_hidden_layers` counts the recursions.

    Other fields of published configs are left over from ALBERT and have no effect. Raises ValueError for more than one
    group of layers, and for sizes that are not divisible as required.
    """

    model_type = "minialbert"

    vocab_size: int = 28996
    embedding_size: int = 312
    hidden_size: int = 768
    num_hidden_layers: int = 6
    num_hidden_groups: int = 1
    inner_group_num: int = 1
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: int | float = 0.1
    attention_probs_dropout_prob: int | float = 0.1
    classifier_dropout: int | float | None = None  # of the task heads; None: hidden_dropout_prob
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    use_adapter: bool = True
    reduction_factor: int = 16  # hidden size / inner size of an adapter
    pad_token_id: int | None = 0
    tie_word_embeddings: bool = False

    def validate_architecture(self) -> None:
        """Part of `@strict` validation."""
        if (self.num_hidden_groups, self.inner_group_num) != (1, 1):
            raise ValueError("MiniALBERT has one group of one layer; num_hidden_groups and inner_group_num must be 1.")
        for name in ("num_attention_heads", "reduction_factor"):
            if getattr(self, name) < 1 or self.hidden_size % getattr(self, name):
                raise ValueError(f"hidden_size {self.hidden_size} is not a multiple of {name} {getattr(self, name)}.")


class Embeddings(nn.Module):
    """Word + position + token type, LayerNorm, dropout."""

    def __init__(self, config: MiniAlbertConfig):
        super().__init__()
        width = config.embedding_size
        self.word_embeddings = nn.Embedding(config.vocab_size, width, padding_idx=config.pad_token_id)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, width)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, width)
        self.LayerNorm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(
        self,
        input_ids: torch.Tensor | None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Ids (B, n), or the word embeddings themselves (B, n, E); returns (B, n, E)."""
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("Give either input_ids or inputs_embeds.")
        words = self.word_embeddings(input_ids) if inputs_embeds is None else inputs_embeds
        if position_ids is None:
            position_ids = torch.arange(words.shape[1], device=words.device)[None]  # (1, n)
        if token_type_ids is None:
            token_type_ids = torch.zeros_like(position_ids)
        summed = words + self.position_embeddings(position_ids) + self.token_type_embeddings(token_type_ids)
        return self.dropout(self.LayerNorm(summed))


class Attention(nn.Module):
    """Multi-head self-attention with a post-norm residual: LN(x + dropout(W_o MHA(x)))."""

    def __init__(self, config: MiniAlbertConfig):
        super().__init__()
        self.config = config
        self.head_width = config.hidden_size // config.num_attention_heads
        self.is_causal = False
        self.query, self.key, self.value, self.dense = (
            nn.Linear(config.hidden_size, config.hidden_size) for _ in range(4)
        )
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(
        self, states: torch.Tensor, attention_mask: torch.Tensor | None, **options: Any
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """states: (B, n, H); returns the new states and the attention map (B, heads, n, n), None if fused."""
        cut = (*states.shape[:-1], -1, self.head_width)
        query, key, value = (part(states).view(cut).transpose(1, 2) for part in (self.query, self.key, self.value))
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(attention_of(self.config) or "eager", _attend_with_map)
        dropout = self.config.attention_probs_dropout_prob if self.training else 0.0
        context, attention_map = attend(
            self, query, key, value, attention_mask, dropout=dropout, scaling=self.head_width**-0.5, **options
        )
        return self.LayerNorm(states + self.dropout(self.dense(context.reshape(states.shape)))), attention_map


def _attend_with_map(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    *,
    scaling: float,
    dropout: float,
    **_: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention that returns its map: the "eager" attention that transformers leaves to each model."""
    scores = query @ key.transpose(2, 3) * scaling
    shares = torch.softmax(scores if mask is None else scores + mask, dim=-1)
    shares = nn.functional.dropout(shares, dropout, module.training)
    return (shares @ value).transpose(1, 2).contiguous(), shares


class SharedLayer(GradientCheckpointingLayer):
    """The one transformer layer. Its residual paths carry the outputs of the adapters, not their inputs."""

    def __init__(self, config: MiniAlbertConfig):
        super().__init__()
        self.attention = Attention(config)
        self.ffn = nn.Linear(config.hidden_size, config.intermediate_size)
        self.activation = ACT2FN[config.hidden_act]
        self.ffn_output = nn.Linear(config.intermediate_size, config.hidden_size)
        self.full_layer_layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(
        self,
        states: torch.Tensor,
        attention_mask: torch.Tensor | None,
        att_adapter: nn.Module,
        mlp_adapter: nn.Module,
        **options: Any,
    ) -> torch.Tensor:
        """One recursion with its two adapters: states (B, n, H) to the next states (B, n, H)."""
        attended, _ = self.attention(att_adapter(states), attention_mask, **options)
        adapted = mlp_adapter(attended)
        inner = self.ffn_output(self.activation(self.ffn(adapted)))
        return self.full_layer_layer_norm(adapted + self.dropout(inner))


class Adapter(nn.Module):
    """A residual bottleneck: LN(W_up GELU(W_down z) + z)."""

    def __init__(self, config: MiniAlbertConfig):
        super().__init__()
        width, inner = config.hidden_size, config.hidden_size // config.reduction_factor
        self.block = nn.Sequential(nn.Linear(width, inner), nn.GELU(), nn.Linear(inner, width))
        self.norm = nn.LayerNorm(width, eps=config.layer_norm_eps)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """states: (B, n, H); the output has the same shape."""
        return self.norm(self.block(states) + states)


class AlbertShell(nn.Module):
    """The modules of an ALBERT under its names: embeddings, one shared layer, and an unused pooler."""

    def __init__(self, config: MiniAlbertConfig):
        super().__init__()
        self.embeddings = Embeddings(config)
        group = nn.ModuleDict({"albert_layers": nn.ModuleList([SharedLayer(config)])})
        self.encoder = nn.ModuleDict({"albert_layer_groups": nn.ModuleList([group])})
        self.pooler = nn.Linear(config.hidden_size, config.hidden_size)

    @property
    def layer(self) -> SharedLayer:
        """The layer that every recursion applies."""
        groups: Any = self.encoder["albert_layer_groups"]
        layer: SharedLayer = groups[0]["albert_layers"][0]
        return layer


class MiniAlbertPreTrainedModel(PreTrainedModel):
    """Base class of MiniAlbertModel and of the models with a head."""

    config: MiniAlbertConfig
    config_class = MiniAlbertConfig
    base_model_prefix = "albert"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _no_split_modules = ["SharedLayer"]
    _can_record_outputs = {"hidden_states": SharedLayer, "attentions": Attention}
    _keys_to_ignore_on_load_unexpected = [r"embeddings\.position_ids$"]  # a buffer in published files

    def get_input_embeddings(self) -> nn.Module:
        """The word embeddings, V x E."""
        return self._embeddings.word_embeddings

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the word embeddings."""
        self._embeddings.word_embeddings = value

    @property
    def _embeddings(self) -> Any:
        body: Any = self.base_model  # torch types every submodule as a Module
        return body.albert.embeddings


class MiniAlbertModel(MiniAlbertPreTrainedModel):
    """The body: embeddings, projector to the hidden size, and the recursions."""

    def __init__(self, config: MiniAlbertConfig):
        super().__init__(config)
        factorised = config.embedding_size != config.hidden_size
        self.albert = AlbertShell(config)
        self.projector = nn.Linear(config.embedding_size, config.hidden_size) if factorised else nn.Identity()
        self.att_adapters, self.mlp_adapters = self.adapters(), self.adapters()
        self.post_init()

    @property
    def base_model(self) -> "MiniAlbertModel":
        """The body itself: its attribute `albert` is only the shell."""
        return self

    def adapters(self) -> nn.ModuleList:
        """One new adapter per recursion; identity modules without `use_adapter`."""
        kind = Adapter if self.config.use_adapter else nn.Identity
        return nn.ModuleList(kind(self.config) for _ in range(self.config.num_hidden_layers))

    @capture_outputs
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        **options: Any,
    ) -> BaseModelOutput:
        """The last states, (B, n, H), from ids and a mask, (B, n), 0 at padding.

        output_hidden_states adds the projected embeddings and the states after each recursion; output_attentions adds
        one map (B, heads, n, n) per recursion (eager attention only).
        """
        states = self.projector(self.albert.embeddings(input_ids, token_type_ids, position_ids, inputs_embeds))
        mask = create_bidirectional_mask(config=self.config, inputs_embeds=states, attention_mask=attention_mask)
        for att_adapter, mlp_adapter in zip(self.att_adapters, self.mlp_adapters, strict=True):
            states = self.albert.layer(states, mask, att_adapter, mlp_adapter, **options)
        return BaseModelOutput(last_hidden_state=states)


class MiniAlbertForMaskedLM(MiniAlbertPreTrainedModel):
    """Masked LM with a decoder of the full hidden width that is not tied to the embeddings."""

    def __init__(self, config: MiniAlbertConfig):
        super().__init__(config)
        self.albert = MiniAlbertModel(config)
        self.vocab_transform = nn.Linear(config.hidden_size, config.hidden_size)
        self.activation = nn.GELU()
        self.vocab_layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.vocab_projector = nn.Linear(config.hidden_size, config.vocab_size)
        self.post_init()

    def get_output_embeddings(self) -> nn.Linear:
        """The decoder, H to V."""
        return self.vocab_projector

    def set_output_embeddings(self, value: nn.Linear) -> None:
        """Replace the decoder."""
        self.vocab_projector = value

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        *,
        labels: torch.Tensor | None = None,
        **options: Any,
    ) -> MaskedLMOutput:
        """Logits (B, n, V); with labels (B, n), -100 where there is no label, also their mean cross-entropy."""
        body = self.albert(input_ids, attention_mask, return_dict=True, **options)
        hidden = self.activation(self.vocab_transform(body.last_hidden_state))
        logits = self.vocab_projector(self.vocab_layer_norm(hidden))
        loss = None if labels is None else self.loss_function(logits, labels, vocab_size=self.config.vocab_size)
        return MaskedLMOutput(loss=loss, logits=logits, hidden_states=body.hidden_states, attentions=body.attentions)
