"""An explanation in words: how far to rely on it and why, how it was computed, where two of them differ.

Plain strings without note text; what they quote of labels and models is data, not markup.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from workbench.explain.agreement import Agreement
from workbench.explain.explanation import Checks, Explanation
from workbench.explain.methods import METHODS
from workbench.explain.targets import SpanTarget, Target

PARTS = {"section": "sections", "sentence": "sentences", "phrase": "phrases", "word": "words", "piece": "word pieces"}
LITTLE = 0.1  # a probability that leaves little to explain
LOOSE = 0.05  # of the change in log-odds: a convergence delta above it is worth a word
_NO_RANKS = "cannot be given, since all parts have one score"


class Verdict(NamedTuple):
    """Whether to rely on an explanation: a title, and the reasons as sentences, the weightiest first."""

    level: Literal["better", "doubtful", "unmeasured"]
    title: str
    reasons: tuple[str, ...]


def verdict(explanation: Explanation) -> Verdict:
    """The verdict on an explanation at the grain at which it was measured."""
    notes = [*_sum(explanation), *_aim(explanation), *(_checks(explanation.checks) if explanation.checks else ())]
    if explanation.faithfulness is None or explanation.trusted is None:
        return Verdict("unmeasured", "Not measured", (_unmeasured(explanation), *notes))
    measured = _falls(explanation)
    if explanation.trusted:
        return Verdict("better", "Better than random orders", (*measured, *notes))
    return Verdict("doubtful", "Do not rely on this", (_fault(explanation), *measured, *_little(explanation), *notes))


def meaning(method: str) -> str:
    """What a method does, as one plain sentence: the first paragraph of its docstring."""
    return " ".join(METHODS[method].__doc__.partition("\n\n")[0].split())


def account(explanation: Explanation) -> list[str]:
    """How it was computed: method with its options, parts, baseline, and what the model said."""
    options = "".join(f", {name} {value:g}" for name, value in explanation.options.items())
    around = ["the target's own words stay in place"] if explanation.context else []
    return [
        f"{METHODS[explanation.method].title}{options}",
        f"by {explanation.grain}",
        f"hidden parts become {explanation.baseline}",
        *around,
        f"score {figure(explanation.probability)}, {explanation.log_odds:+.2f} log-odds",
    ]


def asked(target: Target, quote: str = "") -> str:
    """A target as a person reads it: "Disease: nephrotic syndrome", or the label of the whole note."""
    if isinstance(target, SpanTarget):
        return f"{target.label}: {quote or f'characters {target.start} to {target.end}'}"
    return f"{target.label}, of the whole note"


def agreeing(found: Agreement, grain: str) -> list[str]:
    """How far two explanations agree, as sentences."""
    both = {"Spearman": found.spearman, "Kendall": found.kendall}
    rank = [f"{name} {_NO_RANKS if value is None else f'{value:.2f}'}" for name, value in both.items()]
    same = round(found.overlap * found.k)
    return [
        f"Rank agreement (-1 to 1, 1 is the same order): {', '.join(rank)}.",
        f"Of the {found.k} {PARTS[grain]} that speak most for it, {same} {'is' if same == 1 else 'are'} the same.",
    ]


def ordinal(number: int) -> str:
    """1st, 2nd, 3rd, 4th, 11th, 22nd."""
    teens = 10 <= number % 100 < 20
    return f"{number:,}{'th' if teens else {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th')}"


def figure(probability: float) -> str:
    """A probability with two digits, never shown as certain."""
    if probability > 0.995:
        return "above 0.99"
    return "below 0.01" if probability < 0.005 else f"{probability:.2f}"


def _falls(explanation: Explanation) -> list[str]:
    own, parts = explanation.faithfulness, PARTS[explanation.grain]
    return [
        f"Without the {parts} that it ranks first the score {_moves(own.comprehensiveness)}; "
        f"without as many random {parts} it {_moves(own.random_comprehensiveness)}.",
        f"With only those {parts} the score {_moves(own.sufficiency)}; "
        f"with as many random ones it {_moves(own.random_sufficiency)}.",
    ]


def _moves(fall: float) -> str:
    if abs(fall) < 0.005:
        return "stays"
    return f"falls by {fall:.2f}" if fall > 0 else f"rises by {-fall:.2f}"


def _fault(explanation: Explanation) -> str:
    own, parts = explanation.faithfulness, PARTS[explanation.grain]
    hidden = own.comprehensiveness > own.random_comprehensiveness
    alone = own.sufficiency < own.random_sufficiency
    if hidden and alone:
        return f"It is better than random {parts}, but by too little to rule out chance."
    if hidden or alone:
        what = "with only those it names" if hidden else "without those it names"
        return f"The score {what} shows nothing that random {parts} would not show."
    return f"What it names matters no more to the model than random {parts}."


def _little(explanation: Explanation) -> list[str]:
    if explanation.probability >= LITTLE:
        return []
    return [f"The model gives this a score of {figure(explanation.probability)}: there is little to explain."]


def _unmeasured(explanation: Explanation) -> str:
    if not explanation.attributions or all(part.score == 0 for part in explanation.attributions):
        return "No part was hidden, so nothing was compared with random orders."
    parts = PARTS[explanation.grain]
    return f"Nobody has compared these {parts} with random ones yet: take them as a first hint."


def _sum(explanation: Explanation) -> list[str]:
    """How closely the scores add up, for a method that promises it."""
    delta = explanation.convergence_delta
    if delta is None:
        return []
    scores = sum(part.score for part in explanation.attributions)
    change = scores - delta
    loose = abs(delta) > LOOSE * abs(change)
    told = f"The scores add up to {scores:+.2f}; the log-odds change by {change:+.2f} (convergence delta {delta:+.3f})"
    return [f"{told}. That is far apart: take more steps or samples." if loose else f"{told}."]


def _aim(explanation: Explanation) -> list[str]:
    if METHODS[explanation.method].targeted:
        return []
    return ["This method does not know the label: it says where the model looked, not what for."]


def _checks(checks: Checks) -> Sequence[str]:
    randomised = "cannot be given" if checks.randomised is None else f"{checks.randomised:.2f}"
    return (
        f"Infidelity {checks.infidelity:.3g} squared log-odds (0 is best): how far the scores miss what hiding random "
        "parts does.",
        f"Sensitivity {checks.sensitivity:.2f} (0 is best): the largest relative change of the scores when the word "
        "embeddings move a little.",
        f"Randomised weights {randomised}: rank correlation with the scores of the same model with its weights "
        "shuffled; near 1, they would say little about the model.",
    )
