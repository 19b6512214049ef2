"""What the outputs of a loaded model stand for: its head, task, tags, attributes and labels."""

from typing import Any

import torch

from trainer.datasets import attributes
from trainer.datasets.attributes import Attribute
from trainer.datasets.tags import DECODING, Tags
from trainer.datasets.tags import read as read_tags
from trainer.errors import BadSpec
from trainer.tasks import TASKS
from trainer.zoo import outputs
from trainer.zoo.outputs import HEADS, SEVERAL, check_predicts_labels, head_of_model, task_of_head

THRESHOLD = 0.5  # minimum probability of a label where a document may have several, and training chose no other
THRESHOLDS = "label_thresholds"  # in a config.json: by label
FINE_TUNE = "Choose a model that was fine-tuned for this, or fine-tune this one first."


def tag_names(model: torch.nn.Module) -> list[str]:
    """The model's tags by output index, as its config names them. Raises what tags_of raises."""
    return list(tags_of(model).names)


def tags_of(model: torch.nn.Module) -> Tags:
    """The tagging scheme of a model. Raises BadSpec if its head does not tag entities or its labels are not tags."""
    if TASKS[task(model)].predicts != "tags":
        raise BadSpec([("model", f"it has no head for named entities ({describe(model)})")], next_step=FINE_TUNE)
    return read_tags(output_names(model))


def attributes_of(model: torch.nn.Module) -> tuple[Attribute, ...]:
    """The attributes of spans that a tagger gives. Raises what tags_of raises."""
    kinds = tags_of(model).kinds
    return attributes.read(output_names(model), getattr(model.config, attributes.CARRIERS, {}), kinds)


def decodes_together(model: torch.nn.Module) -> bool:
    """Whether the tags of a text are decoded together, as its config says: only tags in IOB2 can be."""
    return getattr(model.config, DECODING, None) == "viterbi" and tags_of(model).scheme == "IOB2"


def head(model: torch.nn.Module) -> str:
    """The name of the model's head (zoo.outputs). Raises BadSpec for a head without labels."""
    name = head_of_model(model)
    if name is None or not HEADS[name].labelled:
        what = f"it has no head for named entities or whole documents ({describe(model)})"
        raise BadSpec([("model", what)], next_step=FINE_TUNE)
    if TASKS[_task(name, model)].predicts == "labels":
        check_predicts_labels(getattr(model.config, "problem_type", None), output_names(model))
    return name


def task(model: torch.nn.Module) -> str:
    """The task of a model, which determines what its predictions contain. Raises what `head` raises."""
    return _task(head(model), model)


def _task(name: str, model: torch.nn.Module) -> str:
    """The task of a model with the labelled head of this name."""
    task = task_of_head(name, vars(model.config))
    assert task is not None, "a head with labels has a task"
    return task


def output_names(model: torch.nn.Module) -> list[str]:
    """The tags or labels that the outputs of a model's head stand for, in order."""
    config: Any = model.config  # which torch takes for a tensor or module
    id2label: dict[int, str] = config.id2label
    return [id2label[index] for index in range(len(id2label))]


def label_set(model: torch.nn.Module) -> tuple[str, ...]:
    """The entity types or document labels that a model knows, sorted. Raises what `head` raises."""
    return outputs.label_set(task(model), output_names(model))


def is_multi_label(model: torch.nn.Module) -> bool:
    """Whether a document classifier may give a document several labels."""
    return getattr(model.config, "problem_type", None) == SEVERAL


def thresholds(model: torch.nn.Module) -> dict[str, float]:
    """The probability from which a document has each label, of a model that may give it several.

    They are those that training chose on dev (the field THRESHOLDS of its config), otherwise THRESHOLD.
    """
    stated = getattr(model.config, THRESHOLDS, None)
    return dict.fromkeys(output_names(model), THRESHOLD) | (stated if isinstance(stated, dict) else {})


def describe(model: torch.nn.Module) -> str:
    """The class of a model, in words."""
    return f"it is a {type(model).__name__}"
