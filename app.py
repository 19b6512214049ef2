"""The page list. Run with `streamlit run app.py`, or `stillroom up` for the app together with a worker."""

import streamlit as st

from workbench.pages import PAGES

st.set_page_config(page_title="Stillroom", page_icon=":material/experiment:", layout="wide")
st.navigation(
    [
        st.Page(
            page.render, title=page.title, icon=page.icon, url_path=page.name, help=page.help, default=page is PAGES[0]
        )
        for page in PAGES
    ],
    position="top",
).run()
