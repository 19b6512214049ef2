"""Every page in every state: axe-core finds nothing, in light and dark, on desk and phone; Tab reaches everything.

Of each page one state is in every run: the other tests of the browser check it where they are in it.
"""

import pytest
from browser.accessibility import unreached, violations
from browser.states import STATES, WAIT_MS, places

from workbench.pages import PAGES

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def at(app, gradio_space, tmp_path_factory):
    with places(app, gradio_space, tmp_path_factory.mktemp("places")) as everywhere:
        yield everywhere


def reached(page, name) -> bool:
    """Whether Tab stops at every control; not asked while loading, nor behind a dialog or popover, which holds Tab."""
    return "asked" in name or name.endswith(("loading", "filter")) or not unreached(page)


@pytest.mark.slow
@pytest.mark.parametrize("name", STATES)
def test_axe_finds_nothing_and_tab_reaches_everything(name, at, browser):
    page = browser.new_page()
    page.set_default_timeout(WAIT_MS)
    STATES[name](page, at)
    faults = violations(page)
    page.set_viewport_size({"width": 390, "height": 900})
    page.emulate_media(color_scheme="dark")
    page.wait_for_timeout(600)
    faults += [f"dark, narrow: {each}" for each in violations(page)]
    assert not faults and reached(page, name)
    page.close()


def test_every_page_has_a_state():
    assert {name.partition("-")[0] for name in STATES} == {page.name for page in PAGES} | {"demo"}
