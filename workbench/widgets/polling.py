"""Live parts of a page: poll until done, then draw once.

A finished part is drawn outside a fragment, so that a poll still on its way when the page is drawn for the last time
finds no fragment and is dropped. If it found one, it would start a run of its own, and output not yet sent to the
browser would be lost.
"""

from collections.abc import Callable

import streamlit as st


def follow(draw: Callable[[], None], *, every_s: float, moving: bool, done: Callable[[], bool] = lambda: False) -> None:
    """Draw in a container, and while `moving` redraw every `every_s` seconds.

    Before each poll, `done` is called; if it returns True, the whole page is drawn again.
    """
    if not moving:
        with st.container():  # a fragment has one too, so the content stays the same element
            draw()
        return

    def poll() -> None:
        if done():
            st.rerun()
        draw()

    st.fragment(poll, run_every=every_s)()
