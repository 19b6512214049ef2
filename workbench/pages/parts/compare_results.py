"""The results of a comparison: controls for context length and filter, the panes, and the figures below them."""

from collections.abc import Sequence
from typing import NamedTuple

import streamlit as st

from trainer.prediction import Prediction
from trainer.tasks import answers
from workbench import highlight
from workbench.compare import Comparison, compare, context
from workbench.compare.costs import Weights, find_weights
from workbench.compare.filters import Filter, apply_filter, count_answers
from workbench.compare.story import TITLE, story_steps
from workbench.pages.parts import compare_downloads, links
from workbench.predict import letter
from workbench.sessions.comparison import Run, request
from workbench.sessions.explanation import Findings
from workbench.widgets.messages import plain
from workbench.widgets.polling import follow

POLL_S = 0.4
WHOLE = "whole note"
MAX_TARGETS = 300  # offered for explanation


class View(NamedTuple):
    """A run after filtering: its panes, and the comparison of those with a prediction."""

    panes: list[highlight.Pane]
    comparison: Comparison | None


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
    """Draw context length and filter once every answer is there; returns the run and the filter to show."""
    if len(whole := run.predictions) < len(run.answers):
        return run, Filter()
    guide = st.container()
    left, middle, right = st.columns([5, 4, 4])
    with left:
        run = _in_context(run, whole)
    with middle:
        percent = st.slider("Minimum score", 0, 100, 0, 5, format="%d %%", key="compare_minimum", help=_SCORE_HELP)
    with right:
        labels = _labels(whole)
    chosen = Filter(labels=tuple(labels), min_score=percent / 100)
    with guide:
        _show_story(story_steps(whole, run.context))
    _effects(run, whole, chosen)
    return run, chosen


_SCORE_HELP = "Hides findings with lower scores. Scores are not calibrated and cannot be compared between models."


def _labels(whole: Sequence[Prediction]) -> list[str]:
    offered = sorted(
        {label for prediction in whole if answers(prediction.task) == "spans" for label in prediction.label_set}
    )
    if len(offered) < 2:
        return []
    st.session_state["compare_labels"] = [
        label for label in st.session_state.get("compare_labels", ()) if label in offered
    ]
    return st.multiselect("Labels", offered, format_func=plain, key="compare_labels", placeholder="All labels")


def _in_context(run: Run, whole: Sequence[Prediction]) -> Run:
    """The run on the whole note, or on its beginning if a context length is chosen."""
    offered = context.context_lengths(whole)
    if not offered:
        return run
    chosen = st.select_slider(
        "Context length",
        [*offered, WHOLE],
        WHOLE,
        format_func=lambda tokens: tokens if tokens == WHOLE else f"{tokens:,} tokens",
        help="Shows what the models find when they read only the beginning of the note, as with a short window.",
    )
    if chosen == WHOLE:
        return run
    previous: tuple | None = st.session_state.get("compare_context")
    if previous is None or previous[:2] != (run, chosen):
        for answer in previous[2] if previous else ():
            answer.cancel()
        texts = [run.note.text[: context.context_end(prediction, chosen)] for prediction in whole]
        previous = st.session_state["compare_context"] = (run, chosen, request(texts, run.arms))
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
    pairs = zip(before.panes, after.panes, strict=True)
    counts = _counts(
        [(count_answers(new.prediction), count_answers(old.prediction)) for old, new in pairs if old.prediction]
    )
    if not before.comparison or before.comparison.agreement is None:
        return f"Shown: {counts}."
    with_filter, without = (view.comparison.agreement for view in (after, before))
    if with_filter is None:
        return f"Shown: {counts}. Nothing is left to compare; agreement without the filter: {without:.0%}."
    return f"Shown: {counts}. Agreement: {with_filter:.0%} with the filter, {without:.0%} without."


def _counts(pairs: Sequence[tuple[int, int]]) -> str:
    return ", ".join(f"{letter(number)} {part:,} of {total:,}" for number, (part, total) in enumerate(pairs))


# --- The panes


def _draw(run: Run, chosen: Filter) -> None:
    with st.container():
        if not run.done:
            st.button("Stop", key="stop", icon=":material/stop:", on_click=run.stop)
    st.html(highlight.results(run.note.text, *apply(chosen, run)))


# --- Below the panes


def _below(run: Run, chosen: Filter) -> None:
    _link_to_explain(run)
    comparison = apply(chosen, run).comparison
    if comparison is None:
        return
    run_weights, arms = _weights(run), list(run.arms)
    left, right = st.columns([2, 3])
    with left:
        st.html(highlight.agreement_table(comparison.predictions, arms))
    with right:
        st.html(highlight.cost_table(comparison.predictions, run_weights, arms))
    compare_downloads.offer(run, comparison, run_weights, chosen)


def _link_to_explain(run: Run) -> None:
    """A link to Explain for a finding; those that some model missed first, each group by score."""
    findings = Findings(run.note, dict(zip(run.arms, run.answers, strict=True)))
    if not (scores := findings.targets()):
        return
    offered = sorted(scores, key=lambda each: None not in scores[each])[:MAX_TARGETS]
    left, right = st.columns([5, 1], vertical_alignment="bottom")
    target = left.selectbox(
        "Finding to explain",
        offered,
        format_func=lambda each: findings.title(each, scores[each]),
        key="compare_why",
    )
    finders = sorted(range(len(run.arms)), key=lambda number: scores[target][number] is None)
    with right:
        arms = [list(run.arms)[number] for number in finders]
        links.explain(arms, label="Explain", target=target)


def _weights(run: Run) -> tuple[Weights, ...]:
    """The weights of each arm, looked up once per run."""
    cached = st.session_state.get("compare_weights")
    if cached is None or cached[0] != list(run.arms):
        cached = st.session_state["compare_weights"] = (list(run.arms), tuple(map(find_weights, run.arms)))
    return cached[1]
