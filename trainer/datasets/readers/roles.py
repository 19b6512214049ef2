"""Texts whose sentences have roles: JSON objects, one text per line; also as .gz.

    {"sentences": [{"text": "We enrolled 40 patients.", "label": "METHODS"}, ...]}

The sentences are in the order of the text; they are joined by blanks. Texts may be patient data: no message quotes one.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from trainer.datasets.readers import Reporter, at_line, raise_problem
from trainer.datasets.readers.labelled import check_label, check_text
from trainer.datasets.readers.lines import objects
from trainer.errors import BadData

SUFFIXES = (".jsonl", ".jsonl.gz")
_FORMAT = 'Write {"sentences": [{"text": "...", "label": "x"}, ...]} per line, the sentences in order.'


class RoleDocument(NamedTuple):
    """A text with its sentences, and the line (1-based) where it is; the repr shows sizes, never text.

    places: [start, end) of each sentence, in code points. labels: the role of each; empty where they are not known.
    """

    text: str
    places: tuple[tuple[int, int], ...]
    labels: tuple[str, ...]
    line: int

    def __repr__(self) -> str:
        return f"RoleDocument({len(self.text):,} characters, {len(self.places):,} sentences, line {self.line:,})"


def read(path: Path, *, name: str = "", report: Reporter = raise_problem) -> Iterator[RoleDocument]:
    """The texts of a file, in order.

    `name` stands for the file in messages. A wrong row goes to `report`, which raises it by default. Raises what
    `readers.lines` raises in any case.
    """
    name = name or path.name
    for number, row in objects(path, name=name, next_step=_FORMAT):
        try:
            if isinstance(row, BadData):
                raise row
            document = parse(row, line=number)
        except BadData as problem:
            report(at_line(problem, name, number))
            continue
        yield document


def parse(row: Mapping[str, Any], *, line: int) -> RoleDocument:
    """Read a row as a text with sentences. Raises BadData, without file and line, if it is not a valid one."""
    if "sentences" not in row:
        raise BadData(f"an object of {len(row)} fields without the field `sentences`.", next_step=_FORMAT)
    sentences = row["sentences"]
    if not isinstance(sentences, list):
        raise BadData(f"the field `sentences` is a {type(sentences).__name__}, not a list.", next_step=_FORMAT)
    if not sentences:
        raise BadData("the text has no sentence.", next_step="Add its sentences, or delete the row.")
    parsed = [_parse_sentence(sentence, number) for number, sentence in enumerate(sentences, 1)]
    return join([text for text, _ in parsed], [label for _, label in parsed], line=line)


def join(sentences: list[str], labels: list[str], *, line: int) -> RoleDocument:
    """The text of these sentences, joined by blanks, with the place of each."""
    places, start = [], 0
    for sentence in sentences:
        places.append((start, start + len(sentence)))
        start += len(sentence) + 1
    return RoleDocument(" ".join(sentences), tuple(places), tuple(labels), line)


def _parse_sentence(sentence: object, number: int) -> tuple[str, str]:
    """The text, without white space around it, and the label of the sentence with this number."""
    try:
        if not isinstance(sentence, dict):
            raise BadData(f"a {type(sentence).__name__}, not an object.", next_step=_FORMAT)
        text = check_text(sentence, "text", "its text", _FORMAT).strip()
        if "label" not in sentence:
            raise BadData(f"an object of {len(sentence)} fields without the field `label`.", next_step=_FORMAT)
        return text, check_label(sentence["label"], "label", _FORMAT)
    except BadData as problem:
        raise BadData(f"sentence {number:,}: {problem.message}", next_step=problem.next_step) from None


def has_roles(path: Path) -> bool:
    """Whether the first row of a file that can be read holds its text as `sentences`, and no labels of the whole."""
    try:
        valid = (row for _, row in objects(path) if not isinstance(row, BadData))
        first = next(valid, {})
        return "sentences" in first and not {"text", "label", "labels"} & {*first}
    except BadData:
        return False
