"""The advice after running out of memory is a schedule that the spec accepts, and that needs less."""

import pytest
import yaml

from trainer.execute import _half
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
