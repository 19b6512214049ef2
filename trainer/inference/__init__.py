"""Inference over text of any length: what evaluation, the command line and the app all call.

A text is cut into word pieces once. A long text is read in overlapping windows, and each piece is scored in the window
that shows it the most context. Windows of many texts share batches, under a budget of padded pieces. Only the best tag
of each piece and its probability are retained, so memory grows by a few dozen bytes per piece. A document classifier
reads the same windows, and a document's logits are the mean or the maximum over its windows.
"""

import itertools
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, TypedDict, Unpack, get_args

import numpy as np
import torch

from trainer.datasets.rows.pieces import Pieces, align_words, cut, cut_words, windows
from trainer.datasets.rows.words import expand_tags, join, words_in
from trainer.datasets.tags import Tags
from trainer.datasets.tags import read as read_tags
from trainer.errors import BadSpec, UnknownName
from trainer.inference import decoding
from trainer.inference.window_batches import BatchOptions, Cancelled, evaluating, window_size
from trainer.inference.window_batches import read as read_windows
from trainer.models.heads import document_reading, model_limit
from trainer.prediction import CONTEXTS, Cost, Coverage, LabelScore, Prediction, Span
from trainer.tasks import TASKS
from trainer.zoo import outputs
from trainer.zoo.outputs import HEADS, SEVERAL, check_says_labels, head_of_model, task_of

__all__ = [
    "BestTags",
    "Cancelled",
    "Classification",
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
THRESHOLD = 0.5  # minimum probability of a label where a document may have several
_FINE_TUNE = "Choose a model that was fine-tuned for this, or fine-tune this one first."
BATCH_TOKENS = 2048  # larger batches do not fit a CPU's caches: 4,096 took 15 % longer on two cores


class BestTags(NamedTuple):
    """The index of the likeliest tag of each piece of one sequence, and that tag's probability; both (pieces,)."""

    tags: np.ndarray
    scores: np.ndarray


def predict(text: str, model: torch.nn.Module, tokenizer: Any, **options: Any) -> Prediction:
    """The prediction of a model for one text; the options are those of `predict_many`."""
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
    """The prediction of a model for each text: entities, or labels of the whole text.

    reading: "windows" reads everything, "truncate" the first max_tokens pieces (the rest is in coverage.unread),
    "whole" everything in one window. max_tokens includes special tokens; by default windows have the length that the
    model was trained with (`window_size`). batch_tokens is the budget of padded pieces per batch. progress receives
    (windows done, all windows) after each batch; cancelled is asked before each. A text without pieces gives an empty
    prediction. The wall time is shared out over the texts in proportion to their pieces. Raises BadSpec, UnknownName
    and Cancelled.
    """
    began = time.perf_counter()
    model_task = task(model)
    window = window_size(model, tokenizer, max_tokens, reading=reading)
    pieces = [cut(text, tokenizer) for text in texts]
    read = [all_pieces.first(readable_count(len(all_pieces), reading, window)) for all_pieces in pieces]
    predict_fields = _predict_spans if TASKS[model_task].answers == "spans" else _predict_labels
    batching = BatchOptions(batch_tokens=batch_tokens, progress=progress, cancelled=cancelled)
    answers = predict_fields(texts, read, window, model, tokenizer, **batching)
    coverages = [_coverage(*each, window) for each in zip(texts, pieces, read, strict=True)]
    costs = _costs(time.perf_counter() - began, [len(each) for each in read])
    labels = label_set(model)
    return [
        Prediction(model=name, label_set=labels, task=model_task, **fields, coverage=coverage, cost=cost)
        for fields, coverage, cost in zip(answers, coverages, costs, strict=True)
    ]


class Classification(NamedTuple):
    """What a classifier says of some texts.

    probabilities: (texts, labels) in the order of the model's labels. pieces: word pieces of each text, (texts,); read:
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
) -> Classification:
    """The label probabilities of each text; the options are those of `predict_many`.

    pooling: how the logits of a text's windows are combined, one of POOLINGS; by default as the model's config says.
    A text without pieces is read as one unknown piece. Raises BadSpec and UnknownName.
    """
    if HEADS[head(model)].says != "labels":
        raise BadSpec([("model", f"it has no head for whole documents ({_about(model)})")], next_step=_FINE_TUNE)
    window = window_size(model, tokenizer, max_tokens, reading=reading)
    pieces = [cut(text, tokenizer) for text in texts]
    read = [all_pieces.first(readable_count(len(all_pieces), reading, window)) for all_pieces in pieces]
    logits = _window_logits([each.ids for each in read], window, model, tokenizer, batch_tokens=batch_tokens)
    probabilities = np.stack([_probabilities(each, model, pooling) for each in logits])
    return Classification(probabilities, np.array([*map(len, pieces)]), np.array([*map(len, read)]))


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
    """The IOB2 tags of sentences that are already split into words; long sentences are read in windows as well.

    labelling "first": one tag per word of the joined text, exactly as `predict` would tag it; a word of the input may
    contain several of these (datasets.rows.words). "all": one tag per piece. `expand` converts gold tags to the same
    form. Raises what `predict_many` raises.
    """
    if labelling not in LABELLINGS:
        raise UnknownName("labelling", labelling, LABELLINGS)
    scheme, window = tags_of(model), window_size(model, tokenizer, max_tokens)
    aligned = [align_words(words, tokenizer)[:2] for words in sentences]
    batching = BatchOptions(batch_tokens=batch_tokens, progress=progress, cancelled=cancelled)
    best = _best_tags([pieces.ids for pieces, _ in aligned], window, model, tokenizer, **batching)
    if labelling == "all":
        return [scheme.iob2(indices.tolist()) for indices, _ in best]
    return [alignment.read(*each, scheme)[0] for (_, alignment), each in zip(aligned, best, strict=True)]


def expand(
    sentences: Sequence[Sequence[str]],
    tags: Sequence[Sequence[str]],
    tokenizer: Any,
    *,
    labelling: Literal["first", "all"] = "first",
) -> list[list[str]]:
    """Gold tags, one per input word, in the form that `tag_words` returns.

    With labelling "all" the tag of a word is repeated unchanged on each of its pieces.
    """
    if labelling == "all":
        owners = (cut_words(words, tokenizer)[1].tolist() for words in sentences)  # of each piece, the word
        return [[word_tags[word] for word in pieces] for word_tags, pieces in zip(tags, owners, strict=True)]
    joined = (join(words) for words in sentences)
    word_owners = (source.owners(words_in(source.text).starts) for source in joined)
    return [expand_tags(*each) for each in zip(tags, word_owners, strict=True)]


def tag_names(model: torch.nn.Module) -> list[str]:
    """The model's tags by output index, as its config names them. Raises what tags_of raises."""
    return list(tags_of(model).names)


def tags_of(model: torch.nn.Module) -> Tags:
    """The tagging scheme of a model. Raises BadSpec if its head does not tag entities or its labels are not tags."""
    if HEADS[head(model)].says != "tags":
        raise BadSpec([("model", f"it has no head for named entities ({_about(model)})")], next_step=_FINE_TUNE)
    return read_tags(output_names(model))


def head(model: torch.nn.Module) -> str:
    """The name of the model's head (zoo.outputs). Raises BadSpec for a head without labels."""
    name = head_of_model(model)
    if name is None or not HEADS[name].labelled:
        what = f"it has no head for named entities or whole documents ({_about(model)})"
        raise BadSpec([("model", what)], next_step=_FINE_TUNE)
    if HEADS[name].says == "labels":
        check_says_labels(getattr(model.config, "problem_type", None), output_names(model))
    return name


def task(model: torch.nn.Module) -> str:
    """The task of a model, which determines what its predictions contain. Raises what `head` raises."""
    name = task_of(head(model), vars(model.config))
    assert name is not None, "a head with labels has a task"
    return name


def output_names(model: torch.nn.Module) -> list[str]:
    """The tags or labels that the outputs of a model's head stand for, in order."""
    config: Any = model.config  # which torch takes for a tensor or module
    id2label: dict[int, str] = config.id2label
    return [id2label[index] for index in range(len(id2label))]


def label_set(model: torch.nn.Module) -> tuple[str, ...]:
    """The entity types or document labels that a model knows, sorted. Raises what `head` raises."""
    return outputs.label_set(head(model), output_names(model))


def is_multi_label(model: torch.nn.Module) -> bool:
    """Whether a document classifier may give a document several labels."""
    return getattr(model.config, "problem_type", None) == SEVERAL


def _about(model: torch.nn.Module) -> str:
    return f"it is a {type(model).__name__}"


def readable_count(tokens: int, reading: str, window: int) -> int:
    """How many of a text's pieces are read. Raises BadSpec where "whole" does not fit into one window, UnknownName."""
    if reading not in READINGS:
        raise UnknownName("reading", reading, READINGS)
    if reading == "whole" and tokens > window:
        raise BadSpec(
            [("reading", f"'whole' reads up to {window:,} word pieces with this model, the text has {tokens:,}")],
            next_step="Use the reading 'windows', which reads a text of any length.",
        )
    return min(tokens, window) if reading == "truncate" else tokens


def _best_tags(
    sequences: Sequence[np.ndarray],
    window: int,
    model: torch.nn.Module,
    tokenizer: Any,
    **options: Unpack[BatchOptions],
) -> list[BestTags]:
    """The likeliest tag of each piece of each sequence; each piece is scored by one of the windows that contain it."""
    total = sum(map(len, sequences))
    best = BestTags(np.zeros(total, dtype=np.int32), np.zeros(total, dtype=np.float32))

    def store(logits: torch.Tensor, rows: np.ndarray, place: np.ndarray) -> None:
        scores, tags = logits.softmax(-1).max(-1)  # from (batch, width, tags) to (batch, width) each
        first, last = rows.T[2:, :, None]  # each (batch, 1)
        scored = (place >= first) & (place < last)
        best.tags[place[scored]] = tags.cpu().numpy()[scored]
        best.scores[place[scored]] = scores.cpu().numpy()[scored]

    begins, _ = read_windows(sequences, window, model, tokenizer, store=store, **options)
    return [BestTags(best.tags[a:b], best.scores[a:b]) for a, b in itertools.pairwise(begins)]


def _window_logits(
    sequences: Sequence[np.ndarray],
    window: int,
    model: torch.nn.Module,
    tokenizer: Any,
    **options: Unpack[BatchOptions],
) -> list[np.ndarray]:
    """The logits of the windows of each sequence, (windows, labels); an empty sequence has one window."""
    by_start: dict[int, np.ndarray] = {}  # logits by the place where the window starts

    def store(logits: torch.Tensor, rows: np.ndarray, place: np.ndarray) -> None:
        by_start.update(zip(rows[:, 0].tolist(), logits.cpu().numpy(), strict=True))

    unknown = tokenizer.unk_token_id or 0  # an empty text is read as one unknown piece
    filled = [ids if len(ids) else np.array([unknown], dtype=np.int32) for ids in sequences]
    begins, table = read_windows(filled, window, model, tokenizer, store=store, **options)
    ends = np.searchsorted(table[:, 0], begins)
    return [np.stack([by_start[start] for start in table[a:b, 0].tolist()]) for a, b in itertools.pairwise(ends)]


class _AnswerFields(TypedDict, total=False):
    """The fields of a Prediction that hold what the model answers."""

    spans: tuple[Span, ...]
    labels: tuple[LabelScore, ...]
    threshold: float | None


def _predict_spans(
    texts: Sequence[str],
    read: Sequence[Pieces],
    window: int,
    model: torch.nn.Module,
    tokenizer: Any,
    **options: Unpack[BatchOptions],
) -> list[_AnswerFields]:
    """The entities of each text."""
    scheme = tags_of(model)
    best = _best_tags([pieces.ids for pieces in read], window, model, tokenizer, **options)
    return [{"spans": _decode(*each, scheme)} for each in zip(texts, read, best, strict=True)]


def _predict_labels(
    texts: Sequence[str],
    read: Sequence[Pieces],
    window: int,
    model: torch.nn.Module,
    tokenizer: Any,
    **options: Unpack[BatchOptions],
) -> list[_AnswerFields]:
    """The labels of each text as a whole; none for a text without pieces."""
    names, threshold = output_names(model), THRESHOLD if is_multi_label(model) else None
    all_logits = _window_logits([pieces.ids for pieces in read], window, model, tokenizer, **options)
    answers: list[_AnswerFields] = []
    for pieces, logits in zip(read, all_logits, strict=True):
        scores = _probabilities(logits, model, None).tolist() if len(pieces) else []
        ranked = sorted(zip(names, scores, strict=False), key=lambda each: -each[1])
        labels = tuple(LabelScore(label=label, score=score) for label, score in ranked)
        answers.append({"labels": labels, "threshold": threshold})
    return answers


def _probabilities(logits: np.ndarray, model: torch.nn.Module, pooling: str | None) -> np.ndarray:
    """The probability of each label, (labels,), from the logits of a document's windows, (windows, labels)."""
    pooling = pooling or document_reading(model)["pooling"]
    if pooling not in POOLINGS:
        raise UnknownName("pooling", pooling, POOLINGS)
    pooled = torch.from_numpy(logits.mean(0) if pooling == "mean" else logits.max(0)).double()
    return (pooled.sigmoid() if is_multi_label(model) else pooled.softmax(-1)).numpy()


def _decode(text: str, pieces: Pieces, best: BestTags, scheme: Tags) -> tuple[Span, ...]:
    words = words_in(text)
    return tuple(decoding.spans(words.places.tolist(), *pieces.align(words).read(*best, scheme)))


def _coverage(text: str, pieces: Pieces, read: Pieces, window: int) -> Coverage:
    """How much of a text was read: `read` of all its `pieces`."""
    unread = ((int(pieces.starts[len(read)]), len(text)),) if len(read) < len(pieces) else ()
    plan = windows(len(read), window)
    return Coverage(
        tokens=len(pieces),
        tokens_read=len(read),
        windows=len(plan),
        unread=unread,
        seams=tuple(plan[1:, 2].tolist()),
        reach=tuple((count, int(pieces.ends[count - 1])) for count in CONTEXTS if count < len(pieces)),
    )


def _costs(seconds: float, tokens: Sequence[int]) -> list[Cost]:
    """The wall time of a batch of texts, shared out in proportion to the pieces read of each."""
    total = sum(tokens)
    return [
        Cost(
            latency_ms=1000 * seconds * (count / total if total else 1 / len(tokens)),
            tokens_per_second=total / seconds if count else 0.0,
        )
        for count in tokens
    ]
