"""What the files of a data set contain, split by split, as `trainer.datasets.report` counts it."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from pydantic import Field

from trainer.datasets.cards import (
    MarkedCounts,
    PairCounts,
    QuestionCounts,
    RelatedCounts,
    RoleCounts,
    SentenceCounts,
    TextCounts,
    ValueCounts,
)
from trainer.datasets.readers.labelled import LabelledDocument
from trainer.datasets.readers.questions import ANSWER, Question
from trainer.datasets.readers.related import NEGATIVE, RelatedDocument
from trainer.datasets.readers.roles import RoleDocument
from trainer.datasets.rows.candidates import PairReading, PairTypes, find_candidates, pair_types


class SentenceContents(SentenceCounts):
    """A split of tagged sentences.

    labels: entities (B- tags) by type. lines: the line (1-based) where each label occurs first. longest: words.
    """

    labels: dict[str, int]
    lines: dict[str, int]
    longest: int


class MarkedContents(MarkedCounts):
    """Counts of a split whose documents mark entities by offset.

    given, overlapping, discontinuous, others, empty: as in datasets.readers.entities.Tally. attributes: how often each
    value occurs, by attribute and by the label of the entity.
    """

    labels: dict[str, int]
    lines: dict[str, int]
    longest: int
    given: int
    overlapping: int
    discontinuous: int
    others: int
    empty: int
    attributes: dict[str, dict[str, dict[str, int]]] = {}


class RelatedContents(RelatedCounts):
    """A split of documents, or of rows with one pair, with relations.

    labels: relations by label, and the pairs within a sentence that have none. lines: the line where each label occurs
    first. entities: mentions. longest: characters. types: the types of head and tail that are related, and whether the
    head always comes first. several: pairs with several labels. repeated: relations that are stated again. distant:
    relations whose mentions share no sentence. single: whether each row is one pair.
    """

    labels: dict[str, int]
    lines: dict[str, int]
    entities: int
    longest: int
    types: tuple[PairTypes, ...]
    several: int
    repeated: int
    distant: int
    single: bool


class TextContents(TextCounts):
    """A split of text. longest: characters. repeated: documents that occur earlier in the same split.

    shares: of train, how many documents remain in it and how many serve as dev and test where there are no such files.
    """

    longest: int
    repeated: int
    shares: dict[str, int] = Field({}, exclude=True)


class LabelledContents(TextContents):
    """A split of labelled documents. labels: documents by label. lines: the line where each label occurs first."""

    labels: dict[str, int]
    lines: dict[str, int]
    multi_label: bool


class PairContents(PairCounts):
    """A split of pairs. longest: characters of both texts. repeated: pairs that occur earlier in the same split.

    labels: pairs by label. lines: the line where each label occurs first.
    """

    longest: int
    repeated: int
    labels: dict[str, int]
    lines: dict[str, int]


class QuestionContents(QuestionCounts):
    """A split of questions. documents: distinct texts; longest: characters of one. unanswerable: those without answer.

    several: questions with several distinct answers. repeated: pairs of a text and a question that occur earlier in the
    same split. labels: the questions that have an answer, under ANSWER. lines: always empty, JSON has no rows.
    """

    documents: int
    longest: int
    several: int
    repeated: int
    labels: dict[str, int]
    lines: dict[str, int] = {}


class RoleContents(RoleCounts):
    """A split of texts whose sentences have roles. longest: characters. repeated: texts that occur earlier in it.

    labels: sentences by role. lines: the line where each role occurs first.
    """

    longest: int
    repeated: int
    labels: dict[str, int]
    lines: dict[str, int]


class ValueContents(ValueCounts):
    """A split of texts with a value: the lowest and the highest, 0 in an empty split, and their mean.

    longest: characters. repeated: texts that occur earlier in it.
    """

    longest: int
    repeated: int
    mean: float


_LABELLED = (
    SentenceContents
    | MarkedContents
    | RelatedContents
    | LabelledContents
    | PairContents
    | QuestionContents
    | RoleContents
)
Contents = _LABELLED | ValueContents | TextContents


def labels_in(split: Contents) -> Mapping[str, int]:
    """How often each label occurs in a split; empty for text."""
    return split.labels if isinstance(split, _LABELLED) else {}


def first_lines_in(split: Contents) -> Mapping[str, int]:
    """The line where each label occurs first in a split; empty for text."""
    return split.lines if isinstance(split, _LABELLED) else {}


def count_related(documents: Sequence[RelatedDocument]) -> RelatedContents:
    """The contents of a split of documents or of rows with one pair."""
    types, single = pair_types(documents), all(document.single for document in documents)
    pairs = [find_candidates(each, PairReading(types=types, negative=NEGATIVE)) for each in documents]
    stated = [(relation, document.line) for document in documents for relation in document.relations]
    labels = Counter(relation.label for relation, _ in stated)
    if not single:
        labels[NEGATIVE] += sum(pair.labels == (NEGATIVE,) for each in pairs for pair in each.pairs)
    by_pair = [Counter(relation[:2] for relation in document.relations) for document in documents]
    return RelatedContents(
        documents=len(documents),
        characters=sum(len(document.text) for document in documents),
        relations=len(stated),
        labels=dict(sorted(labels.items())),
        lines={relation.label: line for relation, line in reversed(stated)},
        entities=sum(len(document.mentions) for document in documents),
        longest=max((len(document.text) for document in documents), default=0),
        types=types,
        several=sum(number > 1 for counts in by_pair for number in counts.values()),
        repeated=sum(document.repeated for document in documents),
        distant=sum(len(each.missed) for each in pairs),
        single=single,
    )


def count_roles(documents: Sequence[RoleDocument], *, repeated: int) -> RoleContents:
    """The contents of a split of texts whose sentences have roles; `repeated` of the texts occur earlier."""
    stated = [(label, document.line) for document in documents for label in document.labels]
    return RoleContents(
        documents=len(documents),
        sentences=len(stated),
        characters=sum(len(document.text) for document in documents),
        longest=max((len(document.text) for document in documents), default=0),
        repeated=repeated,
        labels=dict(sorted(Counter(label for label, _ in stated).items())),
        lines={label: line for label, line in reversed(stated)},
    )


def count_values(documents: Sequence[LabelledDocument], *, repeated: int) -> ValueContents:
    """The contents of a split of texts with values; `repeated` of the texts occur earlier."""
    values = [document.value for document in documents if document.value is not None] or [0.0]
    return ValueContents(
        documents=len(documents),
        characters=sum(len(document.text) for document in documents),
        lowest=min(values),
        highest=max(values),
        longest=max((len(document.text) for document in documents), default=0),
        repeated=repeated,
        mean=math.fsum(values) / len(values),
    )


def count_questions(questions: Sequence[Question], *, repeated: int) -> QuestionContents:
    """The contents of a split of questions, of which `repeated` occur earlier."""
    texts = {question.text for question in questions}
    answered = sum(bool(question.answers) for question in questions)
    return QuestionContents(
        questions=len(questions),
        unanswerable=len(questions) - answered,
        documents=len(texts),
        characters=sum(map(len, texts)),
        longest=max(map(len, texts), default=0),
        several=sum(len(question.answers) > 1 for question in questions),
        repeated=repeated,
        labels={ANSWER: answered} if answered else {},
    )
