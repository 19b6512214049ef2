"""What a person gives to a command: a text file, and a hypothesis or a question."""

import codecs
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trainer.errors import BadData, BadSpec
from trainer.references import expanded

if TYPE_CHECKING:  # slow to import, and many commands read no note
    from trainer.resolved import ResolvedModel
    from workbench.note import Note

TextFile = Annotated[
    Path, typer.Option("--text-file", parser=expanded, metavar="F", help="UTF-8 text, read exactly as it is.")
]
Hypothesis = Annotated[
    str, typer.Option("--hypothesis", metavar="H", help="What a model of pairs judges about the text.")
]
Question = Annotated[str, typer.Option(metavar="Q", help="What a model for questions answers from the text.")]


def read_note(path: Path, hypothesis: str = "", question: str = "") -> "Note":
    """The file as a note with a hypothesis and a question, or "" for none. Raises BadData and Refused for a file that
    is no note.

    A byte order mark is kept, since offsets count the code points of the file as it is.
    """
    from workbench.note import Note, read_upload

    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadData(f"{error.strerror}.", path=str(path), next_step="Give the path of a text file.") from None
    note = read_upload(data, str(path))
    return Note(("\ufeff" if data.startswith(codecs.BOM_UTF8) else "") + note.text, hypothesis, question)


def check_read(note: "Note", models: Iterable["ResolvedModel"]) -> None:
    """Raise BadSpec for a hypothesis or question that none of the models reads; a model without one says so itself."""
    from trainer.tasks import needs_hypothesis, needs_question
    from trainer.zoo import labelled_task

    tasks = [labelled_task(model) for model in models]
    if note.hypothesis and not any(map(needs_hypothesis, tasks)):
        what = "found one; these models read no hypothesis"
        raise BadSpec([("--hypothesis", what)], next_step="Leave it out, or choose a model of the task pairs.")
    if note.question and not any(map(needs_question, tasks)):
        what = "found one; these models answer no question"
        raise BadSpec([("--question", what)], next_step="Leave it out, or choose a model of the task questions.")
