"""Trivial answers that a model has to beat, and scores of parts of the items."""

import gzip
import json

import numpy as np
import pytest

from trainer.datasets import Sentence
from trainer.datasets.sources import sources
from trainer.evaluation import baselines, outcomes, slices
from trainer.evaluation.outcomes import Outcomes
from trainer.resolved import ResolvedDataset


def sentence(words: str, tags: str) -> Sentence:
    return Sentence(tuple(words.split()), tuple(tags.split()))


TRAIN = [
    sentence("Chest pain after aspirin", "B-problem I-problem O B-drug"),
    sentence("pain in the chest", "B-problem O O O"),
    sentence("on and on on went", "O O B-drug O O"),
    sentence("aspirin helped", "B-drug O"),
]


def test_the_dictionary_tags_the_longest_mention_whatever_its_case():
    dictionary = baselines.Dictionary(TRAIN)
    assert dictionary.tags(["CHEST", "PAIN", "and", "pain", ",", "Aspirin"]) == [
        *("B-problem", "I-problem", "O", "B-problem", "O", "B-drug")
    ]
    assert dictionary.tags(["on", "it"]) == ["O", "O"]  # more often no mention
    assert dictionary.knows(["On"]) and not dictionary.knows(["and"]) and dictionary.knows(["chest", "Pain"])
    assert baselines.Dictionary([]).tags(["a"]) == ["O"]


def test_the_majority_is_the_most_frequent_label_that_says_something():
    train = [("none",)] * 9 + [("b",)] * 3 + [("a",)] * 2 + [("unknown",)] * 20
    predicted = baselines.majority(train, ["a", "b", "none"], 2, negative="none")
    assert predicted.tolist() == [[False, True, False]] * 2
    assert not baselines.majority([], ["a"], 2, negative=None).any()


def labelled(right: list[int], labels: str = "ab") -> Outcomes:
    gold = np.arange(len(right))[:, None] % len(labels) == np.arange(len(labels))
    predicted = gold & (np.array(right)[:, None] == 1)
    return outcomes.of_labels(labels, gold, predicted, gold * 1.0, measures="micro_f1", unit="documents")


def test_parts_by_length_hold_a_third_each_and_every_item_once():
    parts = slices.by_length([1, 2, 3, 4, 5, 6, 7, 8, 9])
    assert list(parts) == ["up to 3 words", "4 to 6 words", "more than 6 words"]
    assert sum(parts.values()).tolist() == [1] * 9
    assert list(slices.by_length([4, 4, 4])) == ["up to 4 words"]


def test_a_part_has_the_score_of_its_items_and_few_items_have_none():
    stored = labelled([1] * 6 + [0] * 6)
    masks = {"good": np.arange(12) < 6, "bad": np.arange(12) >= 6, "few": np.arange(12) < 4}
    rows = slices.of_items(stored, "half", masks)
    assert [(row["part"], row["n"], row["score"], row["interval"]) for row in rows] == [
        ("good", 6, 1.0, [1.0, 1.0]),
        ("bad", 6, 0.0, [0.0, 0.0]),
    ]


def test_rare_labels_are_scored_apart_where_there_are_rare_ones_and_others():
    stored = labelled([1, 0, 1, 0, 1, 0])  # a is right, b is not
    rows = slices.of_labels(stored, {"a": 400, "b": 3})
    assert {row["part"]: row["score"] for row in rows} == {"fewer than 50 in train": 0.0, "50 or more in train": 1.0}
    assert slices.of_labels(stored, {"a": 400, "b": 300}) == []


def test_mentions_that_train_knows_are_counted_apart():
    texts = ["no chest pain or cough", "aspirin"]
    gold = [[("problem", (3, 13)), ("problem", (17, 22))], [("drug", (0, 7))]]
    mistakes = (
        outcomes.Mistake(item=0, kind="missed", gold="problem", places=((17, 22),)),
        outcomes.Mistake(item=0, kind="spurious", predicted="problem", places=((0, 2),)),
    )
    counts = ((0, 1, 1, 2, 2), (1, 0, 1, 1, 1))
    stored = Outcomes(measures="f1", unit="x", labels=("drug", "problem"), n=2, counts=counts, mistakes=mistakes)
    known, unknown = slices.mention_counts(stored, texts, gold, baselines.Dictionary(TRAIN).knows)
    assert known.tolist() == [[1, 1, 1], [1, 1, 1]] and unknown.tolist() == [[0, 1, 1], [0, 0, 0]]
    assert (known + unknown).tolist() == stored.table().sum(axis=1).tolist()
    assert [row["n"] for row in slices.of_mentions(stored, known, unknown)] == [2, 1]


@pytest.mark.parametrize("ending", ["jsonl", "jsonl.gz"])
def test_the_source_of_each_row_is_read_where_every_row_is_an_item(tmp_path, ending):
    text = "".join(json.dumps({"text": "x", "source": name}) + "\n" for name in ("a", "b", "a"))
    (tmp_path / f"test.{ending}").write_bytes(gzip.compress(text.encode()) if ending.endswith("gz") else text.encode())
    dataset = ResolvedDataset(reference="d", path=str(tmp_path), sha256="0" * 64)
    assert sources(dataset, "test", 3) == ["a", "b", "a"] and sources(dataset, "test", 2) == ["a", "b"]
    assert sources(dataset, "test", 4) == [] and sources(dataset, "dev", 3) == []
    assert list(slices.by_source(["a", "b", "a"])) == ["a", "b"] and slices.by_source(["a", "a"]) == {}
