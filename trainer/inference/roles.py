"""Roles of sentences: a token classifier is read at the first word piece of each sentence, in windows of whole ones."""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple, Unpack

import numpy as np
import torch

from trainer.datasets.rows.pieces import Pieces, cut
from trainer.datasets.rows.sentences import first_pieces, sentence_places, sentence_windows
from trainer.errors import BadSpec
from trainer.inference.model_outputs import FINE_TUNE, describe, output_names, task
from trainer.inference.window_batches import BATCH_TOKENS, BatchOptions, window_size
from trainer.inference.window_batches import read as read_windows
from trainer.prediction import Span
from trainer.tasks import TASKS


class Roles(NamedTuple):
    """The probability of each role for the sentences of a text: (sentences, roles), 0 where a sentence was not read.

    read: how many word pieces were.
    """

    probabilities: np.ndarray
    read: int


def classify_sentences(
    texts: Sequence[str],
    places: Sequence[np.ndarray],
    model: torch.nn.Module,
    tokenizer: Any,
    *,
    max_tokens: int | None = None,
    **options: Unpack[BatchOptions],
) -> list[Roles]:
    """The roles of the sentences at `places` of each text, (sentences, 2). max_tokens: as for inference.predict_many.

    Raises BadSpec for a model that was not trained for roles, and what `window_size` raises.
    """
    if TASKS[task(model)].predicts != "roles":
        raise BadSpec([("model", f"it gives sentences no roles ({describe(model)})")], next_step=FINE_TUNE)
    room = window_size(model, tokenizer, max_tokens, reading="windows")
    pieces = [cut(text, tokenizer) for text in texts]
    rooms = [room] * len(texts)
    return _classify(places, pieces, rooms, model, tokenizer, **({"batch_tokens": BATCH_TOKENS} | options))


def predict_roles(
    texts: Sequence[str],
    read: Sequence[Pieces],
    rooms: Sequence[int],
    model: torch.nn.Module,
    tokenizer: Any,
    **options: Unpack[BatchOptions],
) -> list[tuple[Span, ...]]:
    """Each sentence of each text as a span with its likeliest role. read: the pieces that are read of each text."""
    names, places = output_names(model), [sentence_places(text) for text in texts]
    answers = []
    for where, roles in zip(places, _classify(places, read, rooms, model, tokenizer, **options), strict=True):
        best = roles.probabilities.argmax(axis=1) if len(where) else []
        spans = (
            Span(start=int(start), end=int(end), label=names[role], score=float(scores[role]))
            for (start, end), role, scores in zip(where, best, roles.probabilities, strict=True)
            if scores[role] > 0
        )
        answers.append(tuple(spans))
    return answers


def role_windows(text: str, read: Pieces, room: int) -> np.ndarray:
    """The windows in which the pieces `read` of a text are read for its roles, as of `sentence_windows`."""
    return sentence_windows(first_pieces(sentence_places(text), read.starts, read.ends), len(read), room)


def _classify(
    places: Sequence[np.ndarray],
    read: Sequence[Pieces],
    rooms: Sequence[int],
    model: torch.nn.Module,
    tokenizer: Any,
    **options: Unpack[BatchOptions],
) -> list[Roles]:
    """The roles of the sentences at `places` of the texts with these pieces."""
    firsts = [first_pieces(where, each.starts, each.ends) for where, each in zip(places, read, strict=True)]
    plans = [sentence_windows(*each) for each in zip(firsts, map(len, read), rooms, strict=True)]
    begins = np.cumsum([0, *map(len, read)])
    wanted = np.full(begins[-1], -1)  # (pieces,) of all texts: the number of the sentence that begins there
    ends = np.cumsum([0, *map(len, firsts)])
    for first, begin, number in zip(firsts, begins, ends, strict=False):
        wanted[begin + first[first >= 0]] = number + np.flatnonzero(first >= 0)
    probabilities = np.zeros((ends[-1], len(output_names(model))))

    def store(logits: torch.Tensor, rows: np.ndarray, place: np.ndarray) -> None:
        first, last = rows.T[2:, :, None]  # each (batch, 1)
        row, column = np.nonzero((place >= first) & (place < last))
        numbers = wanted[place[row, column]]
        speaks = numbers >= 0
        scores = logits[row[speaks], column[speaks]].double().softmax(-1)
        probabilities[numbers[speaks]] = scores.cpu().numpy()

    read_windows([each.ids for each in read], rooms, model, tokenizer, store=store, plans=plans, **options)
    parts = itertools.pairwise(ends.tolist())
    return [Roles(probabilities[a:b], len(each)) for (a, b), each in zip(parts, read, strict=True)]
