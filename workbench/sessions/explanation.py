"""What the page Explain has asked the lab, and how it stands: what models find in a note, and why they say one of it.

All of it, the note too, lives in memory.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from trainer.errors import StillroomError
from workbench import highlight, lab
from workbench.explain import ExplainOptions, agreement, targets
from workbench.explain.explanation import Explanation
from workbench.explain.grains import heading
from workbench.explain.ranking import coarser, grains_of
from workbench.explain.wording import account, asked, figure, ordinal, verdict
from workbench.note import Note
from workbench.predict import Arm, letter

STOPPED = "stopped"
_QUOTED = 70  # characters
_SURE = (0.05, 1.0)  # share done and seconds passed, from which a guess at the time left is worth saying
_STAGES = {"waiting": "waiting in the queue", "loading": "loading the model", "reading": "reading the note"}

Place = tuple[int, int]


class Findings(NamedTuple):
    """What one or two models find in a note: the lab's answers by arm, done or not."""

    note: Note
    answers: dict[str, lab.Answer]

    @property
    def done(self) -> bool:
        """Whether every model has read the note, or will not."""
        return all(answer.done() for answer in self.answers.values())

    def panes(self, titles: Mapping[str, str]) -> list[highlight.Pane]:
        """The note as each model reads it, as far as they are; `titles` by arm."""
        return [
            highlight.Pane(arm, titles[arm], _result(answer), _error(answer), stage=answer.stage)
            for arm, answer in self.answers.items()
        ]

    def targets(self) -> dict[str, list[float | None]]:
        """What was found, as targets, likeliest first, each with the score of every model, None where it found less."""
        scores: dict[str, dict[str, float]] = {}
        for arm, answer in self.answers.items():
            for each in targets.found(prediction) if (prediction := _result(answer)) else ():
                scores.setdefault(each["target"], {})[arm] = each["score"]
        order = sorted(scores, key=lambda target: -max(scores[target].values()))
        return {target: [scores[target].get(arm) for arm in self.answers] for target in order}

    def named(self, target: str, scores: Sequence[float | None]) -> str:
        """A finding as a line: what it is, the score of each model, and where it is, which tells equal ones apart."""
        parsed = targets.parse(target)
        said = ["not found" if score is None else figure(score) for score in scores]
        tagged = said if len(said) == 1 else [f"{letter(number)} {each}" for number, each in enumerate(said)]
        if not isinstance(parsed, targets.SpanTarget):
            return f"{target}, {', '.join(tagged)}"
        words = quote(self.note.text, parsed.start, parsed.end)
        return f"{asked(parsed, words)}, {', '.join(tagged)} (at {parsed.start:,})"


class Inquiry:
    """One target of a note, asked of one or two models at once; `arms` are their titles by name.

    The answers fill by themselves; `settled` is when nothing more will come. `deadline_s` is as in the lab.
    """

    def __init__(
        self,
        note: Note,
        target: str,
        arms: Mapping[str, str],
        options: ExplainOptions,
        *,
        deadline_s: float | None = None,
    ):
        self.note, self.target, self.arms, self.options = note, target, dict(arms), options
        ask = lab.shared().explain
        self.answers = [ask(note.text, Arm.parse(arm), target, options, deadline_s=deadline_s) for arm in arms]
        self.without: dict[tuple[Place, int], lab.Answer] | None = None  # by place and side, once all have answered
        self._paces = [_Pace() for _ in self.answers]

    def answers_to(self, note: Note, target: str, arms: Mapping[str, str], options: ExplainOptions) -> bool:
        """Whether it asked exactly this."""
        return (self.note, self.target, self.arms, self.options) == (note, target, dict(arms), options)

    @property
    def explained(self) -> bool:
        """Whether every model has given its last answer, or will give none."""
        return all(answer.done() for answer in self.answers)

    @property
    def settled(self) -> bool:
        """Whether the scores without the strongest sentences are there too."""
        return self.explained and self.without is not None and all(answer.done() for answer in self.without.values())

    def stop(self) -> None:
        """Ask no more; what has come stays."""
        for answer in (*self.answers, *(self.without or {}).values()):
            answer.cancel()

    def explanations(self) -> list[Explanation | None]:
        """What each model has answered by now, the coarse answer until the fine one is there."""
        return [_result(answer) or answer.coarse for answer in self.answers]

    def grains(self) -> tuple[str, ...]:
        """The grains at which all final answers can be shown, coarse to fine; none before they are there."""
        final = [_result(answer) for answer in self.answers]
        if not all(final):
            return ()
        shared = [grains_of(found) for found in final]
        return tuple(grain for grain in shared[0] if all(grain in each for each in shared))

    def at(self, grain: str | None) -> list[Explanation | None]:
        """explanations(), the final ones at `grain`."""
        if grain not in self.grains():
            return self.explanations()
        return [coarser(found, self.note.text, grain) for found in self.explanations()]

    def sides(self, grain: str | None = None) -> list[highlight.Side]:
        """What the picture shows now."""
        shown = zip(self.arms.items(), self.answers, self.at(grain), self.explanations(), self._paces, strict=True)
        return [self._side(*each) for each in shown]

    def _side(
        self,
        arm: tuple[str, str],
        answer: lab.Answer,
        shown: Explanation | None,
        found: Explanation | None,
        pace: "_Pace",
    ) -> highlight.Side:
        waiting = "" if answer.done() else _waiting(answer, pace.left(answer.progress, time.monotonic()))
        return highlight.Side(
            *arm,
            explanation=shown,
            verdict=verdict(found) if found else None,
            account=account(shown) if shown else (),
            waiting=STOPPED if answer.cancelled() else waiting,
            share=None if answer.done() else answer.progress,
            error=_error(answer),
        )

    @property
    def place(self) -> Place | None:
        """Where the target is; None for a label of the whole note."""
        target = targets.parse(self.target)
        return (target.start, target.end) if isinstance(target, targets.SpanTarget) else None

    def title(self) -> str:
        """The target as a person reads it, with the words of the note."""
        return asked(targets.parse(self.target), quote(self.note.text, *self.place) if self.place else "")

    def leave_out(self) -> None:
        """Ask every model for its score without the sentence that speaks most for the target, of each of them."""
        if self.without is not None or not self.explained:
            return
        asking = {number: Arm.parse(arm) for number, arm in enumerate(self.arms) if _result(self.answers[number])}
        places = dict.fromkeys(filter(None, map(self._strongest, asking)))
        ablate = lab.shared().ablate
        self.without = {
            (place, number): ablate(self.note.text, arm, self.target, [place], baseline=self._baseline(number))
            for place in places
            for number, arm in asking.items()
        }

    def _baseline(self, number: int) -> str:
        """What hidden parts became in that side's explanation; they become the same without its sentence."""
        return self.answers[number].result().baseline

    def _strongest(self, number: int) -> Place | None:
        """The place of one side's strongest sentence."""
        answer = self.answers[number]
        found = answer.coarse or _result(answer)
        return agreement.strongest(found) if found.grain == "sentence" else None

    def told(self) -> list[str]:
        """What leaving out the strongest sentences has done, as sentences that quote the note."""
        titles = list(self.arms.values())
        return [
            self._sentence(titles[number], place, found)
            for (place, number), answer in (self.without or {}).items()
            if (found := _result(answer))
        ]

    def differences(self, agreed: agreement.Agreement) -> list[str]:
        """The parts that are farthest apart in rank, as lines that quote the note."""
        return [
            f"“{quote(self.note.text, each.start, each.end)}”: {ordinal(each.first)} of A, {ordinal(each.second)} of B"
            for each in agreed.differences
        ]

    def _sentence(self, title: str, place: Place, found: agreement.Ablation) -> str:
        own = self.place
        touched = own and place[0] < own[1] and own[0] < place[1]
        return agreement.sentence(
            title,
            found,
            part="rest of the target's own sentence" if touched else "sentence",
            name=heading(self.note.text, place[0]),
            quote=quote(self.note.text, *place),
            target=self.title(),
        )


def quote(text: str, start: int, end: int) -> str:
    """text[start:end] on one line, cut short where it is long."""
    inner = " ".join(highlight.displayable(text[start:end]).split())
    return inner if len(inner) <= _QUOTED else f"{inner[:_QUOTED]}…"


class _Pace:
    """How long work will take, by how it went since it began; begins anew where the share done falls back."""

    def __init__(self) -> None:
        self.began, self.first, self.last = 0.0, 0.0, 2.0

    def left(self, share: float | None, now: float) -> float | None:
        """Seconds, or None where too little is known."""
        if share is None:
            return None
        if share < self.last:
            self.began, self.first = now, share
        self.last = share
        done, passed = share - self.first, now - self.began
        return None if done < _SURE[0] or passed < _SURE[1] else (1 - share) * passed / done


def _waiting(answer: lab.Answer, left: float | None) -> str:
    stage, progress = answer.stage, answer.progress  # read once: the lab moves them meanwhile
    if stage != "explaining":
        ahead = f", {answer.place} ahead" if stage == "waiting" and answer.place else ""
        return _STAGES[stage] + ahead
    what = "the full answer" if answer.coarse else "sentence by sentence"
    done = f", {progress:.0%}" if progress is not None else ""
    return f"{what}{done}{f', about {max(1, round(left))} s left' if left is not None else ''}"


def _result(answer: lab.Answer) -> Any:
    return answer.result() if answer.done() and not answer.cancelled() and not answer.exception() else None


def _error(answer: lab.Answer) -> StillroomError | None:
    return answer.exception() if answer.done() and not answer.cancelled() else None
