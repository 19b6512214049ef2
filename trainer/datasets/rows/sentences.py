"""Where the sentences of running text begin, and windows of whole sentences. No torch."""

import itertools
import re

import numpy as np

_SENTENCE = re.compile(r"[.!?][\"')\]]?\s+(?=[A-Z0-9(\[\"'])|\n(?=[ \t]*(?:[^a-z \t]|$))")
_NO_END = re.compile(r"(?:^|\s)(?:\d{1,2}|[A-Z]|Drs?|Mr|Ms|Mrs|St|vs|Fig|No|approx)\.$")  # abbreviations, list numbers


def uniform_lines(text: str) -> str:
    """The text with uniform line ends and the same length, so that offsets stay."""
    return text.replace("\r\n", " \n").replace("\r", "\n")


def sentence_starts(text: str) -> np.ndarray:
    """Offsets where a sentence begins, sorted, without the first of the text.

    A sentence ends at . ! ? before a capital, a digit or a bracket, and at the end of a line unless the next one
    continues it in lower case.
    """
    lines = uniform_lines(text)
    ends = (match for match in _SENTENCE.finditer(lines) if not _ends_abbreviation(lines, match.start()))
    return np.array([match.end() for match in ends], dtype=np.int64)


def sentence_places(text: str) -> np.ndarray:
    """[start, end) of each sentence of a text without the white space around it: (sentences, 2)."""
    borders = [0, *sentence_starts(text).tolist(), len(text)]
    places = []
    for start, end in itertools.pairwise(borders):
        part = text[start:end]
        if stripped := part.strip():
            first = start + len(part) - len(part.lstrip())
            places.append((first, first + len(stripped)))
    return np.array(places, dtype=np.int64).reshape(-1, 2)


def first_pieces(places: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """The first word piece of each sentence, (sentences,); -1 for one without a piece of its own.

    places: (sentences, 2). starts, ends: of the pieces, (pieces,).
    """
    first = np.searchsorted(ends, places[:, 0], side="right")  # ends after the sentence begins
    inside = np.flatnonzero(np.append(starts, np.iinfo(np.int64).max)[first] < places[:, 1])
    pieces, at = np.unique(first[inside], return_index=True)  # a piece over two sentences is that of the first
    by_sentence = np.full(len(places), -1)
    by_sentence[inside[at]] = pieces
    return by_sentence


def sentence_windows(first: np.ndarray, tokens: int, size: int) -> np.ndarray:
    """Windows of at most `size` tokens as of rows.pieces.windows, but of whole sentences: (windows, 4).

    first: the first token of each sentence, ascending. Neighbours share the sentences that fit into a quarter of
    `size`, if they leave room for the next one; the border between them is the sentence nearest to the middle of what
    they share. A sentence that is longer than a window is cut.
    """
    edges = _edges(first, tokens, size)
    rows: list[list[int]] = []
    start = scored = 0
    while scored < tokens:
        end = int(edges[np.searchsorted(edges, start + size, side="right") - 1])
        if end == tokens:
            rows.append([start, end, scored, tokens])
            break
        after = int(edges[np.searchsorted(edges, end, side="right")])
        following = int(edges[np.searchsorted(edges, max(end - size // 4, after - size))])
        border = int(edges[np.abs(edges - (following + end) / 2).argmin()])
        if border > scored:
            rows.append([start, end, scored, border])
        start, scored = following, border
    return np.array(rows, dtype=np.int64).reshape(-1, 4)


def _edges(first: np.ndarray, tokens: int, size: int) -> np.ndarray:
    """Where a window may begin or end: where sentences do, and inside those that are longer than a window."""
    borders = np.unique([0, *(place for place in first.tolist() if 0 < place < tokens), tokens])
    inside = [np.arange(start, end, size) for start, end in itertools.pairwise(borders.tolist())]
    return np.concatenate([*inside, [tokens]]).astype(np.int64)


def _ends_abbreviation(lines: str, place: int) -> bool:
    """Whether the full stop at this place belongs to an abbreviation or the number of a list."""
    return bool(_NO_END.search(lines, max(0, place - 12), place + 1))
