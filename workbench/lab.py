"""The lab owns the models for interactive work: one child process that the page server spawns once.

    submit(text, arm) -> Answer, a Future[Prediction]      requests are served in the order they came

Requests and answers are JSON frames over the child's standard input and output, each behind its length in four bytes.
Note text is in these frames and in memory, and nowhere else: what libraries print in the child goes nowhere, its log
holds types and places of errors, and it may not dump core. When the child dies, the request it was at fails with
LabFailed and the next one starts a fresh child. When the server dies, the child's input ends and it exits, also in
mid-work.
"""

import atexit
import contextlib
import json
import os
import queue
import struct
import subprocess
import sys
import threading
import traceback
from concurrent.futures import Future
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

from trainer import registry
from trainer.errors import BadData, CorruptFile, Refused, StillroomError, Unavailable
from trainer.prediction import Prediction
from trainer.run import ResolvedModel
from workbench.note import Note
from workbench.predict import SHELF, Arm, predict

_LENGTH = struct.Struct(">I")
_OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "TOKENIZERS_PARALLELISM": "false"}
_POLITE = {"OMP_WAIT_POLICY": "PASSIVE"}  # a waiting thread leaves its core to a training job instead of spinning


class LabFailed(StillroomError):
    """The process that runs the models ended, or a model failed in a way nobody foresaw. Names the type, never text."""

    next_step = (
        "Run it again: a fresh process starts by itself. If it fails again, take a shorter note or fewer models, "
        "which need less memory."
    )


class Answer(Future):
    """A Future[Prediction]. Until it is done, `stage` says: waiting, loading or reading."""

    stage = "waiting"


class InProcessLab:
    """The lab in this process: for tests, and where models must live in the main process. It imports torch here."""

    def __init__(self) -> None:
        self._requests: queue.SimpleQueue[tuple[Answer, str, Arm] | None] = queue.SimpleQueue()
        threading.Thread(target=self._serve, name="lab", daemon=True).start()

    def submit(self, text: str, arm: Arm) -> Answer:
        """Queue one prediction. The answer's exception is always a StillroomError."""
        answer = Answer()
        self._requests.put((answer, text, arm))
        return answer

    def close(self) -> None:
        """Serve what waits, then stop."""
        self._requests.put(None)

    def _serve(self) -> None:
        while self._serve_next():
            pass

    def _serve_next(self) -> bool:
        # A call of its own: the thread may wait for hours, and no note may stay in its variables meanwhile.
        request = self._requests.get()
        if request is None:
            return False
        answer, text, arm = request
        if answer.set_running_or_notify_cancel():
            try:
                answer.set_result(self._predict(answer, text, arm))
            except Exception as error:
                answer.set_exception(_typed(error).with_traceback(None))
        return True

    def _predict(self, answer: Answer, text: str, arm: Arm) -> Prediction:
        answer.stage = "loading"
        model = registry.resolve(arm.model)
        SHELF.take(model)
        answer.stage = "reading"
        return predict(Note(text), model, reading=arm.reading, max_tokens=arm.max_tokens, name=arm.name)


class Lab(InProcessLab):
    """The lab in a child process, started with the first request."""

    def __init__(self) -> None:
        self._child: subprocess.Popen | None = None
        self._closed = False
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
            self._child.kill()
            self._child.wait()

    def _predict(self, answer: Answer, text: str, arm: Arm) -> Prediction:
        answer.stage = "loading"
        model = registry.resolve(arm.model).model_dump()
        child = self._alive()
        try:
            send(child.stdin, {"text": text, "model": model, "arm": arm.model_dump(), "name": arm.name})
            while "stage" in (frame := receive(child.stdout)):
                answer.stage = frame["stage"]
        except (OSError, EOFError):
            raise LabFailed(f"The process that runs the models {_ending(child)}.") from None
        if "error" in frame:
            raise _revived(frame["error"])
        return Prediction.model_validate(frame["prediction"])

    def _alive(self) -> subprocess.Popen:
        if self._closed:
            raise LabFailed("The app is shutting down.", next_step="Start it again.")
        if self.pid is None:
            command = [sys.executable, "-m", "workbench.lab"]
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
            self._child = subprocess.Popen(command, **pipes, env={**_POLITE, **os.environ, **_OFFLINE})
        return self._child


@cache
def shared() -> InProcessLab:
    """The one lab of this server; every page and session asks it. On ZeroGPU Spaces models live in the main process."""
    return InProcessLab() if os.environ.get("SPACES_ZERO_GPU") else Lab()


def send(stream: BinaryIO, frame: dict) -> None:
    """Write one frame. ASCII JSON, so that a lone surrogate passes too."""
    data = json.dumps(frame).encode("ascii")
    stream.write(_LENGTH.pack(len(data)) + data)
    stream.flush()


def receive(stream: BinaryIO) -> dict:
    """Read one frame; EOFError where the stream ends instead."""
    head = stream.read(_LENGTH.size)
    data = stream.read(_LENGTH.unpack(head)[0]) if len(head) == _LENGTH.size else b""
    if not data:
        raise EOFError
    return json.loads(data)


def _ending(child: subprocess.Popen) -> str:
    try:
        code = child.wait(timeout=5)
    except subprocess.TimeoutExpired:
        child.kill()
        return "stopped answering"
    killed = " (signal 9 often means that memory ran out)" if code == -9 else ""
    return f"was ended by signal {-code}{killed}" if code < 0 else f"ended with code {code}"


def _typed(error: Exception) -> StillroomError:
    """The error itself if it is one of ours; otherwise only its type, since its message may quote the note."""
    if isinstance(error, StillroomError):
        return error
    return LabFailed(f"The model failed with {type(error).__name__}.")


def _revived(error: dict) -> StillroomError:
    known = {kind.__name__: kind for kind in (BadData, CorruptFile, Refused, Unavailable)}
    return known.get(error["type"], LabFailed)(error["message"], next_step=error["next_step"])


def main() -> None:
    """The child: answer frames until the input ends."""
    requests, answers, log = _own_streams()
    waiting: queue.SimpleQueue[dict] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(requests, waiting), daemon=True).start()
    _limit_threads()
    while True:
        send(answers, _answer(waiting.get(), answers, log))


def _own_streams() -> tuple[BinaryIO, BinaryIO, Any]:
    """Keep the pipes for frames; what libraries print could quote a note, so it goes nowhere."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    log = os.fdopen(os.dup(2), "w", buffering=1)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    with contextlib.suppress(ImportError):  # Windows has no core dumps to forbid
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    return requests, answers, log


def _listen(requests: BinaryIO, waiting: queue.SimpleQueue) -> None:
    # A thread of its own, so that the child notices at once, even in mid-work, that the server is gone.
    try:
        while True:
            waiting.put(receive(requests))
    except (EOFError, OSError):
        os._exit(0)


def _limit_threads() -> None:
    import torch

    torch.set_num_threads(int(os.environ.get("STILLROOM_LAB_THREADS") or min(2, os.cpu_count() or 1)))


def _answer(request: dict, answers: BinaryIO, log: Any) -> dict:
    try:
        arm = Arm.model_validate(request["arm"])
        model = ResolvedModel.model_validate(request["model"])
        SHELF.take(model)
        send(answers, {"stage": "reading"})
        found = predict(
            Note(request["text"]), model, reading=arm.reading, max_tokens=arm.max_tokens, name=request["name"]
        )
        return {"prediction": found.model_dump(mode="json")}
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        log.write(f"lab: {type(error).__name__} in {Path(place.filename).name}, line {place.lineno}\n")
        return {"error": _typed(error).to_json()}


if __name__ == "__main__":
    main()
