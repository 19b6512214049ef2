"""What two steps foretell of a run, and where that is kept: STILLROOM_HOME/preflight/<digest>.json. No torch."""

from pathlib import Path

from pydantic import ValidationError

from trainer.files import write_file
from trainer.home import home
from trainer.prediction import Plain


class Estimate(Plain):
    """The cost of a run as measured on this machine.

    Times are seconds. steps: optimiser steps of the run. tokens_per_step: pieces without padding. evaluations: of the
    dev split, evaluation_s each. teacher_s: the teacher's outputs and scores, once; 0 where there is none.
    outputs_bytes: what these outputs take up on disk. preparing_s: from the start of the process to the first step. cut
    and split: the shares of the word pieces that max_tokens cuts off, and that stand in examples read in several
    windows. peak_memory_bytes: of the process, or of the accelerator.
    busy: the machine did something else meanwhile, so times are upper bounds. partial: more data than were counted.
    """

    device: str
    threads: int
    params: int
    trained: int
    teacher_params: int | None
    steps: int
    seconds_per_step: float
    tokens_per_step: float
    evaluations: int
    evaluation_s: float
    teacher_s: float
    preparing_s: float
    peak_memory_bytes: int
    cut: float
    split: float
    outputs_bytes: int = 0
    partial: bool = False
    busy: bool = False

    @property
    def training_s(self) -> float:
        """The steps alone."""
        return self.steps * self.seconds_per_step

    @property
    def total_s(self) -> float:
        """The whole run; the scoring of the test split at its end counts as one more evaluation."""
        return self.preparing_s + self.teacher_s + self.training_s + (self.evaluations + 1) * self.evaluation_s


def keep(estimate: Estimate, digest: str) -> None:
    """Keep it for the spec of this digest, over an older one."""
    path = _path(digest)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, estimate.model_dump_json(indent=2).encode())


def kept(digest: str) -> Estimate | None:
    """The estimate of the spec of this digest; None without one, or where another version wrote it."""
    try:
        return Estimate.model_validate_json(_path(digest).read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def _path(digest: str) -> Path:
    return home() / "preflight" / f"{digest}.json"
