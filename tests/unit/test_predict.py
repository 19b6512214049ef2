"""Arms, the cache of loaded models, and prediction in process."""

import pytest

from trainer import inference, zoo
from trainer.errors import BadSpec, StillroomError, UnknownName
from workbench.note import Note
from workbench.predict import READINGS, Arm, percent, predict


@pytest.mark.parametrize(
    ("written", "model", "reading", "max_tokens"),
    [
        ("minilm-bc5cdr", "minilm-bc5cdr", "windows", None),
        ("minilm-bc5cdr@truncate", "minilm-bc5cdr", "truncate", None),
        ("minilm-bc5cdr@windows", "minilm-bc5cdr", "windows", None),
        ("org/name@whole:4096", "org/name", "whole", 4096),
        ("./a folder/m", "./a folder/m", "windows", None),
        ("./me@home/m", "./me@home/m", "windows", None),
        ("./me@home/m@truncate:128", "./me@home/m", "truncate", 128),
        ("1a2b3c4d-1", "1a2b3c4d-1", "windows", None),
    ],
)
def test_an_arm_is_read_as_written_and_named_as_written(written, model, reading, max_tokens):
    arm = Arm.parse(written)
    assert (arm.model, arm.reading, arm.max_tokens) == (model, reading, max_tokens)
    assert arm.name == written


@pytest.mark.parametrize(
    ("written", "error", "message"),
    [
        ("", BadSpec, "M@reading"),
        ("@truncate", BadSpec, "M@reading"),
        ("m@skim", UnknownName, "Known: truncate, whole, windows"),
        ("m@windos", UnknownName, "Did you mean 'windows'"),
        ("m@windows:", BadSpec, "max_tokens"),
        ("m@windows:many", BadSpec, "'many'"),
        ("m@windows:7", BadSpec, "from 8"),
        ("m@:128", UnknownName, "reading"),
        ("m@", UnknownName, "reading"),
        ("x" * 301, BadSpec, "found 'xxx"),
    ],
)
def test_an_arm_that_is_written_wrongly_says_which_part(written, error, message):
    with pytest.raises(error, match=message):
        Arm.parse(written)


def test_the_readings_are_those_of_inference():
    assert READINGS == inference.READINGS


def test_predict_reads_a_note_with_a_model_from_a_folder(tiny_model):
    note = Note("Fever and naloxone. " * 200)
    prediction = predict(note, str(tiny_model))
    assert (prediction.model, prediction.task, prediction.label_set) == (str(tiny_model), "ner", ("Disease",))
    assert prediction.coverage.windows > 1 and not prediction.coverage.unread
    cut = predict(note, zoo.resolve(str(tiny_model)), reading="truncate", max_tokens=64, name="short")
    assert (cut.model, cut.coverage.tokens_read) == ("short", 62)
    assert cut.coverage.unread[0][1] <= len(note.text)


def test_predict_names_a_model_that_is_not_known():
    with pytest.raises(StillroomError, match="minilm"):
        predict(Note("Fever"), "minlm")


def test_a_score_is_shown_in_percent_and_never_as_certain():
    assert [percent(score) for score in (0, 0.004, 0.005, 0.5, 0.994, 0.995, 1)] == [
        *("<1%", "<1%", "0%", "50%", "99%", ">99%", ">99%")
    ]
