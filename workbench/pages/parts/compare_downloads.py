"""Files of a comparison, made when a person asks for one."""

from datetime import datetime
from functools import partial

import streamlit as st

from workbench import highlight
from workbench.compare import Comparison, report
from workbench.compare.costs import Weights
from workbench.compare.filters import Filter
from workbench.sessions.comparison import Run

TICK = "Include the note's text"
INCLUDE = "compare_include_text"  # the tick's key; a new comparison takes the tick away


def offer(run: Run, comparison: Comparison, weights: tuple[Weights, ...], kept: Filter) -> None:
    """The tick for the note's text, and a button for each format; what is exported is what is shown."""
    with st.expander("Export", icon=":material/download:"):
        with_text = st.checkbox(
            TICK, key=INCLUDE, help="Adds the text to the report and to BRAT. JSON and CSV hold offsets alone."
        )
        made = report.Report(
            run.note, comparison, run.arms, weights, datetime.now().astimezone(), kept, run.context, with_text
        )
        with st.container(horizontal=True):
            for label, ending, mime, function in _FORMATS:
                st.download_button(
                    label,
                    partial(function, made),
                    made.name(ending),
                    mime,
                    key=f"export_{ending}",
                    on_click="ignore",
                )
        st.caption("What is shown above, filter and context length included.")


def _page(made: report.Report) -> str:
    return str(highlight.report_page(made))


_FORMATS = (
    ("Report (HTML)", "html", "text/html", _page),
    ("JSON", "json", "application/json", report.as_json),
    ("CSV", "csv", "text/csv", report.as_csv),
    ("BRAT", "zip", "application/zip", report.as_brat),
)
