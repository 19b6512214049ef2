"""What the command line prints: one JSON document, or short tables for a person."""

import sys
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table

PIPED_WIDTH = 200  # columns when nobody watches, so that `| grep` sees whole rows


def print_json(document: object) -> None:
    """One JSON document on stdout; numbers that JSON lacks (NaN, infinity) become null."""
    from pydantic_core import to_json

    print(to_json(document, indent=2, inf_nan_mode="null").decode())


def answer(document: object, as_json: bool, text: str) -> None:
    """The document for a program, or the text for a person."""
    if as_json:
        print_json(document)
    else:
        console().print(text)


def console(*, stderr: bool = False) -> Console:
    """A console that takes strings literally: names and notes are data, never markup."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else PIPED_WIDTH
    return Console(stderr=stderr, markup=False, highlight=False, emoji=False, width=width)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A plain table; None is shown as a dash and numbers stand to the right."""
    rows = [list(row) for row in rows]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for index, name in enumerate(columns):
        numeric = bool(rows) and all(isinstance(row[index], int | float | None) for row in rows)
        table.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(_cell, row))
    console().print(table)


def print_error(error: dict, *, as_json: bool) -> None:
    """`error` is StillroomError.to_json(): text on stderr always, and as JSON on stdout when that was asked for."""
    out = console(stderr=True)
    fields = error.get("fields")
    for line in [f"{item['field']}: {item['problem']}" for item in fields] if fields else [error["message"]]:
        out.print(f"error: {line}", style="red", soft_wrap=True)
    if error["next_step"]:
        out.print(error["next_step"], soft_wrap=True)
    if as_json:
        print_json({"error": error})


def visible(text: str) -> str:
    """Note text for a terminal: control characters, escape sequences and direction marks shown as blanks."""
    return "".join(character if character.isprintable() else " " for character in text)


def duration(seconds: float | None) -> str | None:
    """75.2 -> "1:15", 3725 -> "1:02:05"."""
    if seconds is None:
        return None
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def count(number: int | None) -> str | None:
    """22713216 -> "22.7M"; parameters for a table."""
    if number is None:
        return None
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.1f}{unit}"
    return str(number)


def _cell(value: object) -> str:
    if value is None or value == "":
        return "–"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
