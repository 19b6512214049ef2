"""Questions from a spec to a model that is scored, taught from, asked about a note and explained."""

import json
from pathlib import Path

import pytest
import torch

from trainer import datasets, inference, models, zoo
from trainer.execute import execute
from trainer.files import file_sha256
from trainer.models.export import model_card, read_about
from trainer.resolved import ResolvedModel
from trainer.run import Run, RunSpec
from trainer.spec import parse
from trainer.training import preflight
from workbench.note import Note
from workbench.predict import predict

SCHEDULE = {"steps": 3, "batch_tokens": 128, "max_tokens": 32, "lr": 1e-3}
NOTE = "He has had fever since Monday. No rash. Aspirin helped him a little, and the cough is gone. " * 3
QUESTION = "What does he have?"


@pytest.fixture
def folder(tmp_path):
    qas = [
        {"id": "1", "question": QUESTION, "answers": [{"text": "fever", "answer_start": 11}]},
        {"id": "2", "question": "Who came?", "answers": [], "is_impossible": True},
    ]
    for split in ("train", "dev", "test"):
        document = {"data": [{"paragraphs": [{"context": NOTE, "qas": qas}]}]}
        (tmp_path / f"{split}.json").write_text(json.dumps(document))
    return tmp_path


def resolved(folder: Path) -> ResolvedModel:
    return ResolvedModel(reference=folder.name, path=str(folder), sha256=file_sha256(folder / "model.safetensors"))


def ready(folder, fields, *, number=1, **options) -> RunSpec:
    torch.set_num_threads(1)
    task = {"name": "questions", "doc_stride": 8, "max_question_tokens": 24}
    spec = parse({"dataset": str(folder), "schedule": SCHEDULE, "task": task} | fields)
    options |= {"attempt": 1, "threads": 1, "device": "cpu", "dataset": datasets.resolve(str(folder))}
    return RunSpec(id=f"00000000-{number}", spec=spec, **options)


def run_of(home, folder, fields, **options) -> Run:
    run = Run.create(home / "runs", ready(folder, fields, **options))
    execute(run.folder)
    return run


def test_from_an_encoder_to_answers_and_a_student(home, tiny_model, folder, stillroom):
    run = run_of(home, folder, {"kind": "finetune", "model": "tiny"}, model=resolved(tiny_model))
    assert run.result.state == "succeeded", run.result.error
    metrics, report = run.result.metrics, run.result.report
    assert {"dev_f1", "test_exact_match", "test_f1", "test_mrr", "test_has_answer.f1"} <= set(metrics)
    assert report["n"] == 2 and report["unit"] == "questions" and "f1" in report["intervals"]
    teacher = run.folder / run.result.artifact
    config = json.loads((teacher / "config.json").read_text())
    assert zoo.labelled_task(zoo.resolve(str(teacher))) == "questions"
    assert config["question_reading"]["no_answer"] and "threshold" in config["question_reading"]
    assert "reads a question with a text of any length" in model_card(read_about(teacher))

    taught = {"kind": "distill", "teacher": "t", "student": {"layers": 1}, "recipe": {"name": "task_kd", "labels": 0.5}}
    models_of = {"model": resolved(teacher), "teacher": resolved(teacher)}
    student = run_of(home, folder, taught, number=2, **models_of)
    assert student.result.state == "succeeded", student.result.error
    assert {"teacher_test_f1", "retention"} <= set(student.result.metrics) or not metrics["test_f1"]
    steps = [each["metrics"] for each in student.events()[0] if each["event"] == "step"]
    assert all(each["loss.soft_targets"] >= 0 and each["loss.hidden_cosine"] >= 0 for each in steps)
    trial = preflight.estimate(ready(folder, taught, **models_of), cache=home / "cache")
    assert trial.steps == SCHEDULE["steps"] and trial.outputs_bytes == 0
    scored = run_of(home, folder, {"kind": "evaluate", "model": "t"}, number=3, model=resolved(teacher))
    assert scored.result.metrics["f1"] == metrics["test_f1"]

    _ask_about_a_note(home, teacher, student.folder / student.result.artifact, stillroom, folder)


def _ask_about_a_note(home, model, student, stillroom, folder):
    (home / "note.txt").write_text(NOTE)
    about = ("--text-file", home / "note.txt", "--json")
    with_python = predict(Note(NOTE, question=QUESTION), str(model))
    code, out, _ = stillroom("predict", "--model", model, *about, "--question", QUESTION)
    document = json.loads(out)
    assert code == 0 and document["task"] == "questions" and document["coverage"]["windows"] > 1
    given = with_python.answer
    wanted = given and given.model_dump() | {"text": NOTE[given.start : given.end]}
    assert document["answer"] == (wanted and pytest.approx(wanted)) and document["runner_up"]["text"] in NOTE
    assert predict(Note(NOTE, question="Who came?"), str(model)).no_answer != with_python.no_answer
    code, out, _ = stillroom("predict", "--model", model, *about[:2], "--question", QUESTION)
    assert code == 0 and "runner-up" in out and "Probability that no part read holds an answer" in out

    code, out, _ = stillroom("predict", "--model", model, *about)
    assert code == 2 and "question: found none" in json.loads(out)["error"]["message"]
    code, out, _ = stillroom("compare", "--model", model, "--model", student, *about, "--question", QUESTION)
    assert code == 0 and 0 <= json.loads(out)["agreement"] <= 1

    best = inference.answer_questions([NOTE], [QUESTION], *models.load(str(model)))[0].ranked[0]
    target = f"{best.start}:{best.end}:answer"
    how = ("--target", target, "--method", "feature_ablation", "--grain", "sentence")
    code, out, _ = stillroom("explain", "--model", model, *how, *about, "--question", QUESTION)
    answer = json.loads(out)
    assert code == 0 and answer["target"] == target
    assert any(part["score"] for part in answer["attributions"])
    code, out, _ = stillroom("explain", "--model", model, "--target", "answer", *about, "--question", QUESTION)
    assert code == 2 and "answers questions: write START:END:answer" in json.loads(out)["error"]["message"]
    code, out, _ = stillroom("evaluate", "--model", model, "--dataset", folder, "--json")
    assert code == 0 and json.loads(out)["metrics"]["f1"] >= 0


def test_a_question_for_a_model_that_answers_none_is_refused(home, tiny_model, stillroom, tmp_path):
    (tmp_path / "note.txt").write_text(NOTE)
    about = ("--text-file", tmp_path / "note.txt", "--question", QUESTION, "--json")
    code, out, _ = stillroom("predict", "--model", tiny_model, *about)
    assert code == 2 and "these models answer no question" in json.loads(out)["error"]["message"]


def test_a_teacher_with_other_word_pieces_is_refused(home, tiny_model, folder):
    """Distributions over other pieces could not be compared."""
    from trainer.fit import find_problems, read_model

    spec = parse(
        {"kind": "distill", "teacher": "t", "dataset": str(folder)}
        | {"task": "questions", "recipe": "task_kd", "student": {"base": "minilm", "layers": 1}}
    )
    start = read_model(zoo.resolve("minilm"))
    other = start.shape.model_copy(update={"pieces": "others", "head": "questions", "labels": ("start", "end")})
    teacher = start.model_copy(update={"shape": other, "head": "questions", "task": "questions"})
    problems = find_problems(spec, data=None, start=start, teacher=teacher)
    assert any("needs the same word pieces" in problem for _, problem in problems)
