"""Texts whose mentions are related, in any of these forms:

    documents       entities with relations between them, as .spans.jsonl, .pubtator or BRAT files (readers.spans); a
                    pair of entities without a relation has none
    one pair a row  {"text": "...", "head": {"start", "end", "type"}, "tail": {...}, "label": "x"}; a mention may give
                    "span": [start, end] instead, and its own "text", which is then checked; type is optional
    anonymised      {"text": "@GENE$ causes @DISEASE$.", "label": "x"}, one pair a row in the form of the papers; also
                    .csv with these columns, and .tsv with a header or with text and label alone

In the last two forms the label says whether there is a relation: one of the labels may stand for none. Relations of a
PubTator file, and of JSONL whose relations name concepts, hold between concepts, of which a document has any number of
mentions; all others between mentions. Texts
may be patient data: no message quotes one, or what is in the place of a label.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from trainer.datasets.readers import Reporter, at_line, labelled, raise_problem, spans
from trainer.datasets.readers.entities import (
    LABEL,
    Entity,
    MarkedDocument,
    StatedEntity,
    check_entities,
)
from trainer.datasets.readers.lines import each_line, objects
from trainer.datasets.readers.offsets import scales
from trainer.errors import BadData

ROWS = (".jsonl", ".jsonl.gz", ".csv", ".csv.gz", ".tsv", ".tsv.gz")  # files that may have one pair per row
SUFFIXES = tuple(dict.fromkeys((*spans.ENDINGS, *ROWS)))  # of files; a BRAT split is a folder
ANY_TYPE = "entity"  # the type of mentions whose type is not stated; it stands for any type
NEGATIVE = "none"  # the label of pairs without a relation in documents
NO_RELATION = ("none", "false", "0", "no relation", "no_relation", "na", "negative")  # usual labels of no relation
ANONYMISED = re.compile(r"@([A-Za-z][\w-]{0,40})\$")
_FORMAT = (
    'Write {"text", "entities", "relations": [{"label", "head", "tail"}]}, or one pair per row with "text", "head", '
    '"tail" and "label", or "text" with @TYPE$ in the place of both mentions and "label".'
)
_RELATION = "A relation needs a label without blanks, and the ids of two entities of its document as head and tail."


class Relation(NamedTuple):
    """A relation between two of a document's groups of mentions: their indices, and its label."""

    head: int
    tail: int
    label: str


class RelatedDocument(NamedTuple):
    """A text with mentions and the relations between them; the repr shows sizes, never text.

    groups: the indices of the mentions of each thing that can be related: one mention, or all those of a concept.
    relations: each stated once. repeated: how many were stated again. single: whether the row is one pair, so that its
    relation is the only candidate and its label may stand for no relation. anonymised: whether types stand in the place
    of the mentions. line: where it begins, 1-based.
    """

    text: str
    mentions: tuple[Entity, ...]
    groups: tuple[tuple[int, ...], ...]
    relations: tuple[Relation, ...]
    line: int
    repeated: int = 0
    single: bool = False
    anonymised: bool = False

    def __repr__(self) -> str:
        sizes = f"{len(self.text):,} characters, {len(self.mentions)} mentions, {len(self.relations)} relations"
        return f"RelatedDocument({sizes}, line {self.line:,})"

    def types(self, relation: Relation) -> tuple[str, str]:
        """The types of the head and the tail of a relation."""
        head, tail = (self.mentions[self.groups[group][0]].label for group in relation[:2])
        return head, tail


def read(path: Path, *, name: str = "", report: Reporter = raise_problem) -> Iterator[RelatedDocument]:
    """The texts of a file or a BRAT folder, in order.

    `name` stands for the file in messages. A wrong row goes to `report`, which raises it by default; otherwise the
    relation, or the row with one pair, is left out. Raises what the readers of these formats raise in any case.
    """
    path = Path(path)
    name = name or path.name
    if path.is_dir() or not path.name.endswith(ROWS) or spans.has_entities(path):
        by_concept = ".pubtator" in path.suffixes[-2:]
        for document in spans.read_marked(path, name=name, report=report):
            yield _relate(document, by_concept or _between_concepts(document), name, report)
        return
    for number, row in rows(path, name):
        try:
            if isinstance(row, BadData):
                raise row
            yield _parse_pair(row, number)
        except BadData as problem:
            report(at_line(problem, name, number, next_step=_FORMAT))


def merge_pairs(documents: Iterable[RelatedDocument]) -> list[RelatedDocument]:
    """The documents; the rows of one and the same pair become one with all their labels, in the place of the first.

    Such rows are usual where a pair has several labels; left apart, they would contradict each other.
    """
    merged: dict[object, RelatedDocument] = {}
    for number, document in enumerate(documents):
        pair = (document.text, document.mentions) if document.single else number
        if first := merged.get(pair):
            relations = tuple(dict.fromkeys((*first.relations, *document.relations)))
            repeated = first.repeated + (len(relations) == len(first.relations))
            merged[pair] = first._replace(relations=relations, repeated=repeated)
        else:
            merged[pair] = document
    return list(merged.values())


def is_related(path: Path) -> bool:
    """Whether the first valid row of a file is of one of these forms; every PubTator file and BRAT folder may be."""
    if path.is_dir() or ".pubtator" in path.suffixes[-2:]:
        return True
    try:
        first = next((row for _, row in rows(path, path.name) if not isinstance(row, BadData)), dict[str, Any]())
    except BadData:
        return False
    if isinstance(first.get("entities"), list):
        return isinstance(first.get("relations"), list)
    anonymised = isinstance(text := first.get("text"), str) and ANONYMISED.search(text)
    return "label" in first and (bool(anonymised) or {"head", "tail"} <= set(first))


def find_negative(labels: Mapping[str, object] | tuple[str, ...]) -> str | None:
    """The label that stands for no relation among those of a data set, if one has a usual name; None otherwise."""
    by_name = {label.casefold(): label for label in labels}
    return next((by_name[name] for name in NO_RELATION if name in by_name), None)


def rows(path: Path, name: str) -> Iterator[tuple[int, Mapping[str, Any] | BadData]]:
    """(line, fields) of each row of a file with one per line, or (line, what is wrong with it)."""
    if ".tsv" in path.suffixes[-2:]:
        return _tab_rows(path, name)
    if ".csv" in path.suffixes[-2:]:
        return labelled.rows(path, name=name)
    return objects(path, name=name, next_step=_FORMAT)


def _tab_rows(path: Path, name: str) -> Iterator[tuple[int, Mapping[str, Any] | BadData]]:
    """The rows of a .tsv file by column; without a header they are text and label. Quotes have no meaning there."""
    header: list[str] | None = None
    for number, line in each_line(path, name=name, strip="\r\n"):
        if isinstance(line, BadData):
            yield number, line
            continue
        if not line.strip():
            continue
        cells = [cell.strip() for cell in line.split("\t")]
        if header is None:
            names = ["text" if cell.casefold() == "sentence" else cell.casefold() for cell in cells]
            header = names if {"text", "label"} <= set(names) else ["text", "label"]
            if header is names:
                continue
        if len(cells) == len(header):
            yield number, dict(zip(header, cells, strict=True))
        else:
            yield number, BadData(f"{len(cells)} cells under {len(header)} columns.", next_step=_FORMAT)


def _between_concepts(document: MarkedDocument) -> bool:
    """Whether the relations of a document name concepts, and not the ids of entities."""
    ids = {entity.id for entity in document.entities}
    concepts = {concept for entity in document.entities for concept in entity.concepts}
    ends = {end for stated in document.relations for end in (stated.head, stated.tail) if isinstance(end, str)}
    return bool(ends & concepts) and not ends & ids


def _relate(document: MarkedDocument, by_concept: bool, name: str, report: Reporter) -> RelatedDocument:
    """A document with its relations resolved to groups of mentions."""
    groups: dict[str, list[int]] = {}  # mentions by the name of what they belong to
    for number, entity in enumerate(document.entities):
        for group in (by_concept and entity.concepts) or (entity.id or f"\0{number}",):
            groups.setdefault(group, []).append(number)
    if not by_concept and any(len(members) > 1 for members in groups.values()):
        what = "two entities with the same id."
        report(BadData(what, path=name, line=document.line, next_step="Give each entity of a document its own id."))
    places = {group: place for place, group in enumerate(groups)}
    relations: dict[Relation, None] = {}
    repeated = 0
    for stated in document.relations:
        ends = [places.get(end) if isinstance(end, str) else None for end in (stated.head, stated.tail)]
        if not isinstance(stated.label, str) or not LABEL.fullmatch(stated.label):
            what = "a relation without a label, or with blanks in its label."
        elif None in ends:
            kind = "concepts" if by_concept else "entities"
            what = f"a relation whose head and tail are not both {kind} of its document."
        elif ends[0] == ends[1]:
            what = "a relation of an entity with itself."
        else:
            relation = Relation(ends[0] or 0, ends[1] or 0, stated.label)
            repeated += relation in relations
            relations[relation] = None
            continue
        report(BadData(what, path=name, line=stated.line, next_step=_RELATION))
    members = tuple(tuple(each) for each in groups.values())
    return RelatedDocument(document.text, document.entities, members, tuple(relations), document.line, repeated)


def _parse_pair(row: Mapping[str, Any], line: int) -> RelatedDocument:
    """A row with one pair. Raises BadData, without file and line, if it is not a valid one."""
    label = row.get("label")
    row = row if not isinstance(label, int) or isinstance(label, bool) else {**row, "label": str(label)}
    document = labelled.parse_document(row, field="label", line=line)
    text, name = document.text, document.labels[0]
    if "head" not in row and "tail" not in row:
        mentions, groups = _find_anonymised(text)
        ends, anonymised = (0, len(groups) - 1), True
    else:
        mentions, groups = _check_mentions(text, [row.get("head"), row.get("tail")], line), ((0,), (1,))
        ends, anonymised = (0, 1), False
    return RelatedDocument(text, mentions, groups, (Relation(*ends, name),), line, 0, True, anonymised)


def _find_anonymised(text: str) -> tuple[tuple[Entity, ...], tuple[tuple[int, ...], ...]]:
    """The mentions of an anonymised text and their groups: two, sorted by type, or one that is head and tail."""
    mentions = [Entity(match.start(), match.end(), match[1]) for match in ANONYMISED.finditer(text)]
    if not 1 <= len(mentions) <= 2:
        what = f"a text with {len(mentions)} mentions in the form @TYPE$; there are two, or one where both overlap."
        raise BadData(what, next_step=_FORMAT)
    mentions.sort(key=lambda mention: mention.label)  # stable: of one type the first in the text is the head
    return tuple(mentions), tuple((number,) for number in range(len(mentions)))


def _check_mentions(text: str, stated: list[Any], line: int) -> tuple[Entity, ...]:
    parsed = []
    for mention in stated:
        if not isinstance(mention, dict):
            raise BadData("a row without `head` and `tail`, each an object.", next_step=_FORMAT)
        span = mention.get("span") or [mention.get("start"), mention.get("end")]
        if not isinstance(span, list) or len(span) != 2 or not all(type(place) is int for place in span):
            raise BadData("a mention without whole numbers `start` and `end`, or `span`.", next_step=_FORMAT)
        written = mention.get("text")
        kind = mention.get("type", mention.get("label", ANY_TYPE))
        parsed.append(StatedEntity([(span[0], span[1])], kind, written if isinstance(written, str) else None, line))
    mentions = []
    for outcome in check_entities(text, parsed, scales(text)):
        if isinstance(outcome, BadData):
            raise outcome
        mentions.append(outcome)
    return tuple(mentions)
