"""`stillroom up`: the app and one worker per device as child processes, started and stopped together.

The cores are a budget that lab and worker share: two torch processes that each take all of them run several times
slower than one after the other.
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
BACKOFF_S, MAX_BACKOFF_S = 1.0, 60.0  # before a worker that died is started again; doubled from death to death
DEATHS = 6  # in a row, after which it is not started again
STEADY_S = 300.0  # a worker that lived so long begins a new row


def run(*, port: int | None = None, workers: bool = True, say: Callable[[str], None] = print) -> int:
    """Start everything, say the address, wait for a stop signal or for the app to end; returns the exit code.

    A worker that dies is started again, and takes its job up from the last checkpoint; one that dies DEATHS times in a
    row is not. One that was told to leave has left.
    """
    if not (ROOT / "app.py").is_file():
        raise Unavailable("app.py is not here.", next_step="Run `pip install -e .` in a clone of the repository.")
    from trainer.queue.store import open_store

    open_store()  # a state that cannot be used is said here, once, and not by each of the children
    port = _port(port)
    devices = cuda_devices() or ["cpu"]
    environment = child_environment(workers=len(devices) if workers else 0)
    asked = []
    previous = {name: signal.signal(name, lambda *_: asked.append(True)) for name in STOP_SIGNALS}
    app, kept = _start(_streamlit(port), environment), []
    try:
        for device in devices if workers else ():
            kept.append(Kept(device, _worker(device), environment, say))
        return _watch(app, kept, port, asked=asked, say=say)
    finally:
        _stop([app, *(each.child for each in kept if each.child)], asked)
        for name, handler in previous.items():
            signal.signal(name, handler)


def cuda_devices() -> list[str]:
    """cuda:0, cuda:1, ... as nvidia-smi and CUDA_VISIBLE_DEVICES have them; this process never imports torch."""
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return []
    found = sum(line.startswith("GPU ") for line in listed.stdout.splitlines())
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if allowed is not None:
        found = min(found, len([part for part in allowed.split(",") if part.strip() not in ("", "-1")]))
    return [f"cuda:{index}" for index in range(found)]


class Kept:
    """A worker that is started again when it dies: after a while, and not for ever."""

    def __init__(self, device: str, command: list[str], environment: dict[str, str], say: Callable[[str], None]):
        self.device, self._command, self._environment, self._say = device, command, environment, say
        self._deaths = 0  # in a row
        self._begin()

    def _begin(self) -> None:
        self.child: subprocess.Popen | None = _start(self._command, self._environment)
        self._began_at, self._again_at = time.monotonic(), math.inf

    def look(self) -> None:
        """Notice its death, and start it again when it is time."""
        if self.child and self.child.poll() is not None:
            self._ended(self.child.returncode)
        elif not self.child and time.monotonic() >= self._again_at:
            self._begin()

    def _ended(self, code: int) -> None:
        self.child = None
        start = f"`stillroom worker --device {self.device}` starts one"
        if code == 0:
            self._say(f"The worker {self.device} was told to leave. Jobs wait for the next worker: {start}.")
            return
        self._deaths = 1 if time.monotonic() - self._began_at > STEADY_S else self._deaths + 1
        ended = f"The worker {self.device} ended with code {code}."
        if self._deaths >= DEATHS:
            self._say(f"{ended} It died {DEATHS} times in a row and is not started again. Jobs wait: {start}.")
            return
        wait_s = min(MAX_BACKOFF_S, BACKOFF_S * 2 ** (self._deaths - 1))
        self._again_at = time.monotonic() + wait_s
        self._say(
            f"{ended} It is started again in {wait_s:g} s ({self._deaths} of at most {DEATHS - 1} times in a row)."
        )


def _watch(app: subprocess.Popen, kept: list[Kept], port: int, *, asked: list, say: Callable[[str], None]) -> int:
    """Until a stop is asked for (0) or the app ends by itself (1)."""
    announced = False
    while not asked:
        if not announced and _answers(port):
            announced = True
            say(f"Stillroom is at http://{ADDRESS}:{port}  (Ctrl-C stops it)")
        if app.poll() is not None:
            say(f"The app ended with code {app.returncode}.")
            return 1
        for each in kept:
            each.look()
        time.sleep(POLL_S)
    say("Stopping; a running job goes back to the queue with its checkpoint.")
    return 0


def _stop(children: list[subprocess.Popen], asked: list) -> None:
    """SIGTERM, so that a worker hands its job back; SIGKILL after a minute or at the second request to stop."""
    for child in children:
        child.terminate()
    deadline = time.monotonic() + STOP_S
    while time.monotonic() < deadline and len(asked) < 2 and any(child.poll() is None for child in children):
        time.sleep(POLL_S)
    for child in children:
        child.kill()
        child.wait()


def _worker(device: str) -> list[str]:
    return [sys.executable, "-m", "workbench.cli", "worker", "--device", device]


def _start(command: list[str], environment: dict[str, str]) -> subprocess.Popen:
    # A process group of its own: Ctrl-C in the terminal reaches only this process, which passes it on once.
    # What the app prints on stdout is chatter; what matters comes on stderr.
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
    return subprocess.Popen(ending_with_parent(command), cwd=ROOT, env=environment, process_group=0, **quiet)


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
        "OMP_NUM_THREADS": lab,  # for what starts threads before it is told how many; runs get their own number
    }
    return {name: str(value) for name, value in shares.items()} | os.environ | {"STILLROOM_HOME": str(home())}


def _port(wanted: int | None) -> int:
    for port in [wanted] if wanted else range(FIRST_PORT, FIRST_PORT + 50):
        if _free(port):
            return port
    taken = f"Port {wanted} is" if wanted else f"Ports {FIRST_PORT} to {FIRST_PORT + 49} are"
    raise Unavailable(f"{taken} taken.", next_step="Choose another with --port.")


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((ADDRESS, port))
        except OSError:
            return False
    return True


def _answers(port: int) -> bool:
    # http.client and not urllib: a proxy of the environment must not be asked for this machine.
    connection = http.client.HTTPConnection(ADDRESS, port, timeout=1)
    try:
        connection.request("GET", "/_stcore/health")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
