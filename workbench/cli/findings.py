"""What models say of a text, as tables and sentences for the person at the terminal who passed it in."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from workbench.cli.terminal import cell, say, table, visible

if TYPE_CHECKING:  # slow to import, and most commands need none of them
    from trainer.prediction import Prediction, Relation
    from workbench.compare import Comparison, Disagreement
    from workbench.explain.explanation import Explanation

_PLACES = re.compile(r"[0-9]{1,15}:[0-9]{1,15}:")  # START:END: of a target
_MEASURES: dict[str | None, str] = {
    "spans": "mean F1 of the pairs",
    "labels": "mean agreement of the pairs",
    "answer": "mean overlap of the answers",
    "value": "mean nearness of the values",
}  # by kind of answer
_BETTER = "Better than random orders"
_NO_BETTER = "Do not rely on this: no better than random orders"


def show_prediction(text: str, prediction: Prediction) -> None:
    """Show the spans with their text and attributes, or the labels of the document; what was read, and the cost."""
    from trainer.tasks import answers  # slow to import, and not needed by other commands

    if answers(prediction.task) == "labels":
        chosen = set(prediction.chosen)
        rows = [(each.label, each.score, "chosen" if each.label in chosen else "") for each in prediction.labels]
        table(("label", "probability", ""), rows)
        say(_coverage(prediction))
        return
    if answers(prediction.task) == "value":
        say(f"Value: {prediction.value}." if prediction.value else "No value: there was nothing to read.")
        say(_coverage(prediction))
        return
    if answers(prediction.task) == "answer":
        show_answer(text, prediction)
        say(_coverage(prediction))
        return
    attributes = sorted({name for span in prediction.spans for name in span.attributes})
    spans = []
    for span in prediction.spans:
        values = (span.attributes[name].value if name in span.attributes else None for name in attributes)
        place = (span.start, span.end, span.score, visible(text[span.start : span.end]))
        spans.append((span.label, *values, *place))
    table(("label", *attributes, "start", "end", "score", "text"), spans)
    show_relations(text, prediction)
    say(_coverage(prediction))


def show_answer(text: str, prediction: Prediction) -> None:
    """Show the answer to a question and the likeliest one elsewhere, with what can be asked about each."""
    ranked = [("answer", prediction.answer), ("runner-up", prediction.runner_up)]
    rows = [
        (
            what,
            each.start,
            each.end,
            each.score,
            visible(text[each.start : each.end]),
            f"{each.start}:{each.end}:answer",
        )
        for what, each in ranked
        if each
    ]
    table(("", "start", "end", "score", "text", "as a target"), rows)
    if prediction.answer is None:
        say("This model finds no answer in what it read.")
    say(f"Probability that no part read holds an answer: {prediction.no_answer:.3f}.")


def show_relations(text: str, prediction: Prediction) -> None:
    """Show the relations between the spans of a prediction, where a model was asked for them."""
    if prediction.relations is None:
        return
    from workbench.explain.targets import RelationTarget

    def row(each: Relation) -> tuple[object, ...]:
        ends = [prediction.spans[number] for number in (each.head, each.tail)]
        words = (visible(text[span.start : span.end]) for span in ends)
        return (each.label, *words, each.score, RelationTarget.of(ends, each.label))

    table(("relation", "from", "to", "score", "as a target"), map(row, prediction.relations))


def show_comparison(text: str, compared: Comparison) -> None:
    """Show each disagreement with the vote of every arm, then the agreement and what each arm read."""
    arms = [prediction.model for prediction in compared.predictions]
    rows = [
        (item.start, item.end, *(_vote(item, arm) for arm in arms), _place(text, item))
        for item in compared.disagreements
    ]
    table(("start", "end", *arms, "text"), rows)
    say(f"Disagreements: {len(rows)}; {compared.no_agreement or _agreement(compared)}")
    from trainer.tasks import answers  # slow to import, and not needed by other commands

    for prediction in compared.predictions:
        spans = f"{len(prediction.spans)} spans"
        answer = ", ".join(prediction.chosen) or "no label" if prediction.labels else spans
        if prediction.no_answer is not None:
            given = prediction.answer
            answer = visible(text[given.start : given.end]) if given else "no answer in what it read"
        if answers(prediction.task) == "value":
            answer = str(prediction.value) if prediction.value else "no value"
        say(f"{prediction.model}: {answer}. {_coverage(prediction)}")
        show_relations(text, prediction)


def show_targets(text: str, targets: Sequence[Mapping[str, Any]]) -> None:
    """Show the findings of a model as targets for an explanation, with their text."""
    rows = [(each["target"], each["score"], _quoted(text, each["target"])) for each in targets]
    table(("target", "score", "text"), rows)
    others = "START:END:LABEL, START:END:@ATTRIBUTE=VALUE or LABEL"
    say(f"Pass one of them as --target, or any other {others}." if rows else "The model found nothing.")


def show_explanation(text: str, explanation: Explanation, *, max_parts: int = 15) -> None:
    """Show the parts with the strongest influence, whether to rely on the explanation and how it was computed."""
    parts = sorted((part for part in explanation.attributions if part.score), key=lambda part: -abs(part.score))
    rows = [(part.score, part.start, part.end, visible(text[part.start : part.end])) for part in parts[:max_parts]]
    shown = f"{explanation.grain}, {min(max_parts, len(parts)):,} of {len(explanation.attributions):,}"
    table(("score", "start", "end", shown), rows)
    say(f"{explanation.target}: {explanation.value or _odds(explanation)}. {_trust(explanation)}")
    settings = "".join(f", {name} {value}" for name, value in explanation.options.items())
    delta = "" if explanation.convergence_delta is None else f", convergence delta {explanation.convergence_delta:+.3f}"
    around = ", the target's own words left in place" if explanation.context else ""
    say(f"{explanation.method}{settings}, baseline {explanation.baseline}{around}{delta}.")
    if explanation.checks:
        say(", ".join(f"{name} {cell(value)}" for name, value in explanation.checks.model_dump().items()) + ".")
    say(_coverage(explanation))


def _odds(explanation: Explanation) -> str:
    return f"probability {explanation.probability:.3f}, log-odds {explanation.log_odds:.2f}"


def _agreement(compared: Comparison) -> str:
    from trainer.tasks import answers  # slow to import, and not needed by other commands

    measures = sorted({_MEASURES[answers(prediction.task)] for prediction in compared.predictions})
    return f"agreement: {', '.join(measures)} {compared.agreement:.3f}."


def _quoted(text: str, target: str) -> str | None:
    start, end = (*target.split(":"), "", "")[:2]
    return visible(text[int(start) : int(end)]) if _PLACES.match(target) else None


def _trust(explanation: Explanation) -> str:
    if explanation.faithfulness is None:
        return "Faithfulness was not measured."
    measured = explanation.faithfulness
    verdict = _BETTER if explanation.trusted else _NO_BETTER
    what = "the value, as a share of its scale," if explanation.value else "the probability"
    return (
        f"{verdict}: hiding the highest-scored parts lowers {what} by {measured.comprehensiveness:.3f} "
        f"(random {measured.random_comprehensiveness:.3f}), hiding all others by {measured.sufficiency:.3f} "
        f"(random {measured.random_sufficiency:.3f})."
    )


def _vote(item: Disagreement, arm: str) -> str:
    """What an arm says: its label with values of attributes that differ, `problem (absent)`, or that it has none."""
    if arm not in item.votes:
        return "cannot predict it"
    label = item.votes[arm]
    if label is None:
        return "nothing"
    values = item.attributes.get(arm, {}).values()
    return f"{label} ({', '.join(values)})" if values else label


def _place(text: str, item: Disagreement) -> str:
    return "the whole note" if item.start is None else visible(text[item.start : item.end])


def _coverage(answer: Prediction | Explanation) -> str:
    read, cost = answer.coverage, answer.cost
    unread = f" Not read: {', '.join(f'{start}-{end}' for start, end in read.unread)}." if read.unread else ""
    speed = f"{cost.latency_ms:,.0f} ms, {cost.tokens_per_second:,.0f} tokens/s"
    windows = f"{read.windows:,} window{'s' * (read.windows != 1)}"
    return f"Read {read.tokens_read:,} of {read.tokens:,} tokens, {windows}, {speed}.{unread}"
