"""What a run reports: retention beside the teacher's scores, and, out of memory, a schedule that needs less."""

import json
import math

import pytest
import yaml

from trainer.execute import _half, _kept, _named
from trainer.run import Result
from trainer.spec import Schedule


@pytest.mark.parametrize(
    "given",
    [
        {"batch_tokens": 640, "max_tokens": 512},
        {"batch_tokens": 4096, "max_tokens": 512},
        {"batch_size": 16},
        {"batch_size": 1, "max_tokens": 512},
    ],
)
def test_the_advice_is_a_smaller_schedule(given):
    advised = yaml.safe_load("{" + _half(Schedule.model_validate(given)) + "}")
    accepted = Schedule.model_validate(given | advised)
    before = Schedule.model_validate(given)
    size = lambda s: s.batch_tokens or s.batch_size * s.max_tokens  # noqa: E731
    assert size(accepted) * 2 == size(before)


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
