"""A note by data set, split and number: what a link may hold in place of its text."""

import pytest

from trainer import datasets
from workbench.note import dataset_item, item_id


def test_an_id_names_the_words_of_a_sentence_or_document():
    for number, example in enumerate(datasets.load("ncbi-disease-slice", "test", limit=3)):
        item = dataset_item(item_id("ncbi-disease-slice", "test", number))
        assert (
            item.note.text == " ".join(example.words) and item.title == f"ncbi-disease-slice, test, item {number + 1}"
        )
    document = datasets.load("clinical-notes", "test", limit=1)[0]
    second = list(datasets.sentences(document))[1]
    item = dataset_item(item_id("clinical-notes", "test", 1, sentences=True))
    assert item.note.text == " ".join(second.words)


def test_a_pair_has_its_hypothesis_and_a_document_its_text():
    pair = datasets.pairs("evidence-inference", "dev", limit=2)[1]
    note = dataset_item(item_id("evidence-inference", "dev", 1)).note
    assert (note.text, note.hypothesis) == (pair.text, pair.hypothesis)
    assert dataset_item("data:mtsamples-slice:test:0").note.text
    related = datasets.related_documents("bc5cdr-cid-slice", "test", limit=1)[0]
    assert dataset_item("data:bc5cdr-cid-slice:test:0").note.text == related.text


@pytest.mark.parametrize(
    "reference",
    ["", "data:nowhere:test:0", "data:bc5cdr-slice:test:999999", "data:bc5cdr-slice:val:0", "data:../x:test:0", "data"],
)
def test_what_is_not_there_is_none(reference):
    assert dataset_item(reference) is None


def test_its_repr_holds_no_text():
    item = dataset_item("data:ncbi-disease-slice:test:0")
    assert item.note.text.split()[0] not in repr(item) and "characters" in repr(item.note)
