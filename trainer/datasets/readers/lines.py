"""The lines of a text or gzip file, read one at a time, so a file may be larger than memory."""

import gzip
import json
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from trainer.datasets.readers import at_line
from trainer.errors import BadData

LONGEST = 1 << 26  # bytes per line; a file without line ends would otherwise be read into memory whole
_BOM = b"\xef\xbb\xbf"
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_NAME = re.compile(r"[A-Za-z_][\w-]{0,39}", re.ASCII)


def lines(path: Path, *, name: str = "", strip: str = " \t\r\n", longest: int = LONGEST) -> Iterator[tuple[int, str]]:
    """(number from 1, text without its line end) of each line; a file whose name ends in .gz is unpacked.

    strip: the characters removed from the end of a line; only "\\r\\n" where offsets count blanks. Raises BadData with
    the line, under `name`, for bytes that are not UTF-8 text, a line longer than `longest`, or a damaged gzip file.
    """
    for number, line in each_line(path, name=name, strip=strip, longest=longest):
        if isinstance(line, BadData):
            raise at_line(line, name or path.name, number)
        yield number, line


def each_line(
    path: Path, *, name: str = "", strip: str = " \t\r\n", longest: int = LONGEST
) -> Iterator[tuple[int, str | BadData]]:
    """The same, with BadData without a place for a line that is not UTF-8 text; reading then continues."""
    name, number = name or path.name, 0
    try:
        for number, offset, raw in _raw_lines(path, longest):
            if len(raw) > longest:
                what = f"the line is longer than {longest >> 20} MiB."
                raise BadData(what, path=name, line=number, next_step="Write one sentence or document per line.")
            line = _decode(raw, offset)
            yield number, line.rstrip(strip) if isinstance(line, str) else line
    except (gzip.BadGzipFile, EOFError, zlib.error):
        what, next_step = "the gzip file is damaged or incomplete.", "Copy it again, or pack it again."
        raise BadData(what, path=name, line=number + 1, next_step=next_step) from None


def objects(path: Path, *, name: str = "", next_step: str = "") -> Iterator[tuple[int, dict[str, Any] | BadData]]:
    """(number from 1, fields) of each line of JSON that is not empty; BadData without a place instead of a wrong line.

    next_step: for problems without one of their own.
    """
    for number, line in each_line(path, name=name):
        if isinstance(line, BadData):
            yield number, line
            continue
        if not line or line.isspace():
            continue
        try:
            yield number, _parse_object(line)
        except BadData as problem:
            yield number, BadData(problem.message, next_step=problem.next_step or next_step)


def _parse_object(line: str) -> dict[str, Any]:
    try:
        row = json.loads(line, object_pairs_hook=_unique_names)
    except (ValueError, RecursionError):
        raise BadData("this is not JSON.") from None
    if not isinstance(row, dict):
        raise BadData(f"a JSON {type(row).__name__} where an object is needed.")
    if "\\u" in line and _SURROGATE.search(json.dumps(row, ensure_ascii=False)):
        raise BadData("a text holds half of a character (a lone surrogate).", next_step="Write the file as UTF-8 text.")
    return row


def _unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of these pairs. Raises BadData for a repeated name, of which json would silently use the last."""
    row = dict(pairs)
    if len(row) < len(pairs):
        repeated = find_repeated((name for name, _ in pairs), "field")
        raise BadData(f"{repeated} is given twice in one object.", next_step="Give it once.")
    return row


def find_repeated(names: Iterable[str], kind: str) -> str | None:
    """The first repeated name, worded for a message, which does not quote what may be text of a note; None without."""
    name = next((name for name, number in Counter(names).items() if number > 1), None)
    return name and (f"the {kind} `{name}`" if _NAME.fullmatch(name) else f"a {kind}")


def _raw_lines(path: Path, longest: int) -> Iterator[tuple[int, int, bytes]]:
    """(number, offset of the first byte, bytes) of each line, without a byte order mark."""
    offset = 0
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
        # Only \n and \r\n end a line; text mode and splitlines also split at characters that words may contain.
        for number, raw in enumerate(iter(partial(file.readline, longest + 1), b""), 1):
            text = raw.removeprefix(_BOM)  # any line may begin with one: files are sometimes concatenated
            yield number, offset + len(raw) - len(text), text
            offset += len(raw)


def _decode(raw: bytes, offset: int) -> str | BadData:
    if b"\0" in raw:
        return BadData(
            "a NUL character: this is a binary file, or not UTF-8.", next_step="Save the file as UTF-8 text."
        )
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        what = f"the byte 0x{raw[error.start]:02x} at offset {offset + error.start:,} is not UTF-8."
        return BadData(what, next_step="Save the file as UTF-8 text.")
