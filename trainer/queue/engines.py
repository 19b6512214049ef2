"""Where a run executes. An engine starts `python -m trainer run FOLDER`, tells whether it is alive, and stops it.

An engine knows nothing about the queue. A child runs in a separate session, so that a signal reaches all of its
processes and Ctrl-C in the worker's terminal reaches none of them.
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
from typing import TYPE_CHECKING, NamedTuple, Protocol

import psutil

from trainer.offline import OFFLINE

if TYPE_CHECKING:
    from trainer.run import Run

# Asks Linux for SIGTERM when the parent dies, then becomes the child: the request survives exec. A preexec_fn would run
# Python between fork and exec, where a lock of another thread may never be released.
_PARENT_DEATH_SCRIPT = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGTERM)
if os.getppid() != int(sys.argv[1]):
    sys.exit(143)
os.execv(sys.argv[2], sys.argv[2:])
"""


class Process(NamedTuple):
    """One process, distinct from later ones with the same id.

    host: kernel boot and process-id namespace. start: when it started, in units of its platform.
    """

    host: str
    pid: int
    start: str

    @classmethod
    def of(cls, pid: int) -> "Process":
        """The process that has this id now."""
        return cls(_host(), pid, (_stat(pid) or ("", "unknown"))[1])

    @classmethod
    def parse(cls, text: str) -> "Process":
        """The inverse of str()."""
        host, pid, start = text.rsplit(" ", 2)
        return cls(host, int(pid), start)

    def __str__(self) -> str:
        return f"{self.host} {self.pid} {self.start}"

    @property
    def here(self) -> bool:
        """Whether the process is on this machine. Only its own machine can tell whether it is alive."""
        return self.host == _host()

    @property
    def alive(self) -> bool:
        """Whether it is running here; a zombie is not."""
        stat = _stat(self.pid) if self.here else None
        return stat is not None and stat[1] == self.start and stat[0] not in "ZX"

    @property
    def gone(self) -> bool:
        """Whether it has certainly ended. False for a process of another machine, which cannot be checked from here."""
        return self.here and not self.alive

    def clear(self, *, grace_s: float = 2.0) -> None:
        """End the process group that it leads, if it is alive here: SIGTERM, and SIGKILL after `grace_s`."""
        for signal_number, wait_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, 5.0)):
            deadline = time.monotonic() + wait_s
            if self.alive:
                _signal_group(self.pid, signal_number)
            while self.alive and time.monotonic() < deadline:
                time.sleep(0.02)


@dataclass(frozen=True)
class Handle:
    """A started child; a later worker can find it by `process`."""

    popen: subprocess.Popen[bytes]
    process: Process


class Engine(Protocol):
    """Where a run executes; the worker starts, watches and stops it there."""

    def start(self, run: "Run", *, env: Mapping[str, str]) -> Handle:
        """Start the child of a run; its output is appended to run.log."""

    def alive(self, handle: Handle) -> bool:
        """Whether the child is running; once it is not, none of its processes is."""

    def exit_code(self, handle: Handle) -> int | None:
        """None while it runs; negative for the number of the signal that ended it."""

    def stop(self, handle: Handle, *, force: bool = False) -> None:
        """Ask the child to save a checkpoint and exit, or kill it. Does not wait."""


class LocalEngine:
    """A child process on this machine, one device."""

    def command(self, run: "Run") -> list[str]:
        """The argument list of the child."""
        return [sys.executable, "-m", "trainer", "run", str(run.folder)]

    def start(self, run: "Run", *, env: Mapping[str, str]) -> Handle:
        """Start the child in a separate session; its output is appended to run.log."""
        command = ending_with_parent(self.command(run))
        with run.log.open("ab") as log:
            popen = subprocess.Popen(
                command, env=dict(env), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        return Handle(popen, Process.of(popen.pid))

    def alive(self, handle: Handle) -> bool:
        """Whether the child is running; once it is not, none of its process group is."""
        if handle.popen.poll() is None:
            return True
        _signal_group(handle.popen.pid, signal.SIGKILL)
        return False

    def exit_code(self, handle: Handle) -> int | None:
        """None while it runs; negative for the number of the signal that ended it."""
        return handle.popen.poll()

    def stop(self, handle: Handle, *, force: bool = False) -> None:
        """Ask the child to save a checkpoint and exit (SIGTERM), or kill it (SIGKILL). Does not wait."""
        if handle.popen.poll() is None:
            _signal_group(handle.popen.pid, signal.SIGKILL if force else signal.SIGTERM)


ENGINES: dict[str, type[Engine]] = {"local": LocalEngine}


def ending_with_parent(command: list[str]) -> list[str]:
    """The command, wrapped so that it gets SIGTERM when this process dies, however that happens; on Linux only."""
    if sys.platform != "linux":
        return command
    return [sys.executable, "-I", "-S", "-c", _PARENT_DEATH_SCRIPT, str(os.getpid()), *command]


def environment(*, threads: int) -> dict[str, str]:
    """The environment of a child: this one, with a fixed number of threads and no network or telemetry of the Hub."""
    return os.environ | {
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "OPENBLAS_NUM_THREADS": str(threads),
        "TOKENIZERS_PARALLELISM": "false",
        "STILLROOM_WORKER_PID": str(os.getpid()),  # the child exits when this process dies
        **OFFLINE,
        "PYTHONUNBUFFERED": "1",  # after a crash, a person sees the last lines of the log
        "PYTHONFAULTHANDLER": "1",
        "PYTHONHASHSEED": "0",  # sets then have a reproducible order
    }


def cores() -> int:
    """The CPU cores that this process may use: the smaller of its affinity and its container's quota, at least 1."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        count = min(count, int(quota) // int(period))
    return max(1, count)


@functools.cache
def _host() -> str:
    # Containers on one machine share its boot id but not its process ids.
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return f"{os.uname().nodename}/{psutil.boot_time():.0f}"


def _stat(pid: int) -> tuple[str, str] | None:
    """(state letter, start) of a process. On Linux the start is in ticks since boot, unaffected by clock changes."""
    if sys.platform != "linux":
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(pid)
            return "Z" if process.status() == psutil.STATUS_ZOMBIE else "R", str(process.create_time())
        return None
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return fields[0], fields[19]


def _signal_group(pid: int, signal_number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal_number)
