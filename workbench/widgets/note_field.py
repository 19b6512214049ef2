"""The chooser for a note: a sample, a pasted text or an upload. Pages with this field share the choice in a session.

`st.session_state.sample_clicked` is True in the run after a click on a sample; whoever reads it removes it.
"""

import streamlit as st

from trainer.errors import StillroomError
from workbench.note import DEMO_CHARACTERS, MAX_BYTES, Note, Sample, demo_note, read_upload, samples
from workbench.widgets.demo_mode import is_demo
from workbench.widgets.messages import plain

SOURCES = ("Sample", "Paste", "Upload")  # a public demo accepts no uploads


def choose() -> tuple[Note | None, StillroomError | None]:
    """The chosen note, or the error in it; neither if nothing has been entered yet."""
    source = st.segmented_control(
        "Note",
        SOURCES[:2] if is_demo() else SOURCES,
        required=True,
        key="source",
        persist_state="session",
        label_visibility="collapsed",
    )
    try:
        return {"Sample": _sample, "Paste": _pasted, "Upload": _uploaded}[source](), None
    except StillroomError as error:
        return None, error


def _sample() -> Note | None:
    offered = {sample.id: sample for sample in samples()}
    if not offered:
        st.caption("No sample notes are installed. Paste or upload a note.")
        return None
    chosen = st.pills(
        "Sample notes",
        list(offered),
        format_func=lambda key: f"{plain(offered[key].title)} :small[:gray[{offered[key].words:,} words]]",
        required=True,
        key="sample",
        persist_state="session",
        on_change=lambda: st.session_state.update(sample_clicked=True),
        label_visibility="collapsed",
    )
    _describe(offered[chosen])
    return offered[chosen].note


def _describe(sample: Sample) -> None:
    st.caption(
        f"{plain(sample.description)} {sample.tokens:,} tokens.",
        help=plain(f"{sample.licence}. {sample.source}. {sample.attribution}"),
    )


def _pasted() -> Note | None:
    text = st.text_area(
        "Text of the note",
        height=220,
        key="pasted",
        placeholder="Paste a note here. Ctrl+Enter compares.",
        persist_state="session",
        label_visibility="collapsed",
    )
    if is_demo():
        st.caption(f"At most {DEMO_CHARACTERS:,} characters. Do not paste real patient data into a public demo.")
    read = demo_note if is_demo() else Note
    return read(text) if text.strip() else None


def _uploaded() -> Note | None:
    limit = MAX_BYTES // 1_000_000
    file = st.file_uploader(f"Plain text file (UTF-8), at most {limit} MB", key="uploaded")
    return read_upload(file.getvalue(), file.name) if file else None
