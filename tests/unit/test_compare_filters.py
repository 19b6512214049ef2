"""A filter only removes; agreement and disagreements follow it."""

import pytest
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st

from trainer.prediction import Cost, Coverage, LabelScore, Prediction, Span
from workbench.compare import compare, spans_agreed
from workbench.compare.agreement import agreement_rows, arm_pairs
from workbench.compare.filters import Filter, apply_filter, count_answers

LABELS = ("Chemical", "Disease")


def tagged(model: str, *spans: tuple, labels=LABELS) -> Prediction:
    predicted = tuple(Span(start=a, end=b, label=label, score=score) for a, b, label, score in spans)
    coverage, cost = Coverage(tokens=9, tokens_read=9, windows=1), Cost(latency_ms=1, tokens_per_second=1)
    return Prediction(model=model, task="ner", spans=predicted, coverage=coverage, cost=cost, label_set=labels)


def classified(model: str, *scores: tuple, threshold=None) -> Prediction:
    labels = tuple(LabelScore(label=label, score=score) for label, score in scores)
    changes = {"task": "classification", "labels": labels, "threshold": threshold}
    return tagged(model, labels=tuple(label for label, _ in scores)).model_copy(update=changes)


ONE = tagged("a", (0, 3, "Disease", 0.9), (5, 8, "Chemical", 0.6), (10, 13, "Disease", 0.4))
OTHER = tagged("b", (0, 3, "Disease", 0.8), (5, 8, "Disease", 0.7))


def test_spans_below_the_score_or_of_another_label_go():
    assert apply_filter(ONE, Filter()) is ONE
    assert [span.start for span in apply_filter(ONE, Filter(min_score=0.6)).spans] == [0, 5]
    assert [span.start for span in apply_filter(ONE, Filter(labels=("Disease",))).spans] == [0, 10]
    assert [span.start for span in apply_filter(ONE, Filter(labels=("Disease",), min_score=0.6)).spans] == [0]
    assert not apply_filter(ONE, Filter(min_score=1.0)).spans


def test_agreement_and_disagreements_follow_the_filter():
    def compared(by: Filter) -> tuple:
        comparison = compare([apply_filter(arm, by) for arm in (ONE, OTHER)])
        return pytest.approx(comparison.agreement), [item.kind for item in comparison.disagreements]

    assert compared(Filter()) == (2 / 5, ["label", "only"])
    assert compared(Filter(min_score=0.65)) == (2 / 3, ["only"])
    assert compared(Filter(labels=("Disease",))) == (1 / 2, ["only", "only"])
    assert compared(Filter(labels=("Disease",), min_score=0.75)) == (1.0, [])
    assert compared(Filter(labels=("Chemical",))) == (0.0, ["only"])


def test_of_several_labels_those_below_the_score_are_not_given():
    prediction = classified("a", ("x", 0.9), ("y", 0.6), ("z", 0.2), threshold=0.5)
    assert [apply_filter(prediction, Filter(min_score=least)).chosen for least in (0.1, 0.7, 0.95)] == [
        ("x", "y"),
        ("x",),
        (),
    ]
    assert apply_filter(prediction, Filter(labels=("y",))).chosen == ("x", "y"), "labels are those of spans"


def test_the_one_label_is_given_if_it_is_sure_enough_and_no_second_one_ever():
    prediction = classified("a", ("x", 0.45), ("y", 0.4), ("z", 0.15))
    assert [apply_filter(prediction, Filter(min_score=least)).chosen for least in (0.1, 0.3, 0.45, 0.5)] == [
        ("x",)
    ] * 3 + [()]
    assert count_answers(prediction) == 1 and count_answers(apply_filter(prediction, Filter(min_score=0.5))) == 0
    assert apply_filter(prediction.model_copy(update={"labels": ()}), Filter(min_score=0.5)).chosen == ()


SPANS = st.lists(st.tuples(st.integers(0, 30), st.integers(1, 8), st.sampled_from(LABELS), st.floats(0, 1)), max_size=8)


@settings(deadline=None)
@drawn(SPANS, st.floats(0, 1), st.floats(0, 1), st.sets(st.sampled_from(LABELS)))
def test_a_stricter_filter_keeps_part_of_what_a_milder_one_keeps(spans, one, other, labels):
    prediction = tagged("a", *((a, a + size, label, score) for a, size, label, score in spans))
    mild, strict = (Filter(min_score=least, labels=tuple(labels)) for least in sorted((one, other)))
    assert (
        set(apply_filter(prediction, strict).spans)
        <= set(apply_filter(prediction, mild).spans)
        <= set(prediction.spans)
    )
    assert apply_filter(apply_filter(prediction, mild), strict) == apply_filter(prediction, strict)


def test_agreement_by_label_and_by_pair():
    third = tagged("c", (0, 3, "Disease", 0.9), labels=("Disease",))
    rows = agreement_rows([ONE, OTHER, third])
    assert arm_pairs([ONE, OTHER, third]) == [(0, 1), (0, 2), (1, 2)]
    assert [row.label for row in rows] == [None, "Chemical", "Disease"]
    assert rows[0].pairs == pytest.approx((2 / 5, 2 / 3, 2 / 3))
    assert rows[0].mean == pytest.approx(compare([ONE, OTHER, third]).agreement)
    assert rows[1].pairs == (0.0, None, None) and rows[1].mean == 0
    assert rows[2].pairs == pytest.approx((1 / 2, 2 / 3, 2 / 3))


def test_a_mixed_pair_has_no_figure_in_any_row():
    rows = agreement_rows([ONE, OTHER, classified("d", ("Disease", 0.9), ("x", 0.1))])
    assert all(row.pairs[1:] == (None, None) for row in rows) and rows[0].pairs[0] == pytest.approx(2 / 5)


def test_a_span_is_agreed_when_all_who_could_say_it_do():
    third = tagged("c", (0, 3, "Disease", 0.9), labels=("Disease",))
    comparison = compare([ONE, OTHER, third])
    assert spans_agreed(comparison, ONE) == [True, False, False]
    assert spans_agreed(compare([ONE, third]), ONE)[1] is None, "nobody else knows chemicals"
