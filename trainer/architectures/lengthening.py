"""Turns a BERT or a RoBERTa into a Longformer for long text: the same weights, with a sliding attention window.

The recipe of Beltagy, Peters and Cohan 2020 (section 5): positions are repeated up to the new length, and the
projections of global tokens start as copies of the local ones. If all tokens are within half a window of each other,
the new model computes what its base computes; longer input needs training on long text.
"""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from transformers import LongformerConfig, PreTrainedModel

from trainer.errors import BadSpec

WINDOW = 512  # pieces that a token sees in a layer, half on either side: Longformer's default
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
# Names in a BERT's masked-LM head, and in a Longformer's, which has those of a RoBERTa.
HEAD = {
    "cls.predictions.transform.dense": "lm_head.dense",
    "cls.predictions.transform.LayerNorm": "lm_head.layer_norm",
    "cls.predictions.decoder": "lm_head.decoder",
    "cls.predictions.bias": "lm_head.bias",
}
# The same for classifiers: a BERT's pooler is the first layer of a Longformer's head, both followed by a tanh.
CLASSIFIER = {"bert.pooler.dense": "classifier.dense", "classifier": "classifier.out_proj"}


def lengthened_config(base: Any, tokenizer: Any, *, max_tokens: int, window: int | None = None) -> LongformerConfig:
    """The configuration of the model that `lengthen` fills; base: the configuration of a BERT or RoBERTa."""
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
    """Fill `target`, a Longformer with the head of `base`, with base's weights; gives the tokenizer its new limit.

    Raises BadSpec if the masked-LM head of base has a different activation than a Longformer's.
    """
    if hasattr(target, "lm_head") and base.config.hidden_act != "gelu":
        problem = f"its masked-LM head uses {base.config.hidden_act}, a Longformer's uses gelu"
        raise BadSpec([("student.attention", problem)], next_step="Choose another base.")
    target_weights = target.state_dict()
    names = HEAD | (
        CLASSIFIER if "classifier.out_proj.weight" in target_weights and base.config.model_type == "bert" else {}
    )
    weights = {_renamed(name, base, names): tensor for name, tensor in base.state_dict().items()}
    for name in list(weights):
        for part in ("query", "key", "value"):
            if f".attention.self.{part}." in name:
                weights[name.replace(f".{part}.", f".{part}_global.")] = weights[name]
    table = next(name for name in target_weights if name.endswith("position_embeddings.weight"))
    weights[table] = _repeated(base, rows=max_tokens, first=target.config.pad_token_id + 1)
    if "lm_head.bias" in weights:
        weights["lm_head.decoder.bias"] = weights["lm_head.bias"]
    target.load_state_dict({name: weights[name] for name in target_weights})
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
    """The base's positions, repeated from row `first` on, with zeros before: (first + rows, hidden)."""
    encoder: Any = base.base_model
    table: torch.nn.Embedding = encoder.embeddings.position_embeddings
    used = table.weight if table.padding_idx is None else table.weight[table.padding_idx + 1 :]
    new = table.weight.new_zeros(first + rows, table.weight.shape[1])
    new[first:] = used[torch.arange(rows) % len(used)]
    return new
