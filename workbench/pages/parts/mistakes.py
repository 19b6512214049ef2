"""Where a model errs, on the page of its run: mistakes by kind and label, the worst items, parts and calibration.

Only counts and places are stored. The words come from the data set while the page is drawn, and stay in memory.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from trainer.datasets import cards
from trainer.evaluation import outcomes as scored
from trainer.evaluation.outcomes import Mistake, Outcomes
from trainer.queue import Job
from workbench.note import DatasetItem, dataset_item, item_id
from workbench.pages.parts import links
from workbench.results import comparison
from workbench.widgets import charts
from workbench.widgets.messages import plain

MOST_ITEMS, MOST_MISTAKES, AROUND = 200, 20, 48  # offered; shown of one item; code points around a mistake
KINDS = {
    "missed": "missed",
    "spurious": "made up",
    "boundary": "wrong boundary",
    "label": "wrong label",
}  # an attribute is called by its name
_FIGURE = {"displayModeBar": False}
_SCORE = st.column_config.NumberColumn(format="%.3f")


def draw(job: Job, report: Mapping[str, Any]) -> None:
    """Draw what the run stored of its items; nothing for a run that stored none."""
    outcomes = comparison.outcomes_of(job.id)
    if outcomes is not None:
        st.header("Where it errs", anchor=False)
        if outcomes.mistakes:
            _by_kind(outcomes)
        _tables(outcomes, report)
        if outcomes.mistakes:
            _confusion(outcomes)
            _items(job, outcomes)
    if known := report.get("calibration"):
        _calibration(known)


def _by_kind(outcomes: Outcomes) -> None:
    counts = Counter(_kind(each) for each in outcomes.mistakes)
    with st.container(horizontal=True):
        for kind, number in counts.most_common():
            st.metric(charts.capitalised(kind), f"{number:,}", width=150)


def _tables(outcomes: Outcomes, report: Mapping[str, Any]) -> None:
    left, right = st.columns(2, gap="large")
    with left:
        st.subheader("By label", anchor=False)
        titles = {"label": "Label", "gold": "Examples", "precision": "Precision", "recall": "Recall", "f1": "F1"}
        table = pd.DataFrame(scored.by_label(outcomes), columns=list(titles)).rename(columns=titles)
        config = dict.fromkeys(("Precision", "Recall", "F1"), _SCORE)
        st.dataframe(table, hide_index=True, column_config=config, alt="Precision, recall and F1 of each label")
    parts = report.get("slices")
    with right:
        if parts:
            st.subheader("By part of the data", anchor=False)
            rows = [
                {"By": each["slice"], "Part": each["part"], "n": each["n"], "Score": each["score"]}
                | {"95 % interval": "{:.3f} to {:.3f}".format(*each["interval"])}
                for each in parts
            ]
            st.dataframe(
                pd.DataFrame(rows), hide_index=True, column_config={"Score": _SCORE}, alt="Scores of parts of the data"
            )


def _confusion(outcomes: Outcomes) -> None:
    counts = scored.confusions(outcomes)
    if len(outcomes.labels) < 2:
        return
    with st.expander("Which labels are taken for which", icon=":material/grid_on:"):
        figure = charts.confusion_figure(counts, outcomes.labels)
        st.plotly_chart(figure, key="jobs.confusion", config=_FIGURE, alt="Gold labels against what the model answered")


def _items(job: Job, outcomes: Outcomes) -> None:
    """The items with the most mistakes, one of which is shown."""
    worst = scored.worst(outcomes)
    titles = {
        document: f"Item {document + 1:,}: {number:,} mistake{'s' * (number != 1)} ({_enumerated(kinds)})"
        for document, number, kinds in worst[:MOST_ITEMS]
    }
    st.subheader("Worst items", anchor=False)
    chosen = st.selectbox(
        f"Items with mistakes, most first ({len(worst):,} of {outcomes.n:,} {outcomes.unit})"
        if outcomes.documents is None
        else f"Documents with mistakes, most first ({len(worst):,})",
        list(titles),
        format_func=lambda document: titles[document],
        key=f"jobs.item.{job.id}",
    )
    of_document = [
        each
        for each in outcomes.mistakes
        if (outcomes.documents[each.item] if outcomes.documents else each.item) == chosen
    ]
    _show_item(job, chosen, of_document)


def _show_item(job: Job, number: int, mistakes: Sequence[Mistake]) -> None:
    dataset = job.spec["dataset"]
    split = job.spec.get("split", "test") if job.kind == "evaluate" else "test"
    sentences = (job.spec.get("task") or {}).get("rows") == "sentences"
    reference = item_id(dataset, split, number, sentences=sentences)
    item = dataset_item(reference) if dataset in cards() else None
    model = job.id if job.artifact else str(job.spec.get("model"))
    if item:
        links.link("compare", label="Read it with this model", icon=":material/compare:", model=model, sample=reference)
    else:
        st.caption("The text of this data set cannot be shown here: only those that `stillroom datasets` lists can.")
    for each in mistakes[:MOST_MISTAKES]:
        with st.container(border=True, gap="xxsmall"):
            st.markdown(f"**{charts.capitalised(plain(_kind(each)))}**: {_answer(each)}")
            if item and each.places:
                st.markdown(_excerpt(item, each))
            if item and (target := _target(each)):
                links.explain([model], label="Explain", sample=reference, target=target)
    if len(mistakes) > MOST_MISTAKES:
        st.caption(f"{len(mistakes) - MOST_MISTAKES:,} more mistakes in this item.")


def _kind(mistake: Mistake) -> str:
    return f"wrong {mistake.attribute}" if mistake.attribute else KINDS[mistake.kind]


def _enumerated(kinds: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {KINDS.get(kind, kind)}" for kind, number in kinds.items())


def _answer(mistake: Mistake) -> str:
    """The label of what was missed or made up, or both sides: "problem, read as test"."""
    gold, predicted = (plain(each) if each else None for each in (mistake.gold, mistake.predicted))
    sure = f" :gray[({mistake.score:.0%} sure)]" if mistake.score is not None else ""
    if gold and predicted and gold != predicted:
        return f"{gold}, read as {predicted}{sure}"
    return f"{gold or predicted}{sure}"


def _excerpt(item: DatasetItem, mistake: Mistake) -> str:
    """The words of a mistake within their text: bold, and where both sides have places the gold ones first."""
    text, parts = item.note.text, []
    for start, end in mistake.places:
        before, words, after = text[max(0, start - AROUND) : start], text[start:end], text[end : end + AROUND]
        dots = ("…" if start > AROUND else "", "…" if end + AROUND < len(text) else "")
        shown = [plain(re.sub(r"\s+", " ", each)) for each in (before, words, after)]
        parts.append(f"{dots[0]}{shown[0]}**{shown[1]}**{shown[2]}{dots[1]}")
    titles = ("In the data", "Read") if mistake.kind in ("boundary", "label") else ("", "")
    named = zip(titles, parts, strict=False)
    return "  \n".join(f":gray[{title}:] {part}" if title and len(parts) > 1 else part for title, part in named)


def _target(mistake: Mistake) -> str | None:
    """What to explain: the finding that was read, or why a gold one was not; None of what has no place."""
    if len(mistake.places) == 0 or mistake.attribute:
        return None
    start, end = mistake.places[-1]
    return f"{start}:{end}:{mistake.predicted or mistake.gold}"


def _calibration(known: Mapping[str, Any]) -> None:
    st.header("How far its probabilities can be believed", anchor=False)
    left, right = st.columns([3, 2], gap="large", vertical_alignment="center")
    with left:
        figure = charts.reliability_figure(known["curve"], known["curve_scaled"])
        st.plotly_chart(figure, key="jobs.reliability", config=_FIGURE, alt="Share that is true against probability")
    with right:
        st.metric("Expected calibration error", f"{known['ece']:.3f}")
        st.metric(f"With temperature {known['temperature']:.2f}", f"{known['ece_scaled']:.3f}")
        st.caption(
            "The mean distance between what the model says, such as 90 %, and how often it is right then; 0 is best. "
            f"The temperature, fitted on {known['fitted_on']:,} items of dev, divides the logits."
        )
