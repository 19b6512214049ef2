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


def _target(page: str) -> st.Page:
    # Streamlit tells pages apart by their path alone, so this stands for the one that app.py registered.
    entry = next(entry for entry in PAGES if entry.name == page)
    return st.Page(entry.render, title=entry.title, url_path=entry.name, default=entry is PAGES[0])
