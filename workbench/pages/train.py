"""Train: the form of a fine-tuning job, the same job as YAML, and the button that queues it."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import streamlit as st

from trainer import datasets, queue, registry
from trainer import spec as specs
from trainer.errors import BadSpec, StillroomError
from trainer.spec import JobSpec
from workbench import form
from workbench.form import CHOICES
from workbench.links import link
from workbench.pages import plain, show_error
from workbench.pages.job import say_if_no_worker

KEY = "train."
SHOWN = 5  # problems of a data set that are listed
SPECS = Path(__file__).parents[2] / "specs"
SETTLED = ("kind", "split")  # by this page: it fine-tunes, and only evaluation chooses its split
CHOSEN = ("model", "dataset")  # drawn by hand, with the facts beside them
FIRST = ("schedule.epochs", "schedule.lr", "schedule.batch_tokens", "schedule.max_tokens")  # the rest is "more"


def render() -> None:
    """Draw the page."""
    st.title("Train", anchor=False)
    st.caption("Fine-tune a model on labelled text. A worker runs the job: closing this page changes nothing for it.")
    chosen = {name: st.session_state.get(f"{KEY}{name}.name", next(iter(table))) for name, table in CHOICES.items()}
    fields = [leaf for leaf in form.leaves(JobSpec, chosen) if leaf.name not in SETTLED]
    _start(fields)
    spec, problems = _parse({"kind": "finetune"} | form.values(fields, chosen, key=KEY))
    _presets(fields, spec)
    refused = st.session_state.pop(f"{KEY}refused", [])
    shown = form.assign([*problems, *refused, *_data_problems(spec)], fields)
    left, right = st.columns([3, 2], gap="large")
    with left:
        _form(fields, shown)
        _submit(spec, shown)
    with right:
        _as_text(spec)


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
            show_error(error)
    if model:
        st.session_state[f"{KEY}model"] = model


def _fill_with_ready_spec(fields: Sequence[form.Leaf], name: str | None) -> None:
    usual = JobSpec(kind="finetune", model="minilm", dataset="bc5cdr").model_dump()
    form.fill(fields, _ready_specs()[name][1] if name else usual, key=KEY)
    st.session_state[f"{KEY}preset"] = name


def _presets(fields: Sequence[form.Leaf], spec: JobSpec | None) -> None:
    def adopt() -> None:
        if st.session_state[f"{KEY}preset"]:
            _fill_with_ready_spec(fields, st.session_state[f"{KEY}preset"])

    ready = _ready_specs()
    name = st.pills(
        "Start from a ready spec", list(ready), key=f"{KEY}preset", on_change=adopt, persist_state="session"
    )
    if name is None:
        st.caption("Your own settings.")
    else:
        as_shipped = spec is not None and spec == JobSpec.model_validate(ready[name][1])
        st.caption(plain(ready[name][0]) + ("" if as_shipped else " **Changed below.**"))


def _parse(given: Mapping) -> tuple[JobSpec | None, Sequence[tuple[str, str]]]:
    try:
        return specs.parse(given), ()
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
        _with_own(ready, "model"),
        key=f"{KEY}model",
        help="The models whose weights are here. You may also type a run id, a ./folder or org/name.",
        accept_new_options=True,
        persist_state="session",
    )
    form.show_problems(problems)
    entry = ready.get(st.session_state[f"{KEY}model"])
    if entry:
        st.caption(plain(_model_facts(entry)))


def _with_own(offered: Mapping[str, object], name: str) -> list[str]:
    """What is offered, and what a person typed before or a link names."""
    own = st.session_state[KEY + name]
    return [*offered, *([own] if own and own not in offered else [])]


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
        _with_own(cards, "dataset"),
        key=f"{KEY}dataset",
        help="A data set that ships, or type the path of a folder with train.conll, dev.conll and test.conll.",
        accept_new_options=True,
        persist_state="session",
    )
    form.show_problems(problems)
    reference = st.session_state[f"{KEY}dataset"]
    card = cards.get(reference)
    if card:
        st.caption(plain(f"{card.name} · {', '.join(card.labels)} · {_counts(card.splits)} · {card.licence}"))
    elif reference and not problems:
        report = _check(reference)
        labels = sorted({label for split in report.splits.values() for label in split.labels})
        st.caption(plain(f"Read without a problem · {', '.join(labels)} · {_counts(report.splits)}"))


def _counts(splits: Mapping[str, datasets.DatasetCard | datasets.Report]) -> str:
    return "sentences: " + ", ".join(f"{name} {split.sentences:,}" for name, split in splits.items())


@st.cache_data(ttl=10, max_entries=4, show_spinner="Reading the data set")
def _check(folder: str) -> datasets.Report:
    return datasets.check(folder)


def _data_problems(spec: JobSpec | None) -> list[tuple[str, str]]:
    """What is wrong in a folder of a person's own; the data sets that ship are known to be right."""
    if spec is None or spec.dataset in datasets.cards():
        return []
    try:
        report = _check(spec.dataset)
    except StillroomError as error:
        return [("dataset", str(error))]
    found = [
        f"{problem.file}{f', line {problem.line:,}' if problem.line else ''}: {problem.message} {problem.next_step}"
        for problem in report.problems[:SHOWN]
    ]
    more = len(report.problems) - len(found) + report.more_problems
    rest = [f"{more} more: stillroom datasets check {spec.dataset} --task ner lists them."] if more else []
    return [("dataset", problem) for problem in (*found, *rest)]


def _submit(spec: JobSpec | None, shown: Mapping[str, Sequence[str]]) -> None:
    form.show_problems(shown.get("", ()))
    if st.button("Queue this job", type="primary", icon=":material/playlist_add:"):
        st.session_state[f"{KEY}asked"] = None if shown or spec is None else _queue(spec)
    asked = st.session_state.get(f"{KEY}asked", "nothing")
    if asked is None and shown:
        st.error(f"Nothing was queued: {len(shown)} field{'s' * (len(shown) != 1)} to correct.")
    elif spec and asked and asked[0] == spec.digest:
        _queued(*asked[1:])
    say_if_no_worker()


def _queue(spec: JobSpec) -> tuple[str, str, bool]:
    """Digest of the spec, id of its job, and whether that was there before; draws the page anew with a refusal."""
    refused = []
    for name, find in (("model", registry.resolve), ("dataset", datasets.resolve)):
        try:
            find(getattr(spec, name))
        except StillroomError as error:
            refused.append((name, str(error)))
    if refused:
        st.session_state[f"{KEY}refused"], st.session_state[f"{KEY}asked"] = refused, None
        st.rerun()
    before = {job.id for job in queue.jobs()}
    job = queue.submit(spec)
    return spec.digest, job.id, job.id in before


def _queued(job_id: str, known: bool) -> None:
    job = queue.job(job_id)
    place = f", number {job.place} in line" if job.place else ""
    said = f"This very job is already {job.state}{place}." if known else f"The job is {job.state}{place}."
    with st.container(border=True):
        st.markdown(f":green[:material/check_circle:] {said} Its id is `{job.id}`.")
        link("jobs", label="Follow it", icon=":material/monitoring:", job=job.id)


def _as_text(spec: JobSpec | None) -> None:
    st.subheader("The same job as YAML", anchor=False)
    if spec is None:
        st.caption("Correct the marked fields to see it.")
        return
    st.code(spec.to_yaml(), language="yaml", wrap_lines=True)
    st.caption("Only what differs from the defaults is written. Saved as job.yaml, this command queues the same job:")
    st.code("stillroom submit job.yaml", language="bash")
