"""Train, Jobs and Zoo in real Chromium: what only a browser shows, above all that a running job moves by itself."""

from contextlib import ExitStack

import pytest
from browser.accessibility import unreached, violations
from browser.app_server import SETTLED
from browser.staged_jobs import FINETUNING, claimed, report
from playwright.sync_api import Page, expect

from trainer import queue
from trainer.queue import store

pytestmark = pytest.mark.browser
HOSTILE = "<img src=x onerror=alert(1)>:red[x]$\\alpha$**b**"
WAIT_MS = 30_000
POLLS_MS = 5_000  # long enough for two


@pytest.fixture
def address(app):
    return app.address


@pytest.fixture
def page(browser):
    page = browser.new_page()
    page.set_default_timeout(WAIT_MS)
    expect.set_options(timeout=WAIT_MS)
    yield page
    page.close()


@pytest.fixture
def start(app):
    """Submit a job and claim it; what is still running at the end is cancelled."""
    with ExitStack() as stack:
        yield lambda **fields: stack.enter_context(claimed(FINETUNING | fields))


def test_a_running_job_moves_by_itself_until_it_ends(page: Page, address, start):
    lease = start(seed=1)
    page.goto(f"{address}/jobs?job={lease.id}")
    expect(page.get_by_text("Curves appear after the first step.")).to_be_visible()
    page.evaluate("window.notReloaded = true")

    report(lease, 10)
    expect(page.get_by_text("25% · step 10 of 40 · about 30 seconds left")).to_be_visible()
    expect(page.locator(".js-plotly-plot")).to_have_count(2)
    report(lease, 30)
    expect(page.get_by_text("75% · step 30 of 40 · about 10 seconds left")).to_be_visible()
    expect(page.get_by_test_id("stMetric").filter(has_text="Dev F1, latest")).to_contain_text("0.375")
    assert not violations(page) and not unreached(page)

    queue.finish(store.open_store(), lease, state="succeeded", artifact="/a/model")
    expect(page.get_by_text("Succeeded")).to_be_visible()
    expect(page.get_by_role("button", name="Compare this model")).to_be_visible()
    expect(page.get_by_role("button", name="Cancel")).to_have_count(0)
    assert page.evaluate("window.notReloaded") is True


@pytest.mark.slow
def test_a_page_on_which_nothing_moves_does_not_poll(page: Page, address, start):
    frames = []
    page.on("websocket", lambda socket: socket.on("framereceived", lambda frame: frames.append(frame)))
    lease = start(seed=4)
    page.goto(f"{address}/jobs?job={lease.id}")
    expect(page.get_by_text("Curves appear after the first step.")).to_be_visible()
    queue.finish(store.open_store(), lease, state="succeeded", artifact="/a/model")
    expect(page.get_by_text("Succeeded")).to_be_visible()
    page.locator(SETTLED).wait_for()
    page.wait_for_timeout(1000)
    heard = len(frames)
    page.wait_for_timeout(POLLS_MS)
    assert len(frames) == heard, "the page still polls although nothing moves"


@pytest.mark.slow
def test_the_list_moves_by_itself_and_opens_a_job(page: Page, address, start):
    lease = start(seed=2)
    page.goto(f"{address}/jobs")
    report(lease, 20)
    expect(page.get_by_text("50% · step 20 of 40")).to_be_visible()
    page.get_by_role("link", name=lease.id).click()
    expect(page.get_by_role("heading", name=f"Job {lease.id}")).to_be_visible()
    page.wait_for_url(f"**/jobs?job={lease.id}")
    page.get_by_role("link", name="All jobs").click()
    expect(page.get_by_role("heading", name="Jobs", exact=True)).to_be_visible()
    page.wait_for_url("**/jobs")


@pytest.mark.slow
def test_cancelling_asks_first_and_survives_the_polling(page: Page, address, start):
    lease = start(seed=3)
    page.goto(f"{address}/jobs?job={lease.id}")
    page.get_by_role("button", name="Cancel", exact=False).first.click()
    page.wait_for_timeout(POLLS_MS)
    assert not queue.job(lease.id).cancel_requested
    page.get_by_role("button", name="Cancel this job").click()
    expect(page.get_by_text("Stopping")).to_be_visible()
    assert queue.job(lease.id).cancel_requested


@pytest.mark.slow
def test_from_the_form_to_the_job(page: Page, address):
    page.goto(f"{address}/train")
    seed = 12345
    page.get_by_text("Other settings").click()
    page.get_by_label("Seed", exact=True).fill(str(seed))
    page.get_by_label("Seed", exact=True).press("Tab")
    expect(page.get_by_text(f"seed: {seed}")).to_be_visible()
    page.get_by_role("button", name="Queue this job").click()
    page.get_by_role("link", name="View progress").click()
    job = queue.jobs()[0]
    assert job.spec["seed"] == seed
    expect(page.get_by_role("heading", name=f"Job {job.id}")).to_be_visible()
    queue.cancel(job.id)
    expect(page.get_by_text("Cancelled")).to_be_visible()


@pytest.mark.slow
def test_a_typed_folder_is_read_and_its_bad_line_is_named(page: Page, address, tmp_path):
    for split in ("train", "dev", "test"):
        (tmp_path / f"{split}.conll").write_text("Fever\tB-Disease\n.\tO\textra\n\n")
    page.goto(f"{address}/train")
    box = page.get_by_role("combobox", name="Data set")
    box.fill(str(tmp_path))
    box.press("Enter")
    expect(page.get_by_text("train.conll, line 2: 3 columns")).to_be_visible()


@pytest.mark.slow  # tests/pages/test_jobs.py has the same of what the page sends
@pytest.mark.parametrize("width", [1280, 390])
def test_names_that_look_like_markup_stay_text(page: Page, address, start, width):
    dialogs = []
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    lease = start(model=HOSTILE, seed=width)
    error = {"type": "UnknownName", "message": f"No model {HOSTILE}.", "next_step": "Choose another."}
    queue.finish(store.open_store(), lease, state="failed", error=error)
    page.set_viewport_size({"width": width, "height": 900})
    for path in ("jobs", f"jobs?job={lease.id}", f"train?from={lease.id}"):
        page.goto(f"{address}/{path}")
        if path.startswith("train"):
            expect(page.get_by_role("textbox", name="Model")).to_have_value(HOSTILE)  # not of the list, so typed on
        else:
            expect(page.get_by_text(f"{HOSTILE} fine-tuned on").first).to_be_visible()
        assert page.locator("img[src='x'], .katex").count() == 0
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert not dialogs


def test_selecting_a_model_of_the_zoo_puts_it_into_the_address(page: Page, address):
    page.goto(f"{address}/zoo")
    table = page.get_by_test_id("stDataFrame").first
    table.locator("[role=gridcell]").filter(has_text="MiniLM").first.wait_for(state="attached")  # it has its rows
    page.wait_for_timeout(1000)  # the canvas draws after it is visible
    table.click(position={"x": 16, "y": 35 + 17})
    expect(page.get_by_role("heading", name="MiniLM", exact=True)).to_be_visible()
    page.wait_for_url("**/zoo?model=minilm")
    page.reload()
    expect(page.get_by_role("heading", name="MiniLM", exact=True)).to_be_visible()
    assert not violations(page) and not unreached(page)
