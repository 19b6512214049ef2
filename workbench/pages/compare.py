"""Compare: the landing page. One note, two to four models, what each finds, and where they differ.

The address holds the sample's id and the arms, never text. Note and predictions live in this session's memory alone.
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

MOST = 4
_PAIR_ICON = ":material/school:"


def render() -> None:
    """Draw the page; start a comparison where the person asks for one, and where they first arrive."""
    st.title("Compare", anchor=False)
    st.caption(
        "What two to four models find in one note, and where they differ. "
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
    asked = any([st.session_state.pop("sample_clicked", False), st.session_state.pop("preset_clicked", False), pressed])
    arriving = st.session_state.pop("compare_arriving", False)
    if asked or (arriving and note and len(arms) > 1):
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
    """Take sample and arms from an address that is new: the first visit, a link, or the browser's way back.

    It is known from then on: whoever clicks while the page is still being drawn must not arrive a second time.
    """
    state = st.session_state
    sample, arms = st.query_params.get("sample"), st.query_params.get_all("model")
    if not links.arrived("compare", (sample, arms), _chosen()):
        # What was chosen before stays, as far as it is ready.
        state.model = [arm for arm in state.get("model", ()) if arm in titles]
        return
    state.compare_arriving = True
    offered = [known.id for known in samples()]
    state.source = note_field.SOURCES[0]
    state.sample = sample if sample in offered else next(iter(offered), None)
    known = [arm for arm in arms if arm in titles][:MOST]
    usual = [arm for arm in titles if "@" not in arm and arm not in known]
    state.model = known + usual[: max(0, 2 - len(known))]  # a link to one model is to that model beside another
    state.unknown_arms = [arm for arm in arms if arm not in titles]


def _write_address(arms: list[str]) -> None:
    sample = st.session_state.sample if st.session_state.source == note_field.SOURCES[0] and samples() else None
    links.write("compare", (sample, arms), _chosen(), {"sample": sample or [], "model": arms})


def _chosen() -> tuple:
    state = st.session_state
    return state.get("source"), state.get("sample"), tuple(state.get("model", ()))


def _offer_presets(ready: Sequence[ModelEntry]) -> None:
    """One click for each comparison that needs no thought; several teachers and students share a menu."""
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
    says, key = plain(f"{preset.title}. {preset.description}"), f"preset {' '.join(preset.arms)}"
    st.button(label, type="tertiary", icon=icon, help=says, key=key, on_click=_take, args=(preset,))


def _take(preset: presets.Preset) -> None:
    st.session_state.model, st.session_state.preset_clicked = list(preset.arms), True


def _choose_models(titles: dict[str, str]) -> tuple[list[str], bool]:
    left, right = st.columns([5, 1], vertical_alignment="bottom")
    with left:
        arms = st.multiselect(
            "Models, two to four",
            list(titles),
            format_func=titles.get,
            max_selections=MOST,
            key="model",
            persist_state="session",
            wrap=True,
            placeholder="Choose two to four models",
        )
    with right:
        pressed = st.button("Compare", type="primary", shortcut="Ctrl+Enter", width="stretch", key="compare")
    if not titles:
        st.warning("No model on this machine can read a note yet. Train one, or see the Zoo for what can be fetched.")
    if unknown := st.session_state.get("unknown_arms"):
        st.warning(f"The link names models that are not ready on this machine: {plain(', '.join(unknown))}.")
    return [arm for arm in arms if arm in titles], pressed


def _start(note: Note | None, arms: dict[str, str]) -> None:
    """Ask the lab. Raises BadSpec for too few arms, and Note's error where there is no note."""
    before = st.session_state.get("compare_run")
    run = start(note, arms)
    if before:
        before.stop()
    st.session_state["compare_run"] = run
    st.session_state[compare_downloads.INCLUDE] = False


def _show(note: Note | None, arms: list[str]) -> None:
    st.html(highlight.STYLE)
    st.html(highlight.STEPPING, unsafe_allow_javascript=True)  # a constant: it knows no note
    run: Run | None = st.session_state.get("compare_run")
    if run is None:
        if note:
            st.html(highlight.note(note.text))
        return
    with st.container():  # there also when empty, so that what is below keeps its place
        if note and (run.note, list(run.arms)) != (note, arms):
            st.caption("Below is the previous comparison. Press Compare for the note and models chosen above.")
    compare_results.show(run)
