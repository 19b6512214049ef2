"""Architectures that transformers lacks, and fast attention for long ones that it has. Needs torch.

Importing this package makes what is lacking known to transformers' Auto classes: an entry of ARCHITECTURES is a model
type and the function that registers its configuration and models. QUICK names the class that takes the place of one of
transformers', with the same parameters under the same names. Each stands on parts of transformers that are not public;
where one of them was renamed, that architecture alone is left out.
"""

import importlib
import logging
import os
from types import ModuleType
from typing import TypeVar

import torch
from transformers import PreTrainedModel
from transformers.activations import ACT2FN

from trainer.errors import UnknownName
from trainer.zoo.outputs import HEADS

log = logging.getLogger(__name__)


def available(name: str) -> ModuleType | None:
    """A module of this package; None, and a warning, where transformers no longer has what it is built on."""
    try:
        return importlib.import_module(f"{__name__}.{name}")
    except (ImportError, AttributeError) as error:
        log.warning("This version of transformers is not the one that %s was made for: %s", name, error)
        return None


ARCHITECTURES = {name: ours.register for name in ("minialbert",) if (ours := available(name))}
QUICK = dict(pair for name in ("longformer", "bigbird") if (ours := available(name)) for pair in ours.QUICK.items())
ATTENTION = ("fast", "transformers")
Network = TypeVar("Network", bound=PreTrainedModel)
NewGELU = type(ACT2FN["gelu_new"])

for register in ARCHITECTURES.values():
    register()


class GELUTanh(NewGELU):
    """The GELU of BigBird and ALBERT, `gelu_new`, as one operator: transformers writes eight, each over all states."""

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


def global_attention(model: torch.nn.Module, input_ids: torch.Tensor, head: str | None) -> dict[str, torch.Tensor]:
    """What a model's encoder is told of global tokens, to be passed to `base_model` besides ids and mask.

    Only a Longformer asks for it: the first token where `head` classifies a whole text, as transformers' own head does;
    no token for any other. input_ids: (rows, tokens).
    """
    if getattr(model.config, "model_type", "") != "longformer" or head is None or not HEADS[head].whole_text:
        return {}
    chosen = torch.zeros_like(input_ids)
    chosen[:, 0] = 1
    return {"global_attention_mask": chosen}
