"""The lab's child process as the server sees it: start it, ask it, stop its work, end it."""

import contextlib
import os
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


class Process:
    """A running child. One thread asks it; any thread may cancel an answer, or end the child."""

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
        self._sending, self._ending = threading.Lock(), threading.Lock()

    @property
    def pid(self) -> int | None:
        """Its process id, None once it has ended."""
        return self._child.pid if self._child.poll() is None else None

    def wait_until_ready(self) -> None:
        """Wait until it has imported what models need. LabFailed if it ends instead."""
        try:
            receive(self._reports)
        except (OSError, EOFError):
            raise self._failure() from None

    def ask(self, frame: Frame, answer: Answer) -> Frame:
        """Send a request, pass the child's reports to `answer`, and return its last frame, an answer or an error.

        If the answer is cancelled or too late, the child stops within STOP_S or is killed, which raises LabFailed.
        """
        self._count += 1
        number, finished = self._count, threading.Event()
        try:
            self._send(frame | {"number": number})
            answer.add_done_callback(lambda _: self._stop(number, finished))
            return self._follow(answer)
        except (OSError, EOFError):
            raise self._failure() from None
        except Exception:
            self.end()  # its next frames would be about this request
            raise
        finally:
            with self._ending:
                finished.set()

    def end(self) -> None:
        """Kill it: it has nothing to save."""
        self._child.kill()
        self._child.wait()

    def _follow(self, answer: Answer) -> Frame:
        while not {"answer", "error"} & (news := receive(self._reports)).keys():
            if "coarse" in news:
                news["coarse"] = Explanation.model_validate(news["coarse"])
            answer.report(**news)
        return news

    def _stop(self, number: int, finished: threading.Event) -> None:
        if finished.is_set():
            return
        waiting = threading.Timer(STOP_S, self._end_unless, [finished])
        # Not in this thread: a caller that cancels must not wait for a full pipe.
        for thread in (waiting, threading.Thread(target=self._send_stop, args=(number,))):
            thread.daemon = True
            thread.start()

    def _send_stop(self, number: int) -> None:
        with contextlib.suppress(OSError):
            self._send({"stop": number})

    def _end_unless(self, finished: threading.Event) -> None:
        with self._ending:  # never while the next request may be on its way
            if not finished.is_set():
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
