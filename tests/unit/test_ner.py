"""The NER task: which pieces carry which tag, and how tags become spans."""

from collections import namedtuple

import pytest
from transformers import AutoTokenizer

from trainer.prediction import Span
from trainer.tasks.ner import IGNORED, NER

Sentence = namedtuple("Sentence", "words tags")
IDS = {"O": 0, "B-Disease": 1, "I-Disease": 2}
SENTENCE = Sentence(("congestive", "cardiomyopathy", "."), ("B-Disease", "I-Disease", "O"))


@pytest.fixture(scope="module")
def tokenizer(tiny_model):
    return AutoTokenizer.from_pretrained(tiny_model)


def pieces(tokenizer, row):
    return tokenizer.convert_ids_to_tokens(row.input_ids)


def test_the_first_piece_of_a_word_carries_its_tag(tokenizer):
    (row,) = NER().encode([SENTENCE], tokenizer, label_ids=IDS, max_tokens=64)
    assert pieces(tokenizer, row) == [
        "[CLS]",
        *["cong", "##est", "##ive", "card", "##iom", "##yo", "##pathy", "."],
        "[SEP]",
    ]
    assert row.labels == [IGNORED, 1, IGNORED, IGNORED, 2, IGNORED, IGNORED, IGNORED, 0, IGNORED]


def test_the_papers_scheme_repeats_the_tag_on_every_piece(tokenizer):
    (row,) = NER(labelling="all").encode([SENTENCE], tokenizer, label_ids=IDS, max_tokens=64)
    assert row.labels == [IGNORED, 1, 1, 1, 2, 2, 2, 2, 0, IGNORED]


def test_a_long_sentence_becomes_rows_that_label_every_word_once(tokenizer):
    long = Sentence(SENTENCE.words * 5, SENTENCE.tags * 5)
    rows = NER().encode([SENTENCE, long], tokenizer, label_ids=IDS, max_tokens=12)
    assert all(len(row.input_ids) <= 12 for row in rows)
    labelled = [label for row in rows[1:] for label in row.labels if label != IGNORED]
    assert labelled == [1, 2, 0] * 5
    text = [piece for row in rows[1:] for piece in row.input_ids if piece not in tokenizer.all_special_ids]
    assert text == tokenizer(list(long.words), is_split_into_words=True, add_special_tokens=False)["input_ids"]


def test_no_sentences_no_rows(tokenizer):
    assert NER().encode([], tokenizer, label_ids=IDS, max_tokens=12) == []


def test_tags_come_in_the_same_order_whatever_the_order_of_the_types():
    assert NER.tags(["Disease", "Chemical"]) == NER.tags({"Chemical", "Disease"})
    assert NER.tags(["B", "A"]) == ("O", "B-A", "I-A", "B-B", "I-B")


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("O O O", []),
        ("B-D I-D O", [(0, 1, "D")]),
        ("I-D I-D O", [(0, 1, "D")]),  # an entity that never began still is one
        ("B-D B-D I-D", [(0, 0, "D"), (1, 2, "D")]),
        ("B-D I-C I-C", [(0, 0, "D"), (1, 2, "C")]),
        ("O B-D O I-D", [(1, 1, "D"), (3, 3, "D")]),
        ("B-D I-D I-D", [(0, 2, "D")]),
    ],
)
def test_spans_group_adjacent_words(tags, expected):
    tags = tags.split()
    words = [(10 * i, 10 * i + 4) for i in range(len(tags))]
    spans = NER.spans(words, tags, [0.5 + i / 10 for i in range(len(tags))])
    assert [(s.start // 10, s.end // 10, s.label) for s in spans] == expected
    assert all((s.start % 10, s.end % 10) == (0, 4) for s in spans)


def test_the_score_of_a_span_is_the_mean_of_its_words():
    assert NER.spans([(0, 2), (3, 5)], ["B-D", "I-D"], [0.5, 1.0]) == [Span(start=0, end=5, label="D", score=0.75)]
