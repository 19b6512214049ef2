"""Train: the form of a fine-tuning job, the same job as YAML, and the button that queues it."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import streamlit as st

from trainer import datasets, queue, registry, store
from trainer import spec as specs
from trainer.errors import BadSpec, StillroomError
from trainer.recipes import RECIPES
from trainer.spec import JobSpec
from trainer.tasks import TASKS
from workbench import form
from workbench.links import link

KEY = "train."
SPECS = Path(__file__).parents[2] / "specs"
SETTLED = ("kind", "split")  # by this page: it fine-tunes, and only evaluation chooses its split
CHOSEN = ("model", "dataset")  # drawn by hand, with the facts beside them
FIRST = ("schedule.epochs", "schedule.lr", "schedule.batch_tokens", "schedule.max_tokens")  # the rest is "more"


def render() -> None:
    """Draw the page."""
    st.title("Train")
    st.caption("Fine-tune a model on labelled text. A worker runs the job: closing this page changes nothing for it.")
    fields = _fields()
    _start(fields)
    _presets(fields)
    spec, problems = _spec(fields)
    shown = form.assign([*problems, *st.session_state.pop(f"{KEY}refused", [])], fields)
    left, right = st.columns([3, 2], gap="large")
    with left:
        _form(fields, shown)
        _submit(spec, shown)
    with right:
        _as_text(spec)


def _fields() -> list[form.Leaf]:
    chosen = {
        "task": st.session_state.get(f"{KEY}task.name", next(iter(TASKS))),
        "recipe": st.session_state.get(f"{KEY}recipe.name", next(iter(RECIPES))),
    }
    return [leaf for leaf in form.leaves(JobSpec, chosen) if leaf.name not in SETTLED]


@st.cache_data(ttl=60, max_entries=1, show_spinner=False)
def _ready_specs() -> dict[str, tuple[str, dict]]:
    """The fine-tuning specs that ship: file name without ending -> (its first comment line, the spec)."""
    found = {}
    for path in sorted(SPECS.glob("*.yaml"), key=lambda path: (not path.stem.startswith("smoke"), path.stem)):
        spec = specs.read(path)
        if spec.kind == "finetune":
            first = path.read_text(encoding="utf-8").split("\n", 1)[0]
            found[path.stem] = (first.removeprefix("#").strip() if first.startswith("#") else "", spec.model_dump())
    return found


def _start(fields: Sequence[form.Leaf]) -> None:
    """Fill the form once: from the job or the model that the address names, or from the first ready spec."""
    wanted = (st.query_params.get("from"), st.query_params.get("model"))
    if st.session_state.get(f"{KEY}start") == wanted and f"{KEY}seed" in st.session_state:
        return
    st.session_state[f"{KEY}start"] = wanted
    job_id, model = wanted
    if f"{KEY}seed" not in st.session_state:
        _fill_with_ready_spec(fields, next(iter(_ready_specs()), None))
    if job_id:
        try:
            form.fill(fields, queue.job(job_id).spec, key=KEY)
            st.session_state[f"{KEY}preset"] = None
        except StillroomError as error:
            _say_error(error)
    if model:
        st.session_state[f"{KEY}model"] = model


def _fill_with_ready_spec(fields: Sequence[form.Leaf], name: str | None) -> None:
    plain = JobSpec(kind="finetune", model="minilm", dataset="bc5cdr").model_dump()
    form.fill(fields, _ready_specs()[name][1] if name else plain, key=KEY)
    st.session_state[f"{KEY}preset"] = name


def _presets(fields: Sequence[form.Leaf]) -> None:
    def adopt() -> None:
        if st.session_state[f"{KEY}preset"]:
            _fill_with_ready_spec(fields, st.session_state[f"{KEY}preset"])

    ready = _ready_specs()
    name = st.pills(
        "Start from a ready spec", list(ready), key=f"{KEY}preset", on_change=adopt, persist_state="session"
    )
    st.caption(ready[name][0] if name else "Your own settings.")


def _spec(fields: Sequence[form.Leaf]) -> tuple[JobSpec | None, Sequence[tuple[str, str]]]:
    try:
        return specs.parse({"kind": "finetune"} | form.values(fields, key=KEY)), ()
    except BadSpec as error:
        return None, error.fields


def _form(fields: Sequence[form.Leaf], shown: Mapping[str, Sequence[str]]) -> None:
    by_name = {leaf.name: leaf for leaf in fields}
    _model(shown.get("model", ()))
    _dataset(shown.get("dataset", ()))
    with st.grid(2, min_column_width=200):
        for name in FIRST:
            form.draw(by_name[name], key=KEY, problems=shown.get(name, ()))
    rest = [leaf for leaf in fields if leaf.name not in (*FIRST, *CHOSEN)]
    wrong = any(leaf.name in shown for leaf in rest)
    with st.expander("More settings", key=f"{KEY}more", icon=":material/tune:", expanded=wrong), st.grid(2):
        for leaf in rest:
            form.draw(leaf, key=KEY, problems=shown.get(leaf.name, ()))


def _model(problems: Sequence[str]) -> None:
    ready = {entry.id: entry for entry in registry.ready()}
    st.selectbox(
        "Model",
        list(ready),
        key=f"{KEY}model",
        help="The models whose weights are here. You may also type a run id, a ./folder or org/name.",
        accept_new_options=True,
        persist_state="session",
    )
    form.show_problems(problems)
    entry = ready.get(st.session_state[f"{KEY}model"])
    if entry:
        st.text(_model_facts(entry))


def _model_facts(entry: registry.ModelEntry) -> str:
    encoder = entry.params.get("encoder")
    facts = (
        entry.name,
        f"{encoder / 1e6:.1f} M parameters" if encoder else "",
        f"up to {entry.max_tokens:,} tokens",
        entry.licence,
    )
    return " · ".join(filter(None, facts))


def _dataset(problems: Sequence[str]) -> None:
    cards = datasets.cards()
    st.selectbox(
        "Data set",
        list(cards),
        key=f"{KEY}dataset",
        help="A data set that ships, or type the path of a folder with train.conll, dev.conll and test.conll.",
        accept_new_options=True,
        persist_state="session",
    )
    form.show_problems(problems)
    card = cards.get(st.session_state[f"{KEY}dataset"])
    if card:
        counts = ", ".join(f"{split} {about.sentences:,}" for split, about in card.splits.items())
        st.text(f"{card.name} · {', '.join(card.labels)} · sentences: {counts} · {card.licence}")


def _submit(spec: JobSpec | None, shown: Mapping[str, Sequence[str]]) -> None:
    form.show_problems(shown.get("", ()))
    _workers()
    if st.button("Queue this job", type="primary", icon=":material/playlist_add:"):
        st.session_state.pop(f"{KEY}queued", None)
        if spec:
            _queue(spec)
        else:
            st.session_state[f"{KEY}queued"] = None
    if f"{KEY}queued" in st.session_state:
        _outcome(st.session_state[f"{KEY}queued"], shown)


def _queue(spec: JobSpec) -> None:
    refused = []
    for name, find in (("model", registry.resolve), ("dataset", datasets.resolve)):
        try:
            find(getattr(spec, name))
        except StillroomError as error:
            refused.append((name, str(error)))
    if refused:
        st.session_state[f"{KEY}refused"] = refused
        st.rerun()
    before = {job.id for job in queue.jobs()}
    job = queue.submit(spec)
    st.session_state[f"{KEY}queued"] = (job.id, job.id in before)


def _outcome(queued: tuple[str, bool] | None, shown: Mapping[str, Sequence[str]]) -> None:
    if queued is None:
        st.error(f"Nothing was queued: {len(shown)} field{'s' * (len(shown) != 1)} to correct.")
        return
    job_id, known = queued
    job = queue.job(job_id)
    place = f", number {job.place} in line" if job.place else ""
    said = f"This very job is already {job.state}{place}." if known else f"The job is {job.state}{place}."
    with st.container(border=True):
        st.markdown(f":material/check_circle: {said} Its id is `{job.id}`.")
        link("jobs", label=f"Open job {job.id}", icon=":material/monitoring:", job=job.id)


def _workers() -> None:
    if not queue.workers(store.open_store()):
        st.caption("No worker is running, so a queued job waits. Start one in a terminal:")
        st.code("stillroom worker", language="bash")


def _as_text(spec: JobSpec | None) -> None:
    st.subheader("The same job as YAML")
    if spec is None:
        st.caption("Correct the marked fields to see it.")
        return
    st.code(spec.to_yaml(), language="yaml", wrap_lines=True)
    st.caption("Only what differs from the defaults is written. Saved as job.yaml, this command queues the same job:")
    st.code("stillroom submit job.yaml", language="bash")


def _say_error(error: StillroomError) -> None:
    with st.container(border=True):
        form.show_problems([error.message, *filter(None, [error.next_step])])
