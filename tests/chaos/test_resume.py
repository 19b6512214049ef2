"""Interrupt a run anywhere, resume it, and get the same weights to the bit.

A run is killed (or its disk fills) at every file-system call it makes in its own folder, one after the other, until a
run completes with the n-th call never reached: then every point has been tried. Each resumed run must publish the
weights of the run that was never interrupted.
"""

import builtins
import errno
import io
import os
import shutil
import signal
import sys
import traceback
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest

from trainer import datasets
from trainer.files import file_sha256
from trainer.resolved import ResolvedModel
from trainer.run import Run, RunSpec
from trainer.spec import parse

WATCHED = [
    (builtins, "open"),
    (io, "open"),
    (os, "open"),
    (os, "mkdir"),
    (os, "replace"),
    (os, "fsync"),
    (os, "unlink"),
    (os, "rmdir"),
]
LINES = [
    ("naloxone reverses clonidine toxicity .", "O O O B-Disease O"),
    ("severe heart failure was seen .", "O B-Disease I-Disease O O O"),
    ("no adverse events .", "O O O O"),
    ("renal injury after gentamicin .", "B-Disease I-Disease O O O"),
]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    sentence = "\n\n".join(
        "\n".join(f"{word}\t{tag}" for word, tag in zip(words.split(), tags.split(), strict=True))
        for words, tags in LINES
    )
    for split, times in (("train", 4), ("dev", 1), ("test", 1)):
        (folder / f"{split}.conll").write_text("\n\n".join([sentence] * times) + "\n")
    return datasets.resolve(str(folder))


@pytest.fixture(scope="module")
def model(tiny_model):
    return ResolvedModel(reference="./tiny", path=str(tiny_model), sha256=file_sha256(tiny_model / "model.safetensors"))


@pytest.fixture(scope="module")
def student(tiny_model, tmp_path_factory):
    """What a narrower student starts from: its teacher's own family, three quarters as wide, seeded."""
    import torch
    from transformers import AutoTokenizer, BertConfig, BertForTokenClassification

    folder = tmp_path_factory.mktemp("student")
    config = BertConfig.from_pretrained(tiny_model)
    config.num_hidden_layers, config.hidden_size = 1, 24
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        BertForTokenClassification(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(folder)
    return ResolvedModel(reference="./student", path=str(folder), sha256=file_sha256(folder / "model.safetensors"))


@pytest.fixture(scope="module", autouse=True)
def imported_once():
    """The forks below share one import of torch; one thread, since a forked thread pool does not survive."""
    import torch

    import trainer.execute  # noqa: F401

    torch.set_num_threads(1)


def attempt(runs: Path, model, dataset, number: int, *, checkpoint_every: int = 2, teacher=None) -> Run:
    schedule = {"steps": 6, "batch_size": 4, "max_tokens": 64, "lr": 0.01, "evaluate_every": 3}
    fields = {"dataset": "./data", "schedule": schedule | {"checkpoint_every": checkpoint_every}}
    if teacher:
        fields |= {"kind": "distill", "recipe": "task_kd", "teacher": "./tiny", "student": "./student"}
    else:
        fields |= {"kind": "finetune", "model": "./tiny"}
    options = {"id": "00000000-1", "attempt": number, "threads": 1, "device": "cpu"}
    ready = RunSpec(spec=parse(fields), model=model, teacher=teacher, dataset=dataset, **options)
    return Run.create(runs, ready)


def fail_at(n: int, kind: str, folder: Path) -> list[int]:
    """Make the n-th watched call that touches `folder` fail; the returned list holds the calls seen so far."""
    seen = [0]

    def wrap(real, name):
        def call(*args, **kwargs):
            # fsync gets a handle instead of a path, and only run folders are ever synced here.
            if name == "fsync" or str(args[0]).startswith(str(folder)):
                seen[0] += 1
                if seen[0] == n:
                    if kind == "kill":
                        os.kill(os.getpid(), signal.SIGKILL)
                    raise OSError(errno.ENOSPC, "injected")
            return real(*args, **kwargs)

        return call

    for owner, name in WATCHED:
        setattr(owner, name, wrap(getattr(owner, name), name))
    return seen


def in_fork(run: Run, *, fail: tuple[int, str] | None = None, watch: Path | None = None) -> tuple[int, int]:
    """Execute a run in a forked child: (exit code, watched calls made); -9 if it was killed.

    watch: the folder whose calls count; the run's own if None.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        code, seen = 99, [0]
        try:
            os.environ["STILLROOM_WORKER_PID"] = str(os.getppid())
            quiet = os.open(os.devnull, os.O_WRONLY)
            os.dup2(quiet, 1)
            if fail:
                os.dup2(quiet, 2)
            seen = fail_at(*(fail or (0, "kill")), watch or run.folder)
            from trainer.execute import execute

            code = execute(run.folder)
        except BaseException:
            traceback.print_exc(file=sys.stderr)
        finally:
            os.write(writer, str(seen[0]).encode())
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader) as calls:
        seen = calls.read()
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), int(seen or 0)


@contextmanager
def cleared(folder: Path):
    """`folder`, removed once its point has held: all points together would need tens of gigabytes."""
    yield folder
    shutil.rmtree(folder)


def weights(run: Run) -> str:
    return file_sha256(run.folder / "artifacts" / "model" / "model.safetensors")


@pytest.fixture(scope="module")
def untouched(tmp_path_factory, model, dataset):
    """The run that nobody interrupted: the hash of its weights, and how many watched calls it makes."""
    run = attempt(tmp_path_factory.mktemp("untouched"), model, dataset, 1)
    code, calls = in_fork(run)
    assert code == 0, run.result
    return weights(run), calls


@pytest.mark.slow
def test_weights_do_not_depend_on_the_checkpoint_interval(tmp_path, model, dataset, untouched):
    run = attempt(tmp_path, model, dataset, 1, checkpoint_every=5)
    assert in_fork(run)[0] == 0
    assert weights(run) == untouched[0]


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("stride", [pytest.param(1, marks=pytest.mark.slow), 89])
@pytest.mark.parametrize("kind", ["kill", "enospc"])
def test_every_point_resumes_to_the_same_weights(kind, stride, tmp_path, model, dataset, untouched):
    """A stride of 1 tries every file-system call, one of 89 a few of them."""
    tried = 0
    for n in count(1, stride):
        with cleared(tmp_path / f"{kind}-{n}") as runs:
            run = attempt(runs, model, dataset, 1)
            code, calls = in_fork(run, fail=(n, kind))
            if calls < n and code == 0:
                break  # the n-th call never came: all points have been tried
            tried += 1
            if code == 0:
                assert kind == "enospc", f"a kill at call {n} left a run that succeeded"
                assert weights(run) == untouched[0], f"call {n} failed and was handled, with other weights"
                continue
            resumed = attempt(runs, model, dataset, 2)
            assert in_fork(resumed)[0] == 0, f"{kind} at call {n} did not resume"
            assert weights(resumed) == untouched[0], f"{kind} at call {n} resumed to other weights"
    assert tried >= untouched[1] // stride
    assert untouched[1] > 50  # the seam is still connected


@pytest.mark.timeout(1800)
@pytest.mark.slow  # the same bits after a stop: tests/unit/test_recipes.py, for every recipe
@pytest.mark.parametrize("stride", [7])
def test_a_killed_distillation_resumes_to_the_same_weights(stride, tmp_path, model, student, dataset):
    """With a projection beside the student, and killed also while the teacher's outputs are being kept."""
    place = tmp_path / "whole"
    whole = attempt(place / "runs", student, dataset, 1, teacher=model)
    code, calls = in_fork(whole, watch=place)
    assert code == 0, whole.result
    for n in range(1, calls, stride):
        with cleared(tmp_path / f"killed-{n}") as place:
            run = attempt(place / "runs", student, dataset, 1, teacher=model)
            assert in_fork(run, fail=(n, "kill"), watch=place)[0] == -signal.SIGKILL
            resumed = attempt(place / "runs", student, dataset, 2, teacher=model)
            assert in_fork(resumed)[0] == 0, f"a kill at call {n} did not resume"
            assert weights(resumed) == weights(whole), f"a kill at call {n} resumed to other weights"
    assert calls > 60  # the seam is still connected


def test_a_stop_request_saves_the_step_and_the_run_goes_on(tmp_path, model, dataset, untouched):
    run = attempt(tmp_path, model, dataset, 1)
    child = os.fork()
    if child == 0:
        os.environ["STILLROOM_WORKER_PID"] = "1"  # not our parent: the run believes its worker is gone
        from trainer.execute import execute

        os._exit(execute(run.folder))
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 143
    assert [path.name for path in run.checkpoints()] == ["step-1"]
    assert run.result is None
    resumed = attempt(tmp_path, model, dataset, 2)
    assert in_fork(resumed)[0] == 0
    assert weights(resumed) == untouched[0]


def test_a_finished_run_is_left_alone(tmp_path, model, dataset):
    run = attempt(tmp_path, model, dataset, 1)
    assert in_fork(run)[0] == 0
    before = {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")}
    assert in_fork(run)[0] == 0
    assert {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")} == before
