"""Compare: the landing page. One note, two to four models, what each finds, and where they differ.

The address holds the sample's id and the arms, never text. Note and predictions live in this session's memory alone.
"""

from collections import Counter
from typing import NamedTuple

import streamlit as st

from trainer import registry
from trainer.errors import BadSpec, StillroomError
from trainer.prediction import Prediction
from trainer.tasks import LABELLED
from workbench import context, highlight, lab, note_field
from workbench.compare import compare
from workbench.note import Note, samples
from workbench.pages import plain, show_error
from workbench.predict import Arm

MOST = 4
POLL_S = 0.4
WHOLE = "whole note"


class Run(NamedTuple):
    """What the panes show: a note, the arms by name with their titles, and the lab's answers, done or not."""

    note: Note
    arms: dict[str, str]
    answers: tuple[lab.Answer, ...]
    whole: tuple[Prediction, ...] = ()  # where the answers are on the first `context` tokens: those on all of it
    context: int | None = None

    @property
    def panes(self) -> list[highlight.Pane]:
        """The panes as they stand now."""
        panes = [_pane(*arm, answer) for arm, answer in zip(self.arms.items(), self.answers, strict=True)]
        return [self._placed(*pair) for pair in zip(panes, self.whole, strict=True)] if self.whole else panes

    def _placed(self, pane: highlight.Pane, whole: Prediction) -> highlight.Pane:
        end = context.end_of(whole, self.context)
        if pane.prediction is None or end is None:
            return pane
        return pane._replace(prediction=context.placed(pane.prediction, whole, end, len(self.note.text)))


def render() -> None:
    """Draw the page; start a comparison where the person asks for one, and where they first arrive."""
    st.title("Compare", anchor=False)
    st.caption(
        "What two to four models find in one note, and where they differ. "
        "For research, not for clinical decisions. Nothing you enter is stored."
    )
    titles = _titles()
    arriving = _read_address(titles)
    note, problem = note_field.choose()
    beside_note = st.container()
    arms, pressed = _choose_models(titles)
    _write_address(arms)
    asked = st.session_state.pop("sample_clicked", False) or pressed
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


def _read_address(titles: dict[str, str]) -> bool:
    """Take sample and arms from an address that is new: the first visit, a link, or the browser's way back."""
    state = st.session_state
    sample, arms = st.query_params.get("sample"), st.query_params.get_all("model")
    arriving = "compare_address" not in state
    if not arriving and (not (sample or arms) or state.compare_address == (sample, arms)):
        # An address without either is that of the navigation: what was chosen before stays, as far as it is ready.
        state.model = [arm for arm in state.get("model", ()) if arm in titles]
        return False
    offered = [known.id for known in samples()]
    state.source = note_field.SOURCES[0]
    state.sample = sample if sample in offered else next(iter(offered), None)
    known = [arm for arm in arms if arm in titles][:MOST]
    usual = [arm for arm in titles if "@" not in arm and arm not in known]
    state.model = known + usual[: max(0, 2 - len(known))]  # a link to one model is to that model beside another
    state.unknown_arms = [arm for arm in arms if arm not in titles]
    return True


def _write_address(arms: list[str]) -> None:
    sample = st.session_state.sample if st.session_state.source == note_field.SOURCES[0] and samples() else None
    if (sample, arms) != st.session_state.get("compare_address") or not st.query_params:
        st.session_state.compare_address = (sample, arms)
        st.query_params.from_dict({"sample": sample or [], "model": arms})


def _titles() -> dict[str, str]:
    """Every arm that the page offers, with its title: each ready model for notes, in windows and cut off.

    Titles are unique, since Streamlit tells options apart by what they show.
    """
    ready = registry.ready(task=LABELLED)
    shared = {name for name, count in Counter(entry.name for entry in ready).items() if count > 1}
    titles = {}
    for entry in ready:
        told_apart = entry.role == "run" or entry.name in shared
        titles[entry.id] = f"{entry.name}, {entry.id}" if told_apart else entry.name
        titles[f"{entry.id}@truncate"] = f"{titles[entry.id]}, first window only"
    return titles


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
        pressed = st.button("Compare", type="primary", shortcut="Ctrl+Enter", width="stretch")
    if not titles:
        st.warning("No model on this machine can read a note yet. Train one, or see the Zoo for what can be fetched.")
    if unknown := st.session_state.get("unknown_arms"):
        st.warning(f"The link names models that are not ready on this machine: {plain(', '.join(unknown))}.")
    return [arm for arm in arms if arm in titles], pressed


def _start(note: Note | None, arms: dict[str, str]) -> None:
    """Ask the lab. Raises BadSpec for too few arms, and Note's error where there is no note."""
    if len(arms) < 2:
        raise BadSpec([("models", f"found {len(arms)}; choose two to four")], next_step="Choose one more above.")
    note = note or Note("")
    if before := st.session_state.get("compare_run"):
        for answer in before.answers:
            answer.cancel()
    answers = tuple(lab.shared().submit(note.text, Arm.parse(arm)) for arm in arms)
    st.session_state["compare_run"] = Run(note, arms, answers)


def _show(note: Note | None, arms: list[str]) -> None:
    st.html(highlight.STYLE)
    st.html(highlight.STEPPING, unsafe_allow_javascript=True)  # a constant: it knows no note
    run: Run | None = st.session_state.get("compare_run")
    if run is None:
        if note:
            st.html(highlight.note(note.text))
        return
    if note and (run.note, list(run.arms)) != (note, arms):
        st.caption("Below is the previous comparison. Press Compare for the note and models chosen above.")
    run = _in_context(run)
    waiting = not all(answer.done() for answer in run.answers)
    # Each poll draws the panes anew, which takes its time where the note is very long.
    poll_s = POLL_S + len(run.note.text) / 200_000
    st.fragment(_draw, run_every=poll_s if waiting else None)(run, waiting)


def _in_context(run: Run) -> Run:
    """The run as it is, or, where the person chose a context length, the same models on the beginning of its note."""
    whole = [answer.result() for answer in run.answers if answer.done() and not answer.exception()]
    offered = context.contexts(whole)
    if len(whole) < len(run.answers) or not offered:
        return run
    chosen = st.select_slider(
        "Context length",
        [*offered, WHOLE],
        WHOLE,
        format_func=lambda tokens: tokens if tokens == WHOLE else f"{tokens:,} tokens",
        help="What the models find when they see only the beginning of the note, as a model with a short window does.",
    )
    if chosen == WHOLE:
        return run
    counts = ", ".join(
        f"{chr(ord('A') + number)} {context.in_view(one, chosen)} of {len(one.spans)}"
        for number, one in enumerate(whole)
    )
    if any(one.spans for one in whole):
        st.caption(f"Findings in the whole note that lie within its first {chosen:,} tokens: {counts}.")
    before: tuple | None = st.session_state.get("compare_context")
    if before is None or before[:2] != (run, chosen):
        for answer in before[2] if before else ():
            answer.cancel()
        texts = [run.note.text[: context.end_of(one, chosen)] for one in whole]
        answers = tuple(lab.shared().submit(text, Arm.parse(arm)) for text, arm in zip(texts, run.arms, strict=True))
        before = st.session_state["compare_context"] = (run, chosen, answers)
    return run._replace(answers=before[2], whole=tuple(whole), context=chosen)


def _draw(run: Run, polling: bool) -> None:
    done = all(answer.done() for answer in run.answers)
    panes = run.panes
    found = [pane.prediction for pane in panes if pane.prediction]
    comparison = compare(found) if len(found) > 1 else None
    st.html(highlight.results(run.note.text, panes, comparison))
    if polling and done:
        st.rerun()  # the whole page, which then polls no more


def _pane(name: str, title: str, answer: lab.Answer) -> highlight.Pane:
    if not answer.done():
        return highlight.Pane(name, title, stage=answer.stage)
    if error := answer.exception():
        return highlight.Pane(name, title, error=error)
    return highlight.Pane(name, title, prediction=answer.result())
