"""The pieces of all HTML: escaping by type, style sheets, lines, chips and tables.

Everything is put together with `Html(...).format`, which escapes what is not Html already. Tags and classes come from a
fixed set, ids are made in this package, and no data gets into an attribute. Colours come from highlight.css alone,
mixed with the page's own, so they suit light and dark.
"""

import re
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Self

import markupsafe

from trainer.errors import StillroomError
from workbench import predict
from workbench.compare.findings import value_in_words

TAGS = frozenset(
    {"div", "nav", "section", "header", "h2", "h3", "p", "ol", "li", "a", "b", "bdi", "span", "mark", "button"}
    | {"table", "thead", "tbody", "tr", "th", "td", "caption", "details", "summary"}
)
PLAIN_VALUE, ABSENT = "present", "absent"  # of an assertion: what is not said, and what is struck through
# The colours in the style sheet: labels of the shipped models have one each, which no other label gets.
SLOTS = {"treatment": 0, "Chemical": 0, "problem": 1, "Disease": 1, "test": 2}
OTHER_SLOTS = range(3, 8)

_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


class Html(markupsafe.Markup):
    """Finished HTML: what is added to it, joined or formatted into it is escaped unless it is HTML too.

    `st.html` reads it through _repr_html_, which keeps its white space; that of a plain str would be changed.
    """

    @classmethod
    def escape(cls, s: Any, /) -> Self:
        """Text as HTML that shows exactly these characters; HTML is returned as it is."""
        if isinstance(s, cls):
            return s
        if isinstance(s, markupsafe.Markup) or (text := str(s)).isprintable():
            return cls(markupsafe.escape(s))
        # A browser reads a bare carriage return as a line feed, but not its character reference.
        return cls(str.replace(markupsafe.escape(displayable(text)), "\r", "&#13;"))

    def format(self, *args: Any, **kwargs: Any) -> Self:
        """The template with its fields filled in; all but numbers is escaped."""
        # markupsafe's goes through string.Formatter, which takes several times as long.
        named = {name: self._field(value) for name, value in kwargs.items()}
        return type(self)(str.format(self, *map(self._field, args), **named))

    def _field(self, value: Any) -> Any:
        return value if isinstance(value, int | float) else self.escape(value)

    def _repr_html_(self) -> str:
        return str(self)


_WIDTHS = "".join(f".sr-w{share} {{ width: {share}%; }}\n" for share in range(101))


def style(name: str, more: str = "") -> Html:
    """A style sheet of this package, as an element."""
    return Html(f"<style>{Path(__file__).with_name(name).read_text(encoding='utf-8')}{more}</style>")


STYLE = style("highlight.css", _WIDTHS)


def displayable(text: str) -> str:
    """The text with each control character and lone surrogate replaced by one character that shows it."""
    return _CONTROL.sub(_symbol, text)


def _symbol(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x20:
        return chr(0x2400 + code)
    return "\N{SYMBOL FOR DELETE}" if code == 0x7F else "\N{REPLACEMENT CHARACTER}"


def concat(parts: Iterable[str]) -> Html:
    """The parts one after another; those that are not HTML are escaped."""
    return Html().join(parts)


def colours(labels: Iterable[str]) -> dict[str, str]:
    """The colour class of each label, which depends on its name alone: a label has one colour in every picture."""
    return {label: f"sr-l{SLOTS.get(label, _hashed_slot(label))}" for label in labels}


def _hashed_slot(label: str) -> int:
    return OTHER_SLOTS[zlib.crc32(label.encode("utf-8", errors="replace")) % len(OTHER_SLOTS)]


def line(inner: str) -> Html:
    """A row that panes share: the same line of the note stands at the same height in each."""
    return Html('<div class="sr-line" dir="auto">{}</div>').format(inner)


def chip(
    label: str, colour: str, *, score: float | None = None, values: Sequence[str] = (), every_value: bool = False
) -> Html:
    """A label in its colour, with its score and the values of its attributes if there are any.

    A label that is absent is struck through, and the word stands beside it. `present` goes without saying, unless
    `every_value` is shown.
    """
    beside = "" if score is None else Html('<span class="sr-score">{}</span>').format(predict.percent(score))
    shown = [value for value in values if every_value or value != PLAIN_VALUE]
    words = concat(Html('<span class="sr-value">{}</span>').format(value_in_words(value)) for value in shown)
    name = Html('<span class="sr-struck">{}</span>').format(label) if ABSENT in values else label
    classes = f"{colour}{value_class(values)}"
    return Html('<span class="sr-chip {}">{}{}{}</span>').format(classes, name, words, beside)


def value_class(values: Sequence[str]) -> str:
    """The class of a span that the patient does not have, or may not have."""
    if ABSENT in values:
        return " sr-absent"
    return " sr-unsure" if any(value != PLAIN_VALUE for value in values) else ""


def missing_chip(words: str) -> Html:
    """A chip that says what is missing here."""
    return Html('<span class="sr-chip sr-none">{}</span>').format(words)


def letter(number: int) -> Html:
    """The letter of an arm: A, B, C, D."""
    return Html('<b class="sr-arm">{}</b>').format(predict.letter(number))


def error_line(error: StillroomError) -> Html:
    """What went wrong, and what to do next."""
    return Html('<p class="sr-error"><b>{}</b> {}</p>').format(error.message, error.next_step)


def count(number: int, noun: str) -> str:
    """A number and its noun, plural where it needs to be."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def table(caption: str, columns: Iterable[str], rows: Iterable[Iterable[str]]) -> Html:
    """A small table; the first cell of a row is its heading, the others are figures."""
    head = concat(Html("<th>{}</th>").format(column) for column in columns)
    body = concat(Html("<tr>{}</tr>").format(concat(_cell(*cell) for cell in enumerate(row))) for row in rows)
    return Html(
        '<table class="sr-table"><caption>{}</caption><thead><tr>{}</tr></thead><tbody>{}</tbody></table>'
    ).format(caption, head, body)


def _cell(number: int, inner: str) -> Html:
    return Html("<td>{}</td>" if number else "<th>{}</th>").format(inner)
