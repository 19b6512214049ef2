"""Batches: a pure function of (seed, step), within their budget, every example once per epoch."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.datasets.rows.batches import Batches, collate
from trainer.examples.ner import IGNORED, Row

lengths = st.lists(st.integers(3, 64), min_size=1, max_size=300)


def make(lengths, *, seed=1, batch_tokens=128, batch_size=None):
    return Batches(lengths, seed=seed, batch_tokens=None if batch_size else batch_tokens, batch_size=batch_size)


@given(lengths, st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_an_epoch_holds_every_example_once(lengths, epoch):
    batches = make(lengths).epoch(epoch)
    assert sorted(np.concatenate(batches)) == list(range(len(lengths)))


@given(lengths)
@settings(max_examples=60, deadline=None)
def test_padded_batches_stay_inside_the_budget(lengths):
    for batch in make(lengths).epoch(0):
        widths = np.asarray(lengths)[batch]
        assert widths.max() * len(batch) <= 128


@given(lengths, st.integers(1, 9))
@settings(max_examples=40, deadline=None)
def test_batch_size_is_an_upper_limit_and_usual(lengths, size):
    sizes = [len(batch) for batch in make(lengths, batch_size=size).epoch(0)]
    assert max(sizes) <= size
    assert sum(sizes) == len(lengths)


def test_a_step_depends_on_the_seed_and_nothing_that_was_asked_before():
    lengths = np.random.default_rng(0).integers(5, 60, 500)
    walked = make(lengths)
    in_order = [walked.at(step) for step in range(300)]
    fresh = make(lengths)
    for step in (299, 0, 150, 20):
        assert np.array_equal(fresh.at(step), in_order[step])
    assert not np.array_equal(make(lengths, seed=2).at(0), in_order[0])


def test_epochs_differ_and_their_steps_add_up():
    batches = make(np.random.default_rng(0).integers(5, 60, 500))
    first, second = batches.epoch(0), batches.epoch(1)
    assert [b.tolist() for b in first] != [b.tolist() for b in second]
    assert batches.steps(2) == len(first) + len(second)
    assert batches.steps(0.5) == round(len(first) / 2)
    assert batches.epoch_of(len(first) - 1) == 0
    assert batches.epoch_of(len(first)) == 1


def test_sorting_in_pools_leaves_little_padding():
    lengths = np.random.default_rng(0).integers(5, 120, 4000)
    padded = sum(lengths[b].max() * len(b) for b in make(lengths, batch_tokens=1024).epoch(0))
    assert padded / lengths.sum() < 1.06


def test_collate_pads_to_the_longest_and_masks_the_rest():
    rows = [Row([101, 7, 102], [IGNORED, 1, IGNORED], [-1, 5, -1]), Row([101, 102], [IGNORED] * 2, [-1, -1])]
    batch = collate(rows, padding={"input_ids": 9, "labels": IGNORED})
    assert batch["input_ids"].tolist() == [[101, 7, 102], [101, 102, 9]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]
    assert batch["labels"].tolist() == [[IGNORED, 1, IGNORED], [IGNORED] * 3]
    assert set(batch) == {"input_ids", "attention_mask", "labels"}, "only what is asked for is made"
    words = collate(rows, padding={"input_ids": 9, "words": -1})["words"]
    assert words.tolist() == [[-1, 5, -1], [-1, -1, -1]]


def test_no_examples_is_an_error():
    with pytest.raises(ValueError, match="no examples"):
        make([])
