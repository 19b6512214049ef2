"""Train: what to do, the form of that job with what it would do beside it, the same job as YAML, and its queueing."""

from collections.abc import Mapping, Sequence

import streamlit as st

from trainer import datasets, queue, zoo
from trainer.errors import StillroomError
from trainer.spec import TRAINED, JobSpec
from trainer.tasks import TASKS, trained_by
from workbench.launch import draft, form, job_plan, submission
from workbench.launch.draft import AS_IS, KINDS, MADE, MADE_FROM, WAYS, Draft
from workbench.pages.parts import cost_estimate, dataset_field, plan_view, queueing
from workbench.widgets.messages import plain, show_error

OWN = "Your own settings"  # instead of a ready spec
ABOUT = {
    "finetune": "Train a model on labelled text: entities, or labels of whole documents.",
    "distill": "Teach a smaller model what a larger one knows.",
    "pretrain": "Let a model read more text of your own kind, without labels.",
    "average": "Average the weights of models of one shape, such as runs with other seeds, and score what comes out.",
    "evaluate": "Score a model on one split of a data set; nothing is trained.",
}
WAY_LABELS = {
    "student": {MADE: "Teacher, smaller", MADE_FROM: "Another, smaller", AS_IS: "As it is"},
    "model": {AS_IS: "As it is", MADE: "Smaller"},
}
DRAWN = ("model", "teacher", "student", "dataset", "recipe.name", "task.name")  # by hand, with the facts beside them
SIZES = ("layers", "layer_map", "hidden", "heads", "vocabulary", "start")  # of a change; the rest is "more"
SCHEDULE = ("schedule.epochs", "schedule.lr", "schedule.batch_tokens", "schedule.max_tokens")


def render() -> None:
    """Draw the page."""
    st.title("Train", anchor=False)
    own = _chosen_kind()
    st.caption(f"{ABOUT[own.kind]} A worker runs the job: closing this page changes nothing for it.")
    spec, problems = draft.parse(own.values())
    _presets(own, spec)
    looked = submission.look(spec, most_bytes=dataset_field.CHECKED_BYTES) if spec else submission.NOTHING
    plan = job_plan.plan(spec, labels=dataset_field.labels(spec, looked.data)) if spec else job_plan.Plan()
    refused = st.session_state.pop("train.refused", [])
    labels = {leaf.name: leaf.label for leaf in own.fields} | ({own.learner: "Model"} if own.changed else {})
    shown = form.assign([*problems, *looked.problems, *refused], list(labels))
    left, right = st.columns([3, 2], gap="large")
    with left:
        _form(own, shown, looked.data)
        queueing.draw(spec, shown, labels)
        cost_estimate.draw(spec, fits=not shown)
    with right:
        if spec and spec.kind in TRAINED:
            plan_view.draw(spec, plan)
        _as_text(spec, [label for name, label in labels.items() if name in shown and not own.get(name)])
    queueing.draw_chains()


def _chosen_kind() -> Draft:
    """The form of the kind that is chosen, filled once: from what the address names, or from the first ready spec."""
    state = st.session_state
    wanted = tuple(st.query_params.get(name) for name in ("from", "model", "teacher"))
    new = state.get("train.address") != wanted
    state["train.address"] = wanted
    job_id, model, teacher = wanted
    given, problem = _job_spec(job_id) if job_id and new else (None, None)
    if given:
        state["train.kind"] = given["kind"]
    elif teacher and new:
        state["train.kind"] = "distill"
    state.setdefault("train.kind", next(iter(KINDS)))
    kind = st.segmented_control(
        "What to do",
        list(KINDS),
        format_func=KINDS.get,
        key="train.kind",
        required=True,
        persist_state="session",
        label_visibility="collapsed",
    )
    own = Draft(kind)
    if f"{own.key}seed" not in state and not given:
        runnable = (name for name in draft.ready(kind) if "/" not in name)  # those in folders may need other weights
        _take_ready(own, next(runnable, None))
    if given:
        own.fill(given)
        own.put("preset", None)
    for name, value in (("model", model), ("teacher", teacher)) if new else ():
        if value and name in [leaf.name for leaf in own.fields]:
            own.put(name, value)
            own.fit_data()
    if kind == "evaluate":
        if state.get("train.scored") not in (None, own.get("model")) and not given:  # a person chose another one
            own.fit_data()
        state["train.scored"] = own.get("model")
    if problem:
        show_error(problem)
    return own


def _job_spec(job_id: str) -> tuple[dict | None, StillroomError | None]:
    """The spec of a job as it is stored, or why there is none; what of it is allowed no more is said at its field."""
    try:
        return queue.job(job_id).spec, None
    except StillroomError as error:
        return None, error


def _take_ready(own: Draft, name: str | None) -> None:
    own.fill(draft.ready(own.kind)[name].holds.model_dump(mode="json") if name else draft.usual(own.kind))
    own.put("preset", name)


def _presets(own: Draft, spec: JobSpec | None) -> None:
    def adopt() -> None:
        if own.get("preset"):
            _take_ready(own, own.get("preset"))

    ready = draft.ready(own.kind)
    if not ready:
        return
    with st.container(gap="xxsmall"):
        name = st.selectbox(
            "Start from a ready spec",
            [None, *ready],
            format_func=lambda each: each or OWN,
            placeholder=OWN,
            key=f"{own.key}preset",
            on_change=adopt,
            persist_state="session",
        )
        if name:
            changed = "" if spec == ready[name].holds else " **Changed below.**"
            st.caption(plain(ready[name].about) + changed)


def _form(own: Draft, shown: Mapping[str, Sequence[str]], report: datasets.Report | None) -> None:
    fields = {leaf.name: leaf for leaf in own.fields}
    taught = own.kind == "distill"
    if taught:
        _recipe(own, shown)
        _reference(own, "teacher", shown, help="The model that is taught from: one that is here, or a run id.")
    if "task.name" in fields:
        _task(own, shown)
    _learner(own, fields, shown)
    dataset_field.draw(own, shown, report)
    with st.grid(2, min_column_width=200):
        for name in SCHEDULE:
            if name in fields:
                form.draw(fields[name], key=own.key, problems=shown.get(name, ()))
    groups = {
        "Weights and options of the recipe": [name for name in fields if name.startswith("recipe.")],
        f"More about the {own.learner}": [name for name in fields if name.startswith(f"{own.learner}.")],
        "More settings": [name for name in fields if name.partition(".")[0] not in ("recipe", own.learner)],
    }
    drawn = {*DRAWN, *SCHEDULE, f"{own.learner}.base", *(f"{own.learner}.{size}" for size in SIZES)}
    for title, names in groups.items():
        _more(own, title, [fields[name] for name in names if name not in drawn], shown)


def _more(own: Draft, title: str, rest: Sequence[form.Leaf], shown: Mapping[str, Sequence[str]]) -> None:
    if not rest:
        return
    wrong = any(leaf.name in shown for leaf in rest)
    with st.expander(title, key=f"{own.key}{title}", icon=":material/tune:", expanded=wrong), st.grid(2):
        for leaf in rest:
            form.draw(leaf, key=own.key, problems=shown.get(leaf.name, ()))


def _recipe(own: Draft, shown: Mapping[str, Sequence[str]]) -> None:
    recipes = own.tables["recipe"]
    st.session_state.setdefault(f"{own.key}recipe.name", own.recipe.model_fields["name"].default)
    st.selectbox(
        "Recipe", list(recipes), key=f"{own.key}recipe.name", on_change=own.take_recipe, persist_state="session"
    )
    form.show_problems(shown.get("recipe.name", ()))
    data = dataset_field.kind(own).title
    first = own.recipe.__doc__.partition("\n")[0]
    st.caption(plain(f"{first} Learns on {data}."))


def _task(own: Draft, shown: Mapping[str, Sequence[str]]) -> None:
    """What the model is asked to do; data and models of another task make room for those of this one."""
    tasks = trained_by(own.recipe)
    st.session_state.setdefault(f"{own.key}task.name", own.task)
    if own.get("task.name") not in tasks:
        own.put("task.name", own.task)
    st.selectbox(
        "Task",
        tasks,
        format_func=lambda name: TASKS[name].title,
        key=f"{own.key}task.name",
        on_change=own.take_task,
        persist_state="session",
    )
    form.show_problems(shown.get("task.name", ()))


def _learner(own: Draft, fields: Mapping[str, form.Leaf], shown: Mapping[str, Sequence[str]]) -> None:
    """What is trained or scored: a model as it is, what to change in one, or several to average."""
    field = own.learner
    if own.kind == "average":
        _members(own, shown)
        return
    if own.kind in TRAINED:
        st.segmented_control(
            "Student" if field == "student" else "Start",
            WAYS[field],
            format_func=WAY_LABELS[field].get,
            key=f"{own.key}{field}.way",
            required=True,
            persist_state="session",
        )
    if not own.changed:
        label = "Model" if field == "model" else "Student model"
        _reference(own, field, shown, label=label, help="One whose weights are here, a run id, ./folder or org/name.")
        return
    form.show_problems(shown.get(field, ()))
    if f"{field}.base" in fields:
        _reference(own, f"{field}.base", shown, label="Made from", help="The model whose layers and pieces are taken.")
    with st.grid(2, min_column_width=200):
        for size in SIZES:
            name = f"{field}.{size}"
            form.draw(fields[name], key=own.key, problems=shown.get(name, ()))


def _members(own: Draft, shown: Mapping[str, Sequence[str]]) -> None:
    """A chooser of several models, those whose weights are here."""
    ready = own.models("model")
    with st.container(gap="xxsmall"):
        st.multiselect(
            "Models",
            [*ready, *(name for name in own.get("model") or () if name not in ready)],
            key=f"{own.key}model",
            format_func=lambda name: f"{name} · {ready[name].name}" if name in ready else name,
            help="Two or more of one shape, trained from the same start: runs with other seeds or settings.",
            accept_new_options=True,
            placeholder="Choose two or more, or type run ids",
            persist_state="session",
        )
        form.show_problems(shown.get("model", ()) if own.get("model") else ())


def _reference(own: Draft, name: str, shown: Mapping, *, help: str, label: str | None = None) -> None:
    """A chooser of models whose weights are here, with the facts of the one that is chosen."""
    ready = own.models(name)
    with st.container(gap="xxsmall"):
        form.choose(label or name.capitalize(), list(ready), key=f"{own.key}{name}", help=help)
        form.show_problems(shown.get(name, ()))
        if entry := ready.get(own.get(name)):
            st.caption(plain(_model_facts(entry)))


def _model_facts(entry: zoo.ModelEntry) -> str:
    encoder = entry.params.get("encoder")
    facts = (
        entry.name,
        f"encoder of {plan_view.count(encoder)} parameters" if encoder else "",
        ", ".join(entry.labels),
        f"up to {entry.max_tokens:,} tokens",
        entry.licence,
    )
    return " · ".join(filter(None, facts))


def _as_text(spec: JobSpec | None, empty: Sequence[str]) -> None:
    """The job as YAML, or what is to do first; `empty` are the fields that are to be filled."""
    st.header("The same job as YAML", anchor=False)
    if spec is None:
        st.caption(f"Fill in first: {plain(', '.join(empty))}." if empty else "Correct the marked fields to see it.")
        return
    st.code(spec.to_yaml(), language="yaml", wrap_lines=True)
    st.caption("Only what differs from the defaults is written. Saved as job.yaml, this command queues the same job:")
    st.code("stillroom submit job.yaml", language="bash")
