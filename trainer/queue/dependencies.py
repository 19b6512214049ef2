"""Dependencies between jobs: a job needs the runs that its spec refers to, and starts when all of them have succeeded.

If one of them fails or is cancelled, all jobs that depend on it are cancelled in the same transaction; when it is
retried, they are queued again. So every queued job can eventually run, and none waits forever.
"""

import time
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, exists, insert, select, update

from trainer.errors import StillroomError
from trainer.queue.store import job as jobs_table
from trainer.queue.store import needs as needs_table

ENDED_BADLY = ("failed", "cancelled")

_job, _needs = jobs_table.c, needs_table.c


class NotStarted(StillroomError):
    """A job was cancelled before it started, because a run that it needs did not succeed; `needed` is that run's id."""

    def __init__(self, message: str, *, needed: str, next_step: str):
        super().__init__(message, next_step=next_step)
        self.needed = needed

    def to_json(self) -> dict[str, Any]:
        return super().to_json() | {"needed": self.needed}


def lock(connection: Connection) -> None:
    """Serialise the transactions that change which jobs may run; called first in each. SQLite has one writer anyway."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("LOCK TABLE needs IN EXCLUSIVE MODE")


def record(connection: Connection, job_id: str, references: Iterable[str]) -> None:
    """Record which jobs a new job needs: those among the references of its spec."""
    needed_ids = connection.execute(select(_job.id).where(_job.id.in_(set(references)))).scalars().all()
    if needed_ids:
        connection.execute(insert(needs_table), [{"job_id": job_id, "needed_id": needed} for needed in needed_ids])


def fulfilled() -> ColumnElement[bool]:
    """Whether all jobs that a job needs have succeeded: a WHERE clause for a query on the job table."""
    needed = jobs_table.alias()
    missing = select(_needs.needed_id).join(needed, needed.c.id == _needs.needed_id)
    missing = missing.where(_needs.job_id == _job.id, needed.c.state != "succeeded")
    return ~exists(missing.correlate(jobs_table))


def states(connection: Connection, jobs: Select[Any]) -> dict[str, dict[str, str]]:
    """The state of every needed job, {job: {needed job: state}}, for the jobs that a query on the job table selects."""
    ids = select(jobs.subquery().c.id)
    query = select(_needs.job_id, _needs.needed_id, _job.state).join(jobs_table, _job.id == _needs.needed_id)
    by_job: dict[str, dict[str, str]] = {}
    for row in connection.execute(query.where(_needs.job_id.in_(ids)).order_by(_needs.needed_id)):
        by_job.setdefault(row.job_id, {})[row.needed_id] = row.state
    return by_job


def blocking_error(connection: Connection, job_id: str) -> dict[str, Any] | None:
    """Why a job can never run, as NotStarted.to_json(); None if no job that it needs has failed or was cancelled."""
    query = select(jobs_table).join(needs_table, _needs.needed_id == _job.id)
    query = query.where(_needs.job_id == job_id, _job.state.in_(ENDED_BADLY))
    row = connection.execute(query.order_by(_job.ended_at, _job.id).limit(1)).one_or_none()
    if row is None:
        return None
    # A job that was itself stopped passes on its error, which names the job that a person has to look at.
    return row.error if _was_stopped(row) else _not_started(row).to_json()


def settle(connection: Connection, job_id: str) -> None:
    """Update all jobs that depend on a job after its state has changed: cancel them, or queue them again."""
    changed_ids = {job_id}
    while changed_ids:
        changed_ids = {row.id for row in _dependants(connection, changed_ids) if _settle_one(connection, row)}


def _dependants(connection: Connection, ids: Collection[str]) -> Sequence[Row[Any]]:
    depend = select(_needs.job_id).where(_needs.needed_id.in_(ids))
    return connection.execute(select(jobs_table).where(_job.id.in_(depend)).order_by(_job.turn)).all()


def _settle_one(connection: Connection, row: Row[Any]) -> bool:
    """Update one job, and return whether it changed. A job that a person cancelled stays cancelled."""
    if row.state != "queued" and not _was_stopped(row):
        return False
    error = blocking_error(connection, row.id)
    if error == row.error:
        return False
    state, ended_at = ("cancelled", time.time()) if error else ("queued", None)
    values = {"state": state, "error": error, "ended_at": ended_at}
    connection.execute(update(jobs_table).where(_job.id == row.id).values(values))
    return True


def _was_stopped(row: Row[Any]) -> bool:
    """Whether a job was cancelled because of one that it needs."""
    return row.state == "cancelled" and row.error is not None and bool(row.error["type"] == NotStarted.__name__)


def _not_started(row: Row[Any]) -> NotStarted:
    needed_job = f"Job {row.id} ({row.kind} on {row.spec['dataset']}), which this one needs,"
    ending = "has failed" if row.state == "failed" else "was cancelled"
    next_step = (
        f"Read `stillroom job {row.id}`, then run `stillroom retry {row.id}`, which also retries its dependants."
    )
    return NotStarted(f"{needed_job} {ending}.", needed=row.id, next_step=next_step)
