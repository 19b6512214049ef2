"""Whether two models differ on the same items: paired bootstrap and McNemar's test. No torch."""

from collections.abc import Hashable

import numpy as np
from scipy.stats import binom

from trainer.errors import BadData
from trainer.evaluation.outcomes import WRONG_SPANS, Outcomes, draws, score
from trainer.prediction import Plain


class McNemar(Plain):
    """McNemar's exact test: of `units`, how many only the first model has right, only the second, both and neither.

    p: two-sided, of the counts of those that only one has right under a fair coin (McNemar 1947; exact as in Dietterich
    1998); 1 where there are none.
    """

    units: str
    only_first: int
    only_second: int
    both: int
    neither: int
    p: float


class Difference(Plain):
    """The first model's score minus the second's, its 95 % interval, and the share of samples on the other side of 0.

    p: two-sided, twice the smaller share of samples in which one is not better (paired bootstrap: Efron and Tibshirani
    1993; Berg-Kirkpatrick et al. 2012), at least 1 in the number of samples.
    """

    measures: str
    n: int
    first: float
    second: float
    difference: float
    low: float
    high: float
    p: float
    samples: int
    mcnemar: McNemar


def compare(first: Outcomes, second: Outcomes, *, samples: int = 10_000, seed: int = 0) -> Difference:
    """Compare two models item by item. Raises BadData where their outcomes are not of the same items and score."""
    if (first.n, first.measures, first.unit) != (second.n, second.measures, second.unit):
        sides = (f"{each.n:,} {each.unit} by {each.measures}" for each in (first, second))
        raise BadData(
            f"the two were not scored on the same items: {' and '.join(sides)}.",
            next_step="Score both on the same split of the same data set.",
        )
    tables, rights = (first.table(), second.table()), (first.right(), second.right())
    scores = [score(first.measures, *each) for each in zip(tables, rights, strict=True)]
    drawn = draws(first.measures, tables, rights, samples=samples, seed=seed)
    differences = drawn[0] - drawn[1]
    low, high = np.percentile(differences, [2.5, 97.5])
    opposite = min((differences <= 0).mean(), (differences >= 0).mean())
    return Difference(
        measures=first.measures,
        n=first.n,
        first=scores[0],
        second=scores[1],
        difference=scores[0] - scores[1],
        low=float(low),
        high=float(high),
        p=float(min(1, max(2 * opposite, 1 / samples))),
        samples=samples,
        mcnemar=mcnemar(first, second),
    )


def mcnemar(first: Outcomes, second: Outcomes) -> McNemar:
    """McNemar's test on gold mentions where the items have spans, else on items."""
    spans = first.measures == "f1"
    wrong, other = (_wrong_mentions(each) if spans else _wrong_items(each) for each in (first, second))
    total = int(first.table()[..., 2].sum()) if spans else first.n
    only_first, only_second = len(other - wrong), len(wrong - other)
    discordant = only_first + only_second
    p = min(1.0, 2 * float(binom.cdf(min(only_first, only_second), discordant, 0.5))) if discordant else 1.0
    return McNemar(
        units="mentions" if spans else first.unit,
        only_first=only_first,
        only_second=only_second,
        both=total - len(wrong | other),
        neither=len(wrong & other),
        p=p,
    )


def _wrong_mentions(outcomes: Outcomes) -> set[Hashable]:
    gold = (each for each in outcomes.mistakes if each.kind in WRONG_SPANS)
    return {(each.item, each.places[0], each.gold) for each in gold}


def _wrong_items(outcomes: Outcomes) -> set[Hashable]:
    return set(np.flatnonzero(outcomes.right() == 0).tolist())
