"""Inference over text of any length, once, for evaluation, the command line and the app.

A text is cut into word pieces once. Long ones are read in overlapping windows; every piece is scored in the window
that shows it most context; windows of many texts share batches under a budget of padded pieces. Of the logits only
the best tag of each piece and its probability are kept, so memory grows by a few dozen bytes a piece.
"""

import functools
import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch

from trainer.errors import BadSpec, StillroomError, UnknownName
from trainer.pieces import Frame, Pieces, cut, cut_words, frame, word_starts
from trainer.prediction import Cost, Coverage, Prediction, Span
from trainer.tasks.ner import NER

Reading = Literal["windows", "truncate", "whole"]
READINGS: tuple[str, ...] = get_args(Reading)
LABELLINGS = ("first", "all")
BATCH_TOKENS = 2048  # larger batches leave the caches of a CPU: 4,096 took 15 % longer on two cores


class Cancelled(StillroomError):
    """The caller's `cancelled` said so before the last window was read."""

    next_step = "Nothing was kept; ask again for an answer."


class Best(NamedTuple):
    """For each piece of one sequence the index of its likeliest tag and that tag's probability, both (pieces,)."""

    tags: np.ndarray
    scores: np.ndarray


def predict(text: str, model: torch.nn.Module, tokenizer: Any, **options: Any) -> Prediction:
    """What a tagging model finds in one text; the options are those of predict_many."""
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
    """What a tagging model finds in each text; windows of all texts share batches.

    reading: "windows" reads everything, "truncate" the first max_tokens pieces (the rest is in coverage.unread),
    "whole" everything in one window. max_tokens counts special tokens and defaults to the model's limit. batch_tokens
    is the budget of padded pieces a batch. progress gets (windows done, windows in all) after each batch; cancelled is
    asked before each. A text without pieces gives an empty prediction. In a batch each text carries the share of the
    wall time that its pieces have. Raises BadSpec, UnknownName and Cancelled.
    """
    began = time.perf_counter()
    labels, window = tag_names(model), window_size(model, tokenizer, max_tokens)
    found = [cut(text, tokenizer) for text in texts]
    read = [pieces.first(readable(len(pieces), reading, window)) for pieces in found]
    follow = {"progress": progress, "cancelled": cancelled}
    best = _score([pieces.ids for pieces in read], window, model, tokenizer, batch_tokens=batch_tokens, **follow)
    spans = [_spans(*each, labels, tokenizer) for each in zip(texts, read, best, strict=True)]
    coverages = [_coverage(*each, window) for each in zip(texts, found, read, strict=True)]
    costs = _costs(time.perf_counter() - began, [len(pieces) for pieces in read])
    common = {"model": name, "task": "ner", "label_set": entity_types(labels)}
    return [
        Prediction(spans=tuple(its_spans), coverage=coverage, cost=cost, **common)
        for its_spans, coverage, cost in zip(spans, coverages, costs, strict=True)
    ]


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
    """The tags of sentences that are split into words already; long ones go through the same windows.

    labelling "first": a tag a word, that of its first piece, and "O" for a word that yields no piece. "all": a tag a
    piece; `expand` repeats gold tags in the same way.
    """
    if labelling not in LABELLINGS:
        raise UnknownName("labelling", labelling, LABELLINGS)
    labels, window = tag_names(model), window_size(model, tokenizer, max_tokens)
    found = [cut_words(words, tokenizer) for words in sentences]
    follow = {"progress": progress, "cancelled": cancelled}
    best = _score([pieces.ids for pieces, _ in found], window, model, tokenizer, batch_tokens=batch_tokens, **follow)
    tagged = [[labels[tag] for tag in tags.tolist()] for tags, _ in best]
    if labelling == "all":
        return tagged
    each = zip(sentences, found, tagged, strict=True)
    return [_first_tags(len(words), owners, tags) for words, (_, owners), tags in each]


def expand(sentences: Sequence[Sequence[str]], tags: Sequence[Sequence[str]], tokenizer: Any) -> list[list[str]]:
    """Word tags repeated unchanged on every piece of their word: the gold side of labelling "all"."""
    owners = (cut_words(words, tokenizer)[1].tolist() for words in sentences)
    return [[tags_of[word] for word in pieces] for tags_of, pieces in zip(tags, owners, strict=True)]


def tag_names(model: torch.nn.Module) -> list[str]:
    """The model's tags by output index. Raises BadSpec if its head is not one for named entities."""
    names = [model.config.id2label[index] for index in range(len(model.config.id2label))]
    if "O" not in names:
        raise BadSpec(
            [("model", f"it has no head for named entities (its labels are {', '.join(names[:6])})")],
            next_step="Choose a model that was fine-tuned for ner, or fine-tune this one first.",
        )
    return names


def entity_types(tags: Sequence[str]) -> tuple[str, ...]:
    """The entity types that some IOB2 tags name, sorted."""
    return tuple(sorted({tag[2:] if tag[:2] in ("B-", "I-") else tag for tag in tags} - {"O"}))


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
    return getattr(model.config, "max_position_embeddings", None) or tokenizer.model_max_length


def windows(tokens: int, size: int) -> np.ndarray:
    """Windows of at most `size` over a sequence: rows of (start, end, first kept, end of kept).

    As few as can be with neighbours that share at least a quarter of `size`, all of one length, the last flush with
    the end. Each token is kept by the window where it is farthest from the nearer edge, the ends of the text not
    counting as edges; so the border between two neighbours is the middle of what they share.
    """
    if tokens <= size:
        return np.array([[0, tokens, 0, tokens]] if tokens else np.empty((0, 4)), dtype=np.int64)
    shared = size // 4
    count = math.ceil((tokens - shared) / (size - shared))
    length = math.ceil((tokens + (count - 1) * shared) / count)
    starts = np.arange(count) * (tokens - length) // (count - 1)
    ends = starts + length
    borders = (starts[1:] + ends[:-1] + 1) // 2
    return np.stack([starts, ends, np.append(0, borders), np.append(borders, tokens)], axis=1)


def window_size(model: torch.nn.Module, tokenizer: Any, max_tokens: int | None) -> int:
    """Pieces that a window has room for beside the special tokens."""
    limit, special = model_limit(model, tokenizer), tokenizer.num_special_tokens_to_add()
    wanted = min(limit, tokenizer.model_max_length) if max_tokens is None else max_tokens
    if not special < wanted <= limit:
        raise BadSpec(
            [("max_tokens", f"found {wanted:,}; this model reads {special + 1:,} to {limit:,} word pieces at once")],
            next_step="Give a number in that range, or leave it out to use the model's own limit.",
        )
    return wanted - special


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


def _score(
    sequences: Sequence[np.ndarray],
    window: int,
    model: torch.nn.Module,
    tokenizer: Any,
    *,
    batch_tokens: int,
    progress: Callable[[int, int], None] | None,
    cancelled: Callable[[], bool] | None,
) -> list[Best]:
    """The likeliest tag of each piece of each sequence, each scored once, in the window that keeps it."""
    begins = np.cumsum([0, *map(len, sequences)])
    flat = np.concatenate([np.empty(0, dtype=np.int32), *sequences])  # (pieces,) of all sequences
    plans = [windows(len(sequence), window) + begin for sequence, begin in zip(sequences, begins[:-1], strict=True)]
    table = np.concatenate([np.empty((0, 4), dtype=np.int64), *plans])
    best = Best(np.zeros(len(flat), dtype=np.int32), np.zeros(len(flat), dtype=np.float32))
    around = frame(tokenizer)
    batches = _batches(table, len(around.before) + len(around.after), batch_tokens, share_of=thread_count(model))
    done = 0
    with evaluating(model), side_by_side(thread_count(model), len(batches)) as submit:
        waiting = [submit(_score_batch, flat, rows, around, model, best) for rows in batches]
        for rows, result in zip(batches, waiting, strict=True):
            if cancelled and cancelled():
                raise Cancelled("The prediction was cancelled.")
            result()
            done += len(rows)
            if progress:
                progress(done, len(table))
    return [Best(best.tags[a:b], best.scores[a:b]) for a, b in itertools.pairwise(begins)]


def _batches(table: np.ndarray, special: int, batch_tokens: int, *, share_of: int) -> list[np.ndarray]:
    """Rows of `table`, longest first, in batches whose padded pieces are a share of what there is, or of batch_tokens.

    So as many batches as there are threads are no larger together than batch_tokens, and a few windows are shared out
    evenly. A batch has one row at least.
    """
    lengths = table[:, 1] - table[:, 0] + special
    order = np.argsort(-lengths, kind="stable")
    budget = min(batch_tokens, int(lengths.sum())) // share_of
    batches, start = [], 0
    while start < len(order):
        rows = max(1, budget // int(lengths[order[start]]))
        batches.append(table[order[start : start + rows]])
        start += rows
    return batches


def thread_count(model: torch.nn.Module) -> int:
    """Batches that can run side by side: one on an accelerator, one a thread on a CPU."""
    return torch.get_num_threads() if next(model.parameters()).device.type == "cpu" else 1


@contextmanager
def side_by_side(threads: int, batches: int) -> Iterator[Callable]:
    """A function that takes a call and returns another, which gives its result.

    On a CPU batches run side by side with one thread each: threads that share every operator wait for each other
    hundreds of times a batch, which took 30 % longer on two cores. But so few batches that a fifth of the threads'
    time would be idle are computed one after the other.
    """
    if threads == 1 or batches < 0.8 * threads * math.ceil(batches / threads):
        yield functools.partial
        return
    # torch counts threads by thread, but a new one starts with the number set last: so it is set again at the end.
    pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
    try:
        yield lambda *call: pool.submit(*call).result
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)


@torch.inference_mode()
def _score_batch(flat: np.ndarray, rows: np.ndarray, around: Frame, model: torch.nn.Module, best: Best) -> None:
    """Score the windows `rows` of `flat` in one forward pass and write what they keep into `best`."""
    start, end, first, last = rows.T[:, :, None]  # each (batch, 1)
    before, after = len(around.before), np.array([around.after], dtype=np.int64)
    lengths = end - start
    place = start - before + np.arange(before + lengths.max() + after.size)  # (batch, width): the piece under a column
    ids = np.where((place >= start) & (place < end), flat[place.clip(0, len(flat) - 1)], around.pad_id).astype(np.int64)
    ids[:, :before] = around.before
    np.put_along_axis(ids, before + lengths + np.arange(after.size), after, axis=1)
    mask = (place < end + after.size).astype(np.int64)
    device = next(model.parameters()).device
    inputs = {"input_ids": ids, "attention_mask": mask}
    logits = model(**{name: torch.from_numpy(array).to(device) for name, array in inputs.items()}).logits
    scores, tags = logits.float().softmax(-1).max(-1)  # from (batch, width, tags) to (batch, width) each
    kept = (place >= first) & (place < last)
    best.tags[place[kept]] = tags.cpu().numpy()[kept]
    best.scores[place[kept]] = scores.cpu().numpy()[kept]


@contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Dropout off, also when training asks for a score between two steps."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def _spans(text: str, pieces: Pieces, best: Best, labels: Sequence[str], tokenizer: Any) -> list[Span]:
    if not len(pieces):
        return []
    first = word_starts(text, pieces, tokenizer)
    last = np.append(first[1:], len(pieces)) - 1
    words = np.stack([pieces.starts[first], pieces.ends[last]], axis=1)  # (words, 2)
    tags = [labels[tag] for tag in best.tags[first].tolist()]
    found = NER.spans(words.tolist(), tags, best.scores[first].tolist())
    # Byte-level tokenizers give a blank before a blank a piece that covers nothing.
    return [span for span in found if span.end > span.start]


def _first_tags(words: int, owners: np.ndarray, tags: Sequence[str]) -> list[str]:
    """The tag of each word's first piece; a word without pieces is outside."""
    said = ["O"] * words
    for word, piece in zip(*map(np.ndarray.tolist, np.unique(owners, return_index=True)), strict=True):
        said[word] = tags[piece]
    return said


def _coverage(text: str, found: Pieces, read: Pieces, window: int) -> Coverage:
    unread = ((int(found.starts[len(read)]), len(text)),) if len(read) < len(found) else ()
    count = len(windows(len(read), window))
    return Coverage(tokens=len(found), tokens_read=len(read), windows=count, unread=unread)


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
