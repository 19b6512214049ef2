"""The worker: claim -> prepare run -> engine.start -> follow events -> renew -> finish. No torch in this process."""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Engine

from trainer import queue
from trainer.bounds import COUNT
from trainer.errors import LeaseLost, StillroomError
from trainer.home import StateError, StateUnavailable, runs_dir
from trainer.queue import engines, inputs
from trainer.queue.engines import ENGINES, Handle, Process, cores, environment
from trainer.queue.progress import RETRIES, Tail, exit_error, result_of, stall_error, worker_error
from trainer.queue.store import open_store
from trainer.run import Run, RunSpec, attempts, checkpoint_step
from trainer.spec import parse

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Timing:
    """The intervals and time limits of a worker, in seconds."""

    look_s: float = 0.1  # between checks of the child
    beat_s: float = 1.0  # between renewals
    idle_s: float = 0.5  # between checks of an empty queue
    show_s: float = 5.0  # between signs of life while idle
    lease_s: float = queue.LEASE_S
    cancel_grace_s: float = 10.0  # from SIGTERM to SIGKILL
    leave_grace_s: float = 30.0  # the same, when the worker itself was asked to exit
    # Steps come every few seconds, but loading a large model or scoring a large split reports nothing for minutes.
    stall_s: float = 1800.0

    @property
    def give_up_s(self) -> float:
        """After this long without a renewal the child is stopped, so that it has ended before others take the job."""
        return self.lease_s * 2 / 3


def work(
    *,
    device: str = "cpu",
    drain: bool = False,
    threads: int | None = None,
    store: Engine | None = None,
    timing: Timing = Timing(),
) -> None:
    """Run jobs one after the other until SIGTERM or SIGINT, or with `drain` until nothing is queued.

    Every queued job can eventually run (queue.dependencies), so draining also waits for jobs that others must finish
    first. At the first signal the child saves a checkpoint, and the job is handed back; a second signal does not wait.
    threads: of a run whose spec leaves them open; by default this worker's share of the cores.
    """
    store = store or open_store()
    worker = queue.enlist(store, device=device, process=Process.of(os.getpid()))
    shift = Shift(store, worker, threads=threads or _thread_share(store), timing=timing)
    previous = _on_signals(shift.request_exit)
    try:
        shift.serve(drain=drain)
    finally:
        queue.leave(store, worker)
        for signal_number, handler in previous.items():
            signal.signal(signal_number, handler)


@dataclass
class Shift:
    """The work of one worker: claims jobs and runs them, one at a time."""

    store: Engine
    worker: queue.Worker
    threads: int
    timing: Timing
    exit_requests: int = 0
    shown_at: float = field(default_factory=time.monotonic)
    watch: queue.Watch = field(default_factory=queue.Watch)

    def request_exit(self, *_: object) -> None:
        """The signal handler: exit gently at the first request, at once at the second."""
        self.exit_requests += 1

    def serve(self, *, drain: bool) -> None:
        """Claim and run jobs until asked to exit, or with `drain` until nothing is queued."""
        while not self.exit_requests:
            try:
                if lease := self._next():
                    self._run_guarded(lease)
                    continue
                if drain and not queue.waiting(self.store)[1]:
                    return
                self._show_life()
            except LeaseLost as error:
                log.warning("%s", error)
            except StateUnavailable as error:
                # Unwritten progress is in the run folder. The job is reclaimed after LEASE_S and continued.
                log.error("%s Trying again.", error)
            time.sleep(self.timing.idle_s)

    def _show_life(self) -> None:
        if time.monotonic() - self.shown_at > self.timing.show_s:
            queue.show_life(self.store, self.worker)
            self.shown_at = time.monotonic()

    def _next(self) -> queue.Lease | None:
        for job_id in queue.reclaim(self.store, self.watch, committed=_committed, lease_s=self.timing.lease_s):
            log.warning("Job %s lost its worker.", job_id)
        queue.sweep(self.store)
        return queue.claim(self.store, self.worker) if queue.waiting(self.store)[0] else None

    def _run_guarded(self, lease: queue.Lease) -> None:
        """Run one attempt. Any error in it ends the job, not the worker."""
        log.info("Job %s: attempt %d.", lease.id, lease.token)
        try:
            self._run(lease)
        except (LeaseLost, StateError):
            raise  # another worker has the job, or nothing can be written now
        except Exception as error:
            if isinstance(error, StillroomError):
                log.error("Job %s: %s", lease.id, error)
            else:
                log.exception("Job %s failed with an unexpected error.", lease.id)
            self._fail(lease, Tail(), worker_error(error))  # without its progress, which may be what cannot be written

    def _run(self, lease: queue.Lease) -> None:
        """From the claim to the end."""
        if lease.child_process:
            Process.parse(lease.child_process).clear()
        earlier, tail = attempts(runs_dir(), lease.id), Tail()
        for run in reversed(earlier):  # events that the last worker did not record
            tail.take(run)
        if finished := next((run for run in earlier if _succeeded(run)), None):
            self._settle(lease, finished, tail, reason=None, code=0)  # only the row was not written
        else:
            self._attempt(lease, earlier, tail)

    def _attempt(self, lease: queue.Lease, earlier: list[Run], tail: Tail) -> None:
        run = self._prepare(lease, earlier)
        engine = ENGINES[run.spec.spec.compute.engine]()
        handle = engine.start(run, env=environment(threads=run.spec.threads))
        tail.begin()
        attempt = Attempt(self.store, self.timing, lease, run, tail, engine, handle)
        reason = attempt.follow(lambda: self.exit_requests)
        self._settle(lease, run, tail, reason=reason, code=engine.exit_code(handle))

    def _prepare(self, lease: queue.Lease, earlier: list[Run]) -> Run:
        spec = parse(lease.spec)
        # The number of threads changes rounding, so a resumed run keeps that of its first attempt.
        earlier_threads = next(filter(None, map(_threads, reversed(earlier))), None)
        resolved = inputs.resolve_for_attempt(spec, lease.id, self.store)
        threads, device = earlier_threads or self.threads, self.worker.device
        run_spec = RunSpec.of(spec, resolved, id=lease.id, attempt=lease.token, threads=threads, device=device)
        return Run.create(runs_dir(), run_spec)

    def _settle(self, lease: queue.Lease, run: Run, tail: Tail, *, reason: str | None, code: int | None) -> None:
        """Record how the attempt ended. A cancel request overrides whatever the child did after it.

        reason: why the child was asked to stop (Attempt.reason); code: its exit code.
        """
        result = result_of(run)
        if reason == "cancel" or (result and result.state == "cancelled"):
            queue.finish(self.store, lease, state="cancelled", progress=tail.progress())
        elif result and result.state == "succeeded":
            tail.metrics = dict(result.metrics)
            folder = run.folder.relative_to(runs_dir().parent)
            artifact = (folder / result.artifact).as_posix() if result.artifact else None
            queue.finish(self.store, lease, state="succeeded", artifact=artifact, progress=tail.progress())
        elif result:
            self._fail(lease, tail, result.error or {})
        elif reason in ("leave", "silent"):
            queue.hand_back(self.store, lease, tail.progress())
        else:
            self._fail(lease, tail, stall_error(run) if reason == "stall" else exit_error(run, code))

    def _fail(self, lease: queue.Lease, tail: Tail, error: dict[str, Any]) -> None:
        """Retry a temporary failure later; any other ends the job."""
        if lease.strikes > RETRIES.get(error["type"], 0):
            queue.finish(self.store, lease, state="failed", error=error, progress=tail.progress())
            return
        wait_s = queue.backoff_s(lease.strikes)
        message = f"{error['message']} The job continues from its last checkpoint after {wait_s:.0f} s."
        queue.postpone(self.store, lease, tail.progress(), wait_s=wait_s, message=message)


@dataclass
class Attempt:
    """One child that runs under a lease."""

    store: Engine
    timing: Timing
    lease: queue.Lease
    run: Run
    tail: Tail
    engine: engines.Engine
    handle: Handle
    reason: str | None = None  # why the child was asked to stop: cancel | leave | stall | silent
    kill_at: float = float("inf")
    beat_at: float = 0.0
    renewed_at: float = field(default_factory=time.monotonic)

    def follow(self, exit_requests: Callable[[], int]) -> str | None:
        """Renew the lease until the child has ended; returns why it was asked to stop, if it was.

        exit_requests: how often the worker was asked to exit so far. LeaseLost ends the child at once.
        """
        try:
            while self.engine.alive(self.handle):
                self._look(exit_requests())
                time.sleep(self.timing.look_s)
        finally:
            self.engine.stop(self.handle, force=True)
        self.tail.take(self.run)
        return self.reason or ("leave" if exit_requests() else None)

    def _look(self, exit_requests: int) -> None:
        if time.monotonic() >= self.beat_at:
            self._beat()
        if exit_requests:
            self._stop("leave", self.timing.leave_grace_s if exit_requests == 1 else 0.0)
        if self.tail.silence_s > self.timing.stall_s:
            self._stop("stall", self.timing.cancel_grace_s)
        if time.monotonic() - self.renewed_at > self.timing.give_up_s:
            self._stop("silent", self.timing.cancel_grace_s)
        if time.monotonic() >= self.kill_at:
            self.engine.stop(self.handle, force=True)

    def _beat(self) -> None:
        self.tail.take(self.run)
        try:
            # No retries: watching the child must not wait for the database.
            answer = queue.renew(
                self.store, self.lease, self.tail.progress(), child=self.handle.process, patience_s=0.0
            )
        except StateUnavailable as error:
            log.warning("Job %s could not be renewed. %s", self.lease.id, error.message)
            return
        self.tail.mark_stored()
        self.beat_at, self.renewed_at = time.monotonic() + self.timing.beat_s, time.monotonic()
        if answer == "cancel":
            self._stop("cancel", self.timing.cancel_grace_s)

    def _stop(self, reason: str, grace_s: float) -> None:
        if self.reason is None:
            self.reason = reason
            self.engine.stop(self.handle)
        self.kill_at = min(self.kill_at, time.monotonic() + grace_s)


def _succeeded(run: Run) -> bool:
    result = result_of(run)
    return result is not None and result.state == "succeeded"


def _threads(run: Run) -> int | None:
    """The number of threads of an earlier attempt; None if its spec cannot be read."""
    try:
        return run.spec.threads
    except (OSError, ValueError):
        return None


def _committed(job_id: str) -> int:
    """The highest committed step of a run; 0 if there is none, or if its folder cannot be read."""
    try:
        earlier = attempts(runs_dir(), job_id)
        checkpoints = earlier[0].checkpoints() if earlier else []
    except OSError as error:
        log.warning("The run folder of job %s cannot be read (%s).", job_id, error.strerror)
        return 0
    return min(COUNT, checkpoint_step(checkpoints[0])) if checkpoints else 0


def _thread_share(store: Engine) -> int:
    """The cores divided by the number of workers on this machine, at least 1."""
    here = sum(worker.here for worker in queue.workers(store))
    return max(1, cores() // max(1, here))


def _on_signals(handler: Callable[..., None]) -> dict[signal.Signals, Any]:
    """Install a handler for SIGTERM and SIGINT, and return the previous ones; none outside the main thread."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    return {signal_number: signal.signal(signal_number, handler) for signal_number in (signal.SIGTERM, signal.SIGINT)}
