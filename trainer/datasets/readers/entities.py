"""Entities by offset, whatever file they stand in: what a file states, and what of it is sound."""

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from trainer.datasets.readers.offsets import Scale, shown
from trainer.errors import BadData

LABEL = re.compile(r"\S{1,60}")

Reporter = Callable[[BadData], None]


class Entity(NamedTuple):
    """text[start:end] carries `label`. It was given in so many pieces with words between them; this is the longest."""

    start: int
    end: int
    label: str
    pieces: int = 1


class Marked(NamedTuple):
    """A document with its entities, and the line (1-based) that it begins at; the repr shows sizes, never text.

    stated: how many entities the file has for it, wrong ones too; others: how many relations, events, attributes and
    notes, which are no entities.
    """

    text: str
    entities: tuple[Entity, ...]
    line: int
    stated: int = 0
    others: int = 0

    def __repr__(self) -> str:
        return f"Marked({len(self.text):,} characters, {len(self.entities)} entities, line {self.line:,})"


@dataclass
class Tally:
    """What becomes of the entities of a split.

    given: how many its files state, wrong ones too; entities: how many are tagged; overlapping: those left out because
    a longer one has a word of theirs; discontinuous: those of several pieces, of which the longest counts. others:
    relations, events, attributes and notes; empty: documents without a word.
    """

    given: int = 0
    entities: int = 0
    overlapping: int = 0
    discontinuous: int = 0
    others: int = 0
    empty: int = 0

    def add(self, document: Marked, *, tagged: int) -> None:
        """Count a document of whose entities so many are tagged."""
        self.given += document.stated
        self.entities += tagged
        self.overlapping += len(document.entities) - tagged
        self.discontinuous += sum(entity.pieces > 1 for entity in document.entities)
        self.others += document.others
        self.empty += not document.text.strip()


def outcome(tally: Any) -> str | None:
    """A Tally, or anything with its counts, as a sentence; None where every entity is tagged as its file states it."""
    wrong = tally.given - tally.entities - tally.overlapping
    counts = {
        "wrong": wrong,
        "overlapping a longer one": tally.overlapping,
        "in several pieces, of which the longest counts": tally.discontinuous,
        "relations and other annotations, not used": tally.others,
        "documents without a word": tally.empty,
    }
    parts = [f"{words}: {number:,}" for words, number in counts.items() if number]
    return f"entities {tally.given:,} given, {tally.entities:,} kept; {'; '.join(parts)}." if parts else None


class Stated(NamedTuple):
    """An entity as a row states it: [start, end) of its pieces, and the text that should stand there, where given."""

    pieces: Sequence[tuple[int, int]]
    label: Any
    mention: str | None
    line: int


def raise_it(problem: BadData) -> None:
    """What a reader does with a wrong row unless told otherwise."""
    raise problem


def documents(
    text: str,
    stated: Sequence[Stated],
    scales: Iterable[Scale],
    *,
    line: int,
    wrong: Sequence[tuple[int, BadData]] = (),
    others: int = 0,
    name: str,
    report: Reporter,
    next_step: str,
    whole: bool = False,
) -> Iterator[Marked]:
    """The document with those of its stated entities that are sound; what is wrong with the others goes to `report`.

    wrong: (line, problem) of rows that could not even be read; next_step: for problems that have none of their own;
    whole: leave out a document that has a wrong entity, as it stands in one row with them. An entity of blanks alone
    is reported, and nothing else is left out with it.
    """
    outcomes = list(zip(stated, sound(text, stated, scales), strict=True))
    problems = [*wrong, *((each.line, outcome) for each, outcome in outcomes if isinstance(outcome, BadData))]
    entities = [(each.line, outcome) for each, outcome in outcomes if isinstance(outcome, Entity)]
    blanks = [(row, _blank(entity)) for row, entity in entities if not text[entity.start : entity.end].strip()]
    for row, problem in sorted([*problems, *blanks], key=lambda each: each[0]):
        report(BadData(problem.message, path=name, line=row, next_step=problem.next_step or next_step))
    if not (whole and problems):
        kept = tuple(entity for _, entity in entities if text[entity.start : entity.end].strip())
        yield Marked(text, kept, line, len(stated) + len(wrong), others)


def _blank(entity: Entity) -> BadData:
    what = f"an entity from {entity.start:,} to {entity.end:,} that covers no word, only blanks."
    return BadData(what, next_step="Correct its offsets, or remove it.")


def sound(text: str, stated: Sequence[Stated], scales: Iterable[Scale]) -> list[Entity | BadData]:
    """Each stated entity, or what is wrong with it.

    Of several scales the one counts under which most are sound; the first of these where that leaves a choice.
    """
    best: list[Entity | BadData] = []
    fewest = len(stated) + 1
    for scale in scales:
        outcomes = [_checked(text, each, scale) for each in stated]
        if (wrong := sum(isinstance(outcome, BadData) for outcome in outcomes)) < fewest:
            best, fewest = outcomes, wrong
        if not wrong:
            break
    return best


def _checked(text: str, stated: Stated, scale: Scale) -> Entity | BadData:
    if not isinstance(stated.label, str) or not LABEL.fullmatch(stated.label):
        return BadData("an entity without a label, or whose label holds blanks.")
    pieces = []
    for start, end in stated.pieces:
        if (piece := scale.place(start, end)) is None:
            return BadData(f"an entity from {shown(start)} to {shown(end)} in a text of {len(text):,} characters.")
        pieces.append(piece)
    whole = _joined(text, pieces)
    if stated.mention and stated.mention.strip() and not _says(text, (pieces, whole), stated.mention):
        return _mismatch(text, stated)
    start, end = max(whole, key=lambda piece: (piece[1] - piece[0], -piece[0]))
    return Entity(start, end, stated.label, len(whole))


def _joined(text: str, pieces: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The pieces in the order of the text; what only white space separates, such as a line end, is one."""
    joined: list[tuple[int, int]] = []
    for start, end in sorted(pieces):
        if joined and not text[joined[-1][1] : start].strip():
            joined[-1] = (joined[-1][0], max(joined[-1][1], end))
        else:
            joined.append((start, end))
    return joined


def _says(text: str, readings: Iterable[Sequence[tuple[int, int]]], mention: str) -> bool:
    """Whether the pieces are the mention; case, white space and compatible forms of a character (µ, ﬁ) aside."""
    return any(_plain("".join(text[start:end] for start, end in pieces)) == _plain(mention) for pieces in readings)


def _plain(text: str) -> str:
    return "".join(unicodedata.normalize("NFKC", text).casefold().split())


def _mismatch(text: str, stated: Stated) -> BadData:
    """The text is never quoted; that the mention stands near by says what is wrong with the offsets."""
    start, end = stated.pieces[0][0], stated.pieces[-1][1]
    mention = stated.mention.strip()
    nearest = min(
        (match.start() for match in re.finditer(re.escape(mention), text)), key=lambda at: abs(at - start), default=None
    )
    where = "" if nearest is None else f", which stands at {nearest:,} to {nearest + len(mention):,}"
    return BadData(
        f"the text from {start:,} to {end:,} is not the mention given for it ({len(mention):,} characters{where}).",
        next_step="Correct the offsets or the mention, or take the text that was annotated.",
    )
