"""Out of memory: recognised by torch's real messages, and answered with a schedule that then fits."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from trainer import datasets, zoo
from trainer.run import Run, RunSpec
from trainer.spec import Schedule, parse
from trainer.training import memory

CHILD = """
import resource, sys
from pathlib import Path
import torch
from trainer.datasets.rows import corpus
from trainer.evaluation import masked_lm as perplexity
from trainer.execute import execute
torch.set_num_threads(1)
taken = next(line for line in open("/proc/self/status") if line.startswith("VmSize")).split()[1]
resource.setrlimit(resource.RLIMIT_AS, (int(taken) * 1024 + int(sys.argv[2]),) * 2)
sys.exit(execute(Path(sys.argv[1])))
"""
ROOM = 1100 << 20  # bytes: half a window of LONG pieces takes 800 to 900 MiB, a whole one more than 1,320
LONG = 262144


@pytest.mark.parametrize(
    "schedule_fields",
    [
        {"batch_tokens": 640, "max_tokens": 512},
        {"batch_tokens": 4096, "max_tokens": 512},
        {"batch_size": 16},
        {"batch_size": 1, "max_tokens": 512},
    ],
)
def test_the_advice_is_a_smaller_schedule(schedule_fields):
    accepted = Schedule.model_validate(schedule_fields | memory.half(Schedule.model_validate(schedule_fields)))
    before = Schedule.model_validate(schedule_fields)
    size = lambda s: s.batch_tokens or s.batch_size * s.max_tokens  # noqa: E731
    assert size(accepted) * 2 == size(before)


def spec_of(task, **schedule):
    return parse({"kind": "finetune", "model": "m", "dataset": "d", "task": task, "schedule": schedule})


@pytest.mark.parametrize(
    ("task", "schedule", "advice"),
    [
        ("ner", {"batch_size": 8}, "schedule: {batch_size: 4}."),
        ("ner", {"batch_size": 1, "max_tokens": 4096}, "{max_tokens: 2048}: a batch holds a single long row"),
        ("ner", {"batch_tokens": 512, "max_tokens": 512}, "What is longer is read in several windows."),
        (
            {"name": "classification", "reading": "truncate"},
            {"batch_size": 1},
            "{max_tokens: 256}: a batch holds a single long row, so it takes a shorter window. What is longer is cut",
        ),
    ],
)
def test_the_next_step_says_what_a_shorter_window_does(task, schedule, advice):
    error = memory.OutOfMemory.of(spec_of(task, **schedule), "cpu").to_json()
    assert error["type"] == "OutOfMemory" and advice in error["next_step"] and "cpu" in error["message"]


def test_other_errors_are_not_taken_for_it():
    assert not memory.ran_out(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not memory.ran_out(ValueError("can't allocate memory"))
    assert memory.ran_out(MemoryError())


def test_what_torch_says_when_memory_runs_out_is_known():
    with pytest.raises(RuntimeError) as raised:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert memory.ran_out(raised.value)


def trained(home, model, data, *, number: int, schedule: dict) -> Run:
    """A run in a process that gets ROOM bytes besides what it takes to begin."""
    long = {"base": str(model), "attention": "sliding_window", "max_tokens": LONG, "window": 64}
    fields = {"kind": "pretrain", "model": long, "dataset": str(data), "task": {"name": "mlm", "rows": "documents"}}
    spec = parse(fields | {"schedule": {"steps": 1, "batch_size": 1} | schedule})
    resolved = {"model": zoo.resolve(str(model)), "dataset": datasets.resolve(str(data))}
    ready = RunSpec(id=f"0000000{number}-1", attempt=1, spec=spec, threads=1, device="cpu", **resolved)
    run = Run.create(home / "runs", ready)
    command = [sys.executable, "-c", CHILD, str(run.folder), str(ROOM)]
    subprocess.run(command, check=False, capture_output=True, timeout=300)
    return run


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs a limit of memory that this system has not")
def test_a_run_that_needs_too_much_says_which_window_fits_and_it_does(home, tiny_model, tmp_path):
    data = tmp_path / "text"
    data.mkdir()
    phrase = "fever and chills after the second dose were seen "  # ten pieces
    (data / "train.txt").write_text(phrase * (LONG // 10 - 1) + "\n")
    for split in ("dev", "test"):
        (data / f"{split}.txt").write_text(f"{phrase}\n" * 9)
    failed = trained(home, tiny_model, data, number=1, schedule={"max_tokens": LONG}).result
    assert failed.state == "failed" and failed.error["type"] == "OutOfMemory", failed.error
    advised = failed.error["next_step"].partition("schedule: ")[2].partition("}")[0] + "}"
    assert yaml.safe_load(advised) == {"max_tokens": LONG // 2}
    again = trained(home, tiny_model, data, number=2, schedule=yaml.safe_load(advised)).result
    assert again.state == "succeeded", json.dumps(again.error)
