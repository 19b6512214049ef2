"""Unlabelled text: a document a line (.txt), or a JSON object with a field `text` a line (.jsonl); either as .gz too.

Files are read line by line, so their size does not matter. Documents may be patient data: no message quotes one.
"""

import hashlib
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from trainer.datasets.readers.lines import lines, objects
from trainer.errors import BadData

SUFFIXES = (".txt", ".jsonl", ".txt.gz", ".jsonl.gz")
HELD_OUT = 50  # one document in so many is dev, and another test, where a data set has no such split: 2 % each
_FORMAT = 'Write one object with the field "text" a line, such as {"text": "..."}; other fields are ignored.'


class Document(NamedTuple):
    """One document, and the line (1-based) of the file that holds it; the repr shows how long it is, never what."""

    text: str
    line: int

    def __repr__(self) -> str:
        return f"Document({len(self.text):,} characters, line {self.line:,})"


def _raise(problem: BadData) -> None:
    raise problem


def read(path: Path, *, name: str = "", report: Callable[[BadData], None] = _raise) -> Iterator[Document]:
    """The documents of a file, in order; lines and documents without a visible character are skipped.

    `name` stands for the file in messages. A wrong row goes to `report`, which raises it unless told otherwise. What
    `lines` raises ends the reading in any case.
    """
    name = name or path.name
    is_json = ".jsonl" in path.suffixes[-2:]
    rows = objects(path, name=name, next_step=_FORMAT) if is_json else lines(path, name=name)
    for number, row in rows:
        try:
            text = _field(row) if is_json else row
        except BadData as problem:
            report(BadData(problem.message, path=name, line=number, next_step=problem.next_step))
            continue
        if is_visible(text):
            yield Document(text, number)


def is_visible(text: str) -> bool:
    """Whether a text has a character that can be seen: no white space, control character or zero-width mark."""
    return any(not sign.isspace() and unicodedata.category(sign) not in ("Cc", "Cf") for sign in text)


def held_out(text: str) -> str:
    """The split of a document in a data set that leaves splits out: by its hash alone, so the same in every run."""
    return _share(_number(text))


def lender(texts: Iterable[str], lent: Collection[str]) -> Callable[[str], str]:
    """What says which split a document of train stands in for: `held_out`, as long as every split of `lent` gets one.

    Of a corpus too small for that, a split without any gets the document with the least hash that is free.
    """
    empty, numbers = set(lent), set()
    for text in texts:
        numbers.add(number := _number(text))
        empty.discard(_share(number))
        if not empty:
            return held_out
    free = (number for number in sorted(numbers) if _share(number) not in lent)
    chosen = dict(zip(free, sorted(empty), strict=False))

    def split_of(text: str) -> str:
        number = _number(text)
        return chosen.get(number) or _share(number)

    return split_of


def _number(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest())


def _share(number: int) -> str:
    return {0: "dev", 1: "test"}.get(number % HELD_OUT, "train")


def _field(row: Mapping[str, Any] | BadData) -> str:
    if isinstance(row, BadData):
        raise row
    if "text" not in row:
        raise BadData(f"an object of {len(row)} fields without the field `text`.", next_step=_FORMAT)
    if not isinstance(row["text"], str):
        raise BadData(f"the field `text` is a {type(row['text']).__name__}, not a string.", next_step=_FORMAT)
    return row["text"]
