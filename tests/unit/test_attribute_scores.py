"""Scores of overlap and of attributes, by hand; and how the outputs of a tagger are read as attributes."""

import numpy as np
import pytest

from trainer.datasets import attributes, tags
from trainer.datasets.attributes import Attribute
from trainer.evaluation import attribute_scores
from trainer.inference import WordOutputs

NAMES = ("O", "B-problem", "I-problem", "B-drug", "I-drug", "@assertion=absent", "@assertion=present", "@size=small")


def test_outputs_that_begin_with_an_at_sign_are_values_and_the_others_tags():
    assert attributes.tag_names(NAMES) == NAMES[:5]
    assert tags.read(NAMES).kinds == ("drug", "problem")
    assertion, size = attributes.read(NAMES, {"assertion": ["problem"]}, ("drug", "problem"))
    assert assertion == Attribute("assertion", ("absent", "present"), 5, ("problem",))
    assert size == Attribute("size", ("small",), 7, ("drug", "problem"))  # nothing says who carries it
    assert (assertion.outputs, size.outputs) == (slice(5, 7), slice(7, 8))
    assert attributes.output_names({"assertion": ["absent", "present"]}) == NAMES[5:7]


def outputs(*logits: tuple[float, float], words: list[str] | None = None) -> WordOutputs:
    """Words whose logits for absent and present are these."""
    values = np.array(logits, dtype=np.float32).reshape(-1, 2)
    return WordOutputs(words or ["O"] * len(values), [1.0] * len(values), values, 5)


ASSERTION = Attribute("assertion", ("absent", "present"), 5, ("problem",))


def test_a_span_has_the_likeliest_value_of_the_mean_of_its_words():
    said = outputs((0, 0), (3, 0), (0, 1))
    value = said.attributes(1, 2, "problem", [ASSERTION])["assertion"]
    assert value.value == "absent"
    assert value.score == pytest.approx(1 / (1 + np.exp(-1)))  # logits 1.5 and 0.5
    assert said.attributes(2, 2, "problem", [ASSERTION])["assertion"].value == "present"
    assert said.attributes(1, 2, "drug", [ASSERTION]) == {}


def test_overlap_counts_a_span_that_shares_a_word_with_one_of_its_type():
    gold = [["B-problem", "I-problem", "O", "B-drug"]]
    predicted = [["O", "B-problem", "O", "B-problem"]]
    counts = attribute_scores.overlap_counts(gold, predicted)
    assert counts.tolist() == [[1, 2, 1, 2]]  # one of two predicted, one of two gold
    assert attribute_scores.overlap_f1(counts.sum(0)) == pytest.approx(0.5)
    assert attribute_scores.overlap_f1(attribute_scores.overlap_counts(gold, gold).sum(0)) == pytest.approx(1.0)
    assert attribute_scores.overlap_f1(attribute_scores.overlap_counts([["O"]], [["O"]]).sum(0)) == 0


GOLD = [["B-problem", "O", "B-problem", "B-drug"], ["B-problem", "O", "O", "O"]]
STATED = [{"assertion": ["absent", "", "present", ""]}, {"assertion": ["present", "", "", ""]}]
SAID = [outputs((2, 0), (0, 0), (0, 2), (2, 0)), outputs((2, 0), (0, 0), (0, 0), (0, 0))]


def test_values_are_scored_on_gold_spans():
    table = attribute_scores.confusions(GOLD, STATED, SAID, ASSERTION)
    assert table.sum(0).tolist() == [[1, 0], [1, 1]]
    scores = attribute_scores.value_scores(table.sum(0), ASSERTION)
    assert scores["assertion.accuracy"] == pytest.approx(2 / 3)
    assert scores["assertion.f1.absent"] == pytest.approx(2 / 3)
    assert scores["assertion.f1.present"] == pytest.approx(2 / 3)
    assert scores["assertion.macro_f1"] == pytest.approx(2 / 3)


def test_a_value_without_gold_spans_has_no_part_in_the_macro_mean():
    scores = attribute_scores.value_scores(np.array([[3, 1], [0, 0]]), ASSERTION)
    assert scores["assertion.macro_f1"] == pytest.approx(2 * 3 / (4 + 3))


def test_end_to_end_needs_type_boundaries_and_value():
    predicted = [["B-problem", "O", "B-problem", "B-drug"], ["B-problem", "I-problem", "O", "O"]]
    counts = attribute_scores.end_to_end_counts(GOLD, STATED, predicted, SAID, ASSERTION)
    assert counts.tolist() == [[3, 3, 3], [0, 1, 1]]  # the last one has other boundaries and another value
    assert attribute_scores.f1(counts.sum(0)) == pytest.approx(0.75)


def test_the_bootstrap_draws_sentences():
    counts = np.array([[1, 1, 1], [0, 1, 1]])
    drawn = attribute_scores.resampled(counts, 200, 0)
    assert drawn.shape == (200, 3) and (drawn[:, 1] == 2).all() and set(drawn[:, 0]) == {0, 1, 2}
    low, high = attribute_scores.interval(attribute_scores.f1(drawn))
    assert (low, high) == (0.0, 1.0)
