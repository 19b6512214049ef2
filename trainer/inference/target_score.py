"""The score of one target of a text, as a function of what the model may see of the text's word pieces.

A probe shows a model one window of a text. It hides pieces (their word embedding becomes the baseline's, so the length
and every position stay as they are), and gives the gradient of the score with respect to the word embeddings. Weights
are frozen meanwhile, batches are small enough for the caches of a CPU, and a last layer like BERT's is computed at the
target's places only, which saves a seventh of a model with six layers.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn.functional import scaled_dot_product_attention

from trainer.architectures import global_attention
from trainer.architectures.layer_outputs import attention_of, capturing
from trainer.errors import Unavailable
from trainer.inference.window_batches import Cancelled, check_finite, evaluating, side_by_side, thread_count
from trainer.models.heads import inputs
from trainer.models.suitability import TRIED, unlike
from trainer.zoo.outputs import head_of_model

BATCH_TOKENS = 1024  # pieces a batch and thread; with gradients more leave the caches


class Score(NamedTuple):
    """What is explained, both from logits (rows, places, labels) to (rows,).

    log_odds is what attributions add up to: unlike a probability it does not flatten near 1, unlike a raw logit it
    cannot rise while the probability stays. probability is what a person reads, and what faithfulness is measured on.
    """

    log_odds: Callable[[torch.Tensor], torch.Tensor]
    probability: Callable[[torch.Tensor], torch.Tensor]

    @classmethod
    def of(cls, columns: Sequence[int], labels: int, *, independent: bool = False) -> "Score":
        """That one of the outputs `columns` among `labels` is said, mean over the places.

        independent: every label has a probability of its own (sigmoid), instead of sharing one (softmax).
        """
        chosen, others = list(columns), [index for index in range(labels) if index not in columns]
        if independent or not others:
            return cls(lambda x: x[..., chosen].mean((1, 2)), lambda x: x[..., chosen].sigmoid().mean((1, 2)))
        return cls(
            lambda x: (x[..., chosen].logsumexp(-1) - x[..., others].logsumexp(-1)).mean(1),
            lambda x: x.softmax(-1)[..., chosen].sum(-1).mean(1),
        )


class Follow:
    """Counts the rows that a model has read, tells a caller, and stops where the caller says so."""

    def __init__(
        self,
        rows: int = 0,
        progress: Callable[[int, int], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ):
        self.rows, self.done, self._progress, self._cancelled = rows, 0, progress, cancelled

    def check(self) -> None:
        """Raise Cancelled if the caller wants no more."""
        if self._cancelled and self._cancelled():
            raise Cancelled("The explanation was cancelled.")

    def add(self, rows: int) -> None:
        """So many rows are done."""
        self.done += rows
        if self._progress and self.rows:
            self._progress(min(self.done, self.rows), self.rows)


class Probe:
    """One window of a text in front of a model.

    n places, of which the m after `before` are pieces of the text and the others special tokens; E: embedding size.
    words: (n, E) word embeddings. absent: (n, E) the same with every free piece hidden. free: (m,) which may be hidden.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        ids: Sequence[int],
        *,
        before: int,
        free: np.ndarray,
        places: Sequence[int],
        score: Score,
        baseline_id: int,
        follow: Follow | None = None,
    ):
        self.model, self.score, self.follow, self._narrow = model, score, follow or Follow(), False
        self.before, self.free, self.places = before, np.asarray(free, dtype=bool), list(places)
        device = next(model.parameters()).device
        self.words = _embedded(model, torch.tensor(list(ids), device=device))
        self._blank = _embedded(model, torch.tensor([baseline_id], device=device))
        hidden = torch.zeros(len(ids), 1, dtype=torch.bool, device=device)
        hidden[before : before + len(self.free), 0] = torch.from_numpy(self.free).to(device)
        self._hideable = hidden
        self.absent = torch.where(hidden, self._blank, self.words)
        if getattr(model.config, "model_type", TRIED[0]) not in TRIED:
            self._check_words(torch.tensor([list(ids)], device=device))

    def __repr__(self) -> str:
        return f"Probe({len(self.words):,} places)"

    def moved(self, words: torch.Tensor) -> "Probe":
        """The same probe with other word embeddings (n, E)."""
        other = object.__new__(Probe)
        other.__dict__.update(self.__dict__)
        other.words = words
        other.absent = torch.where(self._hideable, self._blank, words)
        return other

    def on(self, model: torch.nn.Module) -> "Probe":
        """The same probe in front of another model with the same word embeddings' size; it counts for itself."""
        other = object.__new__(Probe)
        other.__dict__.update(self.__dict__, model=model, follow=Follow())
        return other

    def log_odds(self, keep: np.ndarray) -> np.ndarray:
        """The score with only the pieces shown that `keep`, (rows, m) of booleans, says; (rows,)."""
        return self._values(keep, self.score.log_odds)

    def probabilities(self, keep: np.ndarray) -> np.ndarray:
        """The same as probabilities, 0 to 1."""
        return self._values(keep, self.score.probability)

    def gradient(self) -> np.ndarray:
        """The score's gradient with respect to the word embedding of every piece of the text, (m, E)."""
        return self._over(1, lambda rows: self._gradients(self.words[None])[0])

    def along_path(self, alphas: np.ndarray, weights: np.ndarray, *, noise: float = 0.0, seed: int = 0) -> np.ndarray:
        """Sum over points i of weights[i] * gradient(absent + alphas[i] * way) * way, (m, E); way is words - absent.

        noise: standard deviation of a normal draw that is added to the words of each point, in units of their own.
        """
        alphas, weights = (torch.as_tensor(each, dtype=self.words.dtype) for each in (alphas, weights))
        spread = noise * self.words.std()

        def part(rows: slice) -> torch.Tensor:
            way = (self.words - self.absent)[None]  # (1, n, E)
            if noise:
                drawn = torch.Generator().manual_seed(seed * 1_000_003 + rows.start)
                shape = (len(alphas[rows]), *self.words.shape)
                way = way + spread * torch.randn(shape, generator=drawn).to(way) * self._hideable
            points = self.absent + alphas[rows, None, None].to(way) * way
            return torch.einsum("rne,rne,r->ne", self._gradients(points), way.expand_as(points), weights[rows].to(way))

        return self._over(len(alphas), part)

    def attention(self) -> np.ndarray:
        """Attention probabilities of every layer, mean over heads: (layers, n, n), rows sum to 1.

        Raises Unavailable for a model whose attention is not one full map a layer.
        """
        config = self.model.config
        layers, before = getattr(config, "num_hidden_layers", 1), attention_of(config)
        self.follow.check()
        try:
            with evaluating(self.model), torch.no_grad(), capturing(self.model, maps=range(1, layers + 1)) as seen:
                self.model(inputs_embeds=self.words[None])
        except (Unavailable, ValueError, AttributeError):
            raise Unavailable(
                f"{type(self.model).__name__} does not show a full attention map for each of its layers.",
                next_step="Choose another method, such as integrated_gradients, or a model of the BERT family.",
            ) from None
        finally:
            if before is not None and attention_of(config) != before:
                self.model.set_attn_implementation(before)
        self.follow.add(1)
        return np.stack([seen.maps[layer][0].mean(0).cpu().numpy() for layer in range(1, layers + 1)])

    def logits(self, words: torch.Tensor) -> torch.Tensor:
        """Logits at the target's places, (rows, n, E) -> (rows, places, labels); differentiable."""
        # A Longformer's own class would place its global token by the ids, which are not there.
        places = words.new_zeros(words.shape[:2], dtype=torch.long)
        told = global_attention(self.model, places, head_of_model(self.model))
        said = self.model(inputs_embeds=words, **told).logits
        if said.ndim == 2:  # a head that says something about the whole text
            said = said[:, None]
        elif not self._narrow:
            said = said[:, self.places]
        check_finite(said, self.model)
        return said

    def _check_words(self, ids: torch.Tensor) -> None:
        """Raise Unavailable where a model says something else of word embeddings than of the ids they stand for."""
        batch, before = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}, self.words.clone()
        try:
            with evaluating(self.model), torch.inference_mode():
                by_words, by_ids = self.logits(self.words[None]), self.model(**inputs(self.model, batch)).logits
        except (AttributeError, TypeError, ValueError, RuntimeError):
            raise _no_words(self.model) from None
        if unlike(by_ids[:, None] if by_ids.ndim == 2 else by_ids[:, self.places], by_words):
            raise _no_words(self.model)
        if not torch.equal(before, self.words):  # CTRL writes into what it is given
            raise _no_words(self.model)

    def _values(self, keep: np.ndarray, measure: Callable) -> np.ndarray:
        shown = np.ones((len(keep), len(self.words)), dtype=bool)
        shown[:, self.before : self.before + len(self.free)] = keep
        shown, values = torch.from_numpy(shown), np.empty(len(keep))

        def part(rows: slice) -> None:
            with torch.inference_mode():
                seen = shown[rows, :, None].to(self.words.device)
                values[rows] = measure(self.logits(torch.where(seen, self.words, self.absent)).float()).cpu().numpy()

        self._each(len(keep), part)
        return values

    def _gradients(self, points: torch.Tensor) -> torch.Tensor:
        """(rows, n, E) -> the same. Rows do not mix, so the sum's gradient holds each row's own."""
        with torch.enable_grad():
            points = points.detach().requires_grad_(True)
            total = self.score.log_odds(self.logits(points).float()).sum()
            return torch.autograd.grad(total, points)[0]

    def _over(self, rows: int, part: Callable[[slice], torch.Tensor]) -> np.ndarray:
        """The sum of the parts at the places of the text's pieces."""
        parts = self._each(rows, part)
        return torch.stack(parts).sum(0)[self.before : self.before + len(self.free)].cpu().numpy()

    def _each(self, rows: int, part: Callable[[slice], Any]) -> list:
        """part(rows of a batch) for every batch, side by side on a CPU with several threads."""
        threads = thread_count(self.model)
        size = max(1, min(BATCH_TOKENS // len(self.words), math.ceil(rows / threads)))
        batches = [slice(start, min(start + size, rows)) for start in range(0, rows, size)]
        results = []
        with self._ready(), side_by_side(threads, len(batches)) as submit:
            waiting = [submit(part, batch) for batch in batches]
            for batch, result in zip(batches, waiting, strict=True):
                self.follow.check()
                results.append(result())
                self.follow.add(batch.stop - batch.start)
        return results

    @contextmanager
    def _ready(self) -> Iterator[None]:
        with ExitStack() as stack:
            stack.enter_context(evaluating(self.model))
            stack.enter_context(frozen(self.model))
            self._narrow = stack.enter_context(last_layer_at(self.model, self.places))
            stack.callback(setattr, self, "_narrow", False)
            yield


@torch.no_grad()
def _embedded(model: torch.nn.Module, ids: torch.Tensor) -> torch.Tensor:
    """The word embeddings of some pieces, (pieces, E); Unavailable for a model that has no plain table of them."""
    try:
        words = model.get_input_embeddings()(ids)
    except NotImplementedError:
        words = None
    if not isinstance(words, torch.Tensor):
        raise _no_words(model)
    return words


def _no_words(model: torch.nn.Module) -> Unavailable:
    return Unavailable(
        f"{type(model).__name__} does not read word embeddings as it reads the pieces themselves, so nothing can be "
        "hidden from it.",
        next_step="Choose a model of the BERT family.",
    )


@contextmanager
def frozen(model: torch.nn.Module) -> Iterator[None]:
    """No gradient for any weight in the block: nothing is kept for one, and nothing is left in one."""
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)


@contextmanager
def last_layer_at(model: torch.nn.Module, places: Sequence[int]) -> Iterator[bool]:
    """In the block the model's last layer, if it is BERT's or RoBERTa's, gives states at `places` only, in that order.

    So a token head gives (rows, places, labels). A head on the first token is right with places [0]. Yields whether
    the layer is one.
    """
    layers = getattr(getattr(getattr(model, "base_model", None), "encoder", None), "layer", None)
    if not layers or not _has_bert_parts(layers[-1]) or layers[-1].is_decoder:
        yield False
        return
    whole = layers[-1]
    layers[-1] = _LayerAt(whole, places)
    try:
        yield True
    finally:
        layers[-1] = whole


def _has_bert_parts(layer: torch.nn.Module) -> bool:
    """Whether this is BERT's layer or RoBERTa's, with the parts that _LayerAt computes. None of that is public: a layer
    that has other names is computed as it is, at every place.
    """
    inner = getattr(getattr(layer, "attention", None), "self", None)
    parts = all(hasattr(inner, name) for name in ("query", "key", "value", "attention_head_size", "scaling"))
    return type(layer).__name__ in ("BertLayer", "RobertaLayer") and parts and hasattr(layer, "feed_forward_chunk")


class _LayerAt(torch.nn.Module):
    """BERT's layer with queries, and so feed-forward rows, at some places only. No padding, so no mask."""

    def __init__(self, layer: torch.nn.Module, places: Sequence[int]):
        super().__init__()
        self.layer, self.places = layer, list(places)

    def forward(self, states: torch.Tensor, *_, **__) -> torch.Tensor:  # (rows, n, H) -> (rows, places, H)
        inner, some = self.layer.attention.self, states[:, self.places]
        query, key, value = (
            part(given).unflatten(-1, (-1, inner.attention_head_size)).transpose(1, 2)
            for part, given in ((inner.query, some), (inner.key, states), (inner.value, states))
        )
        context = scaled_dot_product_attention(query, key, value, scale=inner.scaling)
        attended = self.layer.attention.output(context.transpose(1, 2).flatten(2), some)
        return self.layer.feed_forward_chunk(attended)
