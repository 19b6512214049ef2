"""The types of an explanation: without torch and without note text, so they are safe to log and to send."""

from typing import Any

from trainer.prediction import Cost, Coverage, Plain, Value
from workbench.explain.grains import Grain


class Attribution(Plain):
    """How much text[start:end] adds to the target's score; negative where it opposes the target."""

    start: int
    end: int
    score: float


class Faithfulness(Plain):
    """How the probability depends on the highest-ranked parts (DeYoung et al. 2020), and the mean of random orders.

    comprehensiveness: how far it falls without those parts; high is good. sufficiency: how far it falls with only those
    parts; low is good.
    """

    comprehensiveness: float
    sufficiency: float
    random_comprehensiveness: float
    random_sufficiency: float


class Checks(Plain):
    """Further measures, which take longer and are computed on request.

    infidelity: mean squared error of the attributions as a prediction of hiding random parts (Yeh et al. 2019), in
    squared log-odds. sensitivity: largest relative change of the explanation under small changes of the word
    embeddings. randomised: rank correlation of the absolute scores with those of the same model with shuffled weights
    (Adebayo et al. 2018); near 1, the explanation says little about the model. None where all scores are equal.
    """

    infidelity: float
    sensitivity: float
    randomised: float | None


class Explanation(Plain):
    """Why a model scores a target as it does, part by part.

    attributions: every part of the note at `grain`, in order; those outside `coverage` were not read and have 0.
    log_odds and probability: of the target in the window read; of a value, which stands in `value`, both are its share
    of the scale. baseline: the token that replaces hidden pieces.
    convergence_delta: sum of the scores minus (log_odds - log_odds of the baseline), None where the method does not
    promise that they are equal. trusted: whether it beats random orders in both faithfulness measures, None where that
    was not measured. context: whether the target's own words stayed in place, so that only the rest of the note counts.
    """

    model: str
    target: str
    method: str
    grain: Grain
    attributions: tuple[Attribution, ...]
    log_odds: float
    probability: float
    value: Value | None = None
    convergence_delta: float | None = None
    faithfulness: Faithfulness | None = None
    trusted: bool | None = None
    checks: Checks | None = None
    baseline: str
    context: bool = False
    options: dict[str, Any] = {}
    coverage: Coverage
    cost: Cost

    def to_json(self) -> dict[str, Any]:
        """The public shape of `stillroom explain --json`; `checks` and `value` only where there are any."""
        shown = {"target", "method", "attributions", "convergence_delta", "faithfulness", "trusted"}
        shown |= {name for name in ("checks", "value") if getattr(self, name)}
        return self.model_dump(mode="json", include=shown)
