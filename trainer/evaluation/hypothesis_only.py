"""What hypotheses alone say about their labels: the baseline beside the scores of pairs.

Hypotheses often give their label away, whatever the premise (Poliak et al. 2018; Herlihy and Rudinger 2021 for MedNLI).
The baseline is a softmax regression on the words and pairs of words of the hypotheses of train.
"""

import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from scipy.optimize import minimize
from scipy.sparse import csr_matrix
from scipy.special import logsumexp, softmax

from trainer.evaluation.document_scores import Answers, Document

PENALTY = 1.0  # of the squared weights, as scikit-learn's C = 1
RARE = 2  # a feature in fewer hypotheses is left out
_WORD = re.compile(r"\w+|[^\w\s]")


def answers(train: Sequence[Document], documents: Sequence[Document], labels: Sequence[str]) -> Answers:
    """The labels of some pairs by their hypotheses, learned from other pairs; `labels` in the order of the columns.

    Pairs of train whose label is not in `labels` are left out.
    """
    known = [pair for pair in train if pair.labels[0] in labels]
    features = [_features(pair.hypothesis or "") for pair in known]
    counts = Counter(name for each in features for name in each)
    columns = {name: place for place, name in enumerate(sorted(n for n, count in counts.items() if count >= RARE))}
    targets = np.array([labels.index(pair.labels[0]) for pair in known], dtype=np.int64)
    weights = _fit(_matrix(features, columns), targets, len(labels))
    tested = _matrix([_features(pair.hypothesis or "") for pair in documents], columns)
    probabilities = softmax(tested @ weights, axis=1)
    numbers = np.arange(len(labels))
    gold = np.array([[label in pair.labels for label in labels] for pair in documents])
    return Answers(tuple(labels), gold, numbers == probabilities.argmax(1)[:, None], probabilities, False)


def _features(hypothesis: str) -> set[str]:
    words = _WORD.findall(hypothesis.casefold())
    return {*words, *(f"{one} {other}" for one, other in pairwise(words))}


def _matrix(features: Sequence[set[str]], columns: dict[str, int]) -> csr_matrix:
    """(hypotheses, columns + 1) of 0 and 1; the last column is 1 everywhere."""
    rows = [[*sorted(columns[name] for name in each if name in columns), len(columns)] for each in features]
    starts = np.cumsum([0, *map(len, rows)])
    places = np.concatenate([np.empty(0, dtype=np.int64), *(np.array(row, dtype=np.int64) for row in rows)])
    return csr_matrix((np.ones(len(places)), places, starts), shape=(len(rows), len(columns) + 1))


def _fit(inputs: csr_matrix, targets: np.ndarray, classes: int) -> np.ndarray:
    """The weights of a softmax regression, (columns, classes); the last row, the bias, has no penalty."""
    shape, rows = (inputs.shape[1], classes), np.arange(len(targets))
    penalised = np.ones((shape[0], 1))
    penalised[-1] = 0

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights = flat.reshape(shape)
        logits = inputs @ weights
        total = (logsumexp(logits, axis=1) - logits[rows, targets]).sum()
        errors = softmax(logits, axis=1)
        errors[rows, targets] -= 1
        shrunk = PENALTY * penalised * weights
        return total + (shrunk * weights).sum() / 2, (inputs.T @ errors + shrunk).ravel()

    weights: np.ndarray = minimize(loss, np.zeros(shape).ravel(), jac=True, method="L-BFGS-B").x
    return weights.reshape(shape)
