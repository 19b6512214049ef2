"""What a model says of a batch, by its own forward pass: logits and hidden states at what counts.

No head is rebuilt here, so the function that trains is the one that is read later. A hook between encoder and head
collects hidden states. A vocabulary head costs more than the encoder below it: where a check has shown that a head says
the same of single positions, the hook lets only those through that count. What counts, the units of a head, are masked
pieces, the pieces that carry a word's tag, or whole documents, whose windows are pooled.
"""

from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch.func import functional_call
from torch.nn.functional import linear
from transformers.modeling_outputs import BaseModelOutput

from trainer.architectures import global_attention
from trainer.errors import Unavailable
from trainer.zoo.outputs import HEADS, VOCABULARY, head_of_model

IGNORED = -100
_ALIKE = 1e-3  # of the largest logit: products of other shapes round otherwise, a step left out changes much more


class VocabularyProjection(NamedTuple):
    """The last step of a masked-LM head, one matrix product away from its logits."""

    hidden: torch.Tensor  # (positions, width)
    weight: torch.Tensor  # (vocabulary, width)
    bias: torch.Tensor | None  # (vocabulary,)


class Said(NamedTuple):
    """What one forward pass gave.

    states: by level, 0 the embedding output and k the output of layer k, each (rows, tokens, hidden).
    logits: (units, classes), or what leads to those of pieces; None where nobody asked.
    """

    states: Mapping[int, torch.Tensor]
    logits: torch.Tensor | VocabularyProjection | None


def forward(
    model: torch.nn.Module,
    batch: Mapping[str, torch.Tensor],
    *,
    head: str,
    levels: Collection[int] = (),
    speaks: bool = True,
) -> Said:
    """The model's own forward pass over a batch: hidden states of some levels, and what its head says of each unit.

    speaks: whether anything needs the logits; if not, the encoder alone is computed. Raises Unavailable for a model
    without this head, and where a level does not hold one state for each piece.
    """
    where = None if HEADS[head].whole_text else positions(batch)
    narrow = speaks and narrows(model, head)
    deep = any(level != model.config.num_hidden_layers for level in levels)
    with _watching(model, head, where if narrow else None) as seen:
        network = model if speaks else model.base_model
        output = network(**inputs(model, batch), **({"output_hidden_states": True} if deep else {}))
    states = {level: _level(model, seen, level, batch["input_ids"].shape) for level in levels}
    if not speaks:
        return Said(states, None)
    if seen.projection is not None:
        return Said(states, seen.projection)
    logits = _logits(model, output, head, axes=2 if where is None or narrow else 3)
    if where is not None:
        return Said(states, logits if narrow else logits.flatten(0, 1)[where])
    how = document_reading(model)["pooling"]
    return Said(states, pooled(logits, batch["owners"], len(batch["documents"]), how=how))


_narrow: WeakKeyDictionary[torch.nn.Module, bool] = WeakKeyDictionary()


def narrows(model: torch.nn.Module, head: str) -> bool:
    """Whether a head says the same of single positions as of all of them: tried once for a model."""
    if HEADS[head].whole_text:
        return False
    if model not in _narrow:
        try:
            _narrow[model] = _same_when_narrow(model, head)
        except Exception:  # whatever a head of another kind raises where it meets a few states alone
            _narrow[model] = False
    return _narrow[model]


def vocabulary_logits(said: torch.Tensor | VocabularyProjection) -> torch.Tensor:
    """The logits of what a masked-LM head said, (positions, vocabulary)."""
    return linear(*said) if isinstance(said, VocabularyProjection) else said


def inputs(model: torch.nn.Module, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What a forward pass of this model takes of a batch: the one place that knows."""
    given = {name: batch[name] for name in ("input_ids", "attention_mask")}
    return given | global_attention(model, given["input_ids"], head_of_model(model))


@contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Dropout off, also when training asks for a score between two steps."""
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


def window_states(model: torch.nn.Module, states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The state that stands for a window: (windows, tokens, hidden) -> (windows, hidden). mask: (windows, tokens).

    The mean of all real ones where the config says that the head takes it; the last real one of a model that reads
    from left to right, whose first has seen nothing; the first of any other.
    """
    if getattr(model.config, "classifier_pooling", "cls") in ("mean", "late"):
        return (states * mask.unsqueeze(-1)).sum(dim=1) / mask.sum(dim=1, keepdim=True)
    if any(getattr(module, "is_causal", False) for module in model.modules()):
        return states[torch.arange(len(states), device=states.device), mask.sum(dim=1) - 1]
    return states[:, 0]


def pooled(values: torch.Tensor, owners: torch.Tensor, documents: int, *, how: str = "mean") -> torch.Tensor:
    """The mean, or the largest of each column, of the windows of each document: (windows, x) -> (documents, x).

    owners: (windows,), the document of each window; every document has one at least.
    """
    where = owners[:, None].expand_as(values)
    reduce = {"mean": "mean", "max": "amax"}[how]
    return values.new_zeros(documents, values.shape[1]).scatter_reduce(0, where, values, reduce, include_self=False)


def unit_states(model: torch.nn.Module, states: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """States of a batch at what counts: (rows, tokens, hidden) -> (units, hidden); of a document their mean."""
    if "owners" not in batch:
        return states.flatten(0, 1)[positions(batch)]
    found = window_states(model, states, batch["attention_mask"])
    return pooled(found, batch["owners"], len(batch["documents"]))


def unit_numbers(batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """The numbers of a batch's units in their data set, (units,): documents, or words that begin."""
    return batch["documents"] if "documents" in batch else batch["words"][batch["words"] >= 0]


def positions(batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Indices into the flattened (rows x tokens) of what counts: words that begin, or labels that are set."""
    marked = batch["words"] >= 0 if "words" in batch else batch["labels"] != IGNORED
    return marked.flatten().nonzero().squeeze(1)


def document_reading(model: torch.nn.Module) -> dict[str, Any]:
    """How a model was trained to read: reading and pooling of a classifier, max_tokens (None: it does not say)."""
    usual = {"reading": "windows", "pooling": "mean", "max_tokens": None}
    return usual | (getattr(model.config, "document_reading", None) or {})


def check_document_reading(config: Any) -> None:
    """ValueError where a config says something else under this name than what `document_reading` gives."""
    stated = getattr(config, "document_reading", None) or {}
    longest = stated.get("max_tokens") if isinstance(stated, Mapping) else ""
    if longest is not None and (type(longest) is not int or longest < 1):
        raise ValueError(f"document_reading is {stated!r:.80}; it holds reading, pooling and max_tokens, a number")


@dataclass
class _States(BaseModelOutput):
    """What an encoder gives, with nothing in all its other fields."""

    def __getattr__(self, name: str) -> None:
        return None


@dataclass
class _Seen:
    """What the hooks of one forward pass caught; None where nothing passed."""

    last: torch.Tensor | None = None  # (rows, tokens, hidden)
    deep: tuple[torch.Tensor, ...] | None = None  # from the embedding output on
    projection: VocabularyProjection | None = None


@contextmanager
def _watching(model: torch.nn.Module, head: str, where: torch.Tensor | None) -> Iterator[_Seen]:
    """Catch the encoder's states in the block. where: let the head see these of the flattened (rows x tokens) alone,
    and of a masked-LM head catch what enters its last product instead of computing that.
    """
    seen = _Seen()

    def joint(_module, _args, output: Any) -> Any:
        seen.last, seen.deep = getattr(output, "last_hidden_state", None), getattr(output, "hidden_states", None)
        if where is not None:
            output["last_hidden_state"] = seen.last.flatten(0, 1)[where]
        return output

    def last_step(module: torch.nn.Module, args: tuple) -> tuple:
        seen.projection = _projection(module, args[0])
        return (args[0][:0],)

    with ExitStack() as stack:
        stack.callback(model.base_model.register_forward_hook(joint).remove)
        for module in _last_steps(model) if HEADS[head] is VOCABULARY and where is not None else ():
            stack.callback(module.register_forward_pre_hook(last_step).remove)
        yield seen


def _last_steps(model: torch.nn.Module) -> Iterator[torch.nn.Module]:
    """Modules above the encoder that may be the last step of a masked-LM head; those that are not called do no harm."""
    below = set(model.base_model.modules())
    for module in model.modules():
        to_vocabulary = isinstance(module, torch.nn.Linear) and module.out_features == model.config.vocab_size
        if module not in below and (to_vocabulary or _is_mobilebert(module)):
            yield module


def _is_mobilebert(module: torch.nn.Module) -> bool:
    """Whether this is MobileBERT's head. Its class is not public: a head of another name is computed as it is."""
    return type(module).__name__ == "MobileBertLMPredictionHead"


def _projection(module: torch.nn.Module, entering: torch.Tensor) -> VocabularyProjection:
    if _is_mobilebert(module):  # its embeddings are narrower than its states
        weight = torch.cat([module.decoder.weight, module.dense.weight.t()], dim=1)
        return VocabularyProjection(module.transform(entering), weight, module.decoder.bias)
    return VocabularyProjection(entering, module.weight, module.bias)


@torch.no_grad()
def _same_when_narrow(model: torch.nn.Module, head: str) -> bool:
    """The head's logits of random states, at all positions and at some: norms and biases are random too, since fresh
    ones, ones and zeros, would hide a step that is left out.
    """
    device, noise = model.device, torch.Generator().manual_seed(0)
    states = torch.randn(1, 5, model.config.hidden_size, generator=noise).to(device, model.dtype)
    shaken = {
        name: value + torch.randn(value.shape, generator=noise).to(value)
        for name, value in model.named_parameters()
        if value.ndim == 1 and not name.startswith(f"{model.base_model_prefix}.")
    }
    where, ids = torch.tensor([1, 3], device=device), torch.zeros(1, 5, dtype=torch.long, device=device)
    with evaluating(model), _encoder_says(model, states), torch.autocast(device.type, enabled=False):
        whole = functional_call(model, shaken, kwargs={"input_ids": ids}).logits[0, where]
        with _watching(model, head, where) as seen:
            output = functional_call(model, shaken, kwargs={"input_ids": ids})
        narrow = output.logits if seen.projection is None else vocabulary_logits(seen.projection)
    return torch.allclose(narrow, whole, rtol=0, atol=_ALIKE * float(whole.abs().max()))


@contextmanager
def _encoder_says(model: torch.nn.Module, states: torch.Tensor) -> Iterator[None]:
    """In the block the encoder gives these states, whatever it reads, so that the head alone is computed."""
    model.base_model.forward = lambda *_, **__: _States(last_hidden_state=states.clone())
    try:
        yield
    finally:
        del model.base_model.forward


def _level(model: torch.nn.Module, seen: _Seen, level: int, shape: torch.Size) -> torch.Tensor:
    """The states of a level; Unavailable where they are not (rows, tokens, hidden)."""
    last = model.config.num_hidden_layers
    deep = seen.deep if seen.deep is not None and len(seen.deep) == last + 1 else {}
    states = seen.last if level == last else deep[level] if deep else None
    if states is None or states.shape[:2] != shape:
        raise Unavailable(
            f"{type(model).__name__} shows no hidden state for each piece at level {level} of {last}.",
            next_step="Choose a recipe without hidden-state terms, or a model of the BERT family.",
        )
    return states


def _logits(model: torch.nn.Module, output: Any, head: str, *, axes: int) -> torch.Tensor:
    logits = getattr(output, "logits", None)
    if logits is None or logits.ndim != axes:
        raise Unavailable(
            f"{type(model).__name__} has no {HEADS[head].kind} head.",
            next_step="Load the model with that head, or choose another architecture.",
        )
    return logits


def model_limit(model: torch.nn.Module, tokenizer: Any) -> int:
    """The longest window, special tokens included, that the model has positions for.

    RoBERTa, Longformer and their kin number positions from padding_idx + 1, so that many rows are out of reach.
    """
    tables = [
        module
        for name, module in model.named_modules()
        if name.endswith("position_embeddings") and isinstance(module, torch.nn.Embedding)
    ]
    if tables:
        return min(t.num_embeddings - (0 if t.padding_idx is None else t.padding_idx + 1) for t in tables)
    stated = getattr(model.config, "max_position_embeddings", None) or 0  # -1 in an XLNet, which has no limit
    return stated if stated > 0 else tokenizer.model_max_length
