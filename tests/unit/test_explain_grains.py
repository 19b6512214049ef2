"""The parts of a note: each inside one of the coarser grain, none of them anywhere but in the text."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_models import read_tokenizer

from trainer.datasets.rows.pieces import Pieces, cut
from trainer.errors import UnknownName
from workbench.explain.grains import GRAINS, find_breaks, find_heading, find_units

NOTE = (
    "CHIEF COMPLAINT\r\nPain.\r\n\r\nHISTORY OF PRESENT ILLNESS: Seen by Dr. Z at 10 a.m. for pain, fever (new); no\r\n"
    "cough. He smokes.\r\nPLAN:\r\n1. Sepsis. Treat.\r\n2. Gout, stable\r\n"
)


@pytest.fixture(scope="module")
def tokenizer(tiny_model):
    return read_tokenizer(tiny_model)


def parts(text: str, grain: str) -> list[str]:
    """The stretches of a text between breaks, without blanks around them."""
    cuts = [0, *find_breaks(text, grain).tolist(), len(text)]
    return [part for a, b in zip(cuts, cuts[1:], strict=False) if (part := text[a:b].strip())]


def test_sections_begin_at_headings():
    sections = parts(NOTE, "section")
    assert [part.split()[0] for part in sections] == ["CHIEF", "HISTORY", "PLAN:"]


@pytest.mark.parametrize("grain", ["section", "sentence", "phrase"])
def test_units_are_the_parts_between_breaks(tokenizer, grain):
    places = find_units(NOTE, cut(NOTE, tokenizer), grain).places
    assert [NOTE[start:end] for start, end in places] == parts(NOTE, grain)


def test_a_place_has_the_heading_of_its_section():
    for words, expected in (("Pain.", "CHIEF COMPLAINT"), ("cough", "HISTORY OF PRESENT ILLNESS"), ("Gout", "PLAN")):
        assert find_heading(NOTE, NOTE.index(words)) == expected
    assert find_heading("No heading.\nPLAN: rest", 3) == ""


def test_without_headings_paragraphs_are_sections():
    assert parts("One. Two.\n\nthree\r\n \r\nfour\nfive", "section") == ["One. Two.", "three", "four\nfive"]


def test_sentences_end_at_stops_and_lines_but_not_at_abbreviations_wraps_or_list_numbers():
    sentences = parts(NOTE, "sentence")
    assert sentences == [
        "CHIEF COMPLAINT",
        "Pain.",
        "HISTORY OF PRESENT ILLNESS: Seen by Dr. Z at 10 a.m. for pain, fever (new); no\r\ncough.",
        "He smokes.",
        "PLAN:",
        "1. Sepsis.",
        "Treat.",
        "2. Gout, stable",
    ]


def test_phrases_end_at_commas_and_brackets():
    assert parts("Pain, fever (new); no cough.", "phrase") == ["Pain,", "fever", "(new);", "no cough."]


def test_a_lone_carriage_return_ends_a_line():
    assert parts("PLAN:\rStop it.\rASSESSMENT:\rWell.", "section") == ["PLAN:\rStop it.", "ASSESSMENT:\rWell."]


@settings(max_examples=60, deadline=None)
@given(text=st.text(alphabet="aB .,:;()\r\n1\u0301\U0001f600\u0639\u00e9-", max_size=60))
def test_parts_nest_and_cover_every_piece(tokenizer, text):
    pieces = cut(text, tokenizer)
    cuts = [find_units(text, pieces, grain) for grain in GRAINS]
    for each in cuts:
        assert len(each.owner) == len(pieces)
        assert (np.diff(each.owner) >= 0).all()
        assert set(each.owner.tolist()) == set(range(len(each.places)))
        assert (each.places[:, 0] <= each.places[:, 1]).all()
        assert (each.places[1:, 0] >= each.places[:-1, 1]).all()
    for coarse, fine in zip(cuts, cuts[1:], strict=False):
        pairs = set(zip(fine.owner.tolist(), coarse.owner.tolist(), strict=True))
        assert len(pairs) == len(fine.places), "no part is in two coarser ones"


def test_pieces_of_one_character_stay_together(tokenizer):
    """Byte-level tokenizers cut an emoji into four pieces with the same offsets, and some cover nothing."""
    pieces = Pieces(np.arange(6), np.array([0, 1, 1, 1, 2, 3]), np.array([1, 2, 2, 2, 2, 4]))
    pieces_found = find_units("a\U0001f600 b", pieces, "piece")
    assert pieces_found.places.tolist() == [[0, 1], [1, 2], [3, 4]]
    assert pieces_found.owner.tolist() == [0, 1, 1, 1, 1, 2]
    assert pieces_found.sums(np.ones(6)).tolist() == [1, 4, 1]


def test_an_unknown_grain_and_a_text_without_pieces(tokenizer):
    with pytest.raises(UnknownName, match="Known: phrase, piece, section, sentence, word"):
        find_units("a", cut("a", tokenizer), "letter")
    assert len(find_units("", cut("", tokenizer), "word").places) == 0
