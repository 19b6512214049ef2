"""Answers to questions: the likeliest parts of a text over all windows in which it is read with its question.

In a window the score of an answer is P(start) x P(end), each over the places of the text and the first token, which
stands for no answer there. That no window has an answer is as likely as the least likely of them makes it (the minimum
over windows), as in the code of BERT and in transformers' pipeline.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Unpack

import numpy as np
import torch
from pydantic import ValidationError

from trainer.datasets.rows.pieces import Frame, Pieces, cut, question_frame
from trainer.datasets.rows.questions import QuestionReading
from trainer.datasets.rows.words import Words, words_in
from trainer.errors import BadSpec, CorruptFile
from trainer.inference.model_outputs import FINE_TUNE, describe, task
from trainer.inference.window_batches import BATCH_TOKENS, BatchOptions, longest_window
from trainer.inference.window_batches import read as read_windows
from trainer.models.heads import end_logits
from trainer.prediction import Answer
from trainer.tasks import needs_question

READING = "question_reading"  # the field of a config.json that holds a QuestionReading
N_BEST = 20  # answers of each window and of each text, as in the code of BERT
_LEAST = 1e-30  # probabilities below count as this in log-odds


class Answers(NamedTuple):
    """What a model says of one question: its answers, likeliest first, at most N_BEST, and the probability of none.

    read: word pieces of the text that were read.
    """

    ranked: tuple[Answer, ...]
    no_answer: float
    read: int

    @property
    def log_odds(self) -> float:
        """Of no answer against the likeliest one; infinite where there is nothing to mark."""
        if not self.ranked:
            return math.inf
        return math.log(max(self.no_answer, _LEAST)) - math.log(max(self.ranked[0].score, _LEAST))

    def best(self, reading: QuestionReading) -> Answer | None:
        """The answer that is given: the likeliest, unless a text may lack one and none is likelier by the threshold."""
        if not self.ranked or (reading.no_answer and self.log_odds > reading.threshold):
            return None
        return self.ranked[0]

    def runner_up(self, reading: QuestionReading) -> Answer | None:
        """The likeliest answer that shares no character with the one given; without one, the likeliest of all."""
        best = self.best(reading)
        apart = (each for each in self.ranked if best is None or each.end <= best.start or best.end <= each.start)
        return next(apart, None)


def question_reading(model: torch.nn.Module) -> QuestionReading:
    """How a model was trained to read questions; the usual way where its config does not say.

    Raises BadSpec for a model that does not answer questions, CorruptFile.
    """
    if not needs_question(task(model)):
        raise BadSpec([("question", f"the model does not answer questions ({describe(model)})")], next_step=FINE_TUNE)
    try:
        return QuestionReading.model_validate(getattr(model.config, READING, None) or {})
    except ValidationError:
        what = f"config.json of the model: {READING} does not say how questions are read."
        raise CorruptFile(what, next_step="Fetch or copy the model again.") from None


def question_frames(model: torch.nn.Module, tokenizer: Any, questions: Sequence[str]) -> list[Frame]:
    """What stands around the text of each question. Raises BadData for a question that is too long."""
    longest = question_reading(model).max_question_tokens
    return [question_frame(tokenizer, question, max_tokens=longest) for question in questions]


def answer_questions(
    texts: Sequence[str],
    questions: Sequence[str],
    model: torch.nn.Module,
    tokenizer: Any,
    *,
    max_tokens: int | None = None,
    **options: Unpack[BatchOptions],
) -> list[Answers]:
    """The answers to each question in its text, read in windows. max_tokens: as for inference.predict_many. Raises
    what `question_reading`, `question_frames` and `longest_window` raise, and BadData for a question without room.
    """
    pieces_of = {text: cut(text, tokenizer) for text in dict.fromkeys(texts)}  # many questions share a text
    read, frames = [pieces_of[text] for text in texts], question_frames(model, tokenizer, questions)
    longest = longest_window(model, tokenizer, max_tokens, reading="windows")
    rooms = [around.room(len(pieces), longest) for pieces, around in zip(read, frames, strict=True)]
    batching = BatchOptions(batch_tokens=BATCH_TOKENS) | options | BatchOptions(frames=frames)
    return find_answers(texts, read, rooms, model, tokenizer, **batching)


def find_answers(
    texts: Sequence[str],
    read: Sequence[Pieces],
    rooms: Sequence[int],
    model: torch.nn.Module,
    tokenizer: Any,
    **options: Unpack[BatchOptions],
) -> list[Answers]:
    """The answers in each text, of which `read` are the pieces. options: with the frames that hold the questions."""
    reading = question_reading(model)
    frames = options.get("frames") or []
    by_window: dict[int, tuple[np.ndarray, np.ndarray, float]] = {}  # by the place where the window starts

    def store(logits: torch.Tensor, rows: np.ndarray, place: np.ndarray) -> None:
        inside = torch.from_numpy((place >= rows[:, :1]) & (place < rows[:, 1:2])).to(logits.device)  # (batch, width)
        allowed = inside.clone()
        allowed[:, 0] = True
        shares = end_logits(logits, allowed).softmax(-1).view(len(rows), 2, -1)  # (batch, start and end, width)
        none = shares[..., 0].prod(-1).tolist()
        shares = shares.masked_fill(~inside[:, None], 0)
        places, scores = best_spans(shares[:, 0], shares[:, 1], longest=reading.max_answer_tokens)
        before = place[:, 0]  # the first column stands for the piece of this number
        found = (places.cpu().numpy() + before[:, None, None], scores.double().cpu().numpy())
        by_window.update(zip(rows[:, 0].tolist(), zip(*found, none, strict=True), strict=True))

    options["shared"] = reading.doc_stride
    begins, table = read_windows([pieces.ids for pieces in read], rooms, model, tokenizer, store=store, **options)
    ends = np.searchsorted(table[:, 0], begins)
    words_of = {text: words_in(text) for text in dict.fromkeys(texts)}
    assert len(frames) == len(texts)
    return [
        _merge([by_window[start] for start in table[a:b, 0].tolist()], pieces, int(begin), words_of[text])
        for (a, b), pieces, begin, text in zip(itertools.pairwise(ends), read, begins, texts, strict=False)
    ]


def best_spans(starts: torch.Tensor, ends: torch.Tensor, *, longest: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The N_BEST likeliest answers of each window: [first, last] columns, (rows, n, 2), and their scores, (rows, n).

    starts, ends: probabilities, (rows, tokens). An answer has 1 to `longest` tokens; all of them are compared.
    """
    rows, tokens = starts.shape
    lengths = min(longest, tokens)
    later = torch.nn.functional.pad(ends, (0, lengths - 1)).unfold(1, lengths, 1)  # (rows, tokens, lengths)
    scores, chosen = (starts[..., None] * later).flatten(1).topk(min(N_BEST, tokens * lengths), dim=1)
    first = chosen // lengths
    return torch.stack([first, first + chosen % lengths], dim=-1), scores


def _merge(
    windows: Sequence[tuple[np.ndarray, np.ndarray, float]], pieces: Pieces, begin: int, words: Words
) -> Answers:
    """The answers of all windows of a text whose first piece has the number `begin`.

    Ends are moved to those of their words, since a piece may be a part of one. A part of the text that several windows
    hold has the highest of its scores.
    """
    scores: dict[tuple[int, int], float] = {}
    for places, values, _ in windows:
        for (first, last), score in zip((places - begin).tolist(), values.tolist(), strict=True):
            if score > 0:
                place = _whole_words(int(pieces.starts[first]), int(pieces.ends[last]), words)
                scores[place] = max(score, scores.get(place, 0.0))
    ranked = sorted(scores.items(), key=lambda each: (-each[1], each[0]))[:N_BEST]
    none = min((none for *_, none in windows), default=1.0)
    answers = tuple(Answer(start=start, end=end, score=score) for (start, end), score in ranked)
    return Answers(answers, none, len(pieces))


def _whole_words(start: int, end: int, words: Words) -> tuple[int, int]:
    """[start, end) with the rest of the words at both ends."""
    first = int(np.searchsorted(words.ends, start, side="right"))
    last = int(np.searchsorted(words.starts, end, side="left")) - 1
    if first > last:  # nothing but what belongs to no word
        return start, end
    return min(start, int(words.starts[first])), max(end, int(words.ends[last]))
