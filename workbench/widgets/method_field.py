"""Choosing how an explanation is computed: method with its options, parts, baseline, context and checks."""

import streamlit as st

from trainer.errors import BadSpec
from workbench.explain import GRAINS, METHODS, ExplainOptions, method
from workbench.explain.wording import PARTS, meaning
from workbench.launch import form
from workbench.widgets.messages import plain

_BASELINES = {None: "the usual one", "mask": "mask", "pad": "padding"}


def choose() -> ExplainOptions | None:
    """What is chosen; None where a number is wrong, which is said."""
    with st.expander("How it is computed"):
        first, second, third = st.columns(3)
        kept = {"persist_state": "session"}
        name = first.selectbox(
            "Method", list(METHODS), format_func=lambda each: METHODS[each].title, key="explain_method", **kept
        )
        own = METHODS[name].grain
        grain = second.selectbox(
            "Parts",
            [None, *GRAINS],
            format_func=lambda each: PARTS[each] if each else f"{PARTS[own]}, as this method does",
            key="explain_grain",
            **kept,
        )
        baseline = third.selectbox(
            "Hidden parts become", list(_BASELINES), format_func=_BASELINES.get, key="explain_baseline", **kept
        )
        st.caption(plain(meaning(name)))
        options = _options(name)
        context = st.toggle(
            "Explain with what is around it: its own words stay in place", key="explain_context", **kept
        )
        checks = st.toggle(
            "Checks: infidelity, sensitivity and randomised weights, which take several times as long",
            key="explain_checks",
            **kept,
        )
    if options is None:
        return None
    return ExplainOptions(
        method=name, method_options=options, grain=grain, baseline=baseline, context=context, checks=checks
    )


def _options(name: str) -> dict[str, float] | None:
    """The numbers that a method is given; None where one is wrong. They are typed as text, as in launch.form."""
    fields = {each: field for each, field in METHODS[name].model_fields.items() if each not in ("name", "seed")}
    places = dict(zip(fields, st.columns(3), strict=False)) if fields else {}
    typed = {
        each: place.text_input(
            fields[each].description,
            value=str(fields[each].default),
            key=f"explain_{name}_{each}",
            persist_state="session",
        )
        for each, place in places.items()
    }
    try:
        return method(name, typed).model_dump(include=set(fields))
    except BadSpec as error:
        for field, problem in error.fields:
            with places[field.removeprefix(f"{name}.")]:
                form.show_problems([problem])
    return None
