"""A note of very many hostile characters in Chromium: shown as its text on Compare, in the report and on Explain."""

from pathlib import Path

import pytest
from browser.app_server import SETTLED, new_page
from browser.staged_jobs import publish
from browser.test_compare import HOSTILE, filled

from workbench.highlight import displayable
from workbench.highlight.panes import LONG

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(600)]
WAIT_MS = 200_000  # two models read a quarter of a million tokens each
SIZES = [1_000_000, 20_000]  # characters


IS_THE_NOTE = """(pane, note) => { const copy = pane.cloneNode(true);
    copy.querySelectorAll('.sr-chip, .sr-head').forEach(e => e.remove()); return copy.textContent === note }"""
AT_THE_END = """e => { e.scrollTop = e.scrollHeight;
    return new Promise(drawn => requestAnimationFrame(() => setTimeout(drawn, 0))) }"""


def hostile_note(size: int) -> str:
    """A note of `size` characters that begins with many short lines and ends with a very long one."""
    line = f"{HOSTILE}\nFever after naloxone.\x07 \u200f</script><script>document.title = 'taken'</script>\n"
    long_line = HOSTILE.replace("\n", " ") * (size // 400)
    return f"{line * (size // 833)}{long_line}\n".ljust(size, "x")


def kind_of(note: str) -> str:
    """The class of the panes of a note that is long."""
    return ".sr-long" if len(note) > LONG else ""


@pytest.mark.parametrize("size", SIZES)
def test_very_many_hostile_characters_are_text_on_compare_in_the_report_and_on_explain(
    size, app, browser, tiny_model, tmp_path
):
    note = hostile_note(size)
    runs = [publish(tiny_model, seed, silence=13.0) for seed in (11, 12)]
    page = new_page(browser, app, wait_ms=WAIT_MS)
    page.goto(f"{app.address}/?model={runs[0]}&model={runs[1]}")
    filled(page)
    _upload_and_compare(page, note)
    _is_text(page, note)
    page.locator(".sr-panes").evaluate(AT_THE_END)
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("n")
    assert page.locator(".sr-at").inner_text().startswith("1 of ")
    _report_is_text(page, note, tmp_path / "report.html")
    page.get_by_role("link", name="Explain").first.click()
    page.get_by_role("heading", name="Explain").wait_for()
    page.locator(f".sr-panes{kind_of(note)} mark").first.wait_for()
    _is_text(page, note)
    assert "onerror" not in page.url and "onerror" not in app.log.read_text() and page.elsewhere == []
    page.close()


def _idle(page) -> None:
    page.wait_for_timeout(1000)
    page.locator(SETTLED).wait_for()


def _upload_and_compare(page, note: str) -> None:
    page.get_by_role("button", name="Change the note").click()
    page.get_by_role("radio", name="Upload").click()
    file = {"name": "long.txt", "mimeType": "text/plain", "buffer": note.encode()}
    page.locator("input[type=file]").set_input_files(file)
    _idle(page)
    page.get_by_role("button", name="Compare").click()
    page.locator(f".sr-panes{kind_of(note)}").filter(has_text="Fever after naloxone").wait_for()
    page.locator(".sr-waiting").first.wait_for(state="detached")
    page.get_by_role("button", name="Filter").wait_for()
    _idle(page)


def _is_text(page, note: str) -> None:
    """Every pane is the note, and nothing in it was taken for anything but text."""
    assert page.locator(".sr-pane").count()
    for pane in page.locator(".sr-pane").all():
        assert pane.evaluate(IS_THE_NOTE, displayable(note))  # control characters as their pictures
        assert pane.locator("img, script, a").count() == 0
    assert page.title() != "taken"


def _report_is_text(page, note: str, path: Path) -> None:
    page.get_by_text("Export", exact=True).click()
    page.get_by_text("Include the note's text").click()
    _idle(page)
    with page.expect_download() as download:
        page.get_by_role("button", name="Report (HTML)").click()
    download.value.save_as(path)
    sheet = page.context.new_page()
    sheet.set_default_timeout(WAIT_MS)
    sheet.goto(path.as_uri())
    assert sheet.locator(".sr-note").evaluate("(e, note) => e.textContent === note", displayable(note))
    assert sheet.locator("img, script, a").count() == 0 and sheet.title() != "taken"
    sheet.close()
