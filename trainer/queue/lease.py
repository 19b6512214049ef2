"""What a worker holds: the arrows that workers take, each a transaction (trainer.queue offers them all).

A claim is a lease. Its token fences: every write of a worker says WHERE id AND token AND running, so a worker that
wakes up late changes nothing. Its beat shows life: observers time the silence with a monotonic clock of their own, so
no wall clock can take a job away. A job runs at least once and finishes exactly once.
"""

import random
import secrets
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from sqlalchemy import ColumnElement, Connection, Engine, Row, and_, case, delete, func, insert, or_, select, update

from trainer.errors import LeaseLost, StillroomError
from trainer.queue import dependencies
from trainer.queue.engines import Process
from trainer.queue.metrics import finite, record
from trainer.queue.store import LEFT_RUNNING, PATIENCE_S, read, write
from trainer.queue.store import job as jobs_table
from trainer.queue.store import worker as workers_table

LEASE_S = 30.0  # silence after which a worker counts as lost
MAX_STRIKES = 2  # claims without a new checkpoint after which a lost worker is blamed on its job
BACKOFF_S, MAX_BACKOFF_S = 30.0, 3600.0

_job = jobs_table.c


class LostWorker(StillroomError):
    """Every worker that ran the job was lost, and the job made no progress in between."""


@dataclass(frozen=True)
class Worker:
    """Who claims. The id is random, since host names and process ids come back."""

    id: str
    name: str
    device: str
    process: Process


@dataclass(frozen=True)
class Lease:
    """One claim. `child_process` is what an earlier attempt left in the row: end it before going on."""

    id: str
    token: int
    attempts: int
    strikes: int
    spec: dict
    worker: str
    child_process: str | None


@dataclass(frozen=True)
class Progress:
    """What a worker has to report; what is None stays as it was. `rows` are metric rows {(step, name): value}."""

    step: int | None = None
    steps: int | None = None
    rate: float | None = None  # steps per second
    checkpoint: int | None = None  # highest committed step
    message: str | None = None
    metrics: Mapping[str, float | None] | None = None  # the latest value of each name
    rows: Mapping[tuple[int, str], float | None] = field(default_factory=dict)


def enlist(store: Engine, *, device: str, process: Process) -> Worker:
    """A new worker, shown from now on; rows that dead workers of this machine left are removed."""
    new = Worker(secrets.token_hex(8), f"{socket.gethostname()}-{process.pid}", device, process)

    def enter(connection: Connection) -> None:
        for row in connection.execute(select(workers_table)).all():
            if Process.parse(row.process).gone:
                _remove(connection, row.id)
        values = {"id": new.id, "name": new.name, "device": device, "process": str(process), "seen_at": time.time()}
        connection.execute(insert(workers_table).values(values))

    write(store, enter)
    return new


def show_life(store: Engine, worker: Worker) -> None:
    """An idle worker's sign of life, for people; leases do not depend on it."""
    write(store, lambda connection: _seen(connection, worker.id))


def leave(store: Engine, worker: Worker) -> None:
    """Remove a worker that ends."""
    write(store, lambda connection: _remove(connection, worker.id))


def waiting(store: Engine) -> tuple[int, int]:
    """(queued jobs that may start now, all queued jobs)."""
    query = select(func.count(case((_may_start(), 1))), func.count()).where(_job.state == "queued")
    return read(store, lambda connection: tuple(connection.execute(query).one()))


def claim(store: Engine, worker: Worker) -> Lease | None:
    """Take the first job that may start and has all that it needs, or None. One winner.

    The attempt and a strike are counted here, where a job that kills its worker cannot skip it.
    """
    first = select(_job.id).where(_job.state == "queued", _may_start())
    first = first.order_by(_job.priority.desc(), _job.turn, _job.id).limit(1).with_for_update(skip_locked=True)
    taken = update(jobs_table).where(_job.id == first.scalar_subquery(), _job.state == "queued")
    taken = taken.values(
        state="running",
        token=_job.token + 1,
        beat=0,
        attempts=_job.attempts + 1,
        strikes=_job.strikes + 1,
        worker=worker.id,
        worker_process=str(worker.process),
        message=None,
        started_at=func.coalesce(_job.started_at, time.time()),
    ).returning(*(_job[name] for name in Lease.__dataclass_fields__))
    row = write(store, lambda connection: connection.execute(taken).one_or_none())
    return None if row is None else Lease(**row._mapping)


def renew(
    store: Engine,
    lease: Lease,
    progress: Progress = Progress(),
    *,
    child: Process | None = None,
    patience_s: float = PATIENCE_S,
) -> Literal["go", "cancel"]:
    """Show life and write progress and metric rows, all or nothing; says whether to go on. LeaseLost: stop at once."""

    def beat(connection: Connection) -> bool:
        _seen(connection, lease.worker)
        return _write_held(connection, lease, progress, {"child_process": str(child)} if child else {})

    return "cancel" if write(store, beat, patience_s=patience_s) else "go"


def finish(
    store: Engine,
    lease: Lease,
    *,
    state: Literal["succeeded", "failed", "cancelled"],
    error: Mapping | None = None,
    artifact: str | None = None,
    progress: Progress = Progress(),
) -> None:
    """End the job: state, error, artifact (below STILLROOM_HOME) and last metrics appear together.

    LeaseLost if it is no longer held.
    """
    values = {"state": state, "error": error and dict(error), "artifact": artifact, "ended_at": time.time()}
    values |= {"child_process": None, "message": None, "rate": None}
    write(store, lambda connection: _write_held(connection, lease, progress, values))


def hand_back(store: Engine, lease: Lease, progress: Progress = Progress()) -> None:
    """A worker that is told to leave puts its job back in its old place; the attempt is not counted."""
    values = {"attempts": _job.attempts - 1, "strikes": case((_job.strikes > 0, _job.strikes - 1), else_=0)}
    values |= _released() | {"child_process": None}
    write(store, lambda connection: _write_held(connection, lease, progress, values))


def backoff_s(strikes: int) -> float:
    """Seconds to wait after so many claims without a new checkpoint: doubling, with jitter, up to MAX_BACKOFF_S."""
    return min(BACKOFF_S * 2 ** (strikes - 1), MAX_BACKOFF_S) * random.uniform(0.8, 1.0)


def postpone(
    store: Engine, lease: Lease, progress: Progress = Progress(), *, wait_s: float, message: str | None = None
) -> None:
    """Put the job back after an accident, to start again when `wait_s` have passed."""
    values = _released() | {"child_process": None, "not_before": time.time() + wait_s, "message": message}
    write(store, lambda connection: _write_held(connection, lease, progress, values))


class Watch:
    """How long running jobs have been silent, by this process's own monotonic clock: only silence it saw counts."""

    def __init__(self) -> None:
        self._since: dict[str, tuple[tuple[int, int], float]] = {}  # job id -> ((token, beat), first seen then)

    def silence(self, rows: Iterable[Row], now: float) -> dict[str, float]:
        """Seconds that each of these jobs has been silent. Jobs that are not among them are forgotten."""
        old = self._since
        self._since = {}
        for row in rows:
            mark, since = old.get(row.id, (None, now))
            self._since[row.id] = ((row.token, row.beat), since if mark == (row.token, row.beat) else now)
        return {job_id: now - since for job_id, (_, since) in self._since.items()}


def reclaim(
    store: Engine,
    watch: Watch,
    *,
    committed: Callable[[str], int] = lambda job_id: 0,
    lease_s: float = LEASE_S,
) -> list[str]:
    """Free the jobs of lost workers: gone from this machine, or silent for `lease_s`. Ids of the jobs freed.

    `committed` tells the highest committed step of a run; a job without a new one for MAX_STRIKES claims fails.
    """
    running = select(jobs_table).where(_job.state == "running")
    rows = read(store, lambda connection: connection.execute(running).all())
    silence = watch.silence(rows, time.monotonic())
    lost = [row for row in rows if silence[row.id] >= lease_s or is_orphan(row)]
    return [row.id for row in lost if free(store, row, committed(row.id))]


def sweep(store: Engine) -> None:
    """End the children on this machine that outlived their worker and whose job is over."""
    left = select(_job.id, _job.token, _job.child_process).where(LEFT_RUNNING, _job.ended_at.is_not(None))
    for row in read(store, lambda connection: connection.execute(left).all()):
        child = Process.parse(row.child_process)
        if child.here:
            child.clear()
            over = update(jobs_table).where(_job.id == row.id, _job.token == row.token, _job.ended_at.is_not(None))
            write(store, lambda connection, over=over: connection.execute(over.values(child_process=None)))


def is_orphan(row: Row) -> bool:
    """Whether the worker of a running job has certainly ended."""
    return row.worker_process is not None and Process.parse(row.worker_process).gone


def free(store: Engine, row: Row, committed: int) -> bool:
    """Take a job from a lost worker, if it is still as it was in `row`: a beat or a cancel since then wins."""
    strikes = 0 if committed > row.checkpoint else row.strikes
    values = _released() | {"message": "Its worker was lost; it goes on from its last checkpoint."}
    if strikes >= MAX_STRIKES and not row.cancel_requested:
        values |= {"state": "failed", "ended_at": time.time(), "message": None, "error": _blame(row).to_json()}
    values |= {"strikes": strikes, "checkpoint": max(committed, row.checkpoint)}
    same = (_job.token == row.token, _job.beat == row.beat, _job.cancel_requested == row.cancel_requested)
    freed = update(jobs_table).where(_job.id == row.id, _job.state == "running", *same).values(values)

    def take(connection: Connection) -> bool:
        dependencies.lock(connection)
        taken = connection.execute(freed).rowcount == 1
        if taken:
            dependencies.settle(connection, row.id)
        return taken

    return write(store, take)


def _may_start() -> ColumnElement[bool]:
    # A clock that was set back must not hold a job for longer than the longest backoff.
    now = time.time()
    return and_(or_(_job.not_before <= now, _job.not_before > now + MAX_BACKOFF_S), dependencies.fulfilled())


def _write_held(connection: Connection, lease: Lease, progress: Progress, values: Mapping) -> bool:
    """Progress and then the arrow's own values, if the lease holds; whether somebody asked to cancel."""
    if "state" in values:
        dependencies.lock(connection)
    held = update(jobs_table).where(_job.id == lease.id, _job.token == lease.token, _job.state == "running")
    beat = held.values(_changes(progress) | {"beat": _job.beat + 1}).returning(_job.cancel_requested)
    cancel = connection.execute(beat).scalar_one_or_none()
    if cancel is None:
        raise LeaseLost(f"Job {lease.id} is no longer held under token {lease.token}.")
    record(connection, lease.id, progress.rows)
    if values:
        connection.execute(held.values(values))
    if "state" in values:
        dependencies.settle(connection, lease.id)
    return cancel


def _changes(progress: Progress) -> dict:
    names = ("step", "steps", "rate", "message")
    changes = {name: value for name in names if (value := getattr(progress, name)) is not None}
    if progress.metrics is not None:
        changes["metrics"] = {name: finite(value) for name, value in progress.metrics.items()}
    if progress.checkpoint is not None:
        new = _job.checkpoint < progress.checkpoint
        changes["checkpoint"] = case((new, progress.checkpoint), else_=_job.checkpoint)
        changes["strikes"] = case((new, 0), else_=_job.strikes)
    return changes


def _released() -> dict:
    return {
        "state": case((_job.cancel_requested, "cancelled"), else_="queued"),
        "ended_at": case((_job.cancel_requested, time.time())),
        "worker": None,
        "worker_process": None,
        "rate": None,
    }


def _blame(row: Row) -> LostWorker:
    return LostWorker(
        f"{row.strikes} workers in a row were lost while running this job, without a new checkpoint in between.",
        next_step=f"It may need more memory than there is: read `stillroom logs {row.id}`, make batches smaller or "
        f"checkpoints more frequent, then `stillroom retry {row.id}`.",
    )


def _remove(connection: Connection, worker_id: str) -> None:
    connection.execute(delete(workers_table).where(workers_table.c.id == worker_id))


def _seen(connection: Connection, worker_id: str) -> None:
    connection.execute(update(workers_table).where(workers_table.c.id == worker_id).values(seen_at=time.time()))
