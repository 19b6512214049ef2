"""What the Explain page has requested from the lab: the findings of models in a note, and the explanation of one.

All of it, including the note, stays in memory.
"""

import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from trainer.errors import StillroomError
from workbench import highlight, lab
from workbench.compare.training_text import caution
from workbench.explain import ExplainOptions, agreement, targets
from workbench.explain.explanation import Explanation
from workbench.explain.grains import find_heading
from workbench.explain.methods import METHODS
from workbench.explain.ranking import available_grains, coarsen
from workbench.explain.wording import account, describe_target, name_target, verdict
from workbench.note import Note
from workbench.predict import Arm, letter, percent

STOPPED = "stopped"
_QUOTED = 70  # characters
_NAMED = 4  # parts at most in a summary
_MIN_SHARE, _MIN_SECONDS = 0.05, 1.0  # done and passed before the time left is estimated
_STAGES = {"waiting": "waiting in the queue", "loading": "loading the model", "reading": "reading the note"}

Place = tuple[int, int]


class Findings(NamedTuple):
    """The findings of one or two models in a note: the lab's answers by arm, done or not."""

    note: Note
    answers: dict[str, lab.Answer]

    @property
    def done(self) -> bool:
        """Whether every model has read the note or failed."""
        return all(answer.done() for answer in self.answers.values())

    def panes(self, titles: Mapping[str, str]) -> list[highlight.Pane]:
        """One pane per model in its current state. titles: by arm."""
        return [
            highlight.Pane(arm, titles[arm], _result(answer), _error(answer), stage=answer.stage, caution=caution(arm))
            for arm, answer in self.answers.items()
        ]

    def targets(self) -> dict[str, list[float | None]]:
        """All findings as targets, in the order of the note, with the score of each model; None where one missed it.

        A value of an attribute follows its span.
        """
        scores: dict[str, dict[str, float]] = {}
        for arm, answer in self.answers.items():
            for each in targets.list_targets(prediction) if (prediction := _result(answer)) else ():
                scores.setdefault(each["target"], {})[arm] = each["score"]
        order = sorted(scores, key=lambda target: targets.order(targets.parse(target)))
        return {target: [scores[target].get(arm) for arm in self.answers] for target in order}

    def title(self, target: str, scores: Sequence[float | None] = ()) -> str:
        """A finding in one line: its words, the score of each model, and its position, which makes the line unique.

        Without scores no model found it.
        """
        parsed = targets.parse(target)
        scores = scores or [None] * len(self.answers)
        figures = [_figure(answer, score) for answer, score in zip(self.answers.values(), scores, strict=False)]
        tagged = figures if len(figures) == 1 else [f"{letter(number)} {each}" for number, each in enumerate(figures)]
        if not isinstance(parsed, targets.SpanTarget):
            return f"{target}, {', '.join(tagged)}"
        words = quote(self.note.text, parsed.start, parsed.end)
        return f"{describe_target(parsed, words)}, {', '.join(tagged)} ({position(self.note.text, parsed.start)})"


def _figure(answer: lab.Answer, score: float | None) -> str:
    """What a model says of a target: its score, or a value on its scale, which is no probability."""
    if score is None:
        return "not found"
    prediction = _result(answer)
    return str(prediction.value) if prediction and prediction.value else percent(score)


class Inquiry:
    """The explanation of one target in a note by one or two models. arms: their titles by name.

    The answers fill in by themselves until `settled`. deadline_s is as in the lab.
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
        ask = partial(lab.shared().explain, hypothesis=note.hypothesis, question=note.question)
        self.answers = [ask(note.text, Arm.parse(arm), target, options, deadline_s=deadline_s) for arm in arms]
        self.without: dict[tuple[Place, int], lab.Answer] | None = (
            None  # by place and side, once all models have answered
        )
        self._paces = [_Pace() for _ in self.answers]

    def is_about(self, note: Note, target: str, arms: Mapping[str, str], options: ExplainOptions) -> bool:
        """Whether the inquiry is for exactly these."""
        return (self.note, self.target, self.arms, self.options) == (note, target, dict(arms), options)

    @property
    def explained(self) -> bool:
        """Whether every model has given its final answer or failed."""
        return all(answer.done() for answer in self.answers)

    @property
    def settled(self) -> bool:
        """Whether the scores without the strongest sentences are done too."""
        return self.explained and self.without is not None and all(answer.done() for answer in self.without.values())

    def stop(self) -> None:
        """Cancel what is not done; finished answers remain."""
        for answer in (*self.answers, *(self.without or {}).values()):
            answer.cancel()

    def explanations(self) -> list[Explanation | None]:
        """The current answer of each model: the coarse one until the final one is done."""
        return [_result(answer) or answer.coarse for answer in self.answers]

    def grains(self) -> tuple[str, ...]:
        """The grains at which all final answers can be shown, coarse to fine; empty before they are done."""
        final = [_result(answer) for answer in self.answers]
        if not all(final):
            return ()
        offered = [available_grains(explanation) for explanation in final]
        return tuple(grain for grain in offered[0] if all(grain in grains for grains in offered))

    def at(self, grain: str | None) -> list[Explanation | None]:
        """The explanations, with final ones summed up to `grain` where possible."""
        if grain not in self.grains():
            return self.explanations()
        return [coarsen(explanation, self.note.text, grain) for explanation in self.explanations() if explanation]

    def sides(self, grain: str | None = None) -> list[highlight.Side]:
        """What the picture shows, one side per model."""
        shown = zip(self.arms.items(), self.answers, self.at(grain), self.explanations(), self._paces, strict=True)
        return [self._side(*each) for each in shown]

    def _side(
        self,
        arm: tuple[str, str],
        answer: lab.Answer,
        shown: Explanation | None,
        current: Explanation | None,
        pace: "_Pace",
    ) -> highlight.Side:
        waiting = "" if answer.done() else _waiting(answer, pace.left(answer.progress, time.monotonic()))
        return highlight.Side(
            *arm,
            explanation=shown,
            verdict=verdict(current) if current else None,
            account=account(shown) if shown else (),
            waiting=STOPPED if answer.cancelled() else waiting,
            share=None if answer.done() else answer.progress,
            error=_error(answer),
            caution=caution(arm[0]),
        )

    @property
    def place(self) -> Place | None:
        """The position of the target; None for a label of the whole note."""
        target = targets.parse(self.target)
        return (target.start, target.end) if isinstance(target, targets.SpanTarget) else None

    def title(self) -> str:
        """The target in words, quoting the note."""
        return describe_target(targets.parse(self.target), quote(self.note.text, *self.place) if self.place else "")

    def ablate_strongest(self) -> None:
        """Request every model's score without the strongest sentence of each model, once all have answered."""
        if self.without is not None or not self.explained:
            return
        arms = {number: Arm.parse(arm) for number, arm in enumerate(self.arms) if _result(self.answers[number])}
        places = dict.fromkeys(filter(None, map(self._strongest, arms)))
        ablate = partial(lab.shared().ablate, hypothesis=self.note.hypothesis, question=self.note.question)
        self.without = {
            (place, number): ablate(self.note.text, arm, self.target, [place], baseline=self._baseline(number))
            for place in places
            for number, arm in arms.items()
        }

    def _baseline(self, number: int) -> str:
        """The baseline of that side's explanation, which is used for the ablation too."""
        explanation: Explanation = self.answers[number].result()
        return explanation.baseline

    def _strongest(self, number: int) -> Place | None:
        """The position of the strongest sentence for one model."""
        answer = self.answers[number]
        explanation = answer.coarse or _result(answer)
        return agreement.strongest(explanation) if explanation.grain == "sentence" else None

    def ablation_sentences(self) -> list[str]:
        """The effect of removing the strongest sentences, in sentences that quote the note."""
        titles = list(self.arms.values())
        return [
            self._sentence(titles[number], place, ablation)
            for (place, number), answer in (self.without or {}).items()
            if (ablation := _result(answer))
        ]

    def summaries(self) -> list[str]:
        """What supports and what opposes the target most: a sentence per model that has answered, quoting the note."""
        each = zip(self.arms.values(), self.explanations(), strict=True)
        return [
            summary for title, explanation in each if explanation and (summary := self._summary(title, explanation))
        ]

    def _summary(self, title: str, explanation: Explanation) -> str:
        """One model's sentence, of parts with letters or digits; "" if none of them has a score."""
        text = self.note.text
        worded = [part for part in explanation.attributions if any(map(str.isalnum, text[part.start : part.end]))]
        parts = sorted((part for part in worded if part.score), key=lambda part: -abs(part.score))
        if not parts:
            return ""
        strong = [part for part in parts[:_NAMED] if abs(part.score) >= abs(parts[0].score) / 4]
        support = _listed([quote(text, part.start, part.end) for part in strong if part.score > 0])
        against = _listed([quote(text, part.start, part.end) for part in strong if part.score < 0])
        named = name_target(targets.parse(self.target), quote(text, *self.place) if self.place else "")
        model = f"{title}, " if len(self.arms) > 1 else ""
        if not METHODS[explanation.method].signed:
            return f"{model}{named}: the model depends most on {support}."
        clauses = [f"what supports it most is {support}"] * bool(support)
        clauses += [f"what opposes it most is {against}"] * bool(against)
        return f"{model}{named}: {'; '.join(clauses)}."

    def differences(self, agreed: agreement.Agreement) -> list[str]:
        """The parts with the largest rank differences, in lines that quote the note."""
        text = self.note.text
        return [
            f"“{quote(text, each.start, each.end)}”: rank {each.first:,} for A, {each.second:,} for B"
            for each in agreed.differences
        ]

    def _sentence(self, title: str, place: Place, ablation: agreement.Ablation) -> str:
        target = self.place
        overlaps = target and place[0] < target[1] and target[0] < place[1]
        return agreement.ablation_sentence(
            title if len(self.arms) > 1 else "",
            ablation,
            part="rest of its own sentence" if overlaps else "sentence",
            name=find_heading(self.note.text, place[0]),
            quote=quote(self.note.text, *place),
            target=name_target(targets.parse(self.target), quote(self.note.text, *target) if target else ""),
        )


def _listed(quotes: Sequence[str]) -> str:
    marked = [f"“{each}”" for each in dict.fromkeys(quotes)]
    return " and ".join(filter(None, [", ".join(marked[:-1]), *marked[-1:]]))


def position(text: str, start: int) -> str:
    """An offset as a person finds it in the note; each has its own."""
    before = text[:start].split("\n")
    return f"line {len(before):,}, character {len(before[-1]) + 1:,}"


def quote(text: str, start: int, end: int) -> str:
    """text[start:end] on one line, shortened if it is long."""
    inner = " ".join(highlight.displayable(text[start:end]).split())
    return inner if len(inner) <= _QUOTED else f"{inner[:_QUOTED]}…"


class _Pace:
    """Estimates the time left from the progress so far; starts again if the progress goes back."""

    def __init__(self) -> None:
        self.began, self.first, self.last = 0.0, 0.0, 2.0

    def left(self, share: float | None, now: float) -> float | None:
        """Seconds left, or None while too little is known."""
        if share is None:
            return None
        if share < self.last:
            self.began, self.first = now, share
        self.last = share
        done, passed = share - self.first, now - self.began
        return None if done < _MIN_SHARE or passed < _MIN_SECONDS else (1 - share) * passed / done


def _waiting(answer: lab.Answer, left: float | None) -> str:
    stage, progress = answer.stage, answer.progress  # read once, since the lab changes them meanwhile
    if stage != "explaining":
        ahead = f", {answer.place} ahead" if stage == "waiting" and answer.place else ""
        return _STAGES[stage] + ahead
    step = "computing the full explanation" if answer.coarse else "scoring sentences"
    done = f", {progress:.0%}" if progress is not None else ""
    return f"{step}{done}{f', about {max(1, round(left))} s left' if left is not None else ''}"


def _result(answer: lab.Answer) -> Any:
    return answer.result() if answer.done() and not answer.cancelled() and not answer.exception() else None


def _error(answer: lab.Answer) -> StillroomError | None:
    error = answer.exception() if answer.done() and not answer.cancelled() else None
    return error if isinstance(error, StillroomError) else None  # as every error of an answer is
