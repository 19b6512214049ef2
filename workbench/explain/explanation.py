"""What an explanation says: plain types without torch and without note text, so safe to log and to send."""

from typing import Any

from trainer.prediction import Cost, Coverage, Plain
from workbench.explain.grains import Grain


class Attribution(Plain):
    """How much text[start:end] adds to the target's score; negative where it speaks against it."""

    start: int
    end: int
    score: float


class Faithfulness(Plain):
    """How much the score depends on what the explanation names (DeYoung et al. 2020), and the mean of random orders.

    In probability, 0 to 1. comprehensiveness: how far it falls without the named parts, high is good.
    sufficiency: how far it falls with nothing but the named parts, low is good.
    """

    comprehensiveness: float
    sufficiency: float
    random_comprehensiveness: float
    random_sufficiency: float


class Checks(Plain):
    """What costs more, on demand.

    infidelity: mean squared error of what the attributions foretell of hiding random parts (Yeh et al. 2019), in
    squared log-odds. sensitivity: largest relative change of the explanation when word embeddings move a little.
    randomised: rank correlation of the sizes of the scores with those of the same model with its weights shuffled
    (Adebayo et al. 2018); an explanation near 1 says little about the model. None where all scores are alike.
    """

    infidelity: float
    sensitivity: float
    randomised: float | None


class Explanation(Plain):
    """Why a model scores a target as it does, part by part.

    attributions: every part of the note at `grain`, in order; those outside `coverage` were not seen and have 0.
    log_odds and probability: of the target, as the model read the window. baseline: what hidden pieces become.
    convergence_delta: sum of the scores minus (log_odds - log_odds of the baseline), None where a method does not
    promise that they are equal. trusted: whether it beats random orders on both counts of faithfulness, None where that
    was not measured. context: whether the target's own words stayed in place, so that only what is around them counts.
    """

    model: str
    target: str
    method: str
    grain: Grain
    attributions: tuple[Attribution, ...]
    log_odds: float
    probability: float
    convergence_delta: float | None = None
    faithfulness: Faithfulness | None = None
    trusted: bool | None = None
    checks: Checks | None = None
    baseline: str
    context: bool = False
    options: dict[str, Any] = {}
    coverage: Coverage
    cost: Cost

    def to_json(self) -> dict:
        """The public shape of `stillroom explain --json`; `checks` is there only if they were asked for."""
        shown = {"target", "method", "attributions", "convergence_delta", "faithfulness", "trusted"}
        return self.model_dump(mode="json", include=shown | ({"checks"} if self.checks else set()))
