"""A model's outputs for a batch, from its own forward pass: logits and hidden states of the units that are scored.

The units of a head are masked pieces, the pieces that carry a word's tag, whole documents, whose windows are pooled, or
the two ends of the answer in each window.
No head is reimplemented here, so training and inference compute the same function. A hook between encoder and head
collects hidden states. A vocabulary head costs more than the encoder below it: if a check has shown that a head treats
each position alone, the hook passes on the scored positions only.
"""

from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch.func import functional_call
from torch.nn.functional import linear
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from trainer.architectures import global_attention
from trainer.errors import Unavailable
from trainer.zoo.outputs import HEADS, VOCABULARY, head_of_model

IGNORED = -100
_NEVER = -1e9  # the logit of a place that is not allowed; finite, so that a divergence has no NaN
_TOLERANCE = 1e-3  # of the largest logit: rounding depends on shapes, but an omitted step changes far more


class VocabularyProjection(NamedTuple):
    """The last step of a masked-LM head, one matrix product away from its logits."""

    hidden: torch.Tensor  # (positions, width)
    weight: torch.Tensor  # (vocabulary, width)
    bias: torch.Tensor | None  # (vocabulary,)


class HeadOutput(NamedTuple):
    """The result of one forward pass.

    states: by level, 0 the embedding output and k the output of layer k, each (rows, tokens, hidden).
    logits: (units, classes), or the projection that computes them; None if they were not needed.
    """

    states: Mapping[int, torch.Tensor]
    logits: torch.Tensor | VocabularyProjection | None


def forward(
    model: PreTrainedModel,
    batch: Mapping[str, torch.Tensor],
    *,
    head: str,
    levels: Collection[int] = (),
    needs_logits: bool = True,
) -> HeadOutput:
    """Run the model on a batch: the hidden states of some levels, and the logits of each unit.

    needs_logits: False computes the encoder alone. Raises Unavailable for a model without this head, and if a level
    does not have one state per word piece.
    """
    where = None if HEADS[head].whole_text or HEADS[head].over_pieces else positions(batch)
    narrow = needs_logits and narrows(model, head)
    deep = any(level != model.config.num_hidden_layers for level in levels)
    with _watching(model, head, where if narrow else None) as seen:
        network = model if needs_logits else model.base_model
        output = network(**inputs(model, batch), **({"output_hidden_states": True} if deep else {}))
    states = {level: _level(model, seen, level, batch["input_ids"].shape) for level in levels}
    if not needs_logits:
        return HeadOutput(states, None)
    if seen.projection is not None:
        return HeadOutput(states, seen.projection)
    logits = _logits(model, output, head, axes=2 if HEADS[head].whole_text or narrow else 3)
    if HEADS[head].over_pieces:
        return HeadOutput(states, end_logits(logits, batch["allowed"]))
    if where is not None:
        return HeadOutput(states, logits if narrow else logits.flatten(0, 1)[where])
    how = document_reading(model)["pooling"]
    return HeadOutput(states, pooled(logits, batch["owners"], len(batch["documents"]), how=how))


_narrow: WeakKeyDictionary[torch.nn.Module, bool] = WeakKeyDictionary()


def narrows(model: PreTrainedModel, head: str) -> bool:
    """Whether a head gives selected positions the same logits as when it sees all of them; tried once per model."""
    if HEADS[head].whole_text or HEADS[head].over_pieces:
        return False
    if model not in _narrow:
        try:
            _narrow[model] = _same_when_narrow(model, head)
        except Exception:  # whatever an unusual head raises when it gets only some of the states
            _narrow[model] = False
    return _narrow[model]


def vocabulary_logits(output: torch.Tensor | VocabularyProjection) -> torch.Tensor:
    """The logits of a masked-LM head, (positions, vocabulary), computed from its projection if need be."""
    return linear(*output) if isinstance(output, VocabularyProjection) else output


def inputs(model: torch.nn.Module, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The arguments of this model's forward pass, from a batch. Every forward pass takes them from here."""
    arguments = {name: batch[name] for name in ("input_ids", "attention_mask")} | token_types(model, batch)
    return arguments | global_attention(model, batch, head_of_model(model))


def logits_of(output: Any) -> torch.Tensor:
    """The logits of a model's output; of a head for answers those of start and end, (rows, tokens, 2).

    Raises Unavailable for an output without logits.
    """
    if getattr(output, "start_logits", None) is not None:
        return torch.stack([output.start_logits, output.end_logits], dim=-1)
    logits: torch.Tensor | None = getattr(output, "logits", None)
    if logits is None:
        next_step = "Load the model with a head, or choose another architecture."
        raise Unavailable("The model has no head, or one of an unknown kind.", next_step=next_step)
    return logits


def end_logits(logits: torch.Tensor, allowed: torch.Tensor) -> torch.Tensor:
    """The logits of where answers start and end as distributions over the tokens of their windows: (2 x rows, tokens).

    logits: (rows, tokens, 2); allowed: (rows, tokens), where an answer may start or end: the text, and the first token
    for a window without an answer. The start of a row comes before its end.
    """
    at_least_single = logits.to(torch.promote_types(logits.dtype, torch.float32))  # _NEVER is no number of 16 bits
    by_end = at_least_single.transpose(1, 2)  # (rows, 2, tokens)
    return by_end.masked_fill(~allowed[:, None], _NEVER).flatten(0, 1)


def token_types(model: torch.nn.Module, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The token types of a batch of two texts, if the model has more than one, unlike RoBERTa or DistilBERT."""
    known = getattr(model.config, "type_vocab_size", None) or 0
    return {"token_type_ids": batch["token_type_ids"]} if known > 1 and "token_type_ids" in batch else {}


@contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Evaluation mode in the block, and the previous mode after it, so that training can score between two steps."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def is_classifier(model: torch.nn.Module) -> bool:
    """Whether a model has a head for whole documents."""
    head = head_of_model(model)
    return head is not None and HEADS[head].whole_text


def window_states(model: PreTrainedModel, states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The state that represents a window: (windows, tokens, hidden) -> (windows, hidden). mask: (windows, tokens).

    The mean over the unmasked tokens if the config says that the head uses it; the last unmasked token of a causal
    model, whose first token has seen nothing; otherwise the first token.
    """
    if getattr(model.config, "classifier_pooling", "cls") in ("mean", "late"):
        return (states * mask.unsqueeze(-1)).sum(dim=1) / mask.sum(dim=1, keepdim=True)
    if any(getattr(module, "is_causal", False) for module in model.modules()):
        return states[torch.arange(len(states), device=states.device), mask.sum(dim=1) - 1]
    return states[:, 0]


def pooled(values: torch.Tensor, owners: torch.Tensor, documents: int, *, how: str = "mean") -> torch.Tensor:
    """The mean or the column-wise maximum over the windows of each document: (windows, x) -> (documents, x).

    owners: (windows,), the document of each window; every document has at least one window.
    """
    where = owners[:, None].expand_as(values)
    reduce = {"mean": "mean", "max": "amax"}[how]
    return values.new_zeros(documents, values.shape[1]).scatter_reduce(0, where, values, reduce, include_self=False)


def unit_states(model: PreTrainedModel, states: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """The states of a batch's units: (rows, tokens, hidden) -> (units, hidden), of a document their mean."""
    if "owners" not in batch:
        return states.flatten(0, 1)[positions(batch)]
    by_window = window_states(model, states, batch["attention_mask"])
    return pooled(by_window, batch["owners"], len(batch["documents"]))


def unit_numbers(batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """The indices of a batch's units in their data set, (units,): of documents, or of the words that begin there."""
    return batch["documents"] if "documents" in batch else batch["words"][batch["words"] >= 0]


def unit_labels(batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """The gold labels of a batch's units, as `forward` orders their logits: (units,), or (units, labels)."""
    if "owners" in batch:
        return batch["labels"]
    return batch["labels"].flatten() if "allowed" in batch else batch["labels"].flatten()[positions(batch)]


def positions(batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Indices of the units into the flattened (rows x tokens): first pieces of words, or labelled pieces.

    Of answers, whose distributions are over pieces, the places where one may start or end.
    """
    if "allowed" in batch:
        return batch["allowed"].flatten().nonzero().squeeze(1)
    marked = batch["words"] >= 0 if "words" in batch else batch["labels"] != IGNORED
    return marked.flatten().nonzero().squeeze(1)


def document_reading(model: torch.nn.Module) -> dict[str, Any]:
    """How a model was trained to read documents: reading and pooling of a classifier, max_tokens (None if unknown)."""
    defaults: dict[str, Any] = {"reading": "windows", "pooling": "mean", "max_tokens": None}
    return defaults | (getattr(model.config, "document_reading", None) or {})


def check_document_reading(config: Any) -> None:
    """Raise ValueError if the field `document_reading` of a config is not what `document_reading` can return."""
    stated = getattr(config, "document_reading", None) or {}
    longest = stated.get("max_tokens") if isinstance(stated, Mapping) else ""
    if longest is not None and (type(longest) is not int or longest < 1):
        raise ValueError(f"document_reading is {stated!r:.80}; it must hold reading, pooling and max_tokens, a number")


@dataclass
class _States(BaseModelOutput):
    """The output of an encoder, with None for every field that was not set."""

    def __getattr__(self, name: str) -> None:
        return None


@dataclass
class _Seen:
    """What the hooks of one forward pass captured; None for what did not occur."""

    last: torch.Tensor | None = None  # (rows, tokens, hidden)
    deep: tuple[torch.Tensor, ...] | None = None  # from the embedding output on
    projection: VocabularyProjection | None = None


@contextmanager
def _watching(model: PreTrainedModel, head: str, where: torch.Tensor | None) -> Iterator[_Seen]:
    """Capture the encoder's states in the block.

    where: pass only these of the flattened (rows x tokens) to the head, and capture the input of a masked-LM head's
    last matrix product instead of computing it.
    """
    seen = _Seen()

    def after_encoder(_module: torch.nn.Module, _args: tuple[Any, ...], output: Any) -> Any:
        seen.last, seen.deep = getattr(output, "last_hidden_state", None), getattr(output, "hidden_states", None)
        if where is not None:
            output["last_hidden_state"] = output["last_hidden_state"].flatten(0, 1)[where]
        return output

    def before_last_step(module: torch.nn.Module, args: tuple[Any, ...]) -> tuple[torch.Tensor]:
        seen.projection = _projection(module, args[0])
        return (args[0][:0],)

    with ExitStack() as stack:
        stack.callback(model.base_model.register_forward_hook(after_encoder).remove)
        for module in _last_steps(model) if HEADS[head] is VOCABULARY and where is not None else ():
            stack.callback(module.register_forward_pre_hook(before_last_step).remove)
        yield seen


def _last_steps(model: PreTrainedModel) -> Iterator[torch.nn.Module]:
    """Modules above the encoder that may be the last step of a masked-LM head; a hook on an unused one is harmless."""
    below = set(model.base_model.modules())
    for module in model.modules():
        to_vocabulary = isinstance(module, torch.nn.Linear) and module.out_features == model.config.vocab_size
        if module not in below and (to_vocabulary or _is_mobilebert(module)):
            yield module


def _is_mobilebert(module: torch.nn.Module) -> bool:
    """Whether this is MobileBERT's head. Its class is private: if it is renamed, the head is computed as it is."""
    return type(module).__name__ == "MobileBertLMPredictionHead"


def _projection(module: Any, entering: torch.Tensor) -> VocabularyProjection:
    """The last step of a masked-LM head. module: a linear layer, or the head of a MobileBERT."""
    if _is_mobilebert(module):  # its embeddings are narrower than its states
        weight = torch.cat([module.decoder.weight, module.dense.weight.t()], dim=1)
        return VocabularyProjection(module.transform(entering), weight, module.decoder.bias)
    return VocabularyProjection(entering, module.weight, module.bias)


@torch.no_grad()
def _same_when_narrow(model: PreTrainedModel, head: str) -> bool:
    """Whether the head gives random states the same logits at all positions and at some.

    Norms and biases are random too: at their initial values, ones and zeros, they would hide an omitted step.
    """
    device, noise = model.device, torch.Generator().manual_seed(0)
    states = torch.randn(1, 5, model.config.hidden_size, generator=noise).to(device, model.dtype)
    parameters = {
        name: value + torch.randn(value.shape, generator=noise).to(value)
        for name, value in model.named_parameters()
        if value.ndim == 1 and not name.startswith(f"{model.base_model_prefix}.")
    }
    where, ids = torch.tensor([1, 3], device=device), torch.zeros(1, 5, dtype=torch.long, device=device)
    with evaluating(model), _encoder_returns(model, states), torch.autocast(device.type, enabled=False):
        whole = functional_call(model, parameters, kwargs={"input_ids": ids}).logits[0, where]
        with _watching(model, head, where) as seen:
            output = functional_call(model, parameters, kwargs={"input_ids": ids})
        narrow = output.logits if seen.projection is None else vocabulary_logits(seen.projection)
    return torch.allclose(narrow, whole, rtol=0, atol=_TOLERANCE * float(whole.abs().max()))


@contextmanager
def _encoder_returns(model: PreTrainedModel, states: torch.Tensor) -> Iterator[None]:
    """In the block the encoder returns these states for any input, so that only the head is computed."""
    model.base_model.forward = lambda *_, **__: _States(last_hidden_state=states.clone())
    try:
        yield
    finally:
        del model.base_model.forward


def _level(model: PreTrainedModel, seen: _Seen, level: int, shape: torch.Size) -> torch.Tensor:
    """The states of a level. Raises Unavailable if they are not (rows, tokens, hidden)."""
    last = model.config.num_hidden_layers
    deep = seen.deep if seen.deep is not None and len(seen.deep) == last + 1 else None
    states = seen.last if level == last else deep[level] if deep else None
    if states is None or states.shape[:2] != shape:
        raise Unavailable(
            f"{type(model).__name__} has no hidden state for each word piece at level {level} of {last}.",
            next_step="Choose a recipe without hidden-state terms, or a model of the BERT family.",
        )
    return states


def _logits(model: PreTrainedModel, output: Any, head: str, *, axes: int) -> torch.Tensor:
    """The logits of an output. Raises Unavailable if there are none, or if they have another number of axes."""
    logits: torch.Tensor | None = getattr(output, "logits", None)
    if HEADS[head].over_pieces and hasattr(output, "start_logits"):
        logits = logits_of(output)
    if logits is None or logits.ndim != axes:
        raise Unavailable(
            f"{type(model).__name__} has no {HEADS[head].kind} head.",
            next_step="Load the model with that head, or choose another architecture.",
        )
    return logits


def model_limit(model: torch.nn.Module, tokenizer: Any) -> int:
    """The longest window that the model has positions for, special tokens included.

    RoBERTa, Longformer and similar models number positions from padding_idx + 1, so the rows before that are unused.
    """
    tables = [
        module
        for name, module in model.named_modules()
        if name.endswith("position_embeddings") and isinstance(module, torch.nn.Embedding)
    ]
    if tables:
        return min(usable_positions(table) for table in tables)
    stated = getattr(model.config, "max_position_embeddings", None) or 0  # -1 for an XLNet, which has no limit
    return int(stated if stated > 0 else tokenizer.model_max_length)


def usable_positions(table: torch.nn.Embedding) -> int:
    """The number of rows of a position table that are used: those after padding_idx, if there is one."""
    return table.num_embeddings - (0 if table.padding_idx is None else table.padding_idx + 1)
