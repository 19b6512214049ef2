"""What is shown of a comparison: controls that ask again or filter, the panes, and figures beneath them."""

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
from workbench.sessions.comparison import Run, asked
from workbench.sessions.explanation import Findings
from workbench.widgets.messages import plain
from workbench.widgets.polling import follow

POLL_S = 0.4
WHOLE = "whole note"
MOST_TARGETS = 300  # that are offered to be explained


class Shown(NamedTuple):
    """A run as it is drawn: its panes through the filter, and the comparison of those that have a prediction."""

    panes: list[highlight.Pane]
    comparison: Comparison | None


def show(run: Run) -> None:
    """Draw everything, and again while answers are awaited."""
    done = run.done
    with st.container():  # there also when empty, so that the panes stay the same element and keep their place
        run, kept = _controls(run) if done else (run, Filter())
    # Each poll draws the panes anew, which takes its time where the note is very long.
    poll_s = POLL_S + len(run.note.text) / 200_000
    moving = not (done and run.done)  # the controls may have asked again
    follow(lambda: _draw(run, kept), every_s=poll_s, moving=moving, over=lambda: run.done)
    if not moving:
        _beneath(run, kept)


def through(run: Run, kept: Filter) -> Shown:
    """The run through a filter."""
    panes = [pane._replace(prediction=pane.prediction and apply_filter(pane.prediction, kept)) for pane in run.panes]
    found = [pane.prediction for pane in panes if pane.prediction]
    return Shown(panes, compare(found) if len(found) > 1 else None)


# --- Above the panes


def _controls(run: Run) -> tuple[Run, Filter]:
    """Context length and filter, once every answer is there; the run and the filter that they choose."""
    if len(whole := run.found) < len(run.answers):
        return run, Filter()
    guide = st.container()
    left, middle, right = st.columns([5, 4, 4])
    with left:
        run = _in_context(run, whole)
    with middle:
        percent = st.slider("Minimum score", 0, 100, 0, 5, format="%d %%", key="compare_least", help=_LEAST)
    with right:
        labels = _labels(whole)
    kept = Filter(labels=tuple(labels), min_score=percent / 100)
    with guide:
        _tell(story_steps(whole, run.context))
    _effects(run, whole, kept)
    return run, kept


_LEAST = "Hides what a model is less sure of. Scores of different models are not on one scale, and none is calibrated."


def _labels(whole: Sequence[Prediction]) -> list[str]:
    offered = sorted({label for found in whole if answers(found.task) == "spans" for label in found.label_set})
    if len(offered) < 2:
        return []
    st.session_state["compare_labels"] = [
        label for label in st.session_state.get("compare_labels", ()) if label in offered
    ]
    return st.multiselect("Labels", offered, format_func=plain, key="compare_labels", placeholder="All labels")


def _in_context(run: Run, whole: Sequence[Prediction]) -> Run:
    """The run as it is, or, where the person chose a context length, the same models on the beginning of its note."""
    offered = context.context_lengths(whole)
    if not offered:
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
    before: tuple | None = st.session_state.get("compare_context")
    if before is None or before[:2] != (run, chosen):
        for answer in before[2] if before else ():
            answer.cancel()
        texts = [run.note.text[: context.context_end(one, chosen)] for one in whole]
        before = st.session_state["compare_context"] = (run, chosen, asked(texts, run.arms))
    return run._replace(answers=before[2], whole=tuple(whole), context=chosen)


def _tell(steps: Sequence[str]) -> None:
    if steps:
        with st.container(border=True):
            st.markdown(f"**{TITLE}**\n\n" + "\n".join(f"{number}. {step}" for number, step in enumerate(steps, 1)))


def _effects(run: Run, whole: Sequence[Prediction], kept: Filter) -> None:
    """What the controls do, in figures."""
    if run.context and any(one.spans for one in whole):
        counts = _counts((context.count_in_view(one, run.context), len(one.spans)) for one in whole)
        st.caption(f"Findings in the whole note that lie within its first {run.context:,} tokens: {counts}.")
    if kept.active and run.done:
        st.caption(_effect(run, kept))


def _effect(run: Run, kept: Filter) -> str:
    """A 12 of 15, B 9 of 14 shown; agreement 71 %, without the filter 66 %."""
    before, after = through(run, Filter()), through(run, kept)
    pairs = zip(before.panes, after.panes, strict=True)
    counts = _counts(
        (count_answers(new.prediction), count_answers(old.prediction)) for old, new in pairs if old.prediction
    )
    if not before.comparison or before.comparison.agreement is None:
        return f"Shown: {counts}."
    now, then = (each.comparison.agreement for each in (after, before))
    if now is None:
        return f"Shown: {counts}; nothing is left to compare, without the filter agreement is {then:.0%}."
    return f"Shown: {counts}; agreement {now:.0%}, without the filter {then:.0%}."


def _counts(pairs) -> str:
    return ", ".join(f"{letter(number)} {few:,} of {all_:,}" for number, (few, all_) in enumerate(pairs))


# --- The panes


def _draw(run: Run, kept: Filter) -> None:
    with st.container():
        if not run.done:
            st.button("Stop", key="stop", icon=":material/stop:", on_click=run.stop)
    st.html(highlight.results(run.note.text, *through(run, kept)))


# --- Beneath the panes


def _beneath(run: Run, kept: Filter) -> None:
    _why(run)
    comparison = through(run, kept).comparison
    if comparison is None:
        return
    weighed, arms = _weighed(run), list(run.arms)
    left, right = st.columns([2, 3])
    with left:
        st.html(highlight.agreement_table(comparison.predictions, arms))
    with right:
        st.html(highlight.cost_table(comparison.predictions, weighed, arms))
    compare_downloads.offer(run, comparison, weighed, kept)


def _why(run: Run) -> None:
    """A way to Explain for what was found: first what not every model found, then the rest, the likeliest first."""
    found = Findings(run.note, dict(zip(run.arms, run.answers, strict=True)))
    if not (scores := found.targets()):
        return
    offered = sorted(scores, key=lambda each: None not in scores[each])[:MOST_TARGETS]
    left, right = st.columns([5, 1], vertical_alignment="bottom")
    target = left.selectbox(
        "Why did a model say it?",
        offered,
        format_func=lambda each: found.named(each, scores[each]),
        key="compare_why",
    )
    finders = sorted(range(len(run.arms)), key=lambda number: scores[target][number] is None)
    with right:
        arms = [list(run.arms)[number] for number in finders]
        links.explain(arms, label="Explain", target=target)


def _weighed(run: Run) -> tuple[Weights, ...]:
    """The weights of each arm, looked up once a run."""
    before = st.session_state.get("compare_weights")
    if before is None or before[0] != list(run.arms):
        before = st.session_state["compare_weights"] = (list(run.arms), tuple(map(find_weights, run.arms)))
    return before[1]
