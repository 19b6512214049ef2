"""The page list, and the server that shows it. Run with `streamlit run app.py`, or `stillroom up` with a worker."""

from pathlib import Path

import streamlit as st
from starlette.middleware import Middleware

from trainer.offline import go_offline
from workbench import highlight
from workbench.own_origin import OwnOrigin
from workbench.pages import PAGES, offered_pages
from workbench.quiet import keep_quiet

# A local file: the browser would fetch a Material icon or an emoji from another server.
ICON = Path(__file__).parent / "workbench" / "stillroom.svg"


def draw() -> None:
    """Draw the navigation and the open page for one session."""
    st.set_page_config(page_title="Stillroom", page_icon=ICON, layout="wide")
    st.logo(ICON, size="large")
    st.html(highlight.APP)
    st.navigation(
        [
            st.Page(
                page.render,
                title=page.title,
                icon=page.icon,
                url_path=page.name,
                help=page.help,
                default=page is PAGES[0],
            )
            for page in offered_pages()
        ],
        position="top",
    ).run()


if __name__ == "__main__":  # Streamlit runs this file for each session
    draw()
else:  # and imports it before the first request
    go_offline()
    keep_quiet()
    app = st.App(__file__, middleware=[Middleware(OwnOrigin)])
