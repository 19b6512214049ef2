"""Wait estimates from what this process has measured itself; there is none before the first measurement."""

import threading
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from workbench.highlight.markup import count
from workbench.lab import Answer


class Totals(NamedTuple):
    """Sums over the answers of one kind: sizes of the notes, tokens read, seconds taken."""

    size: float = 0.0
    tokens: float = 0.0
    seconds: float = 0.0


class Pace:
    """Measures finished answers by kind (a model, or a model and a method), and counts those that are not done.

    size: characters of the note, which the time of an answer grows with.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._measured: dict[str, Totals] = {}
        self._waiting: dict[Answer, tuple[str, int]] = {}

    def follow(self, answer: Answer, kind: str, size: int) -> None:
        """Count an answer as waiting until it is done, then measure it."""
        with self._lock:
            self._waiting[answer] = (kind, size)
        answer.add_done_callback(lambda _: self._measure(answer))

    def _measure(self, answer: Answer) -> None:
        succeeded = not answer.cancelled() and not answer.exception()
        with self._lock:
            kind, size = self._waiting.pop(answer)
            if succeeded:
                cost = answer.result().cost
                seconds, before = cost.latency_ms / 1000, self._measured.get(kind, Totals())
                more = Totals(size, cost.tokens_per_second * seconds, seconds)
                self._measured[kind] = Totals(*map(sum, zip(before, more, strict=True)))

    def seconds(self, kind: str, size: int) -> float | None:
        """Estimated seconds for one answer of this kind and size; None if none has been measured yet."""
        totals = self._measured.get(kind)
        return size * totals.seconds / totals.size if totals else None

    def ahead(self) -> tuple[int, float | None]:
        """How many requests are waiting, and their estimated seconds in all; None if one of them has no estimate."""
        with self._lock:
            waiting = list(self._waiting.values())
        return len(waiting), _sum(self.seconds(kind, size) for kind, size in waiting)

    def tokens_per_second(self, kinds: Sequence[str]) -> float | None:
        """The mean speed of answers of these kinds; None if none has been measured yet."""
        totals = [self._measured[kind] for kind in kinds if kind in self._measured]
        seconds = sum(each.seconds for each in totals)
        return sum(each.tokens for each in totals) / seconds if seconds else None

    def words(self, kinds: Sequence[str], size: int) -> str:
        """The wait for one answer of each kind, as a line of text."""
        requests, before = self.ahead()
        queue = f"{count(requests, 'request')} ahead" if requests else "nobody is ahead of you"
        alone = _sum(self.seconds(kind, size) for kind in kinds)
        if alone is None or before is None:
            return f"The wait is not known: not everything has been measured on this server yet; {queue}."
        speed = f"{self.tokens_per_second(kinds):,.0f} tokens/s measured on this server"
        return f"Wait: {_about(alone + before)}, at {speed}; {queue}."


PACE = Pace()  # of this process


def _sum(parts: Iterable[float | None]) -> float | None:
    """The sum; None if a part is."""
    total = 0.0
    for part in parts:
        if part is None:
            return None
        total += part
    return total


def _about(seconds: float) -> str:
    if seconds < 1:
        return "less than a second"
    return f"about {seconds:.0f} s" if seconds < 90 else f"about {seconds / 60:.0f} min"
