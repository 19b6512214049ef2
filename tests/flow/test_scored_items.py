"""An evaluation stores what it rests on item by item: two of them are compared, and mistakes are looked up."""

import json
import os

import pytest

from trainer import datasets, queue, zoo
from trainer.evaluation import outcomes
from trainer.evaluation.outcomes import Outcomes
from trainer.execute import execute
from trainer.home import runs_dir
from trainer.queue import Progress, store
from trainer.queue.engines import Process
from trainer.run import Run, RunSpec
from trainer.spec import parse

DATASET = "ncbi-disease-slice"


@pytest.fixture
def scored(home):
    """Scores a model on a data set as a job, in this process; its id and its run."""
    worker = queue.enlist(store.open_store(), device="cpu", process=Process.of(os.getpid()))

    def score(model: object, dataset: str = DATASET, **fields) -> tuple[str, Run]:
        job = queue.submit(parse({"kind": "evaluate", "model": str(model), "dataset": dataset, "limit": 20} | fields))
        lease = queue.claim(store.open_store(), worker)
        spec = parse(job.spec)
        inputs = {"model": zoo.resolve(spec.model), "dataset": datasets.resolve(spec.dataset)}
        about = {"id": job.id, "attempt": 1, "spec": spec, "threads": 1, "device": "cpu"}
        run = Run.create(runs_dir(), RunSpec(**about, **inputs))
        assert execute(run.folder) == 0, run.result
        metrics = Progress(metrics=run.result.metrics)
        queue.finish(store.open_store(), lease, state="succeeded", progress=metrics)
        return job.id, run

    return score


@pytest.mark.slow
def test_two_runs_are_compared_item_by_item(scored, stillroom):
    (strong, run), (weak, _) = scored("minilm-ncbi"), scored("minilm-ncbi-l3")
    stored = Outcomes.read(run.folder)
    assert stored.n == run.result.report["n"] == 20 and stored.unit == "sentences"
    assert outcomes.score("f1", stored.table(), stored.right()) == pytest.approx(run.result.metrics["f1"])
    assert "outcomes" not in run.result.report and run.result.report["baseline"]["metrics"]["f1"] < 1
    assert {"length", "mention"} == {each["slice"] for each in run.result.report["slices"]}
    words = datasets.load(DATASET, "test", limit=20)[0].words
    assert not any(word in (run.folder / outcomes.FILE).read_text() for word in words if len(word) > 9)

    code, out, _ = stillroom("results", "--compare", strong, "--against", weak, "--json")
    document = json.loads(out)
    rows = {row["id"]: row for row in json.loads(stillroom("results", "--dataset", DATASET, "--json")[1])}
    assert code == 0 and document["difference"] == pytest.approx(rows[strong]["score"] - rows[weak]["score"])
    assert rows[strong]["hardware"] and rows[strong]["threads"] == 1 and rows[strong]["baseline"] is not None
    assert sum(document["mcnemar"][name] for name in ("only_first", "only_second", "both", "neither")) == sum(
        gold for *_, gold in stored.counts
    )
    code, out, _ = stillroom("results", "--compare", strong, "--against", weak)
    assert code == 0 and "McNemar's exact test" in out and "paired bootstrap" in out


@pytest.mark.slow
def test_what_cannot_be_compared_is_said_with_what_to_do(scored, stillroom):
    (first, run), (other, _) = scored("minilm-ncbi"), scored("minilm-ncbi", split="dev")
    code, _, err = stillroom("results", "--compare", first, "--against", other)
    assert code == 2 and "not scored on the same items" in err
    code, _, err = stillroom("results", "--compare", first)
    assert code == 2 and "--against" in err
    code, _, err = stillroom("results", "--compare", first, "--against", "nobody")
    assert code == 2 and "There is no result 'nobody'" in err
    (run.folder / outcomes.FILE).unlink()
    code, _, err = stillroom("results", "--compare", first, "--against", first)
    assert code == 1 and "no stored outcomes" in err and "kind: evaluate" in err


def test_a_classifier_has_a_calibration_a_baseline_and_mistakes(scored, tiny_classifier):
    _, run = scored(tiny_classifier, "mtsamples-slice", limit=30)
    report, stored = run.result.report, Outcomes.read(run.folder)
    assert outcomes.score("macro_f1", stored.table(), stored.right()) == pytest.approx(report["metrics"]["macro_f1"])
    assert report["baseline"]["name"] == "most frequent label of train"
    assert 0 <= report["calibration"]["ece_scaled"] <= 1 and report["calibration"]["temperature"] > 0
    assert sum(point["n"] for point in report["calibration"]["curve"]) == report["n"]
    assert {each.kind for each in stored.mistakes} == {"label"} and stored.unit == "documents"


def test_the_mistakes_are_written_as_jsonl_without_text(stillroom, home, tmp_path):
    words = ["evaluate", "--model", "minilm-ncbi-l3", "--dataset", DATASET, "--limit", 12]
    code, out, _ = stillroom(*words, "--errors", tmp_path / "mistakes.jsonl")
    assert code == 0 and "mentions of train, looked up" in out
    lines = [json.loads(line) for line in (tmp_path / "mistakes.jsonl").read_text().splitlines()]
    texts = [" ".join(each.words) for each in datasets.load(DATASET, "test", limit=12)]
    assert lines and {"item", "kind", "places"} <= set(lines[0])
    assert all(end <= len(texts[each["item"]]) for each in lines for _, end in each["places"])
