"""Inference over text of any length: what evaluation, the command line and the app all call.

A text is cut into word pieces once. A long text is read in overlapping windows, and each piece is scored in the window
that shows it the most context. Windows of many texts share batches, under a budget of padded pieces. Only the best tag
of each piece and its probability are retained, so memory grows by a few dozen bytes per piece. A document classifier
reads the same windows, and a document's logits are the mean or the maximum over its windows.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, TypedDict, Unpack, get_args

import numpy as np
import torch

from trainer.datasets.readers.questions import ANSWER
from trainer.datasets.rows.pieces import Frame, Pieces, cut, frame, windows
from trainer.errors import BadSpec, UnknownName
from trainer.inference.answers import Answers, answer_questions, find_answers, question_frames, question_reading
from trainer.inference.model_outputs import (
    FINE_TUNE,
    THRESHOLD,
    THRESHOLDS,
    attributes_of,
    describe,
    head,
    is_multi_label,
    label_set,
    output_names,
    tag_names,
    tags_of,
    task,
    thresholds,
)
from trainer.inference.relations import classify_pairs, pair_reading, predict_relations
from trainer.inference.roles import Roles, classify_sentences, predict_roles, role_windows
from trainer.inference.tagging import (
    LABELLINGS,
    BestTags,
    Labelling,
    WordOutputs,
    expand,
    predict_spans,
    tag_words,
    word_outputs,
    word_owners,
)
from trainer.inference.values import RANGE, Values, predict_values, read_values, value_range
from trainer.inference.window_batches import (
    BATCH_TOKENS,
    BatchOptions,
    Cancelled,
    evaluating,
    longest_window,
    window_logits,
)
from trainer.models.heads import document_reading, model_limit
from trainer.prediction import CONTEXTS, Answer, Cost, Coverage, LabelScore, Prediction, Span, Value
from trainer.tasks import TASKS, needs_hypothesis, needs_question

__all__ = [
    "BATCH_TOKENS",
    "LABELLINGS",
    "RANGE",
    "THRESHOLD",
    "THRESHOLDS",
    "Answers",
    "BestTags",
    "Cancelled",
    "Classification",
    "Labelling",
    "Roles",
    "Values",
    "WordOutputs",
    "answer_questions",
    "attributes_of",
    "classify",
    "classify_pairs",
    "classify_sentences",
    "evaluating",
    "expand",
    "head",
    "is_multi_label",
    "frames_of",
    "label_set",
    "longest_window",
    "model_limit",
    "output_names",
    "pair_reading",
    "plan_windows",
    "predict",
    "predict_many",
    "predict_relations",
    "read_values",
    "value_range",
    "question_reading",
    "tag_names",
    "tag_words",
    "tags_of",
    "task",
    "thresholds",
    "windows",
    "word_outputs",
    "word_owners",
]

Reading = Literal["windows", "truncate", "whole"]
READINGS: tuple[str, ...] = get_args(Reading)
POOLINGS = ("mean", "max")


def predict(
    text: str,
    model: torch.nn.Module,
    tokenizer: Any,
    *,
    hypothesis: str | None = None,
    question: str | None = None,
    **options: Any,
) -> Prediction:
    """The prediction of a model for one text, with its hypothesis or question; other options are of `predict_many`."""
    hypotheses, questions = (None if other is None else [other] for other in (hypothesis, question))
    return predict_many([text], model, tokenizer, hypotheses=hypotheses, questions=questions, **options)[0]


def predict_many(
    texts: Sequence[str],
    model: torch.nn.Module,
    tokenizer: Any,
    *,
    name: str,
    hypotheses: Sequence[str] | None = None,
    questions: Sequence[str] | None = None,
    reading: Reading = "windows",
    max_tokens: int | None = None,
    batch_tokens: int = BATCH_TOKENS,
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> list[Prediction]:
    """The prediction of a model for each text: entities, labels of the whole text, or the answer to a question.

    hypotheses: one per text, for a model of pairs, and questions for one that answers them; they are never cut, so they
    leave a window less room for the text.
    reading: "windows" reads everything, "truncate" the first max_tokens pieces (the rest is in coverage.unread),
    "whole" everything in one window. max_tokens includes special tokens; by default windows have the length that the
    model was trained with (`window_size`). batch_tokens is the budget of padded pieces per batch. progress receives
    (windows done, all windows) after each batch; cancelled is asked before each group of them. A text without pieces
    gives an empty prediction. The wall time is shared out over the texts in proportion to their pieces. Raises
    BadData for a hypothesis or question that is too long, BadSpec, UnknownName and Cancelled.
    """
    began = time.perf_counter()
    model_task = task(model)
    if TASKS[model_task].reads == "mentions":
        what = "it labels relations between entities, which another model has to find"
        raise BadSpec([("model", what)], next_step="Choose a model for entities, and this one for their relations.")
    frames, pieces = frames_of(model, tokenizer, hypotheses, len(texts), questions), [cut(t, tokenizer) for t in texts]
    rooms, read = _readable(pieces, frames, longest_window(model, tokenizer, max_tokens, reading=reading), reading)
    predict_fields = _PREDICT[TASKS[model_task].predicts]
    batching = BatchOptions(batch_tokens=batch_tokens, progress=progress, cancelled=cancelled, frames=frames)
    answers = predict_fields(texts, read, rooms, model, tokenizer, **batching)
    plans = [plan_windows(model, *each) for each in zip(texts, read, rooms, strict=True)]
    coverages = [_coverage(*each) for each in zip(texts, pieces, read, plans, strict=True)]
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
    hypotheses: Sequence[str] | None = None,
    reading: Reading = "windows",
    pooling: str | None = None,
    max_tokens: int | None = None,
    batch_tokens: int = BATCH_TOKENS,
) -> Classification:
    """The label probabilities of each text; the options are those of `predict_many`.

    pooling: how the logits of a text's windows are combined, one of POOLINGS; by default as the model's config says.
    A text without pieces is read as one unknown piece. Raises what `predict_many` raises.
    """
    if TASKS[task(model)].predicts != "labels":
        raise BadSpec([("model", f"it has no head for whole documents ({describe(model)})")], next_step=FINE_TUNE)
    frames, pieces = frames_of(model, tokenizer, hypotheses, len(texts)), [cut(text, tokenizer) for text in texts]
    rooms, read = _readable(pieces, frames, longest_window(model, tokenizer, max_tokens, reading=reading), reading)
    ids = [each.ids for each in read]
    logits = window_logits(ids, rooms, model, tokenizer, batch_tokens=batch_tokens, frames=frames)
    probabilities = np.stack([_probabilities(each, model, pooling) for each in logits])
    return Classification(probabilities, np.array([*map(len, pieces)]), np.array([*map(len, read)]))


def frames_of(
    model: torch.nn.Module,
    tokenizer: Any,
    hypotheses: Sequence[str] | None,
    texts: int,
    questions: Sequence[str] | None = None,
) -> list[Frame]:
    """What stands around each text that a model reads: special tokens, and the hypothesis of a pair or the question.

    Raises BadSpec where a model of pairs gets no hypothesis or one for questions no question, or another model gets
    one; BadData for a question that is too long.
    """
    if needs_question(task(model)):
        asked = [each for each in questions or () if each.strip()]
        if len(asked) != texts:
            what = "found none; this model answers a question about a text"
            raise BadSpec([("question", what)], next_step="Write the question that the text shall answer.")
        return question_frames(model, tokenizer, asked)
    if questions is not None:
        raise BadSpec([("question", "found one; this model answers no questions")], next_step="Leave it out.")
    if not needs_hypothesis(task(model)):
        if hypotheses is not None:
            raise BadSpec([("hypothesis", "found one; this model reads a text alone")], next_step="Leave it out.")
        return [frame(tokenizer)] * texts
    stated = [each for each in hypotheses or () if each.strip()]
    if len(stated) != texts:
        what = "found none; this model judges a text together with a hypothesis"
        raise BadSpec([("hypothesis", what)], next_step="Write a statement or question about the text as hypothesis.")
    return [frame(tokenizer, hypothesis) for hypothesis in stated]


def _readable(
    pieces: Sequence[Pieces], frames: Sequence[Frame], max_tokens: int, reading: str
) -> tuple[list[int], list[Pieces]]:
    """How many pieces of each text fit into a window, and the pieces of each text that are read."""
    rooms = [around.room(len(each), max_tokens) for each, around in zip(pieces, frames, strict=True)]
    counts = [readable_count(len(each), reading, room) for each, room in zip(pieces, rooms, strict=True)]
    return rooms, [each.first(count) for each, count in zip(pieces, counts, strict=True)]


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


class _AnswerFields(TypedDict, total=False):
    """The fields of a Prediction that hold what the model answers."""

    spans: tuple[Span, ...]
    labels: tuple[LabelScore, ...]
    threshold: float | None
    answer: Answer | None
    runner_up: Answer | None
    no_answer: float
    value: Value | None


def _predict_answers(
    texts: Sequence[str],
    read: Sequence[Pieces],
    rooms: Sequence[int],
    model: torch.nn.Module,
    tokenizer: Any,
    **options: Unpack[BatchOptions],
) -> list[_AnswerFields]:
    """The answer in each text, also as its one span."""
    reading, fields = question_reading(model), list[_AnswerFields]()
    for answers in find_answers(texts, read, rooms, model, tokenizer, **options):
        best, next_best = answers.best(reading), answers.runner_up(reading)
        spans = (Span(**best.model_dump(), label=ANSWER),) if best else ()
        fields.append({"spans": spans, "answer": best, "runner_up": next_best, "no_answer": answers.no_answer})
    return fields


def _predict_spans(
    texts: Sequence[str],
    read: Sequence[Pieces],
    rooms: Sequence[int],
    model: torch.nn.Module,
    tokenizer: Any,
    **options: Unpack[BatchOptions],
) -> list[_AnswerFields]:
    """The entities of each text."""
    return [{"spans": spans} for spans in predict_spans(texts, read, rooms, model, tokenizer, **options)]


def _predict_labels(
    texts: Sequence[str],
    read: Sequence[Pieces],
    rooms: Sequence[int],
    model: torch.nn.Module,
    tokenizer: Any,
    **options: Unpack[BatchOptions],
) -> list[_AnswerFields]:
    """The labels of each text as a whole; none for a text without pieces."""
    names, several = output_names(model), is_multi_label(model)
    chosen = thresholds(model) if several and getattr(model.config, THRESHOLDS, None) else {}
    threshold = None if not several else min(chosen.values(), default=THRESHOLD)
    all_logits = window_logits([pieces.ids for pieces in read], rooms, model, tokenizer, **options)
    answers: list[_AnswerFields] = []
    for pieces, logits in zip(read, all_logits, strict=True):
        scores = _probabilities(logits, model, None).tolist() if len(pieces) else []
        ranked = sorted(zip(names, scores, strict=False), key=lambda each: -each[1])
        labels = tuple(LabelScore(label=label, score=score, threshold=chosen.get(label)) for label, score in ranked)
        answers.append({"labels": labels, "threshold": threshold})
    return answers


def _predict_sentences(
    texts: Sequence[str],
    read: Sequence[Pieces],
    rooms: Sequence[int],
    model: torch.nn.Module,
    tokenizer: Any,
    **options: Unpack[BatchOptions],
) -> list[_AnswerFields]:
    """The sentences of each text with their roles."""
    return [{"spans": spans} for spans in predict_roles(texts, read, rooms, model, tokenizer, **options)]


def _predict_value(
    texts: Sequence[str],
    read: Sequence[Pieces],
    rooms: Sequence[int],
    model: torch.nn.Module,
    tokenizer: Any,
    **options: Unpack[BatchOptions],
) -> list[_AnswerFields]:
    """The value of each text; none for a text without pieces."""
    return [{"value": value} for value in predict_values(read, rooms, model, tokenizer, **options)]


_PREDICT: dict[str, Callable[..., list[_AnswerFields]]] = {  # by what the outputs of a task's models stand for
    "tags": _predict_spans,
    "labels": _predict_labels,
    "roles": _predict_sentences,
    "ends": _predict_answers,
    "value": _predict_value,
}


def plan_windows(model: torch.nn.Module, text: str, read: Pieces, room: int) -> np.ndarray:
    """The windows in which a model reads the pieces `read` of a text, with room for so many: (windows, 4).

    They are those of datasets.rows.pieces.windows; for roles they are of whole sentences.
    """
    model_task = task(model)
    if TASKS[model_task].predicts == "roles":
        return role_windows(text, read, room)
    shared = question_reading(model).doc_stride if needs_question(model_task) else None
    return windows(len(read), room, shared)


def _probabilities(logits: np.ndarray, model: torch.nn.Module, pooling: str | None) -> np.ndarray:
    """The probability of each label, (labels,), from the logits of a document's windows, (windows, labels)."""
    pooling = pooling or document_reading(model)["pooling"]
    if pooling not in POOLINGS:
        raise UnknownName("pooling", pooling, POOLINGS)
    pooled = torch.from_numpy(logits.mean(0) if pooling == "mean" else logits.max(0)).double()
    return (pooled.sigmoid() if is_multi_label(model) else pooled.softmax(-1)).numpy()


def _coverage(text: str, pieces: Pieces, read: Pieces, plan: np.ndarray) -> Coverage:
    """How much of a text was read: `read` of all its `pieces`, in the windows of `plan`."""
    unread = ((int(pieces.starts[len(read)]), len(text)),) if len(read) < len(pieces) else ()
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
