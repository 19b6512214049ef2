"""Compare, the landing page: what two to four models find in one note, and where they differ.

The address holds the sample's id and the arms, never text. Note and predictions stay in the memory of this session.
"""

from collections.abc import Sequence

import streamlit as st

from trainer.errors import BadSpec, StillroomError
from trainer.queue import published
from trainer.tasks import for_notes
from trainer.zoo import ModelEntry
from workbench import highlight
from workbench.compare import presets
from workbench.compare.arms import arm_titles
from workbench.note import Note, samples
from workbench.pages.parts import compare_downloads, compare_results, links
from workbench.sessions.comparison import Run, start
from workbench.widgets import note_field
from workbench.widgets.messages import plain, show_error

MAX_MODELS = 4
_PAIR_ICON = ":material/school:"


def render() -> None:
    """Draw the page; start a comparison when the person asks for one and on arrival."""
    st.title("Compare", anchor=False)
    st.caption(
        "See what two to four models find in a note, and where they differ. "
        "For research, not for clinical decisions. Nothing you enter is stored."
    )
    ready = published.ready(task=for_notes())
    titles = arm_titles(ready, [*st.query_params.get_all("model"), *st.session_state.get("model", ())])
    _read_address(titles)
    note, problem = note_field.choose()
    beside_note = st.container()
    _offer_presets(ready)
    arms, pressed = _choose_models(titles)
    _write_address(arms)
    requested = any(
        [st.session_state.pop("sample_clicked", False), st.session_state.pop("preset_clicked", False), pressed]
    )
    arriving = st.session_state.pop("compare_arriving", False)
    if requested or (arriving and note and len(arms) > 1):
        try:
            _start(note, {arm: titles[arm] for arm in arms})
        except BadSpec as error:
            show_error(error)
        except StillroomError as error:
            problem = problem or error
    if problem:
        with beside_note:
            show_error(problem)
    _show(note, arms)


def _read_address(titles: dict[str, str]) -> None:
    """Take sample and arms from a new address: on the first visit, by a link, or by the browser's back button.

    The address is remembered, so that a click while the page is being drawn does not count as a second arrival.
    """
    state = st.session_state
    sample, arms = st.query_params.get("sample"), st.query_params.get_all("model")
    if not links.has_arrived("compare", (sample, arms), _chosen()):
        # Keep the previous choice as far as it is available.
        state.model = [arm for arm in state.get("model", ()) if arm in titles]
        return
    state.compare_arriving = True
    sample_ids = [entry.id for entry in samples()]
    state.source = note_field.SOURCES[0]
    state.sample = sample if sample in sample_ids else next(iter(sample_ids), None)
    known = [arm for arm in arms if arm in titles][:MAX_MODELS]
    others = [arm for arm in titles if "@" not in arm and arm not in known]
    state.model = known + others[: max(0, 2 - len(known))]  # a link to one model compares it with another
    state.unknown_arms = [arm for arm in arms if arm not in titles]


def _write_address(arms: list[str]) -> None:
    sample = st.session_state.sample if st.session_state.source == note_field.SOURCES[0] and samples() else None
    links.write("compare", (sample, arms), _chosen(), {"sample": sample or [], "model": arms})


def _chosen() -> tuple:
    state = st.session_state
    return state.get("source"), state.get("sample"), tuple(state.get("model", ()))


def _offer_presets(ready: Sequence[ModelEntry]) -> None:
    """A button for each ready-made comparison; several teacher-student pairs share a menu."""
    pairs = presets.teachers_and_students(ready)
    first = next((arm.partition("@")[0] for arm in st.session_state.get("model", ())), None)
    ways = presets.three_ways(ready, first)
    with st.container(horizontal=True, key="presets"):
        if len(pairs) == 1:
            _preset("Teacher and student", pairs[0], _PAIR_ICON)
        elif pairs:
            with st.popover("Teacher and student", type="tertiary", icon=_PAIR_ICON):
                for pair in pairs:
                    _preset(plain(pair.title), pair)
        if ways:
            _preset(ways.title, ways, ":material/view_column:")


def _preset(label: str, preset: presets.Preset, icon: str | None = None) -> None:
    tooltip, key = plain(f"{preset.title}. {preset.description}"), f"preset {' '.join(preset.arms)}"
    st.button(label, type="tertiary", icon=icon, help=tooltip, key=key, on_click=_take, args=(preset,))


def _take(preset: presets.Preset) -> None:
    st.session_state.model, st.session_state.preset_clicked = list(preset.arms), True


def _choose_models(titles: dict[str, str]) -> tuple[list[str], bool]:
    left, right = st.columns([5, 1], vertical_alignment="bottom")
    with left:
        arms = st.multiselect(
            "Models (two to four)",
            list(titles),
            format_func=titles.get,
            max_selections=MAX_MODELS,
            key="model",
            persist_state="session",
            wrap=True,
            placeholder="Choose two to four models",
        )
    with right:
        pressed = st.button("Compare", type="primary", shortcut="Ctrl+Enter", width="stretch", key="compare")
    if not titles:
        st.warning("No model on this machine can read notes yet. Train one, or find one to download on the Zoo page.")
    if unknown := st.session_state.get("unknown_arms"):
        st.warning(f"This link names models that are not available on this machine: {plain(', '.join(unknown))}.")
    return [arm for arm in arms if arm in titles], pressed


def _start(note: Note | None, arms: dict[str, str]) -> None:
    """Start a comparison and stop the previous one. Raises BadSpec for fewer than two arms, BadData without a note."""
    previous = st.session_state.get("compare_run")
    run = start(note, arms)
    if previous:
        previous.stop()
    st.session_state["compare_run"] = run
    st.session_state[compare_downloads.INCLUDE] = False


def _show(note: Note | None, arms: list[str]) -> None:
    st.html(highlight.STYLE)
    st.html(highlight.STEPPING, unsafe_allow_javascript=True)  # a constant without note text
    run: Run | None = st.session_state.get("compare_run")
    if run is None:
        if note:
            st.html(highlight.note(note.text))
        return
    with st.container():  # present even when empty, so that the elements below keep their places
        if note and (run.note, list(run.arms)) != (note, arms):
            st.caption("Showing the previous comparison. Press Compare for the note and models selected above.")
    compare_results.show(run)
