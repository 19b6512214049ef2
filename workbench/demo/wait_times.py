"""How long a request will take, from what this process has measured itself: no figure before the first measurement."""

import threading
from collections.abc import Sequence
from concurrent.futures import Future
from typing import NamedTuple

from workbench.highlight.markup import count


class Measured(NamedTuple):
    """Sums over the answers of one kind: the size of what was asked, tokens that were read, seconds it took."""

    size: float = 0.0
    tokens: float = 0.0
    seconds: float = 0.0


class Pace:
    """Answers of each kind (a model, a method), measured when they are done; those under way until then.

    A size is what an answer's time grows with: the characters of a note.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._measured: dict[str, Measured] = {}
        self._waiting: dict[Future, tuple[str, int]] = {}

    def follow(self, answer: Future, kind: str, size: int) -> None:
        """Count an answer as under way until it is done, and then measure it."""
        with self._lock:
            self._waiting[answer] = (kind, size)
        answer.add_done_callback(self._done)

    def _done(self, answer: Future) -> None:
        good = not answer.cancelled() and not answer.exception()
        with self._lock:
            kind, size = self._waiting.pop(answer)
            if good:
                cost = answer.result().cost
                seconds, before = cost.latency_ms / 1000, self._measured.get(kind, Measured())
                more = Measured(size, cost.tokens_per_second * seconds, seconds)
                self._measured[kind] = Measured(*map(sum, zip(before, more, strict=True)))

    def seconds(self, kind: str, size: int) -> float | None:
        """What an answer of this kind and size will take by itself; None if none was measured yet."""
        known = self._measured.get(kind)
        return size * known.seconds / known.size if known else None

    def ahead(self) -> tuple[int, float | None]:
        """How many requests are under way, and their seconds; None if one of them cannot be foretold."""
        with self._lock:
            waiting = list(self._waiting.values())
        each = [self.seconds(*one) for one in waiting]
        return len(each), None if None in each else sum(each)

    def tokens_per_second(self, kinds: Sequence[str]) -> float | None:
        """The mean speed of answers of these kinds; None if none was measured yet."""
        known = [self._measured[kind] for kind in kinds if kind in self._measured]
        seconds = sum(each.seconds for each in known)
        return sum(each.tokens for each in known) / seconds if seconds else None

    def words(self, kinds: Sequence[str], size: int) -> str:
        """The wait for one answer of each kind, said in a line."""
        requests, before = self.ahead()
        queue = f"{count(requests, 'request')} ahead" if requests else "nobody is ahead of you"
        alone = [self.seconds(kind, size) for kind in kinds]
        if None in alone or before is None:
            return f"Not all of it was measured on this server yet, so the wait is not known; {queue}."
        speed = f"{self.tokens_per_second(kinds):,.0f} tokens/s measured on this server"
        return f"Wait: {_about(sum(alone) + before)}, by {speed}; {queue}."


PACE = Pace()  # of this process


def _about(seconds: float) -> str:
    if seconds < 1:
        return "less than a second"
    return f"about {seconds:.0f} s" if seconds < 90 else f"about {seconds / 60:.0f} min"
