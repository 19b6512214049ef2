"""Every page in every state: axe-core finds nothing, in light and dark, on desk and phone; Tab reaches everything."""

from contextlib import contextmanager

import pytest
from axe_playwright_python.sync_playwright import Axe
from browser.states import STATES, WAIT_MS, places

pytestmark = pytest.mark.browser
PRESSES = 250  # of Tab, more than any page has places to stop
# What a person may operate, and the groups in which arrow keys move on: one stop of Tab is enough for such a group.
CONTROLS = """() => {
  const kinds = "a[href], button, input, textarea, select, summary, [role=button], [role=slider], [role=combobox]";
  const groups = "[role=radiogroup], [role=toolbar], [role=tablist], [data-testid=stDataFrame], .js-plotly-plot";
  // A small button inside a box of text (clear, one more, open the list) is what arrow keys and Delete do in that box.
  const inside = e => e.tabIndex < 0 && e.closest("[data-testid=stElementContainer]")?.querySelector("input, textarea");
  const seen = e => e.checkVisibility({opacityProperty: true, visibilityProperty: true}) && e.getClientRects().length;
  const usable = e => seen(e) && !inside(e) && !e.disabled && !e.closest("[aria-hidden=true], [inert]");
  window.wanted = new Map([...document.querySelectorAll(kinds)].filter(usable).map(e => [e.closest(groups) ?? e, e]));
  document.activeElement.blur();
  return window.wanted.size;
}"""
STOP = """() => {
  const at = document.activeElement;
  for (const each of [...window.wanted.keys()]) if (each === at || each.contains(at)) window.wanted.delete(each);
  return window.wanted.size;
}"""


# Of each page one state is in every run, in light on a desk.
ALWAYS = ("compare-result", "explain-result", "train-distil", "jobs-running", "zoo-model", "demo-result")


@pytest.fixture(scope="module")
def at(app, gradio_space, tmp_path_factory):
    with places(app, gradio_space, tmp_path_factory.mktemp("places")) as everywhere:
        yield everywhere


@contextmanager
def opened(browser, name, at):
    """A page in a state, closed at the end."""
    page = browser.new_page()
    page.set_default_timeout(WAIT_MS)
    try:
        STATES[name](page, at)
        yield page
    finally:
        page.close()


def reached(page, name) -> bool:
    """Whether Tab stops at every control; not asked while loading, nor behind a dialog or popover, which holds Tab."""
    return "asked" in name or name.endswith(("loading", "filter")) or not unreached(page)


@pytest.mark.parametrize("name", ALWAYS)
def test_axe_finds_nothing_and_tab_reaches_everything(name, at, browser):
    with opened(browser, name, at) as page:
        assert not violations(page) and reached(page, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", STATES)
def test_so_it_is_in_every_state_and_in_the_dark_on_a_phone(name, at, browser):
    with opened(browser, name, at) as page:
        faults = violations(page)
        page.set_viewport_size({"width": 390, "height": 900})
        page.emulate_media(color_scheme="dark")
        page.wait_for_timeout(600)
        faults += [f"dark, narrow: {each}" for each in violations(page)]
        assert not faults and reached(page, name)


def test_every_page_has_a_state_in_every_run():
    assert {name.partition("-")[0] for name in ALWAYS} == {name.partition("-")[0] for name in STATES}


def violations(page) -> list[str]:
    """What axe-core says of the page, each with the first place of it; what a second later is gone was being drawn."""
    for last in (False, False, True):
        rules = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
        if not rules or last:
            break
        page.wait_for_timeout(1000)
    return [
        f"{rule['id']} ({rule['impact']}, {len(rule['nodes'])}): {rule['nodes'][0]['html'][:200]}" for rule in rules
    ]


def unreached(page) -> list[str]:
    """The controls that Tab never stops at."""
    left = page.evaluate(CONTROLS)
    for _ in range(PRESSES):
        if not left:
            return []
        page.keyboard.press("Tab")
        left = page.evaluate(STOP)
    return page.evaluate("() => [...window.wanted.values()].map(e => e.outerHTML.slice(0, 200))")
