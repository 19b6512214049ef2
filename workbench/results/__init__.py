"""The table of results: every score that was measured here, with its interval, its cost and what it is compared with.

Rows come from finished jobs, from the starters that ship and, apart from these, from what others published. A figure
that nobody measured is None, never 0.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic_core import from_json

from trainer import queue, zoo
from trainer.home import ROOT, runs_dir
from trainer.prediction import Plain
from trainer.queue import Job
from trainer.run import Run, attempts
from trainer.tasks import TASKS
from trainer.zoo import ModelEntry, Reported
from trainer.zoo.weights import WEIGHTS, read_json
from workbench.launch import runs, wording

MOST_JOBS = 10_000
STARTER, PUBLISHED = "starter", "published"
PIECES = "word pieces"  # what the papers' NER scores count (trap T1)
_OURS = "stillroom evaluate"  # the source of figures in the zoo that are not from others

log = logging.getLogger(__name__)


class Published(Plain):
    """A figure that others published, from 0 to 1: where, and what to know of it."""

    value: float
    source: str
    note: str | None


class Row(Plain):
    """One model on one split of a data set.

    id: of the job that scored it, or of the starter. made: how the model came to be, a kind of job, or "starter" or
    "published". measures: the name of the main score; counts: what it counts, such as "word level" or "word pieces":
    rows that differ in one of them cannot be compared. data: the SHA-256 of the data set. score, low, high: from 0 to
    1, with its 95 % interval. n: how many `unit` it rests on. retention: share of the teacher's score, with the
    interval of the student's alone. baseline: the score of a trivial answer on the same items. disk_bytes: of the
    weights, which are stored as `stored_as`. Latency is per item, one at a time, in milliseconds. hardware, threads,
    precision: of the measurement of latency and memory.
    """

    id: str
    model: str
    made: str
    dataset: str
    data: str | None = None
    split: str = "test"
    limit: int | None = None
    task: str | None = None
    measures: str
    counts: str
    score: float | None = None
    low: float | None = None
    high: float | None = None
    n: int | None = None
    unit: str | None = None
    baseline: float | None = None
    baseline_name: str | None = None
    teacher: str | None = None
    retention: float | None = None
    retention_low: float | None = None
    retention_high: float | None = None
    params: int | None = None
    disk_bytes: int | None = None
    stored_as: str | None = None
    latency_ms_p50: float | None = None
    latency_ms_p95: float | None = None
    peak_memory_bytes: float | None = None
    hardware: str | None = None
    threads: int | None = None
    precision: str | None = None
    published: Published | None = None

    @property
    def group(self) -> tuple[object, ...]:
        """What rows have in common whose scores can be compared."""
        return self.data or self.dataset.casefold(), self.split, self.limit, self.measures, self.counts


def rows(*, dataset: str | None = None) -> list[Row]:
    """All rows, of one data set if given: by data set, what was scored here first, and the best score first."""
    entries = zoo.entries()
    measured = [row for job in queue.jobs(limit=MOST_JOBS) if job.state == "succeeded" and (row := of_job(job))]
    measured += [row for entry in entries.values() if entry.source == "data" and (row := of_starter(entry))]
    every = [*map(_with_published, _with_retention(measured)), *published_rows(entries.values())]
    chosen = [row for row in every if dataset is None or row.dataset.casefold() == dataset.casefold()]
    scored_here = {row.dataset.casefold() for row in measured}
    return sorted(chosen, key=lambda row: (row.dataset.casefold() not in scored_here, *_order(row)))


def datasets(every: Iterable[Row]) -> list[str]:
    """The data sets of some rows in their order, each as its first row spells it."""
    names: dict[str, str] = {}
    for row in every:
        names.setdefault(row.dataset.casefold(), row.dataset)
    return list(names.values())


def front(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Which of some (cost, score) points no other dominates: none is at most as dear and at least as good, and better
    in one of the two (the Pareto front).
    """
    return [
        not any(
            cost <= point[0] and score >= point[1] and (cost < point[0] or score > point[1]) for cost, score in points
        )
        for point in points
    ]


def of_job(job: Job) -> Row | None:
    """The row of a job that has succeeded; None where it has no main score, as a run without a report."""
    run = next(iter(attempts(runs_dir(), job.id)), None)
    report, spec = (_report(run), _spec(run)) if run else ({}, {})
    name, scored = runs.score(job.spec), job.kind == "evaluate"
    score = job.metrics.get(name if scored else f"test_{name}")
    if score is None:
        return None
    cost, place = report.get("cost", {}), report.get("measured_on", {})
    low, high = report.get("intervals", {}).get(name) or (None, None)
    retention = runs.retention(job, report)
    share, limits = retention if retention else (None, None)
    baseline = report.get("baseline", {})
    return Row(
        id=job.id,
        model=wording.model(job.spec),
        made=job.kind,
        dataset=Path(job.spec["dataset"]).name,
        data=spec.get("dataset", {}).get("sha256"),
        split=job.spec.get("split", "test") if scored else "test",
        limit=job.spec.get("limit"),
        task=(job.spec.get("task") or {}).get("name"),
        measures=name,
        counts=_counts(job.spec.get("task") or {}),
        score=score,
        low=low,
        high=high,
        n=report.get("n"),
        unit=report.get("unit") or runs.unit(job.spec),
        baseline=baseline.get("metrics", {}).get(name),
        baseline_name=baseline.get("name"),
        teacher=job.spec.get("teacher"),
        retention=share,
        retention_low=limits and limits[0],
        retention_high=limits and limits[1],
        params=cost.get("params"),
        disk_bytes=_weights(Path(job.artifact)) if job.artifact else cost.get("disk_bytes"),
        stored_as=_stored_as(Path(job.artifact)) if job.artifact else None,
        latency_ms_p50=cost.get("latency_ms_p50"),
        latency_ms_p95=cost.get("latency_ms_p95"),
        peak_memory_bytes=cost.get("peak_memory_bytes"),
        hardware=place.get("hardware"),
        threads=place.get("threads") or spec.get("threads"),
        precision=place.get("precision"),
    )


def of_starter(entry: ModelEntry) -> Row | None:
    """The row of a model that ships, from what its folder records; None where that has no score."""
    folder = ROOT / (entry.path or "")
    about = read_json(folder / zoo.ABOUT) or {}
    task = TASKS.get(about.get("task") or "")
    metrics = about.get("metrics") or {}
    score = metrics.get(f"test_{task.score}") if task else None
    if task is None or score is None:
        return None
    low, high = about.get("intervals", {}).get(task.score) or (None, None)
    teacher = metrics.get(f"teacher_test_{task.score}")
    return Row(
        id=entry.id,
        model=entry.id,
        made=STARTER,
        dataset=about["dataset"],
        data=about.get("data_sha256"),
        limit=about.get("limit"),
        task=task.model_fields["name"].default,
        measures=task.score,
        counts=_counts({"name": about["task"], "labelling": about.get("labelling")}),
        score=score,
        low=low,
        high=high,
        unit=about.get("unit"),
        teacher=about.get("teacher"),
        retention=metrics.get("retention"),
        retention_low=low / teacher if low is not None and teacher else None,
        retention_high=high / teacher if high is not None and teacher else None,
        params=about.get("params"),
        disk_bytes=_weights(folder),
        stored_as=about.get("dtype"),
    )


def published_rows(entries: Iterable[ModelEntry]) -> list[Row]:
    """What others published of the models of the zoo: a row per model and data set, without a score of ours."""
    return [
        Row(
            id=entry.id,
            model=entry.name,
            made=PUBLISHED,
            dataset=figure["dataset"] or "",
            measures=figure["metric"].casefold().replace(" ", "_"),
            counts=_published_counts(figure),
            published=_published(figure),
            params=entry.params.get("encoder"),
        )
        for entry in entries
        for figure in entry.reported
        if figure["dataset"] and figure["source"] != _OURS
    ]


def _with_retention(measured: Sequence[Row]) -> list[Row]:
    """The rows; one without a retention gets it where its model has a teacher that was scored on the same data."""
    teachers: dict[str, str | None] = {entry.id: entry.teacher for entry in zoo.entries().values()}
    teachers |= {row.id: row.teacher for row in measured if row.teacher}
    scores = {(row.group, name): row.score for row in reversed(measured) for name in (row.id, row.model)}

    def complete(row: Row) -> Row:
        teacher = row.teacher or teachers.get(row.model)
        of_teacher = scores.get((row.group, teacher)) if teacher else None
        if row.retention is not None or not of_teacher or row.score is None:
            return row.model_copy(update={"teacher": teacher})
        low, high = (limit and limit / of_teacher for limit in (row.low, row.high))
        share = {"retention": row.score / of_teacher, "retention_low": low, "retention_high": high}
        return row.model_copy(update={"teacher": teacher} | share)

    return [complete(row) for row in measured]


def _with_published(row: Row) -> Row:
    """The row with what others published of the model that it started from, on a data set of that name."""
    entry = zoo.entries().get(row.model)
    for figure in entry.reported if entry else ():
        same = (figure["dataset"] or "").casefold() == row.dataset.casefold()
        if same and figure["source"] != _OURS and figure["metric"].casefold().replace(" ", "_") == row.measures:
            return row.model_copy(update={"published": _published(figure)})
    return row


def _published(figure: Reported) -> Published:
    return Published(value=figure["value"] / 100, source=figure["source"], note=figure["note"])


def _published_counts(figure: Reported) -> str:
    return PIECES if PIECES in (figure["note"] or "") else "as published"


def _counts(task: Mapping[str, Any]) -> str:
    """What the scores of a stored task count."""
    if task.get("labelling") == "all":
        return PIECES
    return TASKS[task["name"]].level if task.get("name") in TASKS else ""


def _order(row: Row) -> tuple[object, ...]:
    best = row.score if row.score is not None else row.published.value if row.published else 0.0
    return row.dataset.casefold(), row.made == PUBLISHED, row.split, row.counts, -best, row.id


def _weights(folder: Path) -> int | None:
    try:
        return (folder / WEIGHTS).stat().st_size
    except OSError:
        return None


def _stored_as(folder: Path) -> str | None:
    about = read_json(folder / zoo.ABOUT)
    return about.get("dtype", "float32") if about else None


def _report(run: Run) -> dict[str, Any]:
    path = run.folder / "result.json"
    try:
        status = path.stat()
        return _read_report(path, status.st_mtime_ns, status.st_size)
    except (OSError, ValueError) as error:
        log.warning("The report of run %s cannot be read (%s).", run.id, type(error).__name__)
        return {}


@lru_cache(maxsize=1024)
def _read_report(path: Path, written_ns: int, size: int) -> dict[str, Any]:
    """The report in a result.json; read again when the file has changed, so that a page reads each once."""
    result = Run(path.parent).result
    return result.report if result else {}


def _spec(run: Run) -> dict[str, Any]:
    """The data set and the threads of a run, as its spec.json has them."""
    try:
        spec: dict[str, Any] = from_json((run.folder / "spec.json").read_bytes())
        return spec
    except (OSError, ValueError):
        return {}
