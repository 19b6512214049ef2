"""Values of texts from a spec to a model that is published, compared, explained and taught from."""

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

SCHEDULE = {"steps": 4, "batch_tokens": 256, "max_tokens": 64, "lr": 1e-3, "evaluate_every": 4}
WORDS = ("no", "mild", "moderate", "strong", "severe")


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def data(tmp_path):
    """Texts with the strength of a pain, 0 to 8."""
    (tmp_path / "data").mkdir()
    for split in ("train", "dev", "test"):
        rows = [{"text": f"The patient has {word} pain ({split}).", "value": 2 * n} for n, word in enumerate(WORDS)]
        (tmp_path / "data" / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return str(tmp_path / "data")


def run_of(home, data, fields, *, model, teacher=None, number=1) -> Run:
    def resolved(folder):
        return ResolvedModel(reference=folder.name, path=str(folder), sha256=file_sha256(folder / "model.safetensors"))

    spec = parse({"dataset": data, "task": "values", "schedule": SCHEDULE} | fields)
    options = {"attempt": 1, "threads": 1, "device": "cpu", "dataset": datasets.resolve(data)}
    options |= {"model": resolved(model), "teacher": teacher and resolved(teacher)}
    run = Run.create(home / "runs", RunSpec(id=f"00000000-{number}", spec=spec, **options))
    execute(run.folder)
    assert run.result.state == "succeeded", run.result.error
    return run


def test_from_a_model_to_one_of_values_and_its_student(home, data, tiny_model, stillroom, tmp_path):
    run = run_of(home, data, {"kind": "finetune", "model": "tiny"}, model=tiny_model)
    metrics = run.result.metrics
    assert {"test_pearson", "test_spearman", "test_mae", "test_rmse", "dev_pearson"} <= set(metrics)
    folder = run.folder / run.result.artifact
    config = json.loads((folder / "config.json").read_text())
    assert config["problem_type"] == "regression" and config["stillroom_value_range"] == [0.0, 8.0]
    assert zoo.labelled_task(zoo.resolve(str(folder))) == "values"
    assert "on a scale of 0 to 8" in model_card(read_about(folder))
    fields = {"kind": "evaluate", "model": "m", "split": "test"}
    scored = run_of(home, data, fields, model=folder, number=2).result.metrics
    assert {f"test_{name}": value for name, value in scored.items()}.items() <= metrics.items()
    taught = {"kind": "distill", "teacher": "t", "student": {"layers": 1}, "recipe": {"name": "task_kd", "labels": 0.5}}
    student = run_of(home, data, taught, model=folder, teacher=folder, number=3)
    assert "teacher_test_pearson" in student.result.metrics

    (tmp_path / "note.txt").write_text("The patient has mild pain. No fever.")
    about = ("--text-file", tmp_path / "note.txt")
    code, out, _ = stillroom("predict", "--model", folder, *about)
    assert code == 0 and "on a scale of 0 to 8" in out and "%" not in out
    code, out, _ = stillroom("predict", "--model", folder, *about, "--json")
    value = json.loads(out)["value"]
    assert code == 0 and value["lowest"] == 0 and value["highest"] == 8
    artifact = student.folder / student.result.artifact
    code, out, _ = stillroom("compare", "--model", folder, "--model", artifact, *about)
    assert code == 0 and out.count("on a scale of 0 to 8") == 2
    code, out, _ = stillroom("explain", "--model", folder, "--target", "value", *about, "--grain", "sentence")
    assert code == 0 and "on a scale of 0 to 8" in out
