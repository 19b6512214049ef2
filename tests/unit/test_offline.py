"""Nothing leaves the machine: whatever a name looks like, no process of Stillroom asks another host about it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

AUDITED = Path(__file__).parents[1] / "audited"
ROOT = Path(__file__).parents[2]
NAME = "clinic/patient-smith-john"

# The commands in one process, as `stillroom` runs them; what each says is for the test to read.
COMMANDS = f"""
import contextlib, io, json, sys
from pathlib import Path
from workbench import cli

def answer_of(*arguments):
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        try:
            cli.main([*arguments, "--json"])
        except SystemExit as end:
            code = end.code
    return code, json.loads(out.getvalue().splitlines()[-1] if out.getvalue().count("\\n") == 1 else out.getvalue())

Path("note.txt").write_text("Naloxone reverses the hypotension.")
Path("data.yaml").write_text("kind: finetune\\nmodel: minilm\\ndataset: {NAME}\\n")
Path("model.yaml").write_text("kind: evaluate\\nmodel: {NAME}\\ndataset: bc5cdr\\n")
Path("hub.yaml").write_text("kind: pretrain\\nmodel: minilm\\ndataset: hf:{NAME}\\n")
for spec in ("data", "model", "hub"):
    code, document = answer_of("submit", spec + ".yaml")
    assert code and document["error"]["type"] == "BadSpec", document
for name in ("{NAME}", "{NAME}:x@y", "hf:{NAME}", "hf:{NAME}:large", "hf:{NAME}@abc"):
    for command in (["datasets", "check", name], ["evaluate", "--model", "minilm-ncbi", "--dataset", name]):
        code, document = answer_of(*command)
        assert code and document["error"]["type"] in ("UnknownName", "Unavailable"), (command, document)
for model in ("{NAME}", "{NAME}@truncate"):
    answer_of("predict", "--model", model, "--text-file", "note.txt")
    answer_of("explain", "--model", model, "--text-file", "note.txt")
answer_of("evaluate", "--model", "{NAME}", "--dataset", "bc5cdr")
"""
PREDICTION = """
code, document = answer_of("predict", "--model", "minilm-ncbi", "--text-file", "note.txt")
assert not code and document["spans"], document
"""
LIBRARY = f"""
from contextlib import suppress
from trainer import datasets, models, zoo as registry
from trainer.errors import StillroomError

for find in (datasets.resolve, datasets.check, registry.resolve, models.load):
    with suppress(StillroomError):
        find("{NAME}")
        raise SystemExit(f"{{find}} has found it")
network, tokenizer = models.load("minilm-ncbi")
tokenizer("Naloxone reverses the hypotension.")
"""
# A job that an older Stillroom queued with a bare name, and one whose data are of the Hub.
WORKER = f"""
from trainer import queue
from trainer.queue import worker
from trainer.offline import go_offline
from trainer.spec import parse
go_offline()
ids = [
    queue.submit(parse({{"kind": kind, "model": model, "dataset": data}})).id
    for kind, model, data in (
        ("finetune", "minilm", "{NAME}"), ("pretrain", "minilm", "hf:{NAME}"), ("evaluate", "{NAME}", "bc5cdr")
    )
]
worker.work(drain=True, threads=1)
errors = {{job.id: job.error["type"] for job in queue.jobs()}}
assert [errors[id] for id in ids] == ["UnknownName", "Unavailable", "Unavailable"], errors
"""


def audited(code: str, folder: Path) -> str:
    """Run code where the network is not forbidden by anything but Stillroom itself; the attempts to reach it."""
    free = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TRANSFORMERS_"))}
    log = folder / "attempts"
    log.touch()
    paths = {"PYTHONPATH": f"{AUDITED}:{ROOT}", "AUDIT_LOG": str(log), "STILLROOM_HOME": str(folder / "state")}
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=free | paths, capture_output=True, text=True, timeout=240
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    return log.read_text()


@pytest.mark.parametrize(
    "code",
    [
        pytest.param(COMMANDS, id="commands"),
        pytest.param(COMMANDS + PREDICTION, id="commands and a prediction", marks=pytest.mark.slow),
        pytest.param(LIBRARY, id="library", marks=pytest.mark.slow),
        pytest.param(WORKER, id="worker"),
    ],
)
def test_no_name_is_looked_up_elsewhere(tmp_path, code):
    assert audited(code, tmp_path) == ""


def test_the_hook_sees_what_a_fetch_does(tmp_path):
    """The commands that may reach the network do, and say what they could not get."""
    code = """
import sys
from workbench import cli
try:
    cli.main(["datasets", "fetch", "hf:some/notes"])
except SystemExit as end:
    sys.exit(0 if end.code else 1)
"""
    attempts = audited("import os; os.environ['HF_ENDPOINT'] = 'http://hub.invalid'\n" + code, tmp_path)
    assert "hub.invalid" in attempts
