"""The export of a comparison: each file is made when its button is pressed."""

from collections.abc import Mapping
from datetime import datetime
from functools import partial

import streamlit as st

from workbench import highlight
from workbench.compare import Comparison, findings, relations, report
from workbench.compare.costs import Weights, find_weights
from workbench.compare.filters import Filter
from workbench.sessions.comparison import Run

LABEL = "Include the note's text"
INCLUDE = "compare_include_text"  # key of the checkbox; a new comparison clears it


def offer(
    run: Run, comparison: Comparison, weights: tuple[Weights, ...], shown: Filter, cautions: Mapping[str, str]
) -> None:
    """A checkbox for the note's text and a button per format; the export holds what passes the filter."""
    with st.expander("Export", icon=":material/download:"):
        with_text = st.checkbox(
            LABEL,
            key=INCLUDE,
            help="Adds the text to the report, the table of findings and the BRAT files. "
            "JSON and the CSV of every place contain offsets only.",
        )
        document = report.Report(
            run.note,
            comparison,
            run.arms,
            weights,
            datetime.now().astimezone(),
            shown,
            run.context,
            with_text,
            cautions,
            find_weights(run.relations) if run.relations else None,
        )
        with st.container(horizontal=True):
            st.download_button(
                "Findings (CSV)",
                lambda: findings.as_csv(run.note.text, comparison.predictions, with_text=with_text),
                f"stillroom-findings-{document.made:%Y%m%d-%H%M%S}{'-with-text' if with_text else ''}.csv",
                "text/csv",
                key="export_findings",
                on_click="ignore",
            )
            if any(prediction.relations for prediction in comparison.predictions):
                st.download_button(
                    "Relations (CSV)",
                    lambda: relations.as_csv(run.note.text, comparison.predictions, with_text=with_text),
                    f"stillroom-relations-{document.made:%Y%m%d-%H%M%S}{'-with-text' if with_text else ''}.csv",
                    "text/csv",
                    key="export_relations",
                    on_click="ignore",
                )
            for label, ending, mime, write in _FORMATS:
                st.download_button(
                    label,
                    partial(write, document),
                    document.name(ending),
                    mime,
                    key=f"export_{ending}",
                    on_click="ignore",
                )
        st.caption("Exports what is shown above, with the current filter.")


def _html(document: report.Report) -> str:
    return str(highlight.report_page(document))


_FORMATS = (
    ("Report (HTML)", "html", "text/html", _html),
    ("JSON", "json", "application/json", report.as_json),
    ("Every place (CSV)", "csv", "text/csv", report.as_csv),
    ("BRAT", "zip", "application/zip", report.as_brat),
)
