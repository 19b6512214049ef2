"""The number of parameters of a model, computed from its dimensions; exact for every kind of student. No torch.

H hidden, I intermediate, E embedding, V vocabulary, P positions, T token types, L layers. Weights that a head shares
with the embeddings count once, and the pooler of an encoder counts only where the head keeps it.
"""

import json
from pathlib import Path
from typing import NamedTuple

from trainer.spec import Change
from trainer.zoo.compatibility import Shape
from trainer.zoo.outputs import HEADS, VOCABULARY
from trainer.zoo.weights import WEIGHTS

TOKEN_TYPES = {"bert": 2, "roberta": 1, "distilbert": 0, "longformer": 2, "big_bird": 2}  # where a config does not say
MINIALBERT_TOKEN_TYPES, REDUCTION = 2, 16  # the defaults of its config


class Size(NamedTuple):
    """All parameters, and those of the embeddings, which are often half of a small model."""

    total: int
    embeddings: int


def size(shape: Shape, *, head: str, labels: int = 0, change: Change | None = None) -> Size | None:
    """The parameters of a model of this shape with its head (zoo.outputs); None for an unknown architecture."""
    if shape.model_type == "minialbert":
        return _minialbert(shape, head, labels, (change and change.embedding) or shape.hidden)
    if shape.model_type not in TOKEN_TYPES:
        return None
    hidden, types = shape.hidden, shape.token_types
    tables = shape.vocabulary + shape.positions + (TOKEN_TYPES[shape.model_type] if types is None else types)
    embeddings = tables * hidden + 2 * hidden
    projections = 7 if shape.model_type == "longformer" else 4  # three more for its global tokens
    layer = projections * _linear(hidden, hidden) + _feed_forward(hidden, shape.intermediate) + 4 * hidden
    pooler = _linear(hidden, hidden) if shape.model_type == "big_bird" else 0  # kept under any head
    body = embeddings + shape.layers * layer + pooler
    return Size(body + _head(head, hidden, shape.vocabulary, labels), embeddings)


def stored_parameters(folder: str | Path) -> int | None:
    """The parameters in a model's weights file, including those that a task does not use; None if unreadable."""
    try:
        with (Path(folder) / WEIGHTS).open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    except (OSError, ValueError):
        return None
    shapes = [tensor["shape"] for name, tensor in header.items() if name != "__metadata__"]
    return sum(_product(shape) for shape in shapes)


def _minialbert(shape: Shape, head: str, labels: int, width: int) -> Size:
    """One shared layer, two adapters per recursion, embeddings of their own width and an untied decoder."""
    hidden, inner = shape.hidden, shape.hidden // REDUCTION
    embeddings = (shape.vocabulary + shape.positions + MINIALBERT_TOKEN_TYPES) * width + 2 * width
    projector = _linear(width, hidden) if width != hidden else 0
    shared = 4 * _linear(hidden, hidden) + _feed_forward(hidden, shape.intermediate) + 4 * hidden
    pooler = _linear(hidden, hidden)
    adapter = _linear(hidden, inner) + _linear(inner, hidden) + 2 * hidden
    untied = shape.vocabulary * hidden if HEADS[head] is VOCABULARY else 0
    body = embeddings + projector + shared + pooler + 2 * shape.layers * adapter
    # Its classifier has no layer below the output.
    top = _linear(hidden, labels) if HEADS[head].labelled else _head(head, hidden, shape.vocabulary, labels)
    return Size(body + top + untied, embeddings)


def _head(head: str, hidden: int, vocabulary: int, labels: int) -> int:
    if HEADS[head].predicts == "tags":
        return _linear(hidden, labels)
    if HEADS[head].predicts == "labels":  # a pooler of BERT's, or a dense layer in its place
        return _linear(hidden, hidden) + _linear(hidden, labels)
    return _linear(hidden, hidden) + 2 * hidden + vocabulary  # transform, norm, and the bias of the tied decoder


def _feed_forward(hidden: int, intermediate: int) -> int:
    return _linear(hidden, intermediate) + _linear(intermediate, hidden)


def _linear(inputs: int, outputs: int) -> int:
    return inputs * outputs + outputs


def _product(shape: list[int]) -> int:
    count = 1
    for length in shape:
        count *= length
    return count
