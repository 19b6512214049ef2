"""The log of a job, as it grows from one attempt to the next."""

import codecs
import time
from collections.abc import Iterator

from trainer.run import runs_dir

ALIVE = ("queued", "running")  # the other states are ends
POLL_S = 0.5


def lines(job_id: str, *, follow: bool) -> Iterator[str]:
    """The log of the newest attempt; with `follow` also what comes, of later attempts too, until the job ends."""
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
