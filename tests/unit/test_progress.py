"""Events become progress even if torn or odd; the end of a child becomes a typed error."""

import json

import pytest

from trainer.queue import progress as follow
from trainer.queue.progress import Tail, exit_error, last_lines, result_of, worker_error
from trainer.run import Run


@pytest.fixture
def run(tmp_path):
    run = Run(tmp_path / "job-1" / "attempt-1")
    run.folder.mkdir(parents=True)
    return run


def test_events_become_progress(run):
    tail = Tail()
    run.emit("plan", steps=10, start=2)
    run.emit("step", step=3, metrics={"loss": 1.5, "lr": 1e-4})
    run.emit("evaluation", step=3, metrics={"dev_f1": 0.5})
    run.emit("checkpoint", step=3)
    run.emit("note", message="a note")
    tail.take(run)
    progress = tail.progress()
    assert (progress.step, progress.steps, progress.checkpoint, progress.message) == (3, 10, 3, "a note")
    assert progress.metrics == {"loss": 1.5, "lr": 1e-4, "dev_f1": 0.5}
    assert progress.rows == {(3, "loss"): 1.5, (3, "lr"): 1e-4, (3, "dev_f1"): 0.5}
    tail.mark_stored()
    tail.take(run)
    assert tail.progress().rows == {} and tail.progress().metrics["loss"] == 1.5


def test_each_way_to_cut_the_last_lines_loses_nothing_that_is_whole(run):
    """Promise 28: cut the file at each byte of its last three lines, read, let it grow, read again."""
    lines = [json.dumps({"event": "step", "step": step, "metrics": {"loss": step / 8}}) + "\n" for step in range(1, 6)]
    whole = "".join(lines).encode()
    first = len("".join(lines[:2]))
    for cut in range(first, len(whole) + 1):
        tail = Tail()
        (run.folder / "events.jsonl").write_bytes(whole[:cut])
        tail.take(run)
        assert tail.step == whole[:cut].count(b"\n"), cut
        (run.folder / "events.jsonl").write_bytes(whole)
        tail.take(run)
        assert tail.progress().rows == {(step, "loss"): step / 8 for step in range(1, 6)}, cut


@pytest.mark.parametrize(
    "line",
    [
        "not json",
        "[1, 2]",
        '{"event": "step"}',
        '{"event": "step", "step": "9", "metrics": {"loss": 1}}',
        '{"event": "step", "step": true, "metrics": {"loss": 1}}',
        '{"event": "step", "step": -1, "metrics": {"loss": 1}}',
        '{"event": "plan", "steps": null}',
        '{"event": "checkpoint", "step": 1.5}',
        '{"event": "note", "message": {"a": 1}}',
        '{"event": ["odd"]}',
        "\x00\x01",
    ],
)
def test_an_odd_line_is_skipped(run, line):
    (run.folder / "events.jsonl").write_text(f"{line}\n")
    run.emit("step", step=1, metrics={"loss": 2.0, "odd": "text", "list": [1], "flag": True, "none": None})
    tail = Tail()
    tail.take(run)
    assert (tail.step, tail.progress().rows) == (1, {(1, "loss"): 2.0})
    assert (tail.checkpoint, tail.message, tail.steps) == (None, None, None)


def test_rate_is_of_this_attempt_alone(run, monkeypatch):
    """A resume 900 steps in must not look like 900 steps in a second."""
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr(follow.time, "monotonic", lambda: float(next(clock)))
    tail = Tail()
    run.emit("plan", steps=1000, start=900)
    tail.take(run)
    assert tail.rate is None
    run.emit("step", step=901, metrics={})
    tail.take(run)
    first = tail.rate
    run.emit("step", step=903, metrics={})
    tail.take(run)
    assert 0 < first < 1 and 0 < tail.rate < 1


def test_silence_is_broken_by_events_alone(run, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(follow.time, "monotonic", lambda: now[0])
    tail = Tail()
    now[0] = 5.0
    run.log.write_text("printing is not progress\n")
    tail.take(run)
    assert tail.silence_s == 5.0
    run.emit("note", message="on")
    tail.take(run)
    assert tail.silence_s == 0.0


@pytest.mark.parametrize(
    ("code", "kind", "says"),
    [
        (-9, "Killed", "out of memory"),
        (137, "Killed", "SIGKILL"),
        (-15, "Killed", "SIGTERM"),
        (143, "Killed", "SIGTERM"),
        (-11, "Crashed", "SIGSEGV"),
        (3, "Crashed", "exit code 3"),
        (0, "Crashed", "exit code 0"),
        (28, "DiskFull", "disk is full"),
        (-64 - 30, "Crashed", "signal 94"),
    ],
)
def test_how_a_child_ended_has_a_type_its_last_lines_and_a_next_step(run, monkeypatch, code, kind, says):
    monkeypatch.setattr(Run, "spec", property(lambda self: type("Spec", (), {"id": "job-1"})))
    run.log.write_text("".join(f"line {n}\n" for n in range(100)))
    error = exit_error(run, code)
    assert error["type"] == kind and says in error["message"]
    assert "line 99" in error["message"] and "line 79" not in error["message"]
    assert "stillroom retry job-1" in error["next_step"]


def test_a_library_that_hides_a_full_disk_is_seen_through(run, monkeypatch):
    monkeypatch.setattr(Run, "spec", property(lambda self: type("Spec", (), {"id": "job-1"})))
    run.log.write_text("SafetensorError: No space left on device (os error 28)\n")
    assert exit_error(run, 1)["type"] == "DiskFull"


def test_last_lines_of_an_odd_log(run):
    assert last_lines(run.log) == ""
    run.log.write_bytes(b"\xff\xfe torn \xf0\x9f" + b"x" * 100_000)
    assert len(last_lines(run.log)) <= follow.LOG_BYTES


def test_a_result_that_cannot_be_read_is_a_failure(run, monkeypatch):
    monkeypatch.setattr(Run, "spec", property(lambda self: type("Spec", (), {"id": "job-1"})))
    assert result_of(run) is None
    (run.folder / "result.json").write_text('{"state": "succ')
    assert result_of(run).error["type"] == "CorruptFile"


def test_a_start_that_fails_has_a_type():
    assert worker_error(OSError(28, "No space left"))["type"] == "DiskFull"
    assert worker_error(ZeroDivisionError("x"))["type"] == "Crashed"
