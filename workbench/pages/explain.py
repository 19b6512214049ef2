"""Explain: which parts of a note one or two models base a finding on, and how far to rely on that.

The address holds the sample's id, the models, and a finding's offsets and label, never text. Note and explanations stay
in the memory of this session.
"""

from functools import partial

import streamlit as st

from trainer.errors import StillroomError
from trainer.queue import published
from trainer.tasks import for_notes
from trainer.zoo import ModelEntry
from workbench import highlight, lab
from workbench.compare.arms import model_titles, read_beside
from workbench.explain import ExplainOptions, targets
from workbench.explain.agreement import compare_explanations
from workbench.explain.wording import PARTS, describe_agreement
from workbench.note import Note, samples
from workbench.pages.parts import asking, explain_downloads, links
from workbench.predict import Arm
from workbench.sessions.comparison import Run
from workbench.sessions.explanation import Findings, Inquiry
from workbench.widgets import method_field, note_field
from workbench.widgets.messages import plain, show_error
from workbench.widgets.polling import follow

POLL_S = 0.4
MAX_TARGETS = 300
TYPED = ""  # the option for a target that a person typed or selected in the note
_NONE = "no other model"
_UPLOAD = note_field.SOURCES[2]


def render() -> None:
    """Draw the page; start an explanation when the person asks for one or a link names a target."""
    st.title("Explain", anchor=False)
    st.caption(
        "See which parts of a note support a model's finding, and how far to rely on the explanation. "
        "For research, not for clinical decisions. Nothing you enter is stored."
    )
    titles = _titles()
    linked = _arrive(titles)
    with st.container():  # the note is one line or a field, and the panes below keep their place
        note, problem = _choose_note()
    with st.container():
        arms = _choose_models(titles)
        note = note_field.beside(note, needed := read_beside(arms, _ready()))
        note_field.draw_beside(needed)
    st.html(highlight.STYLE)
    if problem:
        show_error(problem)
    if note is None or not arms or note_field.is_lacking(note, needed):
        _forget()
        return
    findings = _findings(note, arms)
    chosen = {arm: titles[arm] for arm in arms}
    controls = st.container()  # present even when empty, so that the panes stay the same element and keep their place
    if not findings.done:
        follow(lambda: _show_findings(findings, chosen), every_s=POLL_S, moving=True, done=lambda: findings.done)
        return
    with controls:
        target, pressed, options = _ask(findings, linked)
        started = (pressed or (linked and target)) and _start(note, target, chosen, options)
        st.session_state.pop("explain_linked", None)  # only now: until the start it is still to be explained
        if started:
            st.rerun()  # without the note's field, which has been drawn already
        inquiry = _current(note, chosen)
        if inquiry and options and not inquiry.is_about(note, target, chosen, options):
            st.caption("Showing the previous explanation. Press Explain for the current selection.")
    _write_address(arms, target, findings)
    if inquiry:
        # Each poll redraws the picture, which takes longer for a long note.
        poll_s = POLL_S + len(note.text) / 200_000
        moving = not inquiry.settled
        follow(lambda: _draw(inquiry, ended=not moving), every_s=poll_s, moving=moving, done=lambda: inquiry.settled)
    else:
        moving = False
        follow(lambda: _show_findings(findings, chosen), every_s=POLL_S, moving=False)
    if not moving:  # the answer to a click is drawn with the whole page, which polls would draw anew
        asking.offer(note.text, findings.panes(chosen))


# --- Arriving


def _arrive(titles: dict[str, str]) -> str:
    """Take models, sample and target from a new address, or note and models from Compare.

    Returns the target of a link that is still to be explained; "" without one or after a change of note.
    """
    state, query = st.session_state, st.query_params
    state.setdefault("source", note_field.SOURCES[0])
    state.setdefault("sample", next((sample.id for sample in samples()), None))
    state.pop("sample_clicked", None)
    address = (query.get_all("model"), query.get("sample"), query.get("target", ""))
    new = any(address) and links.has_arrived("explain", address, _chosen())
    compared, inquiry = state.get("compare_run"), state.get("explain_inquiry")
    if compared and inquiry and compared is not state.get("explain_from") and inquiry.note != compared.note:
        _forget()  # it is about the note before
    if new:
        _choose(address[0], titles)
        is_here = note_field.arrive(address[1]) if address[1] else True
        state.explain_linked = (address[2] if is_here else "", state.source, state.sample)
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


def _write_address(arms: list[str], target: str, findings: Findings) -> None:
    """Write models and sample, and the target only if it is a finding: a typed target may hold any text."""
    sample = note_field.address()
    named = target if target in findings.targets() else ""
    query = {"model": arms, "sample": sample or [], "target": named or []}
    links.write("explain", (arms, sample, named), _chosen(), query)


def _chosen() -> tuple[object, ...]:
    target = f"explain_target_{st.session_state.get('explain_readings')}"
    return tuple(
        map(st.session_state.get, ("source", "sample", "explain_first", "explain_second", target, "explain_note_open"))
    )


# --- Choosing


def _ready() -> list[ModelEntry]:
    return published.ready(task=for_notes())


def _titles() -> dict[str, str]:
    """Every arm that the page offers with its unique title, including those of the last comparison."""
    compared = st.session_state.get("compare_run")
    return model_titles(_ready()) | (dict(compared.arms) if compared else {})


def _choose_note() -> tuple[Note | None, StillroomError | None]:
    """The note chosen here or on Compare, since an uploaded file does not carry over from page to page."""
    if inquiry := _folded():
        with st.container(horizontal=True, vertical_alignment="center"):
            note_field.show_line(inquiry.note, key="explain_change_note", on_change=_open_note)
        return inquiry.note, None
    note, problem = note_field.choose()
    if note or problem or st.session_state.source != _UPLOAD:
        return note, problem
    before = st.session_state.get("explain_inquiry") or st.session_state.get("compare_run")
    if before is None:
        return None, None
    st.caption(f"Showing the note of the last {'comparison' if isinstance(before, Run) else 'explanation'}.")
    return before.note, None


def _folded() -> Inquiry | None:
    """The inquiry whose note is a line in place of its field: one that is shown, until the person changes the note."""
    state = st.session_state
    inquiry: Inquiry | None = state.get("explain_inquiry")
    if inquiry is None or state.get("explain_note_open", True):
        return None
    note, _ = note_field.entered()
    same = note.text == inquiry.note.text if note else state.get("source") == _UPLOAD
    return inquiry if same else None


def _open_note() -> None:
    st.session_state.explain_note_open = True


def _choose_models(titles: dict[str, str]) -> list[str]:
    if not titles:
        st.warning("No model on this machine can read notes yet. Train one, or find one to download on the Zoo page.")
        return []
    if unknown := st.session_state.get("explain_unknown"):
        st.warning(f"This link names models that are not available on this machine: {plain(', '.join(unknown))}.")
    for key in ("explain_first", "explain_second"):
        if st.session_state.get(key) not in titles:
            st.session_state[key] = next(iter(titles)) if key == "explain_first" else None
    left, right = st.columns(2)
    first = left.selectbox(
        "Model",
        list(titles),
        format_func=lambda arm: titles.get(arm, _NONE),
        key="explain_first",
        persist_state="session",
    )
    second = right.selectbox(
        "Compare with",
        [None, *titles],
        format_func=lambda arm: titles.get(arm, _NONE),
        key="explain_second",
        placeholder=_NONE,
        persist_state="session",
    )
    return list(dict.fromkeys(arm for arm in (first, second) if arm))


def _findings(note: Note, arms: list[str]) -> Findings:
    """What the models find: known from before, taken from Compare, or requested now."""
    state = st.session_state
    previous: Findings | None = state.get("explain_findings")
    if previous and (previous.note, list(previous.answers)) == (note, arms):
        return previous
    known = dict(previous.answers) if previous and previous.note == note else {}
    if (compared := state.get("compare_run")) and compared.note == note:
        known |= dict(zip(compared.arms, compared.answers, strict=True))
    usable = {arm: answer for arm, answer in known.items() if not answer.cancelled()}
    submit = partial(lab.shared().submit, hypothesis=note.hypothesis, question=note.question)
    answers = {arm: usable.get(arm) or submit(note.text, Arm.parse(arm)) for arm in arms}
    if previous and previous.note != note:
        state[method_field.TYPED] = ""  # its offsets were of the note before
    state.explain_findings = findings = Findings(note, answers)
    state.explain_readings = state.get("explain_readings", 0) + 1
    return findings


def _show_findings(findings: Findings, titles: dict[str, str]) -> None:
    st.html(highlight.results(findings.note.text, findings.panes(titles)))


def _ask(findings: Findings, linked: str) -> tuple[str, bool, ExplainOptions | None]:
    """The chosen target, whether Explain was pressed, and the options; None where an option is invalid."""
    offered = dict(list(findings.targets().items())[:MAX_TARGETS])
    state = st.session_state
    # A select box identifies its choice by the text shown, which holds scores, so new findings get a new box.
    key = f"explain_target_{state.explain_readings}"
    if linked:
        state[key], state[method_field.TYPED] = (linked, "") if linked in offered else (TYPED, linked)
    typed = (state.get(method_field.TYPED) or "").strip()
    options = [*offered, *([TYPED] if typed else [])]
    if state.get(key) not in options:
        previous = state.get("explain_asked")
        state[key] = previous if previous in options else next(iter(options), None)
    left, right = st.columns([5, 1], vertical_alignment="bottom")
    with left:
        target = st.selectbox(
            "Finding to explain",
            options,
            format_func=lambda each: findings.title(each, offered[each]) if each else findings.title(typed),
            key=key,
            persist_state="session",
            placeholder="Nothing was found in this note",
        )
    with right:
        pressed = st.button("Explain", type="primary", shortcut="Ctrl+Enter", width="stretch", disabled=not options)
    st.caption("To ask why something else was not found, select its words in the note below.")
    state.explain_asked = target
    return target or typed, pressed, method_field.choose(on_typed=lambda: _take_typed(key))


def _take_typed(key: str) -> None:
    """Choose what was typed, or a finding again if it was taken back."""
    state = st.session_state
    state[key] = state.explain_asked = TYPED if state[method_field.TYPED].strip() else None


# --- Asking and showing


def _start(note: Note, target: str, arms: dict[str, str], options: ExplainOptions | None) -> bool:
    """Start the explanation and fold the note; or show what is wrong with the target or an option, and return False."""
    if options is None:
        st.error("Correct the marked number under *Details* first.")
        return False
    try:
        targets.parse(target).check(note.text)
    except StillroomError as error:
        show_error(error)
        return False
    _forget()
    st.session_state.explain_inquiry = Inquiry(note, target, arms, options)
    st.session_state.explain_note_open = False
    st.session_state[explain_downloads.INCLUDE] = False
    return True


def _forget() -> None:
    if inquiry := st.session_state.pop("explain_inquiry", None):
        inquiry.stop()


def _current(note: Note, arms: dict[str, str]) -> Inquiry | None:
    """The inquiry about this note and these models; one about others is dropped."""
    inquiry: Inquiry | None = st.session_state.get("explain_inquiry")
    if inquiry and (inquiry.note, inquiry.arms) == (note, arms):
        return inquiry
    _forget()
    return None


def _draw(inquiry: Inquiry, *, ended: bool) -> None:
    """The explanation as far as it is. ended: whether this is its last picture, which stays as it is."""
    left, right = st.columns([5, 1], vertical_alignment="bottom")
    left.header(plain(inquiry.title()), anchor=False)
    if not inquiry.explained:
        right.button("Stop", icon=":material/stop_circle:", width="stretch", on_click=inquiry.stop)
    inquiry.ablate_strongest()
    with st.container():
        for sentence in (*inquiry.summaries(), *inquiry.ablation_sentences()):
            st.markdown(plain(sentence))
        grain = _grain(inquiry)
    st.html(highlight.attribution(inquiry.note.text, inquiry.sides(grain), inquiry.place))
    _agreement(inquiry, grain)
    if ended and inquiry.grains():
        explain_downloads.offer(inquiry, grain)


def _grain(inquiry: Inquiry) -> str | None:
    """The grain to show: that of the answer, or a coarser one whose scores are sums."""
    offered = inquiry.grains()
    if len(offered) < 2:
        return None
    return st.segmented_control(
        "Show by",
        offered,
        default=offered[-1],
        required=True,
        format_func=lambda each: PARTS[each],
        key=f"explain_shown_{offered[-1]}",  # the options depend on the grain of the answer
    )


def _agreement(inquiry: Inquiry, grain: str | None) -> None:
    explanations = [explanation for explanation in inquiry.at(grain) if explanation]
    if len(explanations) < 2 or not inquiry.grains():
        return
    st.header("Agreement between the models", anchor=False)
    try:
        agreed = compare_explanations(*explanations)
    except StillroomError as error:
        st.caption(plain(error))
        return
    same, figures = describe_agreement(agreed, explanations[0].grain)
    st.markdown(plain(same))
    with st.expander("Figures"):
        st.markdown(plain(figures))
        if agreed.differences:
            lines = "\n".join(f"- {plain(line)}" for line in inquiry.differences(agreed))
            st.markdown(f"Largest rank differences (1 = strongest support):\n\n{lines}")
