"""Parameters and size of a model, from the file of its weights. No torch."""

from pathlib import Path

from trainer import zoo
from trainer.errors import StillroomError
from trainer.prediction import Plain
from trainer.zoo.weights import WEIGHTS
from workbench.launch.sizes import stored_parameters
from workbench.predict import Arm


class Weights(Plain):
    """The weights behind an arm; fields are None where they are no longer on this machine."""

    reference: str
    sha256: str | None = None
    parameters: int | None = None
    size_bytes: int | None = None


def find_weights(arm: str) -> Weights:
    """The weights of an arm, which is `M` or `M@reading:max_tokens`."""
    reference = Arm.parse(arm).model
    try:
        model = zoo.resolve(reference)
        size_bytes = (Path(model.path) / WEIGHTS).stat().st_size
    except (StillroomError, OSError):
        return Weights(reference=reference)
    return Weights(
        reference=reference, sha256=model.sha256, parameters=stored_parameters(model.path), size_bytes=size_bytes
    )
