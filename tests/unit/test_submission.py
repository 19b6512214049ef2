"""Specs and chains from a file into the queue, by the command line: documents, exit codes, and what is refused."""

import json
import os
import threading
import time
from pathlib import Path

import pytest
import scripted_run
import yaml

from trainer import queue
from trainer.errors import BadSpec
from trainer.queue import engines, store, worker
from trainer.spec import parse
from workbench.launch import submission

DATA = Path(__file__).parents[2] / "data"

FAST = worker.Timing(look_s=0.02, beat_s=0.05, idle_s=0.02)


@pytest.fixture
def inputs(home, tmp_path, monkeypatch):
    """References of a model folder and a data set that resolve."""
    with scripted_run.database_in_memory(home) as url:
        monkeypatch.setenv("STILLROOM_DB", url)
        yield scripted_run.inputs(tmp_path)


@pytest.fixture
def write(tmp_path, inputs):
    """Write a chain of fine-tuning steps: each is (name, fields)."""

    def write_chain(*steps, **common) -> Path:
        usual = {"kind": "finetune", "dataset": inputs[1]} | common
        path = tmp_path / "chain.yaml"
        path.write_text(yaml.safe_dump(usual | {"steps": [{"name": name} | fields for name, fields in steps]}))
        return path

    return write_chain


@pytest.fixture
def working(monkeypatch):
    """A worker in this process whose children follow the script: working(**script)."""
    monkeypatch.setitem(engines.ENGINES, "local", scripted_run.engine())
    shifts = []

    def begin(**script):
        monkeypatch.setenv("SCRIPT", json.dumps({"steps": 2, "step_s": 0.01} | script))
        opened = store.open_store()
        me = queue.enlist(opened, device="cpu", process=engines.Process.of(os.getpid()))
        shift = worker.Shift(opened, me, threads=1, timing=FAST)
        thread = threading.Thread(target=lambda: shift.serve(drain=False), daemon=True)
        thread.start()
        shifts.append((shift, thread))

    yield begin
    for shift, thread in shifts:
        shift.request_exit()
        thread.join(timeout=30)


def test_a_chain_prints_the_id_of_its_last_job_and_of_each_step(stillroom, write, inputs):
    path = write(("a", {"model": inputs[0]}), ("b", {"model": "@a"}), ("c", {"kind": "evaluate", "model": "@b"}))
    code, out, err = stillroom("submit", path, "--json")
    document = json.loads(out)
    assert (code, err, list(document)) == (0, "", ["id", "ids"])
    assert list(document["ids"]) == ["a", "b", "c"] and document["id"] == document["ids"]["c"]
    assert queue.job(document["id"]).waits_for == (document["ids"]["b"],)
    code, out, _ = stillroom("submit", path)
    rows = {line.split()[0]: line for line in out.splitlines()}
    assert code == 0 and all(job_id in rows[name] for name, job_id in document["ids"].items())
    assert f"waits for {document['ids']['a']}" in rows["b"]


def test_what_waits_is_shown_by_every_command_that_shows_jobs(stillroom, write, inputs):
    out = stillroom("submit", write(("a", {"model": inputs[0]}), ("b", {"model": "@a"})), "--json")[1]
    a, b = json.loads(out)["ids"].values()
    listed = next(line for line in stillroom("jobs")[1].splitlines() if line.startswith(b))
    assert f"waits for {a}" in listed
    assert any(line.split() == ["needs", a] for line in stillroom("job", b)[1].splitlines())
    assert f"{b}  queued  0%  waits for {a}" in stillroom("retry", b)[1]
    stillroom("cancel", a)
    document = json.loads(stillroom("job", b, "--json")[1])
    assert (document["state"], document["error"]["type"]) == ("cancelled", "NotStarted")
    assert f"stillroom retry {a}" in document["error"]["next_step"]
    assert f"NotStarted of {a}" in stillroom("jobs")[1]
    code, _, err = stillroom("retry", b)
    assert code == 2 and f"stillroom retry {a}" in err


def test_steps_whose_models_are_elsewhere_are_left_out_if_wished(stillroom, write, inputs):
    taught = {"kind": "distill", "teacher": "@large", "student": {"layers": 3}, "recipe": "task_kd"}
    steps = [("here", {"model": inputs[0]}), ("large", {"model": "bert-base-uncased"}), ("small", taught)]
    assert stillroom("submit", write(*steps))[0] == 2
    code, out, err = stillroom("submit", write(*steps), "--here", "--json")
    assert code == 0 and [*json.loads(out)["ids"]] == ["here"]
    assert "large, which needs bert-base-uncased" in err and "small, which needs an earlier step" in err
    code, _, err = stillroom("submit", write(*steps[1:]), "--here")
    assert code == 1 and "No model of this chain is on this machine: bert-base-uncased" in err
    code, _, err = stillroom("submit", write(("typo", {"model": "nosuch"})), "--here")
    assert code == 2 and "nosuch" in err


def test_wait_is_for_the_whole_chain(stillroom, write, inputs, working):
    working()
    path = write(("a", {"model": inputs[0]}), ("b", {"model": "@a"}), ("c", {"model": "@a", "seed": 1}))
    code, out, _ = stillroom("submit", path, "--wait")
    assert code == 0
    assert [line for line in out.splitlines() if line.startswith("b ")][-1].split()[2] == "succeeded"
    assert {job.state for job in queue.jobs()} == {"succeeded"}
    code, out, _ = stillroom("submit", path, "--wait", "--json")
    document = json.loads(out)
    assert code == 0 and document["state"] == "succeeded" and document["ids"]["c"] == document["id"]
    assert {job.attempts for job in queue.jobs()} == {1}, "nothing was repeated"


def test_wait_fails_with_any_step_but_lets_the_others_end(stillroom, write, inputs, working):
    working(at=1, does="fail", seed=1, attempts=9)
    path = write(("a", {"model": inputs[0]}), ("b", {"model": "@a", "seed": 1}), ("c", {"model": "@a", "seed": 2}))
    code, out, _ = stillroom("submit", path, "--wait", "--json")
    document = json.loads(out)
    assert (code, document["state"]) == (1, "succeeded")
    assert queue.job(document["ids"]["b"]).error["type"] == "BadData"


def test_a_single_spec_that_waits_says_so(stillroom, inputs, tmp_path):
    first = queue.submit(parse({"kind": "finetune", "model": inputs[0], "dataset": inputs[1]}))
    path = tmp_path / "score.yaml"
    path.write_text(yaml.safe_dump({"kind": "evaluate", "model": first.id, "dataset": inputs[1]}))
    code, out, _ = stillroom("submit", path)
    assert code == 0 and f"waits for {first.id}" in out
    code, out, _ = stillroom("submit", path, "--json")
    score = json.loads(out)
    assert list(score) == ["id"], "a lone spec has no steps"
    path.write_text(yaml.safe_dump({"kind": "finetune", "model": score["id"], "dataset": inputs[1]}))
    code, out, _ = stillroom("submit", path, "--json")
    assert code == 2 and "its kind is evaluate" in json.loads(out)["error"]["fields"][0]["problem"]
    queue.cancel(first.id)
    path.write_text(yaml.safe_dump({"kind": "evaluate", "model": first.id, "dataset": inputs[1], "seed": 1}))
    assert "is unknown here, has not started, or has not ended" in stillroom("submit", path)[2]


def test_a_bad_chain_names_each_field_and_queues_nothing(stillroom, write, inputs):
    steps = [("a", {"model": "minilmm"}), ("b", {"model": "@a", "dataset": "./nowhere"})]
    code, out, err = stillroom("submit", write(*steps), "--json")
    fields = {item["field"]: item["problem"] for item in json.loads(out)["error"]["fields"]}
    assert code == 2 and err and set(fields) == {"steps.a.model", "steps.b.dataset"}
    assert "Did you mean 'minilm'?" in fields["steps.a.model"]
    steps = [("a", {"model": inputs[0], "seed": "seven"}), ("b", {"model": "@c"})]
    code, _, err = stillroom("submit", write(*steps))
    assert code == 2 and "error: steps.a.seed: " in err and "error: steps.b.model: " in err
    assert queue.jobs() == []


def test_every_reference_of_a_spec_is_checked_and_made_absolute(inputs, monkeypatch):
    monkeypatch.chdir(DATA)
    model, data = "./models/minilm-ncbi", "./ncbi-disease-slice"
    taught = {"kind": "distill", "teacher": model, "student": {"base": model, "layers": 1}, "dataset": data}
    taught |= {"recipe": {"name": "task_kd", "unlabelled": data}}
    job = submission.resolve_references(parse(taught))
    assert {job.teacher, job.student.base} == {str(DATA / "models/minilm-ncbi")}
    assert {job.dataset, job.recipe.unlabelled} == {str(DATA / "ncbi-disease-slice")}
    with pytest.raises(BadSpec) as caught:
        submission.resolve_references(
            parse(taught | {"student": {"base": "minilmm", "layers": 1}, "teacher": "00000000-1"})
        )
    assert {field for field, _ in caught.value.fields} == {"teacher", "student.base"}


def test_waiting_looks_again_only_while_something_moves(inputs, monkeypatch):
    job = queue.submit(parse({"kind": "finetune", "model": inputs[0], "dataset": inputs[1]}))
    seen = []
    monkeypatch.setattr(time, "sleep", lambda seconds: queue.cancel(job.id))
    ended = submission.wait({"": job}, view=lambda name, job: seen.append((name, job.state)))
    assert seen == [("", "queued"), ("", "cancelled")] and ended[""].state == "cancelled"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"kind": "distill", "teacher": "minilm-ncbi", "student": "minilm-ncbi", "recipe": "task_kd"}, "student"),
        ({"kind": "distill", "teacher": "minilm", "student": {"layers": 3}, "recipe": "task_kd"}, "teacher"),
        ({"kind": "distill", "teacher": "minilm-ncbi", "student": {"heads": 5}, "recipe": "task_kd"}, "student.heads"),
        ({"kind": "finetune", "model": {"base": "minilm", "layers": 7}}, "model.layers"),
    ],
)
def test_a_pair_that_does_not_fit_is_refused_before_it_is_queued(home, fields, field):
    with pytest.raises(BadSpec) as caught:
        submission.submit(parse(fields | {"dataset": "ncbi-disease-slice"}))
    assert field in {name for name, _ in caught.value.fields}
    assert queue.jobs() == []
