"""Pairs of a premise and a hypothesis from a spec to a model that is published, compared, explained and taught from."""

import json

import pytest
import torch

from trainer import datasets, models, zoo
from trainer.execute import execute
from trainer.files import file_sha256
from trainer.models.export import model_card, read_about
from trainer.resolved import ResolvedModel
from trainer.run import Run, RunSpec
from trainer.spec import parse
from trainer.training import preflight
from workbench import explain
from workbench.note import Note
from workbench.predict import predict

SCHEDULE = {"steps": 4, "batch_tokens": 512, "max_tokens": 128, "lr": 1e-3, "evaluate_every": 4}
NOTE = "Mean pain scores fell from 6.1 to 2.3 with the drug and did not change with placebo. " * 8
HYPOTHESIS = "Pain was lower with the drug."


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def resolved(folder) -> ResolvedModel:
    return ResolvedModel(reference=folder.name, path=str(folder), sha256=file_sha256(folder / "model.safetensors"))


def ready(fields, *, model, teacher=None, number=1) -> RunSpec:
    data = datasets.resolve("evidence-inference")
    spec = parse({"dataset": "evidence-inference", "task": "pairs", "limit": 12, "schedule": SCHEDULE} | fields)
    options = {"attempt": 1, "threads": 1, "device": "cpu", "dataset": data, "model": model, "teacher": teacher}
    return RunSpec(id=f"00000000-{number}", spec=spec, **options)


def run_of(home, fields, **options) -> Run:
    run = Run.create(home / "runs", ready(fields, **options))
    execute(run.folder)
    assert run.result.state == "succeeded", run.result.error
    return run


def test_from_a_model_to_one_of_pairs_and_its_student(home, tiny_model, stillroom, tmp_path):
    run = run_of(home, {"kind": "finetune", "model": "tiny"}, model=resolved(tiny_model))
    metrics = run.result.metrics
    assert {"test_accuracy", "test_macro_f1", "dev_accuracy", "test_hypothesis_only.accuracy"} <= set(metrics)
    assert run.result.report["n"] == 12 and "macro_f1" in run.result.report["intervals"]
    folder = run.folder / run.result.artifact
    config = json.loads((folder / "config.json").read_text())
    assert list(config["id2label"].values()) == sorted(datasets.cards()["evidence-inference"].labels)  # trap T15
    assert zoo.labelled_task(zoo.resolve(str(folder))) == "pairs" == config["stillroom_task"]
    card = model_card(read_about(folder))
    assert "A pair has one label" in card and "hypothesis_only.accuracy" in card

    fields = {"kind": "evaluate", "model": "m", "split": "test"}
    scored = run_of(home, fields, model=resolved(folder), number=2).result.metrics
    assert {f"test_{name}": value for name, value in scored.items()}.items() <= metrics.items()

    taught = {"kind": "distill", "teacher": "t", "student": {"layers": 1}, "recipe": {"name": "task_kd", "labels": 0.5}}
    student = run_of(home, taught, model=resolved(folder), teacher=resolved(folder), number=3)
    assert {"teacher_test_accuracy", "retention"} <= set(student.result.metrics)
    trial = preflight.estimate(ready(taught, model=resolved(folder), teacher=resolved(folder)), cache=tmp_path)
    assert trial.steps == SCHEDULE["steps"] and trial.cut == 0

    _read_a_note(folder, student.folder / student.result.artifact, stillroom, tmp_path)


def _read_a_note(folder, student, stillroom, tmp_path):
    (tmp_path / "note.txt").write_text(NOTE)
    about = ("--text-file", tmp_path / "note.txt", "--json")
    code, out, _ = stillroom("predict", "--model", folder, *about, "--hypothesis", HYPOTHESIS)
    document = json.loads(out)
    assert code == 0 and document["task"] == "pairs" and document["coverage"]["windows"] > 1
    assert HYPOTHESIS not in out
    with_python = predict(Note(NOTE, HYPOTHESIS), str(folder))
    assert [each["score"] for each in document["labels"]] == pytest.approx([each.score for each in with_python.labels])
    assert predict(Note(NOTE, "Something else."), str(folder)).labels != with_python.labels

    code, out, _ = stillroom("predict", "--model", folder, *about)
    assert code == 2 and "hypothesis: found none" in json.loads(out)["error"]["message"]
    arms = ("--model", folder, "--model", student)
    code, out, _ = stillroom("compare", *arms, *about, "--hypothesis", HYPOTHESIS)
    assert code == 0 and json.loads(out)["agreement"] in (0.0, 1.0)

    target = with_python.labels[0].label
    code, out, _ = stillroom("explain", "--model", folder, "--target", target, *about, "--hypothesis", HYPOTHESIS)
    answer = json.loads(out)
    assert code == 0 and answer["attributions"] and all(each["end"] <= len(NOTE) for each in answer["attributions"])
    network, tokenizer = models.load(str(folder))
    options = explain.ExplainOptions(reading="truncate", method="feature_ablation", orders=0)
    alone = explain.explain_text(NOTE, network, tokenizer, target, options, hypothesis=HYPOTHESIS, name="m")
    said = {each.label: each.score for each in predict(Note(NOTE, HYPOTHESIS), str(folder), reading="truncate").labels}
    assert alone.probability == pytest.approx(said[target], abs=1e-5)


def test_a_hypothesis_for_a_model_that_reads_none_is_refused(home, tiny_model, stillroom, tmp_path):
    (tmp_path / "note.txt").write_text(NOTE)
    code, out, _ = stillroom(
        "predict", "--model", tiny_model, "--text-file", tmp_path / "note.txt", "--hypothesis", HYPOTHESIS, "--json"
    )
    assert code == 2 and "these models read no hypothesis" in json.loads(out)["error"]["message"]
