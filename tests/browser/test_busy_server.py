"""What polls must end well also where the server sends later than the browser asks."""

from pathlib import Path

import pytest
from browser.app_server import new_page, served
from browser.staged_jobs import FINETUNING, claimed, report

from trainer import queue
from trainer.queue import store

pytestmark = pytest.mark.browser
LAGGING = str(Path(__file__).parent / "lagging.py")


@pytest.mark.slow
def test_the_end_of_a_job_is_drawn_by_a_server_that_lags(home, browser):
    with served(home, program=(LAGGING,)) as server:
        page = new_page(browser, server, wait_ms=30_000)
        for seed in (1, 2, 3):  # each was a blank page in five of seven tries when an ended job was still a fragment
            with claimed(FINETUNING | {"seed": seed}) as lease:
                page.goto(f"{server.address}/jobs?job={lease.id}")
                page.get_by_text("Curves appear after the first step.").wait_for()
                report(lease, 10)
                page.get_by_text("25% · step 10 of 40").wait_for()
                page.wait_for_timeout(130 * seed)
                queue.finish(store.open_store(), lease, state="succeeded", artifact="/a/model")
                page.get_by_text("Succeeded").wait_for()
        page.close()
