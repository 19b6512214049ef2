"""How a model reads questions about texts, and where an answer is in the word pieces of a text. No torch."""

from collections.abc import Sequence

import numpy as np

from trainer.datasets.rows.pieces import Pieces
from trainer.prediction import Plain


class QuestionReading(Plain):
    """How a model reads questions; stands in its config.json.

    doc_stride: pieces that neighbouring windows share at least. max_answer_tokens, max_question_tokens: the longest
    answer and question. no_answer: whether a text may lack the answer; then `threshold` is the largest log-odds of no
    answer against the best one at which that is still given. The defaults are those of the code of BERT.
    """

    doc_stride: int = 128
    max_answer_tokens: int = 30
    max_question_tokens: int = 64
    no_answer: bool = False
    threshold: float = 0.0


def find_pieces(pieces: Pieces, place: tuple[int, int]) -> tuple[int, int] | None:
    """The first and last piece that [start, end) of the text touches; None where it touches none."""
    touched = np.flatnonzero((pieces.starts < place[1]) & (pieces.ends > place[0]) & (pieces.starts < pieces.ends))
    return (int(touched[0]), int(touched[-1])) if len(touched) else None


def holding(windows: np.ndarray, answer: tuple[int, int]) -> np.ndarray:
    """Which windows, (windows, 4), hold the pieces from the first to the last of an answer: (windows,)."""
    whole: np.ndarray = (windows[:, 0] <= answer[0]) & (answer[1] < windows[:, 1])
    return whole


def draw_windows(windows: np.ndarray, answer: tuple[int, int] | None, most: int, seed: Sequence[int]) -> np.ndarray:
    """At most `most` windows, (drawn, 4), in order: first one that holds the answer, then others, drawn by `seed`."""
    if len(windows) <= most:
        return windows
    random = np.random.default_rng(seed)
    order = random.permutation(len(windows))
    if answer is not None and (held := holding(windows, answer)).any():
        first = random.choice(np.flatnonzero(held))
        order = np.append(first, order[order != first])
    return windows[np.sort(order[:most])]
