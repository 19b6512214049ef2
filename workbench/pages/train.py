"""Train: the kind of job, its form, its plan and cost estimate, the same job as YAML, and queueing."""

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from trainer import datasets, queue, zoo
from trainer.errors import StillroomError
from trainer.recipes.recipe import Recipe
from trainer.spec import TRAINED, JobSpec
from trainer.tasks import TASKS, trained_by
from workbench.launch import form, job_plan, submission
from workbench.launch.draft import (
    AS_IS,
    KINDS,
    MADE,
    MADE_FROM,
    WAYS,
    Draft,
    default_values,
    parse_values,
    ready_specs,
)
from workbench.pages.parts import cost_estimate, dataset_field, plan_view, queueing
from workbench.widgets.messages import plain, show_error

CUSTOM = "Your own settings"  # instead of a ready-made spec
ABOUT = {
    "finetune": "Train a model on labelled text: entities, or labels of whole documents.",
    "distill": "Teach a smaller model what a larger one knows.",
    "pretrain": "Train a model further on unlabelled text from your field.",
    "average": "Average the weights of models of one shape, such as runs with different seeds, and score the result.",
    "evaluate": "Score a model on one split of a data set; nothing is trained.",
}
WAY_LABELS = {
    "student": {MADE: "Smaller teacher", MADE_FROM: "Smaller other model", AS_IS: "Existing model"},
    "model": {AS_IS: "Existing model", MADE: "Smaller version"},
}
DRAWN = (
    "model",
    "teacher",
    "student",
    "dataset",
    "recipe.name",
    "task.name",
)  # drawn separately, with facts beside them
SIZES = (
    "layers",
    "layer_map",
    "hidden",
    "heads",
    "vocabulary",
    "start",
)  # of a change; its other fields are under "More settings"
SCHEDULE = ("schedule.epochs", "schedule.lr", "schedule.batch_tokens", "schedule.max_tokens")


def render() -> None:
    """Draw the page."""
    st.title("Train", anchor=False)
    draft = _chosen_kind()
    st.caption(f"{ABOUT[draft.kind]} The job runs in the background, even if you close this page.")
    spec, problems = parse_values(draft.values())
    _presets(draft, spec)
    inspection = submission.inspect(spec, most_bytes=dataset_field.CHECKED_BYTES) if spec else submission.NO_INSPECTION
    plan = job_plan.plan(spec, labels=dataset_field.labels(spec, inspection.data)) if spec else None
    rejected = st.session_state.pop("train.refused", [])
    labels = {leaf.name: leaf.label for leaf in draft.fields} | ({draft.learner: "Model"} if draft.changes_base else {})
    shown = form.assign([*problems, *inspection.problems, *rejected], list(labels))
    left, right = st.columns([3, 2], gap="large")
    with left:
        _form(draft, shown, inspection.data)
        queueing.draw(spec, shown, labels)
        cost_estimate.draw(spec, fits=not shown)
    with right:
        if spec and spec.kind in TRAINED:
            plan_view.draw(spec, plan)
        _as_text(spec, [label for name, label in labels.items() if name in shown and not draft.get(name)])
    queueing.draw_chains()


def _chosen_kind() -> Draft:
    """The form of the chosen kind, filled once: from the address, or from the first ready-made spec."""
    state = st.session_state
    wanted = tuple(st.query_params.get(name) for name in ("from", "model", "teacher"))
    new = state.get("train.address") != wanted
    state["train.address"] = wanted
    job_id, model, teacher = wanted
    spec, problem = _job_spec(job_id) if job_id and new else (None, None)
    if spec:
        state["train.kind"] = spec["kind"]
    elif teacher and new:
        state["train.kind"] = "distill"
    state.setdefault("train.kind", next(iter(KINDS)))
    st.segmented_control(
        "What to do",
        list(KINDS),
        format_func=KINDS.__getitem__,
        key="train.kind",
        required=True,
        persist_state="session",
        label_visibility="collapsed",
    )
    draft = Draft(state["train.kind"])
    if f"{draft.key}seed" not in state and not spec:
        runnable = (
            name for name in ready_specs(draft.kind) if "/" not in name
        )  # those in folders may need models that are not here
        _fill_from(draft, next(runnable, None))
    if spec:
        draft.fill(spec)
        draft.put("preset", None)
    for name, value in (("model", model), ("teacher", teacher)) if new else ():
        if value and name in [leaf.name for leaf in draft.fields]:
            draft.put(name, value)
            draft.match_data_to_model()
    if draft.kind == "evaluate":
        if state.get("train.scored") not in (None, draft.get("model")) and not spec:  # a person chose another model
            draft.match_data_to_model()
        state["train.scored"] = draft.get("model")
    if problem:
        show_error(problem)
    return draft


def _job_spec(job_id: str) -> tuple[dict[str, Any] | None, StillroomError | None]:
    """The stored spec of a job, or the error; fields that are no longer valid are marked in the form."""
    try:
        return queue.job(job_id).spec, None
    except StillroomError as error:
        return None, error


def _fill_from(draft: Draft, name: str | None) -> None:
    draft.fill(ready_specs(draft.kind)[name].content.model_dump(mode="json") if name else default_values(draft.kind))
    draft.put("preset", name)


def _presets(draft: Draft, spec: JobSpec | None) -> None:
    def adopt() -> None:
        if draft.get("preset"):
            _fill_from(draft, draft.get("preset"))

    ready = ready_specs(draft.kind)
    if not ready:
        return
    with st.container(gap="xxsmall"):
        name = st.selectbox(
            "Start from a ready-made spec",
            [None, *ready],
            format_func=lambda each: each or CUSTOM,
            placeholder=CUSTOM,
            key=f"{draft.key}preset",
            on_change=adopt,
            persist_state="session",
        )
        if name:
            changed = "" if spec == ready[name].content else " **Edited below.**"
            st.caption(plain(ready[name].about) + changed)


def _form(draft: Draft, shown: Mapping[str, Sequence[str]], report: datasets.Report | None) -> None:
    fields = {leaf.name: leaf for leaf in draft.fields}
    if draft.kind == "distill" and (recipe := draft.recipe):
        _recipe(draft, recipe, shown)
        _reference(draft, "teacher", shown, help="The model to learn from: one on this machine, or a run id.")
    if "task.name" in fields:
        _task(draft, shown)
    _learner(draft, fields, shown)
    dataset_field.draw(draft, shown, report)
    with st.grid(2, min_column_width=200):
        for name in SCHEDULE:
            if name in fields:
                form.draw(fields[name], key=draft.key, problems=shown.get(name, ()))
    groups = {
        "Recipe settings": [name for name in fields if name.startswith("recipe.")],
        f"More {draft.learner} settings": [name for name in fields if name.startswith(f"{draft.learner}.")],
        "Other settings": [name for name in fields if name.partition(".")[0] not in ("recipe", draft.learner)],
    }
    drawn = {*DRAWN, *SCHEDULE, f"{draft.learner}.base", *(f"{draft.learner}.{size}" for size in SIZES)}
    for title, names in groups.items():
        _more(draft, title, [fields[name] for name in names if name not in drawn], shown)


def _more(draft: Draft, title: str, leaves: Sequence[form.Leaf], shown: Mapping[str, Sequence[str]]) -> None:
    if not leaves:
        return
    wrong = any(leaf.name in shown for leaf in leaves)
    with st.expander(title, key=f"{draft.key}{title}", icon=":material/tune:", expanded=wrong), st.grid(2):
        for leaf in leaves:
            form.draw(leaf, key=draft.key, problems=shown.get(leaf.name, ()))


def _recipe(draft: Draft, recipe: type[Recipe], shown: Mapping[str, Sequence[str]]) -> None:
    st.session_state.setdefault(f"{draft.key}recipe.name", recipe.model_fields["name"].default)
    st.selectbox(
        "Recipe",
        list(draft.recipes),
        key=f"{draft.key}recipe.name",
        on_change=draft.apply_recipe,
        persist_state="session",
    )
    form.show_problems(shown.get("recipe.name", ()))
    data = dataset_field.data_format(draft).title
    summary = (recipe.__doc__ or "").partition("\n")[0]
    st.caption(plain(f"{summary} Trains on {data}."))


def _task(draft: Draft, shown: Mapping[str, Sequence[str]]) -> None:
    """The task chooser; a change replaces data and models that do not fit the new task."""
    tasks = trained_by(draft.recipe)
    st.session_state.setdefault(f"{draft.key}task.name", draft.task)
    if draft.get("task.name") not in tasks:
        draft.put("task.name", draft.task)
    st.selectbox(
        "Task",
        tasks,
        format_func=lambda name: TASKS[name].title,
        key=f"{draft.key}task.name",
        on_change=draft.apply_task,
        persist_state="session",
    )
    form.show_problems(shown.get("task.name", ()))


def _learner(draft: Draft, fields: Mapping[str, form.Leaf], shown: Mapping[str, Sequence[str]]) -> None:
    """The model that is trained or scored: an existing one, a changed copy of one, or several to average."""
    field = draft.learner
    if draft.kind == "average":
        _members(draft, shown)
        return
    if draft.kind in TRAINED:
        st.segmented_control(
            "Student" if field == "student" else "Starting model",
            WAYS[field],
            format_func=WAY_LABELS[field].__getitem__,
            key=f"{draft.key}{field}.way",
            required=True,
            persist_state="session",
        )
    if not draft.changes_base:
        label = "Model" if field == "model" else "Student model"
        _reference(draft, field, shown, label=label, help="A model on this machine, a run id, ./folder or org/name.")
        return
    form.show_problems(shown.get(field, ()))
    if f"{field}.base" in fields:
        _reference(
            draft, f"{field}.base", shown, label="Base model", help="The model whose layers and vocabulary are copied."
        )
    with st.grid(2, min_column_width=200):
        for size in SIZES:
            name = f"{field}.{size}"
            form.draw(fields[name], key=draft.key, problems=shown.get(name, ()))


def _members(draft: Draft, shown: Mapping[str, Sequence[str]]) -> None:
    """A chooser for several models on this machine."""
    ready = draft.models("model")
    with st.container(gap="xxsmall"):
        st.multiselect(
            "Models",
            [*ready, *(name for name in draft.get("model") or () if name not in ready)],
            key=f"{draft.key}model",
            format_func=lambda name: f"{name} · {ready[name].name}" if name in ready else name,
            help="Two or more of one shape, trained from the same starting model, such as runs with different seeds.",
            accept_new_options=True,
            placeholder="Choose two or more, or type run ids",
            persist_state="session",
        )
        form.show_problems(shown.get("model", ()) if draft.get("model") else ())


def _reference(
    draft: Draft, name: str, shown: Mapping[str, Sequence[str]], *, help: str, label: str | None = None
) -> None:
    """A chooser for a model on this machine, with facts about the chosen one."""
    ready = draft.models(name)
    with st.container(gap="xxsmall"):
        form.choose(label or name.capitalize(), list(ready), key=f"{draft.key}{name}", help=help)
        form.show_problems(shown.get(name, ()))
        if entry := ready.get(draft.get(name)):
            st.caption(plain(_model_facts(entry)))


def _model_facts(entry: zoo.ModelEntry) -> str:
    encoder = entry.params.get("encoder")
    facts = (
        entry.name,
        f"encoder with {plan_view.count(encoder)} parameters" if encoder else "",
        ", ".join(entry.labels),
        f"up to {entry.max_tokens:,} tokens",
        entry.licence,
    )
    return " · ".join(filter(None, facts))


def _as_text(spec: JobSpec | None, empty: Sequence[str]) -> None:
    """The job as YAML, or what to do first; `empty` are labels of required fields without a value."""
    st.header("Job as YAML", anchor=False)
    if spec is None:
        st.caption(
            f"Fill in first: {plain(', '.join(empty))}." if empty else "Correct the marked fields to see the YAML."
        )
        return
    st.code(spec.to_yaml(), language="yaml", wrap_lines=True)
    st.caption("Only values that differ from the defaults are written. Save it as job.yaml to queue the same job with:")
    st.code("stillroom submit job.yaml", language="bash")
