"""Whether a model's probabilities mean what they say: expected calibration error, reliability curve and temperature.

Guo et al. 2017, "On Calibration of Modern Neural Networks". Where an item has one label, the probability is that of the
label that is predicted, and it is right or wrong; where it may have several, that of each label, which is there or not.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_softmax, logit

BINS = 15  # of equal width, as in the paper
MOST_ITEMS = 500  # of dev, on which the temperature is fitted: one number needs no more
RANGE = (0.05, 20.0)  # of temperatures
_TINY = 1e-7


def report(
    gold: np.ndarray, probabilities: np.ndarray, dev_gold: np.ndarray, dev_probabilities: np.ndarray, *, several: bool
) -> dict[str, Any]:
    """{"ece", "ece_scaled", "temperature", "fitted_on", "curve", "curve_scaled"} of some items.

    gold: bool, probabilities: both (items, labels); the dev ones fit the temperature. several: whether an item may have
    several labels. Items without a gold label are left out where each has one.
    """
    if not several:
        stated, dev_stated = gold.any(axis=1), dev_gold.any(axis=1)
        gold, probabilities = gold[stated], probabilities[stated]
        dev_gold, dev_probabilities = dev_gold[dev_stated], dev_probabilities[dev_stated]
    temperature = fit(dev_gold, dev_probabilities, several=several)
    scaled = scale(probabilities, temperature, several=several)
    before, after = (curve(*events(gold, each, several=several)) for each in (probabilities, scaled))
    return {
        "ece": error(before),
        "ece_scaled": error(after),
        "temperature": temperature,
        "fitted_on": len(dev_gold),
        "curve": before,
        "curve_scaled": after,
    }


def events(gold: np.ndarray, probabilities: np.ndarray, *, several: bool) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and whether what they are of came true, both (events,)."""
    if several:
        return probabilities.ravel(), gold.ravel()
    best = probabilities.argmax(axis=1)
    rows = np.arange(len(best))
    return probabilities[rows, best], gold[rows, best]


def curve(probabilities: np.ndarray, true: np.ndarray) -> list[dict[str, float]]:
    """{"n", "probability", "true"} of each bin with any events: their number, mean probability and share that is true.

    probabilities, true: (events,).
    """
    bins = np.minimum((probabilities * BINS).astype(int), BINS - 1)
    chosen = ((bins == number) for number in range(BINS))
    return [
        {"n": int(each.sum()), "probability": float(probabilities[each].mean()), "true": float(true[each].mean())}
        for each in chosen
        if each.any()
    ]


def error(points: Sequence[dict[str, float]]) -> float:
    """The expected calibration error: the mean distance of probability and truth, weighted by the events of a bin."""
    total = sum(point["n"] for point in points)
    return sum(point["n"] * abs(point["probability"] - point["true"]) for point in points) / max(total, 1)


def scale(probabilities: np.ndarray, temperature: float, *, several: bool) -> np.ndarray:
    """The probabilities of the logits divided by a temperature, (items, labels); above 1 they are less sure."""
    bounded = np.clip(probabilities, _TINY, 1 - _TINY)
    if several:
        return np.asarray(expit(logit(bounded) / temperature))
    return np.asarray(np.exp(log_softmax(np.log(bounded) / temperature, axis=1)))


def fit(gold: np.ndarray, probabilities: np.ndarray, *, several: bool) -> float:
    """The temperature with the smallest negative log likelihood of some items; 1 where there are none."""
    if not len(gold):
        return 1.0

    def loss(log_temperature: float) -> float:
        scaled = np.clip(scale(probabilities, float(np.exp(log_temperature)), several=several), _TINY, 1 - _TINY)
        if several:
            return -float(np.where(gold, np.log(scaled), np.log1p(-scaled)).mean())
        return -float(np.log((scaled * gold).max(axis=1)).mean())

    best = minimize_scalar(loss, bounds=np.log(RANGE), method="bounded", options={"xatol": 1e-4})
    return float(np.exp(best.x))
