"""The lines of a text file, plain or gzip, one at a time: a file may be larger than memory."""

import gzip
import json
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
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
    for number, line in each_line(path, name=name, strip=strip):
        if isinstance(line, BadData):
            raise BadData(line.message, path=name or path.name, line=number, next_step=line.next_step)
        yield number, line


def each_line(path: Path, *, name: str = "", strip: str = " \t\r\n") -> Iterator[tuple[int, str | BadData]]:
    """The same with what is wrong, without its place, where a line is not UTF-8 text; the lines after it follow."""
    name, number = name or path.name, 0
    try:
        for number, offset, raw in _raw(path):
            if len(raw) > LONGEST:
                what, next_step = (
                    f"the line is longer than {LONGEST >> 20} MiB.",
                    "Write one sentence or document a line.",
                )
                raise BadData(what, path=name, line=number, next_step=next_step)
            line = _text(raw, offset)
            yield number, line.rstrip(strip) if isinstance(line, str) else line
    except (gzip.BadGzipFile, EOFError, zlib.error):
        what, next_step = "the gzip file is damaged or incomplete.", "Copy it again, or pack it again."
        raise BadData(what, path=name, line=number + 1, next_step=next_step) from None


def objects(path: Path, *, name: str = "", next_step: str = "") -> Iterator[tuple[int, dict[str, Any] | BadData]]:
    """(number from 1, fields) of each line of JSON, or what is wrong with it, without its place; not of empty ones."""
    for number, line in each_line(path, name=name):
        if isinstance(line, BadData):
            yield number, line
            continue
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
        raise BadData(
            f"{twice((name for name, _ in pairs), 'field')} is given twice in one object.", next_step="Give it once."
        )
    return row


def twice(names: Iterable[str], kind: str) -> str | None:
    """The first of the names that stand more than once, for a message; one that may be text of a note is not quoted."""
    name = next((name for name, number in Counter(names).items() if number > 1), None)
    return name and (f"the {kind} `{name}`" if _NAME.fullmatch(name) else f"a {kind}")


def _raw(path: Path) -> Iterator[tuple[int, int, bytes]]:
    """(number, offset of its first byte, bytes) of each line, without a byte order mark."""
    offset = 0
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
        # Only \n and \r\n end a line; text mode and splitlines would also cut at characters that words may hold.
        for number, raw in enumerate(iter(partial(file.readline, LONGEST + 1), b""), 1):
            text = raw.removeprefix(_BOM)  # files that were joined have a mark each
            yield number, offset + len(raw) - len(text), text
            offset += len(raw)


def _text(raw: bytes, offset: int) -> str | BadData:
    if b"\0" in raw:
        return BadData(
            "a NUL character: this is a binary file, or not UTF-8.", next_step="Save the file as UTF-8 text."
        )
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        what = f"the byte 0x{raw[error.start]:02x} at offset {offset + error.start:,} is not UTF-8."
        return BadData(what, next_step="Save the file as UTF-8 text.")
