"""BRAT: a folder of texts, y.txt, each with its annotations in y.ann beside it.

Text-bound annotations (T) are entities. Relations, events, attributes, modifications, normalisations and notes are
known and counted, and not read.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from trainer.datasets.readers.entities import Marked, Reporter, Stated, documents
from trainer.datasets.readers.lines import lines
from trainer.datasets.readers.offsets import number, scales
from trainer.errors import BadData

_ENDS = (".txt", ".ann")
_FORMAT = "Write T1<TAB>Label start end<TAB>text a line, offsets counting the characters of the .txt file."
_OTHER = re.compile(r"[REAMN]\S*\t|\*\t|#")
_BOM = "\ufeff"


def files(folder: Path) -> list[Path]:
    """What of a folder belongs to a split, in order: its .txt and .ann files. Hidden ones and all others do not."""
    visible = (path for path in folder.iterdir() if not path.name.startswith("."))
    return sorted(path for path in visible if path.suffix.lower() in _ENDS and path.is_file())


def is_split(folder: Path) -> bool:
    """Whether a folder holds annotations itself."""
    return folder.is_dir() and any(path.suffix.lower() == ".ann" for path in files(folder))


def read(folder: Path, name: str, report: Reporter) -> Iterator[Marked]:
    """The documents of a folder in the order of their names; a wrong file or row goes to `report`."""
    for problem in _misplaced(folder, name):
        report(problem)
    by_end = {end: [path for path in files(folder) if path.suffix.lower() == end] for end in _ENDS}
    if not by_end[".txt"]:
        raise BadData("the folder holds no .txt file.", path=name, next_step="Put x.txt and x.ann files there.")
    annotations = {path.stem: path for path in by_end[".ann"]}
    for path in by_end[".txt"]:
        try:
            yield from _document(path, annotations.get(path.stem), name, report)
        except BadData as problem:
            report(problem)


def _misplaced(folder: Path, name: str) -> Iterator[BadData]:
    """What stands in the folder and is left over."""
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not path.name.startswith("."):
            what, next_step = (
                "a folder inside a split; its files are not read.",
                "Move its files up, or the folder out.",
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


def _document(path: Path, annotations: Path | None, name: str, report: Reporter) -> Iterator[Marked]:
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
    marked, text = text.startswith(_BOM), text.removeprefix(_BOM)
    place = f"{name}/{annotations.name}"
    stated, wrong, others = _rows(annotations, place)
    ways = scales(text, marked=marked)
    about = {"line": 1, "name": place, "report": report, "next_step": _FORMAT}
    return documents(text, stated, ways, wrong=wrong, others=others, **about)


def _rows(path: Path, name: str) -> tuple[list[Stated], list[tuple[int, BadData]], int]:
    """The entities that a file states, (line, problem) of wrong rows, and how many other annotations there are."""
    stated, wrong, others, first = [], [], 0, {}
    for row, line in lines(path, name=name):
        if not line or line.isspace():
            continue
        try:
            entity = _text_bound(line, row)
            if entity and first.setdefault(identity := line.partition("\t")[0], row) != row:
                what = f"{identity} is given twice; line {first[identity]:,} has it too."
                raise BadData(what, next_step="Give each annotation an id of its own.")
        except BadData as problem:
            wrong.append((row, problem))
        else:
            stated += [entity] if entity else []
            others += not entity
    return stated, wrong, others


def _text_bound(line: str, row: int) -> Stated | None:
    """The entity of a line `T1<TAB>Label 0 5;8 9<TAB>text`; None for the other annotations that BRAT knows."""
    if _OTHER.match(line):
        return None
    if "\r" in line:
        raise BadData("a carriage return (CR) within the line.", next_step="End every line with LF, or CR and LF.")
    if not re.match(r"T\d+\t", line):
        raise BadData("a row that is no annotation: it begins with none of T1, R1, E1, A1, M1, N1, * and #.")
    _, described, mention = (*line.split("\t", 2), "")[:3]
    label, _, places = described.partition(" ")
    pieces = [tuple(map(number, part.split())) for part in places.split(";")]
    if any(len(piece) != 2 or None in piece for piece in pieces):
        raise BadData("a text-bound annotation without label, start and end, in whole numbers.")
    return Stated(pieces, label, mention, row)
