"""Agreement of models pair by pair, and what each costs, as small tables: for the page and for the report."""

from collections.abc import Sequence

from trainer.prediction import Coverage, Prediction
from workbench.compare import AgreementRow, agreement_rows, pairs_of
from workbench.compare.costs import Weights
from workbench.highlight.markup import Html, escape, letter, table

NONE = "–"  # where there is no figure


def agreement(predictions: Sequence[Prediction], arms: Sequence[str]) -> Html:
    """Agreement over all and by label, a column for each pair; `arms` are the names in the order of their letters."""
    places = [arms.index(found.model) for found in predictions]
    pairs = [f"{letter(places[one])}&thinsp;{letter(places[other])}" for one, other in pairs_of(predictions)]
    columns = ["Label", *pairs, *(["Mean"] if len(pairs) > 1 else [])]
    rows = [_agreement_row(row) for row in agreement_rows(predictions)]
    return _framed(table("Agreement", columns, rows))


def _agreement_row(row: AgreementRow) -> list[str]:
    name = "All labels" if row.label is None else f"<bdi>{escape(row.label)}</bdi>"
    return [name, *map(_share, row.pairs), *([_share(row.mean)] if len(row.pairs) > 1 else [])]


def costs(predictions: Sequence[Prediction], weights: Sequence[Weights], arms: Sequence[str]) -> Html:
    """Time, size and coverage of each arm. `weights` and `arms` stand in the order of the letters."""
    columns = ["Model", "Latency", "Tokens a second", "Parameters", "On disk", "Tokens read"]
    rows = [_cost_row(found, arms.index(found.model), weights) for found in predictions]
    return _framed(table("Cost", columns, rows))


def _cost_row(found: Prediction, number: int, weights: Sequence[Weights]) -> list[str]:
    weight = weights[number]
    return [
        f"{letter(number)} <bdi>{escape(found.model)}</bdi>",
        f"{found.cost.latency_ms:,.0f} ms",
        f"{found.cost.tokens_per_second:,.0f}",
        NONE if weight.parameters is None else f"{weight.parameters / 1e6:.1f} million",
        NONE if weight.size_bytes is None else f"{weight.size_bytes / 1e6:.1f} MB",
        read(found.coverage),
    ]


def read(coverage: Coverage) -> str:
    """How many tokens were read of how many."""
    return f"{coverage.tokens_read:,} of {coverage.tokens:,} ({_share(coverage.tokens_read / max(coverage.tokens, 1))})"


def _share(figure: float | None) -> str:
    return NONE if figure is None else f"{figure:.0%}"


def _framed(inner: str) -> Html:
    return Html(f'<div class="sr"><div class="sr-wide" tabindex="0">{inner}</div></div>')
