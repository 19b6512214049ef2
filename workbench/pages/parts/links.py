"""Links between pages. What they open is in the address: ids only, never the text of a note."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NoReturn

import streamlit as st

from workbench.pages import PAGES

LATE_S = 2.0  # until then a replaced address is a late request and not the back button


def link(page: str, *, label: str, icon: str | None = None, **address: str | Sequence[str]) -> None:
    """A link to a page. address: the query parameters, such as job="1a2b3c4d-1", each with one or more values."""
    st.page_link(_target(page), label=label, icon=icon, query_params=address)


def go(page: str, **address: str | Sequence[str]) -> NoReturn:
    """Open a page now."""
    st.switch_page(_target(page), query_params=address)


def explain(arms: Sequence[str], *, label: str, sample: str | None = None, target: str | None = None) -> None:
    """A link to Explain, which takes the first two arms and the note of the session.

    target: a finding of one of the models, START:END:LABEL or LABEL, which is explained at once. Never one that a
    person typed, since browsers and proxies may store addresses.
    """
    optional = {name: value for name, value in (("sample", sample), ("target", target)) if value}
    link("explain", label=label, icon=":material/psychology:", model=arms, **optional)


@dataclass(frozen=True)
class _State:
    """The address of a page as it was last read or written, and the values of its widgets at that time.

    late: replaced addresses, which the browser may still send with a click made before it received the new one.
    written_at: monotonic seconds. to_write: whether the address must be written again after a late request.
    """

    address: tuple[object, ...]
    chosen: tuple[object, ...]
    late: tuple[tuple[object, ...], ...] = ()
    written_at: float = 0.0
    to_write: bool = False


def has_arrived(page: str, address: tuple[object, ...], chosen: tuple[object, ...]) -> bool:
    """Whether a page should apply its address: on a first visit, by a link, or by the browser's back button.

    Not an address that the page has written itself, nor an empty one, as in the navigation. Nor one that the page
    replaced less than LATE_S ago, or that comes with a changed widget: then the click was sent before the browser had
    received the new address, and the click counts. chosen: the values of the widgets, as in `write`.
    """
    key = f"{page}_address"
    state: _State | None = st.session_state.get(key)
    if state and (not any(address) or address == state.address):
        st.session_state[key] = replace(state, late=())
        return False
    if state and address in state.late and (chosen != state.chosen or time.monotonic() < state.written_at + LATE_S):
        st.session_state[key] = replace(state, to_write=True)
        return False
    st.session_state[key] = _State(address, chosen)
    return True


def write(
    page: str, address: tuple[object, ...], chosen: tuple[object, ...], query: Mapping[str, str | Sequence[str]]
) -> None:
    """Write the choice to the address as `query`; `address` is what `has_arrived` will be called with for it."""
    key = f"{page}_address"
    state: _State = st.session_state.get(key) or _State((), chosen)
    if state.address == address and st.query_params and not state.to_write:
        st.session_state[key] = replace(state, chosen=chosen)
        return
    st.session_state[key] = _State(address, chosen, (*state.late, state.address), time.monotonic())
    st.query_params.from_dict(query)


def _target(page: str) -> st.Page:
    # Streamlit identifies a page by its path alone, so this is the page that app.py registered.
    entry = next(entry for entry in PAGES if entry.name == page)
    return st.Page(entry.render, title=entry.title, url_path=entry.name, default=entry is PAGES[0])
