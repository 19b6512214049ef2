"""What waits for what. A job needs the runs that its spec refers to, and starts when all of them have succeeded.

Where one of them fails or is cancelled, whatever depends on it is stopped in the same transaction; when that one is
retried, they are queued again. So a job that is queued can always come to run, and none waits for ever.
"""

import time
from collections.abc import Collection, Iterable

from sqlalchemy import ColumnElement, Connection, Row, Select, exists, insert, select, update

from trainer.errors import StillroomError
from trainer.queue.store import job as jobs_table
from trainer.queue.store import needs as needs_table

ENDED_BADLY = ("failed", "cancelled")

_job, _needs = jobs_table.c, needs_table.c


class NotStarted(StillroomError):
    """A job was stopped before it began, because a run that it needs did not succeed; `needed` is that run's id."""

    def __init__(self, message: str, *, needed: str, next_step: str):
        super().__init__(message, next_step=next_step)
        self.needed = needed

    def to_json(self) -> dict:
        return super().to_json() | {"needed": self.needed}


def lock(connection: Connection) -> None:
    """Keep apart the transactions that change what may run: first thing in each. SQLite has one writer anyway."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("LOCK TABLE needs IN EXCLUSIVE MODE")


def record(connection: Connection, job_id: str, references: Iterable[str]) -> None:
    """Note which jobs a new job needs: those among the references of its spec."""
    known = connection.execute(select(_job.id).where(_job.id.in_(set(references)))).scalars().all()
    if known:
        connection.execute(insert(needs_table), [{"job_id": job_id, "needed_id": needed} for needed in known])


def fulfilled() -> ColumnElement[bool]:
    """Whether all that a job needs has succeeded; for the WHERE of a query on the job table."""
    needed = jobs_table.alias()
    missing = select(_needs.needed_id).join(needed, needed.c.id == _needs.needed_id)
    missing = missing.where(_needs.job_id == _job.id, needed.c.state != "succeeded")
    return ~exists(missing.correlate(jobs_table))


def states(connection: Connection, jobs: Select) -> dict[str, dict[str, str]]:
    """{job: {job it needs: state of that}} of the jobs that a query on the job table selects."""
    ids = select(jobs.subquery().c.id)
    query = select(_needs.job_id, _needs.needed_id, _job.state).join(jobs_table, _job.id == _needs.needed_id)
    found: dict[str, dict[str, str]] = {}
    for row in connection.execute(query.where(_needs.job_id.in_(ids)).order_by(_needs.needed_id)):
        found.setdefault(row.job_id, {})[row.needed_id] = row.state
    return found


def hindrance(connection: Connection, job_id: str) -> dict | None:
    """Why a job cannot come to run, as NotStarted.to_json(); None if nothing that it needs has ended badly."""
    query = select(jobs_table).join(needs_table, _needs.needed_id == _job.id)
    query = query.where(_needs.job_id == job_id, _job.state.in_(ENDED_BADLY))
    row = connection.execute(query.order_by(_job.ended_at, _job.id).limit(1)).one_or_none()
    if row is None:
        return None
    # One that was stopped itself passes on the name of the job that a person has to look at.
    return row.error if _was_stopped(row) else _blame(row).to_json()


def settle(connection: Connection, job_id: str) -> None:
    """Bring whatever depends on a job in line with its new state: stopped, or queued again."""
    changed = {job_id}
    while changed:
        changed = {row.id for row in _dependants(connection, changed) if _settle_one(connection, row)}


def _dependants(connection: Connection, ids: Collection[str]) -> list[Row]:
    depend = select(_needs.job_id).where(_needs.needed_id.in_(ids))
    return connection.execute(select(jobs_table).where(_job.id.in_(depend)).order_by(_job.turn)).all()


def _settle_one(connection: Connection, row: Row) -> bool:
    """Whether this job's state or reason had to be changed. One that a person cancelled stays cancelled."""
    if row.state != "queued" and not _was_stopped(row):
        return False
    error = hindrance(connection, row.id)
    if error == row.error:
        return False
    state, ended_at = ("cancelled", time.time()) if error else ("queued", None)
    values = {"state": state, "error": error, "ended_at": ended_at}
    connection.execute(update(jobs_table).where(_job.id == row.id).values(values))
    return True


def _was_stopped(row: Row) -> bool:
    return row.state == "cancelled" and row.error is not None and row.error["type"] == NotStarted.__name__


def _blame(row: Row) -> NotStarted:
    what = f"Job {row.id} ({row.kind} on {row.spec['dataset']}), which this one needs,"
    how = "has failed" if row.state == "failed" else "was cancelled"
    next_step = f"Read `stillroom job {row.id}`, then `stillroom retry {row.id}`: what depends on it follows by itself."
    return NotStarted(f"{what} {how}.", needed=row.id, next_step=next_step)
