"""Scores of finished runs and differences between their specs, as plain numbers and strings."""

import re
from collections.abc import Mapping
from typing import Any

from trainer.queue import Job
from trainer.spec import TRAINED
from trainer.tasks import TASKS

TEACHER = "teacher_test_f1."  # prefix of the teacher's scores per label
MISSING = "—"  # for a field that a spec does not have


def score(spec: Mapping[str, Any]) -> str:
    """The main score of a stored spec's task, such as f1 or macro_f1."""
    name = (spec.get("task") or {}).get("name")
    return TASKS[name].score if name in TASKS else "f1"


def unit(spec: Mapping[str, Any]) -> str:
    """The word for what a stored spec's task counts, such as sentences."""
    name = (spec.get("task") or {}).get("name")
    return TASKS[name].unit if name in TASKS else "examples"


def teacher_and_student(metrics: Mapping[str, float | None]) -> list[tuple[str, float, float]]:
    """(label, teacher's test F1, student's test F1), largest drop in F1 first; empty without a teacher."""
    rows = []
    for name, teacher in metrics.items():
        label = name.removeprefix(TEACHER)
        student = metrics.get(f"test_f1.{label}")
        if name.startswith(TEACHER) and teacher is not None and student is not None:
            rows.append((label, teacher, student))
    return sorted(rows, key=lambda row: row[2] - row[1])


COLUMNS = {
    "support": "Examples",
    "f1": "F1",
    "precision": "Precision",
    "recall": "Recall",
    "roc_auc": "ROC-AUC",
    "average_precision": "Average precision",
}


def label_scores(metrics: Mapping[str, float | None]) -> list[dict[str, Any]]:
    """One row per label of a document classifier, most frequent first; empty for other runs."""
    plain = {name.removeprefix("test_"): value for name, value in metrics.items()}
    labels = [name.removeprefix("support.") for name in plain if name.startswith("support.")]
    rows = [
        {"Label": label}
        | {
            title: plain[f"{name}.{label}"]
            for name, title in COLUMNS.items()
            if plain.get(f"{name}.{label}") is not None
        }
        for label in labels
    ]
    return sorted(rows, key=lambda row: -row["Examples"])


def long_document_scores(metrics: Mapping[str, float | None]) -> list[tuple[int, int, float]]:
    """(minimum word pieces, number of documents longer than that, their macro F1), where a run has scored them."""
    plain = {name.removeprefix("test_"): value for name, value in metrics.items() if value is not None}
    lengths = (name.removeprefix("over_").removesuffix(".n") for name in plain if re.fullmatch(r"over_\d+\.n", name))
    return [
        (int(length), int(plain[f"over_{length}.n"]), plain[f"over_{length}.macro_f1"])
        for length in lengths
        if f"over_{length}.macro_f1" in plain
    ]


def retention(job: Job, report: Mapping[str, Any]) -> tuple[float, tuple[float, float] | None] | None:
    """The share of the teacher's test score that the student keeps, and its interval; None without a teacher.

    The interval is that of the student's score alone: the teacher's score is taken as exact.
    """
    share, name = job.metrics.get("retention"), score(job.spec)
    teacher = job.metrics.get(f"teacher_test_{name}")
    if share is None or not teacher:
        return None
    limits = report.get("intervals", {}).get(name)
    return share, (limits[0] / teacher, limits[1] / teacher) if limits else None


def comparable(job: Job, jobs: list[Job]) -> list[Job]:
    """The other jobs whose curves can be drawn with those of a job: training jobs with the same main score."""
    if job.kind not in TRAINED:
        return []
    same = (other for other in jobs if other.kind in TRAINED and score(other.spec) == score(job.spec))
    return [other for other in same if other.id != job.id]


def differences(specs: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, str]]:
    """{field: {job: value}} for the fields in which stored specs differ; a missing field is a dash."""
    flat = {job_id: _flat(spec) for job_id, spec in specs.items()}
    names = dict.fromkeys(name for fields in flat.values() for name in fields)
    rows = {name: {job_id: fields.get(name, MISSING) for job_id, fields in flat.items()} for name in names}
    return {name: row for name, row in rows.items() if len(set(row.values())) > 1}


def _flat(spec: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    fields: dict[str, str] = {}
    for name, value in spec.items():
        if isinstance(value, Mapping):
            fields |= _flat(value, f"{prefix}{name}.")
        elif value is not None:
            fields[prefix + name] = _text(value)
    return fields


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
