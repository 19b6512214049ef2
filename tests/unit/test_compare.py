"""Agreement and disagreements, on predictions written by hand."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.errors import BadSpec
from trainer.prediction import AttributeValue, Cost, Coverage, LabelScore, Prediction, Span
from workbench.compare import Group, compare, group_by_kind, spans_agreed
from workbench.compare.agreement import agreement_rows, label_agreement, span_f1
from workbench.compare.filters import Filter, apply_filter

NOTHING_READ = Coverage(tokens=0, tokens_read=0, windows=0)


def prediction(model: str, *spans: tuple, labels: str = "Disease", unread: tuple = ()) -> Prediction:
    return Prediction(
        model=model,
        task="ner",
        spans=tuple(Span(start=a, end=b, label=label, score=0.9) for a, b, label in spans),
        coverage=Coverage(tokens=10, tokens_read=10, windows=1, unread=unread),
        cost=Cost(latency_ms=1, tokens_per_second=1),
        label_set=tuple(labels.split()),
    )


def votes(*predictions: Prediction) -> list[tuple]:
    return [(item.start, item.end, item.votes) for item in compare(predictions).disagreements]


def test_equal_spans_are_not_a_disagreement():
    one, other = (prediction(name, (0, 5, "Disease"), (9, 12, "Disease")) for name in "ab")
    assert compare([one, other]).agreement == 1.0
    assert votes(one, other) == []


def test_a_span_that_only_one_saw_gives_the_other_a_null():
    assert votes(prediction("a", (0, 5, "Disease")), prediction("b")) == [(0, 5, {"a": "Disease", "b": None})]


def test_an_arm_whose_label_set_cannot_say_it_has_no_key():
    both = "Chemical Disease"
    one, other = prediction("a", (0, 5, "Chemical"), labels=both), prediction("b", labels=both)
    diseases = prediction("c")
    assert votes(one, other, diseases) == [(0, 5, {"a": "Chemical", "b": None})]
    assert votes(one, diseases) == []  # nobody could have contradicted


def test_different_boundaries_are_one_region_from_first_start_to_last_end():
    one, other = prediction("a", (4, 9, "Disease")), prediction("b", (0, 9, "Disease"))
    assert votes(one, other) == [(0, 9, {"a": "Disease", "b": "Disease"})]
    assert compare([one, other]).disagreements[0].kind == "boundary"


def test_overlaps_chain_into_one_region_and_neighbours_do_not():
    one = prediction("a", (0, 4, "Disease"), (6, 9, "Disease"), (9, 12, "Disease"))
    other = prediction("b", (3, 7, "Disease"), (9, 12, "Disease"))
    assert votes(one, other) == [(0, 9, {"a": "Disease", "b": "Disease"})]


def test_different_labels_and_the_vote_of_an_arm_with_two():
    one = prediction("a", (0, 3, "Chemical"), (4, 12, "Disease"), labels="Chemical Disease")
    other = prediction("b", (0, 12, "Chemical"), labels="Chemical Disease")
    assert votes(one, other) == [(0, 12, {"a": "Disease", "b": "Chemical"})]  # Disease covers more of it
    assert compare([one, other]).disagreements[0].kind == "label"


def asserted(model: str, *findings: tuple) -> Prediction:
    """Findings as (start, end, value of the assertion or None)."""
    arm = prediction(model, *((a, b, "problem") for a, b, _ in findings), labels="problem")
    spans = tuple(
        span.model_copy(update={"attributes": {"assertion": AttributeValue(value=value, score=0.9)} if value else {}})
        for span, (_, _, value) in zip(arm.spans, findings, strict=True)
    )
    return arm.model_copy(update={"spans": spans})


def test_the_same_finding_with_another_assertion_is_a_kind_of_its_own():
    one = asserted("a", (0, 5, "absent"), (9, 12, "present"), (20, 25, None))
    other = asserted("b", (0, 5, "present"), (9, 12, "present"), (20, 25, "absent"))
    comparison = compare([one, other])
    [difference] = comparison.disagreements
    assert difference.kind == "attribute" and difference.place == (0, 5)
    assert difference.to_json() == {
        "start": 0,
        "end": 5,
        "votes": {"a": "problem", "b": "problem"},
        "attributes": {"a": {"assertion": "absent"}, "b": {"assertion": "present"}},
    }
    assert comparison.agreement == pytest.approx(2 / 3), "a finding with another assertion is not the same"
    assert spans_agreed(comparison, one) == [False, True, True]
    assert [(group.kind, group.attributes) for group in group_by_kind(comparison)] == [("attribute", ("assertion",))]


def test_a_filter_of_assertions_keeps_spans_without_any():
    arm = asserted("a", (0, 5, "absent"), (9, 12, "present"), (20, 25, None))
    shown = apply_filter(arm, Filter(values=("present",)))
    assert [span.start for span in shown.spans] == [9, 20]


def test_not_read_is_null_in_the_public_shape_and_distinct_inside():
    one, cut = prediction("a", (0, 3, "Disease"), (90, 95, "Disease")), prediction("b", unread=((50, 100),))
    near, far = compare([one, cut]).disagreements
    assert far.to_json() == {"start": 90, "end": 95, "votes": {"a": "Disease", "b": None}}
    assert (near.unread, near.kind) == ((), "only")
    assert (far.unread, far.kind) == (("b",), "unread")


def test_agreement_is_the_mean_f1_over_pairs_that_share_labels():
    one = prediction("a", (0, 1, "Disease"), (2, 3, "Disease"), (4, 5, "Chemical"), labels="Chemical Disease")
    other = prediction("b", (0, 1, "Disease"))
    third = prediction("c", (0, 1, "Gene"), labels="Gene")
    assert span_f1(one, other) == pytest.approx(2 / 3)  # the chemical does not count
    assert span_f1(one, third) is None
    assert compare([one, other, third]).agreement == pytest.approx(2 / 3)
    assert compare([one, third]).agreement is None


def test_without_findings_there_is_no_agreement_and_the_reason_is_stated():
    nothing = compare([prediction("a"), prediction("b")])
    assert nothing.agreement is None and "No model found" in nothing.no_agreement
    assert nothing.to_json()["agreement"] is None and nothing.to_json()["no_agreement"] == nothing.no_agreement
    chemicals = prediction("c", (0, 3, "Chemical"), labels="Chemical Disease")
    assert compare([chemicals, prediction("a")]).agreement is None, "what one alone can say is no agreement"
    assert compare([prediction("a"), prediction("d", (0, 3, "Disease"))]).agreement == 0.0
    pairs = [prediction("a"), prediction("b"), prediction("d", (0, 3, "Disease"))]
    assert compare(pairs).agreement == 0.0, "the pair that found nothing does not count"
    unread = [prediction(name).model_copy(update={"coverage": NOTHING_READ}) for name in "ab"]
    assert "nothing in the note to read" in compare(unread).no_agreement
    assert "no label in common" in compare([prediction("a"), prediction("b", labels="Gene")]).no_agreement
    assert compare([prediction("d", (0, 3, "Disease")), prediction("e", (0, 3, "Disease"))]).no_agreement is None


def test_a_filter_that_hides_all_leaves_nothing_to_compare():
    arms = [prediction(name, (0, 3, "Disease")) for name in "ab"]
    assert compare(arms).agreement == 1.0
    assert compare([apply_filter(arm, Filter(min_score=1.0)) for arm in arms]).agreement is None
    documents = [classified(name, "x y") for name in "ab"]
    assert compare([apply_filter(arm, Filter(min_score=1.0)) for arm in documents]).agreement is None
    assert {row.mean for row in agreement_rows([apply_filter(arm, Filter(min_score=1.0)) for arm in arms])} == {None}


def test_one_arm_or_one_name_twice_is_refused():
    with pytest.raises(BadSpec, match="two or more"):
        compare([prediction("a")])
    with pytest.raises(BadSpec, match="a is given twice"):
        compare([prediction("a"), prediction("a")])


def test_the_public_shape():
    comparison = compare([prediction("a", (0, 5, "Disease")), prediction("b")]).to_json()
    assert set(comparison) == {"predictions", "agreement", "disagreements"}
    assert set(comparison["predictions"][0]) == {"model", "task", "spans", "labels", "coverage", "cost"}


def test_disagreements_are_grouped_by_kind_and_by_who_alone_found_them():
    both = "Chemical Disease"
    one = prediction("a", (0, 3, "Disease"), (10, 13, "Disease"), (20, 23, "Disease"), (40, 43, "Disease"), labels=both)
    other = prediction("b", (10, 13, "Chemical"), (20, 25, "Disease"), (30, 33, "Disease"), labels=both)
    third = prediction(
        "c", (0, 3, "Disease"), (10, 13, "Disease"), (20, 23, "Disease"), labels=both, unread=((28, 50),)
    )
    comparison = compare([one, other, third])
    assert [(item.kind, item.start) for item in comparison.disagreements] == [
        ("only", 0),
        ("label", 10),
        ("boundary", 20),
        ("only", 30),
        ("only", 40),
    ]
    assert group_by_kind(comparison) == [
        Group("only", ("a",), (4,)),
        Group("only", ("b",), (3,)),
        Group("only", ("a", "c"), (0,)),
        Group("label", (), (1,)),
        Group("boundary", (), (2,)),
    ]
    assert group_by_kind(compare([one, third])) == [Group("unread", ("c",), (0,))]


SPANS = st.lists(st.tuples(st.integers(0, 30), st.integers(1, 8), st.sampled_from(["Chemical", "Disease"])), max_size=8)


@settings(deadline=None)
@given(SPANS, SPANS)
def test_disagreements_are_disjoint_in_order_and_hold_each_span_that_is_not_shared(first, second):
    arms = [
        prediction(name, *((a, a + size, label) for a, size, label in spans), labels="Chemical Disease")
        for name, spans in (("a", first), ("b", second))
    ]
    comparison = compare(arms)
    regions = [(item.start, item.end) for item in comparison.disagreements]
    assert all(a < b <= c < d for (a, b), (c, d) in zip(regions, regions[1:], strict=False))
    places = [{(span.start, span.end, span.label) for span in arm.spans} for arm in arms]
    for start, end, _ in places[0] ^ places[1]:
        assert any(a <= start and end <= b for a, b in regions)
    assert (comparison.agreement in (1.0, None)) == (places[0] == places[1]) == (not regions)
    assert (comparison.agreement is None) == (not places[0] and not places[1])
    assert sorted(index for group in group_by_kind(comparison) for index in group.indices) == list(range(len(regions)))
    assert compare(arms[::-1]).agreement == comparison.agreement


# Labels of the whole note


def classified(model: str, labels: str, *, threshold: float | None = None, scores=(0.8, 0.6, 0.2, 0.1)) -> Prediction:
    """An arm that knows these labels, likeliest first."""
    ranked = tuple(LabelScore(label=label, score=score) for label, score in zip(labels.split(), scores, strict=False))
    changes = {"task": "classification", "labels": ranked, "threshold": threshold}
    return prediction(model, labels=labels).model_copy(update=changes)


def test_the_share_of_pairs_with_the_same_label_is_the_agreement():
    arms = [classified("a", "x y"), classified("b", "x y"), classified("c", "y x")]
    comparison = compare(arms)
    assert comparison.agreement == pytest.approx(1 / 3)
    assert [item.to_json() for item in comparison.disagreements] == [
        {"start": None, "end": None, "votes": {"a": "x", "b": "x", "c": "y"}}
    ]
    assert comparison.disagreements[0].kind == "document"
    assert votes(*arms[:2]) == [] and compare(arms[:2]).agreement == 1


def test_several_labels_agree_by_what_both_give_and_differ_label_by_label():
    one, other = classified("a", "x y z", threshold=0.5), classified("b", "y w x z", threshold=0.5)
    assert one.chosen == ("x", "y") and other.chosen == ("y", "w")
    assert compare([one, other]).agreement == pytest.approx(1 / 2), "w cannot be said by a, so only x is not shared"
    assert votes(one, other) == [(None, None, {"a": "x", "b": None})]
    none = classified("c", "x y z", threshold=0.9)
    assert label_agreement(none, none.model_copy()) is None
    assert label_agreement(one, none) == 0.0


def test_one_label_beside_several():
    one, several = classified("a", "x y z"), classified("b", "y x z", threshold=0.5)
    assert label_agreement(one, several) == label_agreement(several, one) == pytest.approx(1 / 2)
    assert votes(one, several) == [(None, None, {"a": None, "b": "y"})]


def test_arms_without_a_label_in_common_or_with_nothing_to_read_are_not_compared():
    one, other = classified("a", "x y"), classified("b", "v w")
    assert compare([one, other]).agreement is None and votes(one, other) == []
    empty = one.model_copy(update={"labels": (), "model": "c"})
    assert compare([one, empty]).agreement is None and votes(one, empty) == []


def test_arms_of_two_kinds_are_compared_among_themselves():
    tagger = prediction("t", (0, 5, "Disease"))
    document = classified("d", "Disease Other")
    assert compare([tagger, document]).agreement is None and votes(tagger, document) == []
    arms = [tagger, prediction("u"), document, classified("e", "Other Disease")]
    assert compare(arms).agreement == 0
    assert votes(*arms) == [
        (None, None, {"d": "Disease", "e": "Other"}),
        (0, 5, {"t": "Disease", "u": None}),
    ]
