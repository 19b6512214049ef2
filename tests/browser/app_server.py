"""The real app in a process of its own, as a person starts it: for tests that look at it with a browser."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import BrowserContext, Page, sync_playwright

ROOT = Path(__file__).parents[2]
START_S = 60
SETTLED = "[data-testid=stApp][data-test-script-state=notRunning]"  # matches once the page is wholly drawn


class Server:
    """A running app: its address, its process and its state folder."""

    def __init__(self, process: subprocess.Popen, port: int, home: Path):
        self.process, self.home, self.log = process, home, home / "app.log"
        self.address = f"http://127.0.0.1:{port}"

    def wait(self) -> None:
        """Wait until it answers; an error with its log if it does not."""
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                with urllib.request.urlopen(f"{self.address}/_stcore/health", timeout=1) as answer:
                    if answer.status == 200:
                        return
            except OSError:
                time.sleep(0.1)
        raise AssertionError(f"the app did not start: {self.log.read_text()[-2000:]}")

    def libraries(self) -> str:
        """The shared libraries that the web process has loaded (Linux)."""
        return Path(f"/proc/{self.process.pid}/maps").read_text()


@contextmanager
def served(home: Path, *, program: Sequence[str] = ("-m", "streamlit")) -> Iterator[Server]:
    """The app on a free port of this machine, with `home` as its STILLROOM_HOME; gone when the block ends."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, *program, "run", str(ROOT / "app.py"), "--server.port", str(port)]
    with (home / "app.log").open("w") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=output, stderr=output, env={**os.environ, "STILLROOM_HOME": str(home)}
        )
    server = Server(process, port, home)
    try:
        server.wait()
        yield server
    finally:
        process.terminate()
        process.wait(20)


# Chromium draws what spins for ever sixty times a second, in software: that takes the core from what one waits for.
AT_REST = """addEventListener("DOMContentLoaded", () => {
  const style = document.createElement("style");
  const once = "animation-duration: 1ms !important; animation-iteration-count: 1 !important";
  style.textContent = `*, ::before, ::after { ${once} }`;
  document.head.append(style);
})"""


@contextmanager
def browsing(chromium: str) -> Iterator[BrowserContext]:
    """Chromium without a window. Its pages are tabs: the second one finds the app's scripts in the cache."""
    quiet = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=quiet, timeout=1000 * START_S)
        context = browser.new_context(viewport={"width": 1280, "height": 900})
        context.add_init_script(AT_REST)
        yield context
        browser.close()


def new_page(browser: BrowserContext, server: Server, *, wait_ms: int) -> Page:
    """A page of desktop size; `elsewhere` lists what it requests from other hosts."""
    page = browser.new_page()
    page.set_default_timeout(wait_ms)
    page.elsewhere = []
    page.on("request", lambda sent: page.elsewhere.append(sent.url) if server.address not in sent.url else None)
    return page
