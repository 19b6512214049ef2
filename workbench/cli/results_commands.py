"""The commands about scores: `stillroom evaluate` and the table of all of them, `stillroom results`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from trainer.errors import BadSpec, Refused, UnknownName
from trainer.files import write_file
from trainer.references import expanded
from workbench.cli import terminal

if TYPE_CHECKING:  # slow to import
    from trainer.evaluation.outcomes import Outcomes
    from trainer.evaluation.significance import Difference
    from workbench.results import Row

_BASELINE = "hypothesis_only."  # prefix of the scores of trainer.evaluation.hypothesis_only
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else.")]


def evaluate(
    model: Annotated[str, typer.Option("--model", metavar="M", help="Zoo id, run id, ./folder or org/name.")],
    dataset: Annotated[str, typer.Option("--dataset", metavar="D", help="The id of a data set, or a folder.")],
    split: Annotated[Literal["train", "dev", "test"], typer.Option(help="The split to score.")] = "test",
    limit: Annotated[int | None, typer.Option(min=1, help="Use only the first N examples.")] = None,
    errors: Annotated[
        Path | None,
        typer.Option("--errors", parser=expanded, metavar="FILE", help="Write each mistake as JSONL, without text."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Score a model on labelled data, with 95 % bootstrap intervals, and the cost."""
    from trainer import datasets
    from trainer import zoo as registry
    from trainer.spec import parse
    from workbench.launch.submission import resolve_references

    resolved, corpus = registry.resolve(model), datasets.resolve(dataset)
    task = registry.labelled_task(resolved)
    spec = resolve_references(
        parse({"kind": "evaluate", "model": model, "dataset": dataset, "split": split, "task": task})
    )

    from trainer import inference, models  # import torch, so only after all checks that do not need it
    from trainer.examples import open_data, read_task

    data = open_data(read_task(spec.task.name, resolved), corpus, limit=limit)
    network, tokenizer = models.load(resolved)
    longest = inference.longest_window(network, tokenizer)
    report = data.report(network, tokenizer, split, max_tokens=longest, folder=Path(resolved.path))
    outcomes = report.pop("outcomes", None)
    if errors:
        _write_errors(errors, outcomes)
    terminal.answer(report, as_json=as_json, view=lambda: show_scores(report))


def results(
    dataset: Annotated[str | None, typer.Option("--dataset", metavar="D", help="Only rows of this data set.")] = None,
    form: Annotated[Literal["table", "csv", "latex", "json"], typer.Option("--format", help="The format.")] = "table",
    compare: Annotated[
        str | None, typer.Option("--compare", metavar="A", help="Compare this result item by item; needs --against.")
    ] = None,
    against: Annotated[str | None, typer.Option("--against", metavar="B", help="The other result, by its id.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show every score that was measured, with its interval, its cost and what others published."""
    from workbench import results as every_result
    from workbench.results import comparison, formats

    rows = every_result.rows()
    if compare is not None or against is not None:
        if compare is None or against is None:
            raise BadSpec([("--compare", "it needs --against, and --against needs it: the ids of two results")])
        difference = comparison.compare_rows(rows, compare, against)
        document = {"first": compare, "second": against} | difference.model_dump(mode="json")
        terminal.answer(
            document, as_json=as_json or form == "json", view=lambda: show_difference(compare, against, difference)
        )
        return
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


def show_scores(report: Mapping[str, Any]) -> None:
    """Show scores with their intervals beside those of a trivial answer, scores of parts, calibration and cost."""
    intervals, metrics, baseline = report["intervals"], report["metrics"], report.get("baseline", {})
    trivial = baseline.get("metrics", {})
    rows = [
        (name, value, _interval(*intervals.get(name, (None, None))), trivial.get(name))
        for name, value in metrics.items()
        if not name.startswith(_BASELINE)
    ]
    columns = ("score", f"n = {report['n']:,}", "95 % interval", baseline.get("name", ""))
    shown = len(columns) if trivial else 3
    terminal.table(columns[:shown], [row[:shown] for row in rows])
    if parts := report.get("slices"):
        terminal.say("")
        cells = [
            (each["slice"], each["part"], each["n"], each["score"], _interval(*each["interval"])) for each in parts
        ]
        terminal.table(("by", "part", "n", "score", "95 % interval"), cells)
    if known := report.get("calibration"):
        terminal.say("")
        terminal.say(
            f"Expected calibration error {known['ece']:.3f}; {known['ece_scaled']:.3f} with the temperature "
            f"{known['temperature']:.2f}, fitted on {known['fitted_on']:,} items of dev."
        )
    terminal.say("")
    terminal.table(("cost", ""), [*report["cost"].items(), *report.get("measured_on", {}).items()])
    for note in report.get("notes", ()):
        terminal.say(note)


def show_difference(first: str, second: str, difference: "Difference") -> None:
    """Show the scores of two results, their difference with its interval, and McNemar's test."""
    measure, mcnemar = difference.measures, difference.mcnemar
    terminal.table(("id", measure), [(first, difference.first), (second, difference.second)])
    terminal.say(
        f"Difference {difference.difference:+.3f}, 95 % interval {difference.low:+.3f} to {difference.high:+.3f}, "
        f"p = {difference.p:.4g} (paired bootstrap, {difference.samples:,} samples of {difference.n:,} items)."
    )
    terminal.say(
        f"McNemar's exact test: of {mcnemar.units}, only {first} has {mcnemar.only_first:,} right, only {second} "
        f"{mcnemar.only_second:,}, both {mcnemar.both:,}, neither {mcnemar.neither:,}; p = {mcnemar.p:.4g}."
    )


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


def _write_errors(path: Path, outcomes: "Outcomes | None") -> None:
    """Write one JSON object per mistake: its item, numbered from 0, its kind, labels and places, and no text."""
    if outcomes is None:
        raise Refused(
            "Mistakes are known for scores of words, documents and pairs, not for those of word pieces.",
            next_step="Leave out --errors, or evaluate a model that is scored word by word.",
        )
    lines = (each.model_dump_json(exclude_none=True) for each in outcomes.mistakes)
    write_file(path, "".join(f"{line}\n" for line in lines).encode())
