"""`stillroom up` for real: the app answers, the worker is enlisted, and everything ends together."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable

import psutil
import pytest
from sqlalchemy import select

from trainer import queue
from trainer.queue import store
from workbench.cli import processes


class Stack:
    """A started `stillroom up` and what it has said so far."""

    def __init__(self, *options: str):
        command = [sys.executable, "-m", "workbench.cli", "up", *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.lines: list[str] = []
        threading.Thread(target=lambda: self.lines.extend(self.process.stdout), daemon=True).start()

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children()

    def child(self, word: str) -> psutil.Process:
        return next(child for child in self.children() if word in child.cmdline())

    def wait_for(self, text: str) -> None:
        until(lambda: any(text in line for line in self.lines), f"{text!r} in {self.lines}")


def until(true: Callable[[], bool], what: str, *, timeout_s: float = 200) -> None:
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


@pytest.fixture
def start(home):
    """Start a stack; at the end of the test it is gone, also when the test failed."""
    started = []

    def start(*options: str) -> Stack:
        started.append(Stack(*options))
        return started[-1]

    yield start
    for stack in started:
        family = [stack.process, *stack.children()] if stack.process.poll() is None else []
        for process in family:
            process.kill()
        stack.process.wait()


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_up_answers_at_the_address_it_prints_and_stops_gently(start, port, number):
    stack = start("--port", str(port))
    stack.wait_for(f"http://127.0.0.1:{port} ")
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as page:
        assert page.status == 200
    until(lambda: len(queue.workers(store.open_store())) == 1, "the worker is enlisted")
    children = stack.children()
    assert len(children) == 2
    stack.process.send_signal(number)
    assert stack.process.wait(timeout=90) == 0
    assert not any(child.is_running() for child in children)
    rows = store.read(store.open_store(), lambda connection: connection.execute(select(store.worker)).all())
    assert rows == [], "the worker had time to sign off"


@pytest.mark.slow
def test_a_worker_that_dies_is_started_again_and_the_app_that_dies_ends_all(start, port):
    stack = start("--port", str(port))
    stack.wait_for("Stillroom is at ")
    until(lambda: len(queue.workers(store.open_store())) == 1, "the worker is enlisted")
    before = stack.child("worker").pid
    os.kill(before, signal.SIGKILL)
    stack.wait_for("The worker cpu ended with code -9. It restarts in 1 s")
    assert queue.workers(store.open_store()) == [], "nobody says that a worker runs where it does not"
    until(lambda: len(queue.workers(store.open_store())) == 1, "another worker is enlisted")
    assert stack.child("worker").pid != before
    os.kill(stack.child("worker").pid, signal.SIGTERM)
    stack.wait_for("The worker cpu was asked to stop.")
    stack.wait_for("`stillroom worker --device cpu`")
    assert len(stack.children()) == 1
    os.kill(stack.child("streamlit").pid, signal.SIGKILL)
    assert stack.process.wait(timeout=90) == 1
    assert "The app ended with code -9.\n" in stack.lines


def test_the_app_that_dies_ends_all(home, port, monkeypatch):
    """Children that only wait take the place of app and worker."""
    waiting = [sys.executable, "-S", "-c", "import time; time.sleep(600)"]
    monkeypatch.setattr(processes, "_streamlit", lambda _port: [*waiting, "app"])
    monkeypatch.setattr(processes, "_worker", lambda _device: [*waiting, "worker"])
    family, lines = {}, []

    def started() -> bool:
        family.update({child.cmdline()[-1]: child for child in psutil.Process().children()})
        return {"app", "worker"} <= set(family)

    def kill_the_app() -> None:
        until(started, "app and worker are started")
        family["app"].kill()

    threading.Thread(target=kill_the_app, daemon=True).start()
    assert processes.run(port=port, say=lines.append) == 1
    assert lines == ["The app ended with code -9."] and not family["worker"].is_running()


def test_a_worker_that_dies_at_once_is_started_ever_later_and_at_last_no_more(monkeypatch):
    monkeypatch.setattr(processes, "BACKOFF_S", 0.05)
    monkeypatch.setattr(processes, "MAX_BACKOFF_S", 0.2)
    lines, began = [], time.monotonic()
    worker = processes.SupervisedWorker(
        "cpu", [sys.executable, "-S", "-c", "raise SystemExit(3)"], dict(os.environ), lines.append
    )
    while not any("will not be restarted" in line for line in lines):
        assert time.monotonic() - began < 60, lines
        worker.check()
        time.sleep(0.01)
    assert len(lines) == processes.MAX_FAILURES and worker.child is None
    waits = [line.partition(" restarts in ")[2].partition(" s")[0] for line in lines[:-1]]
    assert waits == ["0.05", "0.1", "0.2", "0.2", "0.2"]
    assert time.monotonic() - began >= 0.75
    worker.check()
    assert worker.child is None and len(lines) == processes.MAX_FAILURES


def test_no_worker_and_the_port_is_taken_and_nothing_is_left_when_up_itself_is_killed(start):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        number = taken.getsockname()[1]
        stack = start("--no-worker", "--port", str(number))
        assert stack.process.wait(timeout=90) == 1
    stack = start("--no-worker", "--port", str(number))
    stack.wait_for("Stillroom is at ")
    (app,) = stack.children()
    if sys.platform == "linux":  # only Linux tells a child that its parent died
        stack.process.kill()
        until(lambda: not app.is_running(), "the app has ended")
