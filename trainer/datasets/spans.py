"""Documents with entities marked by their place in the text: JSONL, BRAT and PubTator. Read as words with IOB2 tags.

    x.spans.jsonl   {"text": ..., "entities": [{"label", "start", "end"}, {"label", "spans": [[start, end], ...]}]}
    x/              BRAT: y.txt beside y.ann; text-bound annotations (T) count, relations and events do not
    x.pubtator      id|t|title, id|a|abstract, then id<TAB>start<TAB>end<TAB>text<TAB>type a line; then an empty line

Offsets count code points. Words are letters and digits together and every other sign alone. Tags cannot overlap: of
entities that share a word the longest stays, and of one in several pieces its longest piece does. Texts may be patient
data: no message quotes one.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from trainer.datasets.conll import Placed, Sentence
from trainer.datasets.lines import lines, objects
from trainer.errors import BadData

WORD = re.compile(r"\w+|[^\w\s]")
LABEL = re.compile(r"\S{1,60}")
SUFFIXES = (".spans.jsonl", ".spans.jsonl.gz", ".pubtator", ".pubtator.gz")  # of files; a BRAT split is a folder
_JSONL = 'Write {"text": "...", "entities": [{"label": "Disease", "start": 0, "end": 5}]} a line.'
_BRAT = "Write T1<TAB>Label start end<TAB>text a line, offsets counting the characters of the .txt file."
_PUBTATOR = "Write id<TAB>start<TAB>end<TAB>text<TAB>type a line, after id|t|title and id|a|abstract."


class Entity(NamedTuple):
    """text[start:end] carries `label`."""

    start: int
    end: int
    label: str


class Marked(NamedTuple):
    """A document with its entities, and the line (1-based) that it begins at; the repr shows sizes, never text."""

    text: str
    entities: tuple[Entity, ...]
    line: int

    def __repr__(self) -> str:
        return f"Marked({len(self.text):,} characters, {len(self.entities)} entities, line {self.line:,})"


Reporter = Callable[[BadData], None]


def _raise(problem: BadData) -> None:
    raise problem


def read(path: Path, *, name: str = "", report: Reporter = _raise) -> Iterator[Placed]:
    """The documents of a file, or of a BRAT folder, in order, each as words with tags.

    `name` stands for the file in messages. A wrong row goes to `report`, which raises it unless told otherwise; the
    document or the entity is then left out.
    """
    for document in marked(path, name=name, report=report):
        found = tagged(document.text, document.entities)
        if found.words:
            yield Placed(found, (document.line,) * len(found.words))


def marked(path: Path, *, name: str = "", report: Reporter = _raise) -> Iterator[Marked]:
    """The same with text and offsets as they are written."""
    path = Path(path)
    name = name or path.name
    if path.is_dir():
        return _read_brat(path, name, report)
    return (_read_pubtator if ".pubtator" in path.suffixes[-2:] else _read_jsonl)(path, name, report)


def tagged(text: str, entities: Iterable[Entity]) -> Sentence:
    """Words and IOB2 tags of a text; a word belongs to an entity that covers any of it."""
    found = [(match.start(), match.end()) for match in WORD.finditer(text)]
    starts, ends = [start for start, _ in found], [end for _, end in found]
    tags = ["O"] * len(found)
    free = [True] * len(found)
    for start, end, label in sorted(entities, key=lambda one: (one.start - one.end, one.start)):  # longest first
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
            entities = tuple(_entity(item, len(text)) for item in row["entities"])
        except BadData as problem:
            report(BadData(problem.message, path=name, line=number, next_step=problem.next_step))
            continue
        yield Marked(text, entities, number)


def _entity(item: Any, length: int) -> Entity:
    if not isinstance(item, dict):
        raise BadData("an entity that is no object.", next_step=_JSONL)
    pieces = item["spans"] if "spans" in item else [[item.get("start"), item.get("end")]]
    whole = isinstance(pieces, list) and all(
        isinstance(piece, list) and len(piece) == 2 and all(type(place) is int for place in piece) for piece in pieces
    )
    if not whole or not pieces:
        raise BadData("an entity without whole numbers `start` and `end`, or `spans` of such pairs.", next_step=_JSONL)
    return _checked(pieces, item.get("label"), length, _JSONL)


def _checked(pieces: Iterable[tuple[int, int]], label: Any, length: int, next_step: str) -> Entity:
    """The longest piece as an Entity; BadData where a piece is outside the text or the label is none."""
    if not isinstance(label, str) or not LABEL.fullmatch(label):
        raise BadData("an entity without a label, or whose label holds blanks.", next_step=next_step)
    for start, end in pieces:
        if not 0 <= start < end <= length:
            raise BadData(
                f"an entity from {start:,} to {end:,} in a text of {length:,} characters.", next_step=next_step
            )
    start, end = max(pieces, key=lambda piece: (piece[1] - piece[0], -piece[0]))
    return Entity(start, end, label)


def _read_brat(folder: Path, name: str, report: Reporter) -> Iterator[Marked]:
    texts = sorted(folder.glob("*.txt"))
    if not texts:
        raise BadData("the folder holds no .txt file.", path=name, next_step="Put x.txt and x.ann files there.")
    for path in texts:
        try:
            text = path.read_bytes().decode("utf-8")
        except UnicodeDecodeError:
            report(BadData("this is not UTF-8 text.", path=f"{name}/{path.name}", next_step="Save it as UTF-8."))
            continue
        annotations = path.with_suffix(".ann")
        place = f"{name}/{annotations.name}"
        if not annotations.is_file():
            report(BadData("there is no such file.", path=place, next_step=f"Add it, or remove {path.name}."))
            continue
        entities = []
        for number, line in lines(annotations, name=place):
            try:
                entities += _text_bound(line, len(text))
            except BadData as problem:
                report(BadData(problem.message, path=place, line=number, next_step=problem.next_step))
        yield Marked(text, tuple(entities), 1)


def _text_bound(line: str, length: int) -> list[Entity]:
    """The entity of a line `T1<TAB>Label 0 5;8 9<TAB>text`; none where the line is a relation, event or note."""
    if not line.startswith("T"):
        return []
    fields = line.split("\t")
    label, _, places = fields[1].partition(" ") if len(fields) > 1 else ("", "", "")
    numbers = [part.split() for part in places.split(";")]
    if not all(len(pair) == 2 and all(place.isascii() and place.isdigit() for place in pair) for pair in numbers):
        raise BadData("a text-bound annotation without label, start and end.", next_step=_BRAT)
    return [_checked([(int(start), int(end)) for start, end in numbers], label, length, _BRAT)]


def _read_pubtator(path: Path, name: str, report: Reporter) -> Iterator[Marked]:
    block: list[tuple[int, str]] = []
    for number, line in lines(path, name=name):
        if line.strip():
            block.append((number, line))
        elif block:
            yield from _abstract(block, name, report)
            block = []
    if block:
        yield from _abstract(block, name, report)


def _abstract(block: list[tuple[int, str]], name: str, report: Reporter) -> Iterator[Marked]:
    """Title and abstract stand in one text with one character between them, as PubTator counts offsets."""
    parts = {kind: line.split("|", 2)[2] for _, line in block for kind in "ta" if re.match(rf"[^|\t]+\|{kind}\|", line)}
    if "t" not in parts:
        report(BadData("a document without a title line.", path=name, line=block[0][0], next_step=_PUBTATOR))
        return
    text = "\n".join(parts[kind] for kind in "ta" if kind in parts)
    entities = []
    for number, line in block:
        fields = line.split("\t")
        if len(fields) < 5 or not fields[1].isdigit():
            continue  # title, abstract, or a relation
        try:
            if not fields[2].isdigit():
                raise BadData("an entity without an end.", next_step=_PUBTATOR)
            entities.append(_checked([(int(fields[1]), int(fields[2]))], fields[4], len(text), _PUBTATOR))
        except BadData as problem:
            report(BadData(problem.message, path=name, line=number, next_step=problem.next_step))
    yield Marked(text, tuple(entities), block[0][0])
