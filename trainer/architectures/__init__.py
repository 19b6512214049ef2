"""Architectures that transformers lacks, and faster attention for two of its long-input architectures. Needs torch.

Importing this package registers the missing architectures with transformers' Auto classes: ARCHITECTURES maps a model
type to the function that registers its configuration and models. QUICK maps a class of transformers to its faster
replacement, which has the same parameters under the same names. Each uses private parts of transformers; if one of them
is renamed, only that architecture is left out.
"""

import importlib
import logging
import os
from collections.abc import Mapping
from types import ModuleType
from typing import TypeVar

import torch
from transformers import PreTrainedModel
from transformers.activations import ACT2FN

from trainer.errors import UnknownName
from trainer.zoo.outputs import HEADS

log = logging.getLogger(__name__)


def available(name: str) -> ModuleType | None:
    """Import a module of this package; logs a warning and returns None if transformers lacks a part that it uses."""
    try:
        return importlib.import_module(f"{__name__}.{name}")
    except (ImportError, AttributeError) as error:
        log.warning("%s does not support this version of transformers: %s", name, error)
        return None


ARCHITECTURES = {"minialbert": ours.register} if (ours := available("minialbert_heads")) else {}
QUICK = dict(pair for name in ("longformer", "bigbird") if (ours := available(name)) for pair in ours.QUICK.items())
ATTENTION = ("fast", "transformers")
Network = TypeVar("Network", bound=PreTrainedModel)
NewGELU = type(ACT2FN["gelu_new"])

for register in ARCHITECTURES.values():
    register()


class GELUTanh(NewGELU):  # type: ignore[valid-type, misc]  # a class that is looked up, because its name is private
    """`gelu_new`, the GELU of BigBird and ALBERT, as one operator instead of eight passes over all states."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """input: any shape; the output has the same."""
        return torch.nn.functional.gelu(input, approximate="tanh")


def quicken(model: Network) -> Network:
    """Switch a Longformer or a block-sparse BigBird to fast attention, and any model to a fast `gelu_new`; return it.

    STILLROOM_ATTENTION=transformers leaves models unchanged. Raises UnknownName for any other value but `fast`.
    """
    wanted = os.environ.get("STILLROOM_ATTENTION") or "fast"
    if wanted not in ATTENTION:
        raise UnknownName("STILLROOM_ATTENTION", wanted, ATTENTION)
    if wanted == "fast":
        sparse = getattr(model.config, "attention_type", "block_sparse") == "block_sparse"
        quick = {NewGELU: GELUTanh} | (QUICK if sparse else {})
        for module in model.modules():
            module.__class__ = quick.get(type(module), type(module))
    return model


def global_attention(
    model: torch.nn.Module, batch: Mapping[str, torch.Tensor], head: str | None
) -> dict[str, torch.Tensor]:
    """The argument that marks global tokens, to be passed to a model's encoder besides ids and mask.

    Only a Longformer takes it, and as in transformers' own heads the first token is global if `head` classifies a whole
    text, the first token and the question's if it answers one, and no token otherwise. batch: input_ids, or anything
    else of shape (rows, tokens) under that name, and question_mask of the same shape where there is a question.
    """
    if getattr(model.config, "model_type", "") != "longformer" or head is None:
        return {}
    ids = batch["input_ids"]
    if HEADS[head].predicts == "ends" and "question_mask" in batch:
        return {"global_attention_mask": batch["question_mask"].to(ids.dtype)}
    if not HEADS[head].whole_text and HEADS[head].predicts != "ends":
        return {}
    mask = torch.zeros_like(ids)
    mask[:, 0] = 1
    return {"global_attention_mask": mask}
