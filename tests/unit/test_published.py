"""A state folder that has grown: nothing unchanged is read twice, and every change is seen at once."""

import json
import os
import shutil
import subprocess
import sys
import time

import pytest
from sqlalchemy import event, update

from benchmarks.state import fill
from trainer import queue
from trainer.queue import published, store

RUNS, JOBS = 6, 60
LONG_AGO_S = 3600


@pytest.fixture
def finished(home) -> list[str]:
    """Ids of finished runs, newest first, whose files were written long ago and are read already."""
    ids = fill(home, runs=RUNS, jobs=JOBS)
    published.runs()
    return ids


@pytest.fixture(autouse=True)
def _files_are_old(monkeypatch):
    """What was written now counts as written long ago, so that only the marks of the files tell what has changed."""
    now = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: now() + int(LONG_AGO_S * 1e9))


def model_of(run_id: str):
    return queue.artifacts()[run_id]


def names() -> dict[str, str]:
    return {entry.id: entry.name for entry in published.runs()}


def change(job_id: str, **values) -> None:
    changed = update(store.job).where(store.job.c.id == job_id).values(values)
    store.write(store.open_store(), lambda connection: connection.execute(changed))


def rewrite(path, **changes) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.fixture
def reads(monkeypatch) -> list:
    """The files that are read from now on."""
    seen, read = [], published.read_json
    monkeypatch.setattr(published, "read_json", lambda path: seen.append(path) or read(path))
    return seen


def test_the_state_of_the_benchmark_is_what_it_says(finished):
    assert [entry.id for entry in published.runs()] == finished
    assert len(queue.artifacts()) == RUNS + RUNS // 2  # as many again as half of them are gone
    states = [job.state for job in queue.jobs()]
    assert len(states) == JOBS and {*states} == {"succeeded", "queued", "failed", "cancelled"}


def test_runs_that_have_not_changed_are_not_read_again(finished, reads):
    assert [entry.id for entry in published.runs()] == finished
    assert reads == []
    rewrite(model_of(finished[2]) / "stillroom.json", dataset="another")
    assert names()[finished[2]].endswith("on another")
    assert {path.parent for path in reads} == {model_of(finished[2])}  # and of the others none


def test_a_run_is_seen_as_soon_as_it_has_succeeded_and_no_longer_once_its_folder_is_gone(finished, home):
    shutil.rmtree(model_of(finished[0]))
    assert [*names()] == finished[1:]
    one = queue.jobs()[RUNS + RUNS // 2].id
    shutil.copytree(model_of(finished[1]), home / "runs" / one / "made")
    change(one, artifact=f"runs/{one}/made", state="failed")
    assert [*names()] == finished[1:]
    change(one, state="succeeded")
    assert [*names()] == [*finished[1:], one]


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "stillroom.json").write_text("{"),
        lambda folder: (folder / "stillroom.json").unlink(),
        lambda folder: (folder / "model.safetensors").unlink(),
        lambda folder: rewrite(folder / "config.json", max_position_embeddings=-1, model_type="longformer"),
        lambda folder: rewrite(folder / "stillroom.json", labels=5),
        lambda folder: rewrite(folder / "stillroom.json", base=["minilm"]),
    ],
    ids=["broken", "without-card", "without-weights", "no-window", "no-labels", "no-base"],
)
def test_a_run_that_is_damaged_is_left_out_until_it_is_whole_again(finished, tmp_path, damage):
    folder = model_of(finished[3])
    whole = shutil.copytree(folder, tmp_path / "whole")
    damage(folder)
    assert [*names()] == [*finished[:3], *finished[4:]]
    shutil.copytree(whole, folder, dirs_exist_ok=True)
    assert [*names()] == finished


def test_a_change_that_keeps_size_and_date_is_seen(finished):
    card = model_of(finished[0]) / "stillroom.json"
    date = card.stat()
    card.write_text(card.read_text().replace("bc5cdr", "bc6cdr"))
    os.utime(card, ns=(date.st_atime_ns, date.st_mtime_ns))
    assert card.stat().st_size == date.st_size
    assert names()[finished[0]].endswith("bc6cdr")


def test_what_was_written_a_moment_ago_is_read_again_since_it_may_change_within_one_tick_of_the_clock(
    finished, reads, monkeypatch
):
    rewrite(model_of(finished[0]) / "stillroom.json", dataset="another")
    monkeypatch.setattr(time, "time_ns", lambda: (model_of(finished[0]) / "stillroom.json").stat().st_ctime_ns)
    published.runs()
    reads.clear()
    published.runs()
    assert model_of(finished[0]) / "stillroom.json" in reads


def test_a_run_follows_its_base(finished):
    """The newest run is made from the one before: its name, licence and window are that one's."""
    base, made = finished[1], finished[0]
    rewrite(model_of(made) / "stillroom.json", base=base, dataset="ncbi-disease")
    before = names()
    assert before[made] == f"{before[base]} on ncbi-disease"
    rewrite(model_of(base) / "stillroom.json", dataset="another")
    after = names()
    assert after[base] != before[base] and after[made] == f"{after[base]} on ncbi-disease"
    shutil.rmtree(model_of(base))
    assert names()[made] == f"{base} on ncbi-disease"


def test_a_state_that_moves_is_read_where_it_is(finished, home, monkeypatch):
    before = published.runs()
    moved = home.rename(home.with_name("moved"))
    monkeypatch.setenv("STILLROOM_HOME", str(moved))
    there = published.runs()
    assert [entry.id for entry in there] == finished
    assert all(entry.path.startswith(f"{moved}/") for entry in there)
    assert [entry.model_copy(update={"path": None}) for entry in there] == [
        entry.model_copy(update={"path": None}) for entry in before
    ]


def test_models_are_listed_without_the_specs_of_all_jobs(finished):
    """However many jobs there are: one query, for ids and folders of runs that left a model."""
    asked = []
    opened = store.open_store()

    def count(connection, cursor, statement, *_):
        if statement.startswith("SELECT"):
            asked.append(statement)

    event.listen(opened, "before_cursor_execute", count)
    published.ready()
    event.remove(opened, "before_cursor_execute", count)
    assert len(asked) == 1
    assert "spec" not in asked[0] and "metrics" not in asked[0]


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("workbench.cli", ("pydantic", "yaml", "sqlalchemy", "numpy", "torch")),  # --help
        ("trainer.queue", ("numpy", "trainer.datasets", "trainer.zoo", "torch")),  # jobs
    ],
)
def test_a_command_waits_for_no_more_than_it_needs(module, heavy):
    program = f"import sys, {module}; sys.exit(', '.join(set({heavy}) & set(sys.modules)) or 0)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, f"{module} imports {done.stderr.strip()}"
