"""The table of results as CSV, LaTeX and JSON, and the titles and units of its columns."""

import csv
import io
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from pydantic_core import to_json

from workbench.results import Row

MEASURES = {"f1": "F1", "macro_f1": "macro F1", "micro_f1": "micro F1"}  # others read as they are named


class Column(NamedTuple):
    """A column: its name in a file, its title with its unit, and its value, None where it was not measured."""

    name: str
    title: str
    value: Callable[[Row], object]


def measure_title(row: Row) -> str:
    """The name of a row's score: "F1, word level"."""
    return ", ".join(filter(None, (MEASURES.get(row.measures, row.measures.replace("_", " ")), row.counts)))


COLUMNS = (
    Column("model", "Model", lambda row: row.model),
    Column("made", "Kind", lambda row: row.made),
    Column("dataset", "Data set", lambda row: row.dataset),
    Column("split", "Split", lambda row: row.split),
    Column("measure", "Measure", measure_title),
    Column("score", "Score", lambda row: row.score),
    Column("low", "95 % from", lambda row: row.low),
    Column("high", "95 % to", lambda row: row.high),
    Column("n", "n", lambda row: row.n),
    Column("unit", "of", lambda row: row.unit),
    Column("baseline", "Baseline", lambda row: row.baseline),
    Column("baseline_name", "Baseline is", lambda row: row.baseline_name),
    Column("teacher", "Teacher", lambda row: row.teacher),
    Column("retention", "Retention", lambda row: row.retention),
    Column("retention_low", "Retention from", lambda row: row.retention_low),
    Column("retention_high", "Retention to", lambda row: row.retention_high),
    Column("params", "Parameters", lambda row: row.params),
    Column("disk_bytes", "Disk (bytes)", lambda row: row.disk_bytes),
    Column("stored_as", "Stored as", lambda row: row.stored_as),
    Column("latency_ms_p50", "p50 (ms)", lambda row: row.latency_ms_p50),
    Column("latency_ms_p95", "p95 (ms)", lambda row: row.latency_ms_p95),
    Column("peak_memory_bytes", "Peak memory (bytes)", lambda row: row.peak_memory_bytes),
    Column("hardware", "Hardware", lambda row: row.hardware),
    Column("threads", "Threads", lambda row: row.threads),
    Column("precision", "Precision", lambda row: row.precision),
    Column("published", "Published", lambda row: row.published and row.published.value),
    Column("published_source", "Published by", lambda row: row.published and row.published.source),
    Column("published_note", "Published figure", lambda row: row.published and row.published.note),
    Column("id", "Id", lambda row: row.id),
)


def as_csv(rows: Sequence[Row]) -> str:
    """One line per row under the names of the columns; what was not measured is empty."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([column.name for column in COLUMNS])
    writer.writerows([[_inert(column.value(row)) for column in COLUMNS] for row in rows])
    return file.getvalue()


def as_json(rows: Sequence[Row]) -> str:
    """The rows as a JSON list; what was not measured is null."""
    return to_json([row.model_dump(mode="json") for row in rows], indent=2, inf_nan_mode="null").decode()


def as_latex(rows: Sequence[Row]) -> str:
    """A table for a paper, for the package booktabs: scores and retention in percent; "--" was not measured."""
    titles = ["Model", "Data set", "Score", "95\\,\\% interval", "Baseline", "Retention", "Parameters (M)"]
    titles += ["Disk (MB)", "p50 (ms)", "p95 (ms)", "Memory (MB)", "Published"]
    lines = [" & ".join(_latex_cells(row)) + r" \\" for row in rows]
    machines = sorted({place for row in rows if (place := measured_on(row))})
    notes = [f"% Costs: {place}." for place in machines]
    notes += [f"% {text}." for text in sorted({f"{row.dataset}: {measure_title(row)}" for row in rows})]
    head = [f"\\begin{{tabular}}{{ll{'r' * (len(titles) - 2)}}}", r"\toprule", " & ".join(titles) + r" \\", r"\midrule"]
    return "\n".join([*notes, *head, *lines, r"\bottomrule", r"\end{tabular}", ""]).replace("\r", " ")


def measured_on(row: Row) -> str:
    """What latency and memory were measured on: "AMD EPYC 9B14, 1 thread, float32"; empty where not known."""
    if row.latency_ms_p50 is None and row.peak_memory_bytes is None:
        return ""
    threads = f"{row.threads} thread{'s' * (row.threads != 1)}" if row.threads else None
    return ", ".join(filter(None, (row.hardware, threads, row.precision)))


def _latex_cells(row: Row) -> list[str]:
    interval = None if row.low is None or row.high is None else f"{row.low * 100:.1f}--{row.high * 100:.1f}"
    figures = (
        _scaled(row.score, 100, 1),
        interval,
        _scaled(row.baseline, 100, 1),
        _scaled(row.retention, 100, 1),
        _scaled(row.params, 1e-6, 1),
        _scaled(row.disk_bytes, 1e-6, 0),
        _scaled(row.latency_ms_p50, 1, 1),
        _scaled(row.latency_ms_p95, 1, 1),
        _scaled(row.peak_memory_bytes, 1e-6, 0),
        _scaled(row.published.value if row.published else None, 100, 1),
    )
    return [_latex(row.model), _latex(row.dataset), *(figure or "--" for figure in figures)]


def _scaled(value: float | None, factor: float, digits: int) -> str | None:
    return None if value is None else f"{value * factor:.{digits}f}"


_LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}


def _latex(text: str) -> str:
    """Text that LaTeX prints as it is."""
    escaped = re.sub(r"[\\~^]|[&%$#_{}]", lambda sign: _LATEX.get(sign[0], f"\\{sign[0]}"), text)
    return re.sub(r"\s+", " ", escaped)


def _inert(value: object) -> object:
    """A cell that a spreadsheet does not take for a formula: names are what people typed."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value
