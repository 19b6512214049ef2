"""The log of a job, across its attempts."""

import codecs
import time
from collections.abc import Iterator

from trainer.home import runs_dir

ALIVE = ("queued", "running")  # every other state is final
POLL_S = 0.5


def read(job_id: str, *, follow: bool) -> Iterator[str]:
    """Yield the log of the newest attempt; with `follow` also additions and later attempts, until the job ends."""
    from trainer import queue, run

    current = None
    while True:
        ended = queue.job(job_id).state not in ALIVE  # asked first, so that the last lines are read after the end
        newest = next(iter(run.attempts(runs_dir(), job_id)), None)
        if newest != current:
            current, offset, decoder = newest, 0, codecs.getincrementaldecoder("utf-8")(errors="replace")
        if current and current.log.is_file():
            with current.log.open("rb") as file:
                file.seek(offset)
                data = file.read()
            offset += len(data)
            yield decoder.decode(data)
        if ended or not follow:
            return
        time.sleep(POLL_S)
