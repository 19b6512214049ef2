"""The NER task: which pieces carry which tag, and how tags become spans."""

import json

import numpy as np
import pytest
from transformers import AutoTokenizer

from trainer import datasets, models
from trainer.datasets import Sentence
from trainer.datasets.tags import DECODING, iob2
from trainer.examples import open_data
from trainer.examples.ner import IGNORED, NERRows, Row, encode
from trainer.inference import decoding
from trainer.prediction import Span
from trainer.tasks.ner import NER

IDS = {"O": 0, "B-Disease": 1, "I-Disease": 2}
SENTENCE = Sentence(("congestive", "cardiomyopathy", "."), ("B-Disease", "I-Disease", "O"))


@pytest.fixture(scope="module")
def tokenizer(tiny_model):
    return AutoTokenizer.from_pretrained(tiny_model)


def pieces(tokenizer, row):
    return tokenizer.convert_ids_to_tokens(row.input_ids)


def test_the_first_piece_of_a_word_carries_its_tag(tokenizer):
    (row,) = encode(NER(), [SENTENCE], tokenizer, label_ids=IDS, max_tokens=64)
    assert pieces(tokenizer, row) == [
        "[CLS]",
        *["cong", "##est", "##ive", "card", "##iom", "##yo", "##pathy", "."],
        "[SEP]",
    ]
    assert row.labels == [IGNORED, 1, IGNORED, IGNORED, 2, IGNORED, IGNORED, IGNORED, 0, IGNORED]


def test_the_papers_scheme_repeats_the_tag_on_every_piece(tokenizer):
    (row,) = encode(NER(labelling="all"), [SENTENCE], tokenizer, label_ids=IDS, max_tokens=64)
    assert row.labels == [IGNORED, 1, 1, 1, 2, 2, 2, 2, 0, IGNORED]


def test_a_long_sentence_becomes_rows_that_label_every_word_once(tokenizer):
    long = Sentence(SENTENCE.words * 5, SENTENCE.tags * 5)
    rows = encode(NER(), [SENTENCE, long], tokenizer, label_ids=IDS, max_tokens=12)
    assert all(len(row.input_ids) <= 12 for row in rows)
    labelled = [label for row in rows[1:] for label in row.labels if label != IGNORED]
    assert labelled == [1, 2, 0] * 5
    text = [piece for row in rows[1:] for piece in row.input_ids if piece not in tokenizer.all_special_ids]
    assert text == tokenizer(list(long.words), is_split_into_words=True, add_special_tokens=False)["input_ids"]


def test_packed_rows_hold_as_many_sentences_as_fit_and_every_word_once(tokenizer):
    sentences = [SENTENCE] * 5  # of eight pieces each
    for max_tokens, lengths in ((26, [26, 18]), (18, [18, 18, 10]), (6, [6, 6] * 5)):
        rows = encode(NER(rows="packed"), sentences, tokenizer, label_ids=IDS, max_tokens=max_tokens)
        assert [len(row.input_ids) for row in rows] == lengths
        assert [label for row in rows for label in row.labels if label != IGNORED] == [1, 2, 0] * 5
        assert [word for row in rows for word in row.words if word >= 0] == list(range(15))
    alone = encode(NER(), sentences, tokenizer, label_ids=IDS, max_tokens=26)
    assert rows[0].input_ids[0] == tokenizer.cls_token_id and len(alone) == 5


def test_documents_are_scored_as_sentences_where_the_task_asks_for_it():
    whole, alone = (
        open_data(NER(rows=rows), datasets.resolve("maccrobat"), limit=3) for rows in ("given", "sentences")
    )
    assert len(whole.examples("dev")) == 3 < len(alone.examples("dev"))
    assert whole.labels == alone.labels and len(whole.labels) == 1 + 2 * 39
    words, tags = (sum((getattr(each, name) for each in alone.examples("dev")), ()) for name in ("words", "tags"))
    assert words == sum((each.words for each in whole.examples("dev")), ())
    assert tags == sum((each.tags for each in whole.examples("dev")), ())


def test_words_are_numbered_through_all_sentences_at_their_first_piece(tokenizer):
    """What a teacher says is kept by word, so that a student may cut words and rows differently."""
    for max_tokens in (64, 7):
        rows = encode(NER(), [SENTENCE, SENTENCE], tokenizer, label_ids=IDS, max_tokens=max_tokens)
        assert [word for row in rows for word in row.words if word >= 0] == list(range(6))
        for row in rows:
            assert len(row.words) == len(row.labels) == len(row.input_ids)
            begins = [word >= 0 for word in row.words]
            assert begins == [label != IGNORED for label in row.labels]


def test_a_word_without_pieces_takes_a_number_and_shifts_nothing(tokenizer):
    words = Sentence(("\ufffd", "cardiomyopathy"), ("O", "B-Disease"))
    (row,) = encode(NER(), [words], tokenizer, label_ids=IDS, max_tokens=64)
    assert [(word, label) for word, label in zip(row.words, row.labels, strict=True) if word >= 0] == [(1, 1)]


def test_of_words_that_a_teacher_has_no_piece_of_nothing_is_asked(tokenizer):
    """Its pieces differ: in RoBERTa's `),` the comma has none, and what is kept for it would be zeros."""
    mine, theirs = (
        NERRows([Row([2, 7, 8, 9, 3], [IGNORED, 0, 1, 2, IGNORED], words)], pad_id=0, words=True)
        for words in ([-1, 0, 1, 2, -1], [-1, 0, -1, 2, -1])
    )
    batch = mine.answered_by(theirs).batch([0])
    assert (
        batch["words"].tolist() == [[-1, 0, -1, 2, -1]]
        and batch["labels"].tolist() == mine.batch([0])["labels"].tolist()
    )
    assert mine.answered_by(mine) is mine and theirs.answered_by(mine) is theirs


def test_a_sentence_without_tags_has_words_and_no_labels(tokenizer):
    plain, tagged = Sentence(SENTENCE.words, ()), SENTENCE
    rows = encode(NER(), [plain, tagged], tokenizer, label_ids=IDS, max_tokens=64)
    assert set(rows[0].labels) == {IGNORED}
    assert rows[0].input_ids == rows[1].input_ids
    assert [word for word in rows[0].words if word >= 0] == [0, 1, 2]


def test_without_sentences_there_are_no_rows(tokenizer):
    assert encode(NER(), [], tokenizer, label_ids=IDS, max_tokens=12) == []


def test_tags_come_in_the_same_order_whatever_the_order_of_the_types():
    assert iob2(["Disease", "Chemical"]) == iob2({"Chemical", "Disease"})
    assert iob2(["B", "A"]) == ("O", "B-A", "I-A", "B-B", "I-B")


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
    spans = decoding.spans(words, tags, [0.5 + i / 10 for i in range(len(tags))])
    assert [(s.start // 10, s.end // 10, s.label) for s in spans] == expected
    assert all((s.start % 10, s.end % 10) == (0, 4) for s in spans)


def test_the_score_of_a_span_is_the_mean_of_its_words():
    assert decoding.spans([(0, 2), (3, 5)], ["B-D", "I-D"], [0.5, 1.0]) == [Span(start=0, end=5, label="D", score=0.75)]


@pytest.fixture
def data(tmp_path):
    """A data set whose second training sentence holds a type of its own."""
    lines = {
        "train": "fever\tB-Disease\n\nnaloxone\tB-Chemical\nworks\tO\n",
        "dev": "no\tO\nfever\tB-Disease\n",
        "test": "pain\tB-Disease\n",
    }
    for split, text in lines.items():
        (tmp_path / f"{split}.conll").write_text(text)
    return datasets.resolve(str(tmp_path))


def test_labels_are_those_of_the_whole_training_split(data):
    expected = ("O", "B-Chemical", "I-Chemical", "B-Disease", "I-Disease")
    assert open_data(NER(), data).labels == open_data(NER(), data, limit=1).labels == expected
    assert len(open_data(NER(), data, limit=1).examples("train")) == 1


def test_unlabelled_sentences_join_the_training_rows_and_no_others(data, tokenizer):
    opened, options = (
        open_data(NER(), data),
        {"label_ids": dict.fromkeys(open_data(NER(), data).labels, 0), "max_tokens": 16},
    )
    opened.unlabelled = [("dizziness", "was", "seen"), ("no", "events")]
    rows = opened.rows("train", tokenizer, **options)
    assert len(rows.lengths) == 4 and len(opened.rows("dev", tokenizer, **options).lengths) == 1
    batch = rows.batch([3, 0])
    assert (batch["labels"][0] == IGNORED).all() and (batch["labels"][1] != IGNORED).sum() == 1
    assert list(opened.texts("train")) == ["fever", "naloxone works", "dizziness was seen", "no events"]
    assert list(opened.texts("dev")) == ["no fever"]


def test_each_packing_holds_every_word_once_in_rows_of_other_lengths(tokenizer):
    sentences = [SENTENCE] * 12  # of eight pieces and three words each
    options = {"label_ids": IDS, "max_tokens": 34}
    rows = encode(NER(rows="packed", packings=3), sentences, tokenizer, **options, seed=1)
    once = encode(NER(rows="packed"), sentences, tokenizer, **options)
    assert rows[: len(once)] == once and max(len(row.input_ids) for row in rows) <= 34
    assert [word for row in rows for word in row.words if word >= 0] == list(range(3 * 36))
    lengths = [len(row.input_ids) for row in rows]
    assert len(set(lengths)) > len(set(lengths[: len(once)]))
    assert rows == encode(NER(rows="packed", packings=3), sentences, tokenizer, **options, seed=1)
    assert rows != encode(NER(rows="packed", packings=3), sentences, tokenizer, **options, seed=2)


def test_specs_without_packings_keep_their_digests():
    assert "packings" not in NER(rows="packed").model_dump() and NER(packings=2).model_dump()["packings"] == 2


def test_packed_rows_of_a_document_end_where_a_sentence_does(tmp_path, tokenizer):
    text = "No fever. Naloxone works. No events. Dizziness was seen."
    entity = {"label": "Drug", "start": 10, "end": 18}
    for split in ("train", "dev", "test"):
        (tmp_path / f"{split}.spans.jsonl").write_text(json.dumps({"text": text, "entities": [entity]}) + "\n")
    opened = open_data(NER(rows="packed"), datasets.resolve(str(tmp_path)))
    rows = opened.rows("train", tokenizer, label_ids=dict.fromkeys(opened.labels, 0), max_tokens=12).rows
    assert len(rows) > 1 and all(pieces(tokenizer, row)[-2] == "." for row in rows)


@pytest.mark.parametrize(("lengths", "window"), [([9] * 80 + [60] * 15 + [500] * 5, 64), ([64] * 9, 64), ([900], 512)])
def test_a_tagger_keeps_the_length_of_nine_of_ten_of_its_rows(data, lengths, window):
    marks = open_data(NER(), data).marks(512, np.array(lengths))
    assert marks == {"document_reading": {"max_tokens": window}, DECODING: "viterbi"}
    assert DECODING not in open_data(NER(labelling="all"), data).marks(512, np.array(lengths))


def test_batches_say_where_words_begin_only_if_asked(data, tokenizer):
    opened, options = (
        open_data(NER(), data),
        {"label_ids": dict.fromkeys(open_data(NER(), data).labels, 0), "max_tokens": 16},
    )
    assert set(opened.rows("train", tokenizer, **options).batch([0])) == {"input_ids", "attention_mask", "labels"}
    batch = opened.rows("train", tokenizer, with_units=True, **options).batch([1])
    assert batch["words"][batch["words"] >= 0].tolist() == [1, 2]
    assert ((batch["words"] >= 0) == (batch["labels"] != IGNORED)).all()


def test_documents_are_scored_in_windows_as_long_as_the_rows_of_training(tmp_path, tiny_model):
    text = "No fever after naloxone. " * 60
    entities = [{"label": "Disease", "start": 3 + 25 * n, "end": 8 + 25 * n} for n in range(60)]
    for split in ("train", "dev", "test"):
        (tmp_path / f"{split}.spans.jsonl").write_text(json.dumps({"text": text, "entities": entities}) + "\n")
    resolved = datasets.resolve(str(tmp_path))
    model, tokenizer = models.load(str(tiny_model))
    whole = open_data(NER(), resolved).scores(model, tokenizer, "dev", max_tokens=512)
    model.config.document_reading = {"max_tokens": 32}
    read = open_data(NER(), resolved).scores(model, tokenizer, "dev", max_tokens=512)
    assert read == open_data(NER(), resolved).scores(model, tokenizer, "dev", max_tokens=32) != whole
