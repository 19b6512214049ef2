"""The lab: a child process that answers in order, dies alone, and leaves no text behind."""

import io
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import CancelledError
from pathlib import Path

import pytest

from trainer import registry
from trainer.errors import StillroomError, UnknownName
from workbench.explain import explain
from workbench.lab import InProcessLab, Lab, LabFailed, shared
from workbench.lab.frames import receive, send
from workbench.note import Note
from workbench.predict import Arm, predict

TEXT = "Fever after naloxone, e\u0301 👩🏽‍⚕️\r\nשלום \ud800 <img src=x onerror=alert(1)>. " * 20
TIMEOUT_S = 120


@pytest.fixture(scope="module")
def lab():
    made = Lab()
    yield made
    made.close()


def test_frames_carry_any_text_and_end_with_the_stream():
    stream = io.BytesIO()
    send(stream, {"text": TEXT})
    send(stream, {"text": ""})
    stream.seek(0)
    assert [receive(stream), receive(stream)] == [{"text": TEXT}, {"text": ""}]
    with pytest.raises(EOFError):
        receive(stream)


@pytest.mark.parametrize("torn", [b"\x00\x00", b"\x00\x00\x00\x09{"])
def test_a_torn_frame_is_an_end(torn):
    with pytest.raises((EOFError, ValueError)):
        receive(io.BytesIO(torn))


def test_the_child_answers_as_this_process_would_and_in_order(lab, tiny_model):
    arms = [Arm.parse(f"{tiny_model}{reading}") for reading in ("", "@truncate:32", "@windows:64")]
    answers = [lab.submit(TEXT, arm) for arm in arms]
    for answer, arm in zip(answers, arms, strict=True):
        found = answer.result(TIMEOUT_S)
        here = predict(Note(TEXT), arm.model, reading=arm.reading, max_tokens=arm.max_tokens, name=arm.name)
        assert found.model == arm.name
        assert found.coverage == here.coverage and found.label_set == here.label_set
        assert [(s.start, s.end, s.label) for s in found.spans] == [(s.start, s.end, s.label) for s in here.spans]


def test_one_child_serves_all(lab, tiny_model):
    lab.submit("Fever", Arm.parse(str(tiny_model))).result(TIMEOUT_S)
    pid = lab.pid
    lab.submit("Fever", Arm.parse(str(tiny_model))).result(TIMEOUT_S)
    assert pid == lab.pid


@pytest.mark.parametrize("kind", ["in a child", "in process"])
def test_errors_are_typed_and_cost_only_their_request(kind, lab, tiny_model):
    lab = lab if kind == "in a child" else InProcessLab()
    unknown, empty = lab.submit("Fever", Arm.parse("minlm")), lab.submit(" ", Arm.parse(str(tiny_model)))
    fine = lab.submit("Fever", Arm.parse(str(tiny_model)))
    with pytest.raises(UnknownName, match="minilm"):
        unknown.result(TIMEOUT_S)
    with pytest.raises(StillroomError, match="empty"):
        empty.result(TIMEOUT_S)
    assert fine.result(TIMEOUT_S).task == "ner"


def test_a_killed_child_fails_its_request_and_the_next_gets_a_fresh_one(lab, tiny_model):
    lab.submit("Fever", Arm.parse(str(tiny_model))).result(TIMEOUT_S)
    killed = lab.pid
    os.kill(killed, signal.SIGSTOP)  # so that the request is surely with the child when it dies
    struck, next_one = (lab.submit(TEXT, Arm.parse(str(tiny_model))) for _ in "ab")
    while not struck.running():
        time.sleep(0.01)
    time.sleep(0.2)
    os.kill(killed, signal.SIGKILL)
    with pytest.raises(LabFailed, match="signal 9") as caught:
        struck.result(TIMEOUT_S)
    assert "fresh process" in caught.value.next_step and "naloxone" not in str(caught.value)
    assert next_one.result(TIMEOUT_S).task == "ner"
    assert lab.pid != killed


def test_an_unforeseen_error_is_told_by_its_type_alone(tiny_model, monkeypatch):
    def fails(*_args, **_kwargs):
        raise ValueError(f"cannot read {TEXT}")

    monkeypatch.setattr("workbench.lab.requests.predict", fails)
    with pytest.raises(LabFailed, match="failed with ValueError") as caught:
        InProcessLab().submit(TEXT, Arm.parse(str(tiny_model))).result(TIMEOUT_S)
    assert "naloxone" not in str(caught.value)


def test_what_waits_can_be_cancelled(lab, tiny_model):
    first, second = (lab.submit(TEXT, Arm.parse(str(tiny_model))) for _ in "ab")
    assert second.cancel()
    with pytest.raises(CancelledError):
        second.result(TIMEOUT_S)
    assert first.result(TIMEOUT_S)


def test_close_ends_the_child_at_once_and_nothing_starts_another(tiny_model):
    lab = Lab()
    struck, waiting = (lab.submit("Fever", Arm.parse(str(tiny_model))) for _ in "ab")
    while lab.pid is None:
        time.sleep(0.01)
    child = lab.pid
    lab.close()
    assert lab.pid is None and not Path(f"/proc/{child}").exists()
    for answer in (struck, waiting):
        with pytest.raises(LabFailed):
            answer.result(TIMEOUT_S)
    assert lab.pid is None


def test_the_server_has_one_lab():
    assert shared() is shared()


def test_a_canary_in_a_failing_note_is_in_no_output_command_line_or_environment(tiny_model, tmp_path):
    canary, pipe = "canary-4f1d", subprocess.PIPE
    shutil.copytree(tiny_model, tmp_path / "broken")
    (tmp_path / "broken" / "config.json").write_text('{"model_type": "bert", "hidden_size": "wide"}')
    child = subprocess.Popen([sys.executable, "-m", "workbench.lab.child"], stdin=pipe, stdout=pipe, stderr=pipe)
    model = registry.resolve(str(tmp_path / "broken")).model_dump()
    send(child.stdin, {"text": f"Fever {canary}", "model": model, "arm": {"model": "broken"}, "name": "broken"})
    while "stage" in (frame := receive(child.stdout)):
        pass
    assert frame["error"]["type"] and canary not in str(frame)
    for place in ("cmdline", "environ"):
        assert canary.encode() not in Path(f"/proc/{child.pid}/{place}").read_bytes()
    child.stdin.close()  # as when the server dies
    log = child.stderr.read().decode()
    assert log.startswith("lab: ") and canary not in log
    assert child.wait(20) == 0


@pytest.mark.parametrize("kind", ["in a child", "in process"])
def test_an_explanation_comes_coarse_first_as_this_process_would_give_it(kind, lab, tiny_model):
    lab = lab if kind == "in a child" else InProcessLab()
    arm, target, how = Arm.parse(f"{tiny_model}@windows:64"), "12:20:Disease", {"orders": 2, "options": {"steps": 4}}
    answer = lab.explain(TEXT, arm, target, **how)
    found, here = answer.result(TIMEOUT_S), explain(Note(TEXT), arm.model, target, max_tokens=64, **how)
    assert (found.model, found.target, found.grain) == (arm.name, target, "word")
    expected = [part.score for part in here.attributions]
    assert [part.score for part in found.attributions] == pytest.approx(expected, rel=1e-3, abs=1e-7)
    assert found.faithfulness and (answer.coarse.grain, answer.coarse.method) == ("sentence", "feature_ablation")
    gone = lab.ablate(TEXT, arm, target, [(0, 5)]).result(TIMEOUT_S)
    assert gone.before == pytest.approx(found.probability) and gone.hidden == ((0, 5),) and gone.after != gone.before
