"""Scores of the roles of sentences: accuracy and F1 over all sentences, with bootstrap intervals over texts."""

from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trainer import inference
from trainer.datasets import RoleDocument
from trainer.evaluation import baselines, outcomes
from trainer.evaluation import cost as costs
from trainer.evaluation.document_scores import SAMPLES, Answers, bootstrap, check_labels, drop_unannotated, metrics
from trainer.evaluation.hardware import measured_on
from trainer.evaluation.outcomes import Outcomes
from trainer.inference import Roles


def scores(
    model: torch.nn.Module,
    tokenizer: Any,
    documents: Sequence[RoleDocument],
    *,
    annotated: Collection[str] | None = None,
    **options: Any,
) -> dict[str, float]:
    """document_scores.metrics over the sentences of some texts; the options are those of `evaluate`."""
    read = _read(documents, model, tokenizer, **options)
    return metrics(drop_unannotated(_answers(model, documents, read), annotated)[0])


def evaluate(
    model: torch.nn.Module,
    tokenizer: Any,
    documents: Sequence[RoleDocument],
    *,
    split: str = "",
    folder: Path | None = None,
    annotated: Collection[str] | None = None,
    samples: int = SAMPLES,
    seed: int = 0,
    **options: Any,
) -> dict[str, Any]:
    """{"metrics", "n", "intervals", "cost", "measured_on"} of a model on texts whose sentences have roles.

    metrics: of document_scores over all sentences; accuracy is micro F1. intervals: their bootstrap, in which whole
    texts are drawn, since sentences of a text depend on each other. outcomes: of whole texts, with a mistake per wrong
    sentence. cost: of evaluation.cost, one text at a time.
    annotated: the roles that the data set knows; a sentence with another predicted role is wrong, and such a role has
    no score; "not_annotated" gives their number, where there are any. The other options are those of
    inference.classify_sentences. Raises what document_scores.check_labels raises.
    """
    check_labels(model, documents, split)
    read, cost = costs.measure(
        model,
        lambda: _read(documents, model, tokenizer, **options),
        pieces=lambda read: sum(each.read for each in read),
        read_one=lambda index: _read([documents[index]], model, tokenizer, **options),
        count=len(documents),
        folder=folder,
        seed=seed,
    )

    def read_text(text: str) -> object:
        return inference.predict(text, model, tokenizer, name="", **options)

    cost |= costs.by_length(read_text, (document.text for document in documents), tokenizer)
    answers, dropped = drop_unannotated(_answers(model, documents, read), annotated)
    owners = np.repeat(np.arange(len(documents)), [len(document.labels) for document in documents])
    report = {"metrics": metrics(answers), "n": len(documents)}
    report |= {"intervals": bootstrap(answers, owners=owners, samples=samples, seed=seed), "cost": cost}
    report |= {"measured_on": measured_on(model), "outcomes": _outcomes(answers, documents, owners)}
    return report | ({"not_annotated": dropped} if dropped else {})


def majority(
    documents: Sequence[RoleDocument], train: Sequence[RoleDocument], labels: Sequence[str]
) -> dict[str, float]:
    """The metrics of the most frequent role of train for every sentence."""
    learned, stated = ([(label,) for each in some for label in each.labels] for some in (train, documents))
    predicted = baselines.majority(learned, labels, len(stated), negative=None)
    gold = np.array([[label in each for label in labels] for each in stated])
    return metrics(Answers(tuple(labels), gold, predicted, predicted.astype(np.float64), multi_label=False))


def _outcomes(answers: Answers, documents: Sequence[RoleDocument], owners: np.ndarray) -> Outcomes:
    """The outcomes of whole texts. owners: the number of the text of each sentence, (sentences,)."""
    parts = (answers.labels, answers.gold, answers.predicted, answers.probabilities)
    places = [(place,) for document in documents for place in document.places]
    of_each = outcomes.of_labels(*parts, measures="macro_f1", unit="documents", places=places)
    counts = Counter[tuple[int, int, int]]()  # of text, label and column
    for sentence, label, *numbers in of_each.counts:
        for column, number in enumerate(numbers):
            counts[int(owners[sentence]), label, column] += number
    rows = sorted({key[:2] for key in counts})
    return of_each.model_copy(
        update={
            "n": len(documents),
            "counts": tuple((*row, *(counts[*row, column] for column in range(3))) for row in rows),
            "mistakes": tuple(one.model_copy(update={"item": int(owners[one.item])}) for one in of_each.mistakes),
        }
    )


def _read(documents: Sequence[RoleDocument], model: torch.nn.Module, tokenizer: Any, **options: Any) -> list[Roles]:
    texts, places = [each.text for each in documents], [np.array(each.places) for each in documents]
    return inference.classify_sentences(texts, places, model, tokenizer, **options)


def _answers(model: torch.nn.Module, documents: Sequence[RoleDocument], read: Sequence[Roles]) -> Answers:
    """The gold and predicted roles of all sentences; one that was not read has no predicted role."""
    labels = tuple(inference.output_names(model))
    gold = np.array([[label == stated for label in labels] for document in documents for stated in document.labels])
    probabilities = np.concatenate([each.probabilities for each in read])
    predicted = np.arange(len(labels)) == probabilities.argmax(axis=1)[:, None]
    return Answers(labels, gold, predicted & (probabilities > 0), probabilities, multi_label=False)
