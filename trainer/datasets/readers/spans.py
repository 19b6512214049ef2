"""Documents with entities by offset (JSONL, BRAT and PubTator), read as words with IOB2 tags.

    x.spans.jsonl   {"text": ..., "entities": [{"label", "start", "end"}, {"label", "spans": [[start, end], ...]}]};
                    an entity may have "attributes": {"assertion": "absent"}, which beside its label is an error, and an
                    "id" and a "concept", and the row "relations": [{"label", "head": ID, "tail": ID}]; both ends may
                    be concepts, also by their types: {"label": "CID", "chemical": "D008012", "disease": "D006323"}
    x/              BRAT: y.txt beside y.ann (readers.brat)
    x.pubtator      one line each for title, abstract and every annotation (readers.pubtator)

Offsets count code points, unless the mentions given beside them only match under another way of counting
(readers.offsets). A mention that is not the text at its offsets is an error. In JSONL an entity may give its mention as
`text`.

Words are those of datasets.rows.words. Tags cannot overlap: of entities that share a word, the longest is tagged; of a
discontinuous entity, its longest piece is. Pieces that only white space separates are one. A Tally counts what is left
out. Texts may be patient data: no message quotes one.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from trainer.datasets.readers import Reporter, at_line, brat, pubtator, raise_problem
from trainer.datasets.readers.conll import PlacedSentence, Sentence
from trainer.datasets.readers.entities import (
    Entity,
    MarkedDocument,
    StatedEntity,
    StatedRelation,
    Tally,
    check_attributes,
    check_document,
    check_keys,
    read_concepts,
)
from trainer.datasets.readers.lines import objects
from trainer.datasets.readers.offsets import scales
from trainer.datasets.rows.words import words_in
from trainer.errors import BadData

SUFFIXES = (".spans.jsonl", ".spans.jsonl.gz", ".pubtator", ".pubtator.gz")  # of files; a BRAT split is a folder
ENDINGS = (*SUFFIXES, ".jsonl", ".jsonl.gz")  # other .jsonl files count if their rows have `entities`
_JSONL = 'Write {"text": "...", "entities": [{"label": "Disease", "start": 0, "end": 5}]} on each line.'
_OTHERS = ("relations", "events", "attributes")  # lists of a row that other tasks use


def read(
    path: Path, *, name: str = "", report: Reporter = raise_problem, tally: Tally | None = None
) -> Iterator[PlacedSentence]:
    """The documents of a file or a BRAT folder, in order, as words with tags; documents without a word are skipped.

    `name` stands for the file in messages. A wrong row goes to `report`, which raises it by default; otherwise the
    document or the entity is left out. `tally` counts what happens to the entities.
    """
    for document in read_marked(path, name=name, report=report):
        sentence = tag_words(document.text, document.entities)
        if tally is not None:
            tally.add(document, tagged=sum(tag[0] == "B" for tag in sentence.tags))
        if sentence.words:
            yield PlacedSentence(sentence, (document.line,) * len(sentence.words))


def read_marked(path: Path, *, name: str = "", report: Reporter = raise_problem) -> Iterator[MarkedDocument]:
    """The same documents as text with entities by offset."""
    path = Path(path)
    name = name or path.name
    if path.is_dir():
        return brat.read(path, name, report)
    return (pubtator.read if ".pubtator" in path.suffixes[-2:] else _read_jsonl)(path, name, report)


def has_entities(path: Path) -> bool:
    """Whether the first valid row of a .jsonl file has the list `entities`."""
    first = next((row for _, row in objects(Path(path)) if not isinstance(row, BadData)), dict[str, Any]())
    return isinstance(first.get("entities"), list)


def tag_words(text: str, entities: Iterable[Entity]) -> Sentence:
    """The words of a text with IOB2 tags and attributes; a word belongs to an entity that covers any part of it."""
    words = words_in(text)
    places, starts, ends = (each.tolist() for each in (words.places, words.starts, words.ends))
    tags = ["O"] * len(places)
    free = [True] * len(places)
    values: dict[str, list[str]] = {}  # by attribute, of each word
    for entity in sorted(entities, key=lambda one: (one.start - one.end, one.start)):  # longest first
        label, covered = entity.label, range(bisect_right(ends, entity.start), bisect_left(starts, entity.end))
        if not covered or not all(free[index] for index in covered):
            continue
        for index in covered:
            tags[index], free[index] = f"I-{label}", False
        tags[covered[0]] = f"B-{label}"
        for name, value in entity.attributes:
            by_word = values.setdefault(name, [""] * len(tags))
            by_word[covered.start : covered.stop] = [value] * len(covered)
    by_name = {name: tuple(by_word) for name, by_word in sorted(values.items())}
    return Sentence(tuple(text[start:end] for start, end in places), tuple(tags), by_name)


def _read_jsonl(path: Path, name: str, report: Reporter) -> Iterator[MarkedDocument]:
    attributes = {"assertion"}  # names of attributes, to which those of the file are added as they occur
    for number, row in objects(path, name=name, next_step=_JSONL):
        try:
            if isinstance(row, BadData):
                raise row
            text = row.get("text")
            if not isinstance(text, str):
                raise BadData("an object without the text field `text`.", next_step=_JSONL)
            if not isinstance(row.get("entities"), list):
                raise BadData("an object without the list `entities`.", next_step=_JSONL)
        except BadData as problem:
            report(at_line(problem, name, number))
            continue
        yield from _parse_row(text, row, number, attributes, name, report)


def _parse_row(
    text: str, row: Mapping[str, Any], line: int, attributes: set[str], name: str, report: Reporter
) -> Iterator[MarkedDocument]:
    stated, wrong = [], []
    for item in row["entities"]:
        try:
            stated.append(_parse_entity(item, line, attributes))
            attributes.update(name for name, _ in stated[-1].attributes)
        except BadData as problem:
            wrong.append((line, problem))
    return check_document(
        text,
        stated,
        scales(text),
        line=line,
        wrong=wrong,
        others=sum(len(row[field]) for field in _OTHERS if isinstance(row.get(field), list)),
        relations=_relations(row.get("relations"), line),
        name=name,
        report=report,
        next_step=_JSONL,
        whole=True,
    )


def _parse_entity(item: object, line: int, attributes: Collection[str]) -> StatedEntity:
    if not isinstance(item, dict):
        raise BadData("an entity that is not an object.")
    check_keys(item, attributes)
    pieces: Any = item["spans"] if "spans" in item else [[item.get("start"), item.get("end")]]
    valid = isinstance(pieces, list) and all(
        isinstance(piece, list) and len(piece) == 2 and all(type(place) is int for place in piece) for piece in pieces
    )
    if not valid or not pieces:
        raise BadData("an entity without whole numbers `start` and `end`, or `spans` of such pairs.")
    mention = item.get("text")
    return StatedEntity(
        [(start, end) for start, end in pieces],
        item.get("label"),
        mention if isinstance(mention, str) else None,
        line,
        check_attributes(item.get("attributes")),
        id=str(identity) if isinstance(identity := item.get("id"), str | int) else "",
        concepts=read_concepts(concept) if isinstance(concept := item.get("concept"), str) else (),
    )


def _relations(stated: object, line: int) -> list[StatedRelation]:
    return [_relation(item, line) for item in stated] if isinstance(stated, list) else []


def _relation(item: object, line: int) -> StatedRelation:
    fields = item if isinstance(item, dict) else {}
    others = tuple(name for name in fields if name != "label")
    ends = others if len(others) == 2 and not {"head", "tail"} & set(others) else ("head", "tail")
    head, tail = (str(end) if isinstance(end := fields.get(name), int) else end for name in ends)
    return StatedRelation(fields.get("label"), head, tail, line)
