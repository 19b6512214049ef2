"""Kill the training process and the worker at random steps of a real fine-tuning; the weights come out the same."""

import os
import random
import signal
import subprocess
import sys
import time

import psutil
import pytest

from trainer import queue
from trainer.files import file_sha256
from trainer.home import runs_dir
from trainer.run import attempts
from trainer.spec import parse

STEPS = 240
WORKER = "from trainer.queue.worker import work; work(drain=True, threads=1)"


@pytest.fixture
def spec(tiny_model, tmp_path):
    words = "severe\tB-Disease\nheart\tI-Disease\nfailure\tI-Disease\nwas\tO\nseen\tO\n\nno\tO\nevents\tO\n\n"
    folder = tmp_path / "data"
    folder.mkdir()
    for split, times in (("train", 40), ("dev", 2), ("test", 2)):
        (folder / f"{split}.conll").write_text(words * times)
    schedule = {"steps": STEPS, "batch_size": 8, "max_tokens": 64, "lr": 1e-3, "evaluate_every": 60}
    schedule |= {"checkpoint_every": 15}
    return {"kind": "finetune", "model": str(tiny_model), "dataset": str(folder), "schedule": schedule}


def start_worker():
    return subprocess.Popen([sys.executable, "-c", WORKER], start_new_session=True)


def weights(job):
    return file_sha256(f"{job.artifact}/model.safetensors")


def scores(job):
    """All metrics but the measured memory, which is not the same twice."""
    return {name: value for name, value in job.metrics.items() if name != "peak_memory_bytes"}


def child_pid(run):
    """The process that executes `run`, or None: found by its command line, as an administrator would."""
    for process in psutil.process_iter(["cmdline"]):
        if str(run.folder) in (process.info["cmdline"] or []):
            return process.pid
    return None


def wait_for(condition, *, timeout_s=60.0):
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        if (value := condition()) is not None:
            return value
        time.sleep(0.02)
    raise AssertionError("it did not happen in time")


def checkpointed(job_id, beyond):
    """The running attempt, once it has committed a checkpoint after step `beyond`; or the job, if it ended first."""
    job = queue.job(job_id)
    if job.state in ("succeeded", "failed"):
        return job
    for run in attempts(runs_dir(), job_id)[:1]:
        steps = [event["step"] for event in run.events()[0] if event["event"] == "checkpoint"]
        if steps and steps[-1] > beyond:
            return run, steps[-1]
    return None


@pytest.mark.slow
def test_killed_children_and_workers_leave_the_same_weights(home, spec):
    reference = queue.submit(parse(spec))
    assert start_worker().wait(timeout=120) == 0
    reference = queue.job(reference.id)
    assert reference.state == "succeeded", reference.error

    chance = random.Random(20)
    job = queue.retry(reference.id, fresh=True)
    assert job.id != reference.id
    worker, beyond, killed = start_worker(), 0, []
    for target in ("child", "worker", "worker", "child"):
        seen = wait_for(lambda beyond=beyond: checkpointed(job.id, beyond))
        if isinstance(seen, queue.Job):
            break  # it was faster than we are; the kills so far count
        run, beyond = seen
        time.sleep(chance.uniform(0.0, 0.15))
        pid = worker.pid if target == "worker" else child_pid(run)
        if pid is None:
            continue
        os.kill(pid, signal.SIGKILL)
        killed.append(target)
        if target == "child":
            worker.wait(timeout=60)  # the queue is drained: the job failed, with a reason
            failed = queue.job(job.id)
            if failed.state == "failed":
                assert failed.error["type"] == "Killed"
                assert "retry" in failed.error["next_step"]
                queue.retry(job.id)
        else:
            worker.wait()
        worker = start_worker()
    assert worker.wait(timeout=120) == 0
    ended = queue.job(job.id)
    assert ended.state == "succeeded", ended.error
    assert {"child", "worker"} <= set(killed), f"only {killed} was killed; make the run longer"
    assert weights(ended) == weights(reference)
    assert scores(ended) == scores(reference)
