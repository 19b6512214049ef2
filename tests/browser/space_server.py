"""The Spaces that `stillroom space build` makes, each started from its folder as its README or Dockerfile says."""

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from workbench import space

START_S = 120


class Space:
    """A running Space: its kind, its address, its folder, and the folder that its process may write to."""

    def __init__(self, kind: str, base: Path):
        self.kind, self.folder, self.home = kind, base / "space", base / "home"
        space.build(kind, self.folder)
        self.home.mkdir()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.address, self.log = f"http://127.0.0.1:{self.port}", base / "server.log"

    @property
    def command(self) -> list[str]:
        """As the Space starts it, on a port of this test."""
        dockerfile = self.folder / "Dockerfile"
        if not dockerfile.exists():
            head = yaml.safe_load((self.folder / "README.md").read_text(encoding="utf-8").split("---\n")[1])
            return [sys.executable, head["app_file"]]
        text = dockerfile.read_text(encoding="utf-8")
        program, *words = json.loads(re.search(r"^CMD (.*)$", text, re.M)[1])
        return [sys.executable, "-m", program, *(word.replace(str(space.PORT), str(self.port)) for word in words)]

    @property
    def environment(self) -> dict[str, str]:
        """Without this project on the path; everything that may be written lies below `home`."""
        dockerfile = self.folder / "Dockerfile"
        settings = re.findall(r"\b(STILLROOM_DEMO=\S+)", dockerfile.read_text()) if dockerfile.exists() else []
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith(("PYTHONPATH", "STILLROOM"))
        }
        folders = {name: str(self.home) for name in ("HOME", "TMPDIR", "GRADIO_TEMP_DIR", "STILLROOM_HOME")}
        listens = {"GRADIO_SERVER_NAME": "0.0.0.0", "GRADIO_SERVER_PORT": str(self.port)}
        return inherited | folders | listens | dict(word.split("=") for word in settings)

    def traces(self, words: str) -> list[Path]:
        """Files that hold these words."""
        files = [path for top in (self.folder, self.home) for path in top.rglob("*") if path.is_file()]
        return [path for path in [*files, self.log] if words.encode() in path.read_bytes()]


@contextmanager
def running(kind: str, base: Path) -> Iterator[Space]:
    """A Space of this kind, gone when the block ends."""
    built = Space(kind, base)
    with built.log.open("w") as log:
        process = subprocess.Popen(built.command, cwd=built.folder, stdout=log, stderr=log, env=built.environment)
    try:
        deadline = time.monotonic() + START_S
        while not _answers(built.address):
            assert process.poll() is None and time.monotonic() < deadline, built.log.read_text()[-2000:]
            time.sleep(0.1)
        yield built
    finally:
        process.terminate()
        process.wait(20)


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=2) as answer:
            return answer.status == 200
    except OSError:
        return False
