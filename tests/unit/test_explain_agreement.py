"""Two explanations side by side: ranks, overlap, the widest differences, and the sentence that figures make."""

import numpy as np
import pytest
from scipy import stats

from trainer.errors import BadSpec
from trainer.prediction import Cost, Coverage
from workbench.explain.agreement import Ablation, ablation_sentence, compare_explanations, kendall, spearman, strongest
from workbench.explain.explanation import Attribution, Explanation


def explanation(scores, *, places=None, unread=(), **fields) -> Explanation:
    places = places or [(10 * n, 10 * n + 8) for n in range(len(scores))]
    parts = [Attribution(start=a, end=b, score=s) for (a, b), s in zip(places, scores, strict=True)]
    usual = {"model": "m", "target": "0:8:Disease", "method": "saliency", "grain": "word", "baseline": "mask"}
    usual |= {"log_odds": 1.0, "probability": 0.7, "cost": Cost(latency_ms=1, tokens_per_second=1)}
    coverage = Coverage(tokens=9, tokens_read=9, windows=1, unread=unread)
    return Explanation(**usual | fields, attributions=parts, coverage=coverage)


@pytest.mark.parametrize("seed", range(5))
def test_rank_correlations_equal_scipys_with_ties_too(seed):
    one, other = np.random.default_rng(seed).integers(0, 6, size=(2, 40)).astype(float)
    assert spearman(one, other) == pytest.approx(stats.spearmanr(one, other).statistic)
    assert kendall(one, other) == pytest.approx(stats.kendalltau(one, other).statistic)


def test_without_ranks_there_is_no_correlation():
    same, other = np.ones(4), np.arange(4.0)
    assert spearman(same, other) is None
    assert kendall(same, other) is None
    assert (spearman(other, other), kendall(other, -other)) == (1.0, -1.0)


def test_where_two_explanations_differ_most_comes_first():
    agreement = compare_explanations(explanation([5, 4, 3, 2, 1]), explanation([1, 4, 3, 2, 5]), k=2)
    assert agreement.overlap == 0.5
    assert agreement.k == 2
    assert [(item.start, item.first, item.second) for item in agreement.differences] == [(0, 1, 5), (40, 5, 1)]
    assert agreement.spearman == pytest.approx(stats.spearmanr([5, 4, 3, 2, 1], [1, 4, 3, 2, 5]).statistic)


def test_what_neither_ranks_high_is_no_difference_worth_showing():
    agreement = compare_explanations(explanation([9, 8, 1, 2, 3, 4]), explanation([8, 9, 4, 3, 2, 1]), k=2)
    assert [(item.start, item.first, item.second) for item in agreement.differences] == [(0, 1, 2), (10, 2, 1)]


def test_parts_that_one_did_not_see_are_left_out():
    agreement = compare_explanations(explanation([5, 4, 0], unread=((20, 40),)), explanation([1, 2, 9]))
    assert agreement.spearman == pytest.approx(-1)
    assert [item.start for item in agreement.differences] == [0, 10]
    with pytest.raises(BadSpec, match="no part of it was read by both"):
        compare_explanations(explanation([5, 0], unread=((10, 20),)), explanation([0, 5], unread=((0, 10),)))


def test_units_that_differ_are_matched_by_characters():
    one = explanation([3, 2, 1], places=[(0, 4), (4, 8), (10, 12)])
    other = explanation([4, 1], places=[(0, 8), (10, 12)])
    agreement = compare_explanations(one, other, k=1)
    assert agreement.overlap == 1
    halves = explanation([2, 2, 1], places=[(0, 4), (4, 8), (10, 12)])
    assert agreement == compare_explanations(one, halves, k=1)


def test_only_one_target_and_one_grain_can_be_compared():
    with pytest.raises(BadSpec, match="target: found '0:8:Disease' and '0:8:Chemical'"):
        compare_explanations(explanation([1]), explanation([1], target="0:8:Chemical"))
    with pytest.raises(BadSpec, match="grain"):
        compare_explanations(explanation([1]), explanation([1], grain="sentence"))


def test_the_strongest_part_may_be_asked_for_apart_from_the_target():
    answer = explanation([5, -9, 2, 3])
    assert strongest(answer) == (0, 8)
    assert strongest(answer, apart_from=(4, 6)) == (30, 38)
    assert strongest(explanation([0, -1])) is None


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [(0.93, 0.41, "falls from 93% to 41%"), (0.41, 0.999, "rises from 41% to >99%"), (0.931, 0.929, "stays at 93%")],
)
def test_an_ablation_as_a_sentence(before, after, expected):
    ablation = Ablation(target="12:20:Disease", hidden=((120, 180),), before=before, after=after)
    text = ablation_sentence("minilm", ablation, part="sentence")
    assert text == f"minilm: without the sentence at 120-180, its score for 12:20:Disease {expected}."


def test_only_what_a_page_passes_is_quoted():
    ablation = Ablation(target="12:20:Disease", hidden=((1, 5), (9, 12)), before=0.9, after=0.5)
    text = ablation_sentence("minilm", ablation, name="PLAN", quote="Stop it.")
    assert "part \u201cStop it.\u201d (PLAN), its score for 12:20:Disease falls" in text
    assert "its score for Disease: sepsis falls" in ablation_sentence("minilm", ablation, target="Disease: sepsis")
