"""The lines of a text file, plain or gzip, one at a time: a file may be larger than memory."""

import gzip
import json
import re
import zlib
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from trainer.errors import BadData

LONGEST = 1 << 26  # bytes of a line; a file without line ends would otherwise be read into memory whole
_BOM = b"\xef\xbb\xbf"
_HALF = re.compile(r"[\ud800-\udfff]")
_NAME = re.compile(r"[A-Za-z_][\w-]{0,39}", re.ASCII)


def lines(path: Path, *, name: str = "", strip: str = " \t\r\n") -> Iterator[tuple[int, str]]:
    """(number from 1, text without its line end) of each line; a name that ends in .gz is unpacked on the way.

    strip: what is taken off the end of a line; where offsets count blanks it is "\\r\\n" alone. Raises BadData with the
    line, under `name`, for bytes that are not UTF-8 text, a line longer than LONGEST, or a damaged gzip file.
    """
    name, number = name or path.name, 0
    try:
        for number, offset, raw in _raw(path):
            yield number, _text(raw, offset).rstrip(strip)
    except _BadLine as problem:
        raise BadData(problem.args[0], path=name, line=number, next_step=problem.args[1]) from None
    except (gzip.BadGzipFile, EOFError, zlib.error):
        what, next_step = "the gzip file is damaged or incomplete.", "Copy it again, or pack it again."
        raise BadData(what, path=name, line=number + 1, next_step=next_step) from None


def objects(path: Path, *, name: str = "", next_step: str = "") -> Iterator[tuple[int, dict[str, Any] | BadData]]:
    """(number from 1, fields) of each line of JSON, or what is wrong with it, without its place; not of empty ones."""
    for number, line in lines(path, name=name):
        if not line or line.isspace():
            continue
        try:
            row = _object(line)
        except BadData as problem:
            row = BadData(problem.message, next_step=problem.next_step or next_step)
        yield number, row


def _object(line: str) -> dict[str, Any]:
    try:
        row = json.loads(line, object_pairs_hook=_once)
    except (ValueError, RecursionError):
        raise BadData("this is not JSON.") from None
    if not isinstance(row, dict):
        raise BadData(f"a JSON {type(row).__name__} where an object is needed.")
    if "\\u" in line and _HALF.search(json.dumps(row, ensure_ascii=False)):
        raise BadData("a text holds half of a character (a lone surrogate).", next_step="Write the file as UTF-8 text.")
    return row


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object; BadData where it has a name twice, of which JSON readers silently keep the last."""
    row = dict(pairs)
    if len(row) < len(pairs):
        names = Counter(name for name, _ in pairs)
        raise BadData(f"{twice(names)} is given twice in one object.", next_step="Give each field once.")
    return row


def twice(names: Counter) -> str:
    """The first of the names that stand more than once; one that may be text of a note is not quoted."""
    name = next(name for name, number in names.items() if number > 1)
    return f"the field `{name}`" if _NAME.fullmatch(name) else "a field"


class _BadLine(Exception):
    """What is wrong with the line that is being read, and what to do."""


def _raw(path: Path) -> Iterator[tuple[int, int, bytes]]:
    """(number, offset of its first byte, bytes) of each line, without a byte order mark."""
    offset = 0
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
        # Only \n and \r\n end a line; text mode and splitlines would also cut at characters that words may hold.
        for number, raw in enumerate(iter(partial(file.readline, LONGEST + 1), b""), 1):
            text = raw.removeprefix(_BOM) if number == 1 else raw
            yield number, offset + len(raw) - len(text), text
            offset += len(raw)


def _text(raw: bytes, offset: int) -> str:
    if len(raw) > LONGEST:
        raise _BadLine(f"the line is longer than {LONGEST >> 20} MiB.", "Write one sentence or document a line.")
    if b"\0" in raw:
        raise _BadLine("this is a binary file, or not UTF-8.", "Save the file as UTF-8 text.")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        what = f"the byte 0x{raw[error.start]:02x} at offset {offset + error.start:,} is not UTF-8."
        raise _BadLine(what, "Save the file as UTF-8 text.") from None
