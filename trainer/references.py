"""References to what is on this machine, read in one place: by models, data sets, arms, files and output folders alike.

An id comes first (of the zoo, of a run, of a data set's card), then whatever is at the path that is written, and only
then the Hub. `~` is the home folder everywhere, and a name may hold blanks, `@`, `:` and the like.
"""

import os
import re
from pathlib import Path
from typing import Literal, NamedTuple

_PATH = re.compile(r"[./~\\]|[A-Za-z]:[\\/]")  # what only a path begins with; C:\ is that of another system
Kind = Literal["model", "data set"]


class Reference(NamedTuple):
    """A model or data set that a spec refers to: where that is written, and what it is to the run."""

    field: str  # dotted: model, model.0, student.base, teacher, dataset, recipe.unlabelled
    input: str  # its name in RunSpec.inputs: model, others.0, teacher, dataset, unlabelled
    name: str
    kind: Kind


def expanded(written: str) -> Path:
    """The path that a person wrote, with `~` and `~name` as home folders."""
    return Path(os.path.expanduser(written))  # noqa: PTH111 (a Path would take ./~ for the home folder too)


def here(reference: str) -> Path | None:
    """The absolute path of the folder or file that stands where a reference points, None where nothing does."""
    if not reference.strip() or not storable(reference):
        return None
    try:
        path = expanded(reference)
        return path.resolve() if path.exists() else None
    except (OSError, ValueError, RuntimeError):  # too long for a path, no permission, a NUL inside, links in a circle
        return None


def is_path(reference: str) -> bool:
    """Whether a reference is written as a path, so that it means nothing else."""
    return bool(_PATH.match(reference))


def not_here(reference: str) -> str:
    """What to say of a path at which nothing is."""
    if "\\" in reference:
        return f"There is nothing at {reference!r}; paths are written with / here."
    return f"There is nothing at {reference!r}, which is {str(expanded(reference).absolute())!r}."


def storable(reference: str) -> bool:
    """Whether every file and database can hold it: the name of a folder may be bytes that are no UTF-8."""
    return not any("\ud800" <= sign <= "\udfff" for sign in reference)
