"""The score of one target as a function of which word pieces of the text the model may see.

A probe shows a model one window of a text. It can hide pieces: their word embedding becomes that of the baseline, so
length and positions do not change. It also gives the gradient of the score with respect to the word embeddings. Weights
are frozen meanwhile, and batches are small enough for a CPU's caches. The last layer of a BERT or RoBERTa is computed
at the target's places only, which saves a seventh of the time of a model with six layers.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import PreTrainedModel

from trainer.architectures import global_attention
from trainer.architectures.layer_outputs import attention_of, capturing
from trainer.errors import Unavailable
from trainer.inference.window_batches import (
    Cancelled,
    check_finite,
    evaluating,
    in_groups,
    side_by_side,
    thread_count,
)
from trainer.models.heads import inputs, logits_of, token_types
from trainer.models.suitability import TESTED, largest_difference
from trainer.zoo.outputs import head_of_model

BATCH_TOKENS = 1024  # pieces per batch and thread; with gradients, larger batches do not fit a CPU's caches
R = TypeVar("R")


class Score(NamedTuple):
    """The quantity that is explained; both functions map logits (rows, places, outputs) to (rows,).

    Attributions add up to log_odds: unlike a probability it does not flatten near 1, and unlike a raw logit it cannot
    rise while the probability stays the same. probability is what people read and what faithfulness is measured on.
    """

    log_odds: Callable[[torch.Tensor], torch.Tensor]
    probability: Callable[[torch.Tensor], torch.Tensor]

    @classmethod
    def of_value(cls) -> "Score":
        """The score of a head with one output: the output itself, a share of the scale, in the place of both."""
        return cls(lambda x: x[..., 0].mean(1), lambda x: x[..., 0].mean(1))

    @classmethod
    def of(
        cls, columns: Sequence[int], competing: Sequence[int], *, independent: bool = False, pooled: bool = False
    ) -> "Score":
        """The score of "the answer is one of the outputs `columns`" among those `competing`, averaged over the places.

        independent: each label has a probability of its own (sigmoid); otherwise they share one (softmax). pooled: the
        logits of the places are averaged, not their scores, as for attributes of spans.
        """
        chosen, others = list(columns), [index for index in competing if index not in columns]
        if independent or not others:
            return cls(lambda x: x[..., chosen].mean((1, 2)), lambda x: x[..., chosen].sigmoid().mean((1, 2)))

        def log_odds(x: torch.Tensor) -> torch.Tensor:  # (rows, places, outputs) -> (rows, places, or 1 if pooled)
            x = x.mean(1, keepdim=True) if pooled else x
            return x[..., chosen].logsumexp(-1) - x[..., others].logsumexp(-1)

        return cls(lambda x: log_odds(x).mean(1), lambda x: log_odds(x).sigmoid().mean(1))

    @classmethod
    def of_answer(cls, start: int, end: int) -> "Score":
        """The score of "the answer starts and ends here", of logits (rows, places, 2) of start and end.

        start, end: indices of places. log_odds: the mean of both ends', each among all places; probability: the product
        of both, which is the score of an answer.
        """

        def log_odds(x: torch.Tensor, place: int, output: int) -> torch.Tensor:
            others = torch.cat([x[:, :place, output], x[:, place + 1 :, output]], dim=1)
            return x[:, place, output] - others.logsumexp(-1)

        def both(x: torch.Tensor) -> torch.Tensor:  # (rows, 2)
            return torch.stack([log_odds(x, start, 0), log_odds(x, end, 1)], dim=-1)

        return cls(lambda x: both(x).mean(-1), lambda x: both(x).sigmoid().prod(-1))


class Progress:
    """Counts the rows that a model has read out of `rows`, reports them to the caller, and stops when it cancels."""

    def __init__(
        self,
        rows: int = 0,
        progress: Callable[[int, int], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ):
        self.rows, self.done, self._progress, self._cancelled = rows, 0, progress, cancelled

    def check(self) -> None:
        """Raise Cancelled if the caller has cancelled. Asked only while the model is whole and nothing is computed."""
        if self._cancelled and self._cancelled():
            raise Cancelled("The explanation was cancelled.")

    def add(self, rows: int) -> None:
        """Add to the number of rows read, and report it."""
        self.done += rows
        if self._progress and self.rows:
            self._progress(min(self.done, self.rows), self.rows)


class Probe:
    """One window of a text, shown to a model.

    The window has n places: special tokens, of which `before` come first, around the m pieces of the text. E is the
    embedding size. words: the word embeddings, (n, E); absent: the same with every free piece hidden, (n, E). free:
    which pieces may be hidden, (m,). places: where the target's logits are read. types: the token type of each place,
    where any is not 0. question: how many places are the first token and the question. Raises Unavailable for a model
    that does not read word embeddings as it reads piece ids.
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
        types: Sequence[int] = (),
        question: int = 0,
        progress: Progress | None = None,
    ):
        self.model, self.score, self.progress, self._narrow = model, score, progress or Progress(), False
        self.before, self.free, self.places = before, np.asarray(free, dtype=bool), list(places)
        device = next(model.parameters()).device
        self._question = question
        batch = {"token_type_ids": torch.tensor([list(types)], device=device)} if len(types) else {}
        self._types = token_types(model, batch)  # of one row, (1, n), for a model that has them
        self.words = _embedded(model, torch.tensor(list(ids), device=device))
        self._blank = _embedded(model, torch.tensor([baseline_id], device=device))
        hidden = torch.zeros(len(ids), 1, dtype=torch.bool, device=device)
        hidden[before : before + len(self.free), 0] = torch.from_numpy(self.free).to(device)
        self._hideable = hidden
        self.absent = torch.where(hidden, self._blank, self.words)
        if getattr(model.config, "model_type", TESTED[0]) not in TESTED:
            self._check_words(torch.tensor([list(ids)], device=device))

    def __repr__(self) -> str:
        return f"Probe({len(self.words):,} places)"

    def with_words(self, words: torch.Tensor) -> "Probe":
        """The same probe with other word embeddings, (n, E)."""
        other = object.__new__(Probe)
        other.__dict__.update(self.__dict__)
        other.words = words
        other.absent = torch.where(self._hideable, self._blank, words)
        return other

    def with_model(self, model: torch.nn.Module) -> "Probe":
        """The same probe of another model with the same embedding size; what it reads is not counted in `progress`."""
        other = object.__new__(Probe)
        other.__dict__.update(self.__dict__, model=model, progress=Progress())
        return other

    def log_odds(self, keep: np.ndarray) -> np.ndarray:
        """The log-odds while only the pieces in `keep`, (rows, m) of booleans, are shown; (rows,)."""
        return self._values(keep, self.score.log_odds)

    def probabilities(self, keep: np.ndarray) -> np.ndarray:
        """The same as a probability from 0 to 1."""
        return self._values(keep, self.score.probability)

    def gradient(self) -> np.ndarray:
        """The score's gradient with respect to the word embedding of every piece of the text, (m, E)."""
        return self._sum_over_batches(1, lambda rows: self._gradients(self.words[None])[0])

    def along_path(self, alphas: np.ndarray, weights: np.ndarray, *, noise: float = 0.0, seed: int = 0) -> np.ndarray:
        """Sum over i of weights[i] * gradient(absent + alphas[i] * path) * path, (m, E), where path = words - absent.

        noise: standard deviation of the normal noise added to the words at each point, relative to that of the words.
        """
        fractions, factors = (torch.as_tensor(each, dtype=self.words.dtype) for each in (alphas, weights))
        spread = noise * self.words.std()

        def part(rows: slice) -> torch.Tensor:
            path = (self.words - self.absent)[None]  # (1, n, E)
            if noise:
                drawn = torch.Generator().manual_seed(seed * 1_000_003 + rows.start)
                shape = (len(fractions[rows]), *self.words.shape)
                path = path + spread * torch.randn(shape, generator=drawn).to(path) * self._hideable
            points = self.absent + fractions[rows, None, None].to(path) * path
            gradients = self._gradients(points)
            return torch.einsum("rne,rne,r->ne", gradients, path.expand_as(points), factors[rows].to(path))

        return self._sum_over_batches(len(alphas), part)

    def attention(self) -> np.ndarray:
        """The attention probabilities of every layer, averaged over heads: (layers, n, n); rows sum to 1.

        Raises Unavailable for a model that does not have one full attention map per layer.
        """
        model = cast(PreTrainedModel, self.model)
        layers, before = getattr(model.config, "num_hidden_layers", 1), attention_of(model.config)
        self.progress.check()
        try:
            with evaluating(model), torch.no_grad(), capturing(model, maps=range(1, layers + 1)) as captured:
                model(inputs_embeds=self.words[None], **self._types)
        except (Unavailable, ValueError, AttributeError):
            raise Unavailable(
                f"{type(model).__name__} does not show a full attention map for each of its layers.",
                next_step="Choose another method, such as integrated_gradients, or a model of the BERT family.",
            ) from None
        finally:
            if before is not None and attention_of(model.config) != before:
                model.set_attn_implementation(before)
        self.progress.add(1)
        return np.stack([captured.maps[layer][0].mean(0).cpu().numpy() for layer in range(1, layers + 1)])

    def logits(self, words: torch.Tensor) -> torch.Tensor:
        """Logits at the target's places, (rows, n, E) -> (rows, places, labels); differentiable."""
        # Longformer's own class would place its global token by the ids, which it does not get here.
        ids = words.new_zeros(words.shape[:2], dtype=torch.long)
        batch = {"input_ids": ids} | self._question_mask(ids)
        global_mask = global_attention(self.model, batch, head_of_model(self.model))
        types = {name: row.expand(len(words), -1) for name, row in self._types.items()}
        logits = logits_of(self.model(inputs_embeds=words, **types, **global_mask))
        if logits.ndim == 2:  # a head that classifies the whole text
            logits = logits[:, None]
        elif not self._narrow:
            logits = logits[:, self.places]
        check_finite(logits, self.model)
        return logits

    def _question_mask(self, ids: torch.Tensor) -> dict[str, torch.Tensor]:
        """As of datasets.rows.batches.framed: 1 at the first token and the question, for ids (rows, n)."""
        if not self._question:
            return {}
        return {"question_mask": (torch.arange(ids.shape[1], device=ids.device) < self._question).long().expand_as(ids)}

    def _check_words(self, ids: torch.Tensor) -> None:
        """Raise Unavailable if the model's logits for word embeddings differ from those for the same piece ids."""
        batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)} | self._types
        batch |= self._question_mask(ids)
        before = self.words.clone()
        try:
            with evaluating(self.model), torch.inference_mode():
                by_words, by_ids = self.logits(self.words[None]), logits_of(self.model(**inputs(self.model, batch)))
        except (AttributeError, TypeError, ValueError, RuntimeError):
            raise _no_words(self.model) from None
        if largest_difference(by_ids[:, None] if by_ids.ndim == 2 else by_ids[:, self.places], by_words):
            raise _no_words(self.model)
        if not torch.equal(before, self.words):  # CTRL writes into its input
            raise _no_words(self.model)

    def _values(self, keep: np.ndarray, measure: Callable[[torch.Tensor], torch.Tensor]) -> np.ndarray:
        mask = np.ones((len(keep), len(self.words)), dtype=bool)
        mask[:, self.before : self.before + len(self.free)] = keep
        shown, values = torch.from_numpy(mask), np.empty(len(keep))

        def part(rows: slice) -> None:
            with torch.inference_mode():
                visible = shown[rows, :, None].to(self.words.device)
                logits = self.logits(torch.where(visible, self.words, self.absent))
                values[rows] = measure(logits.float()).cpu().numpy()

        self._in_batches(len(keep), part)
        return values

    def _gradients(self, points: torch.Tensor) -> torch.Tensor:
        """(rows, n, E) -> the same shape. Rows do not depend on each other, so one sum gives the gradient of each."""
        with torch.enable_grad():
            points = points.detach().requires_grad_(True)
            total = self.score.log_odds(self.logits(points).float()).sum()
            return torch.autograd.grad(total, points)[0]

    def _sum_over_batches(self, rows: int, part: Callable[[slice], torch.Tensor]) -> np.ndarray:
        """part(batch), (n, E), summed over all batches of rows and cut to the pieces of the text: (m, E)."""
        parts = self._in_batches(rows, part)
        return torch.stack(parts).sum(0)[self.before : self.before + len(self.free)].cpu().numpy()

    def _in_batches(self, rows: int, part: Callable[[slice], R]) -> list[R]:
        """part(rows of a batch) for every batch, side by side on a CPU with several threads."""
        threads = thread_count(self.model)
        size = max(1, min(BATCH_TOKENS // len(self.words), math.ceil(rows / threads)))
        batches = [slice(start, min(start + size, rows)) for start in range(0, rows, size)]
        results = []
        for group in in_groups(batches, threads):
            self.progress.check()
            with self._ready(), side_by_side(threads, len(group)) as submit:
                waiting = [submit(part, batch) for batch in group]
                for batch, result in zip(group, waiting, strict=True):
                    results.append(result())
                    self.progress.add(batch.stop - batch.start)
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
    """The word embeddings of some pieces, (pieces, E). Raises Unavailable for a model without a plain table of them."""
    try:
        words = cast(PreTrainedModel, model).get_input_embeddings()(ids)
    except NotImplementedError:
        words = None
    if not isinstance(words, torch.Tensor):
        raise _no_words(model)
    return words


def _no_words(model: torch.nn.Module) -> Unavailable:
    return Unavailable(
        f"{type(model).__name__} does not read word embeddings the way it reads word pieces, so nothing can be "
        "hidden from it.",
        next_step="Choose a model of the BERT family.",
    )


@contextmanager
def frozen(model: torch.nn.Module) -> Iterator[None]:
    """In the block no weight requires a gradient, so none is computed and none is left behind."""
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in trainable:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trainable:
            parameter.requires_grad_(True)


@contextmanager
def last_layer_at(model: torch.nn.Module, places: Sequence[int]) -> Iterator[bool]:
    """In the block, a last layer that is BERT's or RoBERTa's computes states at `places` only, in that order.

    A token head then gives (rows, places, labels). A head on the first token is right with places [0]. Yields whether
    the model has such a layer.
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
    """Whether this is a layer of BERT or RoBERTa with the parts that _LayerAt uses.

    These are private names of transformers: a layer with other names is computed as it is, at every place.
    """
    inner = getattr(getattr(layer, "attention", None), "self", None)
    parts = all(hasattr(inner, name) for name in ("query", "key", "value", "attention_head_size", "scaling"))
    return type(layer).__name__ in ("BertLayer", "RobertaLayer") and parts and hasattr(layer, "feed_forward_chunk")


class _LayerAt(torch.nn.Module):
    """BERT's layer with queries, and so feed-forward rows, at some places only. Without padding, so without a mask."""

    layer: Any  # a BertLayer or RobertaLayer: torch types what a module holds as a tensor or module

    def __init__(self, layer: torch.nn.Module, places: Sequence[int]):
        super().__init__()
        self.layer, self.places = layer, list(places)

    def forward(self, states: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:  # (rows, n, H) -> (rows, places, H)
        attention, chosen = self.layer.attention.self, states[:, self.places]
        query, key, value = (
            projection(entering).unflatten(-1, (-1, attention.attention_head_size)).transpose(1, 2)
            for projection, entering in (
                (attention.query, chosen),
                (attention.key, states),
                (attention.value, states),
            )
        )
        context = scaled_dot_product_attention(query, key, value, scale=attention.scaling)
        attended = self.layer.attention.output(context.transpose(1, 2).flatten(2), chosen)
        return self.layer.feed_forward_chunk(attended)
