"""The chooser for a note: a sample, a pasted text or an upload. Pages with this field share the choice in a session.

`st.session_state.sample_clicked` is True in the run after a click on a sample; whoever reads it removes it.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import streamlit as st

from trainer.errors import StillroomError
from workbench.note import (
    DEMO_CHARACTERS,
    MAX_BYTES,
    DatasetItem,
    Note,
    Sample,
    dataset_item,
    demo_note,
    read_upload,
    samples,
)
from workbench.widgets.demo_mode import is_demo
from workbench.widgets.messages import plain

LONGEST_BESIDE = 2_000  # characters of a hypothesis or a question
SOURCES = ("Sample", "Paste", "Upload")  # a public demo accepts no uploads

_OWN = {"Paste": "pasted", "Upload": "uploaded"}  # by source what an address says of a note that it does not hold
_GONE = (
    "The note that you had here is gone: loading the page again starts anew, and nothing that you enter is stored. "
    "Enter it once more."
)


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
    draw = {"Sample": _draw_samples, "Paste": _draw_text, "Upload": _draw_upload}[source or SOURCES[0]]
    draw()
    note, problem = entered()
    if st.session_state.get("note_gone") == source and not note:
        st.info(_GONE)
    return note, problem


def address() -> str | None:
    """What an address says of the note: the id of a sample, or only that there is one which was pasted or uploaded."""
    state = st.session_state
    if state.get("source") not in _OWN:
        return state.get("sample") if samples() else None
    entered_here = (state.get("pasted") or "").strip() if state.source == "Paste" else state.get("uploaded")
    return _OWN[state.source] if entered_here or "compare_run" in state else None


def arrive(note: str | None) -> bool:
    """Take the note that an address names. False where it is gone, which `choose` then says."""
    state = st.session_state
    state.source = next((source for source, word in _OWN.items() if word == note), SOURCES[0])
    known = [sample.id for sample in samples()]
    if note and (linked := _item(note)):
        state.linked_item, state.hypothesis = note, linked.note.hypothesis or state.get("hypothesis") or ""
        known.append(note)
    if state.source == SOURCES[0] or "sample" not in state:
        state.sample = note if note in known else next(iter(known), None)
    gone = state.source in _OWN and address() is None
    state.note_gone = state.source if gone else None
    return not gone


def entered() -> tuple[Note | None, StillroomError | None]:
    """What `choose` returns, without drawing it. An upload is known only while its field is drawn."""
    state = st.session_state
    try:
        if state.get("source") == "Sample":
            chosen = state.get("sample")
            return next((each.note for each in _offered() if each.id == chosen), None), None
        if state.get("source") == "Paste":
            return _read_pasted(state.get("pasted") or ""), None
        file = state.get("uploaded")
        return read_upload(file.getvalue(), file.name) if file else None, None
    except StillroomError as error:
        return None, error


def draw_beside(needed: Sequence[str]) -> None:
    """The fields for what models read beside the note, of those needed: a hypothesis and a question."""
    if "hypothesis" in needed:
        st.text_input(
            "Hypothesis",
            key="hypothesis",
            persist_state="session",
            max_chars=LONGEST_BESIDE,
            placeholder="A statement or question about the note, such as: The patient has diabetes.",
            help="Models of pairs say whether the note supports it; other models do not read it.",
        )
    if "question" in needed:
        st.text_input(
            "Question",
            key="question",
            persist_state="session",
            max_chars=LONGEST_BESIDE,
            placeholder="A question that the note may answer, such as: Which drug was stopped?",
            help="Models for questions mark the words of the note that answer it; other models do not read it.",
        )


def beside(note: Note | None, needed: Sequence[str]) -> Note | None:
    """The note with the hypothesis and the question that were entered, or without where no model needs them."""
    return note and replace(note, hypothesis=_entered("hypothesis", needed), question=_entered("question", needed))


def is_lacking(note: Note, needed: Sequence[str]) -> bool:
    """Whether a note is without a hypothesis or a question that a model needs."""
    return any(not getattr(note, field) for field in needed)


def _entered(field: str, needed: Sequence[str]) -> str:
    return (st.session_state.get(field) or "").strip() if field in needed else ""


def title(note: Note) -> str:
    """What to call a note: the title of a sample, or where it comes from."""
    same = (each for each in samples() if each.characters == len(note.text) and each.note.text == note.text)
    linked = (each.title for each in _linked() if each.note.text == note.text)
    known = next(linked, None) or next((each.title for each in same), "")
    return known or {"Paste": "Pasted note", "Upload": "Uploaded note"}.get(st.session_state.get("source", ""), "Note")


def show_line(note: Note, *, key: str, on_change: Callable[[], None]) -> None:
    """The field folded into a line: what the note is, how long, and a button that calls `on_change`."""
    words = f":gray[{len(note.text.split()):,} words]"
    st.markdown(f"**{plain(title(note))}** {words}", width="content")
    st.button("Change the note", type="tertiary", icon=":material/edit:", key=key, on_click=on_change)


def _draw_samples() -> None:
    offered = {each.id: each for each in _offered()}
    if not offered:
        st.caption("No sample notes are installed. Paste or upload a note.")
        return
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
    if chosen:
        _describe(offered[chosen])


def _item(reference: str) -> DatasetItem | None:
    """The item of a data set that an address names; a public demo shows none."""
    return None if is_demo() else dataset_item(reference)


def _linked() -> tuple[DatasetItem, ...]:
    """The item of a data set that the last link opened, which stays on offer beside the samples."""
    item = _item(st.session_state.get("linked_item") or "")
    return (item,) if item else ()


def _offered() -> list[Sample | DatasetItem]:
    return [*samples(), *_linked()]


def _describe(sample: Sample | DatasetItem) -> None:
    if isinstance(sample, DatasetItem):
        st.caption(plain(sample.description))
        return
    st.caption(
        plain(sample.description),
        help=plain(f"{sample.licence}. {sample.source}. {sample.attribution}"),
    )


def _draw_text() -> None:
    st.text_area(
        "Text of the note",
        height=220,
        key="pasted",
        placeholder="Paste a note here. Ctrl+Enter reads it.",
        persist_state="session",
        label_visibility="collapsed",
    )
    if is_demo():
        st.caption(f"At most {DEMO_CHARACTERS:,} characters. Do not paste real patient data into a public demo.")


def _read_pasted(text: str) -> Note | None:
    read = demo_note if is_demo() else Note
    return read(text) if text.strip() else None


def _draw_upload() -> None:
    st.file_uploader(f"Plain text file (UTF-8), at most {MAX_BYTES // 1_000_000} MB", key="uploaded")
