"""Scores of labelled documents against scikit-learn where it is installed, and against figures worked out by hand."""

import numpy as np
import pytest
import torch
from tiny_pair import TAGS, bert
from transformers import AutoTokenizer

from trainer import inference
from trainer.datasets import LabelledDocument
from trainer.errors import BadData, BadSpec
from trainer.evaluation import document_scores
from trainer.evaluation.document_scores import (
    Answers,
    average_precision,
    best_threshold,
    bootstrap,
    metrics,
    roc_auc,
)

LABELS = ("a", "b", "c")
ONCE = np.ones((1, 4))


def graded(*, multi_label: bool, documents=60, seed=0, labels=LABELS) -> Answers:
    noise = np.random.default_rng(seed)
    shape = (documents, len(labels))
    scores = noise.random(shape).round(1)  # with ties
    if multi_label:
        return Answers(labels, noise.random(shape) < 0.4, scores >= 0.5, scores, True)
    gold, decided = (noise.integers(0, len(labels) - (place == 0), documents) for place in range(2))  # c is never given
    numbers = np.arange(len(labels))
    return Answers(labels, numbers == gold[:, None], numbers == decided[:, None], scores, False)


@pytest.mark.parametrize("multi_label", [False, True])
def test_the_scores_are_those_of_scikit_learn(multi_label):
    judge = pytest.importorskip("sklearn.metrics")
    case = graded(multi_label=multi_label)
    gold, decided = (part if multi_label else part.argmax(1) for part in (case.gold, case.predicted))
    scores = metrics(case)
    assert scores["accuracy"] == pytest.approx(judge.accuracy_score(gold, decided))
    for average in ("macro", "micro"):
        value = judge.f1_score(gold, decided, average=average, zero_division=0)
        assert scores[f"{average}_f1"] == pytest.approx(value)
    parts = judge.precision_recall_fscore_support(gold, decided, labels=[0, 1, 2], zero_division=0)
    for name, values in zip(("precision", "recall", "f1", "support"), parts, strict=True):
        assert [scores[f"{name}.{label}"] for label in LABELS] == pytest.approx(list(values))
    if multi_label:
        for name, score in (("roc_auc", judge.roc_auc_score), ("average_precision", judge.average_precision_score)):
            each = [score(gold[:, n], case.probabilities[:, n]) for n in range(3)]
            assert [scores[f"{name}.{label}"] for label in LABELS] == pytest.approx(each)
            assert scores[f"macro_{name}"] == pytest.approx(np.mean(each))


def test_with_one_label_each_micro_f1_is_accuracy():
    """Trap T14: so it says nothing more."""
    scores = metrics(graded(multi_label=False))
    assert scores["micro_f1"] == scores["accuracy"]


def test_macro_f1_is_over_the_labels_that_occur():
    rows = np.array([[True, False, False], [True, False, False], [False, True, False]])
    decided = np.array([[True, False, False], [False, True, False], [False, True, False]])
    scores = metrics(Answers(LABELS, rows, decided, decided.astype(float), False))
    assert scores["f1.a"] == scores["f1.b"] == pytest.approx(2 / 3)
    assert scores["macro_f1"] == pytest.approx(2 / 3), "c is neither given nor predicted, and does not count as 0"
    assert scores["f1.c"] == 0 and scores["support.c"] == 0


def test_ranking_scores_by_hand():
    gold, scores = np.array([True, False, True, False]), np.array([0.9, 0.8, 0.8, 0.1])
    assert roc_auc(gold, scores, ONCE)[0] == (2 + 1.5) / 4
    assert average_precision(gold, scores, ONCE)[0] == pytest.approx((1 + 2 / 3) / 2)
    assert np.isnan(roc_auc(np.ones(4, bool), scores, ONCE)[0])


def test_a_weight_is_a_document_that_comes_up_more_than_once():
    noise = np.random.default_rng(0)
    gold, scores, times = noise.random(20) < 0.5, noise.random(20).round(1), noise.integers(0, 4, 20)
    for measure in (roc_auc, average_precision):
        repeated = measure(np.repeat(gold, times), np.repeat(scores, times), np.ones((1, times.sum())))
        assert measure(gold, scores, times[None])[0] == pytest.approx(repeated[0])


@pytest.mark.parametrize("multi_label", [False, True])
def test_intervals_are_those_of_drawing_documents(multi_label):
    case = graded(multi_label=multi_label, documents=80)
    intervals, noise = bootstrap(case, samples=2000), np.random.default_rng(1)
    drawn = [metrics(case.where(noise.integers(0, 80, 80))) for _ in range(600)]
    for name in ("accuracy", "macro_f1", "f1.a", *(["macro_roc_auc"] if multi_label else [])):
        limits = np.percentile([each[name] for each in drawn], [2.5, 97.5])
        assert intervals[name] == pytest.approx(list(limits), abs=0.03), name
    assert not any(name.startswith("support") for name in intervals)


# A whole evaluation


@pytest.fixture(scope="module")
def tokenizer(tiny_model):
    return AutoTokenizer.from_pretrained(tiny_model)


def classifier(tokenizer, head="classification"):
    torch.set_num_threads(1)
    return bert(head, layers=1, vocabulary=len(tokenizer))


def documents(*labels: tuple[str, ...]):
    words = ["fever", "cough and chills " * 40, "no pain " * 300, "rash"]
    return [LabelledDocument(words[n % 4], labels_of, n + 1) for n, labels_of in enumerate(labels)]


def test_a_report_has_the_long_documents_by_themselves_and_what_it_cost(tokenizer):
    model, notes = classifier(tokenizer), documents(*[(TAGS[n % 3],) for n in range(12)])
    report = document_scores.evaluate(model, tokenizer, notes, samples=50, max_tokens=32)
    lengths = np.array([len(tokenizer(each.text, add_special_tokens=False)["input_ids"]) for each in notes])
    assert report["n"] == 12 and report["metrics"]["over_512.n"] == (lengths > 512).sum() == 3
    assert "over_1024.n" not in report["metrics"], "none is so long"
    probabilities = inference.classify([each.text for each in notes], model, tokenizer, max_tokens=32).probabilities
    right = np.array([TAGS[row.argmax()] == each.labels[0] for row, each in zip(probabilities, notes, strict=True)])
    assert report["metrics"]["accuracy"] == right.mean()
    assert report["metrics"]["over_512.accuracy"] == right[lengths > 512].mean()
    assert set(report["cost"]) >= {"tokens_per_second", "latency_ms_p50", "latency_ms_p50_at_4096"}
    assert set(report["intervals"]) >= {"accuracy", "macro_f1", "micro_f1", "over_512.accuracy", "over_512.macro_f1"}


def test_labels_outside_the_models_label_set_are_not_scored(tokenizer):
    model = classifier(tokenizer, "several labels")
    with pytest.raises(BadSpec, match="the dev split has the labels Fever; the model knows"):
        document_scores.evaluate(model, tokenizer, documents(("Fever",)), split="dev")
    with pytest.raises(BadData, match="nothing to score in the test split"):
        document_scores.evaluate(model, tokenizer, [], split="test")
    with pytest.raises(BadSpec, match="no head for whole documents"):
        document_scores.scores(
            bert("ner", layers=1, vocabulary=len(tokenizer)), tokenizer, [LabelledDocument("x", (), 1)]
        )


# --- Thresholds


def best_f1(gold, scores, threshold):
    correct = (gold & (scores >= threshold)).sum()
    return 2 * correct / max(1, gold.sum() + (scores >= threshold).sum())


def test_a_threshold_has_the_best_f1_of_all():
    noise = np.random.default_rng(0)
    for _ in range(50):
        gold, scores = noise.random(30) < 0.3, noise.random(30).round(2)
        gold[0] = True
        chosen = best_threshold(gold, scores)
        every = [best_f1(gold, scores, each) for each in np.linspace(0, 1, 401)]
        assert best_f1(gold, scores, chosen) == pytest.approx(max(every)) and 0 <= chosen < 1


def test_of_equal_thresholds_the_usual_one_is_taken():
    assert best_threshold(np.array([True, False]), np.array([0.9, 0.2])) == 0.5
    assert best_threshold(np.array([True, False]), np.array([0.4, 0.2])) == pytest.approx(0.3)
    assert best_threshold(np.array([False, False]), np.array([0.9, 0.2])) == 0.5


def test_a_model_gives_the_labels_that_reach_their_own_thresholds(tokenizer):
    model, documents = classifier(tokenizer, head="several labels"), [LabelledDocument("A cough.", ("O",), 1)]
    read = inference.classify(["A cough."], model, tokenizer).probabilities[0]
    own = dict(zip(TAGS, (read[0] + 0.01, read[1] - 0.01, read[2]), strict=True))
    model.config.label_thresholds = own
    prediction = inference.predict("A cough.", model, tokenizer, name="m")
    assert set(prediction.chosen) == set(TAGS[1:])
    assert {each["label"]: each["threshold"] for each in prediction.to_json()["labels"]} == own
    scores = document_scores.scores(model, tokenizer, documents)
    assert scores["recall.O"] == 0 and scores["accuracy"] == 0
    chosen = document_scores.best_thresholds(model, tokenizer, documents)
    assert chosen["O"] <= read[0] and chosen[TAGS[1]] == 0.5
