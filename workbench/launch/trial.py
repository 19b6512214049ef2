"""A trial run of a spec, in a child process that ends when its page is closed."""

import atexit
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from trainer import queue
from trainer.errors import StillroomError
from trainer.queue import inputs
from trainer.queue.engines import cores, ending_with_parent, environment
from trainer.run import Run, RunSpec
from trainer.spec import JobSpec
from trainer.training import estimate
from trainer.training.estimate import Estimate
from workbench.launch.submission import resolve_references

LOOK_S = 0.2
PATIENCE_S = 20.0  # without a poll from the page, which was then closed
LIMIT_S = 300.0
RESULT = "trial.json"  # trainer.training.preflight writes it


class TrialEnded(StillroomError):
    """A trial without a result: it ran out of time or memory, or its process died."""


class Trial:
    """Runs two steps of a spec in a child process. Once `done`, either `estimate` or `error` is set.

    `digest` is that of the spec as passed in; `spec` has its references resolved. Reading `done` keeps the trial alive:
    it is stopped after `patience_s` without, or after `limit_s` in all. Raises BadSpec for references that do not
    resolve.
    """

    def __init__(self, spec: JobSpec, *, patience_s: float = PATIENCE_S, limit_s: float = LIMIT_S):
        self.digest, self.spec, self.patience_s, self.limit_s = (
            spec.digest,
            resolve_references(spec),
            patience_s,
            limit_s,
        )
        self.began = self._seen = time.monotonic()
        self.busy = _busy()
        self.estimate: Estimate | None = None
        self.error: dict[str, Any] | None = None  # as StillroomError.to_json
        self.pid: int | None = None
        self._stopped = threading.Event()
        self._folder = Path(tempfile.mkdtemp(prefix="stillroom-trial-"))
        try:
            self._run = Run.create(self._folder / "runs", _run_spec(self.spec))
        except BaseException:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise
        # The system ends a tied child together with the thread that started it, and a page's thread ends at once.
        self._thread = threading.Thread(target=self._follow, name="trial", daemon=True)
        atexit.register(self.stop)
        self._thread.start()

    @property
    def done(self) -> bool:
        """Whether the trial has ended; asking keeps it alive."""
        self._seen = time.monotonic()
        return not self._thread.is_alive()

    @property
    def age_s(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self.began

    def stop(self) -> None:
        """Stop the trial and wait until its process and files are gone."""
        self._stopped.set()
        self._thread.join()

    def _follow(self) -> None:
        try:
            with self._run.log.open("wb") as output:
                child = subprocess.Popen(
                    ending_with_parent([sys.executable, "-m", "trainer", "preflight", str(self._run.folder)]),
                    cwd=Path(__file__).parents[2],
                    env=environment(threads=self._run.spec.threads) | {"STILLROOM_HOME": str(self._folder)},
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
            self.pid = child.pid
            timed_out = self._wait(child)
            self._read_result(child.returncode, timed_out=timed_out)
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)
            atexit.unregister(self.stop)

    def _wait(self, child: subprocess.Popen[bytes]) -> bool:
        """Wait until the child has ended, or kill it; returns whether it ran out of time."""
        while child.poll() is None:
            timed_out = self.age_s > self.limit_s
            abandoned = time.monotonic() - self._seen > self.patience_s
            if timed_out or abandoned or self._stopped.wait(LOOK_S):
                with suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)
                child.wait()
                return timed_out
        return False

    def _read_result(self, code: int, *, timed_out: bool) -> None:
        try:
            result = json.loads((self._run.folder / RESULT).read_bytes())
        except FileNotFoundError:
            self.error = _failure(code, self.limit_s if timed_out else None).to_json()
            return
        if "error" in result:
            self.error = result["error"]
            return
        self.estimate = Estimate.model_validate(result["estimate"]).model_copy(update={"busy": self.busy})
        for digest in {self.digest, self.spec.digest}:
            estimate.store(self.estimate, digest)


def _run_spec(spec: JobSpec) -> RunSpec:
    """The run that a worker would prepare, with its inputs, device and threads."""
    workers = queue.workers()
    threads = int(os.environ.get("STILLROOM_WORKER_THREADS") or cores())
    device = workers[0].device if workers else "cpu"
    return RunSpec.of(spec, inputs.resolve(spec), id=f"{spec.digest[:8]}-0", attempt=1, threads=threads, device=device)


def _busy() -> bool:
    """Whether a worker on this machine is running a job, or the load is higher than the number of cores."""
    return os.getloadavg()[0] > cores() + 0.5 or any(worker.job_id and worker.here for worker in queue.workers())


def _failure(code: int, limit_s: float | None) -> TrialEnded:
    if limit_s:
        step = "Queue the job anyway, or try a smaller batch."
        return TrialEnded(f"The two steps did not finish within {limit_s:.0f} s.", next_step=step)
    if code == -signal.SIGKILL:
        step = "Try again with a smaller batch or a lower max_tokens, or close other programs first."
        return TrialEnded("The trial was killed, most likely because memory ran out.", next_step=step)
    return TrialEnded(f"The trial ended with code {code}.", next_step="Queue the job to see the reason in its log.")
