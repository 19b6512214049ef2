"""Inference over text of any length, once, for evaluation, the command line and the app.

A text is cut into word pieces once. Long ones are read in overlapping windows; every piece is scored in the window
that shows it most context; windows of many texts share batches under a budget of padded pieces. Of the logits only
the best tag of each piece and its probability are kept, so memory grows by a few dozen bytes a piece. A classifier of
documents reads the same windows, and gives a document the mean, or the largest, of their logits.
"""

import itertools
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch

from trainer.datasets.rows.pieces import Pieces, align_words, cut, cut_words, windows
from trainer.datasets.rows.words import expand_tags, join, words_in
from trainer.datasets.tags import Tags
from trainer.datasets.tags import read as read_tags
from trainer.errors import BadSpec, UnknownName
from trainer.inference import decoding
from trainer.inference.window_batches import Cancelled, evaluating, window_size
from trainer.inference.window_batches import read as read_windows
from trainer.models.heads import document_reading, model_limit
from trainer.prediction import CONTEXTS, Cost, Coverage, LabelScore, Prediction, Span
from trainer.tasks import TASKS
from trainer.zoo import outputs
from trainer.zoo.outputs import HEADS, SEVERAL, check_says_labels, head_of_model, task_of

__all__ = [
    "Best",
    "Cancelled",
    "Classified",
    "classify",
    "evaluating",
    "expand",
    "head",
    "is_multi_label",
    "label_set",
    "model_limit",
    "output_names",
    "predict",
    "predict_many",
    "tag_names",
    "tag_words",
    "tags_of",
    "task",
    "windows",
]

Reading = Literal["windows", "truncate", "whole"]
READINGS: tuple[str, ...] = get_args(Reading)
LABELLINGS = ("first", "all")
POOLINGS = ("mean", "max")
THRESHOLD = 0.5  # where a document may have several labels, the probability from which one is given
_FINE_TUNE = "Choose a model that was fine-tuned for this, or fine-tune this one first."
BATCH_TOKENS = 2048  # larger batches leave the caches of a CPU: 4,096 took 15 % longer on two cores


class Best(NamedTuple):
    """For each piece of one sequence the index of its likeliest tag and that tag's probability, both (pieces,)."""

    tags: np.ndarray
    scores: np.ndarray


def predict(text: str, model: torch.nn.Module, tokenizer: Any, **options: Any) -> Prediction:
    """What a model finds in one text; the options are those of predict_many."""
    return predict_many([text], model, tokenizer, **options)[0]


def predict_many(
    texts: Sequence[str],
    model: torch.nn.Module,
    tokenizer: Any,
    *,
    name: str,
    reading: Reading = "windows",
    max_tokens: int | None = None,
    batch_tokens: int = BATCH_TOKENS,
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> list[Prediction]:
    """What a model finds in each text, entities or labels of the whole; windows of all texts share batches.

    reading: "windows" reads everything, "truncate" the first max_tokens pieces (the rest is in coverage.unread),
    "whole" everything in one window. max_tokens counts special tokens; by default windows are as long as those that the
    model was trained on (reading.window_size). batch_tokens is the budget of padded pieces a batch. progress gets
    (windows done, windows in all) after each batch; cancelled is asked before each. A text without pieces gives an
    empty prediction. In a batch each text carries the share of the wall time that its pieces have. Raises BadSpec,
    UnknownName and Cancelled.
    """
    began = time.perf_counter()
    answered = task(model)
    window = window_size(model, tokenizer, max_tokens, reading=reading)
    found = [cut(text, tokenizer) for text in texts]
    read = [pieces.first(readable(len(pieces), reading, window)) for pieces in found]
    follow = {"batch_tokens": batch_tokens, "progress": progress, "cancelled": cancelled}
    said = _ANSWERS[TASKS[answered].answers](texts, read, window, model, tokenizer, **follow)
    coverages = [_coverage(*each, window) for each in zip(texts, found, read, strict=True)]
    costs = _costs(time.perf_counter() - began, [len(pieces) for pieces in read])
    common = {"model": name, "label_set": label_set(model), "task": answered}
    return [
        Prediction(**common, **fields, coverage=coverage, cost=cost)
        for fields, coverage, cost in zip(said, coverages, costs, strict=True)
    ]


class Classified(NamedTuple):
    """Probabilities (texts, labels) in the order of the model's labels; word pieces that each text has, (texts,), and
    those that were read, (texts,).
    """

    probabilities: np.ndarray
    pieces: np.ndarray
    read: np.ndarray


def classify(
    texts: Sequence[str],
    model: torch.nn.Module,
    tokenizer: Any,
    *,
    reading: Reading = "windows",
    pooling: str | None = None,
    max_tokens: int | None = None,
    batch_tokens: int = BATCH_TOKENS,
) -> Classified:
    """What a classifier says of each text; the options are those of predict_many. pooling: by default the model's own.

    A text without pieces is read as an empty one. Raises BadSpec and UnknownName.
    """
    if HEADS[head(model)].says != "labels":
        raise BadSpec([("model", f"it has no head for whole documents ({_about(model)})")], next_step=_FINE_TUNE)
    window = window_size(model, tokenizer, max_tokens, reading=reading)
    found = [cut(text, tokenizer) for text in texts]
    read = [pieces.first(readable(len(pieces), reading, window)) for pieces in found]
    logits = _window_logits([pieces.ids for pieces in read], window, model, tokenizer, batch_tokens=batch_tokens)
    probabilities = [_probabilities(each, model, pooling) for each in logits]
    return Classified(np.stack(probabilities), *(np.array([len(p) for p in part]) for part in (found, read)))


def tag_words(
    sentences: Sequence[Sequence[str]],
    model: torch.nn.Module,
    tokenizer: Any,
    *,
    labelling: Literal["first", "all"] = "first",
    max_tokens: int | None = None,
    batch_tokens: int = BATCH_TOKENS,
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> list[list[str]]:
    """The IOB2 tags of sentences that are split into words already; long ones go through the same windows.

    labelling "first": a tag per word of the joined text (words), of which a given word may hold several, as
    `predict` has them there. "all": a tag per piece. `expand` brings gold tags to the same form.
    """
    if labelling not in LABELLINGS:
        raise UnknownName("labelling", labelling, LABELLINGS)
    meant, window = tags_of(model), window_size(model, tokenizer, max_tokens)
    aligned = [align_words(words, tokenizer)[:2] for words in sentences]
    follow = {"batch_tokens": batch_tokens, "progress": progress, "cancelled": cancelled}
    best = _score([pieces.ids for pieces, _ in aligned], window, model, tokenizer, **follow)
    if labelling == "all":
        return [meant.iob2(outputs.tolist()) for outputs, _ in best]
    return [alignment.read(*each, meant)[0] for (_, alignment), each in zip(aligned, best, strict=True)]


def expand(
    sentences: Sequence[Sequence[str]],
    tags: Sequence[Sequence[str]],
    tokenizer: Any,
    *,
    labelling: Literal["first", "all"] = "first",
) -> list[list[str]]:
    """The tags of given words in the form of `tag_words`; with labelling "all" repeated unchanged on every piece."""
    if labelling == "all":
        owners = (cut_words(words, tokenizer)[1].tolist() for words in sentences)
        return [[tags_of[word] for word in pieces] for tags_of, pieces in zip(tags, owners, strict=True)]
    joined = (join(words) for words in sentences)
    owners = (given.owners(words_in(given.text).starts) for given in joined)
    return [expand_tags(*each) for each in zip(tags, owners, strict=True)]


def tag_names(model: torch.nn.Module) -> list[str]:
    """The model's tags by output index, as its config names them. Raises what tags_of raises."""
    return list(tags_of(model).names)


def tags_of(model: torch.nn.Module) -> Tags:
    """What the tags of a model mean. Raises BadSpec if its head is not one for named entities, or its labels cannot be
    read as tags.
    """
    if HEADS[head(model)].says != "tags":
        raise BadSpec([("model", f"it has no head for named entities ({_about(model)})")], next_step=_FINE_TUNE)
    return read_tags(output_names(model))


def head(model: torch.nn.Module) -> str:
    """The head of a model, by zoo.outputs. Raises BadSpec for a model whose head gives no labels."""
    known = head_of_model(model)
    if known is None or not HEADS[known].labelled:
        what = f"it has no head for named entities or whole documents ({_about(model)})"
        raise BadSpec([("model", what)], next_step=_FINE_TUNE)
    if HEADS[known].says == "labels":
        check_says_labels(getattr(model.config, "problem_type", None), output_names(model))
    return known


def task(model: torch.nn.Module) -> str:
    """The task of a model, which says what its predictions hold. Raises what `head` raises."""
    return task_of(head(model), vars(model.config))


def output_names(model: torch.nn.Module) -> list[str]:
    """What the outputs of a model's head stand for, tags or labels, in order."""
    return [model.config.id2label[index] for index in range(len(model.config.id2label))]


def label_set(model: torch.nn.Module) -> tuple[str, ...]:
    """Everything that a model can say: entity types, or labels of documents. Raises BadSpec without such a head."""
    return outputs.label_set(head(model), output_names(model))


def is_multi_label(model: torch.nn.Module) -> bool:
    """Whether a classifier may give a document several labels."""
    return getattr(model.config, "problem_type", None) == SEVERAL


def _about(model: torch.nn.Module) -> str:
    return f"it is a {type(model).__name__}"


def readable(tokens: int, reading: str, window: int) -> int:
    """How many of a text's pieces this reading sees."""
    if reading not in READINGS:
        raise UnknownName("reading", reading, READINGS)
    if reading == "whole" and tokens > window:
        raise BadSpec(
            [("reading", f"'whole' reads up to {window:,} word pieces with this model, the text has {tokens:,}")],
            next_step="Use the reading 'windows', which reads a text of any length.",
        )
    return min(tokens, window) if reading == "truncate" else tokens


def _score(sequences: Sequence[np.ndarray], *where: Any, **follow: Any) -> list[Best]:
    """The likeliest tag of each piece of each sequence, each scored once, in the window that keeps it."""
    total = sum(map(len, sequences))
    best = Best(np.zeros(total, dtype=np.int32), np.zeros(total, dtype=np.float32))

    def keep(logits: torch.Tensor, rows: np.ndarray, place: np.ndarray) -> None:
        scores, tags = logits.softmax(-1).max(-1)  # from (batch, width, tags) to (batch, width) each
        first, last = rows.T[2:, :, None]  # each (batch, 1)
        kept = (place >= first) & (place < last)
        best.tags[place[kept]] = tags.cpu().numpy()[kept]
        best.scores[place[kept]] = scores.cpu().numpy()[kept]

    begins, _ = read_windows(sequences, *where, keep=keep, **follow)
    return [Best(best.tags[a:b], best.scores[a:b]) for a, b in itertools.pairwise(begins)]


def _window_logits(
    sequences: Sequence[np.ndarray], window: int, model: torch.nn.Module, tokenizer: Any, **follow: Any
) -> list[np.ndarray]:
    """The logits of the windows of each sequence, (windows, labels); of an empty one those of an empty window."""
    found: dict[int, np.ndarray] = {}  # by the place where the window starts

    def keep(logits: torch.Tensor, rows: np.ndarray, place: np.ndarray) -> None:
        found.update(zip(rows[:, 0].tolist(), logits.cpu().numpy(), strict=True))

    unknown = tokenizer.unk_token_id or 0  # an empty text is read as one piece that says nothing
    filled = [ids if len(ids) else np.array([unknown], dtype=np.int32) for ids in sequences]
    begins, table = read_windows(filled, window, model, tokenizer, keep=keep, **follow)
    ends = np.searchsorted(table[:, 0], begins)
    return [np.stack([found[start] for start in table[a:b, 0].tolist()]) for a, b in itertools.pairwise(ends)]


def _tagged(texts: Sequence[str], read: Sequence[Pieces], *where: Any, **follow: Any) -> list[dict]:
    """The fields of a prediction that hold entities, for each text."""
    _, model, tokenizer = where
    meant = tags_of(model)
    best = _score([pieces.ids for pieces in read], *where, **follow)
    spans = (_spans(*each, meant) for each in zip(texts, read, best, strict=True))
    return [{"spans": tuple(found)} for found in spans]


def _classified(texts: Sequence[str], read: Sequence[Pieces], *where: Any, **follow: Any) -> list[dict]:
    """The fields of a prediction that hold labels of the whole, for each text; none for one without pieces."""
    _, model, _ = where
    names, threshold = output_names(model), THRESHOLD if is_multi_label(model) else None
    said = []
    for pieces, logits in zip(read, _window_logits([pieces.ids for pieces in read], *where, **follow), strict=True):
        scores = _probabilities(logits, model, None).tolist() if len(pieces) else []
        ranked = sorted(zip(names, scores, strict=False), key=lambda each: -each[1])
        labels = tuple(LabelScore(label=label, score=score) for label, score in ranked)
        said.append({"labels": labels, "threshold": threshold})
    return said


_ANSWERS = {"spans": _tagged, "labels": _classified}  # by what a task answers


def _probabilities(logits: np.ndarray, model: torch.nn.Module, pooling: str | None) -> np.ndarray:
    """The probability of each label, (labels,), from the logits of a document's windows, (windows, labels)."""
    how = pooling or document_reading(model)["pooling"]
    if how not in POOLINGS:
        raise UnknownName("pooling", how, POOLINGS)
    whole = torch.from_numpy(logits.mean(0) if how == "mean" else logits.max(0)).double()
    return (whole.sigmoid() if is_multi_label(model) else whole.softmax(-1)).numpy()


def _spans(text: str, pieces: Pieces, best: Best, meant: Tags) -> list[Span]:
    words = words_in(text)
    return decoding.spans(words.places.tolist(), *pieces.align(words).read(*best, meant))


def _coverage(text: str, found: Pieces, read: Pieces, window: int) -> Coverage:
    unread = ((int(found.starts[len(read)]), len(text)),) if len(read) < len(found) else ()
    plan = windows(len(read), window)
    return Coverage(
        tokens=len(found),
        tokens_read=len(read),
        windows=len(plan),
        unread=unread,
        seams=tuple(plan[1:, 2].tolist()),
        reach=tuple((count, int(found.ends[count - 1])) for count in CONTEXTS if count < len(found)),
    )


def _costs(seconds: float, tokens: Sequence[int]) -> list[Cost]:
    """The wall time of a batch of texts, shared out by the pieces read."""
    total = sum(tokens)
    return [
        Cost(
            latency_ms=1000 * seconds * (count / total if total else 1 / len(tokens)),
            tokens_per_second=total / seconds if count else 0.0,
        )
        for count in tokens
    ]
