"""The errors of the lab, which never hold note text, and how they pass through a frame."""

import errno
from collections.abc import Mapping
from typing import Any, TypeGuard

from trainer import errors
from trainer.errors import StillroomError
from trainer.training.memory import ran_out

NO_MEMORY = errno.ENOMEM  # the exit code of a child that has too little memory to send a frame


class LabFailed(StillroomError):
    """The process that runs the models ended, or a model failed unexpectedly. Names the error's type, never text."""

    next_step = (
        "Run it again: a new process starts by itself. If it fails again, take a shorter note or fewer models, "
        "which need less memory."
    )


class OutOfMemory(LabFailed):
    """A request needed more memory than there was, or a model is larger than the free memory."""

    next_step = (
        "Take a shorter note, a smaller model or a smaller max_tokens, or free memory on this machine: a training job "
        "may hold much of it. Then ask again; a new process starts by itself."
    )


class TooLate(StillroomError):
    """There was no answer within the time allowed, and its work was stopped."""

    next_step = (
        "Ask again when fewer requests are waiting, allow more time, or ask for less: a shorter note, a coarser grain "
        "or a cheaper method."
    )


def too_late(spent: Mapping[str, float], deadline_s: float) -> TooLate:
    """The error of an answer that spent these seconds in each of its stages."""
    phrases = {"waiting": "waiting for other requests", "loading": "loading the model"}
    parts = ", ".join(f"{seconds:.1f} s {phrases.get(stage, stage)}" for stage, seconds in spent.items())
    return TooLate(f"There was no answer within the {deadline_s:g} s allowed: {parts}.")


def shutting_down() -> LabFailed:
    """The error of a request to a closed lab."""
    return LabFailed("The app is shutting down.", next_step="Start it again.")


def as_stillroom_error(error: Exception) -> StillroomError:
    """The error itself if it is one of ours; otherwise only its type, since its message may quote the note."""
    if isinstance(error, StillroomError):
        return error
    kind = type(error).__name__
    if ran_out(error):
        return OutOfMemory(f"Memory ran out while the model worked ({kind}).")
    return LabFailed(f"The model failed with {kind}.")


def from_json(error: dict[str, Any]) -> StillroomError:
    """The error whose `to_json` this is; a type that is unknown here becomes LabFailed."""
    known = {kind.__name__: kind for kind in (OutOfMemory, *vars(errors).values()) if _is_error(kind)}
    kind = known.get(error["type"], LabFailed)
    if kind is errors.BadSpec:
        fields = [(field["field"], field["problem"]) for field in error["fields"]]
        return errors.BadSpec(fields, next_step=error["next_step"])
    revived: StillroomError = kind.__new__(kind)  # its constructor builds a message from parts; this one is complete
    StillroomError.__init__(revived, error["message"], next_step=error["next_step"])
    return revived


def _is_error(kind: object) -> TypeGuard[type[StillroomError]]:
    return isinstance(kind, type) and issubclass(kind, StillroomError)
