"""Documents with entities marked by their place in the text: JSONL, BRAT and PubTator. Read as words with IOB2 tags.

    x.spans.jsonl   {"text": ..., "entities": [{"label", "start", "end"}, {"label", "spans": [[start, end], ...]}]}
    x/              BRAT: y.txt beside y.ann (trainer.datasets.readers.brat)
    x.pubtator      title, abstract and annotations a line each (trainer.datasets.readers.pubtator)

Offsets count code points, unless the mentions that stand beside them fit only where they count otherwise; a mention
that is not the text at its offsets is wrong. An entity of JSONL may have one too, as `text`.

Words are those of words. Tags cannot overlap: of entities that share a word the longest stays, and of one in
several pieces its longest piece does; pieces that only white space separates are one. Both are counted. Texts may be
patient data: no message quotes one.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from trainer.datasets.readers import brat, pubtator
from trainer.datasets.readers.conll import Placed, Sentence
from trainer.datasets.readers.entities import Entity, Marked, Reporter, Stated, Tally, documents, raise_it
from trainer.datasets.readers.lines import objects
from trainer.datasets.readers.offsets import scales
from trainer.datasets.rows.words import words_in
from trainer.errors import BadData

SUFFIXES = (".spans.jsonl", ".spans.jsonl.gz", ".pubtator", ".pubtator.gz")  # of files; a BRAT split is a folder
ENDINGS = (*SUFFIXES, ".jsonl", ".jsonl.gz")  # a .jsonl of another name counts where its rows have `entities`
_JSONL = 'Write {"text": "...", "entities": [{"label": "Disease", "start": 0, "end": 5}]} a line.'
_OTHERS = ("relations", "events", "attributes")  # lists of a row that are for other tasks


def read(path: Path, *, name: str = "", report: Reporter = raise_it, tally: Tally | None = None) -> Iterator[Placed]:
    """The documents of a file, or of a BRAT folder, in order, each as words with tags; one without a word is skipped.

    `name` stands for the file in messages. A wrong row goes to `report`, which raises it unless told otherwise; the
    document or the entity is then left out. `tally` counts what becomes of the entities.
    """
    for document in marked(path, name=name, report=report):
        sentence = tagged(document.text, document.entities)
        if tally is not None:
            tally.add(document, tagged=sum(tag[0] == "B" for tag in sentence.tags))
        if sentence.words:
            yield Placed(sentence, (document.line,) * len(sentence.words))


def marked(path: Path, *, name: str = "", report: Reporter = raise_it) -> Iterator[Marked]:
    """The same with text and offsets as they are written."""
    path = Path(path)
    name = name or path.name
    if path.is_dir():
        return brat.read(path, name, report)
    return (pubtator.read if ".pubtator" in path.suffixes[-2:] else _read_jsonl)(path, name, report)


def has_entities(path: Path) -> bool:
    """Whether the first row of a .jsonl file that can be read has the list `entities`."""
    first = next((row for _, row in objects(Path(path)) if not isinstance(row, BadData)), {})
    return isinstance(first.get("entities"), list)


def tagged(text: str, entities: Iterable[Entity]) -> Sentence:
    """Words and IOB2 tags of a text; a word belongs to an entity that covers any of it."""
    words = words_in(text)
    found, starts, ends = (each.tolist() for each in (words.places, words.starts, words.ends))
    tags = ["O"] * len(found)
    free = [True] * len(found)
    for start, end, label, _ in sorted(entities, key=lambda one: (one.start - one.end, one.start)):  # longest first
        covered = range(bisect_right(ends, start), bisect_left(starts, end))
        if not covered or not all(free[index] for index in covered):
            continue
        for index in covered:
            tags[index], free[index] = f"I-{label}", False
        tags[covered[0]] = f"B-{label}"
    return Sentence(tuple(text[low:high] for low, high in found), tuple(tags))


def _read_jsonl(path: Path, name: str, report: Reporter) -> Iterator[Marked]:
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
            report(BadData(problem.message, path=name, line=number, next_step=problem.next_step))
            continue
        yield from _marked(text, row, number, name, report)


def _marked(text: str, row: Mapping[str, Any], line: int, name: str, report: Reporter) -> Iterator[Marked]:
    stated, wrong = [], []
    for item in row["entities"]:
        try:
            stated.append(_entity(item, line))
        except BadData as problem:
            wrong.append((line, problem))
    others = sum(len(row[field]) for field in _OTHERS if isinstance(row.get(field), list))
    about = {"line": line, "name": name, "report": report, "next_step": _JSONL, "whole": True}
    return documents(text, stated, scales(text), wrong=wrong, others=others, **about)


def _entity(item: Any, line: int) -> Stated:
    if not isinstance(item, dict):
        raise BadData("an entity that is no object.")
    pieces = item["spans"] if "spans" in item else [[item.get("start"), item.get("end")]]
    whole = isinstance(pieces, list) and all(
        isinstance(piece, list) and len(piece) == 2 and all(type(place) is int for place in piece) for piece in pieces
    )
    if not whole or not pieces:
        raise BadData("an entity without whole numbers `start` and `end`, or `spans` of such pairs.")
    mention = item.get("text")
    return Stated(pieces, item.get("label"), mention if isinstance(mention, str) else None, line)
