"""A trial of a spec while its page is open: the child process, what it says, and its end when nobody looks any more."""

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

from trainer import queue
from trainer.errors import StillroomError
from trainer.queue import inputs
from trainer.queue.engines import cores, ending_with_parent, environment
from trainer.run import Run, RunSpec
from trainer.spec import JobSpec
from trainer.training import estimate
from trainer.training.estimate import Estimate
from workbench.launch.submission import settled

LOOK_S = 0.2
PATIENCE_S = 20.0  # without a look from the page: it was closed
LIMIT_S = 300.0
RESULT = "trial.json"  # trainer.training.preflight writes it


class TrialEnded(StillroomError):
    """A trial that left no answer: out of time, out of memory, or its process died."""


class Trial:
    """Two steps of a spec in a child process, from its making until `done`; then `estimate` or `error` is there.

    `digest` is that of the spec as it was given, `spec` has its references settled. Every look at `done` tells it that
    somebody waits; without one for `patience_s`, or after `limit_s`, it is ended. Making it raises what is wrong with
    the references.
    """

    def __init__(self, spec: JobSpec, *, patience_s: float = PATIENCE_S, limit_s: float = LIMIT_S):
        self.digest, self.spec, self.patience_s, self.limit_s = spec.digest, settled(spec), patience_s, limit_s
        self.began = self._seen = time.monotonic()
        self.busy = _busy()
        self.estimate: Estimate | None = None
        self.error: dict | None = None  # as StillroomError.to_json
        self.pid: int | None = None
        self._stopped = threading.Event()
        self._folder = Path(tempfile.mkdtemp(prefix="stillroom-trial-"))
        try:
            self._run = Run.create(self._folder / "runs", _ready(self.spec))
        except BaseException:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise
        # The system ends a tied child with the thread that started it, and the thread of a page ends at once.
        self._thread = threading.Thread(target=self._follow, name="trial", daemon=True)
        atexit.register(self.stop)
        self._thread.start()

    @property
    def done(self) -> bool:
        """Whether it is over; asking keeps it alive."""
        self._seen = time.monotonic()
        return not self._thread.is_alive()

    @property
    def age_s(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self.began

    def stop(self) -> None:
        """End it and wait until nothing of it is left."""
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
            late = self._wait(child)
            self._take(child.returncode, late=late)
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)
            atexit.unregister(self.stop)

    def _wait(self, child: subprocess.Popen) -> bool:
        """Until the child has ended, or is ended; whether that was for want of time."""
        while child.poll() is None:
            late, left = self.age_s > self.limit_s, time.monotonic() - self._seen > self.patience_s
            if late or left or self._stopped.wait(LOOK_S):
                with suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)
                child.wait()
                return late
        return False

    def _take(self, code: int, *, late: bool) -> None:
        try:
            said = json.loads((self._run.folder / RESULT).read_bytes())
        except FileNotFoundError:
            self.error = _why(code, self.limit_s if late else None).to_json()
            return
        if "error" in said:
            self.error = said["error"]
            return
        self.estimate = Estimate.model_validate(said["estimate"]).model_copy(update={"busy": self.busy})
        for digest in {self.digest, self.spec.digest}:
            estimate.keep(self.estimate, digest)


def _ready(spec: JobSpec) -> RunSpec:
    """What a worker would prepare: references found, device and threads fixed."""
    workers = queue.workers()
    threads = int(os.environ.get("STILLROOM_WORKER_THREADS") or cores())
    device = workers[0].device if workers else "cpu"
    return RunSpec.of(spec, inputs.resolve(spec), id=f"{spec.digest[:8]}-0", attempt=1, threads=threads, device=device)


def _busy() -> bool:
    """Whether a worker of this machine is at a job, or other programs want more cores than there are."""
    return os.getloadavg()[0] > cores() + 0.5 or any(worker.job_id and worker.here for worker in queue.workers())


def _why(code: int, limit_s: float | None) -> TrialEnded:
    if limit_s:
        step = "Queue the job all the same, or try a smaller batch."
        return TrialEnded(f"Two steps were not done after {limit_s:.0f} s.", next_step=step)
    if code == -signal.SIGKILL:
        step = "Put less in a batch, shorten max_tokens, or stop other work, and try again."
        return TrialEnded("The trial was ended from outside, most likely because memory ran out.", next_step=step)
    return TrialEnded(f"The trial ended with code {code}.", next_step="Queue the job: its log will say why.")
