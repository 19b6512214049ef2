"""A reading of a note by one model or several, running or done: the note, its arms and the lab's answers."""

from collections.abc import Iterable
from functools import partial
from typing import NamedTuple

from trainer.errors import BadSpec, StillroomError
from trainer.prediction import Prediction
from workbench import highlight, lab
from workbench.compare import Comparison, compare, context
from workbench.compare.training_text import caution
from workbench.note import Note
from workbench.predict import Arm


class Stopped(StillroomError):
    """A person stopped a model before it had finished."""

    next_step = "Press the button above to run it again."


class Run(NamedTuple):
    """A note, the titles of the arms by name, and the lab's answers, done or not."""

    note: Note
    arms: dict[str, str]
    answers: tuple[lab.Answer, ...]
    # Predictions on the whole note, if the answers are on its first `context` tokens.
    whole: tuple[Prediction, ...] = ()
    context: int | None = None
    relations: str | None = None  # the model that relates what each arm finds

    @property
    def done(self) -> bool:
        """Whether all answers are done."""
        return all(answer.done() for answer in self.answers)

    @property
    def panes(self) -> list[highlight.Pane]:
        """The panes in their current state."""
        panes = [_pane(*arm, answer) for arm, answer in zip(self.arms.items(), self.answers, strict=True)]
        return [self._placed(*pair) for pair in zip(panes, self.whole, strict=True)] if self.whole else panes

    @property
    def predictions(self) -> list[Prediction]:
        """The predictions so far, in the order of the arms."""
        return [pane.prediction for pane in self.panes if pane.prediction]

    @property
    def comparison(self) -> Comparison | None:
        """The comparison of the predictions so far; None for fewer than two."""
        return compare(self.predictions) if len(self.predictions) > 1 else None

    def stop(self) -> None:
        """Cancel all answers that are not done."""
        for answer in self.answers:
            answer.cancel()

    def _placed(self, pane: highlight.Pane, whole: Prediction) -> highlight.Pane:
        end = context.context_end(whole, self.context)
        if pane.prediction is None or end is None:
            return pane
        return pane._replace(prediction=context.extend_to_note(pane.prediction, whole, end, len(self.note.text)))


def start(note: Note | None, arms: dict[str, str], *, relations: str | None = None) -> Run:
    """Request predictions from the lab. relations: the model that relates what each arm finds.

    Raises BadSpec without an arm, BadData without a note.
    """
    if not arms:
        raise BadSpec([("models", "none chosen; choose one to four")], next_step="Choose a model above.")
    note = note or Note("")
    asked = request(note, [note.text] * len(arms), arms, relations=relations)
    return Run(note, arms, asked, relations=relations)


def request(
    note: Note, texts: Iterable[str], arms: Iterable[str], *, relations: str | None = None
) -> tuple[lab.Answer, ...]:
    """Request a prediction of each arm on its text: the note or the beginning of it, with what is asked about it."""
    submit = partial(lab.shared().submit, hypothesis=note.hypothesis, question=note.question, relations=relations)
    return tuple(submit(text, Arm.parse(arm)) for text, arm in zip(texts, arms, strict=True))


def _pane(name: str, title: str, answer: lab.Answer) -> highlight.Pane:
    if answer.cancelled():
        return highlight.Pane(name, title, error=Stopped("Stopped."))
    if not answer.done():
        return highlight.Pane(name, title, stage=answer.stage, ahead=answer.place, progress=answer.progress)
    if isinstance(error := answer.exception(), StillroomError):
        return highlight.Pane(name, title, error=error)
    return highlight.Pane(name, title, prediction=answer.result(), caution=caution(name))
