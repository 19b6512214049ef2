"""A state folder or a database that cannot be used: every command says so in a sentence, and as JSON."""

import json
import os
import resource
import signal
import sqlite3
import subprocess
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import scripted_run

from trainer import queue
from trainer.files import write_file
from trainer.home import StateError
from trainer.home import home as state_folder
from trainer.queue import store
from workbench import cli

RUN = "0123abcd-1"


@pytest.fixture
def commands(tmp_path) -> dict[str, tuple]:
    """Every command that opens the state, by name."""
    model, data = scripted_run.inputs(tmp_path)
    spec, note, out = tmp_path / "spec.yaml", tmp_path / "note.txt", tmp_path / "out"
    spec.write_text(f"kind: finetune\nmodel: {RUN}\ndataset: {data}\n")
    note.write_text("No fever.")
    read = ("--text-file", note)
    return {
        "submit": ("submit", spec, "--json"),
        "worker": ("worker", "--drain"),
        "jobs": ("jobs", "--json"),
        "job": ("job", RUN, "--json"),
        "logs": ("logs", RUN, "--json"),
        "cancel": ("cancel", RUN, "--json"),
        "retry": ("retry", RUN, "--json"),
        "retry fresh": ("retry", RUN, "--fresh", "--json"),
        "zoo": ("zoo", "--json"),
        "predict": ("predict", "--model", RUN, *read, "--json"),
        "compare": ("compare", "--model", RUN, "--model", model, *read, "--json"),
        "explain": ("explain", "--model", RUN, *read, "--json"),
        "evaluate": ("evaluate", "--model", RUN, "--dataset", data, "--json"),
        "export": ("export", "--model", RUN, "--out", out),
        "up": ("up", "--port", "8999"),
    }


def missing_disk(tmp_path, monkeypatch):
    monkeypatch.setenv("STILLROOM_HOME", "/proc/nothing")


def a_file_in_its_place(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("STILLROOM_HOME", str(tmp_path / "file"))


def a_file_above_it(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("STILLROOM_HOME", str(tmp_path / "file" / "home"))


def a_link_to_nowhere(tmp_path, monkeypatch):
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    monkeypatch.setenv("STILLROOM_HOME", str(tmp_path / "link"))


def a_name_too_long(tmp_path, monkeypatch):
    monkeypatch.setenv("STILLROOM_HOME", str(tmp_path / ("x" * 300)))


def a_folder_as_database(tmp_path, monkeypatch):
    (tmp_path / "home" / "stillroom.db").mkdir()


def a_database_without_its_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("STILLROOM_DB", f"sqlite:///{tmp_path}/nowhere/stillroom.db")


def a_database_that_is_none(tmp_path, monkeypatch):
    (tmp_path / "home" / "stillroom.db").write_bytes(b"somebody's file " * 100)


def a_damaged_database(tmp_path, monkeypatch):
    store.open_store().dispose()
    store._open.cache_clear()
    path = tmp_path / "home" / "stillroom.db"
    data = path.read_bytes()
    path.write_bytes(data[:100] + b"\xff" * (len(data) - 100))


MODEL_ONLY = (
    "predict",
    "compare",
    "explain",
    "evaluate",
    "export",
)  # they ask no database
BROKEN = (
    missing_disk,
    a_file_in_its_place,
    a_file_above_it,
    a_link_to_nowhere,
    a_name_too_long,
    a_folder_as_database,
    a_database_without_its_folder,
    a_database_that_is_none,
    a_damaged_database,
)


def assert_says(code: int, out: str, err: str, *, as_json: bool) -> dict | None:
    """An error for a person, and as JSON: it names the setting and the next step, and has no SQL and no traceback."""
    assert code == cli.FAILED
    for name in ("Traceback", "SELECT", "INSERT", "PRAGMA", "sqlalche", "sqlite3."):
        assert name not in out + err
    assert "STILLROOM_HOME" in err
    error = json.loads(out)["error"] if as_json else None
    assert error is None or (error["type"] in ("Unavailable", "CorruptFile") and "STILLROOM_HOME" in error["next_step"])
    return error


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.__name__)
def test_every_command_says_what_is_wrong_with_the_state(broken, home, tmp_path, monkeypatch, commands, stillroom):
    broken(tmp_path, monkeypatch)
    with pytest.raises(StateError, match=r"cannot be (used|read)"):
        queue.jobs()
    for name, words in commands.items():
        code, out, err = stillroom(*words)
        if name in MODEL_ONLY and "database" in broken.__name__:
            assert code == cli.FAILED and err.startswith(f"error: There is no run {RUN}") and "Traceback" not in err
            continue
        error = assert_says(code, out, err, as_json="--json" in words)
        if error:
            damaged = broken in (a_database_that_is_none, a_damaged_database)
            assert error["type"] == ("CorruptFile" if damaged else "Unavailable"), name


@contextmanager
def disk(place: Path):
    """A small disk of its own at `place`."""
    place.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(place)]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root may mount a disk")
    try:
        yield
    finally:
        store._open.cache_info().currsize and store.open_store().dispose()
        store._open.cache_clear()
        subprocess.run(["umount", str(place)], check=True)


@pytest.fixture
def queued(home, tmp_path_factory, stillroom):
    """Makes a job in the present state folder, so that there is something to read: its id, and the spec's path."""
    folder = tmp_path_factory.mktemp("inputs")
    scripted_run.inputs(folder)
    spec = folder / "spec.yaml"

    def submit() -> tuple[str, Path]:
        spec.write_text("kind: evaluate\nmodel: minilm-ncbi-l3\ndataset: ncbi-disease-slice\n")
        code, out, err = stillroom("submit", spec, "--json")
        assert code == 0, err
        spec.write_text("kind: evaluate\nmodel: minilm-ncbi-l3\ndataset: ncbi-disease-slice\nlimit: 2\n")
        return json.loads(out)["id"], spec

    return submit


def test_a_full_disk_is_said_and_what_is_there_is_read(home, queued, stillroom):
    with disk(home):
        job_id, spec = queued()
        with pytest.raises(OSError, match="No space"), (home / "filler").open("wb") as file:
            while True:
                file.write(b"x" * 4096)
                file.flush()
        for words in (("submit", spec, "--json"), ("cancel", job_id, "--json")):
            error = assert_says(*stillroom(*words), as_json=True)
            assert "full" in error["message"]
        assert_says(*stillroom("worker", "--drain"), as_json=False)
        code, out, _ = stillroom("jobs", "--json")
        assert (code, [job["id"] for job in json.loads(out)]) == (0, [job_id])


def test_a_read_only_disk_is_said_and_what_is_there_is_read(home, queued, stillroom):
    with disk(home):
        job_id, spec = queued()
        store.open_store().dispose()
        store._open.cache_clear()
        subprocess.run(["mount", "-o", "remount,ro", str(home)], check=True)
        for words in (("submit", spec, "--json"), ("cancel", job_id, "--json")):
            assert_says(*stillroom(*words), as_json=True)
        assert_says(*stillroom("worker", "--drain"), as_json=False)
        code, out, _ = stillroom("job", job_id, "--json")
        assert (code, json.loads(out)["id"]) == (0, job_id)


def test_a_new_state_on_a_read_only_disk_is_said(home, stillroom):
    with disk(home):
        subprocess.run(["mount", "-o", "remount,ro", str(home)], check=True)
        assert_says(*stillroom("jobs", "--json"), as_json=True)
        os.environ["STILLROOM_HOME"] = str(home / "below")
        assert_says(*stillroom("jobs", "--json"), as_json=True)


def test_a_limit_on_files_is_said(home):
    """Without root: the system refuses to let a file grow, as a quota does."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 13, old[1]))
    try:
        with pytest.raises(store.StateUnavailable) as database:
            store.open_store()
        with pytest.raises(OSError, match="too large") as file:
            write_file(state_folder() / "estimate.json", b"x" * (1 << 14))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)
    assert "STILLROOM_HOME" in database.value.next_step
    assert file.value.filename == str(home / ".tmp-estimate.json")


def test_an_error_of_the_file_system_in_the_state_folder_is_said(home, stillroom, commands, queued):
    """Not of the database: a file stands where the run folders belong."""
    (home / "runs").write_text("")
    code, out, err = stillroom(*commands["logs"])
    assert "Traceback" not in out + err and json.loads(out)["error"]["type"] == "UnknownName"
    job_id, _ = queued()
    code, _, err = stillroom("worker", "--drain")
    assert code == 0 and "Traceback" not in err
    error = queue.job(job_id).error
    assert error["type"] == "Unavailable" and "STILLROOM_HOME" in error["next_step"]
    (home / "models").write_text("")
    code, out, err = stillroom("zoo", "--json")
    assert code == 0 and json.loads(out), "what is not there is not here"


def test_a_database_that_another_program_holds_is_said(home, stillroom, monkeypatch):
    monkeypatch.setenv("STILLROOM_DB", f"sqlite:///{home}/stillroom.db?timeout=0.01")
    monkeypatch.setattr(store, "PATIENCE_S", 0.1)
    store.open_store()
    with closing(sqlite3.connect(home / "stillroom.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        error = assert_says(*stillroom("jobs", "--json"), as_json=True)
        other.rollback()
    assert "locked" in error["message"] and "Another program has locked it" in error["next_step"]
