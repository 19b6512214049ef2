"""Compare, the landing page: what one model finds in a note, or two to four, and where they differ.

The address holds the sample's id and the arms, never text. Note and predictions stay in the memory of this session.
"""

from collections.abc import Sequence

import streamlit as st

from trainer.errors import StillroomError
from trainer.queue import published
from trainer.tasks import for_notes, reading
from trainer.zoo import ModelEntry
from workbench import highlight
from workbench.compare import presets
from workbench.compare.arms import arm_titles, model_titles, read_beside
from workbench.note import Note, samples
from workbench.pages.parts import compare_downloads, compare_results, links
from workbench.sessions.comparison import Run, start
from workbench.widgets import note_field
from workbench.widgets.messages import plain, show_error

MAX_MODELS = 4


def render() -> None:
    """Draw the page; read the note when the person asks for it and on arrival."""
    st.title("Read and compare", anchor=False)
    st.caption("What a model finds in a note. For research, not for clinical decisions. Nothing you enter is stored.")
    ready = published.ready(task=for_notes())
    titles = arm_titles(ready, [*st.query_params.get_all("model"), *st.session_state.get("model", ())])
    _read_address(titles)
    error = _start_if_asked(titles, ready)
    # Each part has a container, also where it is empty: so the panes below keep their place and are never there twice.
    with st.container():
        note, problem = _choose_note()
    beside_note = st.container()
    with st.container(horizontal=True, vertical_alignment="center", key="note_line"):
        if _is_collapsed():
            note_field.show_line(st.session_state.compare_run.note, key="change_note", on_change=_open_note)
        _offer_presets(ready)
    with st.container():
        arms = _choose_models(titles)
        note = note_field.beside(note, needed := read_beside(arms, ready))
        note_field.draw_beside(needed)
        _choose_relations()
    _write_address(arms)
    if wrong := problem or error:
        with beside_note:
            show_error(wrong)
    _show(note, arms)


def _read_address(titles: dict[str, str]) -> None:
    """Take sample and arms from a new address: on the first visit, by a link, or by the browser's back button.

    The address is remembered, so that a click while the page is being drawn does not count as a second arrival.
    """
    state = st.session_state
    sample, arms = st.query_params.get("sample"), st.query_params.get_all("model")
    relating = st.query_params.get("relations")
    if not links.has_arrived("compare", (sample, arms, relating), _chosen()):
        # Keep the previous choice as far as it is available.
        state.model = [arm for arm in state.get("model", ()) if arm in titles]
        return
    known = {**titles, **_relation_titles()}
    state.compare_arriving = note_field.arrive(sample) and note_field.entered()[0] is not None
    state.model = [arm for arm in arms if arm in titles][:MAX_MODELS] or presets.first_pair(titles)
    state.relations = relating if relating in _relation_titles() else None
    state.unknown_arms = [arm for arm in (*arms, *([relating] if relating else [])) if arm not in known]


def _write_address(arms: list[str]) -> None:
    sample, relating = note_field.address(), st.session_state.get("relations")
    query = {"sample": sample or [], "model": arms, "relations": relating or []}
    links.write("compare", (sample, arms, relating), _chosen(), query)


def _chosen() -> tuple[object, ...]:
    state = st.session_state
    names = ("source", "sample", "relations", "note_open")
    return (*map(state.get, names), tuple(state.get("model", ())))


# --- The note and the models


def _is_collapsed() -> bool:
    """Whether the note's field is a single line, as after reading until the person wants to change the note."""
    return "compare_run" in st.session_state and not st.session_state.get("note_open", True)


def _choose_note() -> tuple[Note | None, StillroomError | None]:
    return (st.session_state.compare_run.note, None) if _is_collapsed() else note_field.choose()


def _open_note() -> None:
    st.session_state.note_open = True


def _offer_presets(ready: Sequence[ModelEntry]) -> None:
    """A menu of ready-made comparisons: teachers with their students, and one note read in three ways."""
    pairs = presets.teachers_and_students(ready)
    first = next((arm.partition("@")[0] for arm in st.session_state.get("model", ())), None)
    ways = presets.three_ways(ready, first)
    if not pairs and not ways:
        return
    with st.popover("Ready-made comparisons", type="tertiary", icon=":material/view_column:"):
        if pairs:
            st.caption("A model and a smaller one made from it")
        for preset in (*pairs, *([ways] if ways else [])):
            tooltip, key = plain(f"{preset.title}. {preset.description}"), f"preset {' '.join(preset.arms)}"
            st.button(plain(preset.title), type="tertiary", help=tooltip, key=key, on_click=_take, args=(preset,))


def _take(preset: presets.Preset) -> None:
    st.session_state.model, st.session_state.preset_clicked = list(preset.arms), True


def _choose_models(titles: dict[str, str]) -> list[str]:
    left, right = st.columns([5, 1], vertical_alignment="bottom")
    with left:
        arms = st.multiselect(
            "Models (one to four)",
            list(titles),
            format_func=lambda arm: titles[arm],
            max_selections=MAX_MODELS,
            key="model",
            persist_state="session",
            wrap=True,
            placeholder="Choose one model to read the note, or up to four to compare",
        )
    with right:
        label = "Compare" if len(arms) > 1 else "Read"
        st.button(label, type="primary", shortcut="Ctrl+Enter", width="stretch", key="compare", on_click=_press)
    if not titles:
        st.warning("No model on this machine can read notes yet. Train one, or find one to download on the Zoo page.")
    if unknown := st.session_state.get("unknown_arms"):
        st.warning(f"This link names models that are not available on this machine: {plain(', '.join(unknown))}.")
    return [arm for arm in arms if arm in titles]


def _choose_relations() -> None:
    """The model that relates what the models above find, where this machine has one."""
    relating = _relation_titles()
    if not relating:
        return
    if st.session_state.get("relations") not in relating:
        st.session_state.relations = None
    st.selectbox(
        "Relations between the findings",
        list(relating),
        index=None,
        format_func=lambda model: relating[model],
        key="relations",
        persist_state="session",
        placeholder="None; choose a model that finds them",
        help="Which findings belong together, such as a drug and what it causes. They are listed under the note.",
    )


def _relation_titles() -> dict[str, str]:
    return model_titles(published.ready(task=reading("mentions")))


def _press() -> None:
    st.session_state.compare_pressed = True


# --- Reading


def _start_if_asked(titles: dict[str, str], ready: Sequence[ModelEntry]) -> StillroomError | None:
    """Start where a button, a sample or a link asks for it, before anything is drawn; returns what is wrong with it."""
    state = st.session_state
    pressed, preset_clicked, sample_clicked, arriving = (
        state.pop(name, False) for name in ("compare_pressed", "preset_clicked", "sample_clicked", "compare_arriving")
    )
    arms = {arm: titles[arm] for arm in state.get("model", ()) if arm in titles}
    if not (pressed or preset_clicked or sample_clicked or (arriving and samples() and arms)):
        return None
    note, problem = note_field.entered()
    if _is_collapsed() and not (sample_clicked or arriving):
        note, problem = state.compare_run.note, None
    if problem:
        return None  # the note's field shows it
    note = note_field.beside(note, needed := read_beside(arms, ready))
    if note and note_field.is_lacking(note, needed) and not pressed:
        return None  # the page first asks for it
    previous: Run | None = state.get("compare_run")
    try:
        relations = state.get("relations")
        state["compare_run"] = start(note, arms, relations=relations if relations in _relation_titles() else None)
    except StillroomError as error:
        return error
    if previous:
        previous.stop()
    state[compare_downloads.INCLUDE] = False
    state.note_open = False
    return None


def _show(note: Note | None, arms: list[str]) -> None:
    st.html(highlight.STYLE)
    st.html(highlight.STEPPING, unsafe_allow_javascript=True)  # a constant without note text
    run: Run | None = st.session_state.get("compare_run")
    if run is None:
        if note:
            st.html(highlight.note(note.text))
        return
    with st.container():  # present even when empty, so that the elements below keep their places
        if (run.note, list(run.arms)) != (note, arms):
            st.caption("Showing the previous reading. Press the button for the note and models selected above.")
    compare_results.show(run)
