"""One model from several of one shape: the average of their weights, also called a model soup.

Models trained from the same start with other seeds or settings mostly end in one basin of the loss. Their average then
does about as well as all of them together, and costs no more to run than one (Wortsman et al. 2022, "Model soups",
ICML, arXiv 2203.05482: the uniform soup). Models from different starts have no such average; the result's score tells.
"""

from collections.abc import Iterable

import torch
from transformers import PreTrainedModel

from trainer.errors import BadSpec


@torch.no_grad()
def average(models: Iterable[PreTrainedModel]) -> PreTrainedModel:
    """The first of the models, each of its parameters now the mean over all of them.

    They are taken one after the other, so only two are in memory at a time. What is no parameter, such as a table of
    position numbers, stays that of the first. BadSpec where one has other parameters than the first.
    """
    models = iter(models)
    mean = next(models)
    for count, other in enumerate(models, 2):
        theirs = dict(other.named_parameters())
        if _sizes(other) != _sizes(mean):
            raise BadSpec(
                [(f"model.{count - 1}", "its weights have other names or sizes than those of the first model")]
            )
        for name, parameter in mean.named_parameters():  # a tied one is there once
            parameter += (theirs[name] - parameter) / count
    return mean


def _sizes(model: PreTrainedModel) -> dict[str, torch.Size]:
    return {name: parameter.shape for name, parameter in model.named_parameters()}
