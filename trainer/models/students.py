"""A student made from a base model: fewer layers, narrower, a trimmed vocabulary, MiniALBERT, or a longer input.

Its weights start from those of the base where sizes allow, as in the published students.
"""

import copy
from collections.abc import Callable, Iterable
from typing import Any, cast

import torch
from transformers import CONFIG_MAPPING, PreTrainedConfig, PreTrainedModel

from trainer.architectures import quicken
from trainer.architectures.lengthening import lengthen, lengthened_config
from trainer.models import CLASSES, seeded
from trainer.models.heads import usable_positions
from trainer.recipes.layer_maps import layer_map
from trainer.spec import Change
from trainer.zoo import vocabulary
from trainer.zoo.compatibility import RESIZABLE, check_change, sizes
from trainer.zoo.vocabulary import Integers

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
    """A new model for the base's task with this change, and its tokenizer. `seed` seeds new weights.

    texts: the training texts, read only to trim the vocabulary to the pieces they use. Raises BadSpec if the change
    does not fit the base (compatibility.check_change).
    """
    check_change(change, sizes(base.config.to_dict()))
    retained_ids: Integers | None = None
    if change.vocabulary and change.vocabulary < base.config.vocab_size:
        retained_ids = vocabulary.select_pieces(
            vocabulary.count_pieces(texts(), tokenizer), tokenizer, size=change.vocabulary
        )
        tokenizer = vocabulary.trim(tokenizer, retained_ids)
    config = _config(base.config, change)
    if retained_ids is not None:
        config.vocab_size, config.pad_token_id = len(retained_ids), tokenizer.pad_token_id
    with seeded(seed):
        student = _class_like(base, config)(config)
    with torch.no_grad():
        _start(student, base, change, retained_ids)
    if change.attention:
        student, tokenizer = _lengthen(student, tokenizer, change)
    return quicken(student).eval(), tokenizer


def _lengthen(short: PreTrainedModel, tokenizer: Any, change: Change) -> tuple[PreTrainedModel, Any]:
    limit = change.max_tokens or usable_positions(_embeddings(short).position_embeddings)
    config = lengthened_config(short.config, tokenizer, max_tokens=limit, window=change.window)
    options = {"add_pooling_layer": False} if getattr(short, "pooler", short) is None else {}
    with seeded(0):  # every weight drawn here is replaced
        long = _class_like(short, config)(config, **options)
    with torch.no_grad():
        return long, lengthen(short, long, tokenizer, max_tokens=limit)


def _config(base: PreTrainedConfig, change: Change) -> PreTrainedConfig:
    intermediate = "hidden_dim" if hasattr(base, "hidden_dim") else "intermediate_size"  # DistilBERT's name for it
    widths = {
        "num_hidden_layers": change.layers,
        "hidden_size": change.hidden,
        "num_attention_heads": change.heads,
        intermediate: change.intermediate,
    }
    config = copy.deepcopy(base)
    for name, value in widths.items():
        if value:
            setattr(config, name, value)
    if change.layers and isinstance(getattr(base, "attention_window", None), list):  # one window per layer
        depth = len(base.attention_window)
        numbers = layer_map(change.layer_map, change.layers, depth) if change.start == "copy" else [1] * change.layers
        config.attention_window = [base.attention_window[number - 1] for number in numbers]
    return _minialbert(config, change, width=getattr(config, intermediate)) if change.architecture else config


def _minialbert(base: PreTrainedConfig, change: Change, *, width: int) -> PreTrainedConfig:
    shared = (
        "vocab_size",
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "max_position_embeddings",
        "pad_token_id",
    )
    fields: dict[str, Any] = {name: getattr(base, name) for name in shared}
    fields |= {"embedding_size": change.embedding or base.hidden_size, "intermediate_size": width}
    config = CONFIG_MAPPING["minialbert"](**fields)
    config.id2label, config.label2id = base.id2label, base.label2id
    return config


def _class_like(base: PreTrainedModel, config: PreTrainedConfig) -> type[PreTrainedModel]:
    """The class with the head of `base` for this configuration."""
    base_config = type(base.config)
    head = next(
        head for head, classes in CLASSES.items() if base_config in classes and isinstance(base, classes[base_config])
    )
    return CLASSES[head][type(config)]


def _start(student: PreTrainedModel, base: PreTrainedModel, change: Change, retained_ids: Integers | None) -> None:
    if change.start == "random":
        return
    _start_embeddings(student, base, retained_ids)
    if change.start == "copy":
        layers = _layers(base)
        chosen = layer_map(change.layer_map, student.config.num_hidden_layers, len(layers))
        for target, number in zip(_layers(student), chosen, strict=True):
            _copy_layer(target, layers[number - 1], FEED_FORWARD[base.config.model_type])
        if change.head == "copy":
            _start_head(student, base, retained_ids)


def _copy_layer(target: torch.nn.Module, source: torch.nn.Module, feed_forward: tuple[str, str]) -> None:
    """Copy the weights of a layer.

    A narrower feed-forward block keeps the neurons with the largest product of the norms of their incoming and outgoing
    weights, the magnitude criterion of structured pruning (Li et al. 2017).
    """
    weights, (inner, outer) = source.state_dict(), feed_forward
    into, out_of = weights[f"{inner}.weight"], weights[f"{outer}.weight"]  # (neurons, hidden), (hidden, neurons)
    width = len(target.get_parameter(f"{inner}.weight"))
    if width < len(into):
        strongest = (into.norm(dim=1) * out_of.norm(dim=0)).topk(width).indices.sort().values
        weights[f"{inner}.weight"], weights[f"{outer}.weight"] = into[strongest], out_of[:, strongest]
        weights[f"{inner}.bias"] = weights[f"{inner}.bias"][strongest]
    target.load_state_dict(weights)


def _start_embeddings(student: PreTrainedModel, base: PreTrainedModel, retained_ids: Integers | None) -> None:
    """Copy the base's embedding tables; a narrower student gets their principal components, which lose least."""
    embeddings, source = _embeddings(student), _embeddings(base)
    words: torch.Tensor = source.word_embeddings.weight  # (vocabulary, width)
    if retained_ids is not None:
        words = words[torch.from_numpy(retained_ids)]
    width = embeddings.word_embeddings.weight.shape[1]
    projection = None if width == words.shape[1] else _principal_directions(words, width)
    for name in TABLES:
        if hasattr(embeddings, name) and hasattr(source, name):
            table = words if name == "word_embeddings" else getattr(source, name).weight
            getattr(embeddings, name).weight.copy_(table if projection is None else table @ projection)
    if projection is None:
        embeddings.LayerNorm.load_state_dict(source.LayerNorm.state_dict())


def _principal_directions(table: torch.Tensor, width: int) -> torch.Tensor:
    """The directions in which the rows of a table vary most (principal component analysis), (hidden, width)."""
    centred = (table - table.mean(0)).double()
    _, _, directions = torch.linalg.svd(centred.T @ centred)
    return directions[:width].T.to(table.dtype)


def _start_head(student: PreTrainedModel, base: PreTrainedModel, retained_ids: Integers | None) -> None:
    """Copy the head, except weights tied to the embeddings; rows of dropped pieces are left out."""
    weights, encoder = student.state_dict(), student.base_model.state_dict()
    tied = {tensor.data_ptr() for name, tensor in encoder.items() if not name.startswith("pooler.")}
    for name, tensor in base.state_dict().items():
        target = weights.get(name)
        in_encoder = (
            name.startswith(f"{base.base_model_prefix}.") and ".pooler." not in name
        )  # a pooler is part of a head
        if in_encoder or target is None or target.data_ptr() in tied:
            continue
        if retained_ids is not None and len(tensor) == base.config.vocab_size:
            tensor = tensor[torch.from_numpy(retained_ids)]
        target.copy_(tensor)


def _layers(model: PreTrainedModel) -> torch.nn.ModuleList:
    layers = model.base_model.get_submodule(RESIZABLE[model.config.model_type])
    return cast(torch.nn.ModuleList, layers)  # torch types every submodule as a Module


def _embeddings(model: PreTrainedModel) -> Any:
    """The module with the embedding tables; its attributes are those of its architecture."""
    return next(module for module in model.base_model.modules() if hasattr(module, "word_embeddings"))
