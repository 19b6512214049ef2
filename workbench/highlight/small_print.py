"""The closing block of a printed report: what a person needs who wants to make the same again."""

from workbench.compare.costs import Weights
from workbench.compare.report import Report, versions
from workbench.highlight.markup import Html, concat, letter, table
from workbench.highlight.tables import NONE, cost_table


def small_print(report: Report) -> Html:
    """References, hashes, cost and versions."""
    names = list(report.titles)
    rows = [
        [Html("{} {}").format(letter(number), name), _hash(weights)]
        for number, (name, weights) in enumerate(zip(names, report.weights, strict=True))
    ]
    if report.relating:
        rows.append([Html("Relations: {}").format(report.relating.reference), _hash(report.relating)])
    parts = [
        table("Models", ["Reference", "SHA-256 of the weights"], rows),
        cost_table(report.comparison.predictions, report.weights, names),
        Html("<p>{}.</p>").format(", ".join(f"{package} {number}" for package, number in versions().items())),
    ]
    return Html('<section class="sr-small"><h2>Details</h2>{}</section>').format(concat(parts))


def _hash(weights: Weights) -> str:
    return NONE if weights.sha256 is None else Html('<span class="sr-hash">{}</span>').format(weights.sha256)
