"""What every piece of HTML is made of: escaped text, lines, chips, and the style sheet. Nothing else escapes.

Text is escaped first and then wrapped. Tags and classes come from a fixed set; ids are made in this package; no data
ever gets into an attribute. Colours come from highlight.css alone, mixed with the page's
own, so they suit light and dark.
"""

import re
from collections.abc import Iterable
from pathlib import Path

import markupsafe

from workbench import predict

TAGS = frozenset(
    {"div", "nav", "section", "header", "h2", "h3", "p", "ol", "li", "a", "b", "bdi", "span", "mark", "button"}
    | {"table", "thead", "tbody", "tr", "th", "td", "caption"}
)
SLOTS = 8  # colours of the style sheet; a ninth label begins again, and is told apart by its name

_UNSHOWABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


class Html(markupsafe.Markup):
    """Finished HTML: text that is put together with it is escaped on the way.

    `st.html` takes it through _repr_html_; of a plain str it would change the white space.
    """

    def _repr_html_(self) -> str:
        return str(self)


_WIDTHS = "".join(f".sr-w{share} {{ width: {share}%; }}\n" for share in range(101))


def style(name: str, more: str = "") -> Html:
    """A style sheet of this package, as an element."""
    return Html(f"<style>{Path(__file__).with_name(name).read_text(encoding='utf-8')}{more}</style>")


STYLE = style("highlight.css", _WIDTHS)


def shown(text: str) -> str:
    """Text as HTML can show it: control characters and lone surrogates become their pictures, one for one."""
    return _UNSHOWABLE.sub(_picture, text)


def escape(text: str) -> Html:
    """Text as HTML: the browser shows exactly these characters. What is HTML already stays what it is."""
    if isinstance(text, Html):
        return text
    # A bare carriage return would be read as a line feed; as a character reference it stays what it is.
    return Html(markupsafe.escape(shown(text))).replace("\r", Html("&#13;"))


def _picture(match: re.Match) -> str:
    code = ord(match[0])
    if code < 0x20:
        return chr(0x2400 + code)
    return "\N{SYMBOL FOR DELETE}" if code == 0x7F else "\N{REPLACEMENT CHARACTER}"


def slots_of(labels: Iterable[str]) -> dict[str, str]:
    """The colour class of each label, by its place in the alphabet."""
    return {label: f"sr-l{number % SLOTS}" for number, label in enumerate(sorted(set(labels)))}


def line(inner: str) -> str:
    """A row that panes share: the same line of the note stands at the same height in each."""
    return f'<div class="sr-line" dir="auto">{inner}</div>'


def chip(label: str, slots: dict[str, str], *, score: float | None = None) -> str:
    """A label in its colour, with its score where it is given."""
    beside = "" if score is None else f'<span class="sr-score">{percent(score)}</span>'
    return f'<span class="sr-chip {slots[label]}">{escape(label)}{beside}</span>'


def silence(words: str) -> str:
    """A chip that says what is not there."""
    return f'<span class="sr-chip sr-none">{words}</span>'


def letter(number: int) -> str:
    """The letter of an arm: A, B, C, D."""
    return f'<b class="sr-arm">{predict.letter(number)}</b>'


def count(number: int, noun: str) -> str:
    """A number and its noun."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def percent(score: float) -> str:
    """A probability that is never shown as certain."""
    if score >= 0.995:
        return "&gt; 99 %"
    return "&lt; 1 %" if score < 0.005 else f"{score * 100:.0f} %"


def table(caption: str, columns: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A small table of finished HTML; the first cell of a row says what the row is, the others are figures."""
    heads = "".join(f"<th>{column}</th>" for column in columns)
    body = "".join(f"<tr>{''.join(_cell(*cell) for cell in enumerate(row))}</tr>" for row in rows)
    named = f"<caption>{caption}</caption>"
    return f'<table class="sr-table">{named}<thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>'


def _cell(number: int, inner: str) -> str:
    return f"<td>{inner}</td>" if number else f"<th>{inner}</th>"
