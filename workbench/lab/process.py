"""The lab's child process as the server sees it: started, asked, told to stop, ended."""

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
from workbench.lab.frames import receive, send

STOP_S = 3.0  # so long a child may take to stop its work before it is killed
_QUIET = {**OFFLINE, "TOKENIZERS_PARALLELISM": "false"}
_POLITE = {"OMP_WAIT_POLICY": "PASSIVE"}  # a waiting thread leaves its core to a training job instead of spinning


class Process:
    """A running child. One thread asks it; any thread may find that an answer is done, or end it."""

    def __init__(self) -> None:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        environment = {**_POLITE, **os.environ, **_QUIET}
        self._child = subprocess.Popen([sys.executable, "-m", "workbench.lab.child"], **pipes, env=environment)
        self._asked = 0
        self._sending, self._ending = threading.Lock(), threading.Lock()

    @property
    def pid(self) -> int | None:
        """Its process id, while it lives."""
        return self._child.pid if self._child.poll() is None else None

    def wait_until_ready(self) -> None:
        """Until it has imported what models need. Raises LabFailed where it ends instead."""
        try:
            receive(self._child.stdout)
        except (OSError, EOFError):
            raise self._failure() from None

    def ask(self, frame: dict, answer: Answer) -> dict:
        """Its last frame about a request, with an answer or an error; what it tells before goes to `answer`.

        Once the answer is done, by a cancel or a deadline, the child stops within STOP_S or is killed: LabFailed.
        """
        self._asked += 1
        number, finished = self._asked, threading.Event()
        try:
            self._send(frame | {"number": number})
            answer.add_done_callback(lambda _: self._stop(number, finished))
            return self._follow(answer)
        except (OSError, EOFError):
            raise self._failure() from None
        except Exception:
            self.end()  # what it says next would be about this request
            raise
        finally:
            with self._ending:
                finished.set()

    def end(self) -> None:
        """End it at once; it keeps nothing that would need more."""
        self._child.kill()
        self._child.wait()

    def _follow(self, answer: Answer) -> dict:
        while not {"answer", "error"} & (news := receive(self._child.stdout)).keys():
            if "coarse" in news:
                news["coarse"] = Explanation.model_validate(news["coarse"])
            answer.tell(**news)
        return news

    def _stop(self, number: int, finished: threading.Event) -> None:
        if finished.is_set():
            return
        waiting = threading.Timer(STOP_S, self._end_unless, [finished])
        # Not in this thread: whoever cancels must not wait for a pipe that is full.
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

    def _send(self, frame: dict) -> None:
        with self._sending:
            send(self._child.stdin, frame)

    def _failure(self) -> LabFailed:
        """Why it says no more."""
        try:
            code = self._child.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.end()
            return LabFailed("The process that runs the models stopped answering.")
        how = f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"
        if code in (-signal.SIGKILL, NO_MEMORY):
            return OutOfMemory(f"The process that runs the models {how}, as happens when memory runs out.")
        return LabFailed(f"The process that runs the models {how}.")
