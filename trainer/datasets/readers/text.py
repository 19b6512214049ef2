"""Unlabelled text: one document per line (.txt), or one JSON object with a field `text` per line (.jsonl); also as .gz.

Files are read line by line, so their size does not matter. Documents may be patient data: no message quotes one.
"""

import hashlib
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from trainer.datasets.readers import Reporter, at_line, raise_problem
from trainer.datasets.readers.lines import lines, objects
from trainer.errors import BadData

SUFFIXES = (".txt", ".jsonl", ".txt.gz", ".jsonl.gz")
HELD_OUT = 50  # one document in 50 is dev and one is test where a data set lacks these splits: 2 % each
_FORMAT = 'Write one object with the field "text" per line, such as {"text": "..."}; other fields are ignored.'


class Document(NamedTuple):
    """One document, and the line (1-based) of the file that contains it; the repr shows its length, never its text."""

    text: str
    line: int

    def __repr__(self) -> str:
        return f"Document({len(self.text):,} characters, line {self.line:,})"


def read(path: Path, *, name: str = "", report: Reporter = raise_problem) -> Iterator[Document]:
    """The documents of a file, in order; lines and documents without a visible character are skipped.

    `name` stands for the file in messages. A wrong row goes to `report`, which raises it by default. Raises what
    `readers.lines` raises in any case.
    """
    name = name or path.name
    is_json = ".jsonl" in path.suffixes[-2:]
    rows = objects(path, name=name, next_step=_FORMAT) if is_json else lines(path, name=name)
    for number, row in rows:
        try:
            text = row if isinstance(row, str) else _text_field(row)
        except BadData as problem:
            report(at_line(problem, name, number))
            continue
        if is_visible(text):
            yield Document(text, number)


def is_visible(text: str) -> bool:
    """Whether a text has a visible character: not white space, a control character or a zero-width mark."""
    return any(not sign.isspace() and unicodedata.category(sign) not in ("Cc", "Cf") for sign in text)


def split_by_hash(text: str) -> str:
    """The split of a document in a data set without dev or test: it depends on the document's hash alone."""
    return _split_of_hash(_hash(text))


def split_chooser(texts: Iterable[str], lent: Collection[str]) -> Callable[[str], str]:
    """The function that says which split a document of train belongs to, where train has to provide the splits `lent`.

    This is `split_by_hash` if it gives every one of `lent` a document. In a corpus too small for that, each split
    without one gets the remaining training document with the smallest hash.
    """
    empty, hashes = set(lent), set[int]()
    for text in texts:
        hashes.add(number := _hash(text))
        empty.discard(_split_of_hash(number))
        if not empty:
            return split_by_hash
    free = (number for number in sorted(hashes) if _split_of_hash(number) not in lent)
    chosen = dict(zip(free, sorted(empty), strict=False))

    def choose_split(text: str) -> str:
        number = _hash(text)
        return chosen.get(number) or _split_of_hash(number)

    return choose_split


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest())


def _split_of_hash(number: int) -> str:
    return {0: "dev", 1: "test"}.get(number % HELD_OUT, "train")


def _text_field(row: Mapping[str, Any] | BadData) -> str:
    if isinstance(row, BadData):
        raise row
    if "text" not in row:
        raise BadData(f"an object of {len(row)} fields without the field `text`.", next_step=_FORMAT)
    if not isinstance(row["text"], str):
        raise BadData(f"the field `text` is a {type(row['text']).__name__}, not a string.", next_step=_FORMAT)
    return row["text"]
