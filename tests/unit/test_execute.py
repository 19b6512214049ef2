"""What a run reports: retention beside the teacher's scores."""

import json
import math

import pytest

from trainer.execute import _kept, _named
from trainer.run import Result


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
