"""Two rows of the table item by item: read from their run folders, and compared."""

from functools import lru_cache
from pathlib import Path

from trainer.errors import BadData, Unavailable, UnknownName
from trainer.evaluation.outcomes import FILE, Outcomes
from trainer.evaluation.significance import Difference, compare
from trainer.home import runs_dir
from trainer.run import attempts
from workbench.results import STARTER, Row


def outcomes_of(job_id: str) -> Outcomes | None:
    """The outcomes of a job's newest attempt; None where it stored none, as older versions and other kinds of jobs."""
    run = next(iter(attempts(runs_dir(), job_id)), None)
    if run is None:
        return None
    try:
        status = (run.folder / FILE).stat()
    except FileNotFoundError:
        return None
    return _read(run.folder, status.st_mtime_ns, status.st_size)


def compare_rows(rows: list[Row], first: str, second: str) -> Difference:
    """The first row's score against the second's, by their ids.

    Raises UnknownName, BadData where they were scored on other items, and Unavailable where a run stored no outcomes.
    """
    known = {row.id: row for row in reversed(rows) if row.score is not None}
    for name in (first, second):
        if name not in known:
            raise UnknownName("result", name, known, next_step="`stillroom results` lists them in the column id.")
    one, other = known[first], known[second]
    if one.group != other.group:
        sides = (f"{row.id} on {row.dataset} ({row.split})" for row in (one, other))
        raise BadData(
            f"the two were not scored on the same items: {' and '.join(sides)}.",
            next_step="Score both on the same split of the same data set.",
        )
    return compare(_stored(one), _stored(other))


def _stored(row: Row) -> Outcomes:
    outcomes = None if row.made == STARTER else outcomes_of(row.id)
    if outcomes is None:
        raise Unavailable(
            f"{row.id} has no stored outcomes of its items.",
            next_step=f"Score it as a job: {{kind: evaluate, model: {row.model if row.made == STARTER else row.id}, "
            f"dataset: {row.dataset}}}, from Train or with `stillroom submit`.",
        )
    return outcomes


@lru_cache(maxsize=16)
def _read(folder: Path, written_ns: int, size: int) -> Outcomes | None:
    """The outcomes in a folder; read again when the file has changed."""
    try:
        return Outcomes.read(folder)
    except ValueError:
        return None
