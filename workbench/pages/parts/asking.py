"""What each model found at a place of the note that a person clicks or selects, and links that explain it."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import streamlit as st
from streamlit.components.v2 import component

from trainer.datasets.attributes import output_name
from trainer.prediction import Prediction, Span
from trainer.tasks import marks_spans
from workbench import highlight
from workbench.compare.findings import span_values, value_in_words
from workbench.explain.targets import AttributeTarget, SpanTarget, parse
from workbench.explain.wording import describe_target, name_target
from workbench.highlight.markup import PLAIN_VALUE
from workbench.pages.parts import links
from workbench.predict import letter, percent
from workbench.sessions.explanation import quote
from workbench.widgets.messages import plain

_asking = component("stillroom_asking", html=str(highlight.ASK_BUTTON), js=highlight.ASKING, isolate_styles=False)


class Place(NamedTuple):
    """text[start:end] in one of the panes."""

    pane: int
    start: int
    end: int


def offer(text: str, panes: Sequence[highlight.Pane]) -> None:
    """Wait for a click or a selection in the panes, and answer it in a dialog."""
    result = _asking(key="asked", on_place_change=lambda: None)
    if place := read_place(result.get("place"), text, len(panes)):
        st.dialog("What was found here")(_answer)(text, panes, place)


def read_place(sent: object, text: str, panes: int) -> Place | None:
    """What the browser sent, as a place in the text without the white space around it; None if it is none."""
    if not isinstance(sent, Mapping):
        return None
    pane, start, end = (sent.get(name) for name in Place._fields)
    if not (isinstance(pane, int) and isinstance(start, int) and isinstance(end, int)):
        return None
    if not (0 <= pane < panes and 0 <= start < end <= len(text)):
        return None
    words = text[start:end]
    start, end = start + len(words) - len(words.lstrip()), end - (len(words) - len(words.rstrip()))
    return Place(pane, start, end) if start < end else None


def _answer(text: str, panes: Sequence[highlight.Pane], place: Place) -> None:
    st.markdown(f"“{plain(quote(text, place.start, place.end))}”")
    targets: dict[str, list[str]] = {}  # the arms that find it, by target
    for number, pane in enumerate(panes):
        prediction = pane.prediction
        if prediction is None or not marks_spans(prediction.task):
            continue
        spans = [span for span in prediction.spans if span.start < place.end and place.start < span.end]
        model = f"**{letter(number)} {plain(pane.title)}**" if len(panes) > 1 else f"**{plain(pane.title)}**"
        st.markdown("\n".join([model, *(f"- {plain(in_words(span, text))}" for span in spans)]))
        if not spans:
            st.markdown("Not read by this model." if _is_unread(prediction, place) else "Nothing found here.")
        if pane.caution:
            st.caption(plain(pane.caution))
        for target in (target for span in spans for target in targets_of(span)):
            targets.setdefault(target, []).append(pane.name)
    for target, finders in targets.items():
        links.explain(
            _first(finders, [pane.name for pane in panes]), label=plain(question(text, target)), target=target
        )
    if not targets:
        _ask_why_not(panes, place)


def targets_of(span: Span) -> list[str]:
    """What can be asked of a finding: why it has its label, and why it is, for instance, absent."""
    values = [(name, each.value) for name, each in sorted(span.attributes.items()) if each.value != PLAIN_VALUE]
    return [f"{span.start}:{span.end}:{output}" for output in (span.label, *(output_name(*each) for each in values))]


def question(text: str, target: str) -> str:
    """A target as a link puts it, quoting the note."""
    asked = parse(target)
    words = quote(text, asked.start, asked.end) if isinstance(asked, SpanTarget) else ""
    return (
        describe_target(asked, words) if isinstance(asked, AttributeTarget) else f"Explain {name_target(asked, words)}"
    )


def in_words(span: Span, text: str) -> str:
    """A finding in one line: its words, label, score, and its attributes with theirs."""
    score = (
        ""
        if not span.attributes
        else ": "
        + ", ".join(
            f"{value_in_words(value)} ({percent(span.attributes[name].score)})"
            for name, value in zip(sorted(span.attributes), span_values(span), strict=True)
        )
    )
    return f"“{quote(text, span.start, span.end)}”, {span.label} ({percent(span.score)}){score}"


def _ask_why_not(panes: Sequence[highlight.Pane], place: Place) -> None:
    """A link that explains how far a model is from calling these words one of its labels. It holds offsets, no text."""
    known = {
        pane.name: pane.prediction.label_set for pane in panes if pane.prediction and marks_spans(pane.prediction.task)
    }
    labels = list(dict.fromkeys(label for label_set in known.values() for label in label_set))
    if not labels:
        return
    label = st.selectbox("Why is this not a", labels, format_func=plain, key="why_not")
    arms = [arm for arm, label_set in known.items() if label in label_set]
    links.explain(arms, label="Explain why not", target=f"{place.start}:{place.end}:{label}")


def _first(arms: Sequence[str], others: Sequence[str]) -> list[str]:
    """These arms, then the others."""
    return list(dict.fromkeys([*arms, *others]))


def _is_unread(prediction: Prediction, place: Place) -> bool:
    return any(start < place.end and place.start < end for start, end in prediction.coverage.unread)
