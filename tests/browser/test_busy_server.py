"""What polls must end well also where the server sends later than the browser asks."""

import os
import sys
from pathlib import Path

import pytest

from trainer import queue
from trainer.queue import store
from trainer.queue.engines import Process
from trainer.spec import parse

sys.path.insert(0, str(Path(__file__).parent))
from app_server import browsing, served  # noqa: E402
from test_jobs import report  # noqa: E402

pytestmark = pytest.mark.browser
LAGGING = str(Path(__file__).parent / "lagging.py")


def test_the_end_of_a_job_is_drawn_by_a_server_that_lags(tmp_path, chromium, monkeypatch):
    monkeypatch.setenv("STILLROOM_HOME", str(tmp_path))
    worker = queue.enlist(store.open_store(), device="cpu", process=Process.of(os.getpid()))
    with served(tmp_path, program=(LAGGING,)) as server, browsing(chromium) as browser:
        page = browser.new_page()
        page.set_default_timeout(30_000)
        for seed in (1, 2, 3):  # each was a blank page in five of seven tries when an ended job was still a fragment
            queue.submit(parse({"kind": "finetune", "model": "minilm", "dataset": "ncbi-disease-slice", "seed": seed}))
            lease = queue.claim(store.open_store(), worker)
            page.goto(f"{server.address}/jobs?job={lease.id}")
            page.get_by_text("The curves start with the first step.").wait_for()
            report(lease, 10)
            page.get_by_text("25% · step 10 of 40").wait_for()
            page.wait_for_timeout(130 * seed)
            queue.finish(store.open_store(), lease, state="succeeded", artifact="/a/model")
            page.get_by_text("Succeeded").wait_for()
