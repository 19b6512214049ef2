"""The results of reading a note: what to list beside it, the filter, the panes, and the figures below them."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import streamlit as st

from trainer.prediction import Prediction
from trainer.tasks import answers, marks_spans
from workbench import highlight, lab
from workbench.compare import Comparison, compare, context
from workbench.compare.costs import find_weights
from workbench.compare.filters import Filter, apply_filter, count_answers
from workbench.compare.findings import LABELS, VALUES, value_in_words
from workbench.compare.story import TITLE, story_steps
from workbench.pages.parts import asking, compare_downloads, links
from workbench.predict import letter
from workbench.sessions.comparison import Run, request
from workbench.widgets.messages import plain
from workbench.widgets.polling import follow

POLL_S = 0.4
WHOLE = "whole note"
LISTS = ("Differences", "Findings")  # what can stand beside the panes of several models

T = TypeVar("T")


class View(NamedTuple):
    """A run after filtering: its panes, and the comparison of those with a prediction."""

    panes: list[highlight.Pane]
    comparison: Comparison | None

    @property
    def predictions(self) -> tuple[Prediction, ...]:
        """The predictions, in the order of the panes."""
        return tuple(pane.prediction for pane in self.panes if pane.prediction)


def show(run: Run) -> None:
    """Draw everything, and redraw the panes while answers are pending."""
    done = run.done
    with st.container():  # present even when empty, so that the panes stay the same element and keep their place
        run, chosen = _controls(run) if done else (run, Filter())
    # Each poll redraws the panes, which takes longer for a long note.
    poll_s = POLL_S + len(run.note.text) / 200_000
    moving = not (done and run.done)  # the controls may have started new requests
    follow(lambda: _draw(run, chosen), every_s=poll_s, moving=moving, done=lambda: run.done)
    if not moving:
        _below(run, chosen)


def apply(chosen: Filter, run: Run) -> View:
    """The view of a run after filtering."""
    panes = [pane._replace(prediction=pane.prediction and apply_filter(pane.prediction, chosen)) for pane in run.panes]
    predictions = [pane.prediction for pane in panes if pane.prediction]
    return View(panes, compare(predictions) if len(predictions) > 1 else None)


# --- Above the panes


def _controls(run: Run) -> tuple[Run, Filter]:
    """Draw the choice of the list, the filter and the details once every answer is there; returns what to show."""
    if len(whole := run.predictions) < len(run.answers):
        return run, Filter()
    guide = st.container()
    with st.container(horizontal=True, vertical_alignment="center", key="result_controls"):
        if len(whole) > 1 and any(marks_spans(prediction.task) for prediction in whole):
            st.segmented_control(
                "List", LISTS, default=LISTS[0], required=True, key="compare_list", label_visibility="collapsed"
            )
        with st.popover("Filter", icon=":material/filter_alt:"):
            chosen = _filter(whole)
        if offered := context.context_lengths(whole):
            with st.popover("Details", icon=":material/tune:"):
                run = _in_context(run, whole, offered)
    with guide:
        _show_story(story_steps(whole, run.context))
    _effects(run, whole, chosen)
    return run, chosen


def _filter(whole: Sequence[Prediction]) -> Filter:
    spans = [span for prediction in whole for span in prediction.spans]
    labels = {label for prediction in whole if marks_spans(prediction.task) for label in prediction.label_set}
    values = {each.value for span in spans for each in span.attributes.values()}
    percent = st.slider("Minimum score", 0, 100, 0, 5, format="%d%%", key="compare_minimum", help=_SCORE_HELP)
    return Filter(
        labels=_choose_some("Labels", _in_order(labels, LABELS), lambda label: LABELS.get(label, label), "labels"),
        values=_choose_some("Assertions", _in_order(values, VALUES), value_in_words, "values"),
        min_score=percent / 100,
    )


def _in_order(names: set[str], known: dict[str, str]) -> list[str]:
    """The names that are known in the order in which they are shown, then the others by the alphabet."""
    return [*(name for name in known if name in names), *sorted(names - known.keys())]


def _choose_some(title: str, offered: list[str], words: Callable[[str], str], name: str) -> tuple[str, ...]:
    """Those of the offered names that a person wants to see; none chosen means all."""
    if len(offered) < 2:
        return ()
    key = f"compare_{name}"
    st.session_state[key] = [each for each in st.session_state.get(key, ()) if each in offered]
    placeholder = f"All {title.lower()}"
    return tuple(
        st.multiselect(title, offered, format_func=lambda each: plain(words(each)), key=key, placeholder=placeholder)
    )


_SCORE_HELP = "Hides findings with lower scores. Scores are not calibrated and cannot be compared between models."


def _in_context(run: Run, whole: Sequence[Prediction], offered: Sequence[int]) -> Run:
    """The run on the whole note, or on its beginning if a context length is chosen."""
    lengths: list[int | str] = [*offered, WHOLE]
    chosen = st.select_slider(
        "Context length",
        lengths,
        WHOLE,
        format_func=lambda tokens: tokens if isinstance(tokens, str) else f"{tokens:,} tokens",
        help="Shows what the models find when they read only the beginning of the note, as with a short window.",
    )
    if isinstance(chosen, str):
        return run
    previous: tuple[Run, int, tuple[lab.Answer, ...]] | None = st.session_state.get("compare_context")
    if previous is None or previous[:2] != (run, chosen):
        for answer in previous[2] if previous else ():
            answer.cancel()
        texts = [run.note.text[: context.context_end(prediction, chosen)] for prediction in whole]
        asked = request(run.note, texts, run.arms, relations=run.relations)
        previous = st.session_state["compare_context"] = (run, chosen, asked)
    return run._replace(answers=previous[2], whole=tuple(whole), context=chosen)


def _show_story(steps: Sequence[str]) -> None:
    if steps:
        with st.container(border=True):
            st.markdown(f"**{TITLE}**\n\n" + "\n".join(f"{number}. {step}" for number, step in enumerate(steps, 1)))


def _effects(run: Run, whole: Sequence[Prediction], chosen: Filter) -> None:
    """The effect of the controls, in figures."""
    if run.context and any(prediction.spans for prediction in whole):
        counts = _counts(
            [(context.count_in_view(prediction, run.context), len(prediction.spans)) for prediction in whole]
        )
        st.caption(f"Findings from the whole note that lie within its first {run.context:,} tokens: {counts}.")
    if chosen.active and run.done:
        st.caption(_filter_effect(run, chosen))


def _filter_effect(run: Run, chosen: Filter) -> str:
    """Shown: A 12 of 15, B 9 of 14. Agreement: 71% with the filter, 66% without."""
    before, after = apply(Filter(), run), apply(chosen, run)
    pairs = zip(after.predictions, before.predictions, strict=True)
    counts = _counts([(count_answers(new), count_answers(old)) for new, old in pairs])
    if not before.comparison or before.comparison.agreement is None:
        return f"Shown: {counts}."
    without, with_filter = before.comparison.agreement, after.comparison.agreement if after.comparison else None
    if with_filter is None:
        return f"Shown: {counts}. Nothing is left to compare; agreement without the filter: {without:.0%}."
    return f"Shown: {counts}. Agreement: {with_filter:.0%} with the filter, {without:.0%} without."


def _counts(pairs: Sequence[tuple[int, int]]) -> str:
    counts = [f"{part:,} of {total:,}" for part, total in pairs]
    return counts[0] if len(counts) == 1 else ", ".join(f"{letter(place)} {each}" for place, each in enumerate(counts))


# --- The panes


def _draw(run: Run, chosen: Filter) -> None:
    with st.container():
        if not run.done:
            st.button("Stop", key="stop", icon=":material/stop:", on_click=run.stop)
    panes, comparison = apply(chosen, run)
    findings = len(run.arms) == 1 or st.session_state.get("compare_list") == "Findings"
    st.html(highlight.results(run.note.text, panes, comparison, findings=findings))
    if any(pane.prediction and pane.prediction.relations is not None for pane in panes):
        st.html(highlight.relations_table(run.note.text, panes))


# --- Below the panes


def _below(run: Run, chosen: Filter) -> None:
    view = apply(chosen, run)
    if not view.predictions:
        return
    asking.offer(run.note.text, view.panes)
    _explain_labels(view)
    arms = list(run.arms)
    weights = tuple(_by_arm("compare_weights", run, find_weights).values())
    with st.expander("Details", icon=":material/speed:"):
        if view.comparison:
            st.html(highlight.agreement_table(view.predictions, arms))
        st.html(highlight.cost_table(view.predictions, weights, arms))
    alone = Comparison(predictions=view.predictions, agreement=None, disagreements=())
    cautions = {pane.name: pane.caution for pane in view.panes}
    compare_downloads.offer(run, view.comparison or alone, weights, chosen, cautions)


def _explain_labels(view: View) -> None:
    """A link to Explain for each label that a model gives the whole note; findings are asked about by a click."""
    with st.container(horizontal=True):
        for number, pane in enumerate(view.panes):
            if pane.prediction and answers(pane.prediction.task) == "labels":
                for label in pane.prediction.chosen:
                    links.explain([pane.name], label=plain(f"Explain {letter(number)} {label}"), target=label)


def _by_arm(key: str, run: Run, look_up: Callable[[str], T]) -> dict[str, T]:
    """What is known of each arm, looked up once for the same arms."""
    known: dict[str, T] | None = st.session_state.get(key)
    if known is None or list(known) != list(run.arms):
        known = st.session_state[key] = {arm: look_up(arm) for arm in run.arms}
    return known
