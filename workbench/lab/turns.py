"""Requests that are served at the same time take turns: one of them computes, for a few batches, then the next."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LANES = 4  # requests that are served at the same time
TURN_S = 1.0  # seconds that a turn lasts at least, if there is so much to compute


class Turns:
    """The requests that want to compute, in a ring; the first holds the turn.

    announce: called with the number of a request whenever it gets the turn. least_s: seconds that a turn lasts at
    least.
    """

    def __init__(self, announce: Callable[[int], None] = lambda _: None, *, least_s: float = TURN_S) -> None:
        self._ring: deque[int] = deque()
        self._changed = threading.Condition()
        self._announce, self._least_s, self._began = announce, least_s, 0.0

    @contextmanager
    def taking(self, number: int) -> Iterator[None]:
        """The block is run with the turn, after waiting for it."""
        self._wait(number)
        try:
            yield
        finally:
            self._leave()

    def pass_on(self, number: int) -> float:
        """Let each other request have a turn, if this one has lasted; returns the seconds waited.

        Call it only while nothing is computed.
        """
        if len(self._ring) < 2 or time.perf_counter() - self._began < self._least_s:
            return 0.0
        import torch  # which is imported by now

        began, random = time.perf_counter(), torch.get_rng_state()
        self._leave()
        self._wait(number)
        torch.set_rng_state(random)  # what is drawn does not depend on who came between
        return time.perf_counter() - began

    def _wait(self, number: int) -> None:
        with self._changed:
            self._ring.append(number)
            self._changed.wait_for(lambda: self._ring[0] == number)
        self._began = time.perf_counter()
        self._announce(number)

    def _leave(self) -> None:
        with self._changed:
            self._ring.popleft()
            self._changed.notify_all()
