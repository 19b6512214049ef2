"""The command of the table of results: `stillroom results`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from trainer.errors import UnknownName
from workbench.cli import terminal

if TYPE_CHECKING:  # slow to import
    from workbench.results import Row

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else.")]


def results(
    dataset: Annotated[str | None, typer.Option("--dataset", metavar="D", help="Only rows of this data set.")] = None,
    form: Annotated[Literal["table", "csv", "latex", "json"], typer.Option("--format", help="The format.")] = "table",
    as_json: AsJson = False,
) -> None:
    """Show every score that was measured, with its interval, its cost and what others published."""
    from workbench import results as every_result
    from workbench.results import formats

    rows = every_result.rows()
    if dataset is not None:
        known = every_result.datasets(rows)
        rows = [row for row in rows if row.dataset.casefold() == dataset.casefold()]
        if not rows:
            raise UnknownName("data set", dataset, known, next_step="`stillroom results` lists those with results.")
    if as_json or form == "json":
        terminal.print_json([row.model_dump(mode="json") for row in rows])
    elif form == "table":
        show(rows)
    else:
        terminal.say({"csv": formats.as_csv, "latex": formats.as_latex}[form](rows).rstrip("\n"))


def show(rows: Sequence["Row"]) -> None:
    """Show one row per model and data set; scores from 0 to 1, a dash for what was not measured."""
    from workbench.results.formats import measure_title, measured_on

    columns = ["data set", "model", "kind", "measure", "score", "95 % interval", "baseline", "retention", "parameters"]
    columns += ["MB", "p50 ms", "p95 ms", "memory MB", "measured on", "published", "id"]
    terminal.table(
        columns,
        [
            (row.dataset if row.split == "test" else f"{row.dataset}, {row.split}", row.model, row.made)
            + (measure_title(row), row.score, _interval(row.low, row.high), row.baseline)
            + (_percent(row.retention), _millions(row.params), _megabytes(row.disk_bytes))
            + (_milliseconds(row.latency_ms_p50), _milliseconds(row.latency_ms_p95))
            + (_megabytes(row.peak_memory_bytes), measured_on(row), row.published and row.published.value, row.id)
            for row in rows
        ],
    )


def _interval(low: float | None, high: float | None) -> str | None:
    return None if low is None or high is None else f"{low:.3f} to {high:.3f}"


def _millions(count: int | None) -> str | None:
    return None if count is None else f"{count / 1e6:.1f}M"


def _percent(share: float | None) -> str | None:
    return None if share is None else f"{share * 100:.1f} %"


def _megabytes(size: float | None) -> str | None:
    return None if size is None else f"{size / 1e6:,.0f}"


def _milliseconds(value: float | None) -> str | None:
    return None if value is None else f"{value:,.1f}"
