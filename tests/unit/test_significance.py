"""Two models on the same items: McNemar against scipy, the paired bootstrap against drawing items one by one."""

import numpy as np
import pytest
from scipy.stats import binomtest

from trainer.errors import BadData
from trainer.evaluation import outcomes, significance
from trainer.evaluation.outcomes import Mistake, Outcomes


def labelled(right: np.ndarray, measures: str = "accuracy") -> Outcomes:
    """Items with the label a; where not right, the answer is b."""
    gold = np.tile([True, False], (len(right), 1))
    predicted = np.where(right[:, None] == 1, gold, ~gold)
    return outcomes.of_labels("ab", gold, predicted, predicted * 1.0, measures=measures, unit="documents")


@pytest.mark.parametrize(("only_first", "only_second"), [(0, 0), (5, 5), (12, 3), (1, 9), (40, 61)])
def test_mcnemar_is_the_exact_test_of_scipy(only_first, only_second):
    first = labelled(np.array([1] * only_first + [0] * only_second + [1, 1, 0]))
    second = labelled(np.array([0] * only_first + [1] * only_second + [1, 1, 0]))
    found = significance.mcnemar(first, second)
    assert (found.only_first, found.only_second, found.both, found.neither) == (only_first, only_second, 2, 1)
    both = only_first + only_second
    assert found.p == pytest.approx(binomtest(only_first, both, 0.5).pvalue if both else 1)


def test_mcnemar_of_spans_counts_gold_mentions():
    def found(*wrong: Mistake) -> Outcomes:
        counts = ((0, 0, 3 - len(wrong), 3, 3), (1, 0, 1, 1, 1))
        return Outcomes(measures="f1", unit="sentences", labels=("x",), n=2, counts=counts, mistakes=wrong)

    first = Mistake(item=0, kind="missed", gold="x", places=((0, 4),))
    second = Mistake(item=0, kind="boundary", gold="x", predicted="x", places=((5, 9), (5, 7)))
    made_up = Mistake(item=0, kind="spurious", predicted="x", places=((0, 4),))
    result = significance.mcnemar(found(first), found(first, second))
    assert (result.only_first, result.only_second, result.both, result.neither) == (1, 0, 2, 1)
    assert significance.mcnemar(found(first), found(first, made_up)).only_first == 0
    assert result.units == "mentions"


@pytest.mark.parametrize("measures", ["accuracy", "macro_f1", "micro_f1"])
def test_the_bootstrap_draws_the_same_items_for_both(measures):
    random = np.random.default_rng(3)
    first = labelled(random.random(60) < 0.8, measures)
    second = labelled(random.random(60) < 0.6, measures)
    found = significance.compare(first, second, samples=4000)

    def one_by_one(rows: np.ndarray) -> float:
        a, b = (outcomes.score(measures, each.table()[rows], each.right()[rows]) for each in (first, second))
        return a - b

    drawn = [one_by_one(random.integers(0, 60, 60)) for _ in range(2000)]
    assert [found.low, found.high] == pytest.approx(np.percentile(drawn, [2.5, 97.5]), abs=0.03)
    assert found.difference == pytest.approx(one_by_one(np.arange(60)))


def test_a_model_does_not_differ_from_itself_and_a_clear_difference_is_found():
    random = np.random.default_rng(0)
    weak, strong = (labelled(random.random(300) < share) for share in (0.6, 0.9))
    same = significance.compare(weak, weak)
    assert (same.difference, same.low, same.high, same.p, same.mcnemar.p) == (0, 0, 0, 1, 1)
    found = significance.compare(strong, weak)
    assert found.low > 0 and found.p < 0.01 and found.mcnemar.p < 0.01
    mirrored = significance.compare(weak, strong)
    assert (mirrored.low, mirrored.high) == pytest.approx((-found.high, -found.low), abs=0.01)


def test_no_difference_is_found_more_often_than_the_level_says():
    """Of 200 pairs of models that are equally good, one in twenty differs at the level of 0.05."""
    random = np.random.default_rng(5)
    pairs = ([labelled(random.random(80) < 0.7) for _ in range(2)] for _ in range(200))
    level = np.mean([significance.compare(*pair, samples=400).p < 0.05 for pair in pairs])
    assert 0.01 <= level <= 0.11


def test_other_items_are_refused():
    with pytest.raises(BadData, match="not scored on the same items: 3 documents by accuracy and 4"):
        significance.compare(labelled(np.ones(3)), labelled(np.ones(4)))
