"""The state folder: where it is, how paths are stored in it, and the errors when it cannot be used.

Stored paths are relative to the state folder or the checkout, so that both can be moved or mounted elsewhere.
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
_RUN = re.compile(r".*/(runs/[0-9a-f]{8}-\d+/.+)", re.DOTALL)  # in an absolute path, which older versions stored
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class StateError(StillroomError):
    """A fault of the stored state, not of the request. `to_json` reports the type of the other base class."""

    def to_json(self) -> dict[str, Any]:
        return super().to_json() | {"type": type(self).__bases__[-1].__name__}


class StateUnavailable(StateError, Unavailable):
    """The state folder or the database cannot be used: missing, read-only, full, locked, or something else."""


class StateDamaged(StateError, CorruptFile):
    """The database file is damaged, or is not a database."""


def place() -> Path:
    """Absolute path of the state folder, which need not exist: STILLROOM_HOME, or .stillroom in the working folder."""
    return expanded(os.environ.get("STILLROOM_HOME") or ".stillroom").absolute()


def home() -> Path:
    """The state folder, created if it is missing. Raises StateUnavailable if that fails."""
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
    """The error to raise for a failed read or write in the state folder; None if the OSError is about another place."""
    if error.filename is None:
        return None
    failed = Path(os.fsdecode(error.filename)).absolute()
    return _unusable(failed, error) if failed.is_relative_to(place()) else None


def portable(path: str, state: Path) -> str:
    """A path as it is stored: relative to the state folder or the checkout; a path outside both is unchanged."""
    for mark, folder in ((_HOME, state), (_HOME, state.resolve()), (_CHECKOUT, ROOT)):
        if Path(path).is_relative_to(folder):
            return f"{mark}/{Path(path).relative_to(folder).as_posix()}"
    return path


def present(path: str, state: Path) -> str:
    """The present place of a path that `portable` made; also of an absolute one that an older version stored."""
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
        step = "Point STILLROOM_HOME at a folder that this user may write to, or remove what is in its place."
    return StateUnavailable(f"The state folder cannot be used: {failed}: {error.strerror}.", next_step=step)
