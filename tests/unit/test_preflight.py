"""A trial estimates the cost of a run from real steps, and leaves neither process nor file behind."""

import json
import os
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
import pytest
import torch

from trainer import datasets, queue, zoo
from trainer.queue import store
from trainer.queue.engines import Process
from trainer.run import RunSpec
from trainer.spec import JobSpec, parse
from trainer.training import estimate, preflight, setup
from workbench.launch.trial import Trial
from workbench.pages.parts import cost_estimate

WAIT_S = 120
DATA = "ncbi-disease-slice"
ALL = {"name": "task_kd", "levels": "all"}

COSTS = estimate.Estimate(
    device="cpu",
    threads=2,
    params=17_000_000,
    trained=17_000_000,
    teacher_params=None,
    steps=100,
    seconds_per_step=0.5,
    tokens_per_step=900,
    evaluations=2,
    evaluation_s=10,
    teacher_s=0,
    preparing_s=5,
    peak_memory_bytes=10**9,
    outputs_bytes=1_234_000_000,
    cut=0.125,
    split=0.0,
    busy=True,
)


@pytest.fixture
def text(tmp_path) -> str:
    folder = tmp_path / "text"
    folder.mkdir()
    words = "fever and chills after the second dose of the drug were seen in most of the patients"
    lines = [f"{words[i % 7 :]} " * (1 + i % 3) for i in range(200)]
    (folder / "train.txt").write_text("\n".join(lines))
    (folder / "dev.txt").write_text("\n".join(lines[:90]))
    return str(folder)


def ready(spec: JobSpec) -> RunSpec:
    resolved = {"model": zoo.resolve(spec.start), "dataset": datasets.resolve(spec.dataset)}
    if spec.teacher:
        resolved["teacher"] = zoo.resolve(spec.teacher)
    return RunSpec(id="0a0a0a0a-0", attempt=1, spec=spec, threads=1, device="cpu", **resolved)


def spec_of(kind: str, model, text: str, **fields) -> JobSpec:
    short = {"schedule": {"epochs": 2, "batch_tokens": 128, "max_tokens": 64}}
    usual = {
        "finetune": {"model": str(model), "dataset": DATA},
        "distill": {"teacher": str(model), "student": {"layers": 2, "intermediate": 8}, "recipe": ALL, "dataset": DATA},
        "pretrain": {"model": str(model), "dataset": text, "task": {"name": "mlm", "rows": "documents"}},
    }[kind]
    return parse({"kind": kind} | usual | short | fields)


@pytest.mark.parametrize("kind", ["finetune", "distill", "pretrain"])
def test_the_steps_are_those_of_the_run(kind, home, tiny_model, text, tmp_path):
    run = ready(spec_of(kind, tiny_model, text))
    costs = preflight.estimate(run, cache=tmp_path / "trial")
    real = setup.prepare(run, cache=tmp_path / "run")
    assert costs.steps == pytest.approx(real.total, rel=0.1 if kind == "pretrain" else 0)
    assert costs.params == sum(p.numel() for p in real.objective.student.parameters())
    assert costs.trained == costs.params
    assert costs.evaluations == 2
    assert (costs.teacher_s > 0) == (kind == "distill") == (costs.teacher_params is not None)
    assert costs.outputs_bytes == (sum(array.nbytes for array in real.teacher_outputs) if kind == "distill" else 0)
    assert 0 < costs.seconds_per_step < 5 and costs.peak_memory_bytes > 1e8
    assert costs.total_s > costs.training_s > 0


def test_what_is_split_is_counted_on_all_of_the_data(home, tiny_model, text, tmp_path):
    schedule = {"epochs": 1, "batch_size": 4, "max_tokens": 24}
    costs = preflight.estimate(ready(spec_of("finetune", tiny_model, text, schedule=schedule)), cache=tmp_path)
    rows = NERRows(tiny_model)
    assert costs.cut == 0 and costs.split == pytest.approx(rows.split_share(24), abs=1e-6)


class NERRows:
    """The pieces of each training sentence, counted another way."""

    def __init__(self, model):
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(model)
        words = [" ".join(sentence.words) for sentence in datasets.load(DATA, "train")]
        self.lengths = [len(ids) for ids in tokenizer(words)["input_ids"]]

    def split_share(self, longest: int) -> float:
        windows = sum(-(-(length - 2) // (longest - 2)) for length in self.lengths)
        pieces = sum(self.lengths) + 2 * (windows - len(self.lengths))  # each window has its special tokens
        return sum(length for length in self.lengths if length > longest) / pieces


def test_documents_that_are_cut_off_are_reported(home, tiny_model, text, tmp_path):
    task = {"name": "mlm", "rows": "truncated"}
    schedule = {"steps": 7, "batch_size": 2, "max_tokens": 16, "evaluate_every": 3}
    costs = preflight.estimate(
        ready(spec_of("pretrain", tiny_model, text, task=task, schedule=schedule)), cache=tmp_path
    )
    assert 0.2 < costs.cut < 0.9
    assert (costs.steps, costs.evaluations) == (7, 3)


def test_a_vocabulary_is_trimmed_on_more_than_the_examples_that_are_tried(home, tiny_model, text, tmp_path):
    run = ready(spec_of("distill", tiny_model, text, student={"layers": 1, "vocabulary": 3000}))
    costs = preflight.estimate(run, cache=tmp_path / "trial")
    real = setup.prepare(run, cache=tmp_path / "run")
    assert costs.params == sum(p.numel() for p in real.objective.student.parameters())


def test_what_would_fail_the_run_is_a_typed_error(home, tiny_model, text, tmp_path, monkeypatch):
    run = ready(spec_of("distill", tiny_model, text, student={"layers": 1, "heads": 3}))
    error = preflight.answer(run, cache=tmp_path)["error"]
    assert error["type"] == "BadSpec" and "student.heads" in {field["field"] for field in error["fields"]}

    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"architecture": "x86_64"})
    other = spec_of("finetune", tiny_model, text, compute={"precision": "bf16"})
    error = preflight.answer(ready(other), cache=tmp_path)["error"]
    assert [field["field"] for field in error["fields"]] == ["compute.precision"] and "auto" in error["next_step"]

    def too_much(*_, **__):
        raise MemoryError

    monkeypatch.setattr(preflight, "prepare", too_much)
    error = preflight.answer(ready(spec_of("distill", tiny_model, text)), cache=tmp_path)["error"]
    assert error["type"] == "OutOfMemory" and "max_tokens" in error["next_step"]


def finished(trial: Trial) -> Trial:
    deadline = time.monotonic() + WAIT_S
    while not trial.done and time.monotonic() < deadline:
        time.sleep(0.1)
    assert trial.done
    return trial


def leftovers(before: set[Path]) -> set[Path]:
    return set(Path(tempfile.gettempdir()).glob("stillroom-trial-*")) - before


def test_an_estimate_is_kept_for_its_spec_and_its_trial_leaves_nothing_else(home, tiny_model, text, monkeypatch):
    program = "import sys; open(sys.argv[1] + '/trial.json', 'w').write(sys.argv[2])"
    answer = [sys.executable, "-S", "-c", program]
    outcome = json.dumps({"estimate": COSTS.model_dump()})
    monkeypatch.setattr("workbench.launch.trial.ending_with_parent", lambda command: [*answer, command[-1], outcome])
    spec, before = spec_of("finetune", tiny_model, text), leftovers(set())
    ended = finished(Trial(spec, limit_s=WAIT_S))
    assert ended.error is None and not leftovers(before)
    assert ended.estimate == estimate.stored(spec.digest) == COSTS.model_copy(update={"busy": ended.busy})
    assert not (home / "cache").exists() and not (home / "runs").exists()


@pytest.mark.slow
def test_a_trial_is_kept_for_its_spec_and_leaves_nothing_else(home, tiny_model, text, monkeypatch):
    monkeypatch.setattr("os.getloadavg", lambda: (0.0, 0.0, 0.0))
    spec, before = spec_of("finetune", tiny_model, text), leftovers(set())
    trial = finished(Trial(spec, limit_s=WAIT_S))
    assert trial.error is None
    assert estimate.stored(spec.digest) == trial.estimate and trial.estimate.threads == 1
    assert not trial.estimate.busy
    assert not psutil.pid_exists(trial.pid) and not leftovers(before)
    assert not (home / "cache").exists() and not (home / "runs").exists()


def test_a_busy_machine_makes_upper_bounds(home, tiny_model, text, monkeypatch):
    monkeypatch.setattr("os.getloadavg", lambda: (99.0, 0.0, 0.0))
    trial = Trial(spec_of("finetune", tiny_model, text))
    assert trial.busy
    trial.stop()
    monkeypatch.setattr("os.getloadavg", lambda: (0.0, 0.0, 0.0))
    worker = queue.enlist(store.open_store(), device="cpu", process=Process.of(os.getpid()))
    trial = Trial(spec_of("finetune", tiny_model, text))
    assert not trial.busy
    trial.stop()
    queue.submit(spec_of("finetune", tiny_model, text))
    queue.claim(store.open_store(), worker)
    trial = Trial(spec_of("finetune", tiny_model, text))
    assert trial.busy
    trial.stop()


@pytest.mark.parametrize("how", ["nobody looks", "out of time", "stopped"])
def test_a_trial_ends_with_its_page(how, home, tiny_model, text):
    before = leftovers(set())
    options = {"nobody looks": {"patience_s": 0.3}, "out of time": {"limit_s": 0.3}, "stopped": {}}[how]
    trial = Trial(spec_of("finetune", tiny_model, text), **options)
    if how == "stopped":
        trial.stop()
    time.sleep(0 if how == "stopped" else 1.5)
    assert trial.done
    assert trial.pid is None or not psutil.pid_exists(trial.pid)
    assert not leftovers(before)
    assert trial.error["type"] == "TrialEnded"


def test_a_child_of_this_process_is_not_tied_to_the_thread_that_asked(home, tiny_model, text):
    made = []
    asking = threading.Thread(target=lambda: made.append(Trial(spec_of("finetune", tiny_model, text))))
    asking.start()
    asking.join()
    time.sleep(1.0)
    assert not made[0].done  # the thread is gone, the child is not
    made[0].stop()


def test_an_estimate_of_another_version_is_ignored(home):
    folder = home / "preflight"
    folder.mkdir()
    (folder / "abc.json").write_text(json.dumps({"steps": 3}))
    assert estimate.stored("abc") is None and estimate.stored("other") is None


def test_the_facts_say_what_is_cut_and_what_is_an_upper_bound():
    facts = "\n".join(cost_estimate._facts(COSTS))
    assert COSTS.total_s == 5 + 50 + 30
    assert "12.5% of the word pieces are cut off" in facts and "upper bounds" in facts
    assert "The teacher's outputs take 1.23 GB of disk" in facts and "All 17.0 M parameters are trained" in facts
