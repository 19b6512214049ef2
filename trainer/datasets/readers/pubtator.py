"""PubTator: id|t|title, id|a|abstract, then id<TAB>start<TAB>end<TAB>text<TAB>type a line; and relations, not read.

Every row carries the id of its document, and a new id begins a new one; an empty line may stand between two.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from trainer.datasets.readers.entities import Marked, Reporter, Stated, documents
from trainer.datasets.readers.lines import lines
from trainer.datasets.readers.offsets import number, scales
from trainer.errors import BadData

_FORMAT = "Write id<TAB>start<TAB>end<TAB>text<TAB>type a line, after id|t|title and id|a|abstract."
_PART = re.compile(r"([^|\t]+)\|([ta])\|(.*)", re.DOTALL)
# Its kind and two concepts; and more, where the concepts cannot be the end and the text of an entity.
_RELATION = re.compile(r"[A-Za-z][\w/ -]*(\t[^\t]+){2}|[A-Za-z][\w/ -]*(\t(-|[^\t]*\d[^\t]*)){2}(\t[^\t]*)*")


@dataclass
class _Rows:
    """The rows of a document: its parts by "t" and "a", its entities, wrong rows, and how many relations."""

    id: str
    line: int
    parts: dict[str, str] = field(default_factory=dict)
    stated: list[Stated] = field(default_factory=list)
    wrong: list[tuple[int, BadData]] = field(default_factory=list)
    relations: int = 0


def read(path: Path, name: str, report: Reporter) -> Iterator[Marked]:
    """The documents of a file in order; a wrong row goes to `report`."""
    first: dict[str, int] = {}
    for rows in _documents(path, name):
        if "t" in rows.parts and first.setdefault(rows.id, rows.line) == rows.line:
            yield from _marked(rows, name, report)
            continue
        for line, problem in rows.wrong:
            report(BadData(problem.message, path=name, line=line, next_step=problem.next_step or _FORMAT))
        if "t" in rows.parts:
            what = f"a document whose id is given twice; that of line {first[rows.id]:,} has it too."
            report(BadData(what, path=name, line=rows.line, next_step="Remove one of them, or give it another id."))
        elif rows.parts or rows.stated or rows.relations:
            what = "rows without the title line of their document; their id is not that of the rows before them."
            report(BadData(what, path=name, line=rows.line, next_step=_FORMAT))


def _documents(path: Path, name: str) -> Iterator[_Rows]:
    """The rows of a file by document: an id other than that of the row before, or a second title, begins one."""
    rows = None
    for at, line in lines(path, name=name, strip="\r\n"):
        if not line or line.isspace():
            continue
        try:
            identity, kind, value = _row(line, at)
        except BadData as problem:
            rows = rows or _Rows("", at)
            rows.wrong.append((at, problem))
            continue
        if rows is None or identity != rows.id or (kind == "t" and "t" in rows.parts):
            if rows:
                yield rows
            rows = _Rows(identity, at)
        _take(rows, kind, value, at)
    if rows:
        yield rows


def _row(line: str, at: int) -> tuple[str, str, str | Stated]:
    """(id, kind, what it says) of a row: "t" and "a" with their text, "entity", or "relation"."""
    if "\r" in line:
        raise BadData("a carriage return (CR) within the line.", next_step="End every line with LF, or CR and LF.")
    if part := _PART.fullmatch(line):
        return part[1].strip(), part[2], part[3]
    identity, *rest = line.split("\t")
    start, end = (number(digits) for digits in (*rest, "", "")[:2])
    if identity and len(rest) >= 4 and None not in (start, end):
        return identity.strip(), "entity", Stated([(start, end)], rest[3], rest[2], at)
    if identity and _RELATION.fullmatch("\t".join(rest)):
        return identity.strip(), "relation", ""
    columns = len(rest) + 1
    raise BadData(
        f"a row of {columns} column{'s' * (columns > 1)} that is neither title, abstract, entity nor relation."
    )


def _take(rows: _Rows, kind: str, value: str | Stated, at: int) -> None:
    if kind == "entity":
        rows.stated.append(value)
    elif kind == "relation":
        rows.relations += 1
    elif kind in rows.parts:
        rows.wrong.append(
            (at, BadData("a second abstract line of the same document.", next_step="Join them into one."))
        )
    else:
        rows.parts[kind] = value


def _marked(rows: _Rows, name: str, report: Reporter) -> Iterator[Marked]:
    """Title and abstract stand in one text with one character between them, as PubTator counts offsets."""
    text = "\n".join(rows.parts[kind] for kind in "ta" if kind in rows.parts)
    around = frozenset(
        place for match in re.finditer(r"^[^\S\n]+|[^\S\n]+$", text, re.M) for place in range(*match.span())
    )
    return documents(
        text,
        rows.stated,
        scales(text, blanks=around),
        line=rows.line,
        wrong=rows.wrong,
        others=rows.relations,
        name=name,
        report=report,
        next_step=_FORMAT,
    )
