"""Candidate pairs: which mentions of a text may be related, and the passage in which a model reads each pair. No torch.

A pair is read in the sentences from its first to its last mention, in which both are marked. Marks are plain signs and
words, which every vocabulary has: `@ * type * mention @` around the head, `# ^ type ^ mention #` around the tail (the
typed punctuation markers of Zhou and Chen 2022, "An Improved Baseline for Sentence-level Relation Extraction").
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from typing import Literal, NamedTuple

import numpy as np
from pydantic import Field

from trainer.datasets.readers.related import ANY_TYPE, RelatedDocument
from trainer.datasets.rows.pieces import Pieces
from trainer.datasets.rows.sentences import sentence_starts
from trainer.prediction import Plain

Marking = Literal["marked", "anonymised"]
_SIGNS = (("@ * ", " * ", " @"), ("# ^ ", " ^ ", " #"))  # of the head and the tail: before the type, after it, the end


class PairTypes(NamedTuple):
    """The types of a head and a tail that can be related. in_order: whether the head is always first in the text."""

    head: str
    tail: str
    in_order: bool = False


class PairReading(Plain):
    """How the pairs of a text are chosen and read; the config of a model records it.

    types: those that can be related. max_sentences: a pair lies within this many consecutive sentences. negative: the
    label of a pair without a relation, None where there is none.
    """

    mentions: Marking = "marked"
    max_sentences: int = Field(1, ge=1)
    types: tuple[PairTypes, ...] = ()
    negative: str | None = None


class Mention(NamedTuple):
    """text[start:end] of a note has this type."""

    start: int
    end: int
    label: str


class Candidate(NamedTuple):
    """Two mentions that may be related, with the part of their text that is read.

    start, end: the passage within the text. head, tail: their places in the whole text, with the types under which the
    model knows them. pair: the indices of the mentions. labels: the stated relations, or the label of none; empty where
    they are not known. The repr shows sizes, never text.
    """

    text: str
    start: int
    end: int
    head: Mention
    tail: Mention
    pair: tuple[int, int]
    labels: tuple[str, ...]
    line: int = 0

    def __repr__(self) -> str:
        return f"Candidate({self.end - self.start:,} characters, {len(self.labels)} labels, line {self.line:,})"


class Marked(NamedTuple):
    """A passage with its marks.

    origins: (characters, 2) [start, end) in the whole text of what each character stands for, empty for a mark.
    mentions: [start, end) of the head and the tail in the passage, marks included.
    """

    text: str
    origins: np.ndarray
    mentions: tuple[tuple[int, int], tuple[int, int]]

    def __repr__(self) -> str:
        return f"Marked({len(self.text):,} characters)"


class Candidates(NamedTuple):
    """The candidates of a text, and the labels of each of its related pairs that is no candidate: they lie too far
    apart, or their types are not related in train.
    """

    pairs: list[Candidate]
    missed: list[tuple[str, ...]]


def pair_types(documents: Iterable[RelatedDocument]) -> tuple[PairTypes, ...]:
    """The types of the related pairs of some documents, sorted; in rows with one pair those without a relation count.

    Where head and tail are of one type and the head always comes first, only such pairs can be related.
    """
    in_order: dict[tuple[str, str], bool] = {}
    for document in documents:
        for relation in document.relations:
            kinds = document.types(relation)
            head, tail = (document.mentions[document.groups[group][0]] for group in relation[:2])
            in_order[kinds] = in_order.get(kinds, kinds[0] == kinds[1]) and head.start <= tail.start
    return tuple(PairTypes(*kinds, in_order[kinds]) for kinds in sorted(in_order))


def find_candidates(document: RelatedDocument, reading: PairReading) -> Candidates:
    """The pairs of a document: of two groups of mentions the two mentions that are closest.

    The pair of a row with one pair is a candidate whatever its types.
    """
    stated: dict[tuple[int, int], list[str]] = {}
    for head, tail, label in document.relations:
        stated.setdefault((head, tail), []).append(label)
    if document.single:
        return Candidates([_only_pair(document, pair, labels) for pair, labels in stated.items()], [])
    closest = _closest_pairs(document, reading)
    none = () if reading.negative is None else (reading.negative,)
    pairs = [
        candidate._replace(labels=tuple(stated.get(key, none)), line=document.line)
        for key, candidate in sorted(closest.items(), key=lambda item: item[1].pair)
    ]
    return Candidates(pairs, [tuple(labels) for key, labels in stated.items() if key not in closest])


def _only_pair(document: RelatedDocument, pair: tuple[int, int], labels: Sequence[str]) -> Candidate:
    head, tail = (document.mentions[document.groups[group][0]] for group in pair)
    ends = (Mention(head.start, head.end, head.label), Mention(tail.start, tail.end, tail.label))
    return Candidate(document.text, 0, len(document.text), *ends, pair, tuple(labels), document.line)


def _closest_pairs(document: RelatedDocument, reading: PairReading) -> dict[tuple[int, int], Candidate]:
    """By the groups of head and tail the two mentions that are closest, in sentences and then in characters."""
    mentions = [Mention(each.start, each.end, each.label) for each in document.mentions]
    groups_of: list[list[int]] = [[] for _ in mentions]
    for group, members in enumerate(document.groups):
        for member in members:
            groups_of[member].append(group)
    closest: dict[tuple[int, int], Candidate] = {}
    distances: dict[tuple[int, int], tuple[int, int]] = {}
    for distance, candidate in _near_pairs(document.text, mentions, reading):
        for key in product(groups_of[candidate.pair[0]], groups_of[candidate.pair[1]]):
            if key[0] != key[1] and (key not in closest or distance < distances[key]):
                closest[key], distances[key] = candidate, distance
    return closest


def pair_mentions(text: str, mentions: Sequence[Mention], reading: PairReading) -> list[Candidate]:
    """All pairs of mentions whose types can be related, by head and tail; their labels are not known."""
    candidates = (candidate for _, candidate in _near_pairs(text, mentions, reading))
    return sorted(candidates, key=lambda candidate: candidate.pair)


def _near_pairs(
    text: str, mentions: Sequence[Mention], reading: PairReading
) -> Iterator[tuple[tuple[int, int], Candidate]]:
    """((sentences apart, characters apart), candidate) of the pairs within so many sentences."""
    by_name = {(each.head.casefold(), each.tail.casefold()): each for each in reading.types}
    begins = [0, *sentence_starts(text).tolist(), len(text)]
    first = [bisect_right(begins, mention.start, 0, len(begins) - 1) - 1 for mention in mentions]
    last = [bisect_right(begins, mention.end - 1, 0, len(begins) - 1) - 1 for mention in mentions]
    order = sorted(range(len(mentions)), key=lambda number: (first[number], mentions[number]))
    for place, one in enumerate(order):
        for other in order[place + 1 :]:
            if first[other] - first[one] >= reading.max_sentences:
                break
            opening, closing = first[one], max(last[one], last[other])
            if closing - opening >= reading.max_sentences:
                continue
            gap = max(0, mentions[other].start - mentions[one].end)
            for pair in ((one, other), (other, one)):
                head, tail = (mentions[number] for number in pair)
                kinds = (head.label.casefold(), tail.label.casefold())
                known = by_name.get(kinds) or by_name.get((ANY_TYPE, ANY_TYPE))
                if known is None or (known.in_order and pair[0] == other):
                    continue
                ends = (head._replace(label=known.head), tail._replace(label=known.tail))
                candidate = Candidate(text, begins[opening], begins[closing + 1], *ends, pair, ())
                yield (closing - opening, gap), candidate


def mark(candidate: Candidate, marking: Marking) -> Marked:
    """The passage of a candidate with both mentions marked, or with their types in their place (@GENE$).

    Anonymised mentions that overlap become one, such as @CHEMICAL-GENE$.
    """
    edits = _signs(candidate) if marking == "marked" else _replacements(candidate)
    parts: list[str] = []
    origins: list[np.ndarray] = []
    places: list[list[tuple[int, int]]] = [[], []]  # of what was written for the head and the tail
    at, length = candidate.start, 0
    for edit in [*edits, _Edit(candidate.end, candidate.end, "", ())]:
        between = np.arange(at, edit.start)
        parts += [candidate.text[at : edit.start], edit.written]
        origins += [np.stack([between, between + 1], 1), np.tile([[edit.start, edit.end]], (len(edit.written), 1))]
        length += len(between)
        for owner in edit.owners:
            places[owner].append((length, length + len(edit.written)))
        length += len(edit.written)
        at = edit.end
    head, tail = ((min(each)[0], max(each)[1]) for each in places)
    return Marked("".join(parts), np.concatenate(origins), (head, tail))


def fit(pieces: Pieces, marked: Marked, size: int) -> np.ndarray:
    """The indices of the pieces that are read of a marked passage, at most `size`: (read,).

    Of a passage that is too long, those nearest to either mention, half of them around each.
    """
    if len(pieces) <= size:
        return np.arange(len(pieces))
    distances = [
        np.maximum(0, np.maximum(start - pieces.starts, pieces.ends - end)) for start, end in marked.mentions
    ]  # (pieces,) characters from each mention
    nearest = np.stack([np.argsort(each, kind="stable") for each in distances], axis=1)  # (pieces, 2)
    in_turn = list(dict.fromkeys(nearest.ravel().tolist()))
    return np.sort(np.array(in_turn[:size]))


class _Edit(NamedTuple):
    """text[start:end] is replaced by what is written, for the head (owner 0), the tail (1) or both."""

    start: int
    end: int
    written: str
    owners: tuple[int, ...]


def _signs(candidate: Candidate) -> list[_Edit]:
    """The marks around both mentions, sorted: where they meet, those that close come first, and the inner ones."""
    signs = []
    for owner, mention in enumerate((candidate.head, candidate.tail)):
        before, after, end = _SIGNS[owner]
        kind = mention.label.replace("_", " ").replace("-", " ").lower()
        length = mention.end - mention.start
        signs.append((mention.start, 1, -length, f"{before}{kind}{after}", owner))
        signs.append((mention.end, 0, length, end, owner))
    return [_Edit(place, place, written, (owner,)) for place, _, _, written, owner in sorted(signs)]


def _replacements(candidate: Candidate) -> list[_Edit]:
    head, tail = candidate.head, candidate.tail
    if max(head.start, tail.start) < min(head.end, tail.end):
        kinds = "-".join(dict.fromkeys((head.label, tail.label)))
        return [_Edit(min(head.start, tail.start), max(head.end, tail.end), f"@{kinds}$", (0, 1))]
    edits = (_Edit(each.start, each.end, f"@{each.label}$", (owner,)) for owner, each in enumerate((head, tail)))
    return sorted(edits)
