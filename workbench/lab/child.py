"""The lab's child process: it answers frames until its input ends, and leaves no text anywhere."""

import contextlib
import os
import queue
import threading
import traceback
from pathlib import Path
from typing import Any, BinaryIO

from workbench.lab import requests
from workbench.lab.failures import NO_MEMORY, typed
from workbench.lab.frames import receive, send


class Inbox:
    """What has come in: requests one after the other, and the number of the last one that is to stop."""

    def __init__(self, stream: BinaryIO) -> None:
        self.requests: queue.SimpleQueue[dict] = queue.SimpleQueue()
        self.stopped = 0
        # A thread of its own, so that the child notices at once, even in mid-work, that the server is gone.
        threading.Thread(target=self._listen, args=(stream,), daemon=True).start()

    def _listen(self, stream: BinaryIO) -> None:
        try:
            while True:
                self._take(receive(stream))
        except (EOFError, OSError):
            os._exit(0)
        except BaseException as error:
            os._exit(NO_MEMORY if isinstance(error, MemoryError) else 1)

    def _take(self, frame: dict) -> None:
        # A call of its own, so that no note stays in the variables of a thread that waits.
        if "stop" in frame:
            self.stopped = max(self.stopped, frame["stop"])
        else:
            self.requests.put(frame)


def main() -> None:
    """Answer frames until the input ends."""
    inbound, answers, log = _own_streams()
    _give_way_in_memory()
    inbox = Inbox(inbound)
    _import_libraries()
    send(answers, {"ready": True})
    try:
        while True:
            _serve(inbox, answers, log)
    except MemoryError:  # too little even to say so
        os._exit(NO_MEMORY)


def _serve(inbox: Inbox, answers: BinaryIO, log: Any) -> None:
    frame = inbox.requests.get()

    def tell(**news: Any) -> None:
        send(answers, {name: said.model_dump(mode="json") if name == "coarse" else said for name, said in news.items()})

    try:
        found = requests.answer(frame, tell=tell, cancelled=lambda: inbox.stopped >= frame["number"])
        end = {"answer": found.model_dump(mode="json")}
    except Exception as error:
        *_, (place, line) = traceback.walk_tb(error.__traceback__)
        log.write(f"lab: {type(error).__name__} in {Path(place.f_code.co_filename).name}, line {line}\n")
        end = {"error": typed(error).to_json()}
    send(answers, end)


def _own_streams() -> tuple[BinaryIO, BinaryIO, Any]:
    """Keep the pipes for frames; what libraries print could quote a note, so it goes nowhere."""
    inbound, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    log = os.fdopen(os.dup(2), "w", buffering=1)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    with contextlib.suppress(ImportError):  # Windows has no core dumps to forbid
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    return inbound, answers, log


def _give_way_in_memory() -> None:
    # Where memory runs out, Linux ends the lab before a training job, which would lose more.
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500")


def _import_libraries() -> None:
    """What every request needs: seconds that are not lost when the first one is cancelled."""
    import torch

    import trainer.inference.target_score
    import trainer.models  # noqa: F401

    torch.set_num_threads(int(os.environ.get("STILLROOM_LAB_THREADS") or min(2, os.cpu_count() or 1)))


if __name__ == "__main__":
    main()
