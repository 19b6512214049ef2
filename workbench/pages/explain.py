"""Explain: why one or two models say something of a note, part by part, and how far to rely on that.

The address holds the sample's id, the models and a finding's offsets and label, never text. Note and explanations live
in this session's memory alone.
"""

import streamlit as st

from trainer.errors import StillroomError
from trainer.queue import published
from trainer.tasks import for_notes
from workbench import highlight, lab
from workbench.compare.arms import model_titles
from workbench.explain import ExplainOptions, targets
from workbench.explain.agreement import compare
from workbench.explain.wording import PARTS, agreeing
from workbench.note import Note, samples
from workbench.pages.parts import links
from workbench.predict import Arm
from workbench.sessions.explanation import Findings, Inquiry
from workbench.widgets import method_field, note_field
from workbench.widgets.messages import plain, show_error
from workbench.widgets.polling import follow

POLL_S = 0.4
MOST_TARGETS = 300
FREE = ""  # the option of a target that the models did not name
_NONE = "no other model"


def render() -> None:
    """Draw the page; ask for an explanation where the person does, and where a link names a target."""
    st.title("Explain", anchor=False)
    st.caption(
        "Which parts of a note speak for what a model says, and how far to rely on that. "
        "For research, not for clinical decisions. Nothing you enter is stored."
    )
    titles = _titles()
    linked = _arrive(titles)
    note, problem = _note()
    arms = _choose_models(titles)
    st.html(highlight.STYLE)
    if problem:
        show_error(problem)
    if note is None or not arms:
        _forget()
        return
    found = _findings(note, arms)
    chosen = {arm: titles[arm] for arm in arms}
    asking = st.container()  # there also when empty, so that the panes stay the same element and keep their place
    if not found.done:
        follow(lambda: _read(found, chosen), every_s=POLL_S, moving=True, over=lambda: found.done)
        return
    with asking:
        target, pressed, options = _ask(found, linked)
        if pressed or (linked and target):
            _start(note, target, chosen, options)
        st.session_state.pop("explain_linked", None)  # after the start: until then it is still to be explained
        inquiry = _current(note, chosen)
        if inquiry and options and not inquiry.answers_to(note, target, chosen, options):
            st.caption("Below is the previous explanation. Press Explain for what is chosen above.")
    _write_address(arms, target, found)
    if inquiry:
        # Each poll draws the picture anew, which takes its time where the note is very long.
        poll_s = POLL_S + len(note.text) / 200_000
        moving = not inquiry.settled
        follow(lambda: _draw(inquiry), every_s=poll_s, moving=moving, over=lambda: inquiry.settled)
    else:
        follow(lambda: _read(found, chosen), every_s=POLL_S, moving=False)


# --- Arriving


def _arrive(titles: dict[str, str]) -> str:
    """Take models, sample and target from a new address, or note and models from Compare.

    Returns the target of a link that is still to be asked about; another note has none.
    """
    state, query = st.session_state, st.query_params
    state.setdefault("source", note_field.SOURCES[0])
    state.setdefault("sample", next((sample.id for sample in samples()), None))
    state.pop("sample_clicked", None)
    address = (query.get_all("model"), query.get("sample"), query.get("target", ""))
    new = any(address) and links.arrived("explain", address, _chosen())
    compared = state.get("compare_run")
    if new:
        _choose(address[0], titles)
        if address[1] in [sample.id for sample in samples()]:
            state.update(source=note_field.SOURCES[0], sample=address[1])
        state.explain_linked = (address[2], state.source, state.sample)
    elif compared is not None and compared is not state.get("explain_from"):
        _choose(list(compared.arms), titles)
    elif "explain_first" not in state:
        _choose(state.get("model", [])[:1], titles)
    state.explain_from = compared
    state.explain_unknown = [arm for arm in address[0] if arm not in titles] if new else state.get("explain_unknown")
    target, *note = state.get("explain_linked", ("",))
    return target if note == [state.source, state.sample] else ""


def _choose(arms: list[str], titles: dict[str, str]) -> None:
    known = [arm for arm in arms if arm in titles] or list(titles)[:1]
    st.session_state.explain_first = next(iter(known), None)
    st.session_state.explain_second = known[1] if len(known) > 1 else None


def _write_address(arms: list[str], target: str, found: Findings) -> None:
    """Models, sample, and the target where it is a finding: a target that a person typed may say anything."""
    sample = st.session_state.sample if st.session_state.source == note_field.SOURCES[0] and samples() else None
    named = target if target in found.targets() else ""
    query = {"model": arms, "sample": sample or [], "target": named or []}
    links.write("explain", (arms, sample, named), _chosen(), query)


def _chosen() -> tuple:
    target = f"explain_target_{st.session_state.get('explain_readings')}"
    return tuple(map(st.session_state.get, ("source", "sample", "explain_first", "explain_second", target)))


# --- Choosing


def _titles() -> dict[str, str]:
    """Every arm that the page offers with its title, which no other has; those of the last comparison too."""
    compared = st.session_state.get("compare_run")
    return model_titles(published.ready(task=for_notes())) | (dict(compared.arms) if compared else {})


def _note() -> tuple[Note | None, StillroomError | None]:
    """The note that is chosen here or on Compare. An uploaded file does not come along from page to page."""
    note, problem = note_field.choose()
    compared = st.session_state.get("compare_run")
    if note or problem or not compared or st.session_state.source != note_field.SOURCES[2]:
        return note, problem
    st.caption("Below is the note of the last comparison.")
    return compared.note, None


def _choose_models(titles: dict[str, str]) -> list[str]:
    if not titles:
        st.warning("No model on this machine can read a note yet. Train one, or see the Zoo for what can be fetched.")
        return []
    if unknown := st.session_state.get("explain_unknown"):
        st.warning(f"The link names models that are not ready on this machine: {plain(', '.join(unknown))}.")
    for key in ("explain_first", "explain_second"):
        if st.session_state.get(key) not in titles:
            st.session_state[key] = next(iter(titles)) if key == "explain_first" else None
    left, right = st.columns(2)
    how = {"format_func": lambda arm: titles.get(arm, _NONE), "persist_state": "session"}
    first = left.selectbox("Model", list(titles), key="explain_first", **how)
    second = right.selectbox("Side by side with", [None, *titles], key="explain_second", placeholder=_NONE, **how)
    return list(dict.fromkeys(arm for arm in (first, second) if arm))


def _findings(note: Note, arms: list[str]) -> Findings:
    """What the models find: from before, from Compare, or asked for now."""
    state = st.session_state
    before: Findings | None = state.get("explain_findings")
    if before and (before.note, list(before.answers)) == (note, arms):
        return before
    known = dict(before.answers) if before and before.note == note else {}
    if (compared := state.get("compare_run")) and compared.note == note:
        known |= dict(zip(compared.arms, compared.answers, strict=True))
    usable = {arm: answer for arm, answer in known.items() if not answer.cancelled()}
    answers = {arm: usable.get(arm) or lab.shared().submit(note.text, Arm.parse(arm)) for arm in arms}
    state.explain_findings = Findings(note, answers)
    state.explain_readings = state.get("explain_readings", 0) + 1
    return state.explain_findings


def _read(found: Findings, titles: dict[str, str]) -> None:
    st.html(highlight.results(found.note.text, found.panes(titles)))


def _ask(found: Findings, linked: str) -> tuple[str, bool, ExplainOptions | None]:
    """The target that is chosen, whether its explanation is asked for, and how; None where that is wrong."""
    offered = dict(list(found.targets().items())[:MOST_TARGETS])
    state = st.session_state
    # A select box knows its choice by the words shown, which hold scores: other findings are another box.
    key = f"explain_target_{state.explain_readings}"
    if linked:
        state[key], state.explain_free = (linked, "") if linked in offered else (FREE, linked)
    elif state.get(key) not in (*offered, FREE):
        before = state.get("explain_asked")
        state[key] = before if before in (*offered, FREE) else next(iter(offered), FREE)
    left, right = st.columns([5, 1], vertical_alignment="bottom")
    with left:
        target = st.selectbox(
            "What is to be explained",
            [*offered, FREE],
            format_func=lambda each: found.named(each, offered[each]) if each else "Something the models did not find",
            key=key,
            persist_state="session",
        )
    with right:
        pressed = st.button("Explain", type="primary", shortcut="Ctrl+Enter", width="stretch")
    state.explain_asked = target
    if target == FREE:
        target = st.text_input(
            "A place and its label, or a label of the whole note",
            key="explain_free",
            placeholder="START:END:LABEL in characters from 0, or LABEL",
            persist_state="session",
        ).strip()
    return target, pressed, method_field.choose()


# --- Asking and showing


def _start(note: Note, target: str, arms: dict[str, str], options: ExplainOptions | None) -> None:
    """Ask the lab; what is wrong with the target, or with a number, is said before."""
    if options is None:
        st.error("Nothing was explained: correct the number that is marked in *How it is computed*.")
        return
    try:
        targets.parse(target).check(note.text)
    except StillroomError as error:
        show_error(error)
        return
    _forget()
    st.session_state.explain_inquiry = Inquiry(note, target, arms, options)


def _forget() -> None:
    if inquiry := st.session_state.pop("explain_inquiry", None):
        inquiry.stop()


def _current(note: Note, arms: dict[str, str]) -> Inquiry | None:
    """What was asked of this note and these models; what was asked of others is forgotten."""
    inquiry: Inquiry | None = st.session_state.get("explain_inquiry")
    if inquiry and (inquiry.note, inquiry.arms) == (note, arms):
        return inquiry
    _forget()
    return None


def _draw(inquiry: Inquiry) -> None:
    left, right = st.columns([5, 1], vertical_alignment="bottom")
    left.header(plain(inquiry.title()), anchor=False)
    if not inquiry.explained:
        right.button("Stop", icon=":material/stop_circle:", width="stretch", on_click=inquiry.stop)
    inquiry.leave_out()
    with st.container():
        for sentence in inquiry.told():
            st.markdown(plain(sentence))
        grain = _grain(inquiry)
    st.html(highlight.attribution(inquiry.note.text, inquiry.sides(grain), inquiry.place))
    _agreement(inquiry, grain)


def _grain(inquiry: Inquiry) -> str | None:
    """The grain to show: the answer's own, or a coarser one whose scores are its sums."""
    offered = inquiry.grains()
    if len(offered) < 2:
        return None
    return st.segmented_control(
        "Show by",
        offered,
        default=offered[-1],
        required=True,
        format_func=lambda each: PARTS[each],
        key=f"explain_shown_{offered[-1]}",  # what is offered depends on the answer's own grain
    )


def _agreement(inquiry: Inquiry, grain: str | None) -> None:
    found = inquiry.at(grain)
    if len(found) < 2 or not inquiry.grains():
        return
    st.header("Where they agree", anchor=False)
    try:
        agreed = compare(*found)
    except StillroomError as error:
        st.caption(plain(error))
        return
    st.markdown(plain(" ".join(agreeing(agreed, found[0].grain))))
    if agreed.differences:
        lines = "\n".join(f"- {plain(line)}" for line in inquiry.differences(agreed))
        st.markdown(f"Farthest apart in rank, the 1st being what speaks most for it:\n\n{lines}")
