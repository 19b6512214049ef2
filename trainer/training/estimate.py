"""Cost estimate of a run from two timed steps, stored as STILLROOM_HOME/preflight/<digest>.json. No torch."""

from pathlib import Path

from pydantic import ValidationError

from trainer.files import write_file
from trainer.home import home
from trainer.prediction import Plain


class Estimate(Plain):
    """The cost of a run as measured on this machine.

    Times are in seconds. params, trained: parameters of the student, and those that are trained. steps: optimiser
    steps of the run. tokens_per_step: word pieces without padding. evaluations: number of those of the dev split, each
    of evaluation_s. teacher_s: outputs and scores of the teacher, once; 0 without one. outputs_bytes: disk space of
    these outputs. preparing_s: from the start of the process to the first step. peak_memory_bytes: of the process, or
    of the accelerator. cut, split: the shares of the word pieces that max_tokens cuts off, and that are in examples
    read in several windows. busy: the machine had other work, so times are upper bounds. partial: only part of the
    data was counted.
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
        """Seconds of the steps alone."""
        return self.steps * self.seconds_per_step

    @property
    def total_s(self) -> float:
        """Seconds of the whole run; scoring the test split at the end counts as one more evaluation."""
        return self.preparing_s + self.teacher_s + self.training_s + (self.evaluations + 1) * self.evaluation_s


def store(estimate: Estimate, digest: str) -> None:
    """Store the estimate for the spec with this digest, replacing an older one."""
    path = _path(digest)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, estimate.model_dump_json(indent=2).encode())


def stored(digest: str) -> Estimate | None:
    """The estimate for the spec with this digest; None where there is none, or another version wrote it."""
    try:
        return Estimate.model_validate_json(_path(digest).read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def _path(digest: str) -> Path:
    return home() / "preflight" / f"{digest}.json"
