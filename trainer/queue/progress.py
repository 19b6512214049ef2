"""What a run folder says to the worker that follows it: progress so far, and how the child ended."""

import errno
import math
import signal
import time
from collections import defaultdict, deque
from pathlib import Path

from trainer.bounds import COUNT
from trainer.errors import CorruptFile, StillroomError
from trainer.home import unavailable
from trainer.queue import Progress
from trainer.run import Result, Run

RETRIES = {"DiskFull": 3, "Stalled": 1}  # accidents that may pass: tries again without a new checkpoint in between
LOG_LINES, LOG_BYTES = 20, 4000  # of a dead child's log, shown in its error
NAME_CHARACTERS, METRICS = 200, 1000  # of a metric's name; how many different ones a run may have
RATE_MARKS = 60  # renewals over which the speed is taken

_FROM_OUTSIDE = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGXCPU)


class Killed(StillroomError):
    """The child was ended by a signal from outside."""


class Crashed(StillroomError):
    """The child ended without saying why in a result."""


class DiskFull(StillroomError):
    """There is no room left for the run."""


class Stalled(StillroomError):
    """The child lived but said nothing for too long."""


class Tail:
    """What the events of a run's attempts say so far, and the metric rows that are not recorded yet.

    Speed and silence are this process's own observation (monotonic clock), so a resume starts them anew.
    """

    def __init__(self) -> None:
        self.step: int | None = None
        self.steps: int | None = None
        self.checkpoint: int | None = None
        self.metrics: dict[str, float] = {}
        self._rows: dict[tuple[int, str], float] = {}
        self._offsets: dict[Path, int] = defaultdict(int)
        self.begin()

    def begin(self) -> None:
        """The child starts now."""
        self.message: str | None = None
        self._heard_at = time.monotonic()
        self._marks: deque[tuple[float, int]] = deque(maxlen=RATE_MARKS)  # (when, step)

    def take(self, run: Run) -> None:
        """Read the events of this attempt that are new."""
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
        """Seconds without an event."""
        return time.monotonic() - self._heard_at

    @property
    def rate(self) -> float | None:
        """Steps per second over the last renewals; None before there are two marks."""
        if len(self._marks) < 2:
            return None
        (then, first), (now, last) = self._marks[0], self._marks[-1]
        return (last - first) / (now - then) if last > first and now > then else None

    def progress(self) -> Progress:
        """All of it, as a renewal reports it."""
        return Progress(
            step=self.step,
            steps=self.steps,
            rate=self.rate,
            checkpoint=self.checkpoint,
            message=self.message,
            metrics=self.metrics,
            rows=self._rows,
        )

    def recorded(self) -> None:
        """The rows of the last progress() are in the database."""
        self._rows = {}

    def _add(self, event: dict) -> None:
        kind, step, message = event.get("event"), event.get("step"), event.get("message")
        if kind == "plan" and _is_count(event.get("steps")) and _is_count(event.get("start", 0)):
            self.steps, self.step = event["steps"], event.get("start", 0)
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
    """The result of an attempt, or None while there is none; one that cannot be read is a failure."""
    try:
        return run.result
    except (ValueError, IsADirectoryError, RecursionError):
        damaged = CorruptFile("result.json does not hold a result.", next_step=_goes_on(run))
        return Result(state="failed", error=damaged.to_json())


def ending(run: Run, code: int | None) -> dict:
    """The typed error of a child that ended without a result: its exit code (negative: signal) and its last lines."""
    if not run.folder.is_dir():
        step = f"`stillroom retry {run.id}` starts anew, from a checkpoint only if an earlier attempt left one."
        return Crashed(f"The folder of the run was removed while it ran: {run.folder}.", next_step=step).to_json()
    said = last_lines(run.log)
    lines = f"The last lines of its log:\n{said}" if said else "It printed nothing."
    number = -code if code and code < 0 else code - 128 if code and code > 128 else 0
    if code == errno.ENOSPC or "No space left on device" in said:
        step = f"Free some space; what is committed is safe. {_goes_on(run)}"
        return DiskFull(f"The disk is full. {lines}", next_step=step).to_json()
    if number in _FROM_OUTSIDE:
        return _killed(run, signal.Signals(number), lines).to_json()
    how = f"with {_signal_name(number)}, a fault in native code" if number else f"with exit code {code}"
    step = f"Read `stillroom logs {run.id}` for the whole log. {_goes_on(run)}"
    return Crashed(f"The training process ended {how}. {lines}", next_step=step).to_json()


def stalled(run: Run) -> dict:
    """The typed error of a child that was stopped because it said nothing."""
    return Stalled("The training process lived, but made no progress.", next_step=_goes_on(run)).to_json()


def storable(text: str) -> str:
    """Text that every database can hold: without NUL, and with a mark in the place of half a character."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()


def typed(error: Exception) -> dict:
    """The error of a job that its worker could not start, or not follow to its end."""
    if isinstance(error, StillroomError):
        return error.to_json()
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull("The disk is full.", next_step="Free some space; what is committed is safe.").to_json()
    if isinstance(error, OSError) and (unusable := unavailable(error)):
        return unusable.to_json()
    step = "This is a fault of Stillroom or of its installation; the worker's log has the details."
    why = storable(f"{type(error).__name__}: {error}")[:LOG_BYTES]
    return Crashed(f"The worker could not go on with this job: {why}", next_step=step).to_json()


def last_lines(path: Path) -> str:
    """The end of a log: at most LOG_LINES lines and LOG_BYTES bytes; empty if there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - LOG_BYTES))
            text = storable(file.read().decode(errors="replace"))
    except OSError:
        return ""
    return "\n".join(text.strip().splitlines()[-LOG_LINES:])


def _killed(run: Run, number: signal.Signals, lines: str) -> Killed:
    likely = "Most often this is the system, out of memory, or somebody's kill -9."
    reason = likely if number == signal.SIGKILL else "Somebody, or the system, asked it to end."
    advice = "Free memory or make batches smaller if it ran out. " if number == signal.SIGKILL else ""
    return Killed(
        f"The training process was ended by {number.name}. {reason} {lines}", next_step=advice + _goes_on(run)
    )


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _goes_on(run: Run) -> str:
    return f"`stillroom retry {run.id}` goes on from the last checkpoint."


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= COUNT


def _number(value: float) -> float:
    """The value as a float; one that is too large for it is infinite."""
    try:
        return float(value)
    except OverflowError:
        return math.inf
