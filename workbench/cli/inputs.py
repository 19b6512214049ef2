"""What a person gives to a command: a text file and a hypothesis."""

import codecs
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.errors import BadData, BadSpec

if TYPE_CHECKING:  # slow to import, and many commands read no note
    from trainer.resolved import ResolvedModel
    from workbench.note import Note


def read_note(path: Path, hypothesis: str = "") -> "Note":
    """The file as a note with a hypothesis, or "" for none. Raises BadData and Refused for a file that is no note.

    A byte order mark is kept, since offsets count the code points of the file as it is.
    """
    from workbench.note import Note, read_upload

    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadData(f"{error.strerror}.", path=str(path), next_step="Give the path of a text file.") from None
    note = read_upload(data, str(path))
    return Note(("\ufeff" if data.startswith(codecs.BOM_UTF8) else "") + note.text, hypothesis)


def check_hypothesis(note: "Note", models: Iterable["ResolvedModel"]) -> None:
    """Raise BadSpec for a hypothesis that none of the models reads; one that lacks a hypothesis says so itself."""
    from trainer.tasks import needs_hypothesis
    from trainer.zoo import labelled_task

    if note.hypothesis and not any(needs_hypothesis(labelled_task(model)) for model in models):
        what = "found one; these models read a text alone"
        raise BadSpec([("--hypothesis", what)], next_step="Leave it out, or choose a model of the task pairs.")
