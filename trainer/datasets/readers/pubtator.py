"""PubTator: lines id|t|title and id|a|abstract, then one id<TAB>start<TAB>end<TAB>text<TAB>type per entity.

A sixth column names the concepts of an entity, separated by | or ;. A relation is a line
id<TAB>type<TAB>concept<TAB>concept.

Every row has the id of its document, and another id begins the next document; an empty line may separate two documents.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from trainer.datasets.readers import Reporter, at_line
from trainer.datasets.readers.entities import (
    MarkedDocument,
    StatedEntity,
    StatedRelation,
    check_document,
    read_concepts,
)
from trainer.datasets.readers.lines import lines
from trainer.datasets.readers.offsets import parse_offset, scales
from trainer.errors import BadData

_FORMAT = "Write id<TAB>start<TAB>end<TAB>text<TAB>type on each line after id|t|title and id|a|abstract."
_PART = re.compile(r"([^|\t]+)\|([ta])\|(.*)", re.DOTALL)
# Its type and two concepts; then more columns only where the concepts cannot be the end and the text of an entity.
_RELATION = re.compile(r"[A-Za-z][\w/ -]*(\t[^\t]+){2}|[A-Za-z][\w/ -]*(\t(-|[^\t]*\d[^\t]*)){2}(\t[^\t]*)*")


@dataclass
class _Rows:
    """The rows of a document: its title "t" and abstract "a", entities, wrong rows, and relations."""

    id: str
    line: int
    parts: dict[str, str] = field(default_factory=dict)
    stated: list[StatedEntity] = field(default_factory=list)
    wrong: list[tuple[int, BadData]] = field(default_factory=list)
    relations: list[StatedRelation] = field(default_factory=list)


def read(path: Path, name: str, report: Reporter) -> Iterator[MarkedDocument]:
    """The documents of a file in order; a wrong row goes to `report`."""
    first_lines: dict[str, int] = {}
    for rows in _group_rows(path, name):
        if "t" in rows.parts and first_lines.setdefault(rows.id, rows.line) == rows.line:
            yield from _build_document(rows, name, report)
            continue
        for line, problem in rows.wrong:
            report(at_line(problem, name, line, next_step=_FORMAT))
        if "t" in rows.parts:
            what = f"a document whose id is given twice; that of line {first_lines[rows.id]:,} has it too."
            report(BadData(what, path=name, line=rows.line, next_step="Remove one of them, or give it another id."))
        elif rows.parts or rows.stated or rows.relations:
            what = "rows without the title line of their document; their id is not that of the rows before them."
            report(BadData(what, path=name, line=rows.line, next_step=_FORMAT))


def _group_rows(path: Path, name: str) -> Iterator[_Rows]:
    """The rows of a file by document: another id than in the row before, or a second title, begins a new one."""
    rows = None
    for number, line in lines(path, name=name, strip="\r\n"):
        if not line or line.isspace():
            continue
        try:
            identity, kind, value = _parse_row(line, number)
        except BadData as problem:
            rows = rows or _Rows("", number)
            rows.wrong.append((number, problem))
            continue
        if rows is None or identity != rows.id or (kind == "t" and "t" in rows.parts):
            if rows:
                yield rows
            rows = _Rows(identity, number)
        _add_row(rows, kind, value, number)
    if rows:
        yield rows


def _parse_row(line: str, number: int) -> tuple[str, str, str | StatedEntity | StatedRelation]:
    """(id, kind, value) of a row: "t" or "a" with its text, "entity" with the entity, "relation" with the relation."""
    if "\r" in line:
        raise BadData("a carriage return (CR) within the line.", next_step="End every line with LF, or CR and LF.")
    if part := _PART.fullmatch(line):
        return part[1].strip(), part[2], part[3]
    identity, *rest = line.split("\t")
    start, end = (parse_offset(digits) for digits in (*rest, "", "")[:2])
    if identity and len(rest) >= 4 and start is not None and end is not None:
        concepts = read_concepts(rest[4]) if len(rest) > 4 else ()
        return identity.strip(), "entity", StatedEntity([(start, end)], rest[3], rest[2], number, concepts=concepts)
    if identity and _RELATION.fullmatch("\t".join(rest)):
        return identity.strip(), "relation", StatedRelation(rest[0].strip(), rest[1].strip(), rest[2].strip(), number)
    columns = len(rest) + 1
    raise BadData(
        f"a row of {columns} column{'s' * (columns > 1)} that is neither title, abstract, entity nor relation."
    )


def _add_row(rows: _Rows, kind: str, value: str | StatedEntity | StatedRelation, number: int) -> None:
    if isinstance(value, StatedEntity):
        rows.stated.append(value)
    elif isinstance(value, StatedRelation):
        rows.relations.append(value)
    elif kind in rows.parts:
        problem = BadData("a second abstract line of the same document.", next_step="Join them into one.")
        rows.wrong.append((number, problem))
    else:
        rows.parts[kind] = value


def _build_document(rows: _Rows, name: str, report: Reporter) -> Iterator[MarkedDocument]:
    """Title and abstract as one text with one character between them, as PubTator counts offsets."""
    text = "\n".join(rows.parts[kind] for kind in "ta" if kind in rows.parts)
    outer_blanks = frozenset(
        place for match in re.finditer(r"^[^\S\n]+|[^\S\n]+$", text, re.M) for place in range(*match.span())
    )
    return check_document(
        text,
        rows.stated,
        scales(text, blanks=outer_blanks),
        line=rows.line,
        wrong=rows.wrong,
        others=len(rows.relations),
        relations=rows.relations,
        name=name,
        report=report,
        next_step=_FORMAT,
    )
