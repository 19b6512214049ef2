"""What a visitor may ask, checked; and what each session has asked of the lab, for as long as its page is open."""

from collections.abc import Iterable, Sequence
from functools import cache

from trainer import zoo
from trainer.errors import BadSpec, Refused, StillroomError, UnknownName
from trainer.tasks import for_notes
from workbench import highlight, lab
from workbench.compare.arms import arm_titles
from workbench.demo.wait_times import PACE
from workbench.explain import GRAINS, METHODS, ExplainOptions, targets
from workbench.note import demo_note
from workbench.predict import Arm
from workbench.sessions.comparison import Run
from workbench.sessions.explanation import Inquiry

FEWEST, MOST = 2, 4  # models side by side
DEADLINE_S = 120.0  # after which a request makes room for others


class NotOffered(UnknownName):
    """A name that this demo does not know. It is not repeated: what was sent in its place may be a note."""

    next_step = "Choose among these."

    def __init__(self, what: str, known: Iterable[str]):
        StillroomError.__init__(self, f"This demo has no such {what}. It has: {', '.join(filter(None, known))}.")


def told(error: StillroomError) -> StillroomError:
    """An error as a visitor sees it: without what was sent, which may be a note in whatever place it stood."""
    if isinstance(error, UnknownName) and not isinstance(error, NotOffered):
        return Refused("There is nothing of a name that was sent.", next_step="Choose among what the page offers.")
    if isinstance(error, BadSpec) and any(field == "target" for field, _ in error.fields):
        problem = "write START:END:LABEL, a place within the note and a label of the model"
        return BadSpec([("target", problem)], next_step="Choose among the findings of a comparison.")
    return error


def words(run: Run) -> str:
    """How far a comparison is, and its place in the lab's line."""
    waiting = [answer.place for answer in run.answers if not answer.done()]
    if not waiting:
        return "Done."
    before = f" Before them in line: {min(waiting):,}." if min(waiting) else ""
    return f"{len(run.answers) - len(waiting)} of {len(run.answers)} models have answered.{before}"


class Visit:
    """What one session sees: its comparison and its explanation, each the last one it asked for."""

    def __init__(self) -> None:
        self.run: Run | None = None
        self.inquiry: Inquiry | None = None

    def stop(self) -> None:
        """Ask for no more."""
        for asked in filter(None, (self.run, self.inquiry)):
            asked.stop()


VISITS: dict[str, Visit] = {}  # by session


def of(session: str) -> Visit:
    """The visit of a session."""
    return VISITS.setdefault(session, Visit())


def leave(session: str) -> None:
    """The visitor has closed the page: stop what was asked, and forget the note."""
    if visit := VISITS.pop(session, None):
        visit.stop()


@cache
def offered() -> dict[str, str]:
    """Every arm that may be chosen, with its title: models of the zoo that are here, in windows and cut off.

    Runs, folders and Hub ids are left out: a public page does not reach into the files of its server.
    """
    here = [entry for entry in zoo.entries().values() if entry.loads and zoo.weights_here(entry)]
    found = arm_titles([entry for entry in here if entry.task in for_notes()])
    return dict(sorted(found.items(), key=lambda each: "@" in each[0]))


def arm(name: str) -> Arm:
    """An arm that is offered. Raises UnknownName."""
    if name not in offered():
        raise NotOffered("model", offered())
    return Arm.parse(name)


def ask(text: str, names: Sequence[str]) -> Run:
    """Ask the lab for a comparison. Raises BadData for an empty note, Refused for a long one, BadSpec, UnknownName."""
    note, arms = demo_note(text), [arm(name) for name in dict.fromkeys(names)]
    if not FEWEST <= len(arms) <= MOST:
        raise BadSpec(
            [("models", f"found {len(arms)}; choose two to four")], next_step="Choose them and compare again."
        )
    answers = tuple(lab.shared().submit(note.text, each, deadline_s=DEADLINE_S) for each in arms)
    for each, answer in zip(arms, answers, strict=True):
        PACE.follow(answer, each.model, len(note.text))
    return Run(note, {each.name: offered()[each.name] for each in arms}, answers)


def why(text: str, name: str, target: str, method: str, grain: str = "") -> Inquiry:
    """Ask the lab why an arm says a target of a text; no grain is the method's own. Raises what `ask` raises."""
    note, chosen = demo_note(text), arm(name)
    for what, given, known in (("method", method, METHODS), ("grain", grain, ("", *GRAINS))):
        if given not in known:
            raise NotOffered(what, known)
    parsed, labels = targets.parse(target), zoo.entries()[chosen.model].labels
    if parsed.label not in labels:
        raise NotOffered("label of this model", labels)
    parsed.check(text)
    options = ExplainOptions(method=method, grain=grain or None)
    inquiry = Inquiry(note, target, {chosen.name: offered()[chosen.name]}, options, deadline_s=DEADLINE_S)
    PACE.follow(inquiry.answers[0], kind(name, method), len(text))
    return inquiry


def kind(name: str, method: str) -> str:
    """What the pace of an explanation is measured by."""
    return f"{arm(name).model} {method}"


def findings(panes: Iterable[highlight.Pane], *, most: int) -> list[tuple[str, str]]:
    """What may be explained, as (arm, target): of each arm at most so many, the likeliest first."""
    read = [pane for pane in panes if pane.prediction]
    return [(pane.name, each["target"]) for pane in read for each in targets.list_targets(pane.prediction)[:most]]
