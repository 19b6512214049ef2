"""The state folder and the checkout can be moved: models are found, and runs go on, where they are then."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import scripted_run

from trainer import queue, zoo
from trainer.home import portable, present, runs_dir
from trainer.queue import engines, store, worker
from trainer.run import attempts
from trainer.spec import parse

FAST = worker.Timing(look_s=0.02, beat_s=0.05, idle_s=0.02, cancel_grace_s=0.5)
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def move(home, monkeypatch):
    """Move the state folder: move() -> where it is then."""

    def moved() -> Path:
        store.open_store().dispose()
        store._open.cache_clear()
        place = home.parent / "mount" / "elsewhere"
        place.parent.mkdir()
        shutil.move(home, place)
        monkeypatch.setenv("STILLROOM_HOME", str(place))
        return place

    return moved


def run(job_id):
    worker.work(drain=True, threads=1, timing=FAST)
    return queue.job(job_id)


@pytest.fixture
def specs(home, tmp_path, monkeypatch):
    """A spec, and one that starts from the run of a job: specs() and specs(job_id)."""
    monkeypatch.setitem(engines.ENGINES, "local", scripted_run.engine())
    model, data = scripted_run.inputs(tmp_path)
    return lambda base=model: parse({"kind": "finetune", "model": base, "dataset": data})


def test_models_are_found_after_a_move(specs, move):
    job = run(queue.submit(specs()).id)
    before = zoo.resolve(job.id)
    by_path = Path(job.artifact)
    place = move()
    after = zoo.resolve(job.id)
    assert Path(after.path).is_relative_to(place) and after.sha256 == before.sha256
    assert Path(queue.job(job.id).artifact).is_relative_to(place)
    assert zoo.resolve(str(by_path)).path == after.path, "also where it was named by its old path"


def test_a_copy_is_read_and_not_what_it_was_copied_from(specs, home, monkeypatch):
    job = run(queue.submit(specs()).id)
    store.open_store().dispose()
    copy = home.parent / "copy"
    shutil.copytree(home, copy)
    monkeypatch.setenv("STILLROOM_HOME", str(copy))
    assert Path(zoo.resolve(job.id).path).is_relative_to(copy)


def test_a_run_from_a_run_goes_on_after_a_move(specs, move, monkeypatch):
    base = run(queue.submit(specs()).id)
    monkeypatch.setenv("SCRIPT", json.dumps({"at": 3, "does": "fail"}))
    interrupted = run(queue.submit(specs(base.id)).id)
    assert interrupted.state == "failed"
    monkeypatch.delenv("SCRIPT")
    place = move()
    queue.retry(interrupted.id)
    job = run(interrupted.id)
    assert (job.state, job.attempts) == ("succeeded", 2)
    assert Path(job.artifact).is_relative_to(place)
    assert (Path(job.artifact) / "weights.txt").read_text() == scripted_run.weights_after(6)
    assert Path(attempts(runs_dir(), job.id)[0].spec.model.path).is_relative_to(place)


def test_a_base_that_was_named_by_its_path_goes_on_after_a_move(specs, move, monkeypatch):
    base = run(queue.submit(specs()).id)
    monkeypatch.setenv("SCRIPT", json.dumps({"at": 3, "does": "fail"}))
    interrupted = run(queue.submit(specs(base.artifact)).id)
    monkeypatch.delenv("SCRIPT")
    move()
    queue.retry(interrupted.id)
    assert run(interrupted.id).state == "succeeded"


def test_a_path_is_written_by_its_place_and_read_where_it_is(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    path = "runs/0123abcd-1/attempt-1/artifacts/model"
    (new / path).mkdir(parents=True)
    assert present(portable(str(old / path), old), new) == str(new / path)
    assert present(str(old / path), new) == str(new / path), "as an older version wrote it"
    assert portable(str(ROOT / "data/models/x"), old) == "$CHECKOUT/data/models/x"
    for other in (str(tmp_path / "elsewhere"), "owner/name@0123", "hf:owner/name"):
        assert present(portable(other, old), new) == other
    (tmp_path / "link").symlink_to(old)
    assert portable(str(old.resolve() / path), tmp_path / "link").startswith("$STILLROOM_HOME/")


CHECKOUT = """
import sys
from trainer import datasets, queue, spec, zoo as registry
job = queue.submit(spec.parse({"kind": "evaluate", "model": "minilm-ncbi-l3", "dataset": "ncbi-disease-slice"}))
print(registry.resolve("minilm-ncbi-l3").path, datasets.resolve("ncbi-disease-slice").path)
from trainer.queue import inputs, store
print(*inputs.resolve_for_attempt(spec.parse(job.spec), job.id, store.open_store()))
"""


def test_a_job_goes_on_from_another_checkout(home, tmp_path):
    """Queued in one checkout, taken up in a copy of it: models and data of the zoo are those of the copy."""
    copy = tmp_path / "copy"
    shutil.copytree(ROOT / "trainer", copy / "trainer", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("data/ncbi-disease-slice", "data/models/minilm-ncbi-l3"):
        shutil.copytree(ROOT / name, copy / name)
    shutil.copy(ROOT / "model_zoo.yaml", copy)
    for checkout in (ROOT, copy):
        environment = os.environ | {"PYTHONPATH": str(checkout)}
        command = [sys.executable, "-c", CHECKOUT]
        done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        paths, names = done.stdout.splitlines()
        assert all(Path(path).is_relative_to(checkout) for path in paths.split())
        assert names == "model dataset"
    assert len(queue.jobs()) == 1
