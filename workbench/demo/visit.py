"""What a visitor may ask, and what each session has asked of the lab while its page is open."""

from collections.abc import Iterable, Sequence
from functools import cache

from trainer import zoo
from trainer.errors import BadSpec, Refused, StillroomError, UnknownName
from trainer.prediction import Prediction
from trainer.tasks import for_notes
from workbench import highlight, lab
from workbench.compare.arms import arm_titles
from workbench.demo.wait_times import PACE
from workbench.explain import GRAINS, METHODS, ExplainOptions, targets
from workbench.highlight.markup import count
from workbench.note import demo_note
from workbench.predict import Arm
from workbench.sessions.comparison import Run
from workbench.sessions.explanation import Inquiry

FEWEST, MOST = 2, 4  # models side by side
DEADLINE_S = 120.0  # seconds after which a request makes room for others


class NotOffered(UnknownName):
    """A name that this demo does not know. The message does not repeat it, since it may be a note."""

    next_step = "Choose among these."

    def __init__(self, what: str, known: Iterable[str]):
        StillroomError.__init__(self, f"This demo has no such {what}. It has: {', '.join(filter(None, known))}.")


def public_error(error: StillroomError) -> StillroomError:
    """An error as a visitor sees it: without anything that was sent, since any field may hold a note."""
    if isinstance(error, UnknownName) and not isinstance(error, NotOffered):
        return Refused("A name in the request is unknown.", next_step="Choose what the page offers.")
    if isinstance(error, BadSpec) and any(field == "target" for field, _ in error.fields):
        problem = "write START:END:LABEL, a place within the note and a label of the model"
        return BadSpec([("target", problem)], next_step="Choose among the findings of a comparison.")
    return error


def words(run: Run) -> str:
    """How far a comparison is, and its position in the lab's queue."""
    waiting = [answer.place for answer in run.answers if not answer.done()]
    if not waiting:
        return "Done."
    ahead = f" {count(min(waiting), 'request')} ahead in the queue." if min(waiting) else ""
    return f"{len(run.answers) - len(waiting)} of {len(run.answers)} models have answered.{ahead}"


class Visit:
    """What one session sees: the last comparison and the last explanation that it asked for."""

    def __init__(self) -> None:
        self.run: Run | None = None
        self.inquiry: Inquiry | None = None

    def stop(self) -> None:
        """Stop what is being computed."""
        if self.run:
            self.run.stop()
        if self.inquiry:
            self.inquiry.stop()


VISITS: dict[str | None, Visit] = {}  # by session


def of(session: str | None) -> Visit:
    """The visit of a session."""
    return VISITS.setdefault(session, Visit())


def leave(session: str | None) -> None:
    """The visitor has closed the page: stop what is being computed, and forget the note."""
    if visit := VISITS.pop(session, None):
        visit.stop()


@cache
def offered() -> dict[str, str]:
    """Every arm that may be chosen, with its title: the zoo's models on this machine, in windows and truncated.

    Runs, folders and Hub ids are left out: a public page must not read the files of its server.
    """
    present = [entry for entry in zoo.entries().values() if entry.loads and zoo.weights_here(entry)]
    titles = arm_titles([entry for entry in present if entry.task in for_notes(alone=True)])
    return dict(sorted(titles.items(), key=lambda each: "@" in each[0]))


def arm(name: str) -> Arm:
    """The arm of that name. NotOffered if this demo has none."""
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
    """Ask the lab why an arm gives a target; an empty grain is the method's own. Raises what `ask` raises."""
    note, chosen = demo_note(text), arm(name)
    for what, name_sent, known in (("method", method, METHODS), ("grain", grain, ("", *GRAINS))):
        if name_sent not in known:
            raise NotOffered(what, known)
    parsed, labels = targets.parse(target), zoo.entries()[chosen.model].labels
    # The model itself knows the values of its attributes, and refuses others.
    if parsed.label not in labels and not isinstance(parsed, targets.AttributeTarget):
        raise NotOffered("label of this model", labels)
    parsed.check(text)
    options = ExplainOptions(method=method, grain=grain or None, context=True)
    inquiry = Inquiry(note, target, {chosen.name: offered()[chosen.name]}, options, deadline_s=DEADLINE_S)
    PACE.follow(inquiry.answers[0], pace_kind(name, method), len(text))
    return inquiry


def pace_kind(name: str, method: str) -> str:
    """The key under which the speed of explanations is measured: model and method."""
    return f"{arm(name).model} {method}"


def findings(panes: Iterable[highlight.Pane], *, most: int) -> list[tuple[str, str]]:
    """What may be explained, as (arm, target), in the order of the note: of each arm `most` findings, those with the
    highest scores, each followed by the values of its attributes.
    """
    return [(pane.name, str(target)) for pane in panes if pane.prediction for target in _best(pane.prediction, most)]


def _best(prediction: Prediction, most: int) -> list[targets.Target]:
    listed = [targets.parse(each["target"]) for each in targets.list_targets(prediction)]
    best = [each for each in listed if not isinstance(each, targets.AttributeTarget)][:most]
    places = {targets.order(each)[:2] for each in best}
    values = [each for each in listed if isinstance(each, targets.AttributeTarget) and (each.start, each.end) in places]
    return sorted([*best, *values], key=targets.order)
