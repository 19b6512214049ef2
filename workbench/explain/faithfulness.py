"""Whether an explanation can be relied on: hide what it names, and hide as much at random.

Comprehensiveness and sufficiency of DeYoung et al. 2020 (ERASER), means over the shares that ferret takes as well. A
part is hidden by the baseline's embedding at the same length, where ERASER deletes tokens.
"""

import copy
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from trainer.prediction import Plain
from workbench.explain.agreement import spearman
from workbench.explain.explanation import Checks, Faithfulness
from workbench.explain.methods import scores as scores_of
from workbench.explain.presence import presence

if TYPE_CHECKING:
    import torch

    from trainer.inference.target_score import Probe

SHARES = (0.01, 0.05, 0.10, 0.20, 0.50)  # of the parts, rounded up
ORDERS = 10  # random orders that an explanation is measured against
MARGIN = 0.01  # in probability: what it must be better by at least
DEVIATIONS = 3  # of the random orders' values: what it must be better by too; 3 % of shuffled scores pass, with 2 7 %


def rows(units: int, orders: int) -> int:
    """Rows that the model reads for `measure`."""
    return 1 + 2 * len(set(_sizes(units))) * (1 + orders) if orders else 0


def measure(
    probe: "Probe", owner: np.ndarray, scores: np.ndarray, *, orders: int = ORDERS, seed: int = 0
) -> tuple[Faithfulness, bool]:
    """(faithfulness, trusted) of the scores of the units, (units,); owner: (m,) the unit of each piece.

    An explanation is trusted when its comprehensiveness is above, and its sufficiency below, the mean of `orders`
    random orders by more than MARGIN and by more than DEVIATIONS standard deviations of theirs. Units that cannot be
    hidden take no part.
    """
    movable = np.unique(owner[probe.free])
    own = movable[np.argsort(-scores[movable], kind="stable")]
    random = np.random.default_rng(seed)
    found = _curves(probe, owner, [own, *(random.permutation(movable) for _ in range(orders))])
    (comprehensive, sufficient), others = found[0], found[1:]  # (2,) and (orders, 2)
    mean, needed = others.mean(0), np.maximum(MARGIN, DEVIATIONS * others.std(0, ddof=min(1, orders - 1)))
    trusted = comprehensive > mean[0] + needed[0] and sufficient < mean[1] - needed[1]
    return Faithfulness(
        comprehensiveness=comprehensive,
        sufficiency=sufficient,
        random_comprehensiveness=mean[0],
        random_sufficiency=mean[1],
    ), bool(trusted)


def check(chosen: Plain, probe: "Probe", owner: np.ndarray, scores: np.ndarray, *, seed: int = 0) -> Checks:
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
    from captum.metrics import infidelity as measured

    score, whole, _ = presence(probe, owner)
    drawn = torch.Generator().manual_seed(seed)

    def hide(shown: "torch.Tensor") -> tuple["torch.Tensor", "torch.Tensor"]:
        hidden = (torch.rand(shown.shape, generator=drawn) < share).to(shown.dtype)
        return hidden, shown - hidden

    given = torch.from_numpy(np.asarray(scores, dtype=np.float32))[None]
    return float(measured(score, hide, whole, given, n_perturb_samples=samples))


def sensitivity(
    chosen: Plain, probe: "Probe", owner: np.ndarray, *, samples: int = 4, radius: float = 0.1, seed: int = 0
) -> float:
    """Yeh et al. 2019, definition 3.1, by Captum: uniform noise on the words, `radius` in their standard deviations."""
    import torch
    from captum.metrics import sensitivity_max

    from trainer.models import seeded

    def explain(words: "torch.Tensor | tuple[torch.Tensor]") -> tuple["torch.Tensor"]:
        rows = words[0] if isinstance(words, tuple) else words  # Captum wraps the words themselves, not the moved ones
        return (torch.from_numpy(np.stack([scores_of(chosen, probe.with_words(each), owner) for each in rows])),)

    with seeded(seed):
        around = radius * float(probe.words.std())
        moved = sensitivity_max(explain, probe.words[None], perturb_radius=around, n_perturb_samples=samples)
    return float(moved)


def randomised(chosen: Plain, probe: "Probe", owner: np.ndarray, scores: np.ndarray, *, seed: int = 0) -> float | None:
    """Adebayo et al. 2018: rank correlation of the scores' sizes with those of a model whose weights are shuffled.

    Every parameter keeps its values in another order; the text keeps its word embeddings. None where ranks are none.
    """
    import torch

    other, drawn = copy.deepcopy(probe.model), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in other.parameters():
            mixed = torch.randperm(weight.numel(), generator=drawn).to(weight.device)
            weight.copy_(weight.flatten()[mixed].view_as(weight))
    return spearman(np.abs(scores), np.abs(scores_of(chosen, probe.with_model(other), owner)))


def _sizes(units: int) -> list[int]:
    return [math.ceil(share * units) for share in SHARES]


def _curves(probe: "Probe", owner: np.ndarray, orders: Sequence[np.ndarray]) -> np.ndarray:
    """(comprehensiveness, sufficiency) of each order of units, first named first: (orders, 2)."""
    sizes = _sizes(len(orders[0]))
    distinct = sorted(set(sizes))
    named = np.zeros((len(orders), len(distinct), int(owner.max()) + 1), dtype=bool)
    for number, order in enumerate(orders):
        for place, size in enumerate(distinct):
            named[number, place, order[:size]] = True
    named = named.reshape(-1, named.shape[-1])[:, owner]  # (orders x sizes, m)
    said = probe.probabilities(np.concatenate([np.ones((1, len(owner)), dtype=bool), ~named, named]))
    falls = (said[0] - said[1:]).reshape(2, len(orders), len(distinct))  # without the named, with nothing else
    return falls[:, :, [distinct.index(size) for size in sizes]].mean(-1).T
