"""Controls for how an explanation is computed: method and its options, parts, baseline, own words and checks; and a
field for what to explain as offsets.
"""

from collections.abc import Callable

import streamlit as st

from trainer.errors import BadSpec
from workbench.explain import GRAINS, METHODS, ExplainOptions, make_method
from workbench.explain.wording import PARTS, method_summary
from workbench.launch import form
from workbench.widgets.messages import plain

TYPED = "explain_typed"  # the key of a target as a person typed it
_BASELINES = {None: "default", "mask": "mask token", "pad": "padding token"}


def choose(on_typed: Callable[[], None]) -> ExplainOptions | None:
    """Draw the controls; returns the options, or None with an error shown if a number is invalid.

    on_typed: called when a target was typed or taken back.
    """
    with st.expander("Details", key="explain_details"):  # a key, so that it stays open when the note folds
        first, second, third = st.columns(3)
        name = first.selectbox(
            "Method",
            list(METHODS),
            format_func=lambda each: METHODS[each].title,
            key="explain_method",
            persist_state="session",
        )
        default = METHODS[name].grain
        grain = second.selectbox(
            "Parts",
            [None, *GRAINS],
            format_func=lambda each: PARTS[each] if each else f"{PARTS[default]} (default of this method)",
            key="explain_grain",
            persist_state="session",
        )
        baseline = third.selectbox(
            "Replace hidden parts with",
            list(_BASELINES),
            format_func=_BASELINES.__getitem__,
            key="explain_baseline",
            persist_state="session",
        )
        st.caption(plain(method_summary(name)))
        options = _options(name)
        own_words = st.toggle(
            "Include the finding's own words",
            key="explain_own_words",
            persist_state="session",
        )
        checks = st.toggle(
            "Also check infidelity, sensitivity and randomised weights (takes several times as long)",
            key="explain_checks",
            persist_state="session",
        )
        st.text_input(
            "Something else to explain, by its position and label",
            key=TYPED,
            placeholder="START:END:LABEL, counting characters from 0, or LABEL of the whole note",
            persist_state="session",
            on_change=on_typed,
        )
    if options is None:
        return None
    return ExplainOptions(
        method=name, method_options=options, grain=grain, baseline=baseline, context=not own_words, checks=checks
    )


def _options(name: str) -> dict[str, float] | None:
    """The options of a method; None if one is invalid. Numbers are typed as text, as in launch.form."""
    fields = {each: field for each, field in METHODS[name].model_fields.items() if each not in ("name", "seed")}
    places = dict(zip(fields, st.columns(3), strict=False)) if fields else {}
    typed = {
        each: place.text_input(
            fields[each].description or each,
            value=str(fields[each].default),
            key=f"explain_{name}_{each}",
            persist_state="session",
        )
        for each, place in places.items()
    }
    try:
        return make_method(name, typed).model_dump(include=set(fields))
    except BadSpec as error:
        for field, problem in error.fields:
            with places[field.removeprefix(f"{name}.")]:
                form.show_problems([problem])
    return None
