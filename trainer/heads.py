"""The output layers alone, at the positions that count: a vocabulary head costs more than the encoder below it.

Each function equals the model's own forward pass from its last hidden states on, for any leading shape.
"""

import torch

from trainer.errors import Unavailable


def vocabulary_logits(model: torch.nn.Module, states: torch.Tensor) -> torch.Tensor:
    """The masked-LM head of a model at some positions: (positions, hidden) -> (positions, vocabulary).

    Knows the heads of BERT, MobileBERT and BigBird (`cls`), RoBERTa and Longformer (`lm_head`), ALBERT (`predictions`),
    DistilBERT and MiniALBERT (`vocab_*`) and ModernBERT (`head`, `decoder`). Raises Unavailable for any other.
    """
    for whole in ("cls", "lm_head", "predictions"):
        if hasattr(model, whole):
            return getattr(model, whole)(states)
    if hasattr(model, "vocab_projector"):
        hidden = model.activation(model.vocab_transform(states))
        return model.vocab_projector(model.vocab_layer_norm(hidden))
    if hasattr(model, "decoder") and hasattr(model, "head"):
        return model.decoder(model.head(states))
    raise _no_head(model, "masked-LM")


def classifier_logits(model: torch.nn.Module, states: torch.Tensor) -> torch.Tensor:
    """The token-classification head at some positions, with its dropout: (positions, hidden) -> (positions, labels).

    Raises Unavailable for a model without one.
    """
    if not hasattr(model, "classifier"):
        raise _no_head(model, "token-classification")
    if hasattr(model, "drop"):  # ModernBERT, which has a dense layer and a norm before it
        return model.classifier(model.drop(model.head(states)))
    return model.classifier(model.dropout(states))


def _no_head(model: torch.nn.Module, kind: str) -> Unavailable:
    return Unavailable(
        f"{type(model).__name__} has no {kind} head that this version knows.",
        next_step="Load the model with that head, or choose another architecture.",
    )
