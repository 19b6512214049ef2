"""A BERT or a RoBERTa made to read long text: the same weights as a Longformer, whose tokens see a sliding window.

The recipe of Beltagy, Peters and Cohan 2020 (section 5): positions are repeated up to the new length, and the
projections of global tokens start as copies of the local ones. As long as all tokens are within half a window of each
other the new model says what its base says; beyond that it needs training on long text.
"""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from transformers import LongformerConfig, PreTrainedModel

from trainer.errors import BadSpec

WINDOW = 512  # pieces that a token sees in a layer, half on either side: Longformer's own
SAME = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "hidden_act",
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "type_vocab_size",
    "initializer_range",
    "layer_norm_eps",
    "pad_token_id",
    "tie_word_embeddings",
)
# What a BERT's masked-LM head calls the parts that a Longformer has as a RoBERTa has them.
HEAD = {
    "cls.predictions.transform.dense": "lm_head.dense",
    "cls.predictions.transform.LayerNorm": "lm_head.layer_norm",
    "cls.predictions.decoder": "lm_head.decoder",
    "cls.predictions.bias": "lm_head.bias",
}
# And a BERT that labels texts: its pooler is the first layer of a Longformer's head, both with a tanh behind it.
CLASSIFIER = {"bert.pooler.dense": "classifier.dense", "classifier": "classifier.out_proj"}


def lengthened_config(base: Any, tokenizer: Any, *, max_tokens: int, window: int | None = None) -> LongformerConfig:
    """The configuration of what `lengthen` makes; base: a BERT's or RoBERTa's."""
    config = LongformerConfig(
        **{name: getattr(base, name) for name in SAME},
        attention_window=[window or WINDOW] * base.num_hidden_layers,
        max_position_embeddings=max_tokens + base.pad_token_id + 1,  # a Longformer counts from pad_token_id + 1
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        sep_token_id=tokenizer.sep_token_id,
    )
    config.id2label, config.label2id = base.id2label, base.label2id
    return config


def lengthen(base: PreTrainedModel, target: PreTrainedModel, tokenizer: Any, *, max_tokens: int) -> Any:
    """Fill `target`, a Longformer with the head of `base`, from base; gives the tokenizer with its new limit.

    Raises BadSpec where the masked-LM head of base has another activation than a Longformer's.
    """
    if hasattr(target, "lm_head") and base.config.hidden_act != "gelu":
        problem = f"its masked-LM head computes with {base.config.hidden_act}, a Longformer's with gelu"
        raise BadSpec([("student.attention", problem)], next_step="Choose another base.")
    own = target.state_dict()
    names = HEAD | (CLASSIFIER if "classifier.out_proj.weight" in own and base.config.model_type == "bert" else {})
    weights = {_renamed(name, base, names): tensor for name, tensor in base.state_dict().items()}
    for name in list(weights):
        for part in ("query", "key", "value"):
            if f".attention.self.{part}." in name:
                weights[name.replace(f".{part}.", f".{part}_global.")] = weights[name]
    table = next(name for name in own if name.endswith("position_embeddings.weight"))
    weights[table] = _repeated(base, rows=max_tokens, first=target.config.pad_token_id + 1)
    if "lm_head.bias" in weights:
        weights["lm_head.decoder.bias"] = weights["lm_head.bias"]
    target.load_state_dict({name: weights[name] for name in own})
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.model_max_length = max_tokens
    return tokenizer


def _renamed(name: str, base: PreTrainedModel, names: Mapping[str, str]) -> str:
    for theirs, ours in names.items():
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    prefix = f"{base.base_model_prefix}."
    return f"longformer.{name.removeprefix(prefix)}" if name.startswith(prefix) else name


def _repeated(base: PreTrainedModel, *, rows: int, first: int) -> torch.Tensor:
    """(first + rows, hidden): the base's positions over and over from row `first` on; zeros before it."""
    table = base.base_model.embeddings.position_embeddings
    kept = table.weight if table.padding_idx is None else table.weight[table.padding_idx + 1 :]
    new = table.weight.new_zeros(first + rows, table.weight.shape[1])
    new[first:] = kept[torch.arange(rows) % len(kept)]
    return new
