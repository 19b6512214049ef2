"""What a worker reads from the run folder that it follows: the progress so far, and how the child ended."""

import errno
import math
import signal
import time
from collections import defaultdict, deque
from pathlib import Path
from typing import Any, TypeGuard

from trainer.bounds import COUNT
from trainer.errors import CorruptFile, StillroomError
from trainer.home import unavailable
from trainer.queue import Progress
from trainer.run import Result, Run

RETRIES = {"DiskFull": 3, "Stalled": 1}  # for temporary failures: attempts without a new checkpoint in between
LOG_LINES, LOG_BYTES = 20, 4000  # the end of the log that the error of a dead child shows
NAME_CHARACTERS, METRICS = 200, 1000  # longest name of a metric; most metrics of a run
RATE_MARKS = 60  # renewals over which the speed is measured

_EXTERNAL_SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGXCPU)


class Killed(StillroomError):
    """The child was ended by an external signal."""


class Crashed(StillroomError):
    """The child ended without writing a result."""


class DiskFull(StillroomError):
    """The disk is full."""


class Stalled(StillroomError):
    """The child was alive but reported nothing for too long."""


class Tail:
    """The progress in the events of a run's attempts, and the metric rows that are not stored yet.

    Speed and silence are measured by this process (monotonic clock), so they start again after a resume.
    """

    def __init__(self) -> None:
        self.step: int | None = None
        self.steps: int | None = None
        self.checkpoint: int | None = None
        self.metrics: dict[str, float | None] = {}
        self._rows: dict[tuple[int, str], float] = {}
        self._offsets: dict[Path, int] = defaultdict(int)
        self.begin()

    def begin(self) -> None:
        """Start measuring: the child starts now."""
        self.message: str | None = None
        self._heard_at = time.monotonic()
        self._marks: deque[tuple[float, int]] = deque(maxlen=RATE_MARKS)  # (when, step)

    def take(self, run: Run) -> None:
        """Read the new events of this attempt."""
        before, offset = self.step, None
        while offset != self._offsets[run.folder]:
            offset = self._offsets[run.folder]
            events, self._offsets[run.folder] = run.events(offset)
            for event in events:
                self._add(event)
            if events:
                self._heard_at = time.monotonic()
        if self.step is not None and self.step != before:
            self._marks.append((time.monotonic(), self.step))

    @property
    def silence_s(self) -> float:
        """Seconds since the last event."""
        return time.monotonic() - self._heard_at

    @property
    def rate(self) -> float | None:
        """Steps per second over the last renewals; None until two different steps were seen."""
        if len(self._marks) < 2:
            return None
        (then, first), (now, last) = self._marks[0], self._marks[-1]
        return (last - first) / (now - then) if last > first and now > then else None

    def progress(self) -> Progress:
        """The progress for a renewal of the lease."""
        return Progress(
            step=self.step,
            steps=self.steps,
            rate=self.rate,
            checkpoint=self.checkpoint,
            message=self.message,
            metrics=self.metrics,
            rows=self._rows,
        )

    def mark_stored(self) -> None:
        """Forget the rows of the last progress(), which are in the database now."""
        self._rows = {}

    def _add(self, event: dict[str, Any]) -> None:
        kind, step, message = event.get("event"), event.get("step"), event.get("message")
        steps, start = event.get("steps"), event.get("start", 0)
        if kind == "plan" and _is_count(steps) and _is_count(start):
            self.steps, self.step = steps, start
            self._marks.clear()
        elif kind in ("step", "evaluation") and _is_count(step):
            self.step = step
            self._measure(step, event.get("metrics"))
        elif kind == "checkpoint" and _is_count(step):
            self.checkpoint = max(step, self.checkpoint or 0)
        elif kind == "note" and isinstance(message, str):
            self.message = storable(message[:500])

    def _measure(self, step: int, metrics: object) -> None:
        for name, value in metrics.items() if isinstance(metrics, dict) else ():
            if not isinstance(value, int | float) or isinstance(value, bool) or len(name) > NAME_CHARACTERS:
                continue
            name = storable(name)
            if name in self.metrics or len(self.metrics) < METRICS:
                self.metrics[name] = self._rows[step, name] = _number(value)


def result_of(run: Run) -> Result | None:
    """The result of an attempt, or None while there is none. An unreadable result counts as failed."""
    try:
        return run.result
    except (ValueError, IsADirectoryError, RecursionError):
        damaged = CorruptFile("result.json does not hold a result.", next_step=_how_to_continue(run))
        return Result(state="failed", error=damaged.to_json())


def exit_error(run: Run, code: int | None) -> dict[str, Any]:
    """The error of a child that ended without a result, from its exit code (negative: a signal) and its log."""
    if not run.folder.is_dir():
        step = f"`stillroom retry {run.id}` starts again, from a checkpoint if an earlier attempt has one."
        return Crashed(f"The folder of the run was removed while it ran: {run.folder}.", next_step=step).to_json()
    log_end = last_lines(run.log)
    lines = f"The last lines of its log:\n{log_end}" if log_end else "It printed nothing."
    signal_number = -code if code and code < 0 else code - 128 if code and code > 128 else 0
    if code == errno.ENOSPC or "No space left on device" in log_end:
        step = f"Free some space; committed checkpoints are safe. {_how_to_continue(run)}"
        return DiskFull(f"The disk is full. {lines}", next_step=step).to_json()
    if signal_number in _EXTERNAL_SIGNALS:
        return _killed(run, signal.Signals(signal_number), lines).to_json()
    how = f"with {_signal_name(signal_number)}, a fault in native code" if signal_number else f"with exit code {code}"
    step = f"Read `stillroom logs {run.id}` for the whole log. {_how_to_continue(run)}"
    return Crashed(f"The training process ended {how}. {lines}", next_step=step).to_json()


def stall_error(run: Run) -> dict[str, Any]:
    """The error of a child that was stopped because it reported nothing."""
    return Stalled("The training process was alive but made no progress.", next_step=_how_to_continue(run)).to_json()


def storable(text: str) -> str:
    """Text that every database can store: NUL and lone surrogates are replaced."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()


def worker_error(error: Exception) -> dict[str, Any]:
    """The error of a job that its worker could not start or follow to its end."""
    if isinstance(error, StillroomError):
        return error.to_json()
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull("The disk is full.", next_step="Free some space; committed checkpoints are safe.").to_json()
    if isinstance(error, OSError) and (unusable := unavailable(error)):
        return unusable.to_json()
    step = "This is a fault of Stillroom or of its installation; the worker's log has the details."
    why = storable(f"{type(error).__name__}: {error}")[:LOG_BYTES]
    return Crashed(f"The worker could not continue this job: {why}", next_step=step).to_json()


def last_lines(path: Path) -> str:
    """The end of a log: at most LOG_LINES lines and LOG_BYTES bytes; empty if there is no log."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - LOG_BYTES))
            text = storable(file.read().decode(errors="replace"))
    except OSError:
        return ""
    return "\n".join(text.strip().splitlines()[-LOG_LINES:])


def _killed(run: Run, received: signal.Signals, lines: str) -> Killed:
    likely = "Usually the cause is that the system ran out of memory, or a manual kill -9."
    reason = likely if received == signal.SIGKILL else "Somebody, or the system, asked it to end."
    advice = "If memory ran out, free some or use smaller batches. " if received == signal.SIGKILL else ""
    return Killed(
        f"The training process was ended by {received.name}. {reason} {lines}", next_step=advice + _how_to_continue(run)
    )


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _how_to_continue(run: Run) -> str:
    return f"`stillroom retry {run.id}` continues from the last checkpoint."


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= COUNT


def _number(value: float) -> float:
    """The value as a float; infinity if it is too large for one."""
    try:
        return float(value)
    except OverflowError:
        return math.inf
