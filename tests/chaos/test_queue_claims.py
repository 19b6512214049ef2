"""Two workers never hold one job; a job finishes at most once, whatever wakes up late; no job is lost."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter

import pytest
import scripted_run

from trainer import queue
from trainer.queue.store import metadata, open_store, read, write
from trainer.spec import parse


@pytest.fixture(autouse=True)
def database(home, monkeypatch):
    with scripted_run.database_in_memory(home) as url:
        monkeypatch.setenv("STILLROOM_DB", url)
        yield


@pytest.fixture
def start(database):
    """Start claiming processes; all begin at the same moment. What they said is collected line by line."""
    started = []

    def begin(count, **options):
        command = [sys.executable, scripted_run.__file__, "claim", json.dumps(options)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        started.extend(subprocess.Popen(command, **pipes) for _ in range(count))
        for process in started:
            assert process.stdout.readline() == "ready\n"
        for process in started:
            process.stdin.write("\n")
            process.stdin.flush()
        return started

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def submit(count):
    """Rows as submit writes them, in one transaction."""
    one = queue.submit(parse({"kind": "evaluate", "model": "m", "dataset": "d"}))
    values = {"kind": "evaluate", "spec": one.spec, "created_at": 0.0}
    rows = [{"id": f"job-{n}", "digest": str(n), "number": 1, "turn": n + 2} | values for n in range(count - 1)]
    write(open_store(), lambda connection: connection.execute(metadata.tables["job"].insert(), rows))


def finished(lines):
    return Counter(line.split()[1] for line in lines if line.startswith("finished"))


@pytest.mark.parametrize("number", [pytest.param(300, marks=pytest.mark.slow), 60])
def test_two_workers_never_hold_one_job(number, start):
    submit(number)
    processes = start(5)
    counts = finished(line for process in processes for line in process.communicate(timeout=120)[0].splitlines())
    assert len(counts) == number and set(counts.values()) == {1}
    assert {job.state for job in queue.jobs(limit=400)} == {"succeeded"}
    assert {job.attempts for job in queue.jobs(limit=400)} == {1}
    checked = read(open_store(), lambda connection: connection.exec_driver_sql("PRAGMA integrity_check").scalar())
    assert checked == "ok"


@pytest.mark.parametrize("number", [pytest.param(50, marks=pytest.mark.slow), 20])
def test_a_job_finishes_at_most_once_whatever_wakes_up_late(number, start):
    """Workers are stopped for longer than their lease, woken up again, and killed."""
    submit(number)
    chance = random.Random(0)
    lines = []
    processes = start(4, lease_s=0.3, stop_share=0.3, hold_s=0.1)
    readers = [threading.Thread(target=lambda p=p: lines.extend(p.stdout)) for p in processes]
    for reader in readers:
        reader.start()
    deadline = time.monotonic() + 120
    while living := [process for process in processes[:3] if process.poll() is None]:
        assert time.monotonic() < deadline
        time.sleep(chance.uniform(0.2, 0.5))
        # One at a time, so that the others have seen its silence.
        os.kill(chance.choice(living).pid, signal.SIGCONT)
        if len(lines) > 0.6 * number:
            processes[3].kill()
    for reader in readers:
        reader.join()
    lines = [line for line in lines if line.endswith("\n")]  # the last one of a killed process may be cut short
    counts = finished(lines)
    jobs = {job.id: job for job in queue.jobs(limit=200)}
    assert set(counts.values()) == {1}
    assert any(line.startswith("lost") for line in lines), "nobody woke up late: this proves nothing"
    for line in lines:
        if line.startswith("finished"):
            job_id, attempt = line.split()[1:]
            assert int(attempt) == jobs[job_id].attempts, "finished by a worker that no longer held it"
    for job_id, job in jobs.items():
        blamed = job.error is not None and job.error["type"] == "LostWorker"
        assert job.state == ("failed" if blamed else "succeeded")
        assert counts[job_id] == 0 or not blamed  # the line of a killed process may be lost with it, its row is not
