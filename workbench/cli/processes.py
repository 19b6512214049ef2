"""`stillroom up`: the app and one worker per device as child processes, started and stopped together.

Lab and worker share the cores: two torch processes that each use all of them run several times slower than one after
the other.
"""

import http.client
import math
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable

from trainer.errors import Unavailable
from trainer.home import ROOT, home
from trainer.queue.engines import cores, ending_with_parent

ADDRESS, FIRST_PORT = "127.0.0.1", 8501
STOP_S, POLL_S = 60, 0.2
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
BACKOFF_S, MAX_BACKOFF_S = 1.0, 60.0  # before a failed worker is restarted; doubled with each failure
MAX_FAILURES = 6  # in a row, after which a worker is not restarted
STABLE_S = 300.0  # a worker that ran this long starts with no failures


def run(*, port: int | None = None, workers: bool = True, say: Callable[[str], None] = print) -> int:
    """Start everything, print the address, and wait for a stop signal or the end of the app; returns the exit code.

    A worker that fails is restarted and resumes its job from the last checkpoint, up to MAX_FAILURES failures in a row.
    A worker that was asked to stop is not restarted.
    """
    if not (ROOT / "app.py").is_file():
        raise Unavailable("app.py is not here.", next_step="Run `pip install -e .` in a clone of the repository.")
    from trainer.queue.store import open_store

    open_store()  # an unusable state folder is reported here once, not by each child
    port = _choose_port(port)
    devices = cuda_devices() or ["cpu"]
    environment = child_environment(workers=len(devices) if workers else 0)
    stop_requests: list[bool] = []
    previous = {name: signal.signal(name, lambda *_: stop_requests.append(True)) for name in STOP_SIGNALS}
    app, supervised = _start(_streamlit(port), environment), []
    try:
        for device in devices if workers else ():
            supervised.append(SupervisedWorker(device, _worker(device), environment, say))
        return _watch(app, supervised, port, stop_requests=stop_requests, say=say)
    finally:
        _stop([app, *(each.child for each in supervised if each.child)], stop_requests)
        for name, handler in previous.items():
            signal.signal(name, handler)


def cuda_devices() -> list[str]:
    """cuda:0, cuda:1, ... according to nvidia-smi and CUDA_VISIBLE_DEVICES; this process never imports torch."""
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return []
    count = sum(line.startswith("GPU ") for line in listed.stdout.splitlines())
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if allowed is not None:
        count = min(count, len([part for part in allowed.split(",") if part.strip() not in ("", "-1")]))
    return [f"cuda:{index}" for index in range(count)]


class SupervisedWorker:
    """A worker process that is restarted when it fails, with growing pauses and up to MAX_FAILURES in a row."""

    def __init__(self, device: str, command: list[str], environment: dict[str, str], say: Callable[[str], None]):
        self.device, self._command, self._environment, self._say = device, command, environment, say
        self._failures = 0  # in a row
        self._launch()

    def _launch(self) -> None:
        self.child: subprocess.Popen[bytes] | None = _start(self._command, self._environment)
        self._started_at, self._restart_at = time.monotonic(), math.inf

    def check(self) -> None:
        """Notice the end of the process, and restart it when it is time."""
        if self.child and self.child.poll() is not None:
            self._ended(self.child.returncode)
        elif not self.child and time.monotonic() >= self._restart_at:
            self._launch()

    def _ended(self, code: int) -> None:
        self.child = None
        command = f"`stillroom worker --device {self.device}`"
        if code == 0:
            self._say(f"The worker {self.device} was asked to stop. Jobs wait until you start another: {command}.")
            return
        self._failures = 1 if time.monotonic() - self._started_at > STABLE_S else self._failures + 1
        ended = f"The worker {self.device} ended with code {code}."
        if self._failures >= MAX_FAILURES:
            self._say(
                f"{ended} It failed {MAX_FAILURES} times in a row and will not be restarted. "
                f"Start another with {command}."
            )
            return
        wait_s = min(MAX_BACKOFF_S, BACKOFF_S * 2 ** (self._failures - 1))
        self._restart_at = time.monotonic() + wait_s
        self._say(f"{ended} It restarts in {wait_s:g} s (attempt {self._failures} of {MAX_FAILURES - 1}).")


def _watch(
    app: subprocess.Popen[bytes],
    supervised: list[SupervisedWorker],
    port: int,
    *,
    stop_requests: list[bool],
    say: Callable[[str], None],
) -> int:
    """Wait for a stop signal (returns 0) or the end of the app (returns 1)."""
    announced = False
    while not stop_requests:
        if not announced and _answers(port):
            announced = True
            say(f"Stillroom is at http://{ADDRESS}:{port}  (Ctrl-C stops it)")
        if app.poll() is not None:
            say(f"The app ended with code {app.returncode}.")
            return 1
        for worker in supervised:
            worker.check()
        time.sleep(POLL_S)
    say("Stopping. A running job returns to the queue with its checkpoint.")
    return 0


def _stop(children: list[subprocess.Popen[bytes]], stop_requests: list[bool]) -> None:
    """Send SIGTERM, so that a worker returns its job to the queue; SIGKILL after a minute or a second stop signal."""
    for child in children:
        child.terminate()
    deadline = time.monotonic() + STOP_S
    while time.monotonic() < deadline and len(stop_requests) < 2 and any(child.poll() is None for child in children):
        time.sleep(POLL_S)
    for child in children:
        child.kill()
        child.wait()


def _worker(device: str) -> list[str]:
    return [sys.executable, "-m", "workbench.cli", "worker", "--device", device]


def _start(command: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
    # A separate process group: Ctrl-C in the terminal reaches only this process, which passes it on once.
    # What the app prints on stdout is chatter; what matters comes on stderr.
    return subprocess.Popen(
        ending_with_parent(command),
        cwd=ROOT,
        env=environment,
        process_group=0,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )


def _streamlit(port: int) -> list[str]:
    options = {"server.port": port, "server.address": ADDRESS, "server.headless": "true"}
    options |= {"browser.gatherUsageStats": "false", "logger.hideWelcomeMessage": "true", "logger.level": "warning"}
    flags = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    return [sys.executable, "-m", "streamlit", "run", "app.py", *flags]


def child_environment(*, workers: int) -> dict[str, str]:
    """The children's environment: absolute state folder (they run in the project's folder) and a share of the cores."""
    lab = max(1, cores() // 4) if workers else cores()
    shares = {
        "STILLROOM_LAB_THREADS": lab,
        "STILLROOM_WORKER_THREADS": max(1, (cores() - lab) // max(1, workers)),
        "OMP_NUM_THREADS": lab,  # for libraries that start threads at import; a run sets its own number
    }
    return {name: str(value) for name, value in shares.items()} | os.environ | {"STILLROOM_HOME": str(home())}


def _choose_port(wanted: int | None) -> int:
    for port in [wanted] if wanted else range(FIRST_PORT, FIRST_PORT + 50):
        if _free(port):
            return port
    ports = f"Port {wanted} is" if wanted else f"Ports {FIRST_PORT} to {FIRST_PORT + 49} are"
    raise Unavailable(f"{ports} in use.", next_step="Choose another with --port.")


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((ADDRESS, port))
        except OSError:
            return False
    return True


def _answers(port: int) -> bool:
    # http.client, not urllib: a proxy from the environment must not be used for this machine.
    connection = http.client.HTTPConnection(ADDRESS, port, timeout=1)
    try:
        connection.request("GET", "/_stcore/health")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
