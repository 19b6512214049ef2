"""Averaging in a chain, from the file to the published model: two short runs, their average, its score."""

from pathlib import Path

import pytest
import torch
import yaml

from trainer import models
from trainer.chain import parse
from trainer.models.export import read_about
from trainer.queue import worker
from trainer.run import Run
from trainer.spec import JobSpec
from workbench.launch import submission

SHORT = {"kind": "finetune", "model": {"base": "minilm-ncbi", "layers": 1}}
CHAIN = {
    "dataset": "ncbi-disease-slice",
    "limit": 30,
    "schedule": {"steps": 6, "batch_tokens": 512, "lr": 5e-4, "evaluate_every": 6},
    "steps": [
        {"name": "one", **SHORT, "seed": 1},
        {"name": "two", **SHORT, "seed": 2},
        {"name": "both", "kind": "average", "model": ["@one", "@two"]},
        {"name": "score", "kind": "evaluate", "model": "@both"},
    ],
}


@pytest.mark.slow
def test_the_average_of_two_runs_is_a_model_that_is_scored_and_used(home):
    jobs = submission.submit(parse(CHAIN))
    worker.work(drain=True, threads=1)
    jobs = submission.wait(jobs, view=lambda name, job: None)
    assert {name: job.state for name, job in jobs.items()} == dict.fromkeys(jobs, "succeeded")
    both = jobs["both"]
    assert both.metrics["test_f1"] == pytest.approx(jobs["score"].metrics["f1"], abs=0), "as `evaluate` scores it"
    (one, _), (two, _), (mean, _) = (models.load(jobs[name].id) for name in ("one", "two", "both"))
    theirs = one.state_dict(), two.state_dict()
    assert not torch.equal(*(state["classifier.weight"] for state in theirs)), "seeds differ"
    for name, tensor in mean.state_dict().items():
        torch.testing.assert_close(tensor, (theirs[0][name] + theirs[1][name]) / 2, rtol=0, atol=1e-6)
    members = Run(Path(both.artifact).parents[1]).result.report["members"]
    scores = ("dev_f1", "test_f1")
    expected = [{"model": job.id} | {name: job.metrics[name] for name in scores} for job in (jobs["one"], jobs["two"])]
    assert members == expected, "what its own run said of each, on the same data"
    about = read_about(models.resolve(both.id).path)
    shas = [models.resolve(jobs[name].id).sha256 for name in ("one", "two")]
    assert about["weights_of_base"] == ", ".join(shas), "all that it is made of"
    assert about["made_from"] == f"the average of {jobs['one'].id}, {jobs['two'].id}"
    assert (about["task"], about["labels"], about["metrics"]) == ("ner", ["Disease"], both.metrics)
    folder = Path(models.resolve(both.id).path)
    written = (folder / "README.md").read_text().partition("```yaml\n")[2].partition("```")[0]
    steps = parse(yaml.safe_load(written)).steps
    made = {f"run-{jobs[name].id}": jobs[name] for name in ("one", "two", "both")}
    assert [step.name for step in steps] == list(made), "the card is a chain of all the runs behind the model"
    assert [each.name for each in steps[-1].spec.references("model")] == [f"@{name}" for name in list(made)[:2]]
    ids = {name: job.id for name, job in made.items()}
    for step in steps:
        assert step.bound(ids).digest == JobSpec.model_validate(made[step.name].spec).digest, "and makes it again"
