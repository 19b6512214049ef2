"""The state folder: where it is, how paths are written down in it, and what is said when it cannot be used.

A path is written by its place in the state folder or in the checkout, so that both can be moved or mounted elsewhere.
"""

import errno
import os
import re
from pathlib import Path
from typing import Any

from trainer.errors import CorruptFile, StillroomError, Unavailable
from trainer.references import expanded

ROOT = Path(__file__).resolve().parents[1]  # the checkout

_HOME, _CHECKOUT = "$STILLROOM_HOME", "$CHECKOUT"
_RUN = re.compile(r".*/(runs/[0-9a-f]{8}-\d+/.+)", re.DOTALL)  # of an absolute path, as older versions wrote them
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class StateError(StillroomError):
    """The state itself is in the way, and not what was asked for; it is shown as the error that it is besides."""

    def to_json(self) -> dict[str, Any]:
        return super().to_json() | {"type": type(self).__bases__[-1].__name__}


class StateUnavailable(StateError, Unavailable):
    """The state folder or the database cannot be used: missing, read-only, full, locked, or something else."""


class StateDamaged(StateError, CorruptFile):
    """The database is not one, or is damaged."""


def place() -> Path:
    """Where the state is, whether it is there or not: STILLROOM_HOME, or .stillroom in the working folder. Absolute."""
    return expanded(os.environ.get("STILLROOM_HOME") or ".stillroom").absolute()


def home() -> Path:
    """The folder of all state, made if it is missing. StateUnavailable if it cannot be."""
    folder = place()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unusable(folder, error) from None
    return folder


def runs_dir() -> Path:
    """The folder of the run folders, home()/runs."""
    return home() / "runs"


def unavailable(error: OSError) -> StateUnavailable | None:
    """What to say of a failed look or write within the state folder; None where the error is of another place."""
    if error.filename is None:
        return None
    failed = Path(os.fsdecode(error.filename)).absolute()
    return _unusable(failed, error) if failed.is_relative_to(place()) else None


def portable(path: str, state: Path) -> str:
    """How a path is written down: by its place in the state folder or in the checkout; any other stays as it is."""
    for mark, folder in ((_HOME, state), (_HOME, state.resolve()), (_CHECKOUT, ROOT)):
        if Path(path).is_relative_to(folder):
            return f"{mark}/{Path(path).relative_to(folder).as_posix()}"
    return path


def present(path: str, state: Path) -> str:
    """Where a path is now that `portable` wrote down, or an older version, which wrote down absolute ones."""
    for mark, folder in ((_HOME, state), (_CHECKOUT, ROOT)):
        if path.startswith(f"{mark}/"):
            return str(folder / path.removeprefix(f"{mark}/"))
    if (run := _RUN.fullmatch(path)) and (moved := state / run[1]).exists():
        return str(moved)
    return path


def _unusable(failed: Path, error: OSError) -> StateUnavailable:
    if error.errno in _FULL:
        step = "Free some space, or point STILLROOM_HOME at a folder on another disk."
    else:
        step = "Point STILLROOM_HOME at a folder that this user may write to, or correct what stands in its way."
    return StateUnavailable(f"The state folder cannot be used: {failed}: {error.strerror}.", next_step=step)
