"""Distilling in real Chromium: from the choice of the kind to the queued job, with the layer map drawn on the way."""

import pytest
from browser.accessibility import unreached, violations
from playwright.sync_api import Page, expect

from trainer import queue

pytestmark = pytest.mark.browser
WAIT_MS = 60_000


@pytest.fixture
def page(browser):
    page = browser.new_page()
    page.set_viewport_size({"width": 390, "height": 900})
    page.set_default_timeout(WAIT_MS)
    expect.set_options(timeout=WAIT_MS)
    yield page
    page.close()


def test_a_student_is_described_tried_and_queued_on_a_narrow_screen(page: Page, app):
    page.goto(f"{app.address}/train")
    page.get_by_role("radio", name="Distil", exact=True).or_(page.get_by_role("button", name="Distil")).first.click()
    expect(page.get_by_text("Layer map", exact=True).first).to_be_visible()
    figure = page.locator(".js-plotly-plot")
    expect(figure).to_have_count(1)
    expect(figure.get_by_text("embeddings").first).to_be_visible()
    assert not violations(page) and not unreached(page)

    layers = page.get_by_label("Layers", exact=True)
    layers.fill("2")
    layers.press("Tab")
    expect(page.get_by_text("layers 1, 2 start as copies")).to_be_visible()
    hidden = page.get_by_label("Hidden", exact=True)
    hidden.fill("200")
    hidden.press("Tab")
    expect(page.get_by_text("heads do not divide the hidden size 200")).to_be_visible()
    expect(page.get_by_role("button", name="Estimate cost")).to_be_disabled()
    hidden.fill("")
    hidden.press("Tab")
    expect(page.get_by_text("heads do not divide the hidden size 200")).to_have_count(0)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")

    page.get_by_role("button", name="Estimate cost").click()
    expect(page.get_by_text("Running two steps")).to_be_visible()
    page.get_by_role("button", name="Stop", exact=True).last.click()
    expect(page.get_by_text("Running two steps")).to_have_count(0)

    page.get_by_role("button", name="Queue this job").click()
    page.get_by_role("link", name="View progress").click()
    job = queue.jobs()[0]
    expect(page.get_by_role("heading", name=f"Job {job.id}")).to_be_visible()
    assert (job.kind, job.spec["student"]["layers"]) == ("distill", 2)
    assert "libtorch" not in app.libraries()
    queue.cancel(job.id)
