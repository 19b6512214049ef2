"""Questions about texts, whose answers are parts of them: SQuAD JSON in version 1.1 or 2.0, also as .gz.

    {"data": [{"paragraphs": [{"context": "...", "qas": [
        {"id": "1", "question": "...", "answers": [{"text": "...", "answer_start": 0}], "is_impossible": false}]}]}]}

A question with `is_impossible` has no answer in its text. Rajpurkar et al. 2016 and 2018. Texts and questions may be
patient data: no message quotes one; a question is named by its place in the file.
"""

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from trainer.datasets.readers import Reporter, raise_problem
from trainer.datasets.readers.lines import find_repeated
from trainer.datasets.readers.offsets import format_offset, scales
from trainer.errors import BadData

SUFFIXES = (".json", ".json.gz")
ANSWER = "answer"  # the label of what a model marks
LARGEST = 1 << 30  # bytes of a file when unpacked; the JSON of a split is read whole
_BOM = b"\xef\xbb\xbf"
_FORMAT = (
    'Write SQuAD JSON: {"data": [{"paragraphs": [{"context": "...", "qas": [{"id": "1", "question": "...", "answers": '
    '[{"text": "...", "answer_start": 0}]}]}]}]}; a question without an answer has "is_impossible": true.'
)
_ANSWER = "Give answer_start as the number of characters of the context before the answer, and text exactly as there."


class Question(NamedTuple):
    """A question about a text; the repr shows sizes, never text.

    answers: [start, end) in the text of each distinct annotated answer; empty where the text has none. number: the
    position of the question in its file, 1-based.
    """

    id: str
    text: str
    question: str
    answers: tuple[tuple[int, int], ...]
    number: int

    def __repr__(self) -> str:
        sizes = f"{len(self.text):,} and {len(self.question):,} characters, {len(self.answers)} answers"
        return f"Question({sizes}, number {self.number:,})"


def read(path: Path, *, name: str = "", report: Reporter = raise_problem) -> Iterator[Question]:
    """The questions of a file, in order; those about one text share its string.

    `name` stands for the file in messages. A wrong question, or a wrong part of the file, goes to `report`, which
    raises it by default, and is left out. Raises BadData in any case for a file that is not JSON of this form.
    """
    name = name or path.name
    ids: set[str] = set()
    number = 0
    for place, paragraph in _paragraphs(_load(path, name), name, report):
        try:
            text = _text(paragraph, "context", "the context")
            asked = _list(paragraph, "qas")
        except BadData as problem:
            report(_at(problem, name, place))
            continue
        for position, row in enumerate(asked, 1):
            number += 1
            try:
                question = _parse(row, text, number)
                if question.id in ids:
                    raise BadData("its id is that of an earlier question.", next_step="Give each its own id.")
            except BadData as problem:
                report(_at(problem, name, f"{place}, question {position:,}"))
                continue
            ids.add(question.id)
            yield question


def _load(path: Path, name: str) -> Mapping[str, Any]:
    """The JSON object of a file. Raises BadData for anything else."""
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            raw = file.read(LARGEST + 1)
    except (gzip.BadGzipFile, EOFError, zlib.error):
        next_step = "Copy it again, or pack it again."
        raise BadData("the gzip file is damaged or incomplete.", path=name, next_step=next_step) from None
    if len(raw) > LARGEST:
        raise BadData(f"the file is larger than {LARGEST >> 20:,} MiB.", path=name, next_step="Split it into parts.")
    try:
        document = json.loads(raw.removeprefix(_BOM).decode("utf-8"), object_pairs_hook=_unique_names)
    except UnicodeDecodeError as error:
        what = f"the byte at offset {error.start:,} is not UTF-8."
        raise BadData(what, path=name, next_step="Save the file as UTF-8 text.") from None
    except json.JSONDecodeError as error:
        raise BadData("this is not JSON.", path=name, line=error.lineno, next_step=_FORMAT) from None
    except (ValueError, RecursionError):  # such as a number of thousands of digits
        raise BadData("this is not JSON.", path=name, next_step=_FORMAT) from None
    except BadData as problem:
        raise BadData(problem.message, path=name, next_step=problem.next_step) from None
    if not isinstance(document, dict) or not isinstance(document.get("data"), list):
        raise BadData("there is no list `data`.", path=name, next_step=_FORMAT)
    return document


def _unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of these pairs. Raises BadData for a repeated name, of which json would silently use the last."""
    row = dict(pairs)
    if len(row) < len(pairs):
        repeated = find_repeated((name for name, _ in pairs), "field")
        raise BadData(f"{repeated} is given twice in one object.", next_step="Give it once.")
    return row


def _paragraphs(document: Mapping[str, Any], name: str, report: Reporter) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(place in words, fields) of each paragraph."""
    for article, entry in enumerate(document["data"], 1):
        try:
            paragraphs = _list(_object(entry), "paragraphs")
        except BadData as problem:
            report(_at(problem, name, f"article {article:,}"))
            continue
        for position, paragraph in enumerate(paragraphs, 1):
            place = f"article {article:,}, paragraph {position:,}"
            try:
                yield place, _object(paragraph)
            except BadData as problem:
                report(_at(problem, name, place))


def _parse(row: object, text: str, number: int) -> Question:
    """A question about `text`. Raises BadData, without its place, if it is not a valid one."""
    fields = _object(row)
    question, impossible = _text(fields, "question", "the question"), fields.get("is_impossible", False)
    stated = fields.get("id")
    if isinstance(stated, bool) or not isinstance(stated, str | int) or not str(stated).strip():
        raise BadData("it has no `id`, a string or a whole number.", next_step=_FORMAT)
    if not isinstance(impossible, bool):
        raise BadData("`is_impossible` is neither true nor false.", next_step=_FORMAT)
    answers = _list(fields, "answers") if "answers" in fields or not impossible else []
    if bool(answers) == impossible:
        what = "is marked as impossible to answer and has answers" if impossible else "has no answer"
        next_step = 'Remove its answers, or the mark "is_impossible": true.'
        if not impossible:
            next_step = 'Give it an answer, or mark it with "is_impossible": true.'
        raise BadData(f"it {what}.", next_step=next_step)
    places = dict.fromkeys(_answer(_object(answer), text) for answer in answers)
    return Question(str(stated), text, question, tuple(places), number)


def _answer(answer: Mapping[str, Any], text: str) -> tuple[int, int]:
    """[start, end) of an answer. The words at its offset decide how the file counts characters."""
    words, start = _text(answer, "text", "the text of an answer"), answer.get("answer_start")
    if isinstance(start, bool) or not isinstance(start, int):
        raise BadData("an answer has no whole number `answer_start`.", next_step=_FORMAT)
    # The usual count first; the others are for files of tools that count UTF-16 units, bytes or CR LF as one.
    widths = dict.fromkeys((len(words), len(words.encode("utf-16-le")) // 2, len(words.encode("utf-8"))))
    for count, width in product(scales(text), widths):
        place: tuple[int, int] | None = count.place(start, start + width)
        if place and text[slice(*place)] == words:
            return place
    if not 0 <= start < len(text):
        what = f"an answer starts at {format_offset(start)}, outside its context of {len(text):,} characters."
        raise BadData(what, next_step=_ANSWER)
    elsewhere = text.find(words)
    where = f"it occurs first at {elsewhere:,}" if elsewhere >= 0 else "it does not occur there at all"
    what = f"the text of an answer is not in the context at its offset {start:,}; {where}."
    raise BadData(what, next_step=_ANSWER)


def _object(value: object) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise BadData(f"a JSON {type(value).__name__} where an object is needed.", next_step=_FORMAT)
    return value


def _list(fields: Mapping[str, Any], name: str) -> list[Any]:
    value = fields.get(name)
    if not isinstance(value, list):
        raise BadData(f"it has no list `{name}`.", next_step=_FORMAT)
    return value


def _text(fields: Mapping[str, Any], name: str, what: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str):
        raise BadData(f"it has no string `{name}`.", next_step=_FORMAT)
    if not value or value.isspace():
        raise BadData(f"{what} is empty.", next_step="Give it a text, or delete it.")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise BadData(f"{what} holds half of a character (a lone surrogate).", next_step="Save the file as UTF-8 text.")
    return value


def _at(problem: BadData, name: str, place: str) -> BadData:
    """The same problem with its place in words; JSON has no lines that a person could look up."""
    return BadData(f"{place}: {problem.message}", path=name, next_step=problem.next_step)
