"""The built Spaces in Chromium, each started from its folder as its README or Dockerfile says; no host, no trace."""

import re
import time
import urllib.error
import urllib.request

import pytest
from browser.accessibility import unreached, violations
from browser.space_server import running

from workbench import space

pytestmark = pytest.mark.browser
WAIT_MS = 150_000
CANARY = "canaryq7x2"
HOSTILE = "<img src=x onerror=alert(1)> {{7*7}} {{{value}}} ${7*7} `c` \\n \\u0041 &amp; </div>"
NOTE = f"{CANARY} {HOSTILE}\n\tNaloxone reverses hypotension. e\u0301 שלום"


@pytest.fixture(
    scope="module",
    params=[kind if kind == "gradio" else pytest.param(kind, marks=pytest.mark.slow) for kind in space.KINDS],
)
def served(request, tmp_path_factory):
    """A running Space of each kind; the one in Gradio is shared by all files."""
    if request.param == "gradio":
        yield request.getfixturevalue("gradio_space")
    else:
        with running(request.param, tmp_path_factory.mktemp(request.param)) as started:
            yield started


@pytest.fixture(scope="module")
def opened(served, browser):
    """A Space in a page of Chromium, with what it requested from other hosts and what it sent; one for the module."""
    page = browser.new_page()
    page.set_default_timeout(WAIT_MS)
    page.elsewhere, page.sent, page.kind, page.space = [], [], served.kind, served
    page.on("request", lambda sent: page.elsewhere.append(sent.url) if served.address not in sent.url else None)
    page.on("request", lambda sent: page.sent.append(sent.post_data or "") if sent.method == "POST" else None)
    began = time.monotonic()
    page.goto(f"{served.address}/?__theme=light" if served.kind == "gradio" else served.address)
    page.locator(".sr-pane mark").first.wait_for()
    page.first_s = time.monotonic() - began
    yield page
    page.close()


def only(page, kind: str) -> None:
    if page.kind != kind:
        pytest.skip(f"of the {kind} kind")


def texts(page, inside: str = ".sr-results") -> list[str]:
    """What each pane shows, without its head and chips."""
    return page.locator(f"{inside} .sr-pane").evaluate_all(
        """panes => panes.map(pane => { const copy = pane.cloneNode(true);
            copy.querySelectorAll('.sr-chip, .sr-head').forEach(e => e.remove()); return copy.textContent })"""
    )


def test_the_first_page_is_useful_at_once(opened):
    opened.locator(".sr-rail").wait_for()
    assert opened.locator(".sr-pane").count() == 2 and opened.locator(".sr-jump").count() > 0
    if opened.kind == "gradio":
        assert opened.first_s < 10, "the first view is computed before anyone asks"
        assert opened.locator("#said .sr-status").inner_text().startswith("This view was computed when the")
    else:
        names = opened.get_by_test_id("stTopNavLink").all_inner_texts()
        assert "Compare" in " ".join(names) and not re.search("Train|Jobs", " ".join(names))
        opened.get_by_role("button", name="Change the note").click()
        opened.get_by_role("radio", name="Paste").wait_for()
        assert not opened.get_by_role("radio", name="Upload").count()
    opened.locator(".sr-jump").last.click()
    opened.wait_for_function("() => document.querySelector('.sr-region:target')")
    assert opened.locator(".sr-pane").count() == 2, "a jump does not reload the page"


def test_a_live_comparison_shows_the_note_itself(opened):
    if opened.kind == "gradio":
        opened.sent.clear()
        opened.get_by_label("Note, at most").fill(NOTE)
        opened.wait_for_function("() => document.querySelector('#wait').innerText.startsWith('Wait: less than')")
        assert not any(CANARY in sent for sent in opened.sent), "before Compare the text stays in the browser"
        opened.get_by_role("button", name="Compare").click()
        opened.get_by_text("Done.").wait_for()
    else:
        opened.get_by_role("radio", name="Paste").click()
        opened.get_by_role("textbox", name="Text of the note").fill(NOTE)
        opened.keyboard.press("Control+Enter")
        opened.locator(".sr-waiting").first.wait_for(state="detached")
    opened.locator(".sr-pane").filter(has_text="onerror").nth(1).wait_for()
    opened.locator(".sr-rail").wait_for()
    opened.wait_for_function("() => document.querySelectorAll('.sr-pane').length === 2")  # those of the last poll go
    assert texts(opened) == [NOTE] * 2
    assert opened.locator(".sr-pane :is(img, script, a)").count() == 0
    assert any(mark.startswith("Naloxone") for mark in opened.locator(".sr-pane mark").all_inner_texts())
    assert not violations(opened) and not unreached(opened)


@pytest.mark.slow
def test_one_finding_is_explained_with_its_verdict(opened):
    only(opened, "gradio")
    opened.locator("#why-choices").get_by_role("button", name="Details").click()
    opened.get_by_label("Method").click()
    opened.get_by_role("option", name="Gradient", exact=True).click()
    opened.get_by_role("button", name="Explain").click()
    opened.locator("#why .sr-trust p").first.wait_for()
    opened.locator("#why .sr-stage").wait_for(state="detached")
    assert re.search("random (words|sentences)", opened.locator("#why .sr-trust").inner_text())
    assert opened.locator("#why tbody tr").count() > 3
    assert re.match("(problem|treatment|test): ", opened.locator("#told").inner_text())
    assert texts(opened, ".sr-why") == texts(opened)[:1]
    assert not violations(opened) and not unreached(opened)


def test_too_long_a_note_is_refused_in_words(opened):
    only(opened, "gradio")
    for characters in (20_001, 1_000_000):
        opened.get_by_label("Note, at most").fill(NOTE.ljust(characters, "x"))
        opened.get_by_role("button", name="Compare").click()
        opened.locator("#said .sr-error").filter(has_text=f"{characters:,} characters").wait_for()


def test_the_page_takes_no_files(opened):
    only(opened, "gradio")
    body = (
        f'--b\r\nContent-Disposition: form-data; name="files"; filename="n.txt"\r\n\r\n{CANARY}\r\n--b--\r\n'.encode()
    )
    for name in ("upload", "upload?upload_id=abc"):
        asked = urllib.request.Request(f"{opened.space.address}/gradio_api/{name}", data=body)
        asked.add_header("Content-Type", "multipart/form-data; boundary=b")
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(asked)
        assert refused.value.code == 413


def test_on_a_phone_nothing_is_wider_than_the_screen(opened):
    opened.set_viewport_size({"width": 390, "height": 844})
    opened.wait_for_function("() => document.documentElement.scrollWidth <= 390")
    opened.set_viewport_size({"width": 1280, "height": 900})


def test_no_other_host_was_asked_and_no_trace_is_left(opened):
    assert opened.elsewhere == []
    assert CANARY not in opened.url
    opened.goto("about:blank")  # the visitor leaves
    assert opened.space.traces(CANARY) == []
