"""Expected calibration error, the reliability curve and the temperature: by hand and against known models."""

import numpy as np
import pytest
from scipy.special import expit, softmax

from trainer.evaluation import calibration


def test_the_error_is_the_weighted_distance_of_probability_and_truth():
    points = calibration.curve(np.array([0.9, 0.9, 0.9, 0.5, 1.0]), np.array([1, 1, 0, 0, 1]))
    assert points == [
        {"n": 1, "probability": 0.5, "true": 0.0},
        {"n": 3, "probability": pytest.approx(0.9), "true": pytest.approx(2 / 3)},
        {"n": 1, "probability": 1.0, "true": 1.0},
    ]
    assert calibration.error(points) == pytest.approx((0.5 + 3 * (0.9 - 2 / 3)) / 5)


def drawn(temperature: float, items: int, several: bool) -> tuple[np.ndarray, np.ndarray]:
    """Gold labels drawn by probabilities, and these after their logits were multiplied by the temperature."""
    random = np.random.default_rng(0)
    logits = random.normal(size=(items, 4)) * 2
    if several:
        gold = random.random(logits.shape) < expit(logits)
        return gold, expit(logits * temperature)
    numbers = [random.choice(4, p=row) for row in softmax(logits, axis=1)]
    gold = np.arange(4) == np.array(numbers)[:, None]
    return gold, softmax(logits * temperature, axis=1)


@pytest.mark.parametrize("several", [False, True])
def test_a_model_that_is_too_sure_gets_its_temperature_back(several):
    gold, probabilities = drawn(3.0, 4000, several)
    half = len(gold) // 2
    report = calibration.report(gold[:half], probabilities[:half], gold[half:], probabilities[half:], several=several)
    assert report["temperature"] == pytest.approx(3.0, rel=0.15)
    assert report["ece"] > 0.1 and report["ece_scaled"] < 0.04
    assert sum(point["n"] for point in report["curve"]) == half * (4 if several else 1)


def test_a_temperature_changes_no_ranking_and_one_changes_nothing():
    _, probabilities = drawn(1.0, 50, False)
    assert calibration.scale(probabilities, 1.0, several=False) == pytest.approx(probabilities, abs=1e-5)
    cooler = calibration.scale(probabilities, 4.0, several=False)
    assert (cooler.argmax(1) == probabilities.argmax(1)).all() and cooler.max() < probabilities.max()


def test_items_whose_label_the_model_does_not_know_are_left_out():
    gold, probabilities = np.array([[True, False], [False, False]]), np.array([[0.8, 0.2], [0.9, 0.1]])
    report = calibration.report(gold, probabilities, gold, probabilities, several=False)
    assert [point["n"] for point in report["curve"]] == [1] and report["fitted_on"] == 1


def test_without_dev_the_temperature_is_one():
    nothing = np.zeros((0, 2))
    assert calibration.fit(nothing.astype(bool), nothing, several=False) == 1.0
