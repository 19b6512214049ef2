"""Where a run executes. An engine starts `python -m trainer run FOLDER`, says whether it lives, and stops it.

An engine knows nothing of the queue. A child gets a session of its own, so that a signal reaches all of its processes
and Ctrl-C in the worker's terminal reaches none of them.
"""

import contextlib
import functools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import psutil

from trainer.offline import OFFLINE
from trainer.run import Run

# Asks Linux for SIGTERM when the parent dies, then becomes the child: the request survives exec. A preexec_fn would
# run Python between fork and exec, where another thread's lock may be held for ever.
_TIE = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGTERM)
if os.getppid() != int(sys.argv[1]):
    sys.exit(143)
os.execv(sys.argv[2], sys.argv[2:])
"""


class Process(NamedTuple):
    """One process, told apart from later ones with the same id: kernel boot and process-id namespace, id, start."""

    host: str
    pid: int
    start: str

    @classmethod
    def of(cls, pid: int) -> "Process":
        """The process that has this id now."""
        return cls(_host(), pid, (_stat(pid) or ("", "unknown"))[1])

    @classmethod
    def parse(cls, text: str | None) -> "Process | None":
        """The reverse of str(); None for None."""
        if not text:
            return None
        host, pid, start = text.rsplit(" ", 2)
        return cls(host, int(pid), start)

    def __str__(self) -> str:
        return f"{self.host} {self.pid} {self.start}"

    @property
    def here(self) -> bool:
        """Whether this machine can tell if it lives."""
        return self.host == _host()

    @property
    def alive(self) -> bool:
        """Whether it is running here; a zombie is not."""
        found = self.here and _stat(self.pid)
        return bool(found) and found[1] == self.start and found[0] not in "ZX"

    @property
    def gone(self) -> bool:
        """Whether it has certainly ended. False for a process of another machine: nobody here can know."""
        return self.here and not self.alive

    def clear(self, *, grace_s: float = 2.0) -> None:
        """End the group that it leads, if it is alive here: SIGTERM, and SIGKILL after `grace_s`."""
        for number, patience_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, 5.0)):
            deadline = time.monotonic() + patience_s
            if self.alive:
                _signal_group(self.pid, number)
            while self.alive and time.monotonic() < deadline:
                time.sleep(0.02)


@dataclass(frozen=True)
class Handle:
    """A started child. `process` is what a later worker needs to find it."""

    popen: subprocess.Popen[bytes]
    process: Process


class Engine(Protocol):
    """Where a run executes; the worker starts, watches and stops it there."""

    def start(self, run: Run, *, env: Mapping[str, str]) -> Handle:
        """Start the child of a run; what it prints is appended to run.log."""

    def alive(self, handle: Handle) -> bool:
        """Whether the child runs; once it does not, nothing that it started does."""

    def exit_code(self, handle: Handle) -> int | None:
        """None while it runs; negative for the number of the signal that ended it."""

    def stop(self, handle: Handle, *, force: bool = False) -> None:
        """Ask the child to commit and leave, or end it. Does not wait."""


class LocalEngine:
    """A child process on this machine, one device."""

    def command(self, run: Run) -> list[str]:
        """The argument list of the child."""
        return [sys.executable, "-m", "trainer", "run", str(run.folder)]

    def start(self, run: Run, *, env: Mapping[str, str]) -> Handle:
        """Start the child in a session of its own; what it prints is appended to run.log."""
        command = tied(self.command(run))
        with run.log.open("ab") as log:
            popen = subprocess.Popen(
                command, env=dict(env), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        return Handle(popen, Process.of(popen.pid))

    def alive(self, handle: Handle) -> bool:
        """Whether the child runs; once it does not, nothing of its group does."""
        if handle.popen.poll() is None:
            return True
        _signal_group(handle.popen.pid, signal.SIGKILL)
        return False

    def exit_code(self, handle: Handle) -> int | None:
        """None while it runs; negative for the number of the signal that ended it."""
        return handle.popen.poll()

    def stop(self, handle: Handle, *, force: bool = False) -> None:
        """Ask the child to commit and leave (SIGTERM), or end it (SIGKILL). Does not wait."""
        if handle.popen.poll() is None:
            _signal_group(handle.popen.pid, signal.SIGKILL if force else signal.SIGTERM)


ENGINES: dict[str, type[Engine]] = {"local": LocalEngine}


def tied(command: list[str]) -> list[str]:
    """The command, so started that it gets SIGTERM when this process dies, however that dies; on Linux only."""
    if sys.platform != "linux":
        return command
    return [sys.executable, "-I", "-S", "-c", _TIE, str(os.getpid()), *command]


def environment(*, threads: int) -> dict[str, str]:
    """The environment of a child: this one, with its threads fixed, and neither network nor telemetry of the Hub."""
    return os.environ | {
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "OPENBLAS_NUM_THREADS": str(threads),
        "TOKENIZERS_PARALLELISM": "false",
        "STILLROOM_WORKER_PID": str(os.getpid()),  # whose death the child watches for
        **OFFLINE,
        "PYTHONUNBUFFERED": "1",  # the log's last lines are what a person sees of a crash
        "PYTHONFAULTHANDLER": "1",
        "PYTHONHASHSEED": "0",  # the order of sets is part of being reproducible
    }


def cores() -> int:
    """CPU cores this process may use: the smaller of its affinity and its container's quota, at least 1."""
    known = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        known = min(known, int(quota) // int(period))
    return max(1, known)


@functools.cache
def _host() -> str:
    # Containers of one machine share its boot id, not its process ids.
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return f"{os.uname().nodename}/{psutil.boot_time():.0f}"


def _stat(pid: int) -> tuple[str, str] | None:
    """(state letter, start) of a process. On Linux the start is in ticks since boot, which no change of clock moves."""
    if sys.platform != "linux":
        with contextlib.suppress(psutil.Error):
            found = psutil.Process(pid)
            return "Z" if found.status() == psutil.STATUS_ZOMBIE else "R", str(found.create_time())
        return None
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return fields[0], fields[19]


def _signal_group(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)
