"""Where the database is, its pragmas, and what its two kinds of transaction may do."""

import os
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import event, text

from trainer import queue
from trainer.errors import CorruptFile, Refused, Unavailable
from trainer.home import runs_dir
from trainer.queue import store
from trainer.spec import parse


def pragma(engine, name):
    return store.read(engine, lambda connection: connection.exec_driver_sql(f"PRAGMA {name}").scalar())


def test_home_is_absolute_and_made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("STILLROOM_HOME")
    assert store.home() == tmp_path / ".stillroom" and store.home().is_dir()
    monkeypatch.setenv("STILLROOM_HOME", "elsewhere/deep")
    assert runs_dir() == tmp_path / "elsewhere/deep/runs"


def test_each_connection_has_its_settings(home):
    engine = store.open_store()
    mode, synchronous = store.journal()
    assert Path(engine.url.database) == home / "stillroom.db"
    for _ in range(2):
        assert pragma(engine, "journal_mode") == mode.lower()
        assert pragma(engine, "synchronous") == {"FULL": 2, "EXTRA": 3}[synchronous]
        assert pragma(engine, "foreign_keys") == 1
        assert pragma(engine, "busy_timeout") == store.BUSY_S * 1000
        assert pragma(engine, "user_version") == store.SCHEMA
        engine.dispose()


@pytest.mark.parametrize(
    ("version", "safe"),
    [
        ((3, 40, 1), False),
        ((3, 44, 5), False),
        ((3, 44, 6), True),
        ((3, 45, 0), False),
        ((3, 50, 6), False),
        ((3, 50, 7), True),
        ((3, 51, 2), False),
        ((3, 51, 3), True),
        ((3, 53, 0), True),
    ],
)
def test_write_ahead_logging_only_where_its_corruption_bug_is_fixed(version, safe):
    assert store.journal(version) == (("WAL", "FULL") if safe else ("TRUNCATE", "EXTRA"))


def test_a_transaction_that_may_write_takes_the_lock_before_it_reads(home):
    engine = store.open_store(f"sqlite:///{home}/stillroom.db?timeout=0.01")
    with engine.begin() as connection:
        connection.execute(text("SELECT 1"))
        with pytest.raises(Unavailable, match="locked"):
            store.write(engine, lambda other: other.execute(text("SELECT 1")), patience_s=0)


def test_a_read_neither_waits_for_the_lock_nor_takes_it_nor_writes(home):
    engine = store.open_store(f"sqlite:///{home}/stillroom.db?timeout=0.01")
    with engine.begin() as writer:
        writer.execute(text("INSERT INTO worker VALUES ('w', 'w', 'cpu', '', 0)"))
        count = text("SELECT count(*) FROM worker")
        assert store.read(engine, lambda connection: connection.execute(count).scalar()) == 0
    with engine.execution_options(reading=True).begin() as reader:
        assert reader.execute(count).scalar() == 1
        with engine.connect() as writer:
            writer.execute(text("DELETE FROM worker"))
            writer.rollback()
    with pytest.raises(Unavailable, match="readonly"):
        store.read(engine, lambda connection: connection.execute(text("DELETE FROM worker")))
    store.write(engine, lambda connection: connection.execute(text("DELETE FROM worker")))


def test_a_write_waits_longer_than_sqlite_does(home):
    engine = store.open_store(f"sqlite:///{home}/stillroom.db?timeout=0.01")
    other = sqlite3.connect(home / "stillroom.db", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    release = threading.Timer(0.4, other.rollback)
    release.start()
    began = time.monotonic()
    store.write(engine, lambda connection: connection.execute(text("DELETE FROM worker")))
    assert time.monotonic() - began > 0.3
    release.join()
    other.close()


def test_a_write_is_whole_or_not_at_all(home):
    engine = store.open_store()

    def half(connection):
        connection.execute(text("INSERT INTO worker VALUES ('w', 'w', 'cpu', '', 0)"))
        raise RuntimeError

    with pytest.raises(RuntimeError):
        store.write(engine, half)
    count = text("SELECT count(*) FROM worker")
    assert store.read(engine, lambda connection: connection.execute(count).scalar()) == 0


def test_opening_a_store_does_not_take_the_lock(home):
    store.open_store().dispose()
    store._open.cache_clear()
    with sqlite3.connect(home / "stillroom.db", isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        store.open_store(f"sqlite:///{home}/stillroom.db?timeout=0.01")
        assert time.monotonic() - began < 1
        other.rollback()


def test_a_newer_schema_is_refused_with_a_sentence(home):
    with sqlite3.connect(home / "stillroom.db") as raw:
        raw.execute(f"PRAGMA user_version={store.SCHEMA + 1}")
    with pytest.raises(Refused, match=rf"schema {store.SCHEMA + 1}.*up to {store.SCHEMA}.*Update Stillroom"):
        store.open_store()


@pytest.fixture
def older(home):
    """A database that the first release left: a job that succeeded, one that failed, one that waits."""
    with closing(sqlite3.connect(home / "stillroom.db")) as raw:
        raw.executescript((Path(__file__).parent / "schema-1.sql").read_text(encoding="utf-8"))
    return home / "stillroom.db"


def content(path):
    with closing(sqlite3.connect(path)) as raw:
        (version,) = raw.execute("PRAGMA user_version").fetchone()
        return version, {table: raw.execute(f"SELECT * FROM {table}").fetchall() for table in ("job", "metric")}


def test_an_older_database_opens_and_keeps_its_rows(older):
    before = content(older)
    engine = store.open_store()
    assert content(older) == (store.SCHEMA, before[1]) and before[0] == 1
    assert content(f"{older}.schema-1") == before, "as it was, for those who go back"
    assert pragma(engine, "integrity_check") == "ok"
    states = {job.id: job.state for job in queue.jobs()}
    assert sorted(states.values()) == ["failed", "queued", "succeeded"]
    assert [queue.job(job_id).needs for job_id in states] == [()] * 3
    succeeded = next(job_id for job_id, state in states.items() if state == "succeeded")
    waiting = queue.submit(parse({"kind": "evaluate", "model": succeeded, "dataset": "bc5cdr", "seed": 7}))
    assert waiting.needs == (succeeded,) and waiting.waits_for == ()


def test_an_upgrade_is_whole_or_not_at_all(older, monkeypatch):
    before = content(older)

    def fails(connection):
        raise RuntimeError

    monkeypatch.setattr(store.metadata, "create_all", fails)
    with pytest.raises(RuntimeError):
        store.open_store()
    assert content(older) == before
    monkeypatch.undo()
    monkeypatch.setenv("STILLROOM_DB", f"sqlite:///{older}")
    store.open_store()
    assert content(older) == (store.SCHEMA, before[1])


def test_an_older_database_that_cannot_be_copied_is_left_alone(older):
    before = content(older)
    Path(f"{older}.schema-1").mkdir()
    with pytest.raises(Unavailable, match="schema 1 and cannot be copied"):
        store.open_store()
    assert content(older) == before


def test_programs_that_open_an_older_database_at_once_all_find_the_new_one(older):
    opened = "from trainer import queue; from trainer.queue import store; store.open_store(); print(len(queue.jobs()))"
    programs = [subprocess.Popen([sys.executable, "-c", opened], stdout=subprocess.PIPE) for _ in range(4)]
    assert [program.communicate(timeout=60)[0] for program in programs] == [b"3\n"] * 4
    assert content(older)[0] == store.SCHEMA and content(f"{older}.schema-1")[0] == 1


def test_a_file_that_is_no_database_is_not_overwritten(home):
    (home / "stillroom.db").write_bytes(b"not a database, but somebody's file " * 100)
    with pytest.raises(CorruptFile, match="cannot be read"):
        store.open_store()
    assert (home / "stillroom.db").read_bytes().startswith(b"not a database")


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("nonsense", Unavailable),
        ("sqlite:////no/such/folder/at/all.db", Unavailable),
        ("mysql://someone:secret@host/name", Refused),
        ("postgresql+nodriver://someone:secret@host/name", Unavailable),
    ],
)
def test_a_database_that_cannot_be_used_says_so_and_keeps_the_password(url, error, home, monkeypatch):
    monkeypatch.setenv("STILLROOM_DB", url)
    with pytest.raises(error) as caught:
        store.open_store()
    assert "secret" not in str(caught.value) and caught.value.next_step


def test_the_hooks_are_for_sqlite_alone():
    pytest.importorskip("psycopg")
    engine = store._engine(store._parse_url("postgresql+psycopg://someone@host/name"))
    assert not event.contains(engine, "begin", store._begin)


def test_the_engine_is_opened_once_a_url(home):
    assert store.open_store() is store.open_store()
    assert os.environ.get("STILLROOM_DB") is None
