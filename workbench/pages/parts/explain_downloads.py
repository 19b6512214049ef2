"""The export of an explanation: each file is made when its button is pressed."""

from datetime import datetime
from functools import partial

import streamlit as st

from workbench import highlight
from workbench.compare.training_text import caution
from workbench.explain.report import ExplanationReport, as_json
from workbench.sessions.explanation import Inquiry

INCLUDE = "explain_include_text"  # key of the checkbox; a new explanation clears it


def offer(inquiry: Inquiry, grain: str | None) -> None:
    """A checkbox for the note's text and a button per format; the export holds what is shown."""
    with st.expander("Export", icon=":material/download:"):
        with_text = st.checkbox(
            "Include the note's text", key=INCLUDE, help="Adds the text to the report. JSON contains offsets only."
        )
        titles = inquiry.arms.values()
        document = ExplanationReport(
            inquiry.note,
            inquiry.target,
            {title: answer for title, answer in zip(titles, inquiry.at(grain), strict=True) if answer},
            inquiry.title(),
            (*inquiry.summaries(), *inquiry.ablation_sentences()),
            datetime.now().astimezone(),
            with_text,
            {title: words for arm, title in inquiry.arms.items() if (words := caution(arm))},
        )
        with st.container(horizontal=True):
            for label, ending, mime, write in _FORMATS:
                st.download_button(
                    label,
                    partial(write, document),
                    document.name(ending),
                    mime,
                    key=f"explain_export_{ending}",
                    on_click="ignore",
                )


def _html(document: ExplanationReport) -> str:
    return str(highlight.explanation_page(document))


_FORMATS = (("Report (HTML)", "html", "text/html", _html), ("JSON", "json", "application/json", as_json))
