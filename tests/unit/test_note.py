"""Notes, samples and uploads: text exactly as given, or an error that names what was found."""

import pytest

from trainer.errors import BadData, Refused, StillroomError
from workbench.note import MAX_BYTES, MAX_CHARACTERS, Note, read_upload, samples

CANARY = "canary-7f3a"


def test_repr_shows_only_the_length():
    assert repr(Note(CANARY)) == f"Note({len(CANARY)} characters)"


@pytest.mark.parametrize("text", ["", " \r\n\t "])
def test_a_note_without_text_is_refused_with_a_next_step(text):
    with pytest.raises(BadData, match="empty") as caught:
        Note(text)
    assert caught.value.next_step


def test_a_million_characters_are_a_note_and_too_many_are_refused_with_both_figures():
    assert Note("x" * 1_000_000)
    with pytest.raises(Refused, match=rf"{MAX_CHARACTERS + 1:,} characters; at most {MAX_CHARACTERS:,}"):
        Note("x" * (MAX_CHARACTERS + 1))


def test_samples_are_long_and_short_with_licence_and_are_read_as_they_are():
    kinds = {sample.kind for sample in samples()}
    assert kinds == {"short", "over-512", "over-2048", "article"}
    for sample in samples():
        assert len(sample.note.text) == sample.characters
        assert sample.licence and sample.source


@pytest.mark.parametrize("text", ["plain", "a\r\nb\rc\n", "naïve e\u0301 👩🏽‍⚕️ שלום", " leading and trailing \n"])
def test_an_upload_is_the_text_exactly_as_given(text):
    assert read_upload(text.encode(), "note.txt").text == text


def test_a_byte_order_mark_is_no_text():
    assert read_upload(b"\xef\xbb\xbfFever", "note.txt").text == "Fever"


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "empty"),
        (b"\xef\xbb\xbf", "empty"),
        (b"%PDF-1.7 " + CANARY.encode(), "PDF"),
        (b"PK\x03\x04" + CANARY.encode(), "ZIP"),
        (CANARY.encode("utf-16"), "UTF-16"),
        (CANARY.encode() + b"\x00rest", f"zero byte at position {len(CANARY)}"),
        (f"one\n{CANARY}\nfi".encode() + b"\xe8vre", "line 3.*byte 18.*not valid UTF-8"),
        (b"x" * (MAX_BYTES + 1), r"5,000,001 bytes; at most 5,000,000 \(5 MB\) are allowed"),
    ],
)
def test_what_is_no_text_is_refused_by_its_content_with_a_remedy_and_without_quoting_it(data, problem):
    with pytest.raises(StillroomError, match=f"(?s){problem}") as caught:
        read_upload(data, "note.txt")
    assert caught.value.next_step
    assert CANARY not in str(caught.value)
