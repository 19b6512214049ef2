"""An explanation in words: how far to rely on it and why, how it was computed, where two of them differ.

Plain strings without note text; what they quote of labels and models is data, not markup.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from workbench.explain.agreement import Agreement
from workbench.explain.explanation import Checks, Explanation, Faithfulness
from workbench.explain.methods import METHODS
from workbench.explain.targets import AttributeTarget, SpanTarget, Target
from workbench.predict import percent

PARTS = {"section": "sections", "sentence": "sentences", "phrase": "phrases", "word": "words", "piece": "word pieces"}
LITTLE = 0.1  # a probability below which there is little to explain
LOOSE = 0.05  # share of the change in log-odds above which a convergence delta is pointed out
_UNTARGETED = "This method does not use the label: it shows where the model looked, not why."
_NO_RANKS = "undefined, since all parts have the same score"


class Verdict(NamedTuple):
    """Whether to rely on an explanation: a title, what that means for the reader, and the figures as sentences."""

    level: Literal["better", "doubtful", "unmeasured"]
    title: str
    meaning: str
    figures: tuple[str, ...] = ()


def verdict(explanation: Explanation) -> Verdict:
    """The verdict on an explanation, at the grain at which it was measured."""
    figures = [*_sum(explanation), *(_checks(explanation.checks) if explanation.checks else ())]
    aimed = METHODS[explanation.method].targeted
    if explanation.faithfulness is None or explanation.trusted is None:
        return Verdict("unmeasured", "Not measured", _unmeasured(explanation) if aimed else _UNTARGETED, (*figures,))
    parts = PARTS[explanation.grain]
    measured = _falls(explanation.faithfulness, parts)
    if explanation.trusted:
        meaning = f"The marked {parts} really move this model's score, more than random {parts} do."
        return Verdict("better", "Better than chance", meaning if aimed else _UNTARGETED, (*measured, *figures))
    meaning, fault = _doubt(explanation, parts), _fault(explanation.faithfulness, parts)
    return Verdict("doubtful", "Do not rely on this", meaning, (fault, *measured, *figures))


def method_summary(method: str) -> str:
    """What a method does, as one plain sentence: the first paragraph of its docstring."""
    return " ".join((METHODS[method].__doc__ or "").partition("\n\n")[0].split())


def account(explanation: Explanation) -> list[str]:
    """How it was computed: method, options, unit, grain and baseline; and the model's score for the target."""
    options = "".join(f", {name} {value:g}" for name, value in explanation.options.items())
    unit = "shares of the scale" if explanation.value else METHODS[explanation.method].unit
    in_place = ["the target's own words stay in place"] if explanation.context else []
    return [
        f"{METHODS[explanation.method].title}{options}, scores in {unit}",
        f"by {explanation.grain}",
        f"hidden parts become {explanation.baseline}",
        *in_place,
        str(explanation.value)
        if explanation.value
        else f"score {percent(explanation.probability)}, {explanation.log_odds:+.2f} log-odds",
    ]


def score_words(explanation: Explanation) -> str:
    """The model's score for the target: "score 93%", or a value on its scale, which is no probability."""
    return f"value {explanation.value}" if explanation.value else f"score {percent(explanation.probability)}"


def describe_target(target: Target, quote: str = "") -> str:
    """A target in words: "Disease: nephrotic syndrome", "Why absent? fever", or the label of the whole note."""
    if not isinstance(target, SpanTarget):
        return f"{target.label}, of the whole note"
    asked = f"Why {target.value}?" if isinstance(target, AttributeTarget) else f"{target.label}:"
    return f"{asked} {quote or f'characters {target.start} to {target.end}'}"


def name_target(target: Target, quote: str = "") -> str:
    """A target within a sentence: "“nephrotic syndrome” as Disease", "“fever” as absent", or the label."""
    if not isinstance(target, SpanTarget):
        return target.label
    named = target.value if isinstance(target, AttributeTarget) else target.label
    return f"“{quote}” as {named}" if quote else f"{target.start}:{target.end} as {named}"


def describe_agreement(agreement: Agreement, grain: str) -> list[str]:
    """How far two explanations agree: a plain sentence, and one with the figures."""
    correlations = {"Spearman": agreement.spearman, "Kendall": agreement.kendall}
    figures = [f"{name} {_NO_RANKS if value is None else f'{value:.2f}'}" for name, value in correlations.items()]
    same = round(agreement.overlap * agreement.k)
    return [
        f"Of the {agreement.k} {PARTS[grain]} with the strongest support, "
        f"{same} {'is' if same == 1 else 'are'} the same.",
        f"Rank agreement (-1 to 1, 1 is the same order): {', '.join(figures)}.",
    ]


def _falls(measured: Faithfulness, parts: str) -> list[str]:
    return [
        f"Without the {parts} that it ranks highest, the score {_moves(measured.comprehensiveness)}; "
        f"without as many random {parts}, it {_moves(measured.random_comprehensiveness)}.",
        f"With only those {parts}, the score {_moves(measured.sufficiency)}; "
        f"with as many random ones, it {_moves(measured.random_sufficiency)}.",
    ]


def _moves(fall: float) -> str:
    points = round(100 * abs(fall))
    if not points:
        return "stays the same"
    return f"{'falls' if fall > 0 else 'rises'} by {points} percentage point{'s' * (points != 1)}"


def _fault(measured: Faithfulness, parts: str) -> str:
    hidden = measured.comprehensiveness > measured.random_comprehensiveness
    alone = measured.sufficiency < measured.random_sufficiency
    if hidden and alone:
        return f"It is better than random {parts}, but not by enough to rule out chance."
    if hidden or alone:
        which = "With only" if hidden else "Without"
        return f"{which} the {parts} that it ranks highest, the score is no better than with random {parts}."
    return f"The {parts} that it ranks highest matter no more to the model than random {parts}."


def _doubt(explanation: Explanation, parts: str) -> str:
    """What "do not rely on this" means for the reader, in one sentence."""
    if explanation.value is None and explanation.probability < LITTLE:
        return f"The model's score for this is {percent(explanation.probability)}, so there is little to explain."
    measured = explanation.faithfulness
    if measured and measured.comprehensiveness > measured.random_comprehensiveness:
        return (
            f"The marked {parts} may be the reason, but in part they do no better than random {parts} would: "
            "check against the note before you believe them."
        )
    return f"The marked {parts} matter no more to this model than random {parts}: do not take them for its reason."


def _unmeasured(explanation: Explanation) -> str:
    if not explanation.attributions or all(part.score == 0 for part in explanation.attributions):
        return "No part was hidden, so there is no comparison with random orders."
    parts = PARTS[explanation.grain]
    return f"These {parts} have not been compared with random ones yet: take them as a first hint."


def _sum(explanation: Explanation) -> list[str]:
    """How closely the scores add up, where the method promises it."""
    delta = explanation.convergence_delta
    if delta is None:
        return []
    scores = sum(part.score for part in explanation.attributions)
    change = scores - delta
    loose = abs(delta) > LOOSE * abs(change)
    totals = (
        f"The scores add up to {scores:+.2f}; the log-odds change by {change:+.2f} (convergence delta {delta:+.3f})"
    )
    return [f"{totals}. These are far apart: take more steps or samples." if loose else f"{totals}."]


def _checks(checks: Checks) -> Sequence[str]:
    randomised = "undefined" if checks.randomised is None else f"{checks.randomised:.2f}"
    return (
        f"Infidelity {checks.infidelity:.3g} squared log-odds (0 is best): how far the scores are from the effect of "
        "hiding random parts.",
        f"Sensitivity {checks.sensitivity:.2f} (0 is best): the largest relative change of the scores under small "
        "changes of the word embeddings.",
        f"Randomised weights {randomised}: rank correlation with the scores of the same model with shuffled "
        "weights; near 1, they say little about the model.",
    )
