"""What runs say when they are over, and how they differ: plain numbers out of specs, metrics and reports."""

import re
from collections.abc import Mapping
from typing import Any

from trainer.queue import Job
from trainer.spec import TRAINED
from trainer.tasks import TASKS

TEACHER = "teacher_test_f1."  # what the names of the teacher's scores by label begin with
OTHER_THAN = "—"  # where a spec does not have a field


def score(spec: Mapping) -> str:
    """The score that a stored spec's task is judged by: f1 or accuracy."""
    name = (spec.get("task") or {}).get("name")
    return TASKS[name].score if name in TASKS else "f1"


def by_label(metrics: Mapping[str, float | None]) -> list[tuple[str, float, float]]:
    """(label, teacher's test F1, student's), what was lost most first; empty without a teacher."""
    rows = [
        (name.removeprefix(TEACHER), value, metrics.get(f"test_f1.{name.removeprefix(TEACHER)}"))
        for name, value in metrics.items()
        if name.startswith(TEACHER) and value is not None
    ]
    return sorted((row for row in rows if row[2] is not None), key=lambda row: row[2] - row[1])


COLUMNS = {
    "support": "Documents",
    "f1": "F1",
    "precision": "Precision",
    "recall": "Recall",
    "roc_auc": "ROC-AUC",
    "average_precision": "Average precision",
}


def of_labels(metrics: Mapping[str, float | None]) -> list[dict[str, Any]]:
    """A row for each label of whole documents, the most frequent first; empty where a run has none."""
    plain = {name.removeprefix("test_"): value for name, value in metrics.items()}
    labels = [name.removeprefix("support.") for name in plain if name.startswith("support.")]
    rows = [
        {"Label": label}
        | {said: plain[f"{name}.{label}"] for name, said in COLUMNS.items() if plain.get(f"{name}.{label}") is not None}
        for label in labels
    ]
    return sorted(rows, key=lambda row: -row["Documents"])


def of_long(metrics: Mapping[str, float | None]) -> list[tuple[int, int, float]]:
    """(word pieces, documents with more than so many, their macro F1), where a run has scored such."""
    plain = {name.removeprefix("test_"): value for name, value in metrics.items()}
    lengths = (name.removeprefix("over_").removesuffix(".n") for name in plain if re.fullmatch(r"over_\d+\.n", name))
    return [(int(each), int(plain[f"over_{each}.n"]), plain[f"over_{each}.macro_f1"]) for each in lengths]


def retention(job: Job, report: Mapping) -> tuple[float, tuple[float, float] | None] | None:
    """The share of the teacher's test score that the student keeps, and its interval; None without a teacher.

    The interval is that of the student's score, the teacher's taken as it is.
    """
    share, name = job.metrics.get("retention"), score(job.spec)
    teacher = job.metrics.get(f"teacher_test_{name}")
    if share is None or not teacher:
        return None
    limits = report.get("intervals", {}).get(name)
    return share, (limits[0] / teacher, limits[1] / teacher) if limits else None


def comparable(job: Job, jobs: list[Job]) -> list[Job]:
    """The other jobs whose curves can be laid over those of a job: runs that train and are judged by the same score."""
    if job.kind not in TRAINED:
        return []
    same = (other for other in jobs if other.kind in TRAINED and score(other.spec) == score(job.spec))
    return [other for other in same if other.id != job.id]


def differences(specs: Mapping[str, Mapping]) -> dict[str, dict[str, str]]:
    """{field: {job: value}} of the fields in which stored specs differ, and of no others; a missing one is a dash."""
    flat = {job_id: _flat(spec) for job_id, spec in specs.items()}
    names = dict.fromkeys(name for fields in flat.values() for name in fields)
    rows = {name: {job_id: fields.get(name, OTHER_THAN) for job_id, fields in flat.items()} for name in names}
    return {name: row for name, row in rows.items() if len(set(row.values())) > 1}


def _flat(spec: Mapping, prefix: str = "") -> dict[str, str]:
    fields: dict[str, str] = {}
    for name, value in spec.items():
        if isinstance(value, Mapping):
            fields |= _flat(value, f"{prefix}{name}.")
        elif value is not None:
            fields[prefix + name] = _said(value)
    return fields


def _said(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
