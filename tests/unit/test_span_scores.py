"""Scores against counts done by hand and against seqeval, intervals, and the report of a real small model."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from seqeval.metrics import classification_report

from trainer import inference
from trainer.datasets import Sentence
from trainer.errors import BadData, BadSpec
from trainer.evaluation import span_scores

GOLD = [["B-D", "I-D", "O", "B-C"], ["O", "O"], ["B-C", "I-C", "B-C"]]
SAID = [["B-D", "I-D", "O", "B-D"], ["B-C", "O"], ["B-C", "I-C", "I-C"]]
SENTENCES = [
    Sentence(("Naïve", "metoprolol", "toxicity", "."), ("O", "B-Disease", "I-Disease", "O")),
    Sentence(("No", "pneumonia", "was", "seen"), ("O", "B-Disease", "O", "O")),
    Sentence(("Stable", "."), ("O", "O")),
] * 4
tags = st.sampled_from(["O", "B-D", "I-D", "B-C", "I-C"])
pairs = st.lists(st.lists(st.tuples(tags, tags), max_size=8), min_size=1, max_size=12)


@pytest.fixture(scope="module")
def tagger(tiny_model):
    from transformers import AutoModelForTokenClassification, AutoTokenizer

    torch.set_num_threads(1)
    model = AutoModelForTokenClassification.from_pretrained(tiny_model)
    torch.nn.init.normal_(model.classifier.weight, generator=torch.Generator().manual_seed(3))
    return model.eval(), AutoTokenizer.from_pretrained(tiny_model)


def test_scores_are_those_counted_by_hand():
    """Gold: D, C | none | CC, C. Said: D (right), D (wrong type) | C (nothing there) | one C too long: 1 of 4 said."""
    scores = span_scores.scores(GOLD, SAID)
    assert scores["precision"] == 1 / 4
    assert scores["recall"] == 1 / 4
    assert scores["f1"] == 1 / 4
    assert (scores["precision.D"], scores["recall.D"], scores["f1.D"]) == (1 / 2, 1, 2 / 3)
    assert (scores["precision.C"], scores["recall.C"], scores["f1.C"]) == (0, 0, 0)


@given(pairs=pairs)
@settings(max_examples=60, deadline=None)
def test_scores_equal_seqeval(pairs):
    gold, predicted = ([[pair[side] for pair in sentence] for sentence in pairs] for side in (0, 1))
    scores = span_scores.scores(gold, predicted)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        report = classification_report([*gold, ["B-C"]], [*predicted, ["B-C"]], output_dict=True)
    again = span_scores.scores([*gold, ["B-C"]], [*predicted, ["B-C"]])  # seqeval fails where there is no entity at all
    assert set(scores) <= set(again)
    for suffix, name in (("", "micro avg"), (".C", "C"), (".D", "D")):
        for mine, theirs in (("precision", "precision"), ("recall", "recall"), ("f1", "f1-score")):
            if name in report:
                assert again[mine + suffix] == pytest.approx(report[name][theirs])


def test_scoring_pieces_inflates_f1():
    """Trap T1: a mention of 3 + 2 pieces whose second word is missed is wrong as words, two thirds right as pieces."""
    words = [["B-D", "I-D"]], [["B-D", "O"]]
    assert span_scores.scores(*words)["f1"] == 0
    pieces = [["B-D"] * 3 + ["I-D"] * 2], [["B-D"] * 3 + ["O"] * 2]
    assert round(span_scores.scores(*pieces)["f1"], 2) == 0.67


def test_nothing_to_count_scores_zero():
    assert span_scores.scores([["O"]], [["O"]]) == {"precision": 0, "recall": 0, "f1": 0}
    assert span_scores.bootstrap([["O"]], [["O"]])["f1"] == [0, 0]
    assert span_scores.scores([], [])["f1"] == 0


def test_tags_that_do_not_pair_up_are_refused_with_the_place():
    with pytest.raises(BadData, match="3 sentences of gold tags and 2"):
        span_scores.scores(GOLD, SAID[:2])
    with pytest.raises(BadData, match="sentence 2 has 2 gold tags and 1"):
        span_scores.scores(GOLD[:2], [SAID[0], ["O"]])


def test_the_interval_is_that_of_resampled_sentences():
    """The shortcut over equal sentences against the plain bootstrap: indices drawn, tags scored."""
    rng = np.random.default_rng(5)
    gold = [["B-D", "O", "B-C"] for _ in range(60)]
    predicted = [[*rng.choice([["B-D"], ["O"]]), "O", *rng.choice([["B-C"], ["B-D"], ["B-C"]])] for _ in range(60)]
    drawn = [rng.integers(60, size=60) for _ in range(400)]
    plain = [span_scores.scores([gold[i] for i in chosen], [predicted[i] for i in chosen]) for chosen in drawn]
    interval = span_scores.bootstrap(gold, predicted, samples=4000)
    assert set(interval) == set(span_scores.scores(gold, predicted))
    for name in ("f1", "precision", "recall.D", "f1.C"):
        expected = np.percentile([scores[name] for scores in plain], [2.5, 97.5])
        np.testing.assert_allclose(interval[name], expected, atol=0.02)


def test_intervals_hold_the_score_repeat_and_narrow_with_more_sentences():
    interval = span_scores.bootstrap(GOLD * 20, SAID * 20)
    assert interval == span_scores.bootstrap(GOLD * 20, SAID * 20)
    assert interval != span_scores.bootstrap(GOLD * 20, SAID * 20, seed=1)
    for name, score in span_scores.scores(GOLD, SAID).items():
        assert interval[name][0] <= score <= interval[name][1]
    wide, narrow = (span_scores.bootstrap(GOLD * n, SAID * n)["f1"] for n in (5, 200))
    assert wide[1] - wide[0] > 3 * (narrow[1] - narrow[0]) > 0
    assert span_scores.bootstrap(GOLD * 9, GOLD * 9)["f1"] == [1, 1]


def test_the_report_has_the_public_shape(tagger):
    report = span_scores.evaluate(*tagger, SENTENCES, samples=50)
    assert set(report) == {"metrics", "n", "intervals", "cost", "measured_on", "outcomes"}
    assert report["n"] == len(SENTENCES)
    assert set(report["intervals"]) == set(report["metrics"]) >= {"f1", "precision", "recall", "f1.Disease"}
    words, gold = zip(*SENTENCES, strict=True)
    predicted = inference.tag_words(words, *tagger)
    gold = inference.expand(words, gold, tagger[1])
    overlap = {"overlap_f1": report["metrics"]["overlap_f1"]}
    assert report["metrics"] == span_scores.scores(gold, predicted) | overlap
    assert report["metrics"] == span_scores.word_scores(*tagger, SENTENCES)
    cost = report["cost"]
    assert cost["params"] == sum(p.numel() for p in tagger[0].parameters())
    assert cost["disk_bytes"] == 4 * cost["params"]
    assert 0 < cost["latency_ms_p50"] <= cost["latency_ms_p95"]
    assert cost["tokens_per_second"] > 0
    assert 50e6 < cost["peak_memory_bytes"] < 50e9


def test_the_papers_scheme_counts_pieces(tagger):
    words, gold = zip(*SENTENCES, strict=True)
    model, tokenizer = tagger
    pieces = inference.tag_words(words, model, tokenizer, labelling="all")
    expected = span_scores.scores(inference.expand(words, gold, tokenizer, labelling="all"), pieces)
    metrics = span_scores.evaluate(model, tokenizer, SENTENCES, labelling="all", samples=9)["metrics"]
    assert metrics == expected | {"overlap_f1": metrics["overlap_f1"]}
    assert expected != span_scores.word_scores(model, tokenizer, SENTENCES)


def test_disk_bytes_are_those_of_the_weights_in_the_folder(tagger, tiny_model):
    report = span_scores.evaluate(*tagger, SENTENCES[:2], samples=9, folder=tiny_model)
    assert report["cost"]["disk_bytes"] == (tiny_model / "model.safetensors").stat().st_size


def test_types_that_the_model_cannot_predict_are_refused_with_both_sets(tagger):
    sentences = [*SENTENCES, Sentence(("aspirin",), ("B-Chemical",))]
    with pytest.raises(
        BadSpec, match=r"the dev split has the entity types Chemical, Disease; .* knows Disease, not Chemical"
    ):
        span_scores.evaluate(*tagger, sentences, split="dev")
    with pytest.raises(BadData, match="no sentence"):
        span_scores.evaluate(*tagger, [])
