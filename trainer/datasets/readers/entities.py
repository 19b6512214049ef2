"""Entities by offset, whatever the file format: from what a file states to what is valid."""

import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from trainer.datasets import attributes
from trainer.datasets.readers import Reporter, at_line
from trainer.datasets.readers.offsets import Scale, format_offset
from trainer.errors import BadData

LABEL = re.compile(r"\S{1,60}")
_ATTRIBUTES = 'Write "attributes": {"assertion": "absent"}; a name has no blank, no "=" and no "@".'


class Entity(NamedTuple):
    """text[start:end] has `label`. A discontinuous entity has several pieces; these are the offsets of the longest.

    attributes: (name, value) pairs, such as ("assertion", "absent"), sorted. id: its name in the file, by which
    relations refer to it. concepts: what it is a mention of, where relations hold between concepts.
    """

    start: int
    end: int
    label: str
    pieces: int = 1
    attributes: tuple[tuple[str, str], ...] = ()
    id: str = ""
    concepts: tuple[str, ...] = ()


def read_concepts(column: str) -> tuple[str, ...]:
    """The concepts that a column names, separated by |, ; or a comma; each once. "-" and "-1" stand for none."""
    concepts = (part.strip() for part in re.split(r"[|;,]", column))
    return tuple(dict.fromkeys(concept for concept in concepts if concept not in ("", "-", "-1")))


class StatedRelation(NamedTuple):
    """A relation as a row states it: its label, and the ids or concepts of its head and its tail.

    Nothing is checked yet: a row that cannot be read has empty fields (readers.related checks them).
    """

    label: object
    head: object
    tail: object
    line: int


class MarkedDocument(NamedTuple):
    """A document with its entities, and the line (1-based) where it begins; the repr shows sizes, never text.

    stated: how many entities the file has for it, including wrong ones. others: how many relations, events, attributes
    and notes. relations: the same relations as the file states them.
    """

    text: str
    entities: tuple[Entity, ...]
    line: int
    stated: int = 0
    others: int = 0
    relations: tuple[StatedRelation, ...] = ()

    def __repr__(self) -> str:
        return f"MarkedDocument({len(self.text):,} characters, {len(self.entities)} entities, line {self.line:,})"


@dataclass
class Tally:
    """What happens to the entities of a split.

    given: how many its files state, including wrong ones. entities: how many are tagged. overlapping: left out because
    a longer entity shares a word with them. discontinuous: in several pieces, of which the longest is used. others:
    relations, events, attributes and notes. empty: documents without a word.
    """

    given: int = 0
    entities: int = 0
    overlapping: int = 0
    discontinuous: int = 0
    others: int = 0
    empty: int = 0

    def add(self, document: MarkedDocument, *, tagged: int) -> None:
        """Count a document; `tagged` of its entities became tags."""
        self.given += document.stated
        self.entities += tagged
        self.overlapping += len(document.entities) - tagged
        self.discontinuous += sum(entity.pieces > 1 for entity in document.entities)
        self.others += document.others
        self.empty += not document.text.strip()


class StatedEntity(NamedTuple):
    """An entity as a row states it: [start, end) of its pieces, its text (mention) where the row has that too, and its
    attributes as `check_attributes` returns them. id, concepts: as in Entity.
    """

    pieces: Sequence[tuple[int, int]]
    label: object
    mention: str | None
    line: int
    attributes: tuple[tuple[str, str], ...] = ()
    id: str = ""
    concepts: tuple[str, ...] = ()


def check_attributes(stated: object) -> tuple[tuple[str, str], ...]:
    """The attributes of an entity, (name, value) pairs sorted by name; BadData where they are not names and values.

    True stands for "yes", False and null for an attribute that is not there; numbers become text. A list of names is
    the same as these names with True.
    """
    if isinstance(stated, list) and all(isinstance(name, str) for name in stated):
        stated = dict.fromkeys(stated, True)
    if stated is None:
        return ()
    if not isinstance(stated, dict):
        raise BadData("attributes that are not an object of names and values.", next_step=_ATTRIBUTES)
    pairs = []
    for name, value in stated.items():
        if value is None or value is False:
            continue
        value = "yes" if value is True else str(value) if isinstance(value, int | float) else value
        if not attributes.NAME.fullmatch(name) or not isinstance(value, str) or not attributes.VALUE.fullmatch(value):
            raise BadData("an attribute whose name or value is not a short text on one line.", next_step=_ATTRIBUTES)
        pairs.append((name, value))
    return tuple(sorted(pairs))


def check_keys(entity: Mapping[str, Any], known: Collection[str]) -> None:
    """BadData where an entity has an attribute beside its label, where nobody would read it.

    known: names of attributes, compared without case. A key without a value is no attribute.
    """
    names = {name.casefold(): f'Write "attributes": {{"{name}": ...}}.' for name in known} | {"attribute": _ATTRIBUTES}
    for key, value in entity.items():
        if key.casefold() in names and value is not None and value is not False:
            raise BadData(
                f"an entity with `{key}` beside its label; an entity has `label`, `start` and `end` or `spans`, `text` "
                "and `attributes`.",
                next_step=names[key.casefold()],
            )


def check_document(
    text: str,
    stated: Sequence[StatedEntity],
    scales: Iterable[Scale],
    *,
    line: int,
    wrong: Sequence[tuple[int, BadData]] = (),
    others: int = 0,
    relations: Sequence[StatedRelation] = (),
    name: str,
    report: Reporter,
    next_step: str,
    whole: bool = False,
) -> Iterator[MarkedDocument]:
    """The document with its valid entities; what is wrong with the others goes to `report`.

    wrong: (line, problem) of rows that could not be read; next_step: for problems without one of their own; whole:
    leave out a document with a wrong entity, because both are in one row. An entity that covers only white space is
    reported, and the rest of its document remains.
    """
    outcomes = list(zip(stated, check_entities(text, stated, scales), strict=True))
    problems = [*wrong, *((each.line, outcome) for each, outcome in outcomes if isinstance(outcome, BadData))]
    entities = [(each.line, outcome) for each, outcome in outcomes if isinstance(outcome, Entity)]
    blanks = [(row, _blank(entity)) for row, entity in entities if not text[entity.start : entity.end].strip()]
    for row, problem in sorted([*problems, *blanks], key=lambda each: each[0]):
        report(at_line(problem, name, row, next_step=next_step))
    if not (whole and problems):
        visible = tuple(entity for _, entity in entities if text[entity.start : entity.end].strip())
        yield MarkedDocument(text, visible, line, len(stated) + len(wrong), others, tuple(relations))


def _blank(entity: Entity) -> BadData:
    what = f"an entity from {entity.start:,} to {entity.end:,} that covers no word, only blanks."
    return BadData(what, next_step="Correct its offsets, or remove it.")


def check_entities(text: str, stated: Sequence[StatedEntity], scales: Iterable[Scale]) -> list[Entity | BadData]:
    """Each stated entity with its place in the text, or what is wrong with it.

    The scale is used that makes most of them valid, the first one of those.
    """
    best: list[Entity | BadData] = []
    fewest = len(stated) + 1
    for scale in scales:
        outcomes = [_check_entity(text, each, scale) for each in stated]
        if (wrong := sum(isinstance(outcome, BadData) for outcome in outcomes)) < fewest:
            best, fewest = outcomes, wrong
        if not wrong:
            break
    return best


def _check_entity(text: str, stated: StatedEntity, scale: Scale) -> Entity | BadData:
    if not isinstance(stated.label, str) or not LABEL.fullmatch(stated.label):
        return BadData("an entity without a label, or with blanks in its label.")
    pieces = []
    for start, end in stated.pieces:
        if (piece := scale.place(start, end)) is None:
            span = f"from {format_offset(start)} to {format_offset(end)}"
            return BadData(f"an entity {span} in a text of {len(text):,} characters.")
        pieces.append(piece)
    joined = _join(text, pieces)
    if (mention := (stated.mention or "").strip()) and not _is_mention(text, (pieces, joined), mention):
        return _mismatch(text, stated.pieces, mention)
    start, end = max(joined, key=lambda piece: (piece[1] - piece[0], -piece[0]))
    return Entity(start, end, stated.label, len(joined), stated.attributes, stated.id, stated.concepts)


def _join(text: str, pieces: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The pieces in the order of the text; pieces that only white space separates, such as a line end, become one."""
    joined: list[tuple[int, int]] = []
    for start, end in sorted(pieces):
        if joined and not text[joined[-1][1] : start].strip():
            joined[-1] = (joined[-1][0], max(joined[-1][1], end))
        else:
            joined.append((start, end))
    return joined


def _is_mention(text: str, readings: Iterable[Sequence[tuple[int, int]]], mention: str) -> bool:
    """Whether one reading of the pieces is the mention, up to case, white space and compatible characters (µ, ﬁ)."""
    parts = ("".join(text[start:end] for start, end in pieces) for pieces in readings)
    return any(_normalize(part) == _normalize(mention) for part in parts)


def _normalize(text: str) -> str:
    return "".join(unicodedata.normalize("NFKC", text).casefold().split())


def _mismatch(text: str, pieces: Sequence[tuple[int, int]], mention: str) -> BadData:
    """An error that quotes no text but says where the mention occurs nearest, which shows how the offsets differ."""
    start, end = pieces[0][0], pieces[-1][1]
    places = (match.start() for match in re.finditer(re.escape(mention), text))
    nearest = min(places, key=lambda place: abs(place - start), default=None)
    where = "" if nearest is None else f", which is at {nearest:,} to {nearest + len(mention):,}"
    return BadData(
        f"the text from {start:,} to {end:,} is not the mention given for it ({len(mention):,} characters{where}).",
        next_step="Correct the offsets or the mention, or use the text that was annotated.",
    )
