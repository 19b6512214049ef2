"""Find what the short model missed: a few steps in plain words, each out of the predictions at hand."""

from collections.abc import Sequence

from trainer.prediction import Prediction
from trainer.tasks import answers
from workbench.compare import compare, context, span_f1
from workbench.predict import Arm, letter

TITLE = "Find what the short model missed"


def story(whole: Sequence[Prediction], chosen: int | None) -> list[str]:
    """The steps, on predictions of the whole note; `chosen` is the context length that is set, None: the whole note.

    Empty unless the first arm is cut off, the others read everything, and one of them found something beyond.
    """
    if len(whole) < 2 or not _cut_off(whole[0]) or not all(map(_reads_on, whole[1:])):
        return []
    place = whole[0].coverage.unread[0][0]
    beyond = {number: [span for span in arm.spans if span.start >= place] for number, arm in enumerate(whole)}
    finders = [number for number, spans in beyond.items() if spans]
    if not finders:
        return []
    found = " and ".join(f"{letter(number)} found {_things(len(beyond[number]))}" for number in finders)
    return [
        _read(whole),
        f"After that place {found}. A could not: look for *not read* in its pane, and in the list.",
        _move(whole[finders[0]], finders[0], place, chosen),
        *_last(whole),
    ]


def _cut_off(arm: Prediction) -> bool:
    return bool(answers(arm.task) == "spans" and arm.coverage.unread and Arm.parse(arm.model).reading == "truncate")


def _reads_on(arm: Prediction) -> bool:
    return bool(answers(arm.task) == "spans" and arm.coverage.reach and not arm.coverage.unread)


def _things(number: int) -> str:
    return f"{number:,} thing{'s' * (number != 1)}"


def _read(whole: Sequence[Prediction]) -> str:
    short = whole[0].coverage
    others = " and ".join(letter(number) for number in range(1, len(whole)))
    return f"A read {short.tokens_read:,} of {short.tokens:,} tokens; {others} read all of them."


def _move(finder: Prediction, number: int, place: int, chosen: int | None) -> str:
    """Where the first finding beyond the place comes into view, which is known to the next context length."""
    first = min((span for span in finder.spans if span.start >= place), key=lambda span: span.end)
    inside = [tokens for tokens, end in finder.coverage.reach if end >= first.end]
    before = [tokens for tokens, end in finder.coverage.reach if end < first.end]
    if not inside:
        return f"The first of them is beyond {before[-1]:,} tokens: only the whole note shows it."
    if chosen and chosen >= inside[0]:
        end = context.end_of(finder, chosen)
        seen = sum(place <= span.start and (end is None or span.end <= end) for span in finder.spans)
        return f"At {chosen:,} tokens the first of them is in view: {seen:,} of what {letter(number)} found beyond."
    between = f"between {before[-1]:,} and {inside[0]:,}" if before else f"within the first {inside[0]:,}"
    return (
        f"Move *Context length* to {inside[0]:,} tokens: there the first of them comes into view. "
        f"It is {between} tokens into the note."
    )


def _last(whole: Sequence[Prediction]) -> list[str]:
    """What two ways of reading everything still differ in."""
    if len(whole) < 3 or (agreement := span_f1(*whole[1:3])) is None:
        return []
    places = len(compare(whole[1:3]).disagreements)
    if not places:
        return ["B and C read everything, in their own ways, and found the same."]
    differ = f"they agree to {agreement:.0%}, and differ at {places:,} place{'s' * (places != 1)}"
    return [f"B and C read everything, in their own ways: {differ}."]
