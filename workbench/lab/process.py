"""The lab's child process as the server sees it: start it, ask it, stop its work, end it."""

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading

from trainer.offline import OFFLINE
from workbench.explain.explanation import Explanation
from workbench.lab.answers import Answer
from workbench.lab.failures import NO_MEMORY, LabFailed, OutOfMemory
from workbench.lab.frames import Frame, receive, send

STOP_S = 3.0  # seconds that a child may take to stop its work before it is killed
_QUIET = {**OFFLINE, "TOKENIZERS_PARALLELISM": "false"}
_POLITE = {
    "OMP_WAIT_POLICY": "PASSIVE"
}  # waiting threads sleep instead of spinning, and leave their cores to a training job


class Bystander(Exception):
    """The child ended while it computed for another request than this one."""


class Process:
    """A running child. Several threads ask it; any thread may cancel an answer, or end the child."""

    def __init__(self) -> None:
        self._child = subprocess.Popen(
            [sys.executable, "-m", "workbench.lab.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**_POLITE, **os.environ, **_QUIET},
        )
        assert self._child.stdin and self._child.stdout
        self._requests, self._reports = self._child.stdin, self._child.stdout
        self._count = 0  # requests so far
        self._inboxes: dict[int, queue.SimpleQueue[Frame | None]] = {}  # of each request what the child says; None last
        self._computing = 0  # the request that has the turn, or had it last
        self._blamed = 0  # the request that was being computed when the child ended by itself
        self._dismissed = False  # whether it was ended from here
        self._sending, self._ending = threading.Lock(), threading.Lock()
        self._ready, self._ended = threading.Event(), threading.Event()
        threading.Thread(target=self._sort, name="lab frames", daemon=True).start()

    @property
    def pid(self) -> int | None:
        """Its process id, None once it has ended."""
        return self._child.pid if self._child.poll() is None else None

    def wait_until_ready(self) -> None:
        """Wait until it has imported what models need. LabFailed if it ends instead."""
        self._ready.wait()
        if self._ended.is_set():
            raise self._failure()

    def ask(self, frame: Frame, answer: Answer) -> Frame:
        """Send a request, pass the child's reports to `answer`, and return its last frame, an answer or an error.

        If the answer is cancelled or too late, the child stops its work within STOP_S of computing, or is killed.
        Raises LabFailed if the child ends by itself while it computes for this request, Bystander if it ends otherwise.
        """
        with self._sending:
            self._count += 1
            number = self._count
            inbox = self._inboxes[number] = queue.SimpleQueue()
            if self._ended.is_set():
                inbox.put(None)
        finished = threading.Event()
        try:
            self._send(frame | {"number": number})
            answer.add_done_callback(lambda _: self._stop(number, finished))
            return self._follow(answer, inbox)
        except (OSError, EOFError):
            failure = self._failure()
            self._ended.wait()
            raise (failure if number == self._blamed and not self._dismissed else Bystander()) from None
        finally:
            with self._ending:
                finished.set()
            with self._sending:
                del self._inboxes[number]

    def end(self) -> None:
        """Kill it: it has nothing to save."""
        self._dismissed = True
        self._child.kill()
        self._child.wait()

    def _sort(self) -> None:
        """Hand each frame of the child to the thread that asked, until there are no more."""
        with contextlib.suppress(OSError, EOFError):
            while True:
                frame = receive(self._reports)
                number = frame.pop("number", 0)
                if "ready" in frame:
                    self._ready.set()
                elif "turn" in frame:
                    self._computing = number
                elif inbox := self._inboxes.get(number):
                    inbox.put(frame)
        with self._sending:
            asked = self._inboxes
            self._blamed = self._computing if self._computing in asked else min(asked, default=0)
            self._ended.set()
            self._ready.set()
            for inbox in asked.values():
                inbox.put(None)

    def _follow(self, answer: Answer, inbox: "queue.SimpleQueue[Frame | None]") -> Frame:
        while (news := inbox.get()) is not None:
            if {"answer", "error"} & news.keys():
                return news
            if "coarse" in news:
                news["coarse"] = Explanation.model_validate(news["coarse"])
            answer.report(**news)
        raise EOFError

    def _stop(self, number: int, finished: threading.Event) -> None:
        if finished.is_set():
            return
        # Not in this thread: a caller that cancels must not wait for a full pipe.
        threading.Thread(target=self._send_stop, args=(number,), daemon=True).start()
        self._end_later(number, finished)

    def _end_later(self, number: int, finished: threading.Event) -> None:
        timer = threading.Timer(STOP_S, self._end_unless, [number, finished])
        timer.daemon = True
        timer.start()

    def _send_stop(self, number: int) -> None:
        with contextlib.suppress(OSError):
            self._send({"stop": number})

    def _end_unless(self, number: int, finished: threading.Event) -> None:
        with self._ending:  # never while the next request may be on its way
            if finished.is_set():
                return
            if self._computing != number and self._computing in self._inboxes:
                self._end_later(number, finished)  # another request computes; this one stops when it has its turn
            else:
                self.end()

    def _send(self, frame: Frame) -> None:
        with self._sending:
            send(self._requests, frame)

    def _failure(self) -> LabFailed:
        """Why it has stopped answering."""
        try:
            code = self._child.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.end()
            return LabFailed("The process that runs the models stopped answering.")
        how = f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"
        if code in (-signal.SIGKILL, NO_MEMORY):
            return OutOfMemory(f"The process that runs the models {how}, as happens when memory runs out.")
        return LabFailed(f"The process that runs the models {how}.")
