"""What a run reports: retention beside the teacher's scores."""

import json
import math
from types import SimpleNamespace

import pytest

from trainer import models
from trainer.execute import _kept, _max_tokens, _named
from trainer.heads import document_reading
from trainer.run import Result
from trainer.spec import parse


def test_retention_is_the_share_of_the_teachers_score():
    found = _kept("f1", {"f1": 0.6, "precision": 0.9}, {"f1": 0.8, "precision": 0.5})
    assert found == {"teacher_test_f1": 0.8, "teacher_test_precision": 0.5, "retention": pytest.approx(0.75)}
    assert _kept("f1", {"f1": 0.6}, {}) == {}, "without a teacher there is nothing to keep"


def test_a_teacher_that_scores_nothing_leaves_no_retention():
    metrics = _kept("f1", {"f1": 0.6}, {"f1": 0.0})
    assert math.isnan(metrics["retention"])
    written = json.loads(Result(state="succeeded", metrics=metrics).model_dump_json())
    assert written["metrics"]["retention"] is None


def test_events_carry_the_scores_of_the_whole_split():
    assert _named("dev", {"f1": 0.5, "f1.Disease": 0.4}) == {"dev_f1": 0.5}


@pytest.mark.parametrize(("asked", "read"), [(512, 512), (48, 48), (2048, 512)])
def test_a_tagger_is_scored_in_the_windows_that_are_asked_for_and_not_in_those_it_reads_notes_in(asked, read):
    said = {"kind": "evaluate", "model": "minilm-ncbi", "dataset": "ncbi-disease"}
    spec = parse(said | {"schedule": {"max_tokens": asked, "batch_tokens": asked}})
    model, tokenizer = models.load("minilm-ncbi")
    assert document_reading(model)["max_tokens"] == 64
    assert _max_tokens(SimpleNamespace(spec=SimpleNamespace(spec=spec)), model, tokenizer) == read
