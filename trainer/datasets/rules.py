"""What a data set needs so that a model can be trained or scored on it, beyond rows that can be read.

These rules are only here: `datasets check`, the Train page, `submit` and the run itself apply them by way of
trainer.datasets.report and trainer.fit. They work on counts; no message quotes a text.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence

from trainer.datasets.contents import (
    Contents,
    LabelledContents,
    MarkedContents,
    RelatedContents,
    TextContents,
    ValueContents,
    first_lines_in,
    labels_in,
)
from trainer.errors import BadData
from trainer.tasks import TASKS, answers

LISTED = 12  # labels that a message names


def training_problems(
    splits: Mapping[str, Contents], names: Mapping[str, str], *, task: str
) -> Iterator[tuple[str, BadData]]:
    """(split, what is wrong) with the labels of a data set that a model is to be fine-tuned on.

    splits: what the report counted, by split; names: their files as messages name them. Nothing is said of an empty
    train, which is a problem of its own.
    """
    train = splits.get("train")
    if train is None or not train.examples:
        return
    if not TASKS[task].labelled:
        yield from _share_problems(train, names)
        return
    if problem := _nothing_to_learn(train, names["train"], task):
        yield "train", problem
        return
    next_step = "Add examples of it to train, or remove these."
    known = labels_in(train)
    for split in ("dev", "test"):
        if split in splits:
            for label, line in _unknown_labels(splits[split], known):
                what = f"the {TASKS[task].label} {label!r} is not in train, which has {list_labels(known)}."
                yield split, BadData(what, path=names[split], line=line, next_step=next_step)


def label_problems(
    splits: Mapping[str, Contents],
    names: Mapping[str, str],
    known: Collection[str],
    *,
    task: str,
    who: str,
    wanted: Sequence[str],
) -> Iterator[tuple[str, BadData]]:
    """(split, what is wrong) with the labels of the splits `wanted` for a model that knows only the labels `known`.

    who: the model in words, such as "the teacher".
    """
    remedy = "Choose a model that was trained on these labels"
    next_step = f"{remedy}, or remove these." if who == "the teacher" else f"{remedy}, or fine-tune one on them."
    for split in wanted:
        if split in splits:
            for label, line in _unknown_labels(splits[split], known):
                what = f"{who} does not know the {TASKS[task].label} {label!r}; it knows {list_labels(known)}."
                yield split, BadData(what, path=names[split], line=line, next_step=next_step)


def notes(
    splits: Mapping[str, Contents], repeated: Mapping[str, int], *, task: str, split: str | None = None
) -> tuple[str, ...]:
    """What to know of a data set that can be used: what its splits share, what is left out, what has no score.

    repeated: the number of sentences or documents that two splits share, by "train/test" and the like. split: only what
    concerns this split.
    """
    untagged = {name: _untagged(part) for name, part in splits.items() if isinstance(part, MarkedContents)}
    sentences = [f"{name}: {sentence}" for name, sentence in untagged.items() if sentence and split in (None, name)]
    sentences += [
        f"{name}: {sentence}"
        for name, part in splits.items()
        if isinstance(part, RelatedContents) and split in (None, name)
        for sentence in _related_notes(part)
    ]
    for pair, number in repeated.items():
        first, second = pair.split("/")
        if number and split in (None, first, second):
            plural = f"{unit_name(splits[first])}{'s' * (number != 1)}"
            sentences.append(
                f"In both {first} and {second}: {number:,} {plural}. This makes scores on {second} higher."
            )
    for name in ("dev", "test"):
        part = splits.get(name)
        if TASKS[task].predicts == "tags" and split in (None, name) and part and part.examples and not labels_in(part):
            sentences.append(f"The {name} split has no entity: its F1 is 0 whatever a model predicts.")
    return tuple(sentences)


def labels_not_in_train(splits: Mapping[str, Contents], split: str, *, task: str) -> str | None:
    """The labels that a split has and train lacks, as a sentence; None where there are none, or there is no train."""
    if split == "train" or not {"train", split} <= set(splits) or not splits["train"].examples:
        return None
    missing = sorted(set(labels_in(splits[split])) - set(labels_in(splits["train"])))
    kind = f"{TASKS[task].label}{'s' * (len(missing) != 1)}"
    return f"In {split} and not in train: the {kind} {list_labels(missing)}." if missing else None


def unannotated_notes(not_annotated: Mapping[str, int], *, task: str) -> list[str]:
    """What was left out of the scores: labels that a model predicted and the data set does not know, with counts."""
    if not not_annotated:
        return []
    labels = ", ".join(f"{label} ({number:,} times)" for label, number in not_annotated.items())
    if TASKS[task].predicts == "tags":
        return [
            f"The model also predicts {labels}, which this data set does not annotate: "
            "they count neither for nor against it."
        ]
    return [
        f"The model also predicts {labels}, which this data set does not know: they have no part in the mean over "
        "labels."
    ]


def unit_name(split: Contents) -> str:
    """What a split counts, in the singular: sentence or document."""
    return split.unit.removesuffix("s")


def list_labels(labels: Collection[str]) -> str:
    """Labels for a message: sorted, at most LISTED of them."""
    shown = sorted(labels)
    more = f" and {len(shown) - LISTED:,} more" if len(shown) > LISTED else ""
    return (", ".join(shown[:LISTED]) or "none") + more


def _untagged(split: MarkedContents) -> str | None:
    """Which entities of a split are not tagged, as a sentence; None where every entity is."""
    counts = {
        "wrong": split.given - split.entities - split.overlapping,
        "overlapping a longer one": split.overlapping,
        "in several pieces, of which the longest counts": split.discontinuous,
        "relations and other annotations, not used": split.others,
        "documents without a word": split.empty,
    }
    parts = [f"{words}: {number:,}" for words, number in counts.items() if number]
    return f"entities {split.given:,} given, {split.entities:,} kept; {'; '.join(parts)}." if parts else None


def _related_notes(split: RelatedContents) -> Iterator[str]:
    """What to know of relations: those that are stated twice, pairs with several labels, and long distances."""
    if split.repeated:
        yield f"{split.repeated:,} relations are stated more than once; each counts once."
    if split.several:
        yield (
            f"{split.several:,} pairs have several labels: each is learned, and of each pair at most one can be found."
        )
    if split.distant:
        yield (
            f"{split.distant:,} of {split.relations:,} relations hold between mentions that share no sentence: with "
            "max_sentences 1 they are missed."
        )


def _nothing_to_learn(train: Contents, name: str, task: str) -> BadData | None:
    labels = labels_in(train)
    if TASKS[task].predicts == "tags" and not labels:
        what = "the split has no entity; there is nothing to learn."
        return BadData(what, path=name, next_step="Annotate the entities of train.")
    if answers(task) == "answer" and not labels:
        what = "the split has no question with an answer; there is nothing to learn."
        return BadData(what, path=name, next_step="Add questions with answers to train.")
    if isinstance(train, ValueContents) and train.lowest == train.highest:
        what = f"every value of the split is {train.lowest:g}; there is nothing to tell apart."
        return BadData(what, path=name, next_step="Add documents with another value to train.")
    fewest = 1 if isinstance(train, LabelledContents) and train.multi_label else 2
    if TASKS[task].predicts in ("labels", "roles") and len(labels) < fewest:
        present = f"only the label {list_labels(labels)}" if labels else "no label"
        what = f"the split has {present}; there is nothing to tell apart."
        return BadData(what, path=name, next_step="Add documents with another label to train.")
    return None


def _unknown_labels(split: Contents, known: Collection[str]) -> Iterator[tuple[str, int | None]]:
    """The labels of a split that are not in `known`, with the line where each occurs first."""
    return ((label, first_lines_in(split).get(label)) for label in labels_in(split) if label not in known)


def _share_problems(train: Contents, names: Mapping[str, str]) -> Iterator[tuple[str, BadData]]:
    """Train lends documents to the splits that are missing; neither they nor train may be left without any."""
    shares = train.shares if isinstance(train, TextContents) else {}
    lent = [split for split in shares if split != "train"]
    remaining = sum(number for split, number in shares.items() if split not in lent)
    if lent and not (remaining and all(shares[split] for split in lent)):
        what = f"{train.examples:,} documents, which have to serve as train and as {' and '.join(lent)} too."
        next_step = f"Add other documents, or {' and '.join(f'{split}.txt' for split in lent)}."
        yield "train", BadData(what, path=names["train"], next_step=next_step)
