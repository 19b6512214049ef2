"""Relations from a spec to a model that is scored and taught from, and its predictions beside those of a tagger."""

import json

import pytest
import torch

from trainer import datasets, inference, models
from trainer.evaluation.outcomes import Outcomes, score
from trainer.execute import execute
from trainer.files import file_sha256
from trainer.models.export import model_card, read_about
from trainer.resolved import ResolvedModel
from trainer.run import Run, RunSpec
from trainer.spec import parse

SCHEDULE = {"steps": 2, "batch_tokens": 256, "max_tokens": 48, "lr": 1e-3}
TEXT = "Aspirin caused a rash. Codeine did not."


@pytest.fixture
def folder(tmp_path):
    entities = [
        {"id": "a", "start": 0, "end": 7, "label": "Drug"},
        {"id": "b", "start": 17, "end": 21, "label": "Sign"},
    ]
    entities.append({"id": "c", "start": 23, "end": 30, "label": "Drug"})
    causes = {"label": "causes", "head": "a", "tail": "b"}
    far = {"label": "causes", "head": "c", "tail": "b"}
    for split, relations in (("train", [causes]), ("dev", []), ("test", [causes, far])):
        row = {"text": TEXT, "entities": entities, "relations": relations}
        (tmp_path / f"{split}.spans.jsonl").write_text(f"{json.dumps(row)}\n" * 2)
    return tmp_path


def resolved(folder) -> ResolvedModel:
    return ResolvedModel(reference=folder.name, path=str(folder), sha256=file_sha256(folder / "model.safetensors"))


def run_of(home, folder, fields, *, number, **options) -> Run:
    torch.set_num_threads(1)
    spec = parse({"dataset": str(folder), "schedule": SCHEDULE, "task": "relations"} | fields)
    options |= {"attempt": 1, "threads": 1, "device": "cpu", "dataset": datasets.resolve(str(folder))}
    run = Run.create(home / "runs", RunSpec(id=f"00000000-{number}", spec=spec, **options))
    execute(run.folder)
    return run


def test_from_an_encoder_to_relations_and_a_student(home, tiny_model, folder):
    run = run_of(home, folder, {"kind": "finetune", "model": "tiny"}, number=1, model=resolved(tiny_model))
    assert run.result.state == "succeeded", run.result.error
    metrics, notes = run.result.metrics, run.result.report["notes"]
    assert {"dev_micro_f1", "test_micro_f1", "test_macro_f1", "test_accuracy"} <= set(metrics)
    assert run.result.report["n"] == 4 and "micro_f1" in run.result.report["intervals"]
    assert any("no candidates" in note for note in notes) and any("share no sentence" in note for note in notes)
    teacher = resolved(run.folder / run.result.artifact)
    network, tokenizer = models.load(teacher)
    assert inference.task(network) == "relations" and inference.output_names(network) == ["causes", "none"]
    assert inference.pair_reading(network).types == (("Drug", "Sign", False),)
    assert "pairs of mentions" in model_card(read_about(run.folder / run.result.artifact))

    fields = {"kind": "distill", "teacher": "t", "student": {"layers": 1}, "recipe": "task_kd"}
    student = run_of(home, folder, fields, number=2, model=teacher, teacher=teacher)
    assert student.result.state == "succeeded", student.result.error
    assert {"teacher_test_micro_f1", "retention"} <= set(student.result.metrics)
    scored = run_of(home, folder, {"kind": "evaluate", "model": "t"}, number=3, model=teacher)
    assert scored.result.metrics["micro_f1"] == metrics["test_micro_f1"]
    stored = Outcomes.read(scored.folder)
    assert score("micro_f1", stored.table(), stored.right()) == pytest.approx(metrics["test_micro_f1"])
    assert len(stored.documents) == stored.n == 4 and scored.result.report["baseline"]["metrics"]["micro_f1"] > 0

    fields |= {"task": {"name": "relations", "mentions": "anonymised"}}
    refused = run_of(home, folder, fields, number=4, model=teacher, teacher=teacher)
    assert "trained on marked" in str(refused.result.error)
