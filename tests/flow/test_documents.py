"""Document classification from a spec to a model that is published, compared, scored and taught from."""

import json
import re

import pytest
import torch

from trainer import datasets, inference, models, zoo
from trainer.execute import execute
from trainer.files import file_sha256
from trainer.models.export import model_card, read_about
from trainer.models.heads import document_reading
from trainer.resolved import ResolvedModel
from trainer.run import Run, RunSpec
from trainer.spec import parse
from trainer.training import preflight
from workbench.cli import main

SCHEDULE = {"steps": 6, "batch_tokens": 512, "max_tokens": 64, "lr": 1e-3, "evaluate_every": 3}


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def resolved(folder) -> ResolvedModel:
    return ResolvedModel(reference=folder.name, path=str(folder), sha256=file_sha256(folder / "model.safetensors"))


def ready(fields, *, model, teacher=None, number=1) -> RunSpec:
    options = {"attempt": 1, "threads": 1, "device": "cpu", "dataset": datasets.resolve("mtsamples-slice")}
    spec = parse({"dataset": "mtsamples-slice", "limit": 12, "schedule": SCHEDULE} | fields)
    return RunSpec(id=f"00000000-{number}", spec=spec, model=model, teacher=teacher, **options)


def run_of(home, fields, **options) -> Run:
    run = Run.create(home / "runs", ready(fields, **options))
    execute(run.folder)
    assert run.result.state == "succeeded", run.result.error
    return run


def stillroom(capsys, *words) -> tuple[int, dict]:
    with pytest.raises(SystemExit) as ended:
        main([*map(str, words), "--json"])
    return ended.value.code, json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    "multi_label",
    [pytest.param(False, id="one label"), pytest.param(True, id="several labels", marks=pytest.mark.slow)],
)
def test_from_a_tagger_to_a_classifier_and_its_student(home, tiny_model, multi_label, tmp_path):
    task = {"name": "classification", "multi_label": multi_label, "most_windows": 2}
    fields = {"kind": "finetune", "model": "tiny", "task": task}
    run = run_of(home, fields, model=resolved(tiny_model))
    metrics, report = run.result.metrics, run.result.report
    for name in ("test_accuracy", "test_macro_f1", "test_micro_f1", "dev_macro_f1", "test_over_512.macro_f1"):
        assert 0 <= metrics[name] <= 1
    assert ("test_macro_roc_auc" in metrics) == multi_label
    assert report["n"] == 12 and set(report["intervals"]["macro_f1"]) and report["cost"]["tokens_per_second"] > 0

    folder = run.folder / run.result.artifact
    teacher, tokenizer = models.load(str(folder))
    card = datasets.cards()["mtsamples-slice"]
    assert inference.label_set(teacher) == tuple(sorted(card.labels_for(multi_label)))
    assert inference.is_multi_label(teacher) == multi_label
    assert document_reading(teacher) == {"reading": "windows", "pooling": "mean", "max_tokens": 64}
    text = model_card(read_about(folder))
    assert "Task: classification." in text and "windows of 64 word pieces" in text and "over test documents" in text
    assert re.search(r"\| support\.[^|]+ \| \d+ \|", text), "documents are counted, scores have four digits"
    assert ("at least its label's threshold (sigmoid)" if multi_label else "the most likely (softmax)") in text
    thresholds = getattr(teacher.config, inference.THRESHOLDS, None) or {}
    assert set(thresholds) == (set(card.labels_for(True)) if multi_label else set())

    scored = run_of(home, {"kind": "evaluate", "model": "m", "split": "test"}, model=resolved(folder), number=3)
    again = {name: value for name, value in metrics.items() if name.startswith("test_")}
    assert again == {f"test_{name}": value for name, value in scored.result.metrics.items()}, "read as it was trained"

    task_kd = {"name": "task_kd", "labels": 0.5}
    taught = {"kind": "distill", "teacher": "t", "student": {"layers": 1}, "task": task, "recipe": task_kd}
    student = run_of(home, taught, model=resolved(folder), teacher=resolved(folder), number=2)
    assert {"teacher_test_macro_f1", "retention"} <= set(student.result.metrics)
    steps = [event["metrics"] for event in student.events()[0] if event["event"] == "step"]
    assert {"loss.soft_targets", "loss.hidden_cosine", "loss.task"} <= set(steps[0])
    (outputs,) = [path for path in (home / "cache" / "teacher").iterdir() if path.is_dir()]
    assert (outputs / "logits.npy").is_file()

    estimate = preflight.estimate(ready(taught, model=resolved(folder), teacher=resolved(folder)), cache=tmp_path)
    assert estimate.steps == SCHEDULE["steps"] and estimate.split > 0.5 and estimate.cut == 0
    cut = preflight.estimate(
        ready(fields | {"task": task | {"reading": "truncate"}}, model=resolved(tiny_model)), cache=tmp_path
    )
    assert cut.cut > 0.5 and cut.split == 0


def test_the_command_line(home, tiny_classifier, tiny_model, capsys, tmp_path):
    note = tmp_path / "note.txt"
    note.write_text("The patient was taken to the operating room for a cataract. " * 12)
    code, document = stillroom(capsys, "predict", "--model", tiny_classifier, "--text-file", note)
    assert code == 0 and set(document) == {"model", "task", "spans", "labels", "coverage", "cost"}
    scores = [label["score"] for label in document["labels"]]
    assert len(scores) == 4 and scores == sorted(scores, reverse=True) and sum(scores) == pytest.approx(1)
    assert document["coverage"]["windows"] > 1 and document["spans"] == []
    arms = ("--model", tiny_classifier, "--model", f"{tiny_classifier}@truncate", "--model", tiny_model)
    code, compared = stillroom(capsys, "compare", *arms, "--text-file", note)
    assert code == 0 and compared["agreement"] in (0.0, 1.0) and len(compared["predictions"]) == 3
    options = ("--dataset", "mtsamples-slice", "--split", "dev", "--limit", "5")
    code, report = stillroom(capsys, "evaluate", "--model", tiny_classifier, *options)
    assert code == 0 and report["n"] == 5 and 0 <= report["metrics"]["macro_f1"] <= 1
    assert {"metrics", "n", "intervals", "cost", "measured_on", "unit"} <= set(report)


def test_what_does_not_fit_is_said(home, tiny_classifier, tiny_model, capsys):
    code, document = stillroom(capsys, "evaluate", "--model", tiny_model, "--dataset", "mtsamples-slice")
    assert (code, "for the task classification or mlm, not ner" in document["error"]["message"]) == (2, True)
    code, document = stillroom(capsys, "evaluate", "--model", tiny_classifier, "--dataset", "mtsamples")
    assert (code, "does not know the label" in document["error"]["message"]) == (2, True)
    code, document = stillroom(capsys, "evaluate", "--model", "minilm", "--dataset", "mtsamples-slice")
    assert "no head that predicts labels" in document["error"]["message"]


def test_data_sets_are_checked_on_the_command_line(home, capsys, tmp_path):
    code, report = stillroom(capsys, "datasets", "check", "mtsamples-slice", "--task", "classification")
    assert code == 0 and report["ok"] and report["splits"]["train"]["labels"]["Orthopedic"] == 12
    (tmp_path / "x.csv").write_text("text,label\nFever,a\n,b\n")
    code, report = stillroom(capsys, "datasets", "check", tmp_path / "x.csv", "--task", "classification")
    assert (code, report["problems"][0]["line"], report["problems"][0]["message"]) == (2, 3, "the document is empty.")


def test_a_run_in_the_registry_says_its_task(home, tiny_classifier):
    resolved_model = zoo.resolve(str(tiny_classifier))
    assert zoo.labelled_task(resolved_model) == "classification"
