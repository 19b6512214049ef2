"""What a visitor may ask, checked; and what each session has asked of the lab, for as long as its page is open."""

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

from trainer import registry
from trainer.errors import BadSpec, UnknownName
from trainer.tasks import LABELLED
from workbench import highlight, lab
from workbench.compare import Comparison, compare
from workbench.demo.pace import PACE
from workbench.note import Note, demo_note
from workbench.predict import Arm

FEWEST, MOST = 2, 4  # models side by side
DEADLINE_S = 120.0  # after which a request makes room for others


class Run(NamedTuple):
    """A comparison as it stands: a note, the arms by name with their titles, and the lab's answers, done or not."""

    note: Note
    arms: dict[str, str]
    answers: tuple[lab.Answer, ...]

    @property
    def done(self) -> bool:
        """Whether every model has answered, failed or been stopped."""
        return all(answer.done() for answer in self.answers)

    @property
    def panes(self) -> list[highlight.Pane]:
        """One for each arm, as it is now."""
        return [_pane(*arm, answer) for arm, answer in zip(self.arms.items(), self.answers, strict=True)]

    @property
    def comparison(self) -> Comparison | None:
        """Of the arms that have answered; None for fewer than two."""
        found = [pane.prediction for pane in self.panes if pane.prediction]
        return compare(found) if len(found) > 1 else None

    @property
    def words(self) -> str:
        """How far it is."""
        done = sum(answer.done() for answer in self.answers)
        requests, _ = PACE.ahead()
        others = requests - (len(self.answers) - done)
        ahead = f" The server is at {others} more for other visitors." if others > 0 else ""
        return f"{done} of {len(self.answers)} models have answered.{ahead}" if done < len(self.answers) else "Done."

    def cancel(self) -> None:
        """Ask for no more."""
        for answer in self.answers:
            answer.cancel()


RUNS: dict[str, Run] = {}  # by session


@cache
def offered() -> dict[str, str]:
    """Every arm that may be chosen, with its title: models of the zoo that are here, in windows and cut off.

    Runs, folders and Hub ids are left out: a public page does not reach into the files of its server.
    """
    here = [entry for entry in registry.zoo().values() if entry.loads and registry.weights_here(entry)]
    titles = {entry.id: entry.name for entry in here if entry.task in LABELLED}
    return titles | {f"{name}@truncate": f"{title}, first window only" for name, title in titles.items()}


def arm(name: str) -> Arm:
    """An arm that is offered. Raises UnknownName."""
    if name not in offered():
        raise UnknownName("model here", name, offered(), next_step="Choose among these.")
    return Arm.parse(name)


def ask(text: str, names: Sequence[str]) -> Run:
    """Ask the lab for a comparison. Raises BadData for an empty note, Refused for a long one, BadSpec, UnknownName."""
    note, arms = demo_note(text), [arm(name) for name in dict.fromkeys(names)]
    if not FEWEST <= len(arms) <= MOST:
        raise BadSpec(
            [("models", f"found {len(arms)}; choose two to four")], next_step="Choose them and compare again."
        )
    answers = tuple(lab.shared().submit(note.text, each) for each in arms)
    for each, answer in zip(arms, answers, strict=True):
        PACE.follow(answer, each.model, len(note.text))
    return Run(note, {each.name: offered()[each.name] for each in arms}, answers)


def leave(session: str) -> None:
    """The visitor has closed the page: stop what was asked, and forget the note."""
    if run := RUNS.pop(session, None):
        run.cancel()


def _pane(name: str, title: str, answer: lab.Answer) -> highlight.Pane:
    if not answer.done():
        return highlight.Pane(name, title, stage=answer.stage)
    if answer.cancelled():
        return highlight.Pane(name, title, error=lab.LabFailed("Stopped.", next_step="Press Compare to run it again."))
    if error := answer.exception():
        return highlight.Pane(name, title, error=error)
    return highlight.Pane(name, title, prediction=answer.result())
