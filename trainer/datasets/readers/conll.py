"""CoNLL: one `word<TAB>tag` per line with IOB2 tags, and a blank line after each sentence.

Files are read line by line, so their size does not matter. Words may be patient data: no message quotes a word, or a
tag that does not look like one.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from trainer.datasets.readers import Reporter, at_line, raise_problem
from trainer.datasets.readers.lines import lines
from trainer.datasets.tags import OUTSIDE, kind_of
from trainer.errors import BadData

ENDS = frozenset(".!?")  # words that end a sentence

_DOCUMENT = "-DOCSTART-"
_TAG = re.compile(r"[BI]-\S{1,60}")
_FOREIGN_TAG = re.compile(r"[A-Z]|[BIOESLUM][-_]\S{1,40}")
_FORMAT = "Write one word and its tag per line, with a tab between them, and an empty line after each sentence."
_IOB2 = "Use IOB2: O, B-<type> for the first word of an entity, I-<type> for the words after it."


@dataclass(frozen=True)
class Sentence:
    """Words with one IOB2 tag each: `O`, `B-<type>` where an entity begins, `I-<type>` inside it.

    tags: empty for text without annotations. attributes: by name the value of each word's entity, "" where there is
    none; only names that an entity has. As an iterable it is the pair (words, tags), for `words, tags = sentence`.
    """

    words: tuple[str, ...]
    tags: tuple[str, ...]
    attributes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __iter__(self) -> Iterator[tuple[str, ...]]:
        yield self.words
        yield self.tags

    @classmethod
    def of(cls, example: "Sentence | Sequence[Any]") -> "Sentence":
        """A sentence as it is; a pair (words, tags), tags or None, as a sentence without attributes."""
        if isinstance(example, cls):
            return example
        words, tags = example
        return cls(words, () if tags is None else tags)

    def part(self, start: int, stop: int | None = None) -> "Sentence":
        """The words from `start` up to `stop` with their tags and attributes."""
        attributes = {name: values[start:stop] for name, values in self.attributes.items()}
        attributes = {name: values for name, values in attributes.items() if any(values)}
        return Sentence(self.words[start:stop], self.tags[start:stop], attributes)


def sentences(document: Sentence) -> Iterator[Sentence]:
    """The sentences of a document: they end at . ! ? before a capital, a digit or a bracket, but not in an entity."""
    start, words, tags = 0, document.words, document.tags
    for place, (word, tag) in enumerate(zip(words[1:], tags[1:], strict=True), 1):
        begins_sentence = word[0].isupper() or word[0].isdigit() or word[0] in "(["
        if words[place - 1] in ENDS and tag[0] != "I" and begins_sentence:
            yield document.part(start, place)
            start = place
    yield document.part(start)


class PlacedSentence(NamedTuple):
    """A sentence, and the line (1-based) of the file that contains each of its words."""

    sentence: Sentence
    lines: tuple[int, ...]


def read(path: Path, *, name: str = "", report: Reporter = raise_problem) -> Iterator[PlacedSentence]:
    """The sentences of a file, in order; `-DOCSTART-` lines are skipped.

    `name` stands for the file in messages. A wrong row goes to `report`, which raises it by default. Raises BadData in
    any case for bytes that are not UTF-8 text.
    """
    name = name or Path(path).name
    rows: list[tuple[str, str, int]] = []
    for number, line in lines(Path(path), name=name):
        if not line or line.isspace() or line.startswith(_DOCUMENT):
            if rows:
                yield _placed(rows)
                rows = []
            continue
        try:
            rows.append((*_columns(line), number))
            _check_order(rows[-1][1], rows[-2][1] if len(rows) > 1 else None)
        except BadData as problem:
            report(at_line(problem, name, number))
    if rows:
        yield _placed(rows)


def write(path: Path, sentences: Iterable[Sentence]) -> None:
    """Write a file that `read` returns unchanged. Raises BadData for a sentence (1-based) that cannot be written."""
    with Path(path).open("w", encoding="utf-8", newline="\n") as file:
        for number, sentence in enumerate(sentences, 1):
            try:
                file.writelines([*_format(sentence), "\n"])
            except BadData as problem:
                raise BadData(f"sentence {number:,}: {problem.message}", next_step=problem.next_step) from None


def _columns(line: str) -> tuple[str, str]:
    fields = line.split("\t") if "\t" in line else [field for field in line.split(" ") if field]
    if len(fields) != 2:
        raise BadData(f"{len(fields)} column{'s' * (len(fields) > 1)} where 2 are needed.", next_step=_FORMAT)
    word, tag = fields
    if not word or word.isspace():
        raise BadData("the word is empty.", next_step="Write the word, or delete the line.")
    if tag != OUTSIDE and not _TAG.fullmatch(tag):
        raise _explain_tag(tag)
    return word, tag


def _explain_tag(tag: str) -> BadData:
    """What is wrong with a tag that is not IOB2."""
    shown = repr(tag) if _FOREIGN_TAG.fullmatch(tag) else f"a tag of {len(tag)} characters"
    if tag in ("B", "I"):
        return BadData(
            f"the tag {shown} names no entity type.", next_step=f"Write {tag}-<type>, such as {tag}-Disease."
        )
    if tag[:2] in ("S-", "U-", "E-", "L-"):
        begin = "B" if tag[0] in "SU" else "I"
        return BadData(f"{shown} is a BIOES or BILOU tag.", next_step=f"Write {begin}{tag[1:42]}. {_IOB2}")
    return BadData(f"{shown} is not an IOB2 tag.", next_step=_IOB2)


def _check_order(tag: str, previous: str | None) -> None:
    if tag[0] != "I" or (previous and kind_of(previous) == kind_of(tag)):
        return
    begin = f"Write B{tag[1:]} where an entity begins."
    if previous is None or previous == OUTSIDE:
        where = "at the start of a sentence" if previous is None else "after O"
        raise BadData(f"{tag!r} {where}: an entity that does not begin with B- (the IOB1 scheme).", next_step=begin)
    raise BadData(f"{tag!r} continues {previous!r}, an entity of another type.", next_step=begin)


def _placed(rows: list[tuple[str, str, int]]) -> PlacedSentence:
    words, tags, lines = zip(*rows, strict=True)
    return PlacedSentence(Sentence(words, tags), lines)


def _format(sentence: Sentence) -> Iterator[str]:
    if not sentence.words or len(sentence.words) != len(sentence.tags):
        counts = f"{len(sentence.words)} words and {len(sentence.tags)} tags"
        raise BadData(f"{counts}.", next_step="Give each sentence at least one word, and each word one tag.")
    previous = None
    for word, tag in zip(sentence.words, sentence.tags, strict=True):
        if not {"\n", "\t", "\0", "\ufeff"}.isdisjoint(word) or word.startswith(_DOCUMENT):
            raise BadData("a word holds a tab, a line end, a NUL or a document mark.", next_step="Replace the word.")
        _check_order(_columns(f"{word}\t{tag}")[1], previous)
        previous = tag
        yield f"{word}\t{tag}\n"
