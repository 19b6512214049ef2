"""Leases: the state transitions that workers make, one transaction each (trainer.queue exports them).

A claim is a lease. Its token fences it: every write of a worker has WHERE id AND token AND running, so a worker that
wakes up late changes nothing. Its beat is the heartbeat: observers measure silence with their own monotonic clock, so a
change of the wall clock takes no job away. A job runs at least once and finishes exactly once.
"""

import random
import secrets
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, Engine, Row, and_, case, delete, func, insert, or_, select, update

from trainer.errors import LeaseLost, StillroomError
from trainer.queue import dependencies
from trainer.queue.engines import Process
from trainer.queue.metrics import finite, record
from trainer.queue.store import LEFT_RUNNING, PATIENCE_S, read, write
from trainer.queue.store import job as jobs_table
from trainer.queue.store import worker as workers_table

LEASE_S = 30.0  # silence after which a worker is considered lost
MAX_STRIKES = 2  # claims without a new checkpoint after which a job fails when its worker is lost
BACKOFF_S, MAX_BACKOFF_S = 30.0, 3600.0

_job = jobs_table.c


class LostWorker(StillroomError):
    """Every worker that ran the job was lost, and the job made no progress in between."""


@dataclass(frozen=True)
class Worker:
    """A process that claims jobs. Its id is random, because host names and process ids are reused."""

    id: str
    name: str
    device: str
    process: Process


@dataclass(frozen=True)
class Lease:
    """One claim. `child_process` is the child of an earlier attempt, which must be ended before this one starts."""

    id: str
    token: int
    attempts: int
    strikes: int
    spec: dict[str, Any]
    worker: str
    child_process: str | None


@dataclass(frozen=True)
class Progress:
    """The progress that a worker reports; None changes nothing. `rows` are metric rows, {(step, name): value}."""

    step: int | None = None
    steps: int | None = None
    rate: float | None = None  # steps per second
    checkpoint: int | None = None  # highest committed step
    message: str | None = None
    metrics: Mapping[str, float | None] | None = None  # the latest value of each name
    rows: Mapping[tuple[int, str], float | None] = field(default_factory=dict)


def enlist(store: Engine, *, device: str, process: Process) -> Worker:
    """Register a new worker; rows of dead workers of this machine are removed."""
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
    """Record that an idle worker is alive, for people to see; leases do not depend on it."""
    write(store, lambda connection: _touch(connection, worker.id))


def leave(store: Engine, worker: Worker) -> None:
    """Remove a worker that is about to exit."""
    write(store, lambda connection: _remove(connection, worker.id))


def waiting(store: Engine) -> tuple[int, int]:
    """The number of queued jobs that may start now, and of all queued jobs."""
    query = select(func.count(case((_may_start(), 1))), func.count()).where(_job.state == "queued")
    may_start, queued = read(store, lambda connection: connection.execute(query).one())
    return may_start, queued


def claim(store: Engine, worker: Worker) -> Lease | None:
    """Take the first job that may start and whose dependencies have succeeded, or None. Only one worker gets it.

    The attempt and a strike are counted here, so that they count even if the job kills its worker.
    """
    first = select(_job.id).where(_job.state == "queued", _may_start())
    first = first.order_by(_job.priority.desc(), _job.turn, _job.id).limit(1).with_for_update(skip_locked=True)
    take = update(jobs_table).where(_job.id == first.scalar_subquery(), _job.state == "queued")
    taken = take.values(
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
    """Renew the lease and write progress and metric rows in one transaction; returns whether to go on.

    Raises LeaseLost if another worker holds the job: stop at once.
    """

    def beat(connection: Connection) -> bool:
        _touch(connection, lease.worker)
        return _write_held(connection, lease, progress, {"child_process": str(child)} if child else {})

    return "cancel" if write(store, beat, patience_s=patience_s) else "go"


def finish(
    store: Engine,
    lease: Lease,
    *,
    state: Literal["succeeded", "failed", "cancelled"],
    error: Mapping[str, Any] | None = None,
    artifact: str | None = None,
    progress: Progress = Progress(),
) -> None:
    """End the job: state, error, artifact (relative to STILLROOM_HOME) and last metrics, in one transaction.

    Raises LeaseLost if the lease is no longer held.
    """
    values = {"state": state, "error": error and dict(error), "artifact": artifact, "ended_at": time.time()}
    values |= {"child_process": None, "message": None, "rate": None}
    write(store, lambda connection: _write_held(connection, lease, progress, values))


def hand_back(store: Engine, lease: Lease, progress: Progress = Progress()) -> None:
    """Return the job of a worker that was asked to exit to its old position; the attempt is not counted."""
    values = {"attempts": _job.attempts - 1, "strikes": case((_job.strikes > 0, _job.strikes - 1), else_=0)}
    values |= _released() | {"child_process": None}
    write(store, lambda connection: _write_held(connection, lease, progress, values))


def backoff_s(strikes: int) -> float:
    """Seconds to wait after this many claims without a new checkpoint: doubling, with jitter, up to MAX_BACKOFF_S."""
    return min(BACKOFF_S * 2.0 ** (strikes - 1), MAX_BACKOFF_S) * random.uniform(0.8, 1.0)


def postpone(
    store: Engine, lease: Lease, progress: Progress = Progress(), *, wait_s: float, message: str | None = None
) -> None:
    """Put the job back in the queue after a temporary failure, to start again after `wait_s` seconds."""
    values = _released() | {"child_process": None, "not_before": time.time() + wait_s, "message": message}
    write(store, lambda connection: _write_held(connection, lease, progress, values))


class Watch:
    """How long running jobs have been silent, by this process's monotonic clock; only silence it observed counts."""

    def __init__(self) -> None:
        self._since: dict[str, tuple[tuple[int, int], float]] = {}  # job id -> ((token, beat), when first seen)

    def silence(self, rows: Iterable[Row[Any]], now: float) -> dict[str, float]:
        """How long each of these jobs has been silent, in seconds. Other jobs are forgotten."""
        earlier = self._since
        self._since = {}
        for row in rows:
            beat, since = earlier.get(row.id, (None, now))
            self._since[row.id] = ((row.token, row.beat), since if beat == (row.token, row.beat) else now)
        return {job_id: now - since for job_id, (_, since) in self._since.items()}


def reclaim(
    store: Engine,
    watch: Watch,
    *,
    committed: Callable[[str], int] = lambda job_id: 0,
    lease_s: float = LEASE_S,
) -> list[str]:
    """Free the jobs of lost workers: those that have ended on this machine or were silent for `lease_s`; the jobs' ids.

    committed: the highest committed step of a run; a job without a new one for MAX_STRIKES claims fails.
    """
    running = select(jobs_table).where(_job.state == "running")
    rows = read(store, lambda connection: connection.execute(running).all())
    silence = watch.silence(rows, time.monotonic())
    lost = [row for row in rows if silence[row.id] >= lease_s or is_orphan(row)]
    return [row.id for row in lost if free(store, row, committed(row.id))]


def sweep(store: Engine) -> None:
    """End the children on this machine that outlived their worker and whose job has ended."""
    orphans = select(_job.id, _job.token, _job.child_process).where(LEFT_RUNNING, _job.ended_at.is_not(None))
    for row in read(store, lambda connection: connection.execute(orphans).all()):
        child = Process.parse(row.child_process)
        if child.here:
            child.clear()
            write(store, partial(_forget_child, job_id=row.id, token=row.token))


def _forget_child(connection: Connection, *, job_id: str, token: int) -> None:
    ended = update(jobs_table).where(_job.id == job_id, _job.token == token, _job.ended_at.is_not(None))
    connection.execute(ended.values(child_process=None))


def is_orphan(row: Row[Any]) -> bool:
    """Whether the worker of a running job has certainly ended."""
    return row.worker_process is not None and Process.parse(row.worker_process).gone


def free(store: Engine, row: Row[Any], committed: int) -> bool:
    """Take a job from a lost worker, unless it has had a beat or a cancel request since `row` was read."""
    strikes = 0 if committed > row.checkpoint else row.strikes
    values = _released() | {"message": "Its worker was lost; it continues from its last checkpoint."}
    if strikes >= MAX_STRIKES and not row.cancel_requested:
        values |= {"state": "failed", "ended_at": time.time(), "message": None, "error": _lost_worker(row).to_json()}
    values |= {"strikes": strikes, "checkpoint": max(committed, row.checkpoint)}
    same = (_job.token == row.token, _job.beat == row.beat, _job.cancel_requested == row.cancel_requested)
    freed = update(jobs_table).where(_job.id == row.id, _job.state == "running", *same).values(values)

    def take(connection: Connection) -> bool:
        dependencies.lock(connection)
        freed_one: bool = connection.execute(freed).rowcount == 1
        if freed_one:
            dependencies.settle(connection, row.id)
        return freed_one

    return write(store, take)


def _may_start() -> ColumnElement[bool]:
    # A clock that was set back must not delay a job by more than the longest backoff.
    now = time.time()
    return and_(or_(_job.not_before <= now, _job.not_before > now + MAX_BACKOFF_S), dependencies.fulfilled())


def _write_held(connection: Connection, lease: Lease, progress: Progress, values: Mapping[str, Any]) -> bool:
    """Write progress and then `values`, if the lease is held; returns whether a cancel was requested."""
    if "state" in values:
        dependencies.lock(connection)
    held = update(jobs_table).where(_job.id == lease.id, _job.token == lease.token, _job.state == "running")
    beat = held.values(_changes(progress) | {"beat": _job.beat + 1}).returning(_job.cancel_requested)
    cancel: bool | None = connection.execute(beat).scalar_one_or_none()
    if cancel is None:
        raise LeaseLost(f"Job {lease.id} is no longer held under token {lease.token}.")
    record(connection, lease.id, progress.rows)
    if values:
        connection.execute(held.values(values))
    if "state" in values:
        dependencies.settle(connection, lease.id)
    return cancel


def _changes(progress: Progress) -> dict[str, Any]:
    names = ("step", "steps", "rate", "message")
    changes: dict[str, Any] = {name: value for name in names if (value := getattr(progress, name)) is not None}
    if progress.metrics is not None:
        changes["metrics"] = {name: finite(value) for name, value in progress.metrics.items()}
    if progress.checkpoint is not None:
        new = _job.checkpoint < progress.checkpoint
        changes["checkpoint"] = case((new, progress.checkpoint), else_=_job.checkpoint)
        changes["strikes"] = case((new, 0), else_=_job.strikes)
    return changes


def _released() -> dict[str, Any]:
    """The values of a job that no worker holds any more."""
    return {
        "state": case((_job.cancel_requested, "cancelled"), else_="queued"),
        "ended_at": case((_job.cancel_requested, time.time())),
        "worker": None,
        "worker_process": None,
        "rate": None,
    }


def _lost_worker(row: Row[Any]) -> LostWorker:
    return LostWorker(
        f"{row.strikes} workers in a row were lost while running this job, without a new checkpoint in between.",
        next_step=f"It may need more memory than there is: read `stillroom logs {row.id}`, use smaller batches or more "
        f"frequent checkpoints, then run `stillroom retry {row.id}`.",
    )


def _remove(connection: Connection, worker_id: str) -> None:
    connection.execute(delete(workers_table).where(workers_table.c.id == worker_id))


def _touch(connection: Connection, worker_id: str) -> None:
    connection.execute(update(workers_table).where(workers_table.c.id == worker_id).values(seen_at=time.time()))
