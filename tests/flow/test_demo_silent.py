"""The demo repeats no note, neither in an answer that refuses nor in what it prints, whatever is called with what."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
AUDITED = ROOT / "tests" / "audited"
CANARY = "Zq1canary9 Smith"
WRONG = (
    [],
    [CANARY],
    [CANARY] * 9,
    [[CANARY], {CANARY: CANARY}],
    [{"path": CANARY, "meta": {"_type": "gradio.FileData"}}] * 2,
    [CANARY, [CANARY, CANARY]],
    [CANARY, "minilm-bc5cdr", CANARY],
    [CANARY, "minilm-bc5cdr", "0:5:" + CANARY],
    [CANARY, "minilm-bc5cdr", "0:3:Disease", CANARY, CANARY],
    ["minilm-bc5cdr 0:5:" + CANARY, "saliency", ""],
    ["minilm-bc5cdr " + "9" * 5000 + ":5:" + CANARY, "saliency", ""],
    [{"x": [CANARY]}, None, 1e400],
    [CANARY * 5000, ["minilm-bc5cdr", "minilm-ncbi"]],
    CANARY,
    {"text": CANARY},
    None,
)


class Demo:
    """A running demo: its address, and what it printed."""

    def __init__(self, folder: Path):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.log, self.attempts = folder / "log", folder / "attempts"
        self.attempts.touch()
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "GRADIO_"))}
        environment |= {"PYTHONPATH": f"{AUDITED}:{ROOT}", "AUDIT_LOG": str(self.attempts)}
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "workbench.cli", "demo", "--port", str(self.port)],
                cwd=ROOT, env=environment | {"STILLROOM_HOME": str(folder)},
                stdout=output, stderr=output, process_group=0,
            )  # fmt: skip
        deadline = time.monotonic() + 120
        while self.ask("config")[0] != 200:
            assert time.monotonic() < deadline and self.process.poll() is None, self.log.read_text()
            time.sleep(0.3)

    def ask(self, path: str, body: object = None, *, timeout_s: float = 30) -> tuple[int, str]:
        """(status, text) of an answer; raw bytes are sent as they are."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/{path}", data, {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=timeout_s) as answer:
                return answer.status, answer.read().decode(errors="replace")
        except http.client.IncompleteRead as error:
            return 200, error.partial.decode(errors="replace")
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode(errors="replace")
        except OSError as error:
            return 0, type(error).__name__


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    running = Demo(tmp_path_factory.mktemp("demo"))
    yield running
    os.killpg(running.process.pid, signal.SIGKILL)
    running.process.wait()


def events(demo: Demo) -> list[dict]:
    """Every event and endpoint that has a function here, those of the page's own too."""
    return [each for each in json.loads(demo.ask("config")[1])["dependencies"] if each.get("backend_fn")]


def test_no_event_repeats_what_it_was_sent(demo):
    dependencies, answers = events(demo), []
    assert len(dependencies) >= 9
    for number, wrong in enumerate(WRONG):
        session = f"session{number}"
        for each in dependencies:
            body = {"data": wrong, "fn_index": each["id"], "session_hash": session, "event_data": None}
            answers.append(demo.ask("gradio_api/queue/join", body)[1])
        answers.append(demo.ask(f"gradio_api/queue/data?session_hash={session}", timeout_s=150)[1])
    refused = [line for answer in answers for line in answer.splitlines() if not shows_a_picture(line)]
    assert sum('"success":false' in line.replace(" ", "") for line in refused) > 20, "nothing was refused"
    assert [line[:300] for line in refused if CANARY in line or "Zq1canary9" in line] == []
    assert "canary" not in demo.log.read_text(), demo.log.read_text()[-2000:]


def shows_a_picture(line: str) -> bool:
    """Whether this is an answer to who sent the note, with the note as it was read."""
    return '"success":true' in line.replace(" ", "") or '"process_generating"' in line


def test_no_address_repeats_what_it_was_sent(demo):
    quoted = CANARY.replace(" ", "%20")
    names = [each["api_name"] for each in events(demo) if each.get("api_name")]
    answers = []
    for body in (
        CANARY.encode(), b'"' + CANARY.encode(), {"data": CANARY}, {CANARY: 1}, [CANARY], {"data": [CANARY] * 3},
        {"data": [CANARY], "fn_index": CANARY}, {"data": [CANARY], "fn_index": 10**6, "session_hash": [CANARY]},
    ):  # fmt: skip
        for path in (
            "gradio_api/queue/join", "gradio_api/run/predict", "gradio_api/cancel", "gradio_api/component_server",
            "gradio_api/upload", "gradio_api/reset", f"gradio_api/call/{quoted}", f"gradio_api/run/{quoted}",
            "gradio_api/startup-events", "login",
            *(f"gradio_api/{way}/{name}" for name in names for way in ("run", "call")),
        ):  # fmt: skip
            answers.append((path, *demo.ask(path, body)))
    for path in (quoted, f"gradio_api/call/compare/{quoted}", f"gradio_api/file={quoted}", f"theme.css?v={quoted}"):
        answers.append((path, *demo.ask(path, timeout_s=5)))
    assert [answer for answer in answers if "canary" in answer[2]] == []
    assert sum(status >= 400 for _, status, _ in answers) > 40
    assert "canary" not in demo.log.read_text()


def test_the_demo_reaches_nobody(demo):
    assert demo.attempts.read_text() == ""
