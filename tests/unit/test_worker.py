"""One worker, in this process, with children that keep the run-folder contract or break it."""

import json
import os
import signal
import threading
import time

import pytest
import scripted_run
from sqlalchemy import update

from trainer import engines, follow, metrics, queue, worker
from trainer.engines import Process
from trainer.run import Result, Run, attempts
from trainer.spec import parse
from trainer.store import job as jobs_table
from trainer.store import open_store, runs_dir, write

FAST = worker.Timing(look_s=0.02, beat_s=0.05, idle_s=0.02, cancel_grace_s=0.5, stall_s=20)


@pytest.fixture
def spec(home, tmp_path):
    model, data = scripted_run.inputs(tmp_path)
    return parse({"kind": "finetune", "model": model, "dataset": data})


@pytest.fixture
def run_job(spec, monkeypatch):
    """Submit the spec, work until the queue is empty, answer the job."""
    monkeypatch.setitem(engines.ENGINES, "local", scripted_run.engine())

    def run(spec=spec, timing=FAST, **script):
        monkeypatch.setenv("SCRIPT", json.dumps(script))
        job = queue.submit(spec)
        worker.work(drain=True, threads=1, timing=timing)
        return queue.job(job.id)

    return run


def no_wait(job_id):
    """Let a postponed job start now."""
    write(open_store(), lambda c: c.execute(update(jobs_table).where(jobs_table.c.id == job_id).values(not_before=0.0)))


def processes_of(job_id):
    """Processes that name the job's run folder."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/cmdline", "rb") as file:
                    line = file.read()
            except OSError:
                continue
            if f"runs/{job_id}/".encode() in line:
                found.append(int(entry))
    return found
