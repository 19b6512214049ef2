"""How a reference to a model, data set, file or output folder is read: one set of rules for all of them.

Ids come first (zoo, run, data set card), then whatever exists at the path, and only then the Hub. `~` is the home
folder everywhere, and names may contain spaces, `@`, `:` and the like.
"""

import os
import re
from pathlib import Path
from typing import Literal, NamedTuple

_PATH = re.compile(r"[./~\\]|[A-Za-z]:[\\/]")  # only a path begins so; C:\ is a path of Windows
Kind = Literal["model", "data set"]


class Reference(NamedTuple):
    """A model or data set that a spec refers to: the field that names it, and its role in the run."""

    field: str  # dotted: model, model.0, student.base, teacher, dataset, recipe.unlabelled
    input: str  # its name in RunSpec.inputs: model, others.0, teacher, dataset, unlabelled
    name: str
    kind: Kind


def expanded(written: str) -> Path:
    """The path that a person wrote, with `~` and `~name` replaced by home folders."""
    return Path(os.path.expanduser(written))  # noqa: PTH111 (Path.expanduser would also expand ./~)


def here(reference: str) -> Path | None:
    """The absolute path of the folder or file that a reference points to; None if nothing is there."""
    if not reference.strip() or not storable(reference):
        return None
    try:
        path = expanded(reference)
        return path.resolve() if path.exists() else None
    except (OSError, ValueError, RuntimeError):  # too long, no permission, a NUL character, or a cycle of links
        return None


def is_path(reference: str) -> bool:
    """Whether a reference can only be a path, because it begins like one."""
    return bool(_PATH.match(reference))


def not_here(reference: str) -> str:
    """The message for a path where nothing exists."""
    if "\\" in reference:
        return f"There is nothing at {reference!r}; write paths with /."
    return f"There is nothing at {reference!r}, which is {str(expanded(reference).absolute())!r}."


def storable(reference: str) -> bool:
    """Whether it can be stored in every file and database: a folder's name may be bytes that are not valid UTF-8."""
    return not any("\ud800" <= sign <= "\udfff" for sign in reference)
