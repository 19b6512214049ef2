"""A student made from a base: fewer layers, narrower, a trimmed vocabulary, MiniALBERT's shared layer, or lengthened.

Where its weights start (the layer maps and the embeddings of the published students): section by section below.
"""

import copy
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from transformers import CONFIG_MAPPING, PreTrainedConfig, PreTrainedModel

from trainer.architectures import quicken
from trainer.architectures.lengthening import lengthen, lengthened_config
from trainer.models import CLASSES, seeded
from trainer.recipes.layer_maps import layer_map
from trainer.spec import Change
from trainer.zoo import vocabulary
from trainer.zoo.compatibility import STACKS, check_change, sizes

FEED_FORWARD = {
    "bert": ("intermediate.dense", "output.dense"),
    "roberta": ("intermediate.dense", "output.dense"),
    "distilbert": ("ffn.lin1", "ffn.lin2"),
    "longformer": ("intermediate.dense", "output.dense"),
}
TABLES = ("word_embeddings", "position_embeddings", "token_type_embeddings")


def make(
    base: PreTrainedModel, tokenizer: Any, change: Change, *, texts: Callable[[], Iterable[str]], seed: int = 0
) -> tuple[PreTrainedModel, Any]:
    """A new model of the base's task with this change, and its tokenizer. Fresh weights are fixed by `seed`.

    texts: the training texts, read only where the vocabulary is trimmed to what they use. Raises BadSpec where the
    change does not fit the base (pairing.check_change).
    """
    check_change(change, sizes(base.config.to_dict()))
    kept = None
    if change.vocabulary and change.vocabulary < base.config.vocab_size:
        kept = vocabulary.kept(vocabulary.used(texts(), tokenizer), tokenizer, size=change.vocabulary)
        tokenizer = vocabulary.trim(tokenizer, kept)
    config = _config(base.config, change)
    if kept is not None:
        config.vocab_size, config.pad_token_id = len(kept), tokenizer.pad_token_id
    with seeded(seed):
        student = _class_like(base, config)(config)
    with torch.no_grad():
        _start(student, base, change, kept)
    if change.attention:
        student, tokenizer = _lengthened(student, tokenizer, change)
    return quicken(student).eval(), tokenizer


def _lengthened(short: PreTrainedModel, tokenizer: Any, change: Change) -> tuple[PreTrainedModel, Any]:
    positions = short.base_model.embeddings.position_embeddings
    own = positions.num_embeddings - (0 if positions.padding_idx is None else positions.padding_idx + 1)
    limit = change.max_tokens or own
    config = lengthened_config(short.config, tokenizer, max_tokens=limit, window=change.window)
    options = {"add_pooling_layer": False} if getattr(short, "pooler", short) is None else {}
    with seeded(0):  # whatever is drawn is replaced
        long = _class_like(short, config)(config, **options)
    with torch.no_grad():
        return long, lengthen(short, long, tokenizer, max_tokens=limit)


def _config(base: PreTrainedConfig, change: Change) -> PreTrainedConfig:
    intermediate = "hidden_dim" if hasattr(base, "hidden_dim") else "intermediate_size"  # DistilBERT's name for it
    given = {
        "num_hidden_layers": change.layers,
        "hidden_size": change.hidden,
        "num_attention_heads": change.heads,
        intermediate: change.intermediate,
    }
    config = copy.deepcopy(base)
    for name, value in given.items():
        if value:
            setattr(config, name, value)
    if change.layers and isinstance(getattr(base, "attention_window", None), list):  # a layer keeps its own
        depth = len(base.attention_window)
        numbers = layer_map(change.layer_map, change.layers, depth) if change.start == "copy" else [1] * change.layers
        config.attention_window = [base.attention_window[number - 1] for number in numbers]
    return _minialbert(config, change, width=getattr(config, intermediate)) if change.architecture else config


def _minialbert(base: PreTrainedConfig, change: Change, *, width: int) -> PreTrainedConfig:
    same = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "max_position_embeddings")
    kept = {name: getattr(base, name) for name in (*same, "pad_token_id")}
    widths = {"embedding_size": change.embedding or base.hidden_size, "intermediate_size": width}
    config = CONFIG_MAPPING["minialbert"](**widths, **kept)
    config.id2label, config.label2id = base.id2label, base.label2id
    return config


def _class_like(base: PreTrainedModel, config: PreTrainedConfig) -> type[PreTrainedModel]:
    kind = type(base.config)
    head = next(head for head, classes in CLASSES.items() if kind in classes and isinstance(base, classes[kind]))
    return CLASSES[head][type(config)]


def _start(student: PreTrainedModel, base: PreTrainedModel, change: Change, kept: np.ndarray | None) -> None:
    if change.start == "random":
        return
    _start_embeddings(student, base, kept)
    if change.start == "copy":
        layers = _stack(base)
        chosen = layer_map(change.layer_map, student.config.num_hidden_layers, len(layers))
        for target, number in zip(_stack(student), chosen, strict=True):
            _copy_layer(target, layers[number - 1], FEED_FORWARD[base.config.model_type])
        if change.head == "copy":
            _start_head(student, base, kept)


def _copy_layer(target: torch.nn.Module, source: torch.nn.Module, feed_forward: tuple[str, str]) -> None:
    """The weights of a layer. Where the feed-forward block is narrower it keeps the neurons with the largest product of
    the norms of their ingoing and outgoing weights, the magnitude criterion of structured pruning (Li et al. 2017).
    """
    weights, (inner, outer) = source.state_dict(), feed_forward
    into, out_of = weights[f"{inner}.weight"], weights[f"{outer}.weight"]  # (neurons, hidden), (hidden, neurons)
    width = target.get_submodule(inner).out_features
    if width < len(into):
        strongest = (into.norm(dim=1) * out_of.norm(dim=0)).topk(width).indices.sort().values
        weights[f"{inner}.weight"], weights[f"{outer}.weight"] = into[strongest], out_of[:, strongest]
        weights[f"{inner}.bias"] = weights[f"{inner}.bias"][strongest]
    target.load_state_dict(weights)


def _start_embeddings(student: PreTrainedModel, base: PreTrainedModel, kept: np.ndarray | None) -> None:
    """The base's tables, row by row; narrower ones hold its principal components, so that few directions are lost."""
    mine, theirs = _embeddings(student), _embeddings(base)
    words = theirs.word_embeddings.weight if kept is None else theirs.word_embeddings.weight[torch.from_numpy(kept)]
    width = mine.word_embeddings.weight.shape[1]
    turn = None if width == words.shape[1] else _principal(words, width)
    for name in TABLES:
        if hasattr(mine, name) and hasattr(theirs, name):
            table = words if name == "word_embeddings" else getattr(theirs, name).weight
            getattr(mine, name).weight.copy_(table if turn is None else table @ turn)
    if turn is None:
        mine.LayerNorm.load_state_dict(theirs.LayerNorm.state_dict())


def _principal(table: torch.Tensor, width: int) -> torch.Tensor:
    """(hidden, width): the directions in which the rows of a table vary most, by singular values."""
    centred = (table - table.mean(0)).double()
    _, _, directions = torch.linalg.svd(centred.T @ centred)
    return directions[:width].T.to(table.dtype)


def _start_head(student: PreTrainedModel, base: PreTrainedModel, kept: np.ndarray | None) -> None:
    """What is above the encoder, except what is tied to the embeddings; rows of dropped pieces are left out."""
    own, encoder = student.state_dict(), student.base_model.state_dict()
    shared = {tensor.data_ptr() for name, tensor in encoder.items() if not name.startswith("pooler.")}
    for name, tensor in base.state_dict().items():
        target = own.get(name)
        below = name.startswith(f"{base.base_model_prefix}.") and ".pooler." not in name  # a pooler is part of a head
        if below or target is None or target.data_ptr() in shared:
            continue
        if kept is not None and len(tensor) == base.config.vocab_size:
            tensor = tensor[torch.from_numpy(kept)]
        target.copy_(tensor)


def _stack(model: PreTrainedModel) -> torch.nn.ModuleList:
    return model.base_model.get_submodule(STACKS[model.config.model_type])


def _embeddings(model: PreTrainedModel) -> torch.nn.Module:
    return next(module for module in model.base_model.modules() if hasattr(module, "word_embeddings"))
