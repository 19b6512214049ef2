"""Answers to requests, and the queue in which the requests wait."""

import contextlib
import itertools
import threading
import time
from concurrent.futures import Future, InvalidStateError
from typing import Any

from trainer.prediction import Plain
from workbench.explain.explanation import Explanation
from workbench.lab.failures import shutting_down, too_late
from workbench.lab.requests import Request


class Answer(Future[Any]):
    """A Future with a Prediction, an Explanation or an Ablation; its exception is always a StillroomError.

    stage: waiting, loading, reading or explaining. progress: the share of rows read, 0 to 1, None while it is unknown;
    for an explanation it starts again once `coarse` is there. coarse: the Explanation by sentences, as soon as it is
    there; the result is the fine one. An answer that is done, also by `cancel` or a deadline, is no longer served.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stage = "waiting"
        self.progress: float | None = None
        self.coarse: Explanation | None = None
        self.queue: RequestQueue | None = None
        self._began = [(self.stage, time.monotonic())]
        self._cancelling = threading.RLock()

    @property
    def place(self) -> int:
        """How many requests before this one are not done; 0 when it is being served or done."""
        return self.queue.place(self) if self.queue else 0

    def running(self) -> bool:
        """Whether its request is being served."""
        return self.stage != "waiting" and not self.done()

    def cancel(self) -> bool:
        """Withdraw the request, even while it is being served. False if it was done before."""
        with self._cancelling:
            if not self.cancelled() and super().cancel():
                self.set_running_or_notify_cancel()  # wakes those who wait for several futures
            return self.cancelled()

    def report(
        self, *, stage: str | None = None, progress: float | None = None, coarse: Explanation | None = None
    ) -> None:
        """Take a report of its server on a request that is being served."""
        if stage and stage != self.stage:
            self._began.append((stage, time.monotonic()))
        self.stage, self.coarse = stage or self.stage, coarse or self.coarse
        self.progress = None if stage or coarse else progress

    def settle(self, result: Plain | None, error: Exception | None = None) -> None:
        """Set its result or error, unless it is done."""
        with contextlib.suppress(InvalidStateError):  # cancelled or too late
            self.set_exception(error) if error else self.set_result(result)

    def expire_in(self, deadline_s: float) -> None:
        """Make the request fail with TooLate after this many seconds, even while it is being served."""
        timer = threading.Timer(deadline_s, lambda: self.settle(None, too_late(self._spent(), deadline_s)))
        timer.daemon = True
        timer.start()
        self.add_done_callback(lambda _: timer.cancel())

    def _spent(self) -> dict[str, float]:
        """Seconds in each stage so far."""
        began = [*self._began, ("", time.monotonic())]
        return {stage: end - start for (stage, start), (_, end) in itertools.pairwise(began)}


class RequestQueue:
    """Requests in the order they came; some are being served, and those that are done have left."""

    def __init__(self) -> None:
        self._requests: dict[Answer, Request] = {}
        self._served: set[Answer] = set()
        self._changed = threading.Condition()
        self._closed = False

    def add(self, request: Request, deadline_s: float | None = None) -> Answer:
        """Put a request at the end of the queue; its answer fails with LabFailed if the queue is closed."""
        answer = Answer()
        answer.queue = self
        with self._changed:
            closed = self._closed
            if not closed:
                self._requests[answer] = request
                self._changed.notify_all()
        if closed:
            answer.settle(None, shutting_down())
        elif deadline_s is not None:
            answer.expire_in(deadline_s)
        answer.add_done_callback(lambda _: self._remove(answer))
        return answer

    def take(self) -> tuple[Answer, Request] | None:
        """The request to serve now, waiting until there is one; None when the queue is closed and no request waits.

        It is the first about a note that no other request is being served for: those of one note follow each other.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._next() or self._closed and not self._waiting())
            if taken := self._next():
                self._served.add(taken[0])
            return taken

    def _next(self) -> tuple[Answer, Request] | None:
        busy = {self._requests[answer].text for answer in self._served}
        return next((item for item in self._waiting() if item[1].text not in busy), None)

    def _waiting(self) -> list[tuple[Answer, Request]]:
        return [item for item in self._requests.items() if item[0] not in self._served]

    def place(self, answer: Answer) -> int:
        """How many requests before it are not done; 0 for one that is being served or has left."""
        with self._changed:
            waits = answer in self._requests and answer not in self._served
            return list(self._requests).index(answer) if waits else 0

    def close(self) -> None:
        """Take no more requests."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _remove(self, answer: Answer) -> None:
        with self._changed:
            self._requests.pop(answer, None)
            self._served.discard(answer)
            self._changed.notify_all()
