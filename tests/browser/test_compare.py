"""The Compare page in Chromium: a long sample, spans in two panes, a disagreement followed; no torch, no other host."""

import re
from pathlib import Path

import pytest
from browser.accessibility import unreached, violations
from browser.app_server import SETTLED, new_page
from browser.staged_jobs import publish

pytestmark = pytest.mark.browser
WAIT_MS = 90_000
LONG = "Erythema nodosum without a cause"
HOSTILE = (
    "<img src=x onerror=alert(1)> :red[x] $\\alpha$ [a](http://x.example)\n\tשלום \u202eabc e\u0301 👩🏽‍⚕️ &amp; </div>"
)


@pytest.fixture(scope="module")
def address(app, tiny_model):
    """A link to the comparison of two published runs with different last layers."""
    runs = [publish(tiny_model, seed) for seed in (1, 2)]
    return f"{app.address}/?model={runs[0]}&model={runs[1]}"


@pytest.fixture
def page(app, address, browser):
    """The Compare page, opened by the link, with everything that it requested from other hosts."""
    page = new_page(browser, app, wait_ms=WAIT_MS)
    page.goto(address)
    yield page
    page.close()


def filled(page) -> None:
    """Until both panes have their spans."""
    page.locator(".sr-panes .sr-pane").nth(1).wait_for(timeout=WAIT_MS)
    page.locator(".sr-waiting").first.wait_for(state="detached", timeout=WAIT_MS)
    page.locator(".sr-rail").wait_for(timeout=WAIT_MS)


def choose(page, source: str) -> None:
    """Choose a sample, or another source, in the note's field, which is one line once the note is read."""
    page.get_by_role("button", name="Change the note").click()
    page.get_by_role("radio", name=source).click()


def test_a_long_sample_a_disagreement_followed_and_no_torch_in_the_web_process(page, app):
    choose(page, LONG)
    page.get_by_text("read all 3,425 tokens").first.wait_for(timeout=WAIT_MS, state="attached")
    filled(page)
    for pane in page.locator(".sr-pane").all():
        assert pane.locator("mark.sr-span").count() > 0 and pane.locator("mark .sr-chip").count() > 0

    jump = page.locator(".sr-jump").last
    place = page.locator(jump.get_attribute("href"))
    assert not _in_view(page, place)
    jump.click()
    page.wait_for_function("e => e.matches(':target')", arg=place.element_handle(), timeout=5000)
    assert _in_view(page, place)
    assert page.locator(".sr-rail").is_visible() and _in_view(page, jump)  # the next one is at hand

    assert "sample=erythema-nodosum-consult" in page.url and page.url.count("model=") == 2
    assert "libtorch" not in app.libraries()
    assert page.elsewhere == []


def _in_view(page, place) -> bool:
    """Whether the middle of an element is what one sees at that point of the window."""
    return place.evaluate(
        """e => { const r = e.getClientRects()[0], x = r.x + r.width / 2, y = r.y + r.height / 2;
                  const seen = document.elementFromPoint(x, y); return !!seen && (e.contains(seen) || seen.contains(e))
                    && y > 0 && y < innerHeight && !seen.classList.contains('sr-head'); }"""
    )


@pytest.mark.slow
def test_a_note_is_never_shown_twice_while_answers_come(page):
    filled(page)
    page.evaluate(
        """() => { window.most = 0; const panes = document.getElementsByClassName('sr-panes');
                   const look = () => { window.most = Math.max(window.most, panes.length); };
                   look(); new MutationObserver(look).observe(document, {childList: true, subtree: true}); }"""
    )
    choose(page, "Heart failure under gemcitabine")
    page.locator(".sr-pane").filter(has_text="gemcitabine").nth(1).wait_for(timeout=WAIT_MS)
    filled(page)
    page.get_by_role("button", name="Filter").wait_for()
    page.locator(SETTLED).wait_for(timeout=WAIT_MS)
    assert page.evaluate("window.most") == 1


@pytest.mark.slow
def test_next_and_previous_by_key_and_button_show_the_place_and_keep_the_focus(page):
    choose(page, "Heart failure under gemcitabine")
    page.locator(".sr-pane").filter(has_text="gemcitabine").nth(1).wait_for(timeout=WAIT_MS)
    filled(page)
    page.locator(".sr-step").last.wait_for()
    address, places = page.url, page.locator(".sr-jump").count()
    assert places > 12
    here, at = page.locator(".sr-here"), page.locator(".sr-at")
    page.evaluate("document.activeElement.blur()")
    for presses, key, place in ((5, "n", 5), (1, "j", 6), (2, "p", 4), (1, "k", 3)):
        for _ in range(presses):
            page.keyboard.press(key)
        assert at.inner_text() == f"{place} of {places}"
        assert here.count() >= 2 and _in_view(page, here.first), "the place is in view, and marked in every pane"
        assert page.locator("li[aria-current=true]").count() == 1
    assert page.evaluate("document.activeElement === document.body") and page.url == address

    scrolled = page.locator(".sr-panes").evaluate("e => e.scrollTop")
    button = page.get_by_role("button", name="Next")
    for _ in range(9):
        button.click()
    assert at.inner_text() == f"12 of {places}" and _in_view(page, here.first)
    assert button.evaluate("e => e === document.activeElement")
    page.wait_for_timeout(500)  # a rerun would come in this time, and take the mark away
    assert page.locator(".sr-panes").evaluate("e => e.scrollTop") != scrolled and here.count() >= 2

    choose(page, "Paste")
    page.get_by_role("textbox", name="Text of the note").press_sequentially("npjk")
    assert page.get_by_role("textbox", name="Text of the note").input_value() == "npjk"
    assert page.locator(".sr-rail").is_visible() and here.count() >= 2, "the results stay as they are"
    assert at.inner_text() == f"12 of {places}", "who types a note does not step"


@pytest.mark.slow
def test_a_filter_by_slider_keeps_the_place_and_says_what_it_does(page):
    choose(page, "Heart failure under gemcitabine")
    page.locator(".sr-pane").filter(has_text="gemcitabine").nth(1).wait_for(timeout=WAIT_MS)
    filled(page)
    page.get_by_role("button", name="Filter").click()
    slider = page.get_by_role("slider", name="Minimum score")
    slider.wait_for()
    idle = page.locator(SETTLED)
    idle.wait_for(timeout=WAIT_MS)
    page.wait_for_timeout(300)
    before = page.locator("mark .sr-score").count()
    # Until the browser has told of it: what it does not tell of in time, no page can keep.
    page.evaluate("""addEventListener("scroll", e => { window.heard = e.target.scrollTop }, true)""")
    scrolled = "() => { document.querySelector('.sr-panes').scrollTop = 200; return window.heard === 200 }"
    page.wait_for_function(scrolled)
    for _ in range(19):
        slider.press("ArrowRight")
    page.get_by_text(re.compile(r"^Shown: A [\d,]+ of [\d,]+, B")).wait_for(timeout=WAIT_MS)
    fewer = "many => document.querySelectorAll('mark .sr-score').length < many && document.querySelector('.sr-panes')"
    page.wait_for_function(fewer, arg=before, timeout=WAIT_MS)
    page.wait_for_function("document.querySelector('.sr-panes')?.scrollTop === 200", timeout=5000)


@pytest.mark.slow
def test_the_report_is_made_on_click_and_prints_on_two_pages_at_most(page, browser, tmp_path):
    filled(page)
    choose(page, "Paste")
    page.get_by_role("textbox", name="Text of the note").fill("Fever after naloxone. No rash, no cough.")
    page.keyboard.press("Control+Enter")
    page.locator(".sr-pane").filter(has_text="naloxone").nth(1).wait_for(timeout=WAIT_MS)
    filled(page)
    page.get_by_text("Export", exact=True).click()
    silent = _downloaded(page, tmp_path)
    page.get_by_text("Include the note's text").click()
    page.wait_for_timeout(500)
    page.locator(SETTLED).wait_for(timeout=WAIT_MS)
    speaking = _downloaded(page, tmp_path)
    assert "naloxone" not in silent.read_text() and "Fever after" in re.sub("<[^>]*>", "", speaking.read_text())
    assert re.fullmatch(r"stillroom-compare-\d{8}-\d{6}-with-text\.html", speaking.name)
    sheet = browser.new_page()
    sheet.goto(speaking.as_uri())
    assert len(re.findall(rb"/Type\s*/Page\b", sheet.pdf(format="A4"))) <= 2
    assert page.elsewhere == []


def _downloaded(page, folder: Path) -> Path:
    with page.expect_download(timeout=WAIT_MS) as download:
        page.get_by_role("button", name="Report (HTML)").click()
    path = folder / download.value.suggested_filename
    download.value.save_as(path)
    return path


def test_a_hostile_note_is_shown_as_its_text(page, app):
    filled(page)
    choose(page, "Paste")
    page.get_by_role("textbox", name="Text of the note").fill(HOSTILE)
    page.keyboard.press("Control+Enter")
    page.locator(".sr-pane").filter(has_text="onerror").nth(1).wait_for(timeout=WAIT_MS)
    filled(page)
    for pane in page.locator(".sr-pane").all():
        text = pane.evaluate(
            """pane => { const copy = pane.cloneNode(true);
                copy.querySelectorAll('.sr-chip, .sr-head').forEach(e => e.remove()); return copy.textContent }"""
        )
        assert text == HOSTILE
        assert pane.locator("img, script, a").count() == 0
    assert page.locator(".sr-panes").count() == 1, "the note is there once"
    assert "onerror" not in page.url and "sample=pasted" in page.url
    assert "onerror" not in app.log.read_text()
    assert page.elsewhere == []
    assert not violations(page) and not unreached(page)


ONE = "model=minilm-bc5cdr&sample=ed-chest-pain"


def test_one_model_its_findings_are_in_the_first_view_sorted_and_asked_about(page, app):
    for width, height in ((1280, 900), (390, 844)):
        page.set_viewport_size({"width": width, "height": height})
        page.goto(f"{app.address}/?{ONE}")
        page.locator(".sr-findings .sr-jump").first.wait_for(timeout=WAIT_MS)
        box = page.locator(".sr-findings .sr-jump").first.bounding_box()
        assert box["y"] + box["height"] < height, "the first finding needs no scrolling"
    page.set_viewport_size({"width": 1280, "height": 900})
    page.locator(".sr-ask-selected").wait_for(state="attached")
    names = page.locator(".sr-sorted tbody").first.locator(".sr-jump")
    page.get_by_role("button", name="Finding", exact=True).click()
    assert names.all_inner_texts() == sorted(names.all_inner_texts(), key=str.casefold)
    assert page.locator("th[aria-sort=ascending]").count() == 1
    names.last.click()
    place = page.locator(names.last.get_attribute("href"))
    page.wait_for_function("e => e.matches(':target')", arg=place.element_handle(), timeout=5000)

    page.locator("mark.sr-span").filter(has_text="lisinopril").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_text("“lisinopril”, Chemical").wait_for()
    page.keyboard.press("Escape")
    dialog.wait_for(state="detached")
    page.locator(".sr-line").filter(has_text="DM2").dblclick(position={"x": 60, "y": 10})
    page.get_by_role("button", name="Ask about these words").click()
    dialog.get_by_text("Nothing found here").wait_for()
    dialog.get_by_role("link", name="Explain why not").click()
    page.get_by_role("heading", name="Explain").wait_for()
    page.get_by_text("Chemical: ").first.wait_for(timeout=WAIT_MS)
    assert "lisinopril" not in page.url and page.elsewhere == []


def test_on_a_phone_the_panes_stack(page):
    page.set_viewport_size({"width": 390, "height": 844})
    filled(page)
    first, second = (pane.bounding_box() for pane in page.locator(".sr-pane").all())
    assert second["y"] >= first["y"] + first["height"] and first["width"] > 300
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
