"""The Explain page in Chromium, with starter models: coarse, then fine; the verdict, the table, two models, stop."""

import re

import pytest
from browser.accessibility import unreached, violations
from browser.app_server import new_page
from browser.staged_jobs import FINETUNING, claimed
from browser.test_compare import HOSTILE
from conftest import tiny_assertion_model
from left_models import leave

from trainer import queue
from trainer.queue import store

pytestmark = pytest.mark.browser
WAIT_MS = 90_000
NOTE = "HISTORY: Nausea since he takes naloxone.\n\nPLAN: Stop naloxone. Hepatitis is unlikely, no sepsis."


@pytest.fixture
def page(app, browser):
    """The page with a pasted note that two starters have read."""
    page = reading(browser, app, "explain?model=minilm-bc5cdr-l3&model=minilm-bc5cdr")
    yield page
    page.close()


def reading(browser, app, path: str):
    """A new page at this path, with the note pasted and read by both models: a sample's findings are not the note's."""
    page = new_page(browser, app, wait_ms=WAIT_MS)
    page.goto(f"{app.address}/{path}")
    if path.startswith("?"):  # Compare has read a sample, and its note has folded
        page.get_by_role("button", name="Change the note").click()
    page.get_by_role("radio", name="Paste").click()
    page.get_by_role("textbox", name="Text of the note").fill(NOTE)
    page.keyboard.press("Control+Enter")
    page.locator(".sr-pane").filter(has_text="Stop naloxone").nth(1).locator("mark.sr-span").first.wait_for()
    return page


def test_coarse_then_stopped_then_two_models_to_the_end_and_on_a_phone(page, app):
    page.get_by_test_id("stExpander").get_by_text("Details", exact=True).click()
    page.get_by_text("Also check infidelity").click()  # long enough to be seen and stopped
    page.get_by_role("button", name="Explain").click()
    # One look at both: the first model's words may be there a moment later.
    page.locator(".stMain:has(.sr-unmeasured) .sr-scores").filter(has_text="sentences").first.wait_for()
    page.locator(".sr-progress").first.wait_for()
    stop = page.get_by_test_id("stMain").get_by_role("button", name="Stop")  # the toolbar may have one too
    stop.click()
    stop.wait_for(state="detached")
    page.get_by_text("stopped", exact=True).first.wait_for()
    page.locator(".sr-unmeasured").first.wait_for()  # the coarse stays; it is drawn after the word

    page.get_by_text("Also check infidelity").click()
    page.get_by_role("button", name="Explain").click()
    page.get_by_text("with the strongest support").wait_for()
    page.get_by_text("its score for").first.wait_for()
    page.locator(".sr-better, .sr-doubtful").nth(1).wait_for()
    assert page.locator(".sr-pane").first.locator(".sr-line mark .sr-chip").count() == 10
    assert page.locator(".sr-scores thead").inner_text().count("Rank") == 2

    jump = page.locator(".sr-scores .sr-jump").first
    jump.focus()
    page.keyboard.press("Enter")
    place = page.locator(jump.get_attribute("href"))
    page.wait_for_function("e => e.matches(':target')", arg=place.element_handle(), timeout=5000)
    assert place.inner_text().startswith(jump.inner_text())

    page.locator(".sr-ask-selected[data-listens]").wait_for(state="attached")
    page.locator(".sr-why .sr-line").filter(has_text="PLAN").first.dblclick(position={"x": 12, "y": 10})
    page.get_by_role("button", name="Ask about these words").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_text("“PLAN”").wait_for()
    assert dialog.get_by_text("Nothing found here").count() == 2
    dialog.get_by_role("link", name="Explain why not").wait_for()
    page.keyboard.press("Escape")
    dialog.wait_for(state="detached")

    assert page.url.count("model=") == 2 and "naloxone" not in page.url.lower()
    assert "naloxone" not in app.log.read_text().lower()
    assert "libtorch" not in app.libraries()
    assert page.elsewhere == []
    assert not violations(page) and not unreached(page)

    page.set_viewport_size({"width": 390, "height": 844})
    one_below_the_other = """() => {
        const [first, second] = [...document.querySelectorAll('.sr-pane')].map(pane => pane.getBoundingClientRect());
        return second && second.top >= first.bottom - 1 && first.width > 300 }"""
    page.wait_for_function(one_below_the_other)  # the page may still be drawn
    assert page.evaluate("document.documentElement.scrollWidth") <= 390, "nothing is wider than a phone"


@pytest.fixture
def assertions(app, tmp_path) -> str:
    """A run whose model says of problems whether the patient has them."""
    with claimed(FINETUNING | {"seed": 50}) as lease:
        artifact = str(leave(lease.id, tiny_assertion_model(tmp_path / "model")))
        queue.finish(store.open_store(), lease, state="succeeded", artifact=artifact)
    return lease.id


@pytest.mark.slow
def test_a_hostile_note_stays_text_in_findings_dialog_why_absent_export_and_after_a_reload(
    app, browser, assertions, tmp_path
):
    page = new_page(browser, app, wait_ms=WAIT_MS)
    page.goto(f"{app.address}/?model={assertions}")
    page.get_by_role("button", name="Change the note").click()
    page.get_by_role("radio", name="Paste").click()
    page.get_by_role("textbox", name="Text of the note").fill(HOSTILE)
    page.keyboard.press("Control+Enter")
    page.locator(".sr-pane:not(.sr-waiting)").filter(has_text="onerror").wait_for()
    page.locator(".sr-findings .sr-ask").first.click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("link", name="Explain").first.wait_for()
    assert not harmed(page)
    page.keyboard.press("Escape")
    dialog.wait_for(state="detached")

    page.get_by_test_id("stTopNavLink").filter(has_text="Explain").click()
    page.get_by_role("combobox", name="Finding to explain").fill("Why ")
    page.get_by_role("option", name=re.compile("^Why ")).first.click()
    page.get_by_role("button", name=re.compile("^Explain")).click()
    page.locator(".sr-better, .sr-doubtful, .sr-unmeasured").first.wait_for()
    page.get_by_text("Export", exact=True).click()
    assert not harmed(page)
    with page.expect_download() as download:
        page.get_by_role("button", name="Report (HTML)").click()
    download.value.save_as(tmp_path / "report.html")
    assert "onerror" not in (tmp_path / "report.html").read_text()

    page.reload()
    page.get_by_text("is gone").wait_for()
    assert "onerror" not in page.content() and "onerror" not in page.url and "onerror" not in app.log.read_text()
    assert page.elsewhere == []
    page.close()


def harmed(page) -> bool:
    """Whether a note became more than text: an element of its own, a link, or a colour."""
    inside = page.locator(
        ":is(.sr-pane, .sr-findings td, [role=dialog] p) :is(img, script, a:not(.sr-jump, [href^='#']))"
    )
    return bool(inside.count()) or "onerror" in page.url


@pytest.mark.slow
def test_a_finding_of_compare_is_explained_by_a_click_and_its_link(app, browser):
    page = reading(browser, app, "?model=minilm-bc5cdr&model=minilm-bc5cdr-l3")
    page.locator("mark.sr-span").filter(has_text="naloxone").first.click()
    link = page.get_by_role("dialog").get_by_role("link", name="Explain").first
    link.wait_for()
    link.click()
    page.get_by_role("heading", name="Explain", exact=True).wait_for()
    page.locator(".sr-better, .sr-doubtful").nth(1).wait_for()
    start, end = NOTE.index("naloxone"), NOTE.index(".")
    assert f"target={start}%3A{end}%3AChemical" in page.url
    assert "Stop" not in page.url and "naloxone" not in page.url
    page.close()
