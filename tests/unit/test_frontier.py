"""What students keep, out of finished jobs of several machines: rows are recorded, replaced and drawn together."""

import json
import os
import sys

import pytest

from benchmarks import frontier
from trainer import chain, datasets, queue, zoo
from trainer.home import runs_dir
from trainer.queue import Progress, store
from trainer.queue.engines import Process
from trainer.run import Result, Run, RunSpec
from trainer.spec import JobSpec
from workbench.launch.submission import resolve_references

CHAIN = """
dataset: ncbi-disease-slice
steps:
  - {{name: L1-taught, kind: distill, teacher: {model}, student: {{layers: 1}}, recipe: task_kd}}
  - {{name: L1-taught-s43, kind: distill, teacher: {model}, student: {{layers: 1}}, recipe: task_kd, seed: 43}}
  - {{name: L1-alone, kind: finetune, model: {{base: {model}, layers: 1}}, compute: {{precision: fp32}}}}
"""


@pytest.fixture
def steps(home, tiny_model, tmp_path, monkeypatch):
    """The chain file, and a function that finishes one of its steps with a score."""
    monkeypatch.setattr(frontier, "SENTENCES", 4)
    path = tmp_path / "chain.yaml"
    path.write_text(CHAIN.format(model=tiny_model))
    specs = {step.name: step.spec for step in chain.read(path).each(resolve_references).steps}
    worker = queue.enlist(store.open_store(), device="cpu", process=Process.of(os.getpid()))

    def finish(step: str, score: float) -> None:
        job = queue.submit(specs[step])
        lease = queue.claim(store.open_store(), worker)
        assert lease.id == job.id
        model = zoo.resolve(str(tiny_model))
        fields = {"id": job.id, "attempt": 1, "threads": 1, "device": "cpu", "spec": JobSpec.model_validate(job.spec)}
        ready = RunSpec(**fields, model=model, teacher=model, dataset=datasets.resolve("ncbi-disease-slice"))
        run = Run.create(runs_dir(), ready)
        artifact = run.folder / "artifacts" / "model"
        artifact.parent.mkdir()
        artifact.symlink_to(tiny_model)
        metrics = {"test_f1": score}
        if ready.spec.teacher:
            metrics |= {"teacher_test_f1": 0.8, "retention": score / 0.8}
        report = {"intervals": {"f1": [score - 0.1, score + 0.1]}, "cost": {"params": 1_234_000}}
        run.finish(Result(state="succeeded", metrics=metrics, report=report, artifact="artifacts/model"))
        progress = Progress(metrics=metrics)
        queue.finish(store.open_store(), lease, state="succeeded", artifact=str(artifact), progress=progress)

    return path, finish


def asked(monkeypatch, capsys, *options) -> str:
    monkeypatch.setattr(sys, "argv", ["frontier", *map(str, options), "--rounds", "1", "--threads", "1"])
    frontier.main()
    return capsys.readouterr().out


def test_rows_of_several_homes_make_one_table_and_one_picture(steps, tmp_path, monkeypatch, capsys):
    path, finish = steps
    file = tmp_path / "figures" / "kept.json"
    finish("L1-taught", 0.6)
    first = asked(monkeypatch, capsys, path, "--record", file, "--markdown")
    assert "| L1 | 1.2 M | 0.600 [0.500, 0.700] | 1 | 75.0% |" in first and "not run" in first
    [row] = json.loads(file.read_text())
    spec = chain.read(path).each(resolve_references).steps[0].spec
    assert row["seconds"] > 0 and row["teacher_seconds"] > 0
    assert (row["name"], row["digest"], row["seed"], row["precision"]) == ("L1-taught", spec.digest, 42, "fp32")

    monkeypatch.setenv("STILLROOM_HOME", str(tmp_path / "another machine"))
    picture = tmp_path / "chart.png"
    assert asked(monkeypatch, capsys, path, "--record", file, "--markdown", "--chart", picture) == first
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_newer_rows_take_the_place_of_older_ones_and_seeds_stand_together(steps, tmp_path, monkeypatch, capsys):
    path, finish = steps
    file, old = tmp_path / "kept.json", {"name": "L1-alone", "f1": 0.1, "seed": 42}
    file.write_text(json.dumps([old, {"name": "L9-alone", "f1": 0.3, "seed": 42}]))
    for step, score in (("L1-taught", 0.6), ("L1-taught-s43", 0.7), ("L1-alone", 0.5)):
        finish(step, score)
    [case] = [json.loads(line) for line in asked(monkeypatch, capsys, path, "--record", file, "--json").splitlines()]
    assert case["f1"] == pytest.approx(0.65) and case["f1_by_seed"] == [0.6, 0.7] and case["alone_f1"] == 0.5
    assert case["retention"] == pytest.approx(0.65 / 0.8) and case["interval"] == pytest.approx([0.5, 0.7])
    rows = {row["name"]: row for row in json.loads(file.read_text())}
    assert list(rows) == ["L1-alone", "L1-taught", "L1-taught-s43", "L9-alone"]
    assert rows["L1-alone"]["f1"] == 0.5 and rows["L1-alone"]["retention"] is rows["L1-alone"]["seconds"] is None
    assert rows["L9-alone"]["f1"] == 0.3


def test_having_nothing_to_draw_is_reported(steps, monkeypatch, capsys):
    with pytest.raises(SystemExit, match="No taught step"):
        asked(monkeypatch, capsys, steps[0])


def test_the_front_holds_what_nothing_smaller_reaches():
    assert frontier.best([(5, 83), (2, 83), (4, 87), (9, 98), (7, 99), (7, 90)]) == [(2, 83), (4, 87), (7, 99)]
