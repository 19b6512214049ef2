"""What a data set needs so that a model can be trained on it or scored with it, beyond rows that can be read.

The one place of these rules: `datasets check`, the Train page, `submit` and the run itself all ask here, by way of
trainer.datasets.report and trainer.fit. Works on counts alone; no message quotes a text.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence

from trainer.errors import BadData
from trainer.tasks import TASKS, answers

LISTED = 12  # labels that a message names


def learnable(splits: Mapping, names: Mapping[str, str], *, task: str) -> Iterator[tuple[str, BadData]]:
    """(split, what is wrong) with the labels of a data set that a model is to be fine-tuned on.

    splits: what the report counted, by split; names: their files as messages name them. Rules about train wait until
    it holds anything: that it does not is a problem of its own.
    """
    train = splits.get("train")
    if train is None or not train.examples:
        return
    if not TASKS[task].labelled:
        yield from _lent(splits, names)
        return
    if problem := _nothing_to_learn(train, names["train"], task):
        yield "train", problem
        return
    next_step = "Add examples of it to train, or take these out."
    for split in ("dev", "test"):
        if split in splits:
            for label, line in _foreign(splits[split], train.labels):
                what = f"the {TASKS[task].label} {label!r} is not in train, which has {listed(train.labels)}."
                yield split, BadData(what, path=names[split], line=line, next_step=next_step)


def sayable(
    splits: Mapping, names: Mapping[str, str], known: Collection[str], *, task: str, who: str, wanted: Sequence[str]
) -> Iterator[tuple[str, BadData]]:
    """(split, what is wrong) with the labels of the splits `wanted`, of which a model can say only `known`.

    who: the model in words, such as "the teacher".
    """
    remedy = "Choose a model that was trained on these labels"
    next_step = f"{remedy}, or take these out." if who == "the teacher" else f"{remedy}, or fine-tune one on them."
    for split in wanted:
        if split in splits:
            for label, line in _foreign(splits[split], known):
                what = f"{who} does not know the {TASKS[task].label} {label!r}; it knows {listed(known)}."
                yield split, BadData(what, path=names[split], line=line, next_step=next_step)


def notes(splits: Mapping, repeated: Mapping[str, int], *, task: str, split: str | None = None) -> tuple[str, ...]:
    """What to know of a data set that can be used all the same: what splits share, what is left out, what has no score.

    repeated: the number of sentences or documents that two splits share, by "train/test" and the like. split: only what
    concerns this one.
    """
    untagged = {name: _untagged(split) for name, split in splits.items() if hasattr(split, "given")}
    said = [f"{name}: {sentence}" for name, sentence in untagged.items() if sentence and split in (None, name)]
    for pair, number in repeated.items():
        first, second = pair.split("/")
        if number and split in (None, first, second):
            plural = f"{units(splits[first])}{'s' * (number != 1)}"
            said.append(f"In both {first} and {second}: {number:,} {plural}. Scores on {second} look better for it.")
    for name in ("dev", "test"):
        if answers(task) == "spans" and split in (None, name) and _is_empty(splits.get(name)):
            said.append(f"The {name} split holds no entity: its F1 is 0 whatever a model says.")
    return tuple(said)


def only_in(splits: Mapping, split: str, *, task: str) -> str | None:
    """The labels that a split has and train lacks, as a sentence; None where there are none, or there is no train."""
    if split == "train" or not {"train", split} <= set(splits) or not splits["train"].examples:
        return None
    missing = sorted(set(splits[split].labels) - set(splits["train"].labels))
    return f"In {split} and not in train: the {_kind(task, len(missing))} {listed(missing)}." if missing else None


def outside(not_annotated: Mapping[str, int], *, task: str) -> list[str]:
    """What was left out of the scores: labels that a model gave and the data set does not know."""
    if not not_annotated:
        return []
    said = ", ".join(f"{label} ({number:,} times)" for label, number in not_annotated.items())
    if answers(task) == "spans":
        return [
            f"The model also says {said}, which this data set does not mark: they count neither for nor against it."
        ]
    return [
        f"The model also says {said}, which this data set does not know: they have no part in the mean over labels."
    ]


def _untagged(split) -> str | None:
    """What is not tagged of the entities of a split, as a sentence; None where every entity is."""
    wrong = split.given - split.entities - split.overlapping
    counts = {
        "wrong": wrong,
        "overlapping a longer one": split.overlapping,
        "in several pieces, of which the longest counts": split.discontinuous,
        "relations and other annotations, not used": split.others,
        "documents without a word": split.empty,
    }
    parts = [f"{words}: {number:,}" for words, number in counts.items() if number]
    return f"entities {split.given:,} given, {split.entities:,} kept; {'; '.join(parts)}." if parts else None


def _is_empty(split: object) -> bool:
    return split is not None and bool(split.examples) and not split.labels


def units(split: object) -> str:
    """What a split counts, in the singular."""
    return split.unit.removesuffix("s")


def listed(labels: Collection[str]) -> str:
    """Labels as a message names them: sorted, and no more than LISTED."""
    shown = sorted(labels)
    more = f" and {len(shown) - LISTED:,} more" if len(shown) > LISTED else ""
    return (", ".join(shown[:LISTED]) or "none") + more


def _kind(task: str, number: int) -> str:
    return f"{TASKS[task].label}{'s' * (number != 1)}"


def _nothing_to_learn(train, name: str, task: str) -> BadData | None:
    if answers(task) == "spans" and not train.labels:
        what = "the split holds no entity; there is nothing to learn."
        return BadData(what, path=name, next_step="Mark the entities of train.")
    fewest = 1 if getattr(train, "multi_label", False) else 2
    if answers(task) == "labels" and len(train.labels) < fewest:
        held = f"only the label {listed(train.labels)}" if train.labels else "no label"
        what = f"the split holds {held}; there is nothing to tell apart."
        return BadData(what, path=name, next_step="Add documents of another label to train.")
    return None


def _foreign(part: object, known: Collection[str]) -> Iterator[tuple[str, int | None]]:
    """The labels of a split that are none of `known`, with the line where each stands first."""
    return ((label, part.lines.get(label)) for label in part.labels if label not in known)


def _lent(splits: Mapping, names: Mapping[str, str]) -> Iterator[tuple[str, BadData]]:
    """Train lends documents to splits that are not there; neither they nor train may come to nothing."""
    shares = splits["train"].shares
    lent = [split for split in shares if split != "train"]
    kept = sum(number for split, number in shares.items() if split not in lent)
    if lent and not (kept and all(shares[split] for split in lent)):
        what = f"{splits['train'].examples:,} documents, which have to serve as train and as {' and '.join(lent)} too."
        next_step = f"Add other documents, or {' and '.join(f'{split}.txt' for split in lent)}."
        yield "train", BadData(what, path=names["train"], next_step=next_step)
