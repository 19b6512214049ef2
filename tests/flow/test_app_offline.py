"""The app asks no other host anything: not when it starts, for a page, or for a websocket of a page from elsewhere."""

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
import websockets
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

from workbench import space
from workbench.cli import processes

ROOT = Path(__file__).parents[2]
AUDITED = ROOT / "tests" / "audited"
FOREIGN = ("http://evil.example", "https://127.0.0.1.evil.example", "http://10.1.2.3:8501", "null", "http://[::1]:1")
DOCKER = json.loads(re.search(r"^CMD (\[.*\])$", space._filled("Dockerfile"), re.M)[1])


def command(kind: str, port: int) -> list[str]:
    if kind == "up":
        return processes._streamlit(port)
    options = DOCKER[3:] if kind == "space" else ["--server.headless=true"]
    options = [option for option in options if not option.startswith("--server.port")]
    return [sys.executable, "-m", "streamlit", "run", "app.py", *options, f"--server.port={port}"]


@pytest.fixture(params=[pytest.param("streamlit run", marks=pytest.mark.slow), "up", "space"])
def app(request, tmp_path):
    """(port, file of attempts) of a running app, in an environment that forbids it nothing."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    attempts, log = tmp_path / "attempts", tmp_path / "log"
    attempts.touch()
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "STREAMLIT_"))}
    environment |= {"PYTHONPATH": f"{AUDITED}:{ROOT}", "AUDIT_LOG": str(attempts), "STILLROOM_HOME": str(tmp_path)}
    with log.open("wb") as output:
        process = subprocess.Popen(
            command(request.param, port), cwd=ROOT, env=environment, stdout=output, stderr=output, process_group=0
        )
    try:
        deadline = time.monotonic() + 90
        while not _answers(port):
            assert time.monotonic() < deadline and process.poll() is None, log.read_text()
            time.sleep(0.2)
        yield port, attempts
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=2) as answer:
            return answer.status == 200
    except OSError:
        return False


async def connect(port: int, origin: str | None):
    address = f"ws://127.0.0.1:{port}/_stcore/stream"
    return await websockets.connect(address, origin=origin, subprotocols=["streamlit"], max_size=None)


async def draw(port: int) -> list[str]:
    """Open the page as a browser does; the kinds of elements that come until the script has ended."""
    socket_ = await connect(port, f"http://127.0.0.1:{port}")
    asked = BackMsg()
    asked.rerun_script.query_string = ""
    await socket_.send(asked.SerializeToString())
    elements = []
    while True:
        message = ForwardMsg.FromString(await asyncio.wait_for(socket_.recv(), 120))
        if message.WhichOneof("type") == "delta":
            elements.append(message.delta.new_element.WhichOneof("type"))
        if message.WhichOneof("type") == "script_finished":
            await socket_.close()
            return elements


def test_a_foreign_page_is_refused_and_nobody_is_asked(app):
    port, attempts = app
    for origin in FOREIGN:  # the first of them before any page was drawn
        with pytest.raises(websockets.InvalidStatus) as refused:
            asyncio.run(connect(port, origin))
        assert refused.value.response.status_code == 403, origin
    elements = asyncio.run(draw(port))
    assert len(elements) > 5 and "exception" not in elements
    assert attempts.read_text() == ""
