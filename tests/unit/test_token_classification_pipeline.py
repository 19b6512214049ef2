"""Findings against transformers' token-classification pipeline: every architecture with every kind of tokenizer."""

import warnings

import numpy as np
import pytest
from families import FAMILIES, SIZES, family
from tokenizers_of_the_zoo import KINDS, tokenizer_of
from transformers import MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING, pipeline

from trainer import inference, zoo
from trainer.architectures.minialbert_heads import MiniAlbertForTokenClassification
from trainer.datasets.rows.pieces import cut
from trainer.datasets.rows.words import words_in
from trainer.datasets.tags import read as read_tags
from trainer.inference import decoding

LABELS = ("O", "B-Disease", "I-Disease", "B-Drug", "I-Drug")
PLAIN = "aspirin warfarin lung cancer chest pain fever café ibuprofen asthma 25 no fever"
WHOLE = ["aspirin", "asthma", "fever", "cancer", "chest"]  # of which the small vocabularies have each after a blank
LIST = "Meds:\n- aspirin\r\n- warfarin/ibuprofen,\tlung cancer (COX-2).\n\nNo fever: 37 see http://example.org\n"
ROOM = {"max_position_embeddings": 130}
SHAPES = FAMILIES | {
    "deberta-v2": SIZES | {"relative_attention": True, "position_biased_input": False, "pos_att_type": ["c2p", "p2c"]},
    "xlm-roberta": SIZES,
    "camembert": SIZES,
}


@pytest.fixture(scope="module", params=SHAPES)
def model(request):
    """Two layers with random weights, as large as the largest vocabulary here."""
    size = {"vocab_size": max(len(tokenizer_of(kind)) for kind in KINDS)}
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(FAMILIES, request.param, SHAPES[request.param] | size | ROOM)
        built = family(request.param, MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING, MiniAlbertForTokenClassification)
    built.config.id2label = dict(enumerate(LABELS))
    for parameter in built.classifier.parameters():
        parameter.data.mul_(4)  # so that tags vary from piece to piece
    return built


def pipelined(text, model, tokenizer, aggregation):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tag = pipeline("token-classification", model=model, tokenizer=tokenizer, aggregation_strategy=aggregation)
        return tag(text, **({"ignore_labels": []} if aggregation == "none" else {}))


def spans_of(text, model, tokenizer):
    prediction = inference.predict(text, model, tokenizer, name="m")
    assert prediction.coverage.windows == 1
    return [(span.start, span.end, span.label) for span in prediction.spans], [span.score for span in prediction.spans]


def trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """The pipeline leaves white space at the borders that a tokenizer's offsets have; a finding never has it."""
    part = text[start:end]
    return start + len(part) - len(part.lstrip()), start + len(part.rstrip())


@pytest.mark.parametrize("kind", KINDS)
def test_words_between_blanks_are_those_of_the_pipeline(model, kind):
    """Its aggregation "first", which is meant for words, cuts at blanks whatever the tokenizer."""
    tokenizer = tokenizer_of(kind)
    text = " ".join(WHOLE * 3)
    assert not {"▁", "Ġ"} & set(tokenizer.tokenize(text)), "a blank that is a piece is a word to the pipeline"
    entities = pipelined(text, model, tokenizer, "first")
    spans, scores = spans_of(text, model, tokenizer)
    assert spans == [(*trimmed(text, each["start"], each["end"]), each["entity_group"]) for each in entities]
    np.testing.assert_allclose(scores, [float(each["score"]) for each in entities], atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", [PLAIN, LIST], ids=["plain", "list"])
def test_each_word_has_the_tag_that_the_pipeline_gives_its_first_piece(model, kind, text):
    """On purpose otherwise than "first", which glues the words of a list where a tokenizer is not WordPiece."""
    tokenizer = tokenizer_of(kind)
    pieces = pipelined(text, model, tokenizer, "none")
    assert len(pieces) == len(cut(text, tokenizer))
    places = [trimmed(text, each["start"], each["end"]) for each in pieces]
    tags, scores, words = [], [], words_in(text).places.tolist()
    held = {}  # by piece, the word that it begins in
    for start, end in words:
        inside = (n for n, place in enumerate(places) if start <= place[0] < end and place[0] < place[1])
        number = next(inside, None)
        if number is None:  # a sign in the piece of the sign before: inside where both neighbours are
            tags.append(None)
            scores.append(0.0)
            continue
        held[number] = (start, end)
        tags.append(pieces[number]["entity"])
        scores.append(float(pieces[number]["score"]))
    for place in [number for number, tag in enumerate(tags) if tag is None][::-1]:
        tags[place], scores[place] = tags[place + 1], scores[place + 1]
        if tags[place] != f"I-{(tags[place - 1] or tags[place - 2] or 'O')[2:]}":
            tags[place] = "O"
    assert read_tags(LABELS).iob2(LABELS.index(tag) for tag in tags) == tags
    expected = decoding.spans(words, tags, scores)
    spans, sure = spans_of(text, model, tokenizer)
    assert spans == [(span.start, span.end, span.label) for span in expected]
    np.testing.assert_allclose(sure, [span.score for span in expected], atol=1e-5)


def test_every_architecture_of_the_zoo_is_among_them():
    architectures = (entry.architecture for entry in zoo.entries().values() if entry.loads)
    built = {architecture["model_type"] for architecture in architectures if architecture}
    assert built <= set(SHAPES)
