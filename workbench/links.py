"""Ways from page to page, with what they open in the address: ids only, never text of a note."""

from collections.abc import Sequence
from typing import NoReturn

import streamlit as st

from workbench.pages import PAGES


def link(page: str, *, label: str, icon: str | None = None, **address: str | Sequence[str]) -> None:
    """A link to a page of the table; `address` becomes the query: job="1a2b3c4d-1", or several values of a name."""
    st.page_link(_target(page), label=label, icon=icon, query_params=address)


def go(page: str, **address: str | Sequence[str]) -> NoReturn:
    """Open a page of the table now."""
    st.switch_page(_target(page), query_params=address)


def explain(arms: Sequence[str], *, label: str, sample: str | None = None, target: str | None = None) -> None:
    """A link to Explain with these arms, the first two of which it takes; the note goes along in the session.

    target: a finding of one of the models, START:END:LABEL or LABEL, whose explanation then begins at once. Never one
    that a person typed: what is in an address may be kept by others.
    """
    named = {name: value for name, value in (("sample", sample), ("target", target)) if value}
    link("explain", label=label, icon=":material/psychology:", model=arms, **named)


def _target(page: str) -> st.Page:
    # Streamlit tells pages apart by their path alone, so this stands for the one that app.py registered.
    entry = next(entry for entry in PAGES if entry.name == page)
    return st.Page(entry.render, title=entry.title, url_path=entry.name, default=entry is PAGES[0])
