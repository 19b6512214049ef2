"""The worker: claim -> prepare run -> engine.start -> follow events -> renew -> finish. No torch in this process."""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from sqlalchemy import Engine

from trainer import queue
from trainer.bounds import COUNT
from trainer.errors import LeaseLost, StillroomError
from trainer.home import StateError, StateUnavailable
from trainer.queue import engines, inputs
from trainer.queue.engines import ENGINES, Handle, Process, cores, environment
from trainer.queue.progress import RETRIES, Tail, ending, result_of, stalled, typed
from trainer.queue.store import open_store
from trainer.run import Run, RunSpec, attempts, checkpoint_step, runs_dir
from trainer.spec import parse

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Timing:
    """Seconds between a worker's looks, and until its patience ends."""

    look_s: float = 0.1  # between looks at the child
    beat_s: float = 1.0  # between renewals
    idle_s: float = 0.5  # between looks at an empty queue
    show_s: float = 5.0  # between signs of life while idle
    lease_s: float = queue.LEASE_S
    cancel_grace_s: float = 10.0  # from SIGTERM to SIGKILL
    leave_grace_s: float = 30.0  # the same, when the worker itself was told to leave
    # Steps come every few seconds, but loading a large model or scoring a large split says nothing for minutes.
    stall_s: float = 1800.0

    @property
    def give_up_s(self) -> float:
        """Without a renewal for so long the child is stopped, so that it is over before others take the job."""
        return self.lease_s * 2 / 3


def work(
    *,
    device: str = "cpu",
    drain: bool = False,
    threads: int | None = None,
    store: Engine | None = None,
    timing: Timing = Timing(),
) -> None:
    """Run jobs, one after the other, until SIGTERM or SIGINT, or with `drain` until nothing is queued.

    What is queued can always come to run (queue.dependencies), so draining also waits for
    what others have to finish first.

    Told to leave, it lets the child commit a checkpoint, hands the job back and returns; told twice, it does not wait.
    `threads` is what a run gets where its spec does not say: by default this worker's share of the cores.
    """
    store = store or open_store()
    me = queue.enlist(store, device=device, process=Process.of(os.getpid()))
    shift = Shift(store, me, threads=threads or _share(store), timing=timing)
    previous = _on_signals(shift.tell_to_leave)
    try:
        shift.serve(drain=drain)
    finally:
        queue.leave(store, me)
        for number, handler in previous.items():
            signal.signal(number, handler)


@dataclass
class Shift:
    """One worker at work."""

    store: Engine
    me: queue.Worker
    threads: int
    timing: Timing
    told: int = 0  # how often it was told to leave
    shown_at: float = field(default_factory=time.monotonic)
    watch: queue.Watch = field(default_factory=queue.Watch)

    def tell_to_leave(self, *_: object) -> None:
        """The signal handler: leave gently; the second time at once."""
        self.told += 1

    def serve(self, *, drain: bool) -> None:
        """Claim and carry out until told to leave, or with `drain` until nothing is queued."""
        while not self.told:
            try:
                if lease := self._next():
                    self._guarded(lease)
                    continue
                if drain and not queue.waiting(self.store)[1]:
                    return
                self._show_life()
            except LeaseLost as error:
                log.warning("%s", error)
            except StateUnavailable as error:
                # What was not written is in the run folder. The job is freed by its silence, and taken up again.
                log.error("%s Trying again.", error)
            time.sleep(self.timing.idle_s)

    def _show_life(self) -> None:
        if time.monotonic() - self.shown_at > self.timing.show_s:
            queue.show_life(self.store, self.me)
            self.shown_at = time.monotonic()

    def _next(self) -> queue.Lease | None:
        for job_id in queue.reclaim(self.store, self.watch, committed=_committed, lease_s=self.timing.lease_s):
            log.warning("Job %s lost its worker.", job_id)
        queue.sweep(self.store)
        return queue.claim(self.store, self.me) if queue.waiting(self.store)[0] else None

    def _guarded(self, lease: queue.Lease) -> None:
        """One attempt at a job. Whatever goes wrong in it is the job's end, and not the worker's."""
        log.info("Job %s: attempt %d.", lease.id, lease.token)
        try:
            self._carry_out(lease)
        except (LeaseLost, StateError):
            raise  # the job is another's, or nothing can be written now
        except Exception as error:
            if isinstance(error, StillroomError):
                log.error("Job %s: %s", lease.id, error)
            else:
                log.exception("Job %s failed with an error that nobody foresaw.", lease.id)
            self._fail(lease, Tail(), typed(error))  # what the run reported may be what cannot be written

    def _carry_out(self, lease: queue.Lease) -> None:
        """From the claim to the end."""
        if left := Process.parse(lease.child_process):
            left.clear()
        earlier, tail = attempts(runs_dir(), lease.id), Tail()
        for run in reversed(earlier):  # events that the last worker did not come to record
            tail.take(run)
        if done := next((run for run in earlier if _succeeded(run)), None):
            self._settle(lease, done, tail, why=None, code=0)  # only the row was not written
        else:
            self._attempt(lease, earlier, tail)

    def _attempt(self, lease: queue.Lease, earlier: list[Run], tail: Tail) -> None:
        run = self._prepare(lease, earlier)
        engine = ENGINES[run.spec.spec.compute.engine]()
        handle = engine.start(run, env=environment(threads=run.spec.threads))
        tail.begin()
        why = Attempt(self.store, self.timing, lease, run, tail, engine, handle).follow(lambda: self.told)
        self._settle(lease, run, tail, why=why, code=engine.exit_code(handle))

    def _prepare(self, lease: queue.Lease, earlier: list[Run]) -> Run:
        spec = parse(lease.spec)
        # The number of threads changes the bits of a sum, so a resumed run keeps that of its first attempt.
        fixed = next(filter(None, map(_threads, reversed(earlier))), None)
        resolved = inputs.of_attempt(spec, lease.id, self.store)
        threads, device = fixed or self.threads, self.me.device
        ready = RunSpec.of(spec, resolved, id=lease.id, attempt=lease.token, threads=threads, device=device)
        return Run.create(runs_dir(), ready)

    def _settle(self, lease: queue.Lease, run: Run, tail: Tail, *, why: str | None, code: int | None) -> None:
        """Write how the attempt ended; a cancel that was seen wins over whatever the child still did."""
        result = result_of(run)
        if why == "cancel" or (result and result.state == "cancelled"):
            queue.finish(self.store, lease, state="cancelled", progress=tail.progress())
        elif result and result.state == "succeeded":
            tail.metrics = dict(result.metrics)
            below = run.folder.relative_to(runs_dir().parent)
            artifact = (below / result.artifact).as_posix() if result.artifact else None
            queue.finish(self.store, lease, state="succeeded", artifact=artifact, progress=tail.progress())
        elif result:
            self._fail(lease, tail, result.error)
        elif why in ("leave", "silent"):
            queue.hand_back(self.store, lease, tail.progress())
        else:
            self._fail(lease, tail, stalled(run) if why == "stall" else ending(run, code))

    def _fail(self, lease: queue.Lease, tail: Tail, error: dict) -> None:
        """An accident that may pass is tried again later; everything else ends the job."""
        if lease.strikes > RETRIES.get(error["type"], 0):
            queue.finish(self.store, lease, state="failed", error=error, progress=tail.progress())
            return
        wait_s = queue.backoff_s(lease.strikes)
        message = f"{error['message']} It is tried again from its last checkpoint after {wait_s:.0f} s."
        queue.postpone(self.store, lease, tail.progress(), wait_s=wait_s, message=message)


@dataclass
class Attempt:
    """One child at work under a lease."""

    store: Engine
    timing: Timing
    lease: queue.Lease
    run: Run
    tail: Tail
    engine: engines.Engine
    handle: Handle
    why: str | None = None  # the child was told to stop: cancel | leave | stall | silent
    kill_at: float = float("inf")
    beat_at: float = 0.0
    renewed_at: float = field(default_factory=time.monotonic)

    def follow(self, told: Callable[[], int]) -> str | None:
        """Renew until the child has ended; why it was told to stop, if it was. LeaseLost ends it at once."""
        try:
            while self.engine.alive(self.handle):
                self._look(told())
                time.sleep(self.timing.look_s)
        finally:
            self.engine.stop(self.handle, force=True)
        self.tail.take(self.run)
        return self.why or ("leave" if told() else None)

    def _look(self, told: int) -> None:
        if time.monotonic() >= self.beat_at:
            self._beat()
        if told:
            self._stop("leave", self.timing.leave_grace_s if told == 1 else 0.0)
        if self.tail.silence_s > self.timing.stall_s:
            self._stop("stall", self.timing.cancel_grace_s)
        if time.monotonic() - self.renewed_at > self.timing.give_up_s:
            self._stop("silent", self.timing.cancel_grace_s)
        if time.monotonic() >= self.kill_at:
            self.engine.stop(self.handle, force=True)

    def _beat(self) -> None:
        self.tail.take(self.run)
        try:
            # A short patience: the look at the child must not wait for the database.
            asked = queue.renew(self.store, self.lease, self.tail.progress(), child=self.handle.process, patience_s=0.0)
        except StateUnavailable as error:
            log.warning("Job %s could not be renewed. %s", self.lease.id, error.message)
            return
        self.tail.recorded()
        self.beat_at, self.renewed_at = time.monotonic() + self.timing.beat_s, time.monotonic()
        if asked == "cancel":
            self._stop("cancel", self.timing.cancel_grace_s)

    def _stop(self, why: str, grace_s: float) -> None:
        if self.why is None:
            self.why = why
            self.engine.stop(self.handle)
        self.kill_at = min(self.kill_at, time.monotonic() + grace_s)


def _succeeded(run: Run) -> bool:
    result = result_of(run)
    return result is not None and result.state == "succeeded"


def _threads(run: Run) -> int | None:
    """What an earlier attempt computed with; None where its spec cannot be read any more."""
    try:
        return run.spec.threads
    except (OSError, ValueError):
        return None


def _committed(job_id: str) -> int:
    """The highest committed step of a run; 0 without one, and where its folder cannot be read."""
    try:
        earlier = attempts(runs_dir(), job_id)
        checkpoints = earlier[0].checkpoints() if earlier else []
    except OSError as error:
        log.warning("The run folder of job %s cannot be read (%s).", job_id, error.strerror)
        return 0
    return min(COUNT, checkpoint_step(checkpoints[0])) if checkpoints else 0


def _share(store: Engine) -> int:
    here = sum(worker.here for worker in queue.workers(store))
    return max(1, cores() // max(1, here))


def _on_signals(handler: Callable) -> dict:
    if threading.current_thread() is not threading.main_thread():
        return {}
    return {number: signal.signal(number, handler) for number in (signal.SIGTERM, signal.SIGINT)}
