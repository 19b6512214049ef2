"""The plan of a job: sizes of teacher and student, the layer map, and the terms of the loss."""

import streamlit as st

from trainer.spec import JobSpec
from workbench.launch import job_plan
from workbench.launch.job_plan import Plan
from workbench.pages.parts import layer_map

PLOT = {"displayModeBar": False}


def draw(spec: JobSpec, plan: Plan | None) -> None:
    """Draw the plan of a training job, or a caption if its models cannot be read."""
    if plan is None:
        st.caption("Sizes and layers appear once the chosen models can be read.")
        return
    st.header("What the job will do", anchor=False)
    _sizes(plan)
    if plan.teacher or plan.copied:
        _map(plan)
    _terms(spec, plan)


def count(params: int) -> str:
    """A number of parameters: "22.7 M", "304 k"."""
    return f"{params / 1e6:.1f} M" if params >= 1e6 else f"{params / 1e3:.0f} k"


def _sizes(plan: Plan) -> None:
    origin, origin_size = "Base", plan.base_size
    if plan.teacher:
        origin, origin_size = "Teacher", plan.teacher_size
    learner = "Student" if plan.teacher else "Model"
    shown = [(learner, plan.student, plan.student_size)]
    if plan.teacher or plan.made:
        shown.insert(0, (origin, plan.teacher or plan.base, origin_size))
    with st.grid(2, min_column_width=150):
        for label, shape, params in shown:
            share = None
            if len(shown) > 1 and label == learner and params and origin_size:
                share = f"{params / origin_size:.0%} of {origin.lower()}"
            value = count(params) if params else "not known"
            with st.container(gap="xxsmall"):
                st.metric(f"{label}, parameters", value, delta=share, delta_color="off", delta_arrow="off")
                dimensions = f"{shape.layers} layers of width {shape.hidden:,}, {shape.heads} heads"
                st.caption(f"{dimensions}, {shape.vocabulary:,} word pieces")
    if plan.embeddings and plan.student_size:
        st.caption(f"{plan.embeddings / plan.student_size:.0%} of the {learner.lower()}'s parameters are embeddings.")


def _map(plan: Plan) -> None:
    # A student is copied from its base; if that is not its teacher, there is nothing on the left to draw lines from.
    copied = plan.copied if plan.from_teacher or not plan.teacher else ()
    left = plan.teacher or plan.base
    figure = layer_map.layer_map_figure(
        plan.student.layers,
        left.layers,
        terms=plan.terms if plan.teacher else (),
        copied=copied,
        titles=("Teacher" if plan.teacher else "Base", "Student" if plan.teacher else "Model"),
    )
    st.markdown("**Layer map**")
    st.plotly_chart(figure, key="train.map", config=PLOT, alt=_description(plan))
    if plan.copied:
        st.caption(_copies(plan))


def _copies(plan: Plan) -> str:
    origin = "the teacher" if plan.from_teacher else "the base"
    layers = plan.copied[1:]
    if not layers:
        return f"The embeddings are copied from {origin}; the layers start at random."
    low, high = (", ".join(str(pair[side]) for pair in layers) for side in (0, 1))
    return f"The embeddings and layers {low} start as copies of the embeddings and layers {high} of {origin}."


def _description(plan: Plan) -> str:
    """The map in words, for screen readers."""
    copied = [f"layer {low} copied from {high}" for low, high in plan.copied if low]
    compared = [f"{term.traits.title}: {job_plan.levels_of(term)}" for term in plan.terms]
    return "Layer map. " + "; ".join([*copied, *compared])


def _terms(spec: JobSpec, plan: Plan) -> None:
    st.markdown("**Terms of the loss**")
    for term in plan.terms:
        facts = [f"weight {term.weight:.4g}"]
        if term.traits.softened:
            facts.append(f"temperature {term.temperature:g}")
        facts.append(job_plan.levels_of(term))
        if term.projected and plan.teacher and plan.student.hidden != plan.teacher.hidden:
            facts.append("through a projection")
        if term.heads:
            facts.append(f"{term.heads} relation heads")
        with st.container(border=True, gap="xxsmall"):
            with st.container(horizontal=True, horizontal_alignment="distribute", gap="small"):
                st.markdown(f"**{term.traits.title}**", width="content")
                st.caption(" · ".join(facts), width="content")
            st.caption(term.traits.meaning)
    if not plan.terms:
        st.caption("No term has a weight above zero.")
    elif getattr(spec.recipe, "exact", False):
        st.caption("Computed exactly as in the papers' code: see the recipe option `exact`.")
