"""Find what the short model missed: a few steps in plain words, worked out from the predictions."""

from collections.abc import Sequence

from trainer.prediction import Prediction
from trainer.tasks import marks_spans
from workbench.compare import compare, context
from workbench.compare.agreement import span_f1
from workbench.predict import Arm, letter

TITLE = "Find what the short model missed"


def story_steps(whole: Sequence[Prediction], tokens: int | None) -> list[str]:
    """The steps, from predictions on the whole note; `tokens` is the context length set, None for the whole note.

    Empty unless the first arm is truncated, the others read everything, and one of them found something beyond.
    """
    if len(whole) < 2 or not _truncated(whole[0]) or not all(map(_reads_all, whole[1:])):
        return []
    cut = whole[0].coverage.unread[0][0]
    beyond = {number: [span for span in arm.spans if span.start >= cut] for number, arm in enumerate(whole)}
    finders = [number for number, spans in beyond.items() if spans]
    if not finders:
        return []
    finds = " and ".join(f"{letter(number)} found {_things(len(beyond[number]))}" for number in finders)
    return [
        _coverage_step(whole),
        f"Beyond that, {finds}. A could not: look for *not read* in its pane, and in the list.",
        _context_step(whole[finders[0]], finders[0], cut, tokens),
        *_agreement_step(whole),
    ]


def _truncated(arm: Prediction) -> bool:
    return bool(marks_spans(arm.task) and arm.coverage.unread and Arm.parse(arm.model).reading == "truncate")


def _reads_all(arm: Prediction) -> bool:
    return bool(marks_spans(arm.task) and arm.coverage.reach and not arm.coverage.unread)


def _things(number: int) -> str:
    return f"{number:,} thing{'s' * (number != 1)}"


def _coverage_step(whole: Sequence[Prediction]) -> str:
    short = whole[0].coverage
    others = " and ".join(letter(number) for number in range(1, len(whole)))
    return f"A read {context.share_read(short)} of the note; {others} read all of it."


def _context_step(finder: Prediction, number: int, cut: int, tokens: int | None) -> str:
    """At which context length the first finding beyond `cut` comes into view."""
    first = min((span for span in finder.spans if span.start >= cut), key=lambda span: span.end)
    inside = [length for length, end in finder.coverage.reach if end >= first.end]
    if not inside:
        return "The first of these findings is so far on that only the whole note shows it."
    if tokens and tokens >= inside[0]:
        end = context.context_end(finder, tokens)
        seen = sum(cut <= span.start and (end is None or span.end <= end) for span in finder.spans)
        return f"At {tokens:,} tokens, {seen:,} of the findings that A missed and {letter(number)} found are in view."
    return f"Under *Details*, move *Context length* to {inside[0]:,} tokens to see the first of these findings."


def _agreement_step(whole: Sequence[Prediction]) -> list[str]:
    """How far the two arms that read everything agree."""
    if len(whole) < 3 or (agreement := span_f1(*whole[1:3])) is None:
        return []
    places = len(compare(whole[1:3]).disagreements)
    if not places:
        return ["B and C read everything, each in its own way, and found the same."]
    differ = f"their agreement is {agreement:.0%}, and they differ in {places:,} place{'s' * (places != 1)}"
    return [f"B and C read everything, each in its own way: {differ}."]
