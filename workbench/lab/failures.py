"""What can go wrong in the lab, as errors that never hold note text, and their way through a frame."""

import errno
from collections.abc import Mapping

from trainer import errors
from trainer.errors import StillroomError
from trainer.training.memory import ran_out

NO_MEMORY = errno.ENOMEM  # the exit code of a child that has too little memory to send a frame


class LabFailed(StillroomError):
    """The process that runs the models ended, or a model failed in a way nobody foresaw. Names the type, never text."""

    next_step = (
        "Run it again: a fresh process starts by itself. If it fails again, take a shorter note or fewer models, "
        "which need less memory."
    )


class OutOfMemory(LabFailed):
    """A request needed more memory than there was, or a model is larger than what is free."""

    next_step = (
        "Take a shorter note, a smaller model or a smaller max_tokens, or free memory on this machine: a training job "
        "may hold much of it. Then ask again; a fresh process starts by itself."
    )


class TooLate(StillroomError):
    """No answer within the time that the asker allowed; its work was stopped."""

    next_step = (
        "Ask again when fewer requests wait, allow more time, or ask for less: a shorter note, a coarser grain or a "
        "cheaper method."
    )


def late(spent: Mapping[str, float], deadline_s: float) -> TooLate:
    """The error of an answer that was `spent` seconds in each of its stages."""
    told = {"waiting": "waiting for other requests", "loading": "loading the model"}
    parts = ", ".join(f"{seconds:.1f} s {told.get(stage, stage)}" for stage, seconds in spent.items())
    return TooLate(f"There was no answer within the {deadline_s:g} s allowed: {parts}.")


def shutting_down() -> LabFailed:
    """The error of whoever asks a lab that is closed."""
    return LabFailed("The app is shutting down.", next_step="Start it again.")


def typed(error: Exception) -> StillroomError:
    """The error itself if it is one of ours; otherwise only its type, since its message may quote the note."""
    if isinstance(error, StillroomError):
        return error
    kind = type(error).__name__
    if ran_out(error):
        return OutOfMemory(f"Memory ran out while the model worked ({kind}).")
    return LabFailed(f"The model failed with {kind}.")


def revived(error: dict) -> StillroomError:
    """The error that `to_json` made a frame of; a type that is not known here is a LabFailed."""
    known = {kind.__name__: kind for kind in (OutOfMemory, *vars(errors).values()) if _is_error(kind)}
    kind = known.get(error["type"], LabFailed)
    if kind is errors.BadSpec:
        fields = [(field["field"], field["problem"]) for field in error["fields"]]
        return errors.BadSpec(fields, next_step=error["next_step"])
    found = kind.__new__(kind)  # its own constructor makes a message out of parts; this message is whole
    StillroomError.__init__(found, error["message"], next_step=error["next_step"])
    return found


def _is_error(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, StillroomError)
