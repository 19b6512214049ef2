"""Scores of labels of documents or pairs: accuracy, F1 and ranking, with bootstrap intervals, and the cost of a
classifier.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
import torch

from trainer import inference
from trainer.errors import BadData, BadSpec
from trainer.evaluation import calibration, outcomes
from trainer.evaluation import cost as costs
from trainer.evaluation.hardware import measured_on
from trainer.evaluation.outcomes import Outcomes
from trainer.inference import THRESHOLD

LONG = (512, 1024)  # word pieces; longer documents also get scores of their own
SAMPLES = 1000
Value = TypeVar("Value")


class Item(Protocol):
    """What has gold labels: a document or a pair of mentions."""

    @property
    def labels(self) -> Sequence[str]: ...


class Document(Item, Protocol):
    """A document with gold labels, such as a LabelledDocument."""

    @property
    def text(self) -> str: ...
    @property
    def hypothesis(self) -> str | None: ...


class Outputs(Protocol):
    """What a model says of some items, as inference.Classification."""

    @property
    def probabilities(self) -> np.ndarray: ...
    @property
    def pieces(self) -> np.ndarray: ...
    @property
    def read(self) -> np.ndarray: ...


Classify = Callable[..., Outputs]  # (items, model, tokenizer, **options) as inference.classify, which takes texts


def classify_documents(
    documents: Sequence[Document], model: torch.nn.Module, tokenizer: Any, **options: Any
) -> Outputs:
    """inference.classify of the texts of some documents."""
    texts = [document.text for document in documents]
    return inference.classify(texts, model, tokenizer, hypotheses=_hypotheses(documents), **options)


class Answers(NamedTuple):
    """Gold and predicted labels. gold, predicted: bool, and probabilities: all (documents, labels).

    negative: the label that stands for none and has no part in micro and macro F1; None where there is none.
    """

    labels: tuple[str, ...]
    gold: np.ndarray
    predicted: np.ndarray
    probabilities: np.ndarray
    multi_label: bool
    negative: str | None = None

    def where(self, chosen: np.ndarray) -> "Answers":
        """Only the chosen documents: a mask or indices."""
        gold, predicted, probabilities = self.gold[chosen], self.predicted[chosen], self.probabilities[chosen]
        return self._replace(gold=gold, predicted=predicted, probabilities=probabilities)


def scores(
    model: torch.nn.Module,
    tokenizer: Any,
    items: Sequence[Any],
    *,
    classify: Classify = classify_documents,
    annotated: Collection[str] | None = None,
    negative: str | None = None,
    missed: Sequence[Sequence[str]] = (),
    **options: Any,
) -> dict[str, float]:
    """The `metrics` of a model on items with labels; the options are those of `evaluate`."""
    outputs = classify(items, model, tokenizer, **options)
    return metrics(drop_unannotated(_compare(model, items, outputs, negative, missed), annotated)[0])


def evaluate(
    model: torch.nn.Module,
    tokenizer: Any,
    items: Sequence[Any],
    *,
    classify: Classify = classify_documents,
    split: str = "",
    folder: Path | None = None,
    annotated: Collection[str] | None = None,
    negative: str | None = None,
    missed: Sequence[Sequence[str]] = (),
    measures: str = "macro_f1",
    calibrated_on: Sequence[Any] = (),
    samples: int = SAMPLES,
    seed: int = 0,
    **options: Any,
) -> dict[str, Any]:
    """{"metrics", "n", "intervals", "cost", "measured_on"} of a model on documents, or on other items with labels.

    classify: what the model says of the items; by default they are documents and the options those of
    inference.classify. negative: as in Answers. missed: the labels of items that the model cannot be asked about; for
    it they have the label `negative`, or none.
    metrics: `metrics`, and over_512.* and over_1024.* of documents with more word pieces than that, with their number
    n, where there are any. intervals: the `bootstrap` of the same. cost: of evaluation.cost.
    annotated: the labels that the data set knows; None: all that the model knows. Other labels have no score and no
    part in a mean. Where documents may have several labels, predictions of them are not counted; where each has one,
    such a prediction is wrong. "not_annotated" gives their number by label, where there are any.
    measures: the main score of the outcomes, which all this rests on. calibrated_on: items of dev, on which the
    temperature of the "calibration" is fitted; without any there is none.
    Raises BadSpec if the documents have labels that the model does not know, and BadData if there is nothing to score;
    `split` only names the documents in these messages.
    """
    check_labels(model, items, split)
    read, cost = costs.measure(
        model,
        lambda: classify(items, model, tokenizer, **options),
        pieces=lambda outputs: int(outputs.read.sum()),
        read_one=lambda index: classify([items[index]], model, tokenizer, **options),
        count=len(items),
        folder=folder,
        seed=seed,
    )
    if classify is classify_documents:
        texts, hypotheses = (item.text for item in items), _hypotheses(items[:1])
        alone = options | {"hypotheses": hypotheses}
        cost |= costs.by_length(lambda text: inference.classify([text], model, tokenizer, **alone), texts, tokenizer)
    answers, dropped = drop_unannotated(_compare(model, items, read, negative, missed), annotated)
    values, intervals = metrics(answers), bootstrap(answers, samples=samples, seed=seed)
    for length in LONG:
        if (longer := read.pieces > length).any():
            part = answers.where(np.flatnonzero(longer))
            values |= under(f"over_{length}", metrics(part) | {"n": float(longer.sum())})
            intervals |= under(f"over_{length}", bootstrap(part, samples=samples, seed=seed))
    report = {"metrics": values, "n": len(answers.gold), "intervals": intervals, "cost": cost}
    report |= {"measured_on": measured_on(model)}
    report |= {"outcomes": _outcomes(answers, measures)}
    if calibrated_on:
        known = answers.where(np.arange(len(items)))
        dev, _ = drop_unannotated(
            _compare(model, calibrated_on, classify(calibrated_on, model, tokenizer, **options)), annotated
        )
        probabilities = (known.gold, known.probabilities, dev.gold, dev.probabilities)
        report |= {"calibration": calibration.report(*probabilities, several=answers.multi_label)}
    return report | ({"not_annotated": dropped} if dropped else {})


def _outcomes(answers: Answers, measures: str) -> Outcomes:
    parts = (answers.labels, answers.gold, answers.predicted, answers.probabilities)
    return outcomes.of_labels(*parts, measures=measures, unit="items", negative=answers.negative)


def drop_unannotated(answers: Answers, annotated: Collection[str] | None) -> tuple[Answers, dict[str, int]]:
    """The answers without labels that occur in no split, and how often the model predicted each of those labels."""
    if annotated is None or set(answers.labels) <= set(annotated):
        return answers, {}
    known = np.array([label in annotated for label in answers.labels])
    counts = zip(answers.labels, answers.predicted.sum(axis=0).tolist(), strict=True)
    dropped = {label: count for label, count in counts if count and label not in annotated}
    remaining = answers._replace(
        labels=tuple(label for label in answers.labels if label in annotated),
        gold=answers.gold[:, known],
        predicted=answers.predicted[:, known],
        probabilities=answers.probabilities[:, known],
    )
    return remaining, dict(sorted(dropped.items()))


def under(prefix: str, values: Mapping[str, Value]) -> dict[str, Value]:
    """The scores that are not of a single label, under a prefix."""
    return {f"{prefix}.{name}": value for name, value in values.items() if "." not in name}


def metrics(answers: Answers) -> dict[str, float]:
    """accuracy, macro_f1, micro_f1, and f1.LABEL, precision.LABEL and recall.LABEL from 0 to 1, and support.LABEL.

    accuracy: the share of documents with exactly the right labels (with one label per document and no `negative`,
    micro_f1 is the same number: trap T14). macro_f1: the mean over the labels that occur in gold or prediction, as in
    scikit-learn. The label `negative` has no part in macro_f1 and micro_f1. A score with nothing to count is 0. With
    several labels per document also macro_roc_auc, macro_average_precision, and roc_auc.LABEL and
    average_precision.LABEL of labels that some documents have and others do not. support counts documents.
    """
    ratios = _ratios(answers, _counts(answers).sum(axis=0), _exactly_right(answers).mean())
    support = {f"support.{label}": count for label, count in zip(answers.labels, answers.gold.sum(0), strict=True)}
    return {name: float(value) for name, value in (ratios | _ranking(answers) | support).items()}


def bootstrap(
    answers: Answers, *, owners: np.ndarray | None = None, samples: int = SAMPLES, seed: int = 0
) -> dict[str, list[float]]:
    """[low, high] of each of `metrics` except support: the 95 % percentile bootstrap over documents.

    owners: the number of the document that each answer belongs to, where a document has several; they are drawn
    together.
    """
    owners = np.arange(len(answers.gold)) if owners is None else owners
    count = int(owners.max()) + 1
    draws = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=samples)  # (samples, docs)
    draws = draws[:, owners]  # (samples, answers)
    counts = np.tensordot(draws, _counts(answers), axes=1)  # (samples, labels, 3)
    accuracy = draws @ _exactly_right(answers) / draws.sum(axis=1)
    resampled = _ratios(answers, counts, accuracy) | _ranking(answers, draws)
    # A sample in which all documents or none have a label has no ranking.
    finite = {name: values[np.isfinite(values)] for name, values in resampled.items()}
    limits = {name: np.percentile(values, [2.5, 97.5]) for name, values in finite.items() if len(values)}
    return {name: [float(low), float(high)] for name, (low, high) in limits.items()}


def best_thresholds(
    model: torch.nn.Module, tokenizer: Any, documents: Sequence[Document], **options: Any
) -> dict[str, float]:
    """The threshold of each label of a model with the highest F1 on these documents; the options are those of classify.

    A threshold is half-way between two scores that occur; of equal ones the nearest to THRESHOLD is taken, which is
    also that of a label that no document has.
    """
    outputs = classify_documents(documents, model, tokenizer, **options)
    answers = _compare(model, documents, outputs)
    columns = zip(answers.labels, answers.gold.T, answers.probabilities.T, strict=True)
    return {label: best_threshold(gold, scores) for label, gold, scores in columns}


def best_threshold(gold: np.ndarray, scores: np.ndarray) -> float:
    """The threshold of one label by `best_thresholds`. gold, scores: (documents,)."""
    if not gold.any():
        return THRESHOLD
    with_label, without = _weight_by_score(gold, scores, np.ones((1, len(gold))))  # in ascending order of score
    correct, wrong = (part[0, ::-1].cumsum()[::-1] for part in (with_label, without))  # at least that score
    f1 = 2 * correct / (correct + wrong + gold.sum())
    edges = np.unique(scores)
    lower = np.append(0.0, edges[:-1])  # any threshold above it and up to the edge decides alike
    middles = np.where((lower < THRESHOLD) & (edges >= THRESHOLD), THRESHOLD, (lower + edges) / 2)
    best = middles[f1 >= f1.max() - 1e-9]
    return float(best[np.abs(best - THRESHOLD).argmin()])


def roc_auc(gold: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The probability that a document with the label scores above one without; ties count half (Hanley, McNeil 1982).

    gold, scores: (documents,); weights: (samples, documents), how often each document counts. Returns (samples,), NaN
    where all documents have the label or none has.
    """
    with_label, without = _weight_by_score(gold, scores, weights)  # in ascending order of score
    below = without.cumsum(axis=1) - without
    total = with_label.sum(axis=1) * without.sum(axis=1)
    return _share((with_label * (below + without / 2)).sum(axis=1), total)


def average_precision(gold: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The mean precision at each document with the label, from the highest score down; shapes as for roc_auc."""
    with_label, without = (part[:, ::-1] for part in _weight_by_score(gold, scores, weights))
    right = with_label.cumsum(axis=1)
    precision = right / np.maximum(right + without.cumsum(axis=1), 1)
    return _share((precision * with_label).sum(axis=1), with_label.sum(axis=1))


def _weight_by_score(gold: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Total weight of documents with the label, and without it, per distinct score, ascending; (samples, scores)."""
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=-np.inf))
    with_label, without = (np.add.reduceat((weights * kind)[:, order], starts, axis=1) for kind in (gold, ~gold))
    return with_label, without


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)


def _compare(
    model: torch.nn.Module,
    items: Sequence[Item],
    outputs: Outputs,
    negative: str | None = None,
    missed: Sequence[Sequence[str]] = (),
) -> Answers:
    labels, multi_label = tuple(inference.output_names(model)), inference.is_multi_label(model)
    gold = [[label in item.labels for label in labels] for item in items]
    gold += [[label in stated for label in labels] for stated in missed]
    unasked = np.zeros((len(missed), len(labels)))
    unasked[:, [label == negative for label in labels]] = 1
    probabilities = np.concatenate([outputs.probabilities, unasked])
    if multi_label:
        predicted = probabilities >= np.array([inference.thresholds(model)[label] for label in labels])
    else:
        predicted = np.arange(len(labels)) == probabilities.argmax(axis=1)[:, None]
        predicted &= probabilities > 0
    return Answers(labels, np.array(gold), predicted, probabilities, multi_label, negative)


def _counts(answers: Answers) -> np.ndarray:
    """The number of correct, predicted and gold answers, 0 or 1 each: (documents, labels, 3)."""
    correct = answers.gold & answers.predicted
    return np.stack([correct, answers.predicted, answers.gold], axis=-1).astype(np.int64)


def _exactly_right(answers: Answers) -> np.ndarray:
    """1 for each document whose predicted labels are exactly its gold labels, else 0: (documents,)."""
    return (answers.gold == answers.predicted).all(axis=1).astype(np.float64)


def _ratios(answers: Answers, counts: np.ndarray, accuracy: np.ndarray) -> dict[str, np.ndarray]:
    """Every score that follows from counts (..., labels, 3); each value has the leading shape."""
    labels = answers.labels
    correct, predicted, gold = np.moveaxis(counts, -1, 0)  # each (..., labels)
    f1 = 2 * correct / np.maximum(predicted + gold, 1)
    occurs = (predicted + gold) > 0
    ratios = {"f1": f1, "precision": correct / np.maximum(predicted, 1), "recall": correct / np.maximum(gold, 1)}
    counted = np.array([label != answers.negative for label in labels])
    occurs = occurs & counted
    overall = {
        "accuracy": accuracy,
        "macro_f1": (f1 * occurs).sum(axis=-1) / np.maximum(occurs.sum(axis=-1), 1),
        "micro_f1": 2 * (correct * counted).sum(axis=-1) / np.maximum(((predicted + gold) * counted).sum(axis=-1), 1),
    }
    by_label = {f"{name}.{label}": values[..., n] for name, values in ratios.items() for n, label in enumerate(labels)}
    return overall | by_label


def _ranking(answers: Answers, draws: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """roc_auc and average_precision by label and their means; empty where each document has one label.

    draws: how often each sample contains each document, (samples, documents); the values are then (samples,).
    """
    ranked = [n for n in range(len(answers.labels)) if 0 < answers.gold[:, n].sum() < len(answers.gold)]
    if not answers.multi_label or not ranked:
        return {}
    weights = np.ones((1, len(answers.gold))) if draws is None else draws
    scores: dict[str, np.ndarray] = {}
    for name, measure in (("roc_auc", roc_auc), ("average_precision", average_precision)):
        values = np.stack([measure(answers.gold[:, n], answers.probabilities[:, n], weights) for n in ranked])
        defined = np.isfinite(values).sum(axis=0)
        scores[f"macro_{name}"] = np.where(defined, np.nansum(values, axis=0) / np.maximum(defined, 1), np.nan)
        scores |= {f"{name}.{answers.labels[n]}": each for n, each in zip(ranked, values, strict=True)}
    return {name: values[0] if draws is None else values for name, values in scores.items()}


def _hypotheses(documents: Sequence[Document]) -> list[str] | None:
    """The hypotheses of pairs; None of documents that have none."""
    return [document.hypothesis for document in documents if document.hypothesis is not None] or None


def check_labels(model: torch.nn.Module, items: Sequence[Item], split: str) -> None:
    """Raise BadData where there is nothing to score, and BadSpec for labels that the model does not know."""
    if not len(items):
        raise BadData(f"there is nothing to score{f' in the {split} split' if split else ''}.")
    known = inference.output_names(model)
    if missing := sorted({label for item in items for label in item.labels} - set(known)):
        where = f"the {split} split" if split else "the data set"
        what = f"{where} has the labels {', '.join(missing)}; the model knows {', '.join(sorted(known))}"
        raise BadSpec(
            [("dataset", what)],
            next_step="Choose a model that was trained on these labels, or fine-tune this one on this data set.",
        )
