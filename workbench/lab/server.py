"""Where the line is served: one request at a time, in this process or by a child."""

import atexit
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from functools import partial
from typing import Any

from trainer import registry
from trainer.prediction import Plain
from workbench.explain.explanation import Explanation
from workbench.lab import requests
from workbench.lab.answers import Answer, Line
from workbench.lab.failures import LabFailed, OutOfMemory, revived, typed
from workbench.lab.frames import receive, send
from workbench.lab.requests import HOW, RESULTS, Request
from workbench.predict import Arm
from workbench.shelf import SHELF

STOP_S = 3.0  # so long a child may take to stop its work before it is killed
_OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "TOKENIZERS_PARALLELISM": "false"}
_POLITE = {"OMP_WAIT_POLICY": "PASSIVE"}  # a waiting thread leaves its core to a training job instead of spinning


class InProcessLab:
    """The lab in this process: for tests, and where models must live in the main process. It imports torch here."""

    def __init__(self) -> None:
        self._line = Line()
        threading.Thread(target=self._serve, name="lab", daemon=True).start()

    def submit(self, text: str, arm: Arm, *, deadline_s: float | None = None) -> Answer:
        """What the arm finds in the text: an Answer with a Prediction.

        deadline_s: seconds from now after which the answer fails with TooLate, whether it waits or is being served.
        """
        return self._line.join(Request(text, arm), deadline_s)

    def explain(self, text: str, arm: Arm, target: str, *, deadline_s: float | None = None, **how: Any) -> Answer:
        """Why the arm says `target` (START:END:LABEL or LABEL): an Answer with an Explanation, `coarse` before it.

        how: method_name, options, grain, baseline, context, orders and checks of workbench.explain.explain_text.
        """
        if unknown := set(how) - HOW:
            raise TypeError(f"explain has no option {sorted(unknown)[0]!r}; it has {', '.join(sorted(HOW))}")
        return self._line.join(Request(text, arm, "explain", {"target": target, **how}), deadline_s)

    def ablate(
        self,
        text: str,
        arm: Arm,
        target: str,
        places: Sequence[tuple[int, int]],
        *,
        context: bool = True,
        deadline_s: float | None = None,
    ) -> Answer:
        """The target's probability without the [start, end) places of the text: an Answer with an Ablation."""
        options = {"target": target, "places": [list(place) for place in places], "context": context}
        return self._line.join(Request(text, arm, "ablate", options), deadline_s)

    def close(self) -> None:
        """Serve what waits, then stop."""
        self._line.close()

    def _serve(self) -> None:
        while self._serve_next():
            pass

    def _serve_next(self) -> bool:
        # A call of its own: the thread may wait for hours, and no note may stay in its variables meanwhile.
        first = self._line.first()
        if first is None:
            return False
        answer, request = first
        try:
            answer.settle(self._answer(answer, request))
        except Exception as error:
            answer.settle(None, typed(error).with_traceback(None))
        return True

    def _answer(self, answer: Answer, request: Request) -> Plain:
        frame = request.to_frame(registry.resolve(request.arm.model))
        try:
            return requests.answer(frame, tell=answer.tell, cancelled=answer.done)
        except Exception as error:
            if isinstance(typed(error), OutOfMemory):
                SHELF.clear()
            raise


class Lab(InProcessLab):
    """The lab in a child process, started with the first request."""

    def __init__(self) -> None:
        self._child: subprocess.Popen | None = None
        self._closed = False
        self._sending = threading.Lock()
        self._served = 0  # requests so far; the number of the one at work
        atexit.register(self.close)
        super().__init__()

    @property
    def pid(self) -> int | None:
        """The child's process id, while there is one."""
        return self._child.pid if self._child and self._child.poll() is None else None

    def close(self) -> None:
        """End the child at once; requests that wait start no other."""
        self._closed = True
        super().close()
        atexit.unregister(self.close)
        if self._child:
            _end(self._child)

    def _answer(self, answer: Answer, request: Request) -> Plain:
        frame = request.to_frame(registry.resolve(request.arm.model))
        child, self._served = self._alive(), self._served + 1
        answer.tell(stage="loading")
        finished = threading.Event()
        try:
            self._send(child, frame | {"number": self._served})
            answer.add_done_callback(partial(self._stop, child, self._served, finished))
            end = _follow(child, answer)
        except (OSError, EOFError):
            raise _ending(child) from None
        finally:
            finished.set()
        if "answer" in end:
            return RESULTS[request.kind].model_validate(end["answer"])
        error = revived(end["error"])
        if isinstance(error, OutOfMemory):
            _end(child)  # whatever it holds is given back
        raise error

    def _stop(self, child: subprocess.Popen, number: int, finished: threading.Event, _: Answer) -> None:
        """The answer is done before its work is: stop the child's work, or the child where it goes on."""
        if not finished.is_set():
            threading.Thread(target=self._stop_work, args=(child, number, finished), daemon=True).start()

    def _stop_work(self, child: subprocess.Popen, number: int, finished: threading.Event) -> None:
        threading.Thread(target=self._send, args=(child, {"stop": number}), daemon=True).start()  # a full pipe blocks
        if not finished.wait(STOP_S):
            child.kill()

    def _send(self, child: subprocess.Popen, frame: dict) -> None:
        with self._sending:
            send(child.stdin, frame)

    def _alive(self) -> subprocess.Popen:
        if self._closed:
            raise LabFailed("The app is shutting down.", next_step="Start it again.")
        if self.pid is None:
            command = [sys.executable, "-m", "workbench.lab.child"]
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
            self._child = subprocess.Popen(command, **pipes, env={**_POLITE, **os.environ, **_OFFLINE})
        return self._child


def _follow(child: subprocess.Popen, answer: Answer) -> dict:
    """Pass on what the child tells until its last frame, which holds an answer or an error."""
    while not {"answer", "error"} & (frame := receive(child.stdout)).keys():
        if "coarse" in frame:
            frame["coarse"] = Explanation.model_validate(frame["coarse"])
        answer.tell(**frame)
    return frame


def _end(child: subprocess.Popen) -> None:
    child.kill()
    child.wait()


def _ending(child: subprocess.Popen) -> LabFailed:
    try:
        code = child.wait(timeout=5)
    except subprocess.TimeoutExpired:
        _end(child)
        return LabFailed("The process that runs the models stopped answering.")
    if code == -9:
        return OutOfMemory(
            "The process that runs the models was ended by signal 9, as the system does when memory runs out."
        )
    how = f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"
    return LabFailed(f"The process that runs the models {how}.")
