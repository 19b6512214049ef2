"""What a page has to be for everyone: axe-core finds nothing, and Tab stops at everything that one may operate."""

from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

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


def violations(page: Page) -> list[str]:
    """What axe-core says of the page, each with its first place; what a second later is gone was being drawn."""
    for last in (False, False, True):
        rules = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
        if not rules or last:
            break
        page.wait_for_timeout(1000)
    return [f"{rule['id']} ({rule['impact']}, {len(rule['nodes'])}): {_place(rule['nodes'][0])}" for rule in rules]


def _place(node: dict[str, Any]) -> str:
    """Where a rule is broken, and how."""
    return f"{node['html'][:200]} {node['failureSummary']}"


def unreached(page: Page) -> list[str]:
    """The controls that Tab never stops at."""
    left = page.evaluate(CONTROLS)
    for _ in range(PRESSES):
        if not left:
            return []
        page.keyboard.press("Tab")
        left = page.evaluate(STOP)
    return page.evaluate("() => [...window.wanted.values()].map(e => e.outerHTML.slice(0, 200))")
