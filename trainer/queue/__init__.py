"""The queue: one function per transition between the states of a job.

    submit -> queued -> claim -> running -> finish -> succeeded | failed | cancelled -> retry -> queued
    running -> hand_back (gentle stop), postpone (accident), reclaim (lost worker) -> queued
    cancel: queued -> cancelled at once; running -> the worker learns it at its next renewal

A job that needs others is queued at once and claimed when they have succeeded (trainer.queue.dependencies). The
transitions that people make are here; those that workers make are in trainer.queue.lease and exported here too.
"""

import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import Connection, Engine, Row, and_, case, func, insert, null, select, update

from trainer.errors import Refused, UnknownName
from trainer.home import home, present, runs_dir
from trainer.prediction import Plain
from trainer.queue import dependencies, inputs
from trainer.queue.engines import Process
from trainer.queue.lease import (
    LEASE_S,
    Lease,
    LostWorker,
    Progress,
    Watch,
    Worker,
    backoff_s,
    claim,
    enlist,
    finish,
    free,
    hand_back,
    is_orphan,
    leave,
    postpone,
    reclaim,
    renew,
    show_life,
    sweep,
    waiting,
)
from trainer.queue.store import ALIVE, open_store, read, write
from trainer.queue.store import job as jobs_table
from trainer.queue.store import worker as workers_table
from trainer.resolved import Input

if TYPE_CHECKING:  # whoever only looks at jobs need not wait for these
    from trainer.chain import Chain
    from trainer.spec import JobSpec

__all__ = [
    "Job",
    "Lease",
    "LostWorker",
    "Progress",
    "Watch",
    "Worker",
    "WorkerInfo",
    "artifacts",
    "backoff_s",
    "cancel",
    "claim",
    "enlist",
    "finish",
    "hand_back",
    "job",
    "jobs",
    "leave",
    "postpone",
    "reclaim",
    "renew",
    "retry",
    "show_life",
    "submit",
    "submit_chain",
    "sweep",
    "waiting",
    "workers",
]

_job = jobs_table.c
_DERIVED = {"progress", "eta_seconds", "artifact", "place", "needs", "waits_for", "held"}
_PUBLIC = {"id", "kind", "state", "progress", "eta_seconds", "attempts", "spec", "metrics", "artifact", "error"}


class Job(Plain):
    """A job as people see it. Times are Unix seconds; `artifact` is an absolute path.

    place: position in the queue, from 1; None for a job that waits for others. needs: the ids of all jobs whose models
    it uses. waits_for: those of them that have not succeeded yet, while it is queued. held: whether the worker of a
    running job is alive; if not, it stands still until another worker takes it over.
    """

    id: str
    kind: str
    state: Literal["queued", "running", "succeeded", "failed", "cancelled"]
    progress: float  # 0 to 1
    eta_seconds: float | None
    attempts: int
    spec: dict[str, Any]
    metrics: dict[str, float | None]
    artifact: str | None
    error: dict[str, Any] | None
    step: int
    steps: int | None
    created_at: float
    started_at: float | None
    ended_at: float | None
    cancel_requested: bool
    place: int | None
    message: str | None
    needs: tuple[str, ...] = ()
    waits_for: tuple[str, ...] = ()
    held: bool = True

    def to_json(self) -> dict[str, Any]:
        """The public JSON form, as printed by `stillroom job --json`."""
        return self.model_dump(mode="json", include=_PUBLIC)


class WorkerInfo(Plain):
    """A live worker: whether it is on this machine, seconds since its last sign of life, and the job that it runs."""

    id: str
    name: str
    device: str
    here: bool
    age_s: float
    job_id: str | None


def submit(spec: "JobSpec", *, store: Engine | None = None, priority: int = 0) -> Job:
    """Queue a spec and return its job; while the same spec is queued or running, return that job instead.

    A run that the spec refers to may still be queued or running: the job waits for it. Raises Refused if that run has
    failed, or if the job that is queued or running uses different files (trainer.queue.inputs) than a new one would.
    """
    store = store or open_store()
    current = inputs.resolve_available(spec)

    def add(connection: Connection) -> str:
        dependencies.lock(connection)
        return _unfinished(connection, spec.digest, current) or _insert(connection, spec, priority, current)

    return job(write(store, add), store=store)


def submit_chain(chain: "Chain", *, store: Engine | None = None, priority: int = 0) -> dict[str, Job]:
    """Queue all steps of a chain, or none; their jobs by step name, in order.

    A step is not repeated if it is queued or running, or if it has succeeded with the current files and its model still
    exists: submitting a chain again does what is missing. Raises Refused in the same cases as `submit`.
    """
    store = store or open_store()
    resolved = {step.name: inputs.resolve_available(step.spec) for step in chain.steps}

    def add(connection: Connection) -> dict[str, str]:
        dependencies.lock(connection)
        ids: dict[str, str] = {}
        for step in chain.steps:
            spec, current = step.bound(ids), resolved[step.name]
            existing = _unfinished(connection, spec.digest, current) or _done(connection, spec.digest, current)
            ids[step.name] = existing or _insert(connection, spec, priority, current)
        return ids

    return {name: job(job_id, store=store) for name, job_id in write(store, add).items()}


def cancel(job_id: str, *, store: Engine | None = None) -> Job:
    """Cancel a job: at once if no worker runs it, otherwise its worker stops it within seconds.

    The jobs that depend on it are cancelled too. A job that has ended does not change.
    """
    store = store or open_store()
    job(job_id, store=store)  # an unknown id is an error
    queued = _job.state == "queued"
    values = {
        "state": case((queued, "cancelled"), else_=_job.state),
        "ended_at": case((queued, time.time()), else_=null()),
        "cancel_requested": _job.state == "running",
    }
    alive = update(jobs_table).where(_job.id == job_id, _job.state.in_(("queued", "running"))).values(values)

    def stop(connection: Connection) -> Row[Any]:
        dependencies.lock(connection)
        connection.execute(alive)
        dependencies.settle(connection, job_id)
        return _row(connection, job_id)

    row = write(store, stop)
    if row.state == "running" and is_orphan(row):
        free(store, row, row.checkpoint)
    return job(job_id, store=store)


def retry(job_id: str, *, fresh: bool = False, store: Engine | None = None) -> Job:
    """Queue a failed or cancelled job again; it continues from its last checkpoint. A live job does not change.

    Jobs that were cancelled because of it are queued again too. Raises Refused while a job that it needs has failed or
    was cancelled. `fresh` starts at step 0 with the current data and models: it submits the same spec as a new job,
    `<digest8>-<n+1>`, so that the old run stays for comparison and its checkpoints are not used.
    """
    from trainer.spec import parse

    store = store or open_store()
    before = job(job_id, store=store)
    if fresh:
        return submit(parse(before.spec), store=store)
    if before.state == "succeeded":
        step = f"`stillroom retry {job_id} --fresh` runs the same spec again from step 0."
        raise Refused(f"Job {job_id} has succeeded; there is nothing to continue.", next_step=step)
    write(store, lambda connection: _queue_again(connection, job_id))
    return job(job_id, store=store)


def job(job_id: str, *, store: Engine | None = None) -> Job:
    """The job with this id. Raises UnknownName if there is none."""

    def load(connection: Connection) -> Job:
        row = _row(connection, job_id)
        needed = dependencies.states(connection, select(jobs_table).where(_job.id == job_id))
        held = _held(connection) if row.state == "running" else ()
        return _to_job(row, _places(connection) if row.state == "queued" else {}, needed, held)

    return read(store or open_store(), load)


def jobs(*, store: Engine | None = None, limit: int = 200) -> list[Job]:
    """The newest jobs, newest first."""
    newest = select(jobs_table).order_by(_job.created_at.desc(), _job.turn.desc()).limit(limit)

    def load(connection: Connection) -> list[Job]:
        rows, places = connection.execute(newest).all(), _places(connection)
        needed, held = dependencies.states(connection, newest), _held(connection)
        return [_to_job(row, places, needed, held) for row in rows]

    return read(store or open_store(), load)


def artifacts(*, store: Engine | None = None) -> dict[str, Path]:
    """The path of what each successful job produced, by id, newest first; not checked to exist still."""
    query = select(_job.id, _job.artifact).where(_job.state == "succeeded", _job.artifact != "")
    query = query.order_by(_job.created_at.desc(), _job.turn.desc())
    rows, state = read(store or open_store(), lambda connection: connection.execute(query).all()), home()
    return {row.id: _artifact_path(row.artifact, state) for row in rows}


def workers(store: Engine | None = None) -> list[WorkerInfo]:
    """The live workers: on this machine judged by their process, on others by a recent sign of life."""
    return read(store or open_store(), _workers)


def _workers(connection: Connection) -> list[WorkerInfo]:
    at_work = and_(_job.worker == workers_table.c.id, _job.state == "running")
    query = select(workers_table, _job.id.label("job_id")).outerjoin(jobs_table, at_work)
    rows = connection.execute(query.order_by(workers_table.c.name)).all()
    return [info for row in rows if (info := _worker_info(row))]


def _held(connection: Connection) -> set[str]:
    """The ids of the running jobs whose worker is alive."""
    return {worker.job_id for worker in _workers(connection) if worker.job_id}


def _alive(connection: Connection, digest: str) -> str | None:
    return connection.execute(select(_job.id).where(_job.digest == digest, ALIVE)).scalar_one_or_none()


def _unfinished(connection: Connection, digest: str, current: Mapping[str, Input]) -> str | None:
    """The job of this spec that is queued or running. Raises Refused if it uses different inputs."""
    if job_id := _alive(connection, digest):
        inputs.refuse_changed(connection, job_id, current)
    return job_id


def _done(connection: Connection, digest: str, current: Mapping[str, Input]) -> str | None:
    """The newest job of this spec that has succeeded with these inputs, and whose model still exists."""
    from trainer.zoo.weights import WEIGHTS  # not at the top: the zoo imports the data sets, and these numpy

    query = select(_job.id, _job.artifact).where(_job.digest == digest, _job.state == "succeeded")
    rows = connection.execute(query.order_by(_job.number.desc())).all()
    present_rows = (
        row for row in rows if row.artifact is None or (_artifact_path(row.artifact, home()) / WEIGHTS).is_file()
    )
    return next((row.id for row in present_rows if inputs.unchanged(connection, row.id, current)), None)


def _artifact_path(artifact: str, state: Path) -> Path:
    return state / present(artifact, state)


def _insert(connection: Connection, spec: "JobSpec", priority: int, current: Mapping[str, Input]) -> str:
    stem = spec.digest[:8]
    highest = select(func.coalesce(func.max(_job.number), 0)).where(_job.id.startswith(f"{stem}-"))
    number = connection.execute(highest).scalar_one() + 1
    while (runs_dir() / f"{stem}-{number}").exists():
        number += 1  # a run folder that outlived its database must not be taken for the folder of this job
    job_id = f"{stem}-{number}"
    values = {"id": job_id, "digest": spec.digest, "number": number, "kind": spec.kind}
    values |= {"spec": spec.model_dump(mode="json"), "priority": priority, "turn": _next_turn(connection)}
    connection.execute(insert(jobs_table).values(values | {"created_at": time.time()}))
    inputs.record(connection, job_id, current)
    dependencies.record(connection, job_id, [each.name for each in spec.references("model")])
    _refuse_if_blocked(connection, job_id)
    return job_id


def _refuse_if_blocked(connection: Connection, job_id: str) -> None:
    if error := dependencies.blocking_error(connection, job_id):
        raise Refused(error["message"], next_step=f"{error['next_step']} Nothing was queued.")


def _next_turn(connection: Connection) -> int:
    last: int = connection.execute(select(func.coalesce(func.max(_job.turn), 0))).scalar_one()
    return last + 1


def _queue_again(connection: Connection, job_id: str) -> None:
    dependencies.lock(connection)
    row = _row(connection, job_id)
    if row.state not in ("failed", "cancelled"):
        return
    if (other := _alive(connection, row.digest)) is not None:
        step = f"Follow or cancel {other} first."
        raise Refused(f"Job {other} has the same spec and has not ended.", next_step=step)
    _refuse_if_blocked(connection, job_id)
    values = {"state": "queued", "turn": _next_turn(connection), "cancel_requested": False, "strikes": 0}
    values |= {"not_before": 0.0, "error": None, "message": None, "started_at": None, "ended_at": None}
    connection.execute(update(jobs_table).where(_job.id == job_id).values(values))
    dependencies.settle(connection, job_id)


def _places(connection: Connection) -> dict[str, int]:
    """The position of each queued job that waits for no other, in the order in which they are claimed, from 1."""
    order = select(_job.id).where(_job.state == "queued", dependencies.fulfilled())
    order = order.order_by(_job.priority.desc(), _job.turn, _job.id)
    return {job_id: place for place, job_id in enumerate(connection.execute(order).scalars(), start=1)}


def _row(connection: Connection, job_id: str) -> Row[Any]:
    # Databases refuse some unprintable characters, and no id has any.
    ids = [job_id] if job_id.isprintable() else []
    row = connection.execute(select(jobs_table).where(_job.id.in_(ids))).one_or_none()
    if row is None:
        known = connection.execute(select(_job.id).order_by(_job.created_at.desc()).limit(200)).scalars()
        raise UnknownName("job", job_id, known, next_step="`stillroom jobs` lists them.")
    return row


def _to_job(
    row: Row[Any], places: Mapping[str, int], needed: Mapping[str, Mapping[str, str]], held: Collection[str]
) -> Job:
    columns = {name: getattr(row, name) for name in Job.model_fields if name not in _DERIVED}
    share = min(1.0, row.step / row.steps) if row.steps else 0.0
    advancing = row.state == "running" and row.id in held
    eta_s = (row.steps - row.step) / row.rate if advancing and row.steps and row.rate else None
    progress = 1.0 if row.state == "succeeded" else share
    states = needed.get(row.id, {})
    missing = [needed_id for needed_id, state in states.items() if row.state == "queued" and state != "succeeded"]
    return Job(
        progress=progress,
        eta_seconds=eta_s,
        place=places.get(row.id),
        artifact=str(_artifact_path(row.artifact, home())) if row.artifact else None,
        needs=tuple(states),
        waits_for=tuple(missing),
        held=advancing or row.state != "running",
        **columns,
    )


def _worker_info(row: Row[Any]) -> WorkerInfo | None:
    process, age_s = Process.parse(row.process), max(0.0, time.time() - row.seen_at)
    if process.gone or (not process.here and age_s > 2 * LEASE_S):
        return None
    return WorkerInfo(id=row.id, name=row.name, device=row.device, here=process.here, age_s=age_s, job_id=row.job_id)
