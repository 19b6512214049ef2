"""Reading a note while a job trains: how much each slows the other, with the threads that `stillroom up` gives them.

    python -m benchmarks.interactive [--json] [--gap 5] [--stretch 60] [--rounds 3] [--model minilm-bc5cdr]

A real lab, a real worker and a fine-tuning job run in a state folder of their own. Idle: a prediction every `gap`
seconds for `stretch` seconds, before the job starts and after it has ended. In between, `rounds` times in turn: a
stretch of the job by itself, and one with a prediction every `gap` seconds. `latency_ratio` is the median latency, from
submission to answer, beside the job over that when idle. `steps_ratio` is the job's steps per second with predictions
over those without. The job neither evaluates nor saves during that time.
"""

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks import measure
from trainer import queue
from trainer.home import runs_dir
from trainer.queue.engines import ending_with_parent
from trainer.run import attempts
from trainer.spec import parse
from workbench.cli import processes
from workbench.lab import Lab
from workbench.predict import Arm

NOTE = Path(__file__).parents[1] / "data" / "notes" / "cns-lymphoma-discharge.txt"
STEPS = 6000  # longer than a measurement; a longer run would report fewer of its steps
BATCH = {"batch_tokens": 640, "max_tokens": 256, "lr": 1e-4}
JOB = {
    "kind": "finetune",
    "model": "minilm",
    "dataset": "ncbi-disease",
    "schedule": BATCH | {"steps": STEPS, "evaluate_every": STEPS, "checkpoint_every": STEPS},
}
ENDED = ("succeeded", "failed", "cancelled")


class Job:
    """A job in training, observed through its events."""

    def __init__(self) -> None:
        self.id = queue.submit(parse(JOB)).id
        self._offset, self._step = 0, 0

    def mark(self) -> tuple[float, int]:
        """(time, step) at the next step that it reports."""
        before = self._step
        _until(lambda: self._look() > before)
        return time.perf_counter(), self._step

    def stop(self) -> None:
        """Cancel the job and wait until it has ended."""
        queue.cancel(self.id)
        _until(lambda: queue.job(self.id).state in ENDED)

    def _look(self) -> int:
        state = queue.job(self.id)
        if state.state in ENDED:
            raise SystemExit(f"The job {state.state} before the measurement was over: {state.error}")
        for run in attempts(runs_dir(), self.id)[:1]:
            events, self._offset = run.events(self._offset)
            self._step = max([self._step, *(event["step"] for event in events if event.get("event") == "step")])
        return self._step


def latencies(lab: Lab, arm: Arm, *, gap_s: float, stretch_s: float) -> list[float]:
    """Milliseconds of a prediction every `gap_s` seconds, for `stretch_s` seconds."""
    text, began, times = NOTE.read_text(encoding="utf-8"), time.perf_counter(), []
    while (now := time.perf_counter()) < began + stretch_s:
        lab.submit(text, arm).result()
        times.append(1000 * (time.perf_counter() - now))
        time.sleep(max(0.0, now + gap_s - time.perf_counter()))
    return times


def case(model: str, *, gap_s: float, stretch_s: float, rounds: int) -> dict[str, Any]:
    """Both ratios, measured in the state folder that the environment names."""
    lab, arm, timing = Lab(), Arm.parse(model), {"gap_s": gap_s, "stretch_s": stretch_s}
    with contextlib.closing(lab):
        lab.submit("Fever", arm).result()  # loads the model
        idle, busy = latencies(lab, arm, **timing), list[float]()
        alone_rates, together_rates = list[float](), list[float]()
        with _worker():
            job = Job()
            job.mark()
            for _ in range(rounds):
                alone_rates.append(_rate(job, lambda: time.sleep(stretch_s)))
                together_rates.append(_rate(job, lambda: busy.extend(latencies(lab, arm, **timing))))
            job.stop()
        idle += latencies(lab, arm, **timing)
    idle_ms, busy_ms = statistics.median(idle), statistics.median(busy)
    alone, together = statistics.median(alone_rates), statistics.median(together_rates)
    return {
        "name": f"interactive-{model}",
        "idle_ms": idle_ms,
        "busy_ms": busy_ms,
        "latency_ratio": busy_ms / idle_ms,
        "alone_steps_per_second": alone,
        "together_steps_per_second": together,
        "steps_ratio": together / alone,
        "predictions": len(busy),
        "gap_s": gap_s,
        "lab_threads": int(os.environ["STILLROOM_LAB_THREADS"]),
        "worker_threads": int(os.environ["STILLROOM_WORKER_THREADS"]),
    }


def _rate(job: Job, meanwhile: Callable[[], None]) -> float:
    """The job's steps per second while `meanwhile` runs."""
    began, first = job.mark()
    meanwhile()
    ended, last = job.mark()
    return (last - first) / (ended - began)


@contextlib.contextmanager
def _worker() -> Iterator[None]:
    worker = subprocess.Popen(
        ending_with_parent([sys.executable, "-m", "workbench.cli", "worker"]),
        cwd=processes.ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        worker.terminate()
        worker.wait()


def _until(condition: Callable[[], bool], *, timeout_s: float = 600) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end:
            raise SystemExit(f"Nothing happened in {timeout_s:.0f} s.")
        time.sleep(0.02)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--gap", type=float, default=5, help="seconds from one prediction to the next")
    parser.add_argument("--stretch", type=float, default=60, help="seconds of each part of the measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", default="minilm-bc5cdr")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        os.environ["STILLROOM_HOME"] = home
        os.environ |= processes.child_environment(workers=1)
        result = case(chosen.model, gap_s=chosen.gap, stretch_s=chosen.stretch, rounds=chosen.rounds)
    measure.show([result], as_json=chosen.json)


if __name__ == "__main__":
    main()
