"""Answers that are awaited, and the line of requests that they stand in."""

import contextlib
import itertools
import threading
import time
from concurrent.futures import Future, InvalidStateError

from trainer.prediction import Plain
from workbench.lab.failures import late, shutting_down
from workbench.lab.requests import Request


class Answer(Future):
    """A Future with a Prediction, an Explanation or an Ablation; its exception is always a StillroomError.

    stage: waiting, loading, reading or explaining. progress: the share of the rows that are read, 0 to 1, None before
    that is known; for an explanation it starts anew when `coarse` has come. coarse: the Explanation by sentences, as
    soon as it is there; the result is the fine one. Whoever is done, by `cancel` or a deadline too, is served no more.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stage = "waiting"
        self.progress: float | None = None
        self.coarse: Plain | None = None
        self.line: Line | None = None
        self._began = [(self.stage, time.monotonic())]
        self._cancelling = threading.RLock()

    @property
    def place(self) -> int:
        """How many requests are served before this one; 0 when it is being served or done."""
        return self.line.place(self) if self.line else 0

    def running(self) -> bool:
        """Whether its request is being served."""
        return self.stage != "waiting" and not self.done()

    def cancel(self) -> bool:
        """Ask no more, also in mid-work: from now on it is cancelled(). False if it was done before."""
        with self._cancelling:
            if not self.cancelled() and super().cancel():
                self.set_running_or_notify_cancel()  # tells those who wait for several futures
            return self.cancelled()

    def tell(self, *, stage: str | None = None, progress: float | None = None, coarse: Plain | None = None) -> None:
        """What its server reports meanwhile."""
        if stage and stage != self.stage:
            self._began.append((stage, time.monotonic()))
        self.stage, self.coarse = stage or self.stage, coarse or self.coarse
        self.progress = None if stage or coarse else progress

    def settle(self, result: Plain | None, error: Exception | None = None) -> None:
        """Give it its end, unless it has one."""
        with contextlib.suppress(InvalidStateError):  # cancelled or late meanwhile
            self.set_exception(error) if error else self.set_result(result)

    def expire_in(self, deadline_s: float) -> None:
        """From now on it has so many seconds; then it fails with TooLate, waiting or in mid-work."""
        timer = threading.Timer(deadline_s, lambda: self.settle(None, late(self._spent(), deadline_s)))
        timer.daemon = True
        timer.start()
        self.add_done_callback(lambda _: timer.cancel())

    def _spent(self) -> dict[str, float]:
        """Seconds in each stage so far."""
        began = [*self._began, ("", time.monotonic())]
        return {stage: end - start for (stage, start), (_, end) in itertools.pairwise(began)}


class Line:
    """Requests in the order they came; the first is the one that is served, and who is done has left."""

    def __init__(self) -> None:
        self._asked: dict[Answer, Request] = {}
        self._changed = threading.Condition()
        self._closed = False

    def join(self, request: Request, deadline_s: float | None = None) -> Answer:
        """The answer to a request, at the end of the line."""
        answer = Answer()
        answer.line = self
        with self._changed:
            closed = self._closed
            if not closed:
                self._asked[answer] = request
                self._changed.notify()
        if closed:
            answer.settle(None, shutting_down())
        elif deadline_s is not None:
            answer.expire_in(deadline_s)
        answer.add_done_callback(self._leave)
        return answer

    def first(self) -> tuple[Answer, Request] | None:
        """Who is to be served now, waiting until somebody is; None when the line is closed and empty."""
        with self._changed:
            self._changed.wait_for(lambda: self._asked or self._closed)
            return next(iter(self._asked.items()), None)

    def place(self, answer: Answer) -> int:
        """How many stand before it; 0 for one that has left."""
        with self._changed:
            return list(self._asked).index(answer) if answer in self._asked else 0

    def close(self) -> None:
        """Nobody joins any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _leave(self, answer: Answer) -> None:
        with self._changed:
            self._asked.pop(answer, None)
