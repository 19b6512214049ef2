"""Escapes values for Markdown, so that they are displayed literally in prose, table cells, code and code blocks."""

import re

# Characters with a meaning inside a line; an underscore has one only where a word begins or ends.
_ACTING = re.compile(r"[\\`*\[\]<>|~&]|(?<!\w)_|_(?!\w)")


def inline(value: object) -> str:
    """A value for a sentence or a table cell, on one line."""
    return _ACTING.sub(r"\\\g<0>", " ".join(str(value).split()))


def code(value: object) -> str:
    """A value as inline code, on one line. Not for table cells, where a bar would still end the cell: use `inline`."""
    text = " ".join(str(value).split())
    ticks = _ticks(text, least=1)
    pad = " " * (text[:1] == "`" or text[-1:] == "`")
    return f"{ticks}{pad}{text}{pad}{ticks}"


def block(text: str, language: str = "") -> str:
    """Lines as a code block."""
    ticks = _ticks(text, least=3)
    return f"{ticks}{language}\n{text}\n{ticks}"


def _ticks(text: str, *, least: int) -> str:
    """A run of backticks longer than any in the text, and at least `least` long."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    return "`" * max(least, longest + 1)
