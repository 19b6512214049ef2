"""`stillroom up`: the app and one worker per device as child processes, started and stopped together.

The cores are a budget that lab and worker share: two torch processes that each take all of them run several times
slower than one after the other.
"""

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from trainer.engines import cores, tied
from trainer.errors import Unavailable

ROOT = Path(__file__).resolve().parents[1]
ADDRESS, FIRST_PORT = "127.0.0.1", 8501
STOP_S, POLL_S = 60, 0.2
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run(*, port: int | None = None, workers: bool = True, say: Callable[[str], None] = print) -> int:
    """Start everything, say the address, wait for a stop signal or for the app to end; returns the exit code.

    A worker that ends is reported and not restarted: its job waits, with its checkpoint, for the next worker.
    """
    if not (ROOT / "app.py").is_file():
        raise Unavailable("app.py is not here.", next_step="Run `pip install -e .` in a clone of the repository.")
    from trainer.store import open_store

    open_store()  # a state that cannot be used is said here, once, and not by each of the children
    port = _port(port)
    devices = cuda_devices() or ["cpu"]
    environment = child_environment(workers=len(devices) if workers else 0)
    asked = []
    previous = {name: signal.signal(name, lambda *_: asked.append(True)) for name in STOP_SIGNALS}
    children: dict[str, subprocess.Popen] = {}
    try:
        children["app"] = _start(_streamlit(port), environment)
        for device in devices if workers else ():
            command = [sys.executable, "-m", "workbench.cli", "worker", "--device", device]
            children[f"worker {device}"] = _start(command, environment)
        return _watch(children, port, asked=asked, say=say)
    finally:
        _stop(children, asked)
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


def _watch(children: dict[str, subprocess.Popen], port: int, *, asked: list, say: Callable[[str], None]) -> int:
    """Until a stop is asked for (0) or the app ends by itself (1)."""
    announced = False
    while not asked:
        if not announced and _answers(port):
            announced = True
            say(f"Stillroom is at http://{ADDRESS}:{port}  (Ctrl-C stops it)")
        for name, child in list(children.items()):
            if child.poll() is None:
                continue
            del children[name]
            say(f"The {name} ended with code {child.returncode}.")
            if name == "app":
                return 1
            say(f"Jobs wait for the next worker: `stillroom {name.replace(' ', ' --device ')}` starts one.")
        time.sleep(POLL_S)
    say("Stopping; a running job goes back to the queue with its checkpoint.")
    return 0


def _stop(children: dict[str, subprocess.Popen], asked: list) -> None:
    """SIGTERM, so that a worker hands its job back; SIGKILL after a minute or at the second request to stop."""
    for child in children.values():
        child.terminate()
    deadline = time.monotonic() + STOP_S
    while time.monotonic() < deadline and len(asked) < 2 and any(child.poll() is None for child in children.values()):
        time.sleep(POLL_S)
    for child in children.values():
        child.kill()
        child.wait()


def _start(command: list[str], environment: dict[str, str]) -> subprocess.Popen:
    # A process group of its own: Ctrl-C in the terminal reaches only this process, which passes it on once.
    # What the app prints on stdout is chatter; what matters comes on stderr.
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
    return subprocess.Popen(tied(command), cwd=ROOT, env=environment, process_group=0, **quiet)


def _streamlit(port: int) -> list[str]:
    options = {"server.port": port, "server.address": ADDRESS, "server.headless": "true"}
    options |= {"browser.gatherUsageStats": "false", "logger.hideWelcomeMessage": "true", "logger.level": "warning"}
    flags = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    return [sys.executable, "-m", "streamlit", "run", "app.py", *flags]


def child_environment(*, workers: int) -> dict[str, str]:
    """The children's environment: absolute state folder (they run in the project's folder) and a share of the cores."""
    from trainer.home import home

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
