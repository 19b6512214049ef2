"""BRAT: a folder of texts, y.txt, each with its annotations beside it in y.ann.

Text-bound annotations (T) are entities. Attributes (A, or M in older files) belong to them, or to the event whose
trigger they are. Relations (R) hold between entities, or events that stand for their triggers. Events, normalisations
and notes are recognised and counted, but not used.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from trainer.datasets.readers import Reporter
from trainer.datasets.readers.entities import (
    MarkedDocument,
    StatedEntity,
    StatedRelation,
    check_attributes,
    check_document,
)
from trainer.datasets.readers.lines import lines
from trainer.datasets.readers.offsets import parse_offset, scales
from trainer.errors import BadData

_ENDS = (".txt", ".ann")
_FORMAT = "Write T1<TAB>Label start end<TAB>text on each line; offsets count the characters of the .txt file."
_ATTRIBUTE_FORMAT = "Write A1<TAB>Name T1 value, or without a value where there is only one."
_OTHER = re.compile(r"[REN]\S*\t|\*\t|#")
_ATTRIBUTE = re.compile(r"[AM]\d+\t")
_RELATION = re.compile(r"R\S*\t(\S+)\s+[^\s:]+:(\S+)\s+[^\s:]+:(\S+)\s*")
_EVENT = re.compile(r"(E\d+)\t[^\s:]+:(T\d+)")
_BOM = "\ufeff"


def files(folder: Path) -> list[Path]:
    """The files of a split, sorted: the .txt and .ann files of a folder that are not hidden."""
    visible = (path for path in folder.iterdir() if not path.name.startswith("."))
    return sorted(path for path in visible if path.suffix.lower() in _ENDS and path.is_file())


def is_split(folder: Path) -> bool:
    """Whether a folder directly contains .ann files."""
    return folder.is_dir() and any(path.suffix.lower() == ".ann" for path in files(folder))


def read(folder: Path, name: str, report: Reporter) -> Iterator[MarkedDocument]:
    """The documents of a folder in the order of their names; a wrong file or row goes to `report`.

    Raises BadData for a folder without a .txt file.
    """
    for problem in _check_files(folder, name):
        report(problem)
    by_end = {end: [path for path in files(folder) if path.suffix.lower() == end] for end in _ENDS}
    if not by_end[".txt"]:
        raise BadData("the folder holds no .txt file.", path=name, next_step="Put x.txt and x.ann files there.")
    annotations = {path.stem: path for path in by_end[".ann"]}
    for path in by_end[".txt"]:
        try:
            yield from _read_document(path, annotations.get(path.stem), name, report)
        except BadData as problem:
            report(problem)


def _check_files(folder: Path, name: str) -> Iterator[BadData]:
    """What is wrong with the files of a folder: nested folders, duplicate documents, annotations without a text."""
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not path.name.startswith("."):
            what, next_step = (
                "a folder inside a split; its files are not read.",
                "Move the files up, or the folder out.",
            )
            yield BadData(what, path=f"{name}/{path.name}", next_step=next_step)
    first: dict[tuple[str, str], Path] = {}
    for path in files(folder):
        other = first.setdefault((path.stem, path.suffix.lower()), path)
        if other != path:
            what = f"{other.name} and this file are the same document."
            yield BadData(what, path=f"{name}/{path.name}", next_step="Remove or rename one of them.")
    for stem, end in first:
        if end == ".ann" and (stem, ".txt") not in first:
            what, next_step = "there is no such file.", f"Add it, or remove {first[stem, end].name}."
            yield BadData(what, path=f"{name}/{stem}.txt", next_step=next_step)


def _read_document(path: Path, annotations: Path | None, name: str, report: Reporter) -> Iterator[MarkedDocument]:
    if annotations is None:
        what, next_step = "there is no such file.", f"Add it, or remove {path.name}."
        raise BadData(what, path=f"{name}/{path.stem}.ann", next_step=next_step)
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError:
        raise BadData("this is not UTF-8 text.", path=f"{name}/{path.name}", next_step="Save it as UTF-8.") from None
    if "\0" in text:
        what = "a NUL character: this is a binary file, or not UTF-8."
        raise BadData(what, path=f"{name}/{path.name}", next_step="Save the file as UTF-8 text.")
    has_bom, text = text.startswith(_BOM), text.removeprefix(_BOM)
    place = f"{name}/{annotations.name}"
    stated, wrong, others, relations = _read_annotations(annotations, place)
    return check_document(
        text,
        stated,
        scales(text, has_bom=has_bom),
        line=1,
        wrong=wrong,
        others=others,
        relations=relations,
        name=place,
        report=report,
        next_step=_FORMAT,
    )


def _read_annotations(
    path: Path, name: str
) -> tuple[list[StatedEntity], list[tuple[int, BadData]], int, list[StatedRelation]]:
    """The entities that a file states, (line, problem) of each wrong row, the number of other annotations, and those
    of them that are relations.
    """
    stated: dict[str, StatedEntity] = {}
    attributes: list[tuple[int, str, str, str]] = []  # (line, name, id of what has it, value)
    triggers: dict[str, str] = {}  # by event
    wrong: list[tuple[int, BadData]] = []
    others, relations = 0, list[tuple[str, str, str, int]]()  # (label, head, tail, line)
    for number, line in lines(path, name=name):
        if not line or line.isspace():
            continue
        identity = line.partition("\t")[0]
        try:
            if _ATTRIBUTE.match(line):
                attributes.append((number, *_parse_attribute(line)))
            elif (entity := _parse_entity(line, number)) is None:
                others += 1
                if event := _EVENT.match(line):
                    triggers[event[1]] = event[2]
                elif line[0] == "R":
                    label, head, tail = match.groups() if (match := _RELATION.fullmatch(line)) else ("", "", "")
                    relations.append((label, head, tail, number))
            elif identity in stated:
                what = f"{identity} is given twice; line {stated[identity].line:,} has it too."
                raise BadData(what, next_step="Give each annotation an id of its own.")
            else:
                stated[identity] = entity._replace(id=identity)
        except BadData as problem:
            wrong.append((number, problem))
    for number, attribute, owner, value in attributes:
        entity = stated.get(triggers.get(owner, owner))
        if entity is None and owner[0] == "T":
            what = f"an attribute of {owner}, which is not in this file."
            wrong.append((number, BadData(what, next_step="Correct its id, or remove the attribute.")))
        elif entity is None:  # of a relation, or of an event without a trigger
            others += 1
        elif dict(entity.attributes).get(attribute, value) != value:
            what = f"a second value of the attribute {attribute} of {owner}."
            wrong.append((number, BadData(what, next_step="Leave one of the two.")))
        else:
            values = dict(entity.attributes) | {attribute: value}
            stated[triggers.get(owner, owner)] = entity._replace(attributes=tuple(sorted(values.items())))
    resolved = [
        StatedRelation(label, triggers.get(head, head), triggers.get(tail, tail), line)
        for label, head, tail, line in relations
    ]
    return list(stated.values()), wrong, others, resolved


def _parse_attribute(line: str) -> tuple[str, str, str]:
    """(name, id of what has it, value) of a line `A1<TAB>Assertion T3 absent`; one without a value has "yes"."""
    parts = line.split("\t", 1)[1].split()
    if len(parts) not in (2, 3):
        raise BadData("an attribute without a name and the id of what has it.", next_step=_ATTRIBUTE_FORMAT)
    ((name, value),) = check_attributes({parts[0]: parts[2] if len(parts) == 3 else "yes"})
    return name, parts[1], value


def _parse_entity(line: str, line_number: int) -> StatedEntity | None:
    """The entity of a line `T1<TAB>Label 0 5;8 9<TAB>text`; None for the other annotations of BRAT."""
    if _OTHER.match(line):
        return None
    if "\r" in line:
        raise BadData("a carriage return (CR) within the line.", next_step="End every line with LF, or CR and LF.")
    if not re.match(r"T\d+\t", line):
        raise BadData("a row that is not an annotation: it begins with none of T1, R1, E1, A1, M1, N1, * and #.")
    _, type_and_offsets, mention = (*line.split("\t", 2), "")[:3]
    label, _, offsets = type_and_offsets.partition(" ")
    pieces = []
    for part in offsets.split(";"):
        match [parse_offset(digits) for digits in part.split()]:
            case [int(start), int(end)]:
                pieces.append((start, end))
            case _:
                raise BadData("a text-bound annotation without label, start and end as whole numbers.")
    return StatedEntity(pieces, label, mention, line_number)
