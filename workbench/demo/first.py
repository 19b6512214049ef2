"""The first view: two starter models on a sample note, shown at once.

A view is shipped, and is used only while the note and weights are those it was computed from. When the server starts,
the lab reads the sample with every model on offer, which gives the server's own view and its first speeds.
`python -m workbench.demo.first` recomputes the shipped view.
"""

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from trainer import zoo
from trainer.files import write_file
from trainer.prediction import Plain, Prediction
from workbench import highlight
from workbench.compare import Comparison, compare
from workbench.compare.training_text import caution
from workbench.demo.visit import MOST, Run, ask, offered
from workbench.note import Note, samples

FILE = Path(__file__).parents[2] / "data" / "demo" / "first.json"
SAMPLE, ARMS = "ed-chest-pain", ("minilm-notes", "minilm-notes-l3")


class View(Plain):
    """What ARMS found in SAMPLE; the hashes are SHA-256 of the note and of each arm's weights."""

    note_sha256: str
    weights_sha256: dict[str, str]
    predictions: tuple[Prediction, ...]


class Shown(NamedTuple):
    """The arguments of highlight.results, and a sentence that says where they come from."""

    text: str
    panes: list[highlight.Pane]
    comparison: Comparison | None
    words: str


class Opening:
    """The first view of a server: the shipped one until the lab has answered, then the server's own."""

    def __init__(self) -> None:
        self._shipped = read_shipped()
        self._run = ask_for_sample()

    @property
    def ready(self) -> bool:
        """Whether there is a view to show."""
        return self._shipped is not None or self._answered

    @property
    def shown(self) -> Shown:
        """The view as it is now."""
        panes, words = self._run.panes[: len(ARMS)], "This view was computed when the server started."
        if self._shipped and not all(pane.prediction for pane in panes):
            titled = [(each, offered()[each.model]) for each in self._shipped.predictions]
            panes = [
                highlight.Pane(each.model, title, prediction=each, caution=caution(each.model))
                for each, title in titled
            ]
            words = "This view was computed when the demo was built, on another machine."
        elif not self._answered:
            words = "The first comparison is being computed; that takes a few seconds."
        predictions = [pane.prediction for pane in panes if pane.prediction]
        return Shown(note().text, panes, compare(predictions) if len(predictions) > 1 else None, words)

    @property
    def _answered(self) -> bool:
        return all(answer.done() for answer in self._run.answers[: len(ARMS)])


def note() -> Note:
    """The note of the first view."""
    return next(each.note for each in samples() if each.id == SAMPLE)


def ask_for_sample() -> Run:
    """Ask every model on offer for the sample, those of the view first."""
    plain = [name for name in offered() if "@" not in name]
    return ask(note().text, [*ARMS, *(name for name in plain if name not in ARMS)][:MOST])


def read_shipped(path: Path = FILE) -> View | None:
    """The view in a file; None if there is none, or if it was computed from another note or other weights."""
    try:
        view = View.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None
    return view if (view.note_sha256, view.weights_sha256) == _hashes() else None


def write(path: Path = FILE) -> None:
    """Compute the view and write it to the file. Raises what the lab raises."""
    note_hash, weights = _hashes()
    predictions = tuple(answer.result() for answer in ask(note().text, ARMS).answers)
    view = View(note_sha256=note_hash, weights_sha256=weights, predictions=predictions)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, view.model_dump_json(indent=1).encode() + b"\n")


def _hashes() -> tuple[str, Mapping[str, str]]:
    return sha256(note().text.encode()).hexdigest(), {arm: zoo.resolve(arm).sha256 for arm in ARMS}


if __name__ == "__main__":
    write()
