"""The page list. Run with `streamlit run app.py`, or `stillroom up` for the app together with a worker."""

from pathlib import Path

import streamlit as st

from workbench import highlight
from workbench.pages import PAGES, offered

# A file of our own: the browser would fetch a Material icon or an emoji from another server.
ICON = Path(__file__).parent / "workbench" / "stillroom.svg"

st.set_page_config(page_title="Stillroom", page_icon=ICON, layout="wide")
st.logo(ICON, size="large")
st.html(highlight.APP)
st.navigation(
    [
        st.Page(
            page.render, title=page.title, icon=page.icon, url_path=page.name, help=page.help, default=page is PAGES[0]
        )
        for page in offered()
    ],
    position="top",
).run()
