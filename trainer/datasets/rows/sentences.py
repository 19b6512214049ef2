"""Where the sentences of running text begin. No torch."""

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


def _ends_abbreviation(lines: str, place: int) -> bool:
    """Whether the full stop at this place belongs to an abbreviation or the number of a list."""
    return bool(_NO_END.search(lines, max(0, place - 12), place + 1))
