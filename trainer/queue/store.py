"""The database: where it is, its tables, and its two kinds of transaction.

SQLite unless STILLROOM_DB says otherwise. A write transaction takes the write lock first (BEGIN IMMEDIATE), so a read
is never upgraded to a write, which SQLite refuses without waiting. A read transaction is deferred and cannot write, so
pages never hold up a worker. The journal mode follows the SQLite version, because of the WAL-reset bug
(https://sqlite.org/wal.html#walresetbug).
"""

import functools
import os
import random
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from typing import TypeVar

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Connection,
    Engine,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    and_,
    create_engine,
    event,
    false,
)
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, NoSuchModuleError, OperationalError

from trainer.errors import Refused, Unavailable
from trainer.home import StateDamaged, StateError, StateUnavailable, home

SCHEMA = 3  # PRAGMA user_version of the tables below; 2 added `needs`, 3 `input`
BUSY_S = 10  # how long SQLite itself waits for a lock; `?timeout=` in the URL overrides it
PATIENCE_S = 60.0  # how long a transaction is tried again above that: SQLite's own waiting is not fair

T = TypeVar("T")
_json = JSON(none_as_null=True)
metadata = MetaData()

job = Table(
    "job",
    metadata,
    Column("id", Text, primary_key=True),  # <digest8>-<number>
    Column("digest", Text, nullable=False),
    Column("number", Integer, nullable=False),
    Column("kind", Text, nullable=False),
    Column("spec", _json, nullable=False),
    Column("state", Text, nullable=False, default="queued"),  # queued | running | succeeded | failed | cancelled
    Column("priority", Integer, nullable=False, default=0),
    Column("turn", Integer, nullable=False),  # first come, first served; no clock in it
    Column("not_before", Float, nullable=False, default=0.0),  # unix seconds; backoff only
    Column("cancel_requested", Boolean, nullable=False, default=False),
    Column("token", Integer, nullable=False, default=0),  # grows with every claim: the fence against late workers
    Column("beat", Integer, nullable=False, default=0),  # grows with every renewal: observers time its silence
    Column("attempts", Integer, nullable=False, default=0),  # claims that were not handed back
    Column("strikes", Integer, nullable=False, default=0),  # claims since the last new checkpoint
    Column("checkpoint", Integer, nullable=False, default=0),  # highest committed step
    Column("worker", Text),
    Column("worker_process", Text),
    Column("child_process", Text),
    Column("step", Integer, nullable=False, default=0),
    Column("steps", Integer),
    Column("rate", Float),  # steps per second of late
    Column("message", Text),
    Column("metrics", _json, nullable=False, default=dict),
    Column("artifact", Text),  # below STILLROOM_HOME; older versions wrote absolute paths
    Column("error", _json),
    Column("created_at", Float, nullable=False),  # unix seconds, for display
    Column("started_at", Float),
    Column("ended_at", Float),
)
metric = Table(
    "metric",
    metadata,
    Column("job_id", Text, ForeignKey("job.id", ondelete="CASCADE"), primary_key=True),
    Column("step", Integer, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("value", Float),  # null where the run reported a number that is not finite
)
needs = Table(
    "needs",
    metadata,
    Column("job_id", Text, ForeignKey("job.id", ondelete="CASCADE"), primary_key=True),
    Column("needed_id", Text, ForeignKey("job.id", ondelete="CASCADE"), primary_key=True),  # it has to succeed first
    Index("needs_needed", "needed_id"),
)
input = Table(
    "input",
    metadata,
    Column("job_id", Text, ForeignKey("job.id", ondelete="CASCADE"), primary_key=True),
    Column("name", Text, primary_key=True),  # model | others.0 ... | teacher | dataset | unlabelled
    Column("value", _json, nullable=False),  # trainer.resolved.Input, its path as home.stored writes it
)
worker = Table(
    "worker",
    metadata,
    Column("id", Text, primary_key=True),  # random: host names and process ids come back
    Column("name", Text, nullable=False),
    Column("device", Text, nullable=False),
    Column("process", Text, nullable=False),
    Column("seen_at", Float, nullable=False),  # unix seconds, for display
)

# A job that is being cancelled does not stand in the way of the same spec submitted anew.
ALIVE = and_(job.c.state.in_(("queued", "running")), job.c.cancel_requested == false())
Index("job_alive", job.c.digest, unique=True, sqlite_where=ALIVE, postgresql_where=ALIVE)
LEFT_RUNNING = job.c.child_process.is_not(None)
Index("job_child", job.c.id, sqlite_where=LEFT_RUNNING, postgresql_where=LEFT_RUNNING)
Index("job_newest", job.c.created_at.desc(), job.c.turn.desc())
Index("job_queue", job.c.state, job.c.priority.desc(), job.c.turn)


def open_store(url: str | None = None) -> Engine:
    """The database at `url`, STILLROOM_DB or home()/stillroom.db, with its tables; one engine a URL in this process.

    StateUnavailable if it cannot be opened, StateDamaged if it is not a database, Refused if a newer Stillroom made it.
    """
    url = url or os.environ.get("STILLROOM_DB")
    return _open(_parse_url(url) if url else URL.create("sqlite", database=str(home() / "stillroom.db")))


def _parse_url(url: str) -> URL:
    try:
        return make_url(url)
    except ArgumentError:
        raise Unavailable("STILLROOM_DB is not a database URL.", next_step=_SAY_URL) from None


_SAY_URL = "Write it as sqlite:////absolute/path.db or postgresql+psycopg://user@host/name, or unset STILLROOM_DB."


@functools.lru_cache
def _open(url: URL) -> Engine:
    shown = url.render_as_string(hide_password=True)
    try:
        store = _engine(url)
        _make_tables(store)
    except (NoSuchModuleError, ModuleNotFoundError) as error:
        raise Unavailable(f"There is no driver for {shown} ({error}).", next_step=_SAY_URL) from None
    return store


def _engine(url: URL) -> Engine:
    if url.get_backend_name() == "postgresql":
        return create_engine(url, pool_pre_ping=True, hide_parameters=True)
    if url.get_backend_name() != "sqlite":
        raise Refused(f"STILLROOM_DB names {url.get_backend_name()}; allowed: sqlite, postgresql.", next_step=_SAY_URL)
    patience = {} if "timeout" in url.query else {"timeout": BUSY_S}
    store = create_engine(url, connect_args=patience, hide_parameters=True)  # no error quotes what was being written
    event.listen(store, "connect", _settings)
    event.listen(store, "begin", _begin)
    return store


def journal(version: tuple[int, int, int] = sqlite3.sqlite_version_info) -> tuple[str, str]:
    """(journal_mode, synchronous) that keep every commit of a power cut with this SQLite.

    Write-ahead logging is faster, but up to 3.51.2 it can corrupt a database that several processes write; fixed in
    3.51.3, 3.50.7 and 3.44.6.
    """
    fixed = version >= (3, 51, 3) or (3, 50, 7) <= version < (3, 51) or (3, 44, 6) <= version < (3, 45)
    return ("WAL", "FULL") if fixed else ("TRUNCATE", "EXTRA")


def _settings(raw: sqlite3.Connection, _record: object) -> None:
    raw.isolation_level = None  # _begin says when a transaction begins
    mode, synchronous = journal()
    for pragma in ("foreign_keys=ON", f"journal_mode={mode}", f"synchronous={synchronous}"):
        raw.execute(f"PRAGMA {pragma}")


def _begin(connection: Connection) -> None:
    reading = connection.get_execution_options().get("reading", False)
    connection.exec_driver_sql(f"PRAGMA query_only={int(reading)}")
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


def _make_tables(store: Engine) -> None:
    if store.dialect.name == "sqlite" and read(store, _version) == SCHEMA:
        return
    write(store, _create)


def _create(connection: Connection) -> None:
    """Make the tables that are not there; that is also all that older schemas lack, so their rows stay as they are."""
    if connection.dialect.name == "sqlite":
        if (found := _version(connection)) > SCHEMA:
            raise Refused(
                f"The database has schema {found}; this Stillroom knows schemas up to {SCHEMA}.",
                next_step="Update Stillroom, or point STILLROOM_HOME at another folder.",
            )
        if 0 < found < SCHEMA:
            _keep_copy(connection, found)
        connection.exec_driver_sql(f"PRAGMA user_version={SCHEMA}")
    metadata.create_all(connection)


def _keep_copy(connection: Connection, found: int) -> None:
    """The database as an older Stillroom left it, beside it; under the write lock, so nothing is missing in it."""
    path = connection.exec_driver_sql("PRAGMA database_list").first().file
    try:
        # SQLite does not copy from a connection that may write; another one may read meanwhile.
        with closing(sqlite3.connect(path)) as current, closing(sqlite3.connect(f"{path}.schema-{found}")) as copy:
            current.backup(copy)
    except sqlite3.Error as error:
        step = "Make room beside it and try again; the database has not been changed."
        raise Unavailable(f"{path} has schema {found} and cannot be copied ({error}).", next_step=step) from None


def _version(connection: Connection) -> int:
    return connection.exec_driver_sql("PRAGMA user_version").scalar_one()


def write(store: Engine, work: Callable[[Connection], T], *, patience_s: float = PATIENCE_S) -> T:
    """work(connection) in one transaction that is written whole or not at all; its answer.

    Tried again from the start, with jitter, while others hold the lock, for `patience_s`. StateUnavailable if they
    still do, or if the database cannot be used otherwise; StateDamaged if it is damaged.
    """
    return _patiently(store, work, patience_s)


def read(store: Engine, work: Callable[[Connection], T]) -> T:
    """work(connection) on one consistent view, without the write lock; writing there is an error."""
    return _patiently(store.execution_options(reading=True), work, PATIENCE_S)


def _patiently(store: Engine, work: Callable[[Connection], T], patience_s: float) -> T:
    deadline = time.monotonic() + patience_s
    while True:
        try:
            with store.begin() as connection:
                return work(connection)
        except (DatabaseError, sqlite3.DatabaseError) as error:  # the second kind: while a connection is made
            if not _is_busy(error) or time.monotonic() >= deadline:
                raise _explained(store, error) or error from None
        time.sleep(random.uniform(0.005, 0.1))


def _is_busy(error: Exception) -> bool:
    code = getattr(getattr(error, "orig", error), "sqlite_errorcode", 0) & 0xFF  # the low byte is the primary code
    return code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _explained(store: Engine, error: Exception) -> StateError | None:
    """What a person can do about an error of the database itself; None for one of what was asked of it."""
    shown = store.url.render_as_string(hide_password=True)
    reason = " ".join(str(getattr(error, "orig", error)).split())  # without the SQL
    if isinstance(error, OperationalError | sqlite3.OperationalError):
        step = _SAY_LOCKED if _is_busy(error) else _SAY_PLACE
        return StateUnavailable(f"The database {shown} cannot be used: {reason}.", next_step=step)
    if type(error) in (DatabaseError, sqlite3.DatabaseError):
        return StateDamaged(f"The database {shown} cannot be read: {reason}.", next_step=_SAY_DAMAGED)
    return None


_SAY_LOCKED = "Another program holds it: wait for that, or end it. STILLROOM_HOME or STILLROOM_DB names another one."
_SAY_PLACE = (
    "See that its folder is there, has room and may be written to by this user; or name another place: a folder in "
    "STILLROOM_HOME, or a database URL in STILLROOM_DB, such as sqlite:////absolute/path.db."
)
_SAY_DAMAGED = (
    "Restore it from a backup, or move it away: a new one is made, and run folders stay as they are. STILLROOM_HOME or "
    "STILLROOM_DB names another one."
)
