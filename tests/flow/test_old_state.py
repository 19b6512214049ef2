"""A state folder that an older version left, opened at another place than where it was made."""

import json
import math
import tarfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from trainer import datasets, models, queue, zoo
from trainer.errors import CorruptFile
from trainer.files import file_sha256
from trainer.home import runs_dir
from trainer.queue import published, store
from trainer.queue.worker import work
from trainer.run import attempts, checkpoint_step
from trainer.spec import parse
from trainer.training import checkpoint
from trainer.training.loop import optimizer_for, train
from trainer.training.setup import prepare
from workbench.note import Note
from workbench.predict import predict

OLD = Path(__file__).parent / "old_state"
EXPECTED = json.loads((OLD / "expected.json").read_text())
JOBS = EXPECTED["jobs"]


@pytest.fixture
def old(home):
    """The ids of the jobs in a copy of the old state."""
    with tarfile.open(OLD / "state.tar.xz") as archive:
        archive.extractall(home.parent, filter="data")
    return JOBS


def test_it_is_small_enough_to_keep():
    assert (OLD / "state.tar.xz").stat().st_size < 500_000


def test_its_jobs_are_listed_with_their_digests(old):
    listed = {job.id: job for job in queue.jobs()}
    states = {name: listed[job_id].state for name, job_id in old.items()}
    ended = {"tagger": "succeeded", "distilled": "succeeded", "interrupted": "cancelled", "failed": "failed"}
    assert states == ended and len(listed) == len(ended)
    for job in listed.values():
        assert parse(job.spec).digest[:8] == job.id.partition("-")[0]
    assert listed[old["failed"]].error["type"] == "BadData"


def test_its_models_are_in_the_zoo_and_predict(old, home):
    assert {entry.id for entry in published.runs()} == {old["tagger"], old["distilled"]}
    for run_id in (old["tagger"], old["distilled"]):
        assert Path(queue.job(run_id).artifact).is_relative_to(home)
        prediction = predict(Note("Ataxia and breast cancer in two families."), zoo.resolve(run_id))
        assert prediction.task == "ner" and prediction.coverage.tokens > 5
    network, _ = models.load(old["distilled"])
    assert network.config.num_hidden_layers == 1


def test_its_finished_steps_are_not_made_again(old):
    stored = parse(queue.job(old["distilled"]).spec)
    engine = store.open_store()
    with engine.begin() as connection:
        assert queue._done(connection, stored.digest, queue.inputs.resolve_available(stored)) == old["distilled"]


def test_its_interrupted_run_is_taken_up_after_its_checkpoint(old, home):
    (run,) = attempts(runs_dir(), old["interrupted"])
    data = datasets.resolve(run.spec.spec.dataset)
    assert data.sha256 == run.spec.dataset.sha256
    setup = prepare(run.spec.model_copy(update={"dataset": data}), cache=home / "cache")
    spec, optimizer = setup.ready.spec, optimizer_for(setup.objective, setup.ready.spec.schedule)
    start = checkpoint.restore(checkpoint.latest(run), setup.objective, optimizer).step
    options = {"schedule": spec.schedule, "total": setup.total, "start": start, "seed": spec.seed}
    step = next(train(setup.objective, optimizer, batch_at=setup.batch_at, **options))
    assert step.number == start + 1 > 1 and math.isfinite(step.metrics["loss"])


@pytest.mark.slow
def test_its_interrupted_run_goes_on_to_the_same_bits(old):
    (first,) = attempts(runs_dir(), old["interrupted"])
    step = checkpoint_step(first.checkpoints()[0])
    queue.retry(old["interrupted"])
    work(drain=True)
    resumed = queue.job(old["interrupted"])
    assert (resumed.state, resumed.attempts) == ("succeeded", 2), resumed.error
    second = attempts(runs_dir(), resumed.id)[0]
    assert second.events()[0][0] == {"event": "plan", "steps": 600, "start": step} and step > 0
    weights = Path(resumed.artifact) / "model.safetensors"
    if file_sha256(weights) == EXPECTED["uninterrupted_sha256"]:
        return  # the processor that made the state, or one that adds like it
    # On another processor sums are rounded otherwise, and the first steps were taken on the one that made the state.
    whole = queue.retry(old["interrupted"], fresh=True)
    work(drain=True)
    uninterrupted = Path(queue.job(whole.id).artifact) / "model.safetensors"
    assert file_sha256(uninterrupted) != EXPECTED["uninterrupted_sha256"], "here whole runs end as they did there"
    ours, theirs = map(load_file, (weights, uninterrupted))
    assert ours.keys() == theirs.keys()
    assert all(torch.allclose(ours[name], theirs[name], atol=2e-3) for name in ours)


def test_its_interrupted_run_does_not_go_on_with_other_data(old):
    """What its first attempt was given is in that attempt's spec.json."""
    spec = attempts(runs_dir(), old["interrupted"])[0].folder / "spec.json"
    document = json.loads(spec.read_text())
    document["dataset"]["sha256"] = "0" * 64
    spec.write_text(json.dumps(document))
    queue.retry(old["interrupted"])
    work(drain=True)
    job = queue.job(old["interrupted"])
    assert (job.state, job.error["type"]) == ("failed", CorruptFile.__name__)
    assert "'mtsamples-slice' has changed since this job began" in job.error["message"]
    assert f"stillroom retry {job.id} --fresh" in job.error["next_step"]
