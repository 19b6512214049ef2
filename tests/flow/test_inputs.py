"""A job is its inputs: every attempt goes on with what the job was queued with, or it stops and says why."""

import json
import os
import shutil
from pathlib import Path

import pytest
import scripted_run

from trainer import queue
from trainer.chain import parse as parse_chain
from trainer.errors import Refused
from trainer.home import runs_dir
from trainer.queue import engines, inputs, store, worker
from trainer.run import attempts
from trainer.spec import parse

FAST = worker.Timing(look_s=0.02, beat_s=0.05, idle_s=0.02, cancel_grace_s=0.5)


@pytest.fixture
def place(home, tmp_path, monkeypatch) -> Path:
    """A folder with a model and a data set; children follow the script and make nothing but checkpoints."""
    monkeypatch.setitem(engines.ENGINES, "local", scripted_run.engine())
    monkeypatch.delenv("SCRIPT", raising=False)
    scripted_run.inputs(tmp_path)
    return tmp_path


def spec(place, **changes):
    return parse({"kind": "finetune", "model": str(place / "model"), "dataset": str(place / "data")} | changes)


def run(job_id):
    worker.work(drain=True, threads=1, timing=FAST)
    return queue.job(job_id)


def fail_once(monkeypatch, place, **changes):
    """A job that has failed after its first checkpoint."""
    monkeypatch.setenv("SCRIPT", json.dumps({"at": 3, "does": "fail"}))
    job = run(queue.submit(spec(place, **changes)).id)
    assert (job.state, job.error["type"]) == ("failed", "BadData")
    monkeypatch.delenv("SCRIPT")
    return job


def append(path: Path, text: str):
    path.write_text(path.read_text() + text)


CHANGES = {
    "data set": (lambda place: append(place / "data/train.conll", "pain\tO\n"), "data set", "train.conll differs"),
    "a split less": (lambda place: (place / "data/dev.conll").unlink(), "data set", "dev.conll is gone"),
    "weights": (lambda place: retouch(place / "model"), "model", "model.safetensors differs"),
    "tokenizer": (lambda place: append(place / "model/tokenizer.json", "\n"), "model", "tokenizer.json differs"),
    "config": (lambda place: append(place / "model/config.json", "\n"), "model", "config.json differs"),
    "a tokenizer file more": (lambda place: (place / "model/vocab.txt").write_text("a"), "model", "vocab.txt is new"),
}


def retouch(model: Path):
    """Other weights of the same size."""
    path = model / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("change", CHANGES)
def test_an_attempt_that_finds_others_stops_and_says_which(change, place, monkeypatch):
    job = fail_once(monkeypatch, place)
    alter, what, which = CHANGES[change]
    alter(place)
    queue.retry(job.id)
    again = run(job.id)
    assert (again.state, again.error["type"]) == ("failed", "CorruptFile")
    assert f"The {what} '{place}/" in again.error["message"] and which in again.error["message"]
    assert "has changed since this job began" in again.error["message"]
    assert f"stillroom retry {job.id} --fresh" in again.error["next_step"]
    assert len(attempts(runs_dir(), job.id)) == 1, "nothing was started"
    fresh = queue.retry(job.id, fresh=True)
    assert fresh.id != job.id and run(fresh.id).state == "succeeded"


def test_a_teacher_and_unlabelled_text_are_inputs_too(place, monkeypatch):
    shutil.copytree(place / "model", place / "teacher")
    (place / "text.txt").write_text("Fever.\n")
    recipe = {"name": "task_kd", "unlabelled": str(place / "text.txt")}
    changes = {"kind": "distill", "model": None, "student": str(place / "model"), "teacher": str(place / "teacher")}
    job = fail_once(monkeypatch, place, **changes, recipe=recipe)
    retouch(place / "teacher")
    append(place / "text.txt", "Cough.\n")
    queue.retry(job.id)
    message = run(job.id).error["message"]
    assert f"The teacher '{place}/teacher' has changed since this job began: model.safetensors differs." in message
    assert f"The data set '{place}/text.txt' has changed since this job began: text.txt differs." in message


def test_models_that_are_averaged_are_inputs_too(place, monkeypatch):
    shutil.copytree(place / "model", place / "other")
    model = [str(place / "model"), str(place / "other")]
    job = queue.submit(parse({"kind": "average", "model": model, "dataset": str(place / "data")}))
    retouch(place / "other")
    assert f"The model '{place}/other' has changed" in run(job.id).error["message"]


def test_inputs_are_fixed_when_a_job_is_queued(place):
    job = queue.submit(spec(place))
    append(place / "data/train.conll", "pain\tO\n")
    assert "train.conll differs" in run(job.id).error["message"]


def test_inputs_that_come_back_let_a_job_go_on(place, monkeypatch):
    job = fail_once(monkeypatch, place)
    before = (place / "data/train.conll").read_bytes()
    append(place / "data/train.conll", "pain\tO\n")
    queue.retry(job.id)
    assert run(job.id).state == "failed"
    (place / "data/train.conll").write_bytes(before)
    queue.retry(job.id)
    assert run(job.id).state == "succeeded"


def test_the_same_spec_with_other_inputs_is_not_the_job_in_the_queue(place):
    job = queue.submit(spec(place))
    assert queue.submit(spec(place)).id == job.id
    append(place / "data/train.conll", "pain\tO\n")
    with pytest.raises(Refused, match=f"{job.id} has the same spec and has not ended.*train.conll differs"):
        queue.submit(spec(place))
    queue.cancel(job.id)
    assert queue.submit(spec(place)).id != job.id


def chain(place):
    common = {"kind": "finetune", "dataset": str(place / "data")}
    steps = [{"name": "a", "model": str(place / "model")}, {"name": "b", "model": "@a", "seed": 1}]
    return parse_chain(common | {"steps": steps})


def test_a_chain_makes_a_step_again_whose_inputs_have_changed(place):
    first = queue.submit_chain(chain(place))
    run(first["b"].id)
    assert {name: job.id for name, job in queue.submit_chain(chain(place)).items()} == {
        name: job.id for name, job in first.items()
    }
    append(place / "data/train.conll", "pain\tO\n")
    second = queue.submit_chain(chain(place))
    assert second["a"].id != first["a"].id and second["b"].id != first["b"].id
    assert run(second["b"].id).state == "succeeded"


def test_the_model_of_an_earlier_step_is_fixed_when_it_is_known(place, monkeypatch):
    monkeypatch.setenv("SCRIPT", json.dumps({"at": 3, "does": "fail", "seed": 1}))
    jobs = queue.submit_chain(chain(place))
    opened = store.open_store()
    known = store.read(opened, lambda connection: inputs.recorded(connection, jobs["b"].id))
    assert set(known) == {"dataset"}
    assert run(jobs["b"].id).state == "failed"
    known = store.read(opened, lambda connection: inputs.recorded(connection, jobs["b"].id))
    assert set(known) == {"dataset", "model"}
    artifact = Path(queue.job(jobs["a"].id).artifact)
    retouch(artifact)
    queue.retry(jobs["b"].id)
    error = run(jobs["b"].id).error
    assert f"The model '{jobs['a'].id}' has changed" in error["message"]


def test_paths_are_stored_by_their_place(place, home):
    """Neither in the database nor in a run folder is there a path that moving the state would make wrong."""
    first = queue.submit_chain(chain(place))
    run(first["b"].id)
    spec_json = attempts(runs_dir(), first["b"].id)[0].folder / "spec.json"
    assert str(home) not in spec_json.read_text()
    assert json.loads(spec_json.read_text())["model"]["path"].startswith("$STILLROOM_HOME/runs/")
    opened = store.open_store()
    with opened.begin() as connection:
        artifacts = connection.exec_driver_sql("SELECT artifact FROM job").scalars().all()
        values = connection.exec_driver_sql("SELECT value FROM input").scalars().all()
    assert all(not os.path.isabs(artifact) for artifact in artifacts)  # noqa: PTH117
    assert values and not any(str(home) in value for value in values)
    assert all(Path(job.artifact).is_dir() for job in queue.jobs())
