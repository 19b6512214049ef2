"""The lab: a child process that answers in turns, dies alone, and leaves no text behind."""

import io
import json
import os
import resource
import shutil
import signal
import sys
import threading
import time
from concurrent.futures import CancelledError, ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path

import psutil
import pytest
import torch
from transformers import BertConfig, BertForTokenClassification

from trainer.errors import BadData, BadSpec, UnknownName
from trainer.prediction import Cost, Coverage, Prediction
from workbench.explain import ExplainOptions, explain
from workbench.lab import InProcessLab, Lab, LabFailed, OutOfMemory, TooLate, process, shared
from workbench.lab.answers import Answer
from workbench.lab.failures import NO_MEMORY, as_stillroom_error, from_json
from workbench.lab.frames import receive, send
from workbench.lab.requests import _without_waiting
from workbench.lab.turns import Turns
from workbench.note import Note
from workbench.predict import Arm, predict

ROOT = Path(__file__).parents[2]
TEXT = "Fever after naloxone, e\u0301 👩🏽‍⚕️\r\nשלום \ud800 <img src=x onerror=alert(1)>. " * 20
TARGET = "12:20:Disease"
TIMEOUT_S = 120
PREDICTION = Prediction(
    model="x",
    task="ner",
    coverage=Coverage(tokens=8, tokens_read=8, windows=1),
    cost=Cost(latency_ms=400, tokens_per_second=20),
)


@pytest.fixture(scope="module")
def lab():
    made = Lab()
    yield made
    made.close()


@pytest.fixture(params=["in a child", "in process"])
def either(request, lab):
    """Both kinds of lab, for what they promise alike."""
    yield from _lab_of(request.param, lab)


@pytest.fixture(params=["in a child", pytest.param("in process", marks=pytest.mark.slow)])
def usual(request, lab):
    """The same for what takes long: only the lab that people use is in every run."""
    yield from _lab_of(request.param, lab)


def _lab_of(kind, lab):
    made = lab if kind == "in a child" else InProcessLab()
    yield made
    if made is not lab:
        made.close()


def long_work(lab, model, **options):
    """An explanation that takes minutes."""
    how = ExplainOptions(orders=20_000, method_options={"steps": 4})
    return lab.explain(TEXT, Arm.parse(str(model)), TARGET, how, **options)


def long_reading(lab, model, **options):
    """A prediction that takes minutes: millions of pieces in small windows."""
    return lab.submit(TEXT * 1000, Arm.parse(f"{model}@windows:32"), **options)


def until(condition):
    """Wait for something that another thread or process does."""
    end = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.005)


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
        prediction = answer.result(TIMEOUT_S)
        here = predict(Note(TEXT), arm.model, reading=arm.reading, max_tokens=arm.max_tokens, name=arm.name)
        assert prediction.model == arm.name
        assert prediction.coverage == here.coverage and prediction.label_set == here.label_set
        assert [(s.start, s.end, s.label) for s in prediction.spans] == [(s.start, s.end, s.label) for s in here.spans]


def test_one_child_serves_all(lab, tiny_model):
    lab.submit("Fever", Arm.parse(str(tiny_model))).result(TIMEOUT_S)
    pid = lab.pid
    lab.submit("Fever", Arm.parse(str(tiny_model))).result(TIMEOUT_S)
    assert pid == lab.pid


def test_errors_are_typed_and_cost_only_their_request(either, tiny_model):
    arm = Arm.parse(str(tiny_model))
    wrong = [
        (either.submit("Fever", Arm.parse("minlm")), UnknownName, "minilm"),
        (either.submit(" ", arm), BadData, "empty"),
        (either.explain(TEXT, arm, TARGET, ExplainOptions(method="lime")), UnknownName, "There is no method 'lime'"),
        (either.explain(TEXT, arm, TARGET, ExplainOptions(method_options={"steps": 1})), BadSpec, "steps"),
        (either.explain(TEXT, arm, "12:20:Drug"), UnknownName, "Known: Disease"),
        (either.ablate(TEXT, arm, "0:9999:Disease", [(0, 5)]), BadSpec, "found 0:9999"),
        (either.submit("Fever", Arm.parse(f"{tiny_model}@windows:9999")), BadSpec, "max_tokens"),
    ]
    fine = either.submit("Fever", arm)
    for answer, kind, message in wrong:
        with pytest.raises(kind, match=message):
            answer.result(TIMEOUT_S)
    assert fine.result(TIMEOUT_S).task == "ner"


@pytest.mark.slow
def test_a_killed_child_fails_its_request_and_the_next_gets_a_fresh_one(lab, tiny_model):
    lab.submit("Fever", Arm.parse(str(tiny_model))).result(TIMEOUT_S)
    killed = lab.pid
    os.kill(killed, signal.SIGSTOP)  # so that the request is surely with the child when it dies
    struck, next_one = (lab.submit(TEXT, Arm.parse(str(tiny_model))) for _ in "ab")
    until(struck.running)
    time.sleep(0.2)
    os.kill(killed, signal.SIGKILL)
    with pytest.raises(OutOfMemory, match="signal 9, as happens when memory runs out") as caught:
        struck.result(TIMEOUT_S)
    assert "new process" in caught.value.next_step and "naloxone" not in str(caught.value)
    assert next_one.result(TIMEOUT_S).task == "ner"
    assert lab.pid != killed


def test_an_unexpected_error_is_reported_by_its_type_alone(tiny_model, monkeypatch):
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


def test_an_explanation_comes_coarse_first_as_this_process_would_give_it(either, tiny_model):
    arm, how = Arm.parse(f"{tiny_model}@windows:64"), ExplainOptions(orders=2, method_options={"steps": 4})
    here = explain(Note(TEXT), arm.model, TARGET, how.model_copy(update={"max_tokens": 64}))  # not at the same time
    answer = either.explain(TEXT, arm, TARGET, how)
    explanation = answer.result(TIMEOUT_S)
    assert (explanation.model, explanation.target, explanation.grain) == (arm.name, TARGET, "word")
    expected = [part.score for part in here.attributions]
    assert [part.score for part in explanation.attributions] == pytest.approx(expected, rel=1e-3, abs=1e-7)
    assert explanation.faithfulness and (answer.coarse.grain, answer.coarse.method) == ("sentence", "feature_ablation")
    gone = either.ablate(TEXT, arm, TARGET, [(0, 5)]).result(TIMEOUT_S)
    assert (
        gone.before == pytest.approx(explanation.probability) and gone.hidden == ((0, 5),) and gone.after != gone.before
    )
    padded = either.ablate(TEXT, arm, TARGET, [(0, 5)], baseline="pad").result(TIMEOUT_S)
    assert padded.before == gone.before and padded.after != gone.after


def test_an_explanation_tells_its_progress_and_its_coarse_form_before_it_is_done(lab, tiny_model):
    answer = long_work(lab, tiny_model)
    until(lambda: answer.coarse and answer.progress)
    assert answer.stage == "explaining" and not answer.done()
    assert 0 < answer.progress < 1 and answer.coarse.model == str(tiny_model)
    assert answer.cancel()


@pytest.mark.parametrize("ask", [long_work, long_reading])
def test_what_is_at_work_can_be_cancelled_and_its_process_goes_on(ask, usual, tiny_model, monkeypatch):
    monkeypatch.setattr(process, "STOP_S", TIMEOUT_S)  # however busy the machine is
    answer = ask(usual, tiny_model)
    until(lambda: answer.progress)
    pid, began = getattr(usual, "pid", None), time.monotonic()
    assert answer.running() and answer.place == 0
    assert answer.cancel() and answer.cancelled() and answer in wait([answer], timeout=1).done
    assert time.monotonic() - began < 0.5
    with pytest.raises(CancelledError):
        answer.result()
    assert usual.submit("Fever", Arm.parse(str(tiny_model))).result(TIMEOUT_S).task == "ner"
    assert getattr(usual, "pid", None) == pid


def running(program, monkeypatch):
    """The lab's process with another program as its child."""
    start = partial(process.subprocess.Popen, [sys.executable, "-S", "-c", program])
    monkeypatch.setattr(process.subprocess, "Popen", lambda _, **options: start(**options))
    return process.Process()


def test_a_child_that_ends_for_lack_of_memory_says_so(monkeypatch):
    child = running(f"import sys; sys.stdin.read(1); sys.exit({NO_MEMORY})", monkeypatch)
    child._computing = 1  # as it says when it begins
    with pytest.raises(OutOfMemory, match=f"ended with code {NO_MEMORY}, as happens when memory runs out"):
        child.ask({}, Answer())
    assert child.pid is None


# Children without a model. One is killed when a second request comes while it computes the first, one answers all.
FRAMES = """
import json, os, signal, struct, sys
def send(**frame):
    data = json.dumps(frame).encode()
    os.write(1, struct.pack(">I", len(data)) + data)
def requests():
    while head := sys.stdin.buffer.read(4):
        yield json.loads(sys.stdin.buffer.read(struct.unpack(">I", head)[0]))
send(ready=True)
for request in requests():
"""
KILLED = f"""{FRAMES}
    if request["number"] == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    send(number=1, turn=True)
    send(number=1, progress=0.5)
"""
ANSWERING = f"""{FRAMES}
    send(number=request["number"], answer=json.loads(sys.argv[1]))
"""


def test_what_was_not_computed_when_the_child_died_is_asked_of_the_next_one(tiny_model, monkeypatch):
    start, programs = process.subprocess.Popen, iter([KILLED, ANSWERING])
    answer = PREDICTION.model_dump_json()
    monkeypatch.setattr(
        process.subprocess,
        "Popen",
        lambda _, **options: start([sys.executable, "-S", "-c", next(programs), answer], **options),
    )
    lab, arm = Lab(), Arm.parse(str(tiny_model))
    struck = lab.submit(TEXT, arm)
    until(lambda: struck.progress)
    killed, other = lab.pid, lab.submit("Fever", arm)
    assert other.result(TIMEOUT_S) == PREDICTION and lab.pid != killed
    with pytest.raises(OutOfMemory, match="signal 9, as happens when memory runs out"):
        struck.result(TIMEOUT_S)
    lab.close()


def test_a_process_that_ignores_a_cancellation_is_killed(monkeypatch):
    monkeypatch.setattr(process, "STOP_S", 0.2)
    child, answer = running("import time; time.sleep(600)", monkeypatch), Answer()
    assert child.pid and answer.cancel()
    with pytest.raises(process.Bystander):
        child.ask({}, answer)
    assert child.pid is None


@pytest.mark.slow
def test_a_child_that_does_not_stop_is_killed_without_affecting_others(lab, tiny_model, monkeypatch):
    monkeypatch.setattr(process, "STOP_S", 0.5)
    stuck = long_work(lab, tiny_model)
    until(lambda: stuck.progress)
    pid = lab.pid
    os.kill(pid, signal.SIGSTOP)
    next_one = lab.submit(TEXT, Arm.parse(str(tiny_model)))
    assert next_one.place == 1 and stuck.cancel() and next_one.place == 0
    assert next_one.result(TIMEOUT_S).task == "ner"
    assert lab.pid != pid


def test_a_deadline_stops_both_waiting_and_running_requests(usual, tiny_model, monkeypatch):
    monkeypatch.setattr(process, "STOP_S", TIMEOUT_S)  # however busy the machine is
    usual.submit("Fever", Arm.parse(str(tiny_model))).result(TIMEOUT_S)  # torch is imported
    working = long_work(usual, tiny_model, deadline_s=2.5)
    waiting = usual.submit(TEXT, Arm.parse(str(tiny_model)), deadline_s=0.3)
    last = usual.submit(TEXT, Arm.parse(str(tiny_model)), deadline_s=TIMEOUT_S)
    with pytest.raises(TooLate, match=r"within the 0.3 s allowed: 0.\d s waiting for other requests\. Ask") as caught:
        waiting.result(TIMEOUT_S)
    assert "allow more time" in caught.value.next_step and last.place == 1
    with pytest.raises(
        TooLate, match=r"2.5 s allowed: \d.\d s waiting.*, \d.\d s loading the model, \d.\d s explaining"
    ):
        working.result(TIMEOUT_S)
    pid = getattr(usual, "pid", None)
    assert last.result(TIMEOUT_S).task == "ner"
    assert getattr(usual, "pid", None) == pid


@pytest.mark.parametrize("ask", [long_work, long_reading])
def test_a_short_note_does_not_wait_for_a_long_one_of_another_session(ask, usual, tiny_model):
    arm = Arm.parse(str(tiny_model))
    alone = usual.submit("Fever after naloxone. " * 50, arm).result(TIMEOUT_S)
    why_alone = usual.explain("Fever after naloxone.", arm, TARGET).result(TIMEOUT_S)
    long = ask(usual, tiny_model)
    until(lambda: long.progress and (long.coarse or long.stage == "reading"))
    short = usual.submit("Fever after naloxone. " * 50, arm).result(TIMEOUT_S)
    why = usual.explain("Fever after naloxone.", arm, TARGET).result(TIMEOUT_S)
    assert not long.done() and 0 < long.progress < 0.9
    seen = long.progress
    until(lambda: long.progress != seen)
    assert short.model_copy(update={"cost": alone.cost}) == alone, "the same model serves both"
    assert [part.score for part in why.attributions] == pytest.approx([part.score for part in why_alone.attributions])
    assert long.cancel()


@pytest.mark.slow
def test_what_was_not_computed_when_the_child_died_starts_again(lab, tiny_model):
    long = long_work(lab, tiny_model)
    until(lambda: long.progress)
    killed = lab.pid
    os.kill(killed, signal.SIGSTOP)
    other = lab.submit("Fever", Arm.parse(str(tiny_model)))
    until(other.running)
    time.sleep(0.2)
    os.kill(killed, signal.SIGKILL)
    assert other.result(TIMEOUT_S).task == "ner" and lab.pid != killed
    with pytest.raises(OutOfMemory):
        long.result(TIMEOUT_S)


def test_turns_go_round_and_the_time_between_them_is_not_the_models():
    turns, order, ready = Turns(least_s=0), [], threading.Barrier(3)

    def session(number):
        ready.wait(TIMEOUT_S)
        with turns.taking(number):
            waited = 0.0
            for _ in range(3):
                time.sleep(0.02)
                order.append(number)
                waited += turns.pass_on(number)
        return waited

    with ThreadPoolExecutor(3) as sessions:
        waited = list(sessions.map(session, range(3)))
    assert sorted(order) == sorted([*range(3)] * 3) and len(set(order[:3])) == 3 and min(waited) > 0.02
    assert _without_waiting(PREDICTION, 300).cost == Cost(latency_ms=100, tokens_per_second=80)


def test_ten_requests_about_one_note_each_see_their_place_fall_to_nothing(lab, tiny_model):
    def session(number: int) -> list[int]:
        together.wait(TIMEOUT_S)
        answer, places = lab.submit(TEXT, Arm.parse(f"{tiny_model}@windows:{number + 32}")), []
        asked.wait(TIMEOUT_S)
        places.append(answer.place)
        noted.wait(TIMEOUT_S)
        while not answer.done():
            places.append(answer.place)
            time.sleep(0.001)
        places.append(answer.place)
        assert answer.result().coverage.tokens >= 400
        return places

    before = long_work(lab, tiny_model)
    until(before.running)
    together, asked = threading.Barrier(10), threading.Barrier(10)
    noted = threading.Barrier(10, action=before.cancel)
    with ThreadPoolExecutor(10) as sessions:
        seen = list(sessions.map(session, range(10)))
    assert sorted(places[0] for places in seen) == list(range(1, 11))
    for places in seen:
        assert places == sorted(places, reverse=True) and places[-1] == 0


@pytest.mark.parametrize(
    "error",
    [
        BadData("There is no line.", path="x.txt", line=3, next_step="Look."),
        BadSpec([("target", "found nothing"), ("grain", "found 'page'")]),
        UnknownName("method", "lime", ["saliency"]),
        OutOfMemory("Memory ran out."),
    ],
)
def test_an_error_comes_out_of_a_frame_as_it_went_in(error):
    again = from_json(json.loads(json.dumps(error.to_json())))
    assert (type(again), str(again), again.to_json()) == (type(error), str(error), error.to_json())


def test_every_way_to_run_out_of_memory_is_reported_as_such():
    with pytest.raises(RuntimeError) as refused:
        torch.empty(2**60)
    for error in (refused.value, MemoryError(), torch.OutOfMemoryError("CUDA")):
        assert isinstance(as_stillroom_error(error), OutOfMemory)
    assert not isinstance(as_stillroom_error(RuntimeError("shape")), OutOfMemory)


def test_a_canary_in_a_note_that_fails_or_crashes_a_model_is_in_no_file_log_error_or_process(
    tiny_model, tmp_path, monkeypatch, capfd
):
    canary = "canary-4f1d"
    broken = shutil.copytree(tiny_model, tmp_path / "broken")
    config = BertConfig.from_pretrained(broken, type_vocab_size=0)  # loads, and fails in its embeddings
    BertForTokenClassification(config).save_pretrained(broken)
    for name in ("TMPDIR", "STILLROOM_HOME"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    lab = Lab()
    try:
        failing = lab.submit(f"Fever {canary}", Arm.parse(str(broken)))
        with pytest.raises(LabFailed, match="failed with RuntimeError") as failed:
            failing.result(TIMEOUT_S)
        work = lab.explain(f"{canary} " + TEXT, Arm.parse(str(tiny_model)), TARGET, ExplainOptions(orders=20_000))
        until(lambda: work.progress)
        for place in ("cmdline", "environ"):
            assert canary.encode() not in Path(f"/proc/{lab.pid}/{place}").read_bytes()
        assert resource.prlimit(lab.pid, resource.RLIMIT_CORE) == (0, 0)
        os.kill(lab.pid, signal.SIGSEGV)
        with pytest.raises(LabFailed, match="was ended by signal 11") as crashed:
            work.result(TIMEOUT_S)
    finally:
        lab.close()
    log = "".join(capfd.readouterr())
    assert "lab: RuntimeError in " in log
    for text in (log, str(failed.value), str(crashed.value), repr(failing), repr(work)):
        assert canary not in text
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in files if canary.encode() in path.read_bytes() or path.name.startswith("core")]


@pytest.mark.slow
def test_running_out_of_memory_in_the_child_is_reported_and_ends_it(lab):
    arm, how = Arm.parse("minilm-ncbi"), ExplainOptions(orders=0, method_options={"steps": 50})
    lab.explain("Fever after naloxone.", arm, TARGET, how).result(TIMEOUT_S)  # whatever is imported is in memory
    limit = psutil.Process(lab.pid).memory_info().vms + 4 * 2**20
    resource.prlimit(lab.pid, resource.RLIMIT_AS, (limit, limit))
    with pytest.raises(OutOfMemory, match="Memory ran out while the model worked") as caught:
        lab.explain("Fever after naloxone. " * 200, arm, TARGET, how).result(TIMEOUT_S)
    assert "naloxone" not in str(caught.value) and "smaller model" in caught.value.next_step
    assert lab.pid is None  # the next request starts a fresh one
