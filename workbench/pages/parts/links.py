"""Ways from page to page, with what they open in the address: ids only, never text of a note."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import streamlit as st

from workbench.pages import PAGES

SOON_S = 2.0  # a person does not go back sooner after a click


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


@dataclass(frozen=True)
class _Known:
    """The address of a page as it was last read or written, and what the widgets said then.

    `late` are addresses that the browser may still send, because it had not got the last one when a person clicked;
    `written` is when that was written, by the monotonic clock.
    """

    address: tuple
    chosen: tuple
    late: tuple = ()
    written: float = 0.0
    to_write: bool = False


def arrived(page: str, address: tuple, chosen: tuple) -> bool:
    """Whether a page is to take what its address says: on a first visit, by a link, or by the browser's way back.

    Not by what the page wrote itself, nor by an address without anything, which is that of the navigation. And not by
    one that it has replaced, where that is only SOON_S ago or a widget now says something else: then a click was sent
    before the browser had the new address, and it counts. `chosen` is what the widgets say, as in `write`.
    """
    key = f"{page}_address"
    known = st.session_state.get(key)
    if known and (not any(address) or address == known.address):
        st.session_state[key] = replace(known, late=())
        return False
    if known and address in known.late and (chosen != known.chosen or time.monotonic() < known.written + SOON_S):
        st.session_state[key] = replace(known, to_write=True)
        return False
    st.session_state[key] = _Known(address, chosen)
    return True


def write(page: str, address: tuple, chosen: tuple, query: Mapping[str, Any]) -> None:
    """Let the address say what is chosen, as `query`; `address` is what `arrived` will read of it."""
    key = f"{page}_address"
    known = st.session_state.get(key) or _Known((), chosen)
    if known.address == address and st.query_params and not known.to_write:
        st.session_state[key] = replace(known, chosen=chosen)
        return
    st.session_state[key] = _Known(address, chosen, (*known.late, known.address), time.monotonic())
    st.query_params.from_dict(query)


def _target(page: str) -> st.Page:
    # Streamlit tells pages apart by their path alone, so this stands for the one that app.py registered.
    entry = next(entry for entry in PAGES if entry.name == page)
    return st.Page(entry.render, title=entry.title, url_path=entry.name, default=entry is PAGES[0])
