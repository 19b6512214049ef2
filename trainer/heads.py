"""The output layers alone, at what counts: a vocabulary head costs more than the encoder below it.

Each *_logits function equals the model's own forward pass from its last hidden states on. What counts, the units of a
head, are masked pieces, the pieces that carry a word's tag, or whole documents, whose windows are pooled.
"""

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import torch
from torch.nn.functional import gelu, linear

from trainer.architectures import global_attention
from trainer.errors import Unavailable

IGNORED = -100


def encode(model: torch.nn.Module, batch: Mapping[str, torch.Tensor], **options: Any) -> Any:
    """The encoder's output for a batch; `options` are those of its forward pass."""
    return model.base_model(**inputs(model, batch), **options)


def encode_levels(
    model: torch.nn.Module, batch: Mapping[str, torch.Tensor], levels: Collection[int]
) -> dict[int, torch.Tensor]:
    """Hidden states (rows, tokens, hidden) of some levels: 0 the embedding output, k the output of layer k."""
    last = model.config.num_hidden_layers
    output = encode(model, batch, output_hidden_states=any(level != last for level in levels))
    return {level: output.last_hidden_state if level == last else output.hidden_states[level] for level in levels}


def inputs(model: torch.nn.Module, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What a forward pass of this model takes of a batch: the one place that knows."""
    given = {name: batch[name] for name in ("input_ids", "attention_mask")}
    return given | global_attention(model, given["input_ids"], "classification" if is_classifier(model) else "ner")


def is_classifier(model: torch.nn.Module) -> bool:
    """Whether a model has a head for whole documents."""
    return type(model).__name__.endswith("ForSequenceClassification")


class VocabularyProjection(NamedTuple):
    """The last step of a masked-LM head, one matrix product away from its logits."""

    hidden: torch.Tensor  # (positions, width)
    weight: torch.Tensor  # (vocabulary, width)
    bias: torch.Tensor | None  # (vocabulary,)


def vocabulary_projection(model: torch.nn.Module, states: torch.Tensor) -> VocabularyProjection:
    """The masked-LM head of a model at some positions, (positions, hidden), up to its last matrix product.

    Knows the heads of BERT, MobileBERT and BigBird (`cls`), RoBERTa and Longformer (`lm_head`), ALBERT (`predictions`),
    DistilBERT and MiniALBERT (`vocab_*`), ModernBERT and UltraBERT (`head`, `decoder`). Raises Unavailable
    for any other.
    """
    if hasattr(model, "cls"):
        head = model.cls.predictions
        hidden, weight = head.transform(states), head.decoder.weight
        if hasattr(head, "dense"):  # MobileBERT, whose embeddings are narrower than its states
            weight = torch.cat([weight, head.dense.weight.t()], dim=1)
        return VocabularyProjection(hidden, weight, head.decoder.bias)
    if hasattr(model, "lm_head"):
        head = model.lm_head
        return _last(head.decoder, head.layer_norm(gelu(head.dense(states))))
    if hasattr(model, "vocab_projector"):
        hidden = model.activation(model.vocab_transform(states))
        return _last(model.vocab_projector, model.vocab_layer_norm(hidden))
    if hasattr(model, "predictions"):
        head = model.predictions
        return _last(head.decoder, head.LayerNorm(head.activation(head.dense(states))))
    if hasattr(model, "decoder") and hasattr(model, "head"):
        if not hasattr(model.head, "decoder"):
            return _last(model.decoder, model.head(states))
        head = model.head  # UltraBERT, whose own `decoder` does nothing
        hidden = head.act_fn(head.linear2(head.act_fn(head.linear1(states))))
        return _last(head.decoder, hidden)
    raise _no_head(model, "masked-LM")


def _last(decoder: torch.nn.Linear, hidden: torch.Tensor) -> VocabularyProjection:
    return VocabularyProjection(hidden, decoder.weight, decoder.bias)


def vocabulary_logits(model: torch.nn.Module, states: torch.Tensor) -> torch.Tensor:
    """The masked-LM head of a model at some positions: (positions, hidden) -> (positions, vocabulary)."""
    return linear(*vocabulary_projection(model, states))


def classifier_logits(model: torch.nn.Module, states: torch.Tensor) -> torch.Tensor:
    """The token-classification head at some positions, with its dropout: (positions, hidden) -> (positions, labels).

    Raises Unavailable for a model without one.
    """
    if not hasattr(model, "classifier"):
        raise _no_head(model, "token-classification")
    if hasattr(model, "drop"):  # ModernBERT, which has a dense layer and a norm before it
        return model.classifier(model.drop(model.head(states)))
    return model.classifier(model.dropout(states))


def window_logits(model: torch.nn.Module, states: torch.Tensor) -> torch.Tensor:
    """The sequence-classification head on window_states, with its dropout: (windows, hidden) -> (windows, labels).

    Knows the heads of RoBERTa, Longformer and BigBird (`classifier.out_proj`), ModernBERT (`head`), DistilBERT
    (`pre_classifier`), BERT, MobileBERT and ALBERT (a pooler), and MiniALBERT. Raises Unavailable for any other.
    """
    if not is_classifier(model) or not hasattr(model, "classifier"):
        raise _no_head(model, "sequence-classification")
    if hasattr(model.classifier, "out_proj"):
        return model.classifier(states[:, None])
    if hasattr(model, "drop"):
        return model.classifier(model.drop(model.head(states)))
    if hasattr(model, "pre_classifier"):
        return model.classifier(model.dropout(model.pre_classifier(states).relu()))
    body = model.base_model
    if hasattr(body, "pooler_activation"):
        states = body.pooler_activation(body.pooler(states))
    elif hasattr(body, "pooler"):
        states = body.pooler(states[:, None])
    return model.classifier(model.dropout(states))


def window_states(model: torch.nn.Module, states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """What the head of a classifier looks at: (windows, tokens, hidden) -> (windows, hidden).

    The first token's state, or the mean of all real ones where a ModernBERT's config says so. mask: (windows, tokens).
    """
    if getattr(model.config, "classifier_pooling", "cls") == "mean":
        return (states * mask.unsqueeze(-1)).sum(dim=1) / mask.sum(dim=1, keepdim=True)
    return states[:, 0]


def pooled(values: torch.Tensor, owners: torch.Tensor, documents: int, *, how: str = "mean") -> torch.Tensor:
    """The mean, or the largest of each column, of the windows of each document: (windows, x) -> (documents, x).

    owners: (windows,), the document of each window; every document has one at least.
    """
    where = owners[:, None].expand_as(values)
    reduce = {"mean": "mean", "max": "amax"}[how]
    return values.new_zeros(documents, values.shape[1]).scatter_reduce(0, where, values, reduce, include_self=False)


def unit_states(model: torch.nn.Module, states: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """States of a batch at what counts: (rows, tokens, hidden) -> (units, hidden); of a document their mean."""
    if "owners" not in batch:
        return states.flatten(0, 1)[positions(batch)]
    found = window_states(model, states, batch["attention_mask"])
    return pooled(found, batch["owners"], len(batch["documents"]))


def unit_logits(
    model: torch.nn.Module, states: torch.Tensor, batch: Mapping[str, torch.Tensor], *, head: str
) -> torch.Tensor:
    """What a head says of a batch, from the last hidden states: (rows, tokens, hidden) -> (units, classes)."""
    if head != "classification":
        return {"mlm": vocabulary_logits, "ner": classifier_logits}[head](model, unit_states(model, states, batch))
    said = window_logits(model, window_states(model, states, batch["attention_mask"]))
    return pooled(said, batch["owners"], len(batch["documents"]), how=document_reading(model)["pooling"])


def unit_numbers(batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """The numbers of a batch's units in their data set, (units,): documents, or words that begin."""
    return batch["documents"] if "documents" in batch else batch["words"][batch["words"] >= 0]


def positions(batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Indices into the flattened (rows x tokens) of what counts: words that begin, or labels that are set."""
    marked = batch["words"] >= 0 if "words" in batch else batch["labels"] != IGNORED
    return marked.flatten().nonzero().squeeze(1)


def document_reading(model: torch.nn.Module) -> dict[str, Any]:
    """How a model was trained to read: reading and pooling of a classifier, max_tokens (None: it does not say)."""
    usual = {"reading": "windows", "pooling": "mean", "max_tokens": None}
    return usual | (getattr(model.config, "document_reading", None) or {})


def _no_head(model: torch.nn.Module, kind: str) -> Unavailable:
    return Unavailable(
        f"{type(model).__name__} has no {kind} head that this version knows.",
        next_step="Load the model with that head, or choose another architecture.",
    )
