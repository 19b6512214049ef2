"""A text corpus as training rows (packed, by document or truncated, and masked), and its statistics before a launch.

Imports without torch; only `Rows.batch` needs it.
"""

import random
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import numpy as np

from trainer import datasets
from trainer.datasets.rows.masking import Masking
from trainer.datasets.rows.pieces import frame
from trainer.datasets.rows.tokens import Tokens, backend, encode
from trainer.errors import BadData, BadSpec
from trainer.prediction import Plain
from trainer.resolved import ResolvedDataset

if TYPE_CHECKING:
    import torch

RowKind = Literal["packed", "documents", "truncated"]
ROW_KINDS: tuple[RowKind, ...] = get_args(RowKind)
SAMPLED = 1000  # documents that are tokenised for the statistics of a large corpus
COUNTED = 200_000  # documents that are counted before a launch
BATCH, POOL = 16, 64  # padding is stated for batches of 16 rows, taken from pools of 64 batches


class Cuts(NamedTuple):
    """Rows of a corpus as slices of its ids, without special tokens."""

    starts: np.ndarray  # (rows,)
    stops: np.ndarray  # (rows,)


class Rows:
    """Training rows: slices of a corpus between the tokenizer's special tokens, masked anew at every step.

    `lengths`: (rows,), in pieces, special tokens included. Raises BadSpec where max_tokens leaves no room for a piece.
    """

    def __init__(
        self, corpus: Tokens, tokenizer: Any, masking: Masking, *, kind: RowKind, max_tokens: int, seed: int = 0
    ):
        self.corpus, self.masking, self.seed, self._frame = corpus, masking, seed, frame(tokenizer)
        special = self._frame.size
        if max_tokens <= special:
            raise BadSpec([("schedule.max_tokens", f"found {max_tokens}; the special tokens alone are {special}")])
        self.cuts = cut(corpus.ends, kind, max_tokens - special)
        self.lengths = self.cuts.stops - self.cuts.starts + special

    def ids(self, indices: Sequence[int] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Piece ids, padded to the longest row, and the attention mask; both (rows, longest) int64."""
        lengths, (before, after, pad_id, *_) = self.lengths[indices], self._frame
        ids = np.full((len(lengths), lengths.max()), pad_id, dtype=np.int64)
        ids[:, : len(before)] = before
        for row, start, stop in zip(ids, self.cuts.starts[indices], self.cuts.stops[indices], strict=True):
            end = len(before) + stop - start
            row[len(before) : end] = self.corpus.ids[start:stop]
            row[end : end + len(after)] = after
        return ids, (np.arange(ids.shape[1]) < lengths[:, None]).astype(np.int64)

    def batch(self, indices: Sequence[int] | np.ndarray, *, step: int) -> dict[str, "torch.Tensor"]:
        """input_ids, attention_mask and labels of some rows, each (rows, longest), masked as for `step`."""
        import torch

        ids, mask = self.ids(indices)
        inputs, labels = self.masking(ids, seed=self.seed, step=step)
        arrays = {"input_ids": inputs, "attention_mask": mask, "labels": labels}
        return {name: torch.from_numpy(array) for name, array in arrays.items()}


def cut(ends: np.ndarray, kind: RowKind, room: int) -> Cuts:
    """Rows of at most `room` pieces from documents that end at `ends`, (documents,), each with a separator at its end.

    packed: all documents one after the other with separators between them, cut every `room` pieces; only the last row
    is shorter. documents: each document by itself, in as few windows of about equal length as possible. truncated: only
    the first `room` pieces of each document, as in the PubMed runs of the papers.
    """
    stops = np.asarray(ends) - 1
    if kind == "packed":
        starts = np.arange(0, stops[-1], room)
        return Cuts(starts, np.minimum(starts + room, stops[-1]))
    starts = np.append(0, ends[:-1])
    if kind == "truncated":
        return Cuts(starts, np.minimum(starts + room, stops))
    lengths = stops - starts
    counts = -(-lengths // room)
    owner = np.repeat(np.arange(len(counts)), counts)  # (rows,): the document of each
    place = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
    return Cuts(*(starts[owner] + lengths[owner] * (place + edge) // counts[owner] for edge in (0, 1)))


class RowStatistics(Plain):
    """The rows of one kind that a corpus gives; `padding`: the share of padding in a batch."""

    rows: int
    padding: float


class Statistics(Plain):
    """The size of a corpus for a tokenizer. Shares are from 0 to 1; pieces exclude special tokens and separators.

    complete: whether all documents were counted; if not, there are more. sampled: the number of documents that were
    tokenised, chosen at random among those counted, from which the numbers of pieces and rows are scaled up; None: all.
    unknown: the share of unknown pieces. lost: the share of pieces that rows of the kind "truncated" leave out.
    """

    documents: int
    characters: int
    complete: bool
    sampled: int | None
    pieces: int
    pieces_p50: float
    pieces_p95: float
    pieces_max: int
    unknown: float
    lost: float
    rows: dict[str, RowStatistics]


def statistics(
    dataset: str | ResolvedDataset,
    tokenizer: Any,
    *,
    max_tokens: int,
    split: str = "train",
    sample: int = SAMPLED,
    most_documents: int = COUNTED,
) -> Statistics:
    """The size of a corpus in pieces, what truncation would lose, and what each kind of rows gives, before a launch.

    tokenizer: a fast one of transformers, or one of the `tokenizers` library, which needs no torch. The first
    `most_documents` are read and `sample` of them are tokenised. Raises what `datasets.documents` raises, and BadData
    for a split without text.
    """
    texts, documents, characters = _sample(datasets.documents(dataset, split, limit=most_documents + 1), sample)
    if not texts:
        raise BadData(f"the split {split!r} holds no document.", next_step="Fill it, or use another split.")
    plain = backend(tokenizer)
    encoded = list(encode(texts, plain))
    lengths = np.array([len(ids) for ids in encoded])
    total, scale = max(1, int(lengths.sum())), documents / len(texts)
    room = max(1, max_tokens - plain.num_special_tokens_to_add(False))
    unknown = plain.token_to_id(getattr(plain.model, "unk_token", None) or "<unk>")
    return Statistics(
        documents=documents,
        characters=characters,
        complete=documents <= most_documents,
        sampled=len(texts) if len(texts) < documents else None,
        pieces=round(lengths.sum() * scale),
        pieces_p50=float(np.percentile(lengths, 50)),
        pieces_p95=float(np.percentile(lengths, 95)),
        pieces_max=int(lengths.max()),
        unknown=sum(int(np.count_nonzero(ids == unknown)) for ids in encoded) / total,
        lost=int(np.maximum(lengths - room, 0).sum()) / total,
        rows={kind: _count_rows(lengths, kind, room, special=max_tokens - room, scale=scale) for kind in ROW_KINDS},
    )


def _sample(texts: Iterable[str], size: int) -> tuple[list[str], int, int]:
    """A uniform sample of at most `size` texts, always the same, and the numbers of all texts and characters."""
    chosen: list[str] = []
    documents, characters, draw = 0, 0, random.Random(0)
    for text in texts:
        documents, characters = documents + 1, characters + len(text)
        if len(chosen) < size:
            chosen.append(text)
        elif (place := draw.randrange(documents)) < size:
            chosen[place] = text
    return chosen, documents, characters


def _count_rows(lengths: np.ndarray, kind: RowKind, room: int, *, special: int, scale: float) -> RowStatistics:
    lengths = lengths[lengths > 0]
    if not len(lengths):
        return RowStatistics(rows=0, padding=0.0)
    cuts = cut(np.cumsum(lengths + 1), kind, room)
    rows = cuts.stops - cuts.starts + special
    return RowStatistics(rows=round(len(rows) * scale), padding=_padding(rows))


def _padding(lengths: np.ndarray) -> float:
    """The share of padding in batches of rows of similar length, made the way datasets.rows.batches makes them."""
    lengths, places = np.random.default_rng(0).permutation(lengths), 0
    for start in range(0, len(lengths), BATCH * POOL):
        pool = np.sort(lengths[start : start + BATCH * POOL])
        places += sum(batch[-1] * len(batch) for batch in np.split(pool, range(BATCH, len(pool), BATCH)))
    return float(1 - lengths.sum() / places)
