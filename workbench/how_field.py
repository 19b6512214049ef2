"""Choosing how an explanation is computed: method with its options, parts, baseline, context and checks."""

from typing import Any

import streamlit as st

from workbench.explain import GRAINS, METHODS
from workbench.explain.wording import PARTS, meaning
from workbench.pages import plain

_BASELINES = {None: "the usual one", "mask": "mask", "pad": "padding"}


def choose() -> dict[str, Any]:
    """What is chosen, as options of workbench.explain.explain_text."""
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
    chosen = {"method_name": name, "options": options, "grain": grain, "baseline": baseline}
    return chosen | {"context": context, "checks": checks}


def _options(method: str) -> dict[str, float]:
    """The numbers that a method can be given."""
    fields = {name: field for name, field in METHODS[method].model_fields.items() if name not in ("name", "seed")}
    if not fields:
        return {}
    return {
        name: column.number_input(
            field.description,
            min_value=next(field.annotation(bound.ge) for bound in field.metadata if hasattr(bound, "ge")),
            max_value=next(field.annotation(bound.le) for bound in field.metadata if hasattr(bound, "le")),
            value=field.default,
            key=f"explain_{method}_{name}",
            persist_state="session",
        )
        for column, (name, field) in zip(st.columns(3), fields.items(), strict=False)
    }
