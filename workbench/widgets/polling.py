"""Drawing what moves on a page: again and again until it is over, and then once for good.

What is over is drawn outside a fragment. A poll that was on its way when the page was drawn for the last time then
finds no fragment and is dropped; with a fragment of the same id it would start a run of its own, and what had not been
sent to the browser until then would be lost.
"""

from collections.abc import Callable

import streamlit as st


def follow(draw: Callable[[], None], *, every_s: float, moving: bool, over: Callable[[], bool] = lambda: False) -> None:
    """Draw in a container of its own, and again every so many seconds while it is `moving`.

    `over` is asked before each time: where it holds, the whole page is drawn anew, and says then what is moving.
    """
    if not moving:
        with st.container():  # as a fragment has one: what is drawn stays the same element
            draw()
        return

    def poll() -> None:
        if over():
            st.rerun()
        draw()

    st.fragment(poll, run_every=every_s)()
