"""Whether an explanation can be relied on: hide the parts it ranks highest, and as many random parts.

Comprehensiveness and sufficiency of DeYoung et al. 2020 (ERASER), averaged over the same shares of parts as in the
library ferret. A hidden part gets the baseline's embedding and keeps its length, where ERASER deletes tokens.
"""

import copy
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from workbench.explain.agreement import spearman
from workbench.explain.explanation import Checks, Faithfulness
from workbench.explain.methods import unit_scores
from workbench.explain.presence import presence
from workbench.explain.traits import Method

if TYPE_CHECKING:
    import torch

    from trainer.inference.target_score import Probe

SHARES = (0.01, 0.05, 0.10, 0.20, 0.50)  # of the parts, rounded up
ORDERS = 10  # random orders that an explanation is measured against
MARGIN = 0.01  # in probability: an explanation must be better by more than this
DEVIATIONS = 3  # standard deviations of the random orders, likewise; 3 % of shuffled scores pass (with 2: 7 %)


def count_rows(units: int, orders: int) -> int:
    """How many rows the model reads in `measure`."""
    return 1 + 2 * len(set(_sizes(units))) * (1 + orders) if orders else 0


def measure(
    probe: "Probe", owner: np.ndarray, scores: np.ndarray, *, orders: int = ORDERS, seed: int = 0
) -> tuple[Faithfulness, bool]:
    """Faithfulness, and whether the explanation is trusted. scores: (units,); owner: (m,) the unit of each piece.

    It is trusted when its comprehensiveness is above, and its sufficiency below, the mean of `orders` random orders by
    more than MARGIN and by more than DEVIATIONS of their standard deviations. Units that cannot be hidden are left out.
    """
    movable = np.unique(owner[probe.free])
    ranking = movable[np.argsort(-scores[movable], kind="stable")]
    random = np.random.default_rng(seed)
    curves = _curves(probe, owner, [ranking, *(random.permutation(movable) for _ in range(orders))])
    (comprehensive, sufficient), others = curves[0], curves[1:]  # (2,) and (orders, 2)
    mean, needed = others.mean(0), np.maximum(MARGIN, DEVIATIONS * others.std(0, ddof=min(1, orders - 1)))
    trusted = comprehensive > mean[0] + needed[0] and sufficient < mean[1] - needed[1]
    return Faithfulness(
        comprehensiveness=comprehensive,
        sufficiency=sufficient,
        random_comprehensiveness=mean[0],
        random_sufficiency=mean[1],
    ), bool(trusted)


def check(chosen: Method, probe: "Probe", owner: np.ndarray, scores: np.ndarray, *, seed: int = 0) -> Checks:
    """Infidelity, sensitivity and the randomised-weights check of a method's scores (units,)."""
    return Checks(
        infidelity=infidelity(probe, owner, scores, seed=seed),
        sensitivity=sensitivity(chosen, probe, owner, seed=seed),
        randomised=randomised(chosen, probe, owner, scores, seed=seed),
    )


def infidelity(
    probe: "Probe", owner: np.ndarray, scores: np.ndarray, *, samples: int = 50, share: float = 0.2, seed: int = 0
) -> float:
    """Yeh et al. 2019, definition 2.1, by Captum: random subsets, each part hidden with probability `share`."""
    import torch
    from captum.metrics import infidelity as captum_infidelity

    score, whole, _ = presence(probe, owner)
    drawn = torch.Generator().manual_seed(seed)

    def hide(shown: "torch.Tensor") -> tuple["torch.Tensor", "torch.Tensor"]:
        hidden = (torch.rand(shown.shape, generator=drawn) < share).to(shown.dtype)
        return hidden, shown - hidden

    attributions = torch.from_numpy(np.asarray(scores, dtype=np.float32))[None]
    return float(captum_infidelity(score, hide, whole, attributions, n_perturb_samples=samples))


def sensitivity(
    chosen: Method, probe: "Probe", owner: np.ndarray, *, samples: int = 4, radius: float = 0.1, seed: int = 0
) -> float:
    """Yeh et al. 2019, definition 3.1, by Captum: uniform noise on the words, `radius` in their standard deviations."""
    import torch
    from captum.metrics import sensitivity_max

    from trainer.models import seeded

    def explain(words: "torch.Tensor | tuple[torch.Tensor]") -> tuple["torch.Tensor"]:
        rows = (
            words[0] if isinstance(words, tuple) else words
        )  # Captum puts the original words into a tuple, the moved ones not
        return (torch.from_numpy(np.stack([unit_scores(chosen, probe.with_words(each), owner) for each in rows])),)

    with seeded(seed):
        around = radius * float(probe.words.std())
        moved = sensitivity_max(explain, probe.words[None], perturb_radius=around, n_perturb_samples=samples)
    return float(moved)


def randomised(chosen: Method, probe: "Probe", owner: np.ndarray, scores: np.ndarray, *, seed: int = 0) -> float | None:
    """Adebayo et al. 2018: rank correlation of the absolute scores with those of a model with shuffled weights.

    The values of every parameter are shuffled; the text keeps its word embeddings. None where all scores are equal.
    """
    import torch

    other, drawn = copy.deepcopy(probe.model), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in other.parameters():
            mixed = torch.randperm(weight.numel(), generator=drawn).to(weight.device)
            weight.copy_(weight.flatten()[mixed].view_as(weight))
    return spearman(np.abs(scores), np.abs(unit_scores(chosen, probe.with_model(other), owner)))


def _sizes(units: int) -> list[int]:
    return [math.ceil(share * units) for share in SHARES]


def _curves(probe: "Probe", owner: np.ndarray, orders: Sequence[np.ndarray]) -> np.ndarray:
    """(comprehensiveness, sufficiency) of each order of units, the highest-ranked first: (orders, 2)."""
    sizes = _sizes(len(orders[0]))
    distinct = sorted(set(sizes))
    named = np.zeros((len(orders), len(distinct), int(owner.max()) + 1), dtype=bool)
    for number, order in enumerate(orders):
        for place, size in enumerate(distinct):
            named[number, place, order[:size]] = True
    named = named.reshape(-1, named.shape[-1])[:, owner]  # (orders x sizes, m)
    scores = probe.probabilities(np.concatenate([np.ones((1, len(owner)), dtype=bool), ~named, named]))
    falls = (scores[0] - scores[1:]).reshape(2, len(orders), len(distinct))  # without the named units, with only them
    means: np.ndarray = falls[:, :, [distinct.index(size) for size in sizes]].mean(-1)  # (2, orders)
    return means.T
