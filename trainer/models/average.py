"""One model from several of the same shape: the average of their weights, also called a model soup.

Models fine-tuned from the same start with different seeds or settings mostly end in one basin of the loss. Their
average then does about as well as their ensemble, at the cost of one model (Wortsman et al. 2022, "Model soups", ICML,
arXiv 2203.05482: the uniform soup). Models from different starts have no useful average; its score shows that.
"""

from collections.abc import Iterable

import torch
from transformers import PreTrainedModel

from trainer.errors import BadSpec


@torch.no_grad()
def average(models: Iterable[PreTrainedModel]) -> PreTrainedModel:
    """The first of the models, with each parameter replaced by the mean over all of them.

    The models are read one by one, so only two are in memory at a time. Buffers, such as position ids, stay those of
    the first model. Raises BadSpec if the parameters of a model have different names or sizes than those of the first.
    """
    models = iter(models)
    mean = next(models)
    for count, other in enumerate(models, 2):
        parameters = dict(other.named_parameters())
        if _sizes(other) != _sizes(mean):
            raise BadSpec(
                [(f"model.{count - 1}", "its weights have different names or sizes than those of the first model")]
            )
        for name, parameter in mean.named_parameters():  # tied parameters appear once
            parameter.add_((parameters[name] - parameter) / count)
    return mean


def _sizes(model: PreTrainedModel) -> dict[str, torch.Size]:
    return {name: parameter.shape for name, parameter in model.named_parameters()}
