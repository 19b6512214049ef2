"""What a model weighs: its parameters and bytes, from the file of its weights. No torch."""

from pathlib import Path

from trainer import zoo
from trainer.errors import StillroomError
from trainer.prediction import Plain
from trainer.zoo.weights import WEIGHTS
from workbench.launch.sizes import stored
from workbench.predict import Arm


class Weights(Plain):
    """The weights behind an arm. None where they are not on this machine any more."""

    reference: str
    sha256: str | None = None
    parameters: int | None = None
    size_bytes: int | None = None


def weights(arm: str) -> Weights:
    """The weights of an arm as it was written, `M` or `M@reading:max_tokens`."""
    reference = Arm.parse(arm).model
    try:
        found = zoo.resolve(reference)
        size_bytes = (Path(found.path) / WEIGHTS).stat().st_size
    except (StillroomError, OSError):
        return Weights(reference=reference)
    return Weights(reference=reference, sha256=found.sha256, parameters=stored(found.path), size_bytes=size_bytes)
