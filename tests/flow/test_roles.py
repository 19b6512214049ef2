"""Roles of sentences from a spec to a model that is published, compared, explained and taught from."""

import json

import pytest
import torch

from trainer import datasets, zoo
from trainer.execute import execute
from trainer.files import file_sha256
from trainer.models.export import model_card, read_about
from trainer.resolved import ResolvedModel
from trainer.run import Run, RunSpec
from trainer.spec import parse

SCHEDULE = {"steps": 4, "batch_tokens": 512, "max_tokens": 128, "lr": 1e-3, "evaluate_every": 4}
NOTE = "We asked whether pain falls.\nForty patients were drawn by lot. Pain fell from 6.1 to 2.3. It helps. " * 4


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def resolved(folder) -> ResolvedModel:
    return ResolvedModel(reference=folder.name, path=str(folder), sha256=file_sha256(folder / "model.safetensors"))


def run_of(home, fields, *, model, teacher=None, number=1) -> Run:
    data = datasets.resolve("pmc-rct-slice")
    spec = parse({"dataset": "pmc-rct-slice", "task": "roles", "limit": 4, "schedule": SCHEDULE} | fields)
    options = {"attempt": 1, "threads": 1, "device": "cpu", "dataset": data, "model": model, "teacher": teacher}
    run = Run.create(home / "runs", RunSpec(id=f"00000000-{number}", spec=spec, **options))
    execute(run.folder)
    assert run.result.state == "succeeded", run.result.error
    return run


def test_from_a_model_to_one_of_roles_and_its_student(home, tiny_model, stillroom, tmp_path):
    run = run_of(home, {"kind": "finetune", "model": "tiny"}, model=resolved(tiny_model))
    metrics, report = run.result.metrics, run.result.report
    assert {"test_accuracy", "test_macro_f1", "dev_macro_f1"} <= set(metrics)
    assert report["n"] == 4 and report["unit"] == "documents" and "f1.METHODS" in report["intervals"]
    folder = run.folder / run.result.artifact
    config = json.loads((folder / "config.json").read_text())
    assert list(config["id2label"].values()) == sorted(datasets.cards()["pmc-rct-slice"].labels)  # trap T15
    assert zoo.labelled_task(zoo.resolve(str(folder))) == "roles" == config["stillroom_task"]
    assert "cut between sentences" in model_card(read_about(folder))

    fields = {"kind": "evaluate", "model": "m", "split": "test"}
    scored = run_of(home, fields, model=resolved(folder), number=2).result.metrics
    assert {f"test_{name}": value for name, value in scored.items()}.items() <= metrics.items()

    taught = {"kind": "distill", "teacher": "t", "student": {"layers": 1}, "recipe": {"name": "task_kd", "labels": 0.5}}
    student = run_of(home, taught, model=resolved(folder), teacher=resolved(folder), number=3)
    assert {"teacher_test_accuracy", "retention"} <= set(student.result.metrics)
    _read_a_note(folder, student.folder / student.result.artifact, stillroom, tmp_path)
    again = {"kind": "finetune", "model": "m", "task": "ner", "dataset": "ncbi-disease-slice"}
    spec = parse(again | {"limit": 4, "schedule": SCHEDULE | {"steps": 1, "evaluate_every": 1}})
    options = {"attempt": 1, "threads": 1, "device": "cpu", "dataset": datasets.resolve("ncbi-disease-slice")}
    run = Run.create(home / "runs", RunSpec(id="00000000-4", spec=spec, model=resolved(folder), **options))
    execute(run.folder)
    assert run.result.state == "succeeded", run.result.error
    assert zoo.labelled_task(zoo.resolve(str(run.folder / run.result.artifact))) == "ner"


def _read_a_note(folder, student, stillroom, tmp_path):
    (tmp_path / "note.txt").write_text(NOTE)
    about = ("--text-file", tmp_path / "note.txt", "--json")
    code, out, _ = stillroom("predict", "--model", folder, *about)
    document = json.loads(out)
    assert code == 0 and document["task"] == "roles" and len(document["spans"]) == 16
    sentences = [NOTE[span["start"] : span["end"]] for span in document["spans"]]
    assert sentences[:2] == ["We asked whether pain falls.", "Forty patients were drawn by lot."]
    code, out, _ = stillroom("compare", "--model", folder, "--model", student, *about)
    assert code == 0 and 0 <= json.loads(out)["agreement"] <= 1
    code, out, _ = stillroom("explain", "--model", folder, *about)
    target = json.loads(out)["targets"][0]
    how = ("--target", target["target"], "--method", "feature_ablation", "--grain", "sentence")
    code, out, _ = stillroom("explain", "--model", folder, *about, *how)
    answer = json.loads(out)
    assert code == 0 and answer["target"] == target["target"] and any(each["score"] for each in answer["attributions"])
