"""Agreement of models pair by pair, and the cost of each, as small tables for the page and the report."""

from collections.abc import Sequence

from trainer.prediction import Coverage, Prediction
from workbench.compare.agreement import AgreementRow, agreement_rows, arm_pairs
from workbench.compare.costs import Weights
from workbench.highlight.markup import Html, letter, table
from workbench.predict import percent

NONE = "–"  # where there is no figure


def agreement_table(predictions: Sequence[Prediction], arms: Sequence[str]) -> Html:
    """Agreement over all labels and by label, a column per pair; `arms` are the names in the order of their letters."""
    numbers = [arms.index(prediction.model) for prediction in predictions]
    pairs = [
        Html("{}&thinsp;{}").format(letter(numbers[one]), letter(numbers[other]))
        for one, other in arm_pairs(predictions)
    ]
    columns = ["Label", *pairs, *(["Mean"] if len(pairs) > 1 else [])]
    return _framed(table("Agreement", columns, map(_agreement_row, agreement_rows(predictions))))


def _agreement_row(row: AgreementRow) -> list[str]:
    name = "All labels" if row.label is None else Html("<bdi>{}</bdi>").format(row.label)
    return [name, *map(share, row.pairs), *([share(row.mean)] if len(row.pairs) > 1 else [])]


def cost_table(predictions: Sequence[Prediction], weights: Sequence[Weights], arms: Sequence[str]) -> Html:
    """Time, size and coverage of each arm. `weights` and `arms` are in the order of the letters."""
    columns = ["Model", "Latency", "Tokens per second", "Parameters", "Size on disk", "Tokens read"]
    numbers = [arms.index(prediction.model) for prediction in predictions]
    rows = [_cost_row(*row) for row in zip(predictions, numbers, (weights[number] for number in numbers), strict=True)]
    return _framed(table("Cost", columns, rows))


def _cost_row(prediction: Prediction, number: int, weights: Weights) -> list[str]:
    return [
        Html("{} <bdi>{}</bdi>").format(letter(number), prediction.model),
        f"{prediction.cost.latency_ms:,.0f} ms",
        f"{prediction.cost.tokens_per_second:,.0f}",
        NONE if weights.parameters is None else f"{weights.parameters / 1e6:.1f} million",
        NONE if weights.size_bytes is None else f"{weights.size_bytes / 1e6:.1f} MB",
        tokens_read(prediction.coverage),
    ]


def tokens_read(coverage: Coverage) -> str:
    """How many of the tokens were read."""
    return f"{coverage.tokens_read:,} of {coverage.tokens:,} ({share(coverage.tokens_read / max(coverage.tokens, 1))})"


def share(figure: float | None) -> str:
    """A part of a whole; unlike a score it is 0% or 100% where it is exactly that, and only there."""
    return NONE if figure is None else f"{figure:.0%}" if figure in (0, 1) else percent(figure)


def _framed(inner: Html) -> Html:
    return Html('<div class="sr"><div class="sr-wide" tabindex="0">{}</div></div>').format(inner)
