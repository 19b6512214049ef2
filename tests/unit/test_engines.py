"""Engines: processes are told apart, groups end as a whole, and children end with their worker."""

import os
import signal
import subprocess
import sys
import time
from typing import get_args

import pytest
import scripted_run

from trainer.queue.engines import ENGINES, LocalEngine, Process, cores, environment
from trainer.run import Run
from trainer.spec import EngineName

SLEEP = "import time; time.sleep(120)"


class Shell(LocalEngine):
    """Runs a line of Python instead of a training process."""

    def __init__(self, code):
        self.code = code

    def command(self, run):
        return [sys.executable, "-S", "-c", self.code, str(run.folder)]


@pytest.fixture
def run(tmp_path):
    run = Run(tmp_path / "runs" / "job-1" / "attempt-1")
    run.folder.mkdir(parents=True)
    yield run
    for pid in scripted_run.processes_of("job-1"):
        os.kill(pid, signal.SIGKILL)


def until(condition, timeout_s=60.0):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def test_a_process_is_recognised_after_a_round_trip_through_text():
    me = Process.of(os.getpid())
    assert Process.parse(str(me)) == me and me.alive and me.here and not me.gone


def test_a_reused_id_is_another_process_and_another_machine_is_unknown():
    me = Process.of(os.getpid())
    assert me._replace(start="1").gone
    elsewhere = me._replace(host="another boot")
    assert not elsewhere.here and not elsewhere.gone and not elsewhere.alive


def test_a_zombie_is_gone():
    child = subprocess.Popen([sys.executable, "-S", "-c", SLEEP])
    process = Process.of(child.pid)
    assert process.alive
    child.kill()
    until(lambda: process.gone)
    child.wait()


def test_the_real_child_is_the_trainer(run):
    assert LocalEngine().command(run)[1:] == ["-m", "trainer", "run", str(run.folder)]
    assert ENGINES["local"] is LocalEngine


def test_a_spec_names_an_engine_of_the_table():
    assert get_args(EngineName) == tuple(ENGINES)


def test_start_alive_exit_code_and_log(run):
    engine = Shell("import os, sys; print('out', os.environ['OMP_NUM_THREADS']); sys.exit('err')")
    handle = engine.start(run, env=environment(threads=3))
    until(lambda: not engine.alive(handle))
    assert engine.exit_code(handle) == 1
    assert sorted(run.log.read_text().split()) == ["3", "err", "out"]


def test_stop_asks_and_force_ends(run):
    engine = Shell(f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); {SLEEP}")
    handle = engine.start(run, env=environment(threads=1))
    until(lambda: run.log.read_text() == "up\n")
    engine.stop(handle)
    time.sleep(0.1)
    assert engine.alive(handle)
    engine.stop(handle, force=True)
    until(lambda: not engine.alive(handle))
    assert engine.exit_code(handle) == -signal.SIGKILL
    engine.stop(handle, force=True)  # nothing left to stop


def test_nothing_of_the_group_outlives_the_child(run):
    helper = f"subprocess.Popen([sys.executable, '-S', '-c', '{SLEEP}', sys.argv[1] + '/'])"
    engine = Shell(f"import subprocess, sys; {helper}; print('up', flush=True)")
    handle = engine.start(run, env=environment(threads=1))
    handle.popen.wait()
    until(lambda: scripted_run.processes_of("job-1"))
    assert not engine.alive(handle)
    until(lambda: not scripted_run.processes_of("job-1"))


def test_clear_ends_a_recorded_group_and_only_the_process_that_was_meant(run):
    engine = Shell(f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); {SLEEP}")
    handle = engine.start(run, env=environment(threads=1))
    until(lambda: run.log.read_text() == "up\n")
    handle.process._replace(start="1").clear()
    handle.process._replace(host="another boot").clear()
    assert engine.alive(handle)
    handle.process.clear(grace_s=0.1)
    assert not engine.alive(handle)


@pytest.mark.skipif(sys.platform != "linux", reason="the parent-death signal is Linux's")
def test_a_child_is_told_when_its_worker_is_killed(run, tmp_path):
    """A worker that is killed cannot stop its child; the system does it."""
    worker = f"""
import os, signal, time
from pathlib import Path
from trainer.queue.engines import LocalEngine, environment
from trainer.run import Run

LocalEngine.command = lambda self, run: {[sys.executable, "-S", "-c", SLEEP]} + [str(run.folder) + "/"]
run = Run(Path({str(run.folder)!r}))
LocalEngine().start(run, env=environment(threads=1))
time.sleep(0.3)
os.kill(os.getpid(), signal.SIGKILL)
"""
    process = subprocess.Popen([sys.executable, "-c", worker])
    until(lambda: scripted_run.processes_of("job-1"))
    process.wait()
    until(lambda: not scripted_run.processes_of("job-1"))


def test_cores_is_what_this_process_may_use():
    assert 1 <= cores() <= os.cpu_count()
