"""The lab's child process: it answers frames until its input ends, a few in turns, and leaves no text behind."""

import contextlib
import gc
import os
import queue
import threading
import traceback
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from workbench.lab import requests
from workbench.lab.failures import NO_MEMORY, as_stillroom_error
from workbench.lab.frames import Frame, receive, send
from workbench.lab.turns import LANES, Turns


class Inbox:
    """Incoming frames: requests in order, and `stopped`, the numbers of those that are to stop."""

    def __init__(self, stream: BinaryIO) -> None:
        self.requests: queue.SimpleQueue[Frame] = queue.SimpleQueue()
        self.stopped: set[int] = set()
        # In its own thread, so that the child notices at once, even during its work, that the server is gone.
        threading.Thread(target=self._listen, args=(stream,), daemon=True).start()

    def _listen(self, stream: BinaryIO) -> None:
        try:
            while True:
                self._accept(receive(stream))
        except (EOFError, OSError):
            os._exit(0)
        except BaseException as error:
            os._exit(NO_MEMORY if isinstance(error, MemoryError) else 1)

    def _accept(self, frame: Frame) -> None:
        # A function of its own, so that no note stays in the variables of a waiting thread.
        if "stop" in frame:
            self.stopped.add(frame["stop"])
        else:
            self.requests.put(frame)


class Outbox:
    """Outgoing frames of several threads, each with the number of its request."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self._sending = stream, threading.Lock()

    def send(self, frame: Frame) -> None:
        """Send one frame whole."""
        with self._sending:
            send(self._stream, frame)

    def announce(self, number: int) -> None:
        """Say whose turn it is."""
        self.send({"number": number, "turn": True})


def main() -> None:
    """Answer frames until the input ends."""
    inbound, answers, log = _open_streams()
    _prefer_to_be_killed()
    inbox, outbox = Inbox(inbound), Outbox(answers)
    _import_libraries()
    turns = Turns(outbox.announce)
    lanes = [threading.Thread(target=_serve_all, args=(inbox, outbox, turns, log), daemon=True) for _ in range(LANES)]
    for lane in lanes:
        lane.start()
    outbox.send({"ready": True})
    for lane in lanes:
        lane.join()


def _serve_all(inbox: Inbox, outbox: Outbox, turns: Turns, log: TextIO) -> None:
    import torch

    torch.set_num_threads(int(os.environ.get("STILLROOM_LAB_THREADS") or min(2, os.cpu_count() or 1)))
    try:
        while True:
            _serve(inbox, outbox, turns, log)
    except BaseException as error:  # such as too little memory even to report it
        os._exit(NO_MEMORY if isinstance(error, MemoryError) else 1)


def _serve(inbox: Inbox, outbox: Outbox, turns: Turns, log: TextIO) -> None:
    # A function of its own, so that no note stays in the variables of a waiting thread.
    frame = inbox.requests.get()
    number = frame["number"]

    def report(**news: Any) -> None:
        frame = {name: each.model_dump(mode="json") if name == "coarse" else each for name, each in news.items()}
        outbox.send({"number": number} | frame)

    try:
        result = requests.answer(frame, report=report, cancelled=lambda: number in inbox.stopped, turns=turns)
        last: Frame = {"answer": result.model_dump(mode="json")}
    except Exception as error:
        *_, (place, line) = traceback.walk_tb(error.__traceback__)
        log.write(f"lab: {type(error).__name__} in {Path(place.f_code.co_filename).name}, line {line}\n")
        last = {"error": as_stillroom_error(error).to_json()}
    inbox.stopped.discard(number)
    outbox.send({"number": number} | last)


def _open_streams() -> tuple[BinaryIO, BinaryIO, TextIO]:
    """Reserve the pipes for frames; what libraries print could quote a note, so it is discarded."""
    inbound, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    log = os.fdopen(os.dup(2), "w", buffering=1)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    with contextlib.suppress(ImportError):  # Windows has no core dumps to forbid
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    return inbound, answers, log


def _prefer_to_be_killed() -> None:
    # When memory runs out, Linux kills the lab rather than a training job, which would lose more.
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500")


def _import_libraries() -> None:
    """Import what every request needs; this takes seconds, which a cancelled first request would lose again."""
    gc.disable()  # what is imported stays; to look for garbage in it takes a seventh of that time
    import trainer.inference.target_score
    import trainer.models  # noqa: F401

    gc.freeze()
    gc.enable()


if __name__ == "__main__":
    main()
