"""Tags that are decoded together: valid IOB2, and of all valid sequences the most likely."""

import itertools

import numpy as np
import pytest
import torch

from trainer import models
from trainer.datasets import tags
from trainer.inference import tag_words
from trainer.inference.viterbi import best_valid_outputs

IOB2 = tags.read(["O", "B-drug", "I-drug", "B-test", "I-test"])


def is_valid(outputs):
    before = "O"
    for output in outputs:
        tag = IOB2.names[output]
        if tag[0] == "I" and before[2:] != tag[2:]:
            return False
        before = tag
    return True


@pytest.mark.parametrize("sharpness", [0.3, 2.0, 8.0])
def test_of_all_valid_sequences_it_is_the_most_likely(sharpness):
    random = np.random.default_rng(7)
    sequences = [path for path in itertools.product(range(5), repeat=5) if is_valid(path)]
    for _ in range(40):
        logits = sharpness * random.normal(size=(5, 5)) + sharpness * np.array([1, 0, 0.5, 0, 0.5])
        scores = torch.from_numpy(logits).log_softmax(-1).numpy()
        best = max(sequences, key=lambda path: sum(scores[word, output] for word, output in enumerate(path)))
        assert best_valid_outputs(scores, IOB2).tolist() == list(best)


def test_what_is_valid_stays_as_each_word_says():
    scores = np.log(np.full((4, 5), 0.1) + 0.5 * np.eye(5)[[0, 1, 2, 3]])
    assert best_valid_outputs(scores, IOB2).tolist() == [0, 1, 2, 3]
    assert best_valid_outputs(np.zeros((0, 5)), IOB2).tolist() == []


def test_a_model_whose_config_says_so_gives_valid_tags_and_others_are_read_word_by_word(tiny_model):
    model, tokenizer = models.load(str(tiny_model))
    words = [["the", "patient", "has", "a", "cough", "and", "takes", "aspirin", "daily", "."] * 4]
    word_by_word = tag_words(words, model, tokenizer)[0]
    setattr(model.config, tags.DECODING, "viterbi")
    together = tag_words(words, model, tokenizer)[0]
    invalid = [a for a, b in itertools.pairwise(["O", *together]) if b[0] == "I" and a[2:] != b[2:]]
    assert not invalid and together != word_by_word
