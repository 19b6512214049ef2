"""A bad job never ends the worker, whatever its spec, run folder or events hold."""

import json
import math
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import pytest
import scripted_run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel
from sqlalchemy import update

from trainer import queue
from trainer import spec as specs
from trainer.bounds import COUNT
from trainer.errors import BadSpec, CorruptFile
from trainer.queue import engines, metrics, published, worker
from trainer.queue import progress as follow
from trainer.queue.engines import Process
from trainer.queue.progress import Tail
from trainer.queue.store import job as jobs_table
from trainer.queue.store import open_store, write
from trainer.recipes import RECIPES
from trainer.run import EVENT_BYTES, READ_BYTES, Result, Run
from trainer.spec import Change, Compute, JobSpec, Schedule
from trainer.tasks import TASKS
from trainer.zoo import resolve

FAST = worker.Timing(look_s=0.02, beat_s=0.03, idle_s=0.02, cancel_grace_s=0.5, stall_s=20)
STEP = '{"event": "step", "step": %s, "metrics": %s}\n'
DEEP = "[" * 100_000 + "]" * 100_000
ODD_EVENTS = {
    "a step that no database holds": STEP % (10**30, '{"loss": 1}'),
    "a step of too many digits": STEP % ("9" * 5000, "{}"),
    "plan": f'{{"event": "plan", "steps": {2**63}, "start": {2**31}}}\n',
    "checkpoint": f'{{"event": "checkpoint", "step": {10**40}}}\n',
    "a value too large for a float": STEP % (1, f'{{"loss": {10**400}}}'),
    "infinite": STEP % (1, '{"loss": 1e400, "lr": -1e999, "x": NaN, "y": Infinity}'),
    "nested": STEP % (1, DEEP),
    "half a character": STEP % (1, '{"\\ud800": 1}') + '{"event": "note", "message": "\\udfff\\u0000"}\n',
    "not UTF-8": '{"event": "note", "message": "\xff\xfe"}\n' + "\xff\n" * 9,
    "a line of megabytes": '{"event": "note", "message": "' + "x" * 6_000_000 + '"}\n',
    "a long name": STEP % (1, json.dumps({"n" * 100_000: 1})),
    "many names": STEP % (1, json.dumps({f"n{number}": number for number in range(20_000)})),
    "torn": '{"event": "step", "st',
    "other types": '{"event": ["step"], "step": {}}\n{"event": "step", "step": 1.5, "metrics": [1]}\n{"event": {}}\n',
}
ODD_RESULTS = {
    "empty": "",
    "nested": '{"state": "failed", "error": ' + DEEP + "}",
    "another state": '{"state": "excellent"}',
    "no reason": '{"state": "failed"}',
    "a reason of another shape": '{"state": "failed", "error": {"type": ["BadData"], "message": {}}}',
    "a metric that is none": '{"state": "succeeded", "metrics": {"f1": "high"}}',
    "a huge number": '{"state": "succeeded", "metrics": {"f1": ' + "9" * 5000 + "}}",
    "outside its folder": '{"state": "succeeded", "artifact": "../../../etc"}',
    "half a character": '{"state": "failed", "error": {"type": "BadData", "message": "\\ud800"}}',
    "not UTF-8": "\xff\xfe\xfa",
}


@pytest.fixture
def work(home, tmp_path, monkeypatch):
    """Work until the queue is empty, with children that follow a script; the jobs, in the order of their specs."""
    monkeypatch.setitem(engines.ENGINES, "local", scripted_run.engine())
    model, data = scripted_run.inputs(tmp_path)
    with scripted_run.database_in_memory(home) as url:
        monkeypatch.setenv("STILLROOM_DB", url)

        def run(*, written: str = "", stored: dict | None = None, does: str | None = None):
            odd = tmp_path / "odd"
            odd.write_bytes(written.encode("latin-1"))
            script = {"steps": 2, "at": 1, "seed": 1, "does": does, "bytes": str(odd)}
            monkeypatch.setenv("SCRIPT", json.dumps(script))
            bad, good = (
                queue.submit(specs.parse({"kind": "finetune", "model": model, "dataset": data, "seed": seed}))
                for seed in (1, 2)
            )
            if stored:
                change = update(jobs_table).where(jobs_table.c.id == bad.id).values(spec=bad.spec | stored)
                write(open_store(), lambda connection: connection.execute(change))
            worker.work(drain=True, threads=1, timing=FAST)
            return queue.job(bad.id), queue.job(good.id)

        yield run


@pytest.mark.parametrize("events", ODD_EVENTS.values(), ids=ODD_EVENTS)
def test_the_worker_and_the_job_survive_odd_events(work, events):
    bad, good = work(does="odd_events", written=events)
    assert (bad.state, bad.error, good.state) == ("succeeded", None, "succeeded")
    assert bad.step <= 2 and len(bad.metrics) <= follow.METRICS
    json.dumps([bad.to_json(), metrics.history(bad.id)], allow_nan=False)


@pytest.mark.parametrize("result", ODD_RESULTS.values(), ids=ODD_RESULTS)
def test_a_result_that_is_none_fails_its_job_alone(work, result):
    bad, good = work(does="odd_result", written=result)
    assert (bad.state, good.state) == ("failed", "succeeded")
    assert bad.error["type"] == "CorruptFile" and bad.error["next_step"]


def test_a_run_folder_that_is_removed_fails_its_job_alone(work):
    bad, good = work(does="remove_run")
    assert (bad.state, bad.error["type"], good.state) == ("failed", "Crashed", "succeeded")
    assert "was removed while it ran" in bad.error["message"] and f"retry {bad.id}" in bad.error["next_step"]


@pytest.mark.parametrize(
    "stored",
    [
        {"schedule": {"steps": 99999999999999999999999}},
        {"kind": None},
        {"seed": [[[]]]},
        {"dataset": "\ud800"},
        {"compute": {"engine": "abacus"}},
    ],
)
def test_a_stored_spec_that_is_no_longer_allowed_opens_and_fails_alone(work, stored):
    """What an older Stillroom stored: shown as it is, and a typed error where it would run."""
    bad, good = work(stored=stored)
    assert (bad.state, bad.error["type"], good.state) == ("failed", "BadSpec", "succeeded")
    assert stored.items() <= bad.spec.items() and bad.id in {job.id for job in queue.jobs()}
    with pytest.raises(BadSpec):
        queue.retry(bad.id, fresh=True)


@pytest.mark.parametrize("error", [OverflowError, RecursionError, UnicodeEncodeError, KeyError, MemoryError, OSError])
def test_an_unexpected_error_while_following_a_job_is_shown_on_the_job(work, monkeypatch, error):
    raised = error("utf-8", "", 0, 1, "half") if error is UnicodeEncodeError else error("a reason")
    renew, broken = queue.renew, []

    def fails(store, lease, *rest, **options):
        if lease.spec["seed"] == 1:
            broken.append(lease)
            raise raised
        return renew(store, lease, *rest, **options)

    monkeypatch.setattr(queue, "renew", fails)
    bad, good = work()
    assert broken and (bad.state, bad.error["type"], good.state) == ("failed", "Crashed", "succeeded")
    assert error.__name__ in bad.error["message"] and bad.error["next_step"]
    assert scripted_run.processes_of(bad.id) == [], "its child was left behind"


NUMBERS = st.one_of(
    st.integers(),
    st.integers(min_value=10**300, max_value=10**500),
    st.floats(),
    st.just(2**31),
    st.just(COUNT),
    st.booleans(),
)
TEXTS = st.text(st.characters(), max_size=20)
VALUES = st.recursive(
    NUMBERS | TEXTS | st.none(), lambda each: st.lists(each, max_size=3) | st.dictionaries(TEXTS, each, max_size=3)
)
EVENTS = st.fixed_dictionaries(
    {"event": st.sampled_from(["plan", "step", "evaluation", "checkpoint", "note"]) | VALUES},
    optional={
        "step": VALUES,
        "steps": VALUES,
        "start": VALUES,
        "message": VALUES,
        "metrics": st.dictionaries(TEXTS, VALUES, max_size=4) | VALUES,
    },
)
LINES = st.one_of(EVENTS.map(lambda event: json.dumps(event).encode()), st.binary(max_size=60))


@pytest.fixture(scope="module")
def held(tmp_path_factory):
    """A running job in a database of its own: (store, lease)."""
    folder = tmp_path_factory.mktemp("held")
    with pytest.MonkeyPatch.context() as patch, scripted_run.database_in_memory(folder) as url:
        patch.setenv("STILLROOM_HOME", str(folder))
        store = open_store(url)
        spec = specs.parse({"kind": "finetune", "model": "minilm", "dataset": "bc5cdr"})
        queue.submit(spec, store=store)
        me = queue.enlist(store, device="cpu", process=Process.of(1))
        yield store, queue.claim(store, me)


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lines=st.lists(LINES, max_size=6),
    end=st.sampled_from(
        [b"", b"\n", b'{"event'],
    ),
)
def test_any_events_become_progress_that_the_store_holds(held, tmp_path, lines, end):
    store, lease = held
    run = Run(tmp_path / "job-1" / "attempt-1")
    run.folder.mkdir(parents=True, exist_ok=True)
    (run.folder / "events.jsonl").write_bytes(b"\n".join(lines) + end)
    tail = Tail()
    tail.take(run)
    progress = tail.progress()
    assert all(0 <= count <= COUNT for count in (progress.step, progress.steps, progress.checkpoint) if count)
    queue.renew(store, lease, progress)
    shown = [queue.job(lease.id, store=store).to_json(), metrics.history(lease.id, store=store)]
    json.dumps(shown, allow_nan=False).encode()


def test_a_line_that_is_too_long_is_skipped_wherever_a_reading_ends_in_it(tmp_path):
    run = Run(tmp_path / "job-1" / "attempt-1")
    run.folder.mkdir(parents=True)
    step = b'{"event": "step", "step": 1}\n'
    for length in (EVENT_BYTES - 1, EVENT_BYTES, READ_BYTES - 1, READ_BYTES, READ_BYTES + 1, 3 * READ_BYTES):
        hidden = step * (length // len(step) + 1)
        line = b'"' + hidden.replace(b"\n", b" ")[: length - 2] + b'"\n'
        whole, seen, offset = step + line + step, [], 0
        for size in (len(step) + length // 2, len(whole) - 1, len(whole)):  # it grows
            (run.folder / "events.jsonl").write_bytes(whole[:size])
            before = None
            while before != offset:
                before = offset
                events, offset = run.events(offset)
                seen += events
        assert seen == [{"event": "step", "step": 1}] * 2 and offset == len(whole), length


def numbers(model: type[BaseModel]):
    """(field, Annotated type) of every number in the options of a model."""
    for name, info in model.model_fields.items():
        yield from ((f"{model.__name__}.{name}", *each) for each in _numbers(info.annotation, info.metadata))


def _numbers(kind: Any, metadata: list):
    if get_origin(kind) is Annotated:
        inner, *more = get_args(kind)
        yield from _numbers(
            inner, [*metadata, *more, *(each for part in more for each in getattr(part, "metadata", ()))]
        )
    elif kind in (int, float):
        yield kind, metadata
    else:
        for part in get_args(kind):
            yield from _numbers(part, metadata)


EVERY = [
    each
    for model in (JobSpec, Schedule, Compute, Change, *RECIPES.values(), *TASKS.values())
    for each in numbers(model)
]


@pytest.mark.parametrize(("name", "kind", "metadata"), EVERY, ids=[each[0] for each in EVERY])
def test_every_number_of_a_spec_is_bounded_on_both_sides(name, kind, metadata):
    bounds = {
        limit: getattr(item, limit) for item in metadata for limit in ("gt", "ge", "lt", "le") if hasattr(item, limit)
    }
    assert {"gt", "ge"} & bounds.keys() and {"lt", "le"} & bounds.keys(), f"{name} has no bound on one side"
    assert all(math.isfinite(bound) and abs(bound) <= COUNT + 1 for bound in bounds.values())


@settings(deadline=None, max_examples=200)
@given(
    field=st.sampled_from([name for name in Schedule.model_fields]),
    value=NUMBERS | st.integers(10**4400, 10**4401) | TEXTS.map(lambda text: text + "9" * 4400),
)
def test_a_spec_holds_what_every_database_holds_or_is_refused(field, value):
    given_ = {"kind": "finetune", "model": "minilm", "dataset": "bc5cdr", "schedule": {field: value}}
    try:
        spec = specs.parse(given_)
    except BadSpec as error:
        assert len(str(error)) < 2000
        return
    numbers_ = [each for each in spec.schedule.model_dump().values() if each is not None]
    assert all(math.isfinite(each) and abs(each) <= COUNT for each in numbers_)
    assert specs.parse(json.loads(spec.canonical)) == spec


@pytest.mark.parametrize(
    "text", ["steps: " + "9" * 5000, "dataset: 2020-99-99", "[" * 5000, "seed: 0x" + "f" * 5000, 'dataset: "\\uD800"']
)
def test_a_file_whose_values_cannot_be_read_is_a_bad_spec(tmp_path, text):
    from trainer.chain import read

    path = tmp_path / "spec.yaml"
    path.write_text("kind: finetune\nmodel: minilm\n" + text + "\n", encoding="utf-8")
    with pytest.raises(BadSpec):
        read(path)


def test_a_result_says_how_it_ended_in_one_of_three_words():
    with pytest.raises(ValueError, match="state"):
        Result(state="weird")


@pytest.mark.parametrize(
    ("about", "config"),
    [
        ({"metrics": [1]}, {}),
        ({"base": ["minilm"]}, {}),
        ({"params": 10**30 * -1}, {}),
        ({"labels": 5}, {}),
        ({}, {"max_position_embeddings": "many"}),
        ({}, {"max_position_embeddings": -(10**30)}),
        ({}, {"model_type": "longformer", "max_position_embeddings": None}),
    ],
)
def test_a_published_run_that_is_damaged_hides_no_other(home, tmp_path, about, config):
    store, ids = open_store(), []
    me = queue.enlist(store, device="cpu", process=Process.of(1))
    for seed, (card, shape) in enumerate([(about, config), ({}, {})]):
        spec = specs.parse({"kind": "finetune", "model": "minilm", "dataset": "bc5cdr", "seed": seed})
        queue.submit(spec, store=store)
        lease = queue.claim(store, me)
        folder = home / "runs" / lease.id / "attempt-1" / "artifacts" / "model"
        folder.mkdir(parents=True)
        (folder / "model.safetensors").touch()
        (folder / "config.json").write_text(json.dumps({"model_type": "bert"} | shape))
        (folder / "stillroom.json").write_text(json.dumps({"task": "ner", "dataset": "bc5cdr", "labels": ["A"]} | card))
        queue.finish(store, lease, state="succeeded", artifact=str(folder))
        ids.append(lease.id)
    assert [entry.id for entry in published.runs()] == ids[1:]
    assert ids[1] in {entry.id for entry in published.ready()}


@pytest.mark.parametrize("config", [{"hidden_size": 10**30}, {"a": [{"b": -(10**400)}]}, {"vocab_size": 2**53 + 1}])
def test_a_model_whose_config_has_a_number_that_no_model_has_is_refused(tmp_path, config):
    folder, _ = scripted_run.inputs(tmp_path)
    path = Path(folder) / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | config))
    with pytest.raises(CorruptFile, match="no model is so large"):
        resolve(folder)
