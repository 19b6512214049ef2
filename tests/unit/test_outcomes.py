"""What an evaluation stores of each item: counts, kinds of mistakes and places, and the scores that follow."""

import numpy as np
import pytest

from trainer.datasets.rows.words import words_in
from trainer.evaluation import document_scores, outcomes, span_scores
from trainer.evaluation.document_scores import Answers
from trainer.evaluation.outcomes import Outcomes

TEXTS = ["no fever or dry cough today", "aspirin for severe chest pain", "nothing here"]
GOLD = ["O B-problem O B-problem I-problem O", "B-drug O B-problem I-problem I-problem", "O O"]
READ = ["O B-problem O O B-problem O", "B-problem O B-problem I-problem I-problem", "B-drug O"]


def of_spans(gold=GOLD, read=READ, **options) -> Outcomes:
    places = [words_in(text).places for text in TEXTS]
    tags = [[line.split() for line in lines] for lines in (gold, read)]
    return outcomes.of_spans(places, *tags, measures="f1", unit="sentences", **options)


def of_labels(gold, predicted, labels="abc", measures="macro_f1", **options) -> Outcomes:
    one, other = (np.array([[label in row for label in labels] for row in rows]) for rows in (gold, predicted))
    return outcomes.of_labels(labels, one, other, other * 0.75, measures=measures, unit="documents", **options)


def test_each_mistake_has_its_kind_and_its_place_in_the_text():
    found = of_spans().mistakes
    assert [(each.item, each.kind, each.gold, each.predicted) for each in found] == [
        (0, "boundary", "problem", "problem"),
        (1, "label", "drug", "problem"),
        (2, "spurious", None, "drug"),
    ]
    words = [[TEXTS[each.item][start:end] for start, end in each.places] for each in found]
    assert words == [["dry cough", "cough"], ["aspirin"], ["nothing"]]
    assert [each.kind for each in of_spans(read=["O " * len(line.split()) for line in GOLD]).mistakes] == ["missed"] * 4


@pytest.mark.parametrize(
    ("gold", "predicted", "kinds"),
    [
        ([("a", 1, 2)], [("a", 1, 2)], []),
        ([("a", 1, 2)], [("b", 1, 2), ("a", 2, 3)], ["label", "spurious"]),  # the same place goes first
        ([("a", 1, 4)], [("b", 1, 2), ("a", 3, 5)], ["boundary", "spurious"]),  # then the same label
        ([("a", 1, 4), ("a", 6, 7)], [("a", 2, 6)], ["boundary", "missed"]),  # each span is used once
        ([("a", 1, 2)], [("b", 2, 3)], ["label"]),
        ([("a", 1, 2)], [("a", 3, 4)], ["missed", "spurious"]),
    ],
)
def test_every_wrong_span_is_in_one_mistake(gold, predicted, kinds):
    assert [kind for kind, *_ in outcomes.compare_spans(set(gold), set(predicted))] == kinds


def test_a_right_span_with_another_assertion_is_a_mistake_of_its_own_kind():
    values = [{("problem", 1, 1): {"assertion": ("absent", "present")}}, {}, {}]
    (mistake,) = [each for each in of_spans(attributes=values).mistakes if each.kind == "attribute"]
    assert (mistake.attribute, mistake.gold, mistake.predicted) == ("assertion", "absent", "present")
    assert TEXTS[0][slice(*mistake.places[0])] == "fever"
    assert of_spans(attributes=values).right().tolist() == of_spans().right().tolist() == [0, 0, 0]


def test_the_score_of_spans_is_that_of_span_scores():
    stored = of_spans()
    expected = span_scores.scores([line.split() for line in GOLD], [line.split() for line in READ])
    assert outcomes.score("f1", stored.table(), stored.right()) == pytest.approx(expected["f1"])
    assert {row["label"]: row["f1"] for row in outcomes.by_label(stored)} == pytest.approx(
        {name: expected[f"f1.{name}"] for name in ("problem", "drug")}
    )


@pytest.mark.parametrize("measures", ["macro_f1", "micro_f1", "accuracy"])
@pytest.mark.parametrize("negative", [None, "c"])
def test_the_score_of_labels_is_that_of_document_scores(measures, negative):
    random = np.random.default_rng(1)
    gold, predicted = (["abc"[n] for n in random.integers(0, 3, 50)] for _ in range(2))
    stored = of_labels(gold, predicted, measures=measures, negative=negative)
    one, other = (np.array([[label == each for label in "abc"] for each in rows]) for rows in (gold, predicted))
    expected = document_scores.metrics(Answers(tuple("abc"), one, other, other * 1.0, False, negative))[measures]
    assert outcomes.score(measures, stored.table(), stored.right()) == pytest.approx(expected)


def test_mistakes_of_labels_say_what_was_answered_instead():
    stored = of_labels(["a", "ab", "", "c"], ["b", "a", "b", "c"], negative="c")
    mistakes = [(each.item, each.kind, each.gold, each.predicted, each.score) for each in stored.mistakes]
    assert mistakes == [(0, "label", "a", "b", 0.75), (1, "missed", "b", None, None), (2, "spurious", None, "b", 0.75)]
    assert outcomes.confusions(stored) == {("a", "a"): 1, ("b", "b"): 0, ("a", "b"): 1, ("b", ""): 1, ("", "b"): 1}


def test_the_worst_documents_come_first_and_parts_count_for_their_document():
    stored = of_labels(["a", "a", "a"], ["b", "b", "b"]).model_copy(update={"documents": (4, 7, 7)})
    assert [(document, number) for document, number, _ in outcomes.worst(stored)] == [(7, 2), (4, 1)]


def test_outcomes_are_stored_without_text_and_read_back(tmp_path):
    stored = of_spans()
    assert Outcomes.read(tmp_path) is None
    stored.write(tmp_path)
    text = (tmp_path / outcomes.FILE).read_text()
    assert Outcomes.read(tmp_path) == stored and "cough" not in text and "aspirin" not in text
    (tmp_path / outcomes.FILE).write_text("{}")
    with pytest.raises(ValueError):
        Outcomes.read(tmp_path)
