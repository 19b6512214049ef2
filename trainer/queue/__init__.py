"""The queue: one function an arrow between the states of a job.

    submit -> queued -> claim -> running -> finish -> succeeded | failed | cancelled -> retry -> queued
    running -> hand_back (gentle stop), postpone (accident), reclaim (lost worker) -> queued
    cancel: queued -> cancelled at once; running -> the worker is told at its next renewal

A job that needs others is queued from the start and claimed when they have succeeded (trainer.queue.dependencies).
What people do is here; what workers do is in trainer.queue.lease and offered here too.
"""

import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Literal

from sqlalchemy import Connection, Engine, Row, and_, case, func, insert, null, select, update

from trainer.chain import Chain
from trainer.errors import Refused, UnknownName
from trainer.home import home, present
from trainer.prediction import Plain
from trainer.queue import dependencies as needs
from trainer.queue import inputs
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
from trainer.run import runs_dir
from trainer.spec import JobSpec, parse

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
    """A job as people see it. Times are unix seconds; `artifact` is absolute.

    `place` in the queue counts from 1; a job that waits for others has none. `needs` are the ids of all jobs whose
    models it takes, `waits_for` those of them that have not succeeded yet, while it is queued. `held` says of a
    running job whether its worker lives: otherwise nothing moves until another one takes it over.
    """

    id: str
    kind: str
    state: Literal["queued", "running", "succeeded", "failed", "cancelled"]
    progress: float  # 0 to 1
    eta_seconds: float | None
    attempts: int
    spec: dict
    metrics: dict[str, float | None]
    artifact: str | None
    error: dict | None
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

    def to_json(self) -> dict:
        """The public shape of `stillroom job --json`."""
        return self.model_dump(mode="json", include=_PUBLIC)


class WorkerInfo(Plain):
    """A live worker: whether it is on this machine, seconds since its last sign of life, and the job it holds."""

    id: str
    name: str
    device: str
    here: bool
    age_s: float
    job_id: str | None


def submit(spec: JobSpec, *, store: Engine | None = None, priority: int = 0) -> Job:
    """Queue a spec. While the same spec is queued or running, that job is the answer; once it has ended, a new one.

    A run that the spec refers to may still be queued or running: the job waits for it. Refused if that run has failed,
    or if the job that is queued or running is made of other files (trainer.queue.inputs) than those of now.
    """
    store = store or open_store()
    now = inputs.there(spec)

    def add(connection: Connection) -> str:
        needs.lock(connection)
        return _going_on(connection, spec.digest, now) or _insert(connection, spec, priority, now)

    return job(write(store, add), store=store)


def submit_chain(chain: Chain, *, store: Engine | None = None, priority: int = 0) -> dict[str, Job]:
    """Queue the steps of a chain, all or none; their jobs by step name, in order.

    A step that is queued or running already, or has succeeded with the files of now and whose model is still there, is
    not made again: a chain that is submitted anew does what is missing. Refused as `submit` is.
    """
    store = store or open_store()
    there = {step.name: inputs.there(step.spec) for step in chain.steps}

    def add(connection: Connection) -> dict[str, str]:
        needs.lock(connection)
        ids: dict[str, str] = {}
        for step in chain.steps:
            spec, now = step.bound(ids), there[step.name]
            known = _going_on(connection, spec.digest, now) or _done(connection, spec.digest, now)
            ids[step.name] = known or _insert(connection, spec, priority, now)
        return ids

    return {name: job(job_id, store=store) for name, job_id in write(store, add).items()}


def cancel(job_id: str, *, store: Engine | None = None) -> Job:
    """Cancel a job: at once if nobody runs it, else its worker stops it within seconds. An ended job stays as it is.

    What depends on it ends with it.
    """
    store = store or open_store()
    job(job_id, store=store)  # an unknown id is an error
    queued = _job.state == "queued"
    asked = {
        "state": case((queued, "cancelled"), else_=_job.state),
        "ended_at": case((queued, time.time()), else_=null()),
        "cancel_requested": _job.state == "running",
    }
    alive = update(jobs_table).where(_job.id == job_id, _job.state.in_(("queued", "running"))).values(asked)

    def stop(connection: Connection) -> Row:
        needs.lock(connection)
        connection.execute(alive)
        needs.settle(connection, job_id)
        return _row(connection, job_id)

    row = write(store, stop)
    if row.state == "running" and is_orphan(row):
        free(store, row, row.checkpoint)
    return job(job_id, store=store)


def retry(job_id: str, *, fresh: bool = False, store: Engine | None = None) -> Job:
    """Queue a failed or cancelled job again; it goes on from its last checkpoint. One that is alive stays as it is.

    What was stopped for its sake is queued again too. Refused while something that it needs has ended badly itself.
    `fresh` starts at step 0 with the data and models of now: it submits the same spec as a new job, `<digest8>-<n+1>`,
    so that the old run stays for comparison and none of its checkpoints is seen.
    """
    store = store or open_store()
    before = job(job_id, store=store)
    if fresh:
        return submit(parse(before.spec), store=store)
    if before.state == "succeeded":
        step = f"`stillroom retry {job_id} --fresh` runs the same spec again from step 0."
        raise Refused(f"Job {job_id} has succeeded; there is nothing to go on with.", next_step=step)
    write(store, lambda connection: _queue_again(connection, job_id))
    return job(job_id, store=store)


def job(job_id: str, *, store: Engine | None = None) -> Job:
    """One job; UnknownName if there is none."""

    def look(connection: Connection) -> Job:
        row = _row(connection, job_id)
        needed = needs.states(connection, select(jobs_table).where(_job.id == job_id))
        held = _held(connection) if row.state == "running" else ()
        return _to_job(row, _places(connection) if row.state == "queued" else {}, needed, held)

    return read(store or open_store(), look)


def jobs(*, store: Engine | None = None, limit: int = 200) -> list[Job]:
    """The newest jobs first."""
    newest = select(jobs_table).order_by(_job.created_at.desc(), _job.turn.desc()).limit(limit)

    def look(connection: Connection) -> list[Job]:
        rows, places, needed = connection.execute(newest).all(), _places(connection), needs.states(connection, newest)
        held = _held(connection)
        return [_to_job(row, places, needed, held) for row in rows]

    return read(store or open_store(), look)


def artifacts(*, store: Engine | None = None) -> dict[str, Path]:
    """What each job that succeeded has made, by id, the newest first; whether it is still there is not looked at."""
    made = select(_job.id, _job.artifact).where(_job.state == "succeeded", _job.artifact != "")
    made = made.order_by(_job.created_at.desc(), _job.turn.desc())
    rows, state = read(store or open_store(), lambda connection: connection.execute(made).all()), home()
    return {row.id: _place(row.artifact, state) for row in rows}


def workers(store: Engine | None = None) -> list[WorkerInfo]:
    """The workers that live: on this machine by their process, on others by a sign of life of late."""
    return read(store or open_store(), _workers)


def _workers(connection: Connection) -> list[WorkerInfo]:
    at_work = and_(_job.worker == workers_table.c.id, _job.state == "running")
    query = select(workers_table, _job.id.label("job_id")).outerjoin(jobs_table, at_work)
    rows = connection.execute(query.order_by(workers_table.c.name)).all()
    return [info for row in rows if (info := _worker_info(row))]


def _held(connection: Connection) -> set[str]:
    """Ids of the running jobs whose worker lives."""
    return {worker.job_id for worker in _workers(connection) if worker.job_id}


def _alive(connection: Connection, digest: str) -> str | None:
    return connection.execute(select(_job.id).where(_job.digest == digest, ALIVE)).scalar_one_or_none()


def _going_on(connection: Connection, digest: str, now: Mapping[str, Input]) -> str | None:
    """The job of this spec that is queued or running; Refused where it is made of other inputs."""
    if job_id := _alive(connection, digest):
        inputs.refuse_others(connection, job_id, now)
    return job_id


def _done(connection: Connection, digest: str, now: Mapping[str, Input]) -> str | None:
    """The newest job of this spec that has succeeded with these inputs, unless the model that it made is gone."""
    from trainer.zoo.weights import WEIGHTS  # the zoo needs the data sets, and these numpy

    query = select(_job.id, _job.artifact).where(_job.digest == digest, _job.state == "succeeded")
    rows = connection.execute(query.order_by(_job.number.desc())).all()
    there = (row for row in rows if row.artifact is None or (_place(row.artifact, home()) / WEIGHTS).is_file())
    return next((row.id for row in there if inputs.same(connection, row.id, now)), None)


def _place(artifact: str, state: Path) -> Path:
    return state / present(artifact, state)


def _insert(connection: Connection, spec: JobSpec, priority: int, now: Mapping[str, Input]) -> str:
    stem = spec.digest[:8]
    highest = select(func.coalesce(func.max(_job.number), 0)).where(_job.id.startswith(f"{stem}-"))
    number = connection.execute(highest).scalar_one() + 1
    while (runs_dir() / f"{stem}-{number}").exists():
        number += 1  # a run folder that outlived its database must not be taken for this job's
    values = {"id": f"{stem}-{number}", "digest": spec.digest, "number": number, "kind": spec.kind}
    values |= {"spec": spec.model_dump(mode="json"), "priority": priority, "turn": _next_turn(connection)}
    connection.execute(insert(jobs_table).values(values | {"created_at": time.time()}))
    inputs.fix(connection, values["id"], now)
    needs.record(connection, values["id"], [each.name for each in spec.references("model")])
    _refuse_if_hindered(connection, values["id"])
    return values["id"]


def _refuse_if_hindered(connection: Connection, job_id: str) -> None:
    if error := needs.hindrance(connection, job_id):
        raise Refused(error["message"], next_step=f"{error['next_step']} Nothing was queued.")


def _next_turn(connection: Connection) -> int:
    return connection.execute(select(func.coalesce(func.max(_job.turn), 0))).scalar_one() + 1


def _queue_again(connection: Connection, job_id: str) -> None:
    needs.lock(connection)
    row = _row(connection, job_id)
    if row.state not in ("failed", "cancelled"):
        return
    if (other := _alive(connection, row.digest)) is not None:
        step = f"Follow or cancel {other} first."
        raise Refused(f"Job {other} has the same spec and is not over yet.", next_step=step)
    _refuse_if_hindered(connection, job_id)
    values = {"state": "queued", "turn": _next_turn(connection), "cancel_requested": False, "strikes": 0}
    values |= {"not_before": 0.0, "error": None, "message": None, "started_at": None, "ended_at": None}
    connection.execute(update(jobs_table).where(_job.id == job_id).values(values))
    needs.settle(connection, job_id)


def _places(connection: Connection) -> dict[str, int]:
    """Place of each queued job that waits for no other, in the order of claims, from 1."""
    order = select(_job.id).where(_job.state == "queued", needs.fulfilled())
    order = order.order_by(_job.priority.desc(), _job.turn, _job.id)
    return {job_id: place for place, job_id in enumerate(connection.execute(order).scalars(), start=1)}


def _row(connection: Connection, job_id: str) -> Row:
    # What cannot be printed is no id, and no database takes it.
    ids = [job_id] if job_id.isprintable() else []
    row = connection.execute(select(jobs_table).where(_job.id.in_(ids))).one_or_none()
    if row is None:
        known = connection.execute(select(_job.id).order_by(_job.created_at.desc()).limit(200)).scalars()
        raise UnknownName("job", job_id, known, next_step="`stillroom jobs` lists them.")
    return row


def _to_job(row: Row, places: Mapping[str, int], needed: Mapping[str, Mapping[str, str]], held: Collection[str]) -> Job:
    plain = {name: getattr(row, name) for name in Job.model_fields if name not in _DERIVED}
    share = min(1.0, row.step / row.steps) if row.steps else 0.0
    moves = row.state == "running" and row.id in held
    eta_s = (row.steps - row.step) / row.rate if moves and row.steps and row.rate else None
    progress = 1.0 if row.state == "succeeded" else share
    states = needed.get(row.id, {})
    missing = [needed_id for needed_id, state in states.items() if row.state == "queued" and state != "succeeded"]
    plain["artifact"] = str(_place(row.artifact, home())) if row.artifact else None
    waits = {"needs": tuple(states), "waits_for": tuple(missing), "held": moves or row.state != "running"}
    return Job(progress=progress, eta_seconds=eta_s, place=places.get(row.id), **waits, **plain)


def _worker_info(row: Row) -> WorkerInfo | None:
    process, age_s = Process.parse(row.process), max(0.0, time.time() - row.seen_at)
    if process.gone or (not process.here and age_s > 2 * LEASE_S):
        return None
    shown = {"id": row.id, "name": row.name, "device": row.device, "job_id": row.job_id}
    return WorkerInfo(here=process.here, age_s=age_s, **shown)
