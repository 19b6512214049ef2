"""The database: where it is, its tables, and its two kinds of transaction.

SQLite unless STILLROOM_DB names another database. A write transaction takes the write lock first (BEGIN IMMEDIATE), so
a read is never upgraded to a write, which SQLite refuses without waiting. A read transaction is deferred and cannot
write, so pages never block a worker. The journal mode depends on the SQLite version, because of the WAL-reset bug
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
PATIENCE_S = 60.0  # how long a transaction is retried beyond that: SQLite does not grant locks in order

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
    Column("turn", Integer, nullable=False),  # first come, first served; independent of the clock
    Column("not_before", Float, nullable=False, default=0.0),  # unix seconds; backoff only
    Column("cancel_requested", Boolean, nullable=False, default=False),
    Column("token", Integer, nullable=False, default=0),  # grows with every claim; fences off late workers
    Column("beat", Integer, nullable=False, default=0),  # grows with every renewal; observers measure its silence
    Column("attempts", Integer, nullable=False, default=0),  # claims that were not handed back
    Column("strikes", Integer, nullable=False, default=0),  # claims since the last new checkpoint
    Column("checkpoint", Integer, nullable=False, default=0),  # highest committed step
    Column("worker", Text),
    Column("worker_process", Text),
    Column("child_process", Text),
    Column("step", Integer, nullable=False, default=0),
    Column("steps", Integer),
    Column("rate", Float),  # recent steps per second
    Column("message", Text),
    Column("metrics", _json, nullable=False, default=dict),
    Column("artifact", Text),  # relative to STILLROOM_HOME; older versions wrote absolute paths
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
    Column("value", Float),  # null for a number that is not finite
)
needs = Table(
    "needs",
    metadata,
    Column("job_id", Text, ForeignKey("job.id", ondelete="CASCADE"), primary_key=True),
    Column("needed_id", Text, ForeignKey("job.id", ondelete="CASCADE"), primary_key=True),  # must succeed first
    Index("needs_needed", "needed_id"),
)
input = Table(
    "input",
    metadata,
    Column("job_id", Text, ForeignKey("job.id", ondelete="CASCADE"), primary_key=True),
    Column("name", Text, primary_key=True),  # model | others.0 ... | teacher | dataset | unlabelled
    Column("value", _json, nullable=False),  # a trainer.resolved.Input; its path as home.portable writes it
)
worker = Table(
    "worker",
    metadata,
    Column("id", Text, primary_key=True),  # random: host names and process ids are reused
    Column("name", Text, nullable=False),
    Column("device", Text, nullable=False),
    Column("process", Text, nullable=False),
    Column("seen_at", Float, nullable=False),  # unix seconds, for display
)

# A job that is being cancelled does not prevent its spec from being submitted again.
ALIVE = and_(job.c.state.in_(("queued", "running")), job.c.cancel_requested == false())
LEFT_RUNNING = job.c.child_process.is_not(None)
_PARTIAL = [
    (Index("job_alive", job.c.digest, unique=True, sqlite_where=ALIVE), ALIVE),
    (Index("job_child", job.c.id, sqlite_where=LEFT_RUNNING), LEFT_RUNNING),
]
Index("job_newest", job.c.created_at.desc(), job.c.turn.desc())
Index("job_queue", job.c.state, job.c.priority.desc(), job.c.turn)


def open_store(url: str | None = None) -> Engine:
    """The database at `url`, STILLROOM_DB or home()/stillroom.db, with its tables; one engine per URL in this process.

    Raises StateUnavailable if it cannot be opened, StateDamaged if it is not a database, and Refused if it was made by
    a newer Stillroom.
    """
    url = url or os.environ.get("STILLROOM_DB")
    return _open(_parse_url(url) if url else URL.create("sqlite", database=str(home() / "stillroom.db")))


def _parse_url(url: str) -> URL:
    try:
        return make_url(url)
    except ArgumentError:
        raise Unavailable("STILLROOM_DB is not a database URL.", next_step=_FIX_URL) from None


_FIX_URL = "Write it as sqlite:////absolute/path.db or postgresql+psycopg://user@host/name, or unset STILLROOM_DB."


@functools.lru_cache
def _open(url: URL) -> Engine:
    shown = url.render_as_string(hide_password=True)
    try:
        store = _engine(url)
        _make_tables(store)
    except (NoSuchModuleError, ModuleNotFoundError) as error:
        raise Unavailable(f"There is no driver for {shown} ({error}).", next_step=_FIX_URL) from None
    return store


def _engine(url: URL) -> Engine:
    if url.get_backend_name() == "postgresql":
        for index, where in _PARTIAL:  # not when they are made: naming a dialect there would import it
            index.dialect_options["postgresql"]["where"] = where
        return create_engine(url, pool_pre_ping=True, hide_parameters=True)
    if url.get_backend_name() != "sqlite":
        raise Refused(f"STILLROOM_DB names {url.get_backend_name()}; allowed: sqlite, postgresql.", next_step=_FIX_URL)
    patience = {} if "timeout" in url.query else {"timeout": BUSY_S}
    store = create_engine(url, connect_args=patience, hide_parameters=True)  # errors do not quote parameters
    event.listen(store, "connect", _settings)
    event.listen(store, "begin", _begin)
    return store


def journal(version: tuple[int, int, int] = sqlite3.sqlite_version_info) -> tuple[str, str]:
    """The (journal_mode, synchronous) with which this SQLite keeps every commit through a power cut.

    Write-ahead logging is faster, but up to 3.51.2 it can corrupt a database that several processes write to; fixed in
    3.51.3, 3.50.7 and 3.44.6.
    """
    fixed = version >= (3, 51, 3) or (3, 50, 7) <= version < (3, 51) or (3, 44, 6) <= version < (3, 45)
    return ("WAL", "FULL") if fixed else ("TRUNCATE", "EXTRA")


def _settings(raw: sqlite3.Connection, _record: object) -> None:
    raw.isolation_level = None  # _begin starts transactions
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
    """Create the missing tables. Older schemas lack tables only, so their rows stay unchanged."""
    if connection.dialect.name == "sqlite":
        if (version := _version(connection)) > SCHEMA:
            raise Refused(
                f"The database has schema {version}; this Stillroom knows schemas up to {SCHEMA}.",
                next_step="Update Stillroom, or point STILLROOM_HOME at another folder.",
            )
        if 0 < version < SCHEMA:
            _back_up(connection, version)
        connection.exec_driver_sql(f"PRAGMA user_version={SCHEMA}")
    metadata.create_all(connection)


def _back_up(connection: Connection, version: int) -> None:
    """Copy the database of an older Stillroom next to it; called under the write lock, so the copy is complete."""
    path = connection.exec_driver_sql("PRAGMA database_list").one().file
    try:
        # SQLite cannot copy from a connection with a write transaction; another connection can read meanwhile.
        with closing(sqlite3.connect(path)) as current, closing(sqlite3.connect(f"{path}.schema-{version}")) as copy:
            current.backup(copy)
    except sqlite3.Error as error:
        step = "Free some space there and try again; the database has not been changed."
        raise Unavailable(f"{path} has schema {version} and cannot be copied ({error}).", next_step=step) from None


def _version(connection: Connection) -> int:
    version: int = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
    return version


def write(store: Engine, work: Callable[[Connection], T], *, patience_s: float = PATIENCE_S) -> T:
    """Run work(connection) in one atomic transaction and return its result.

    While others hold the lock, it is retried from the start, with jitter, for `patience_s`. Raises StateUnavailable if
    they still do then, or if the database cannot be used for another reason; StateDamaged if it is damaged.
    """
    return _with_retries(store, work, patience_s)


def read(store: Engine, work: Callable[[Connection], T]) -> T:
    """Run work(connection) on one consistent snapshot, without the write lock; writing there is an error."""
    return _with_retries(store.execution_options(reading=True), work, PATIENCE_S)


def _with_retries(store: Engine, work: Callable[[Connection], T], patience_s: float) -> T:
    deadline = time.monotonic() + patience_s
    while True:
        try:
            with store.begin() as connection:
                return work(connection)
        except (DatabaseError, sqlite3.DatabaseError) as error:  # the second type: while connecting
            if not _is_busy(error) or time.monotonic() >= deadline:
                raise _explained(store, error) or error from None
        time.sleep(random.uniform(0.005, 0.1))


def _is_busy(error: Exception) -> bool:
    code = getattr(getattr(error, "orig", error), "sqlite_errorcode", 0) & 0xFF  # the low byte is the primary code
    return code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _explained(store: Engine, error: Exception) -> StateError | None:
    """The error to show for a fault of the database itself; None for a fault of the statement."""
    shown = store.url.render_as_string(hide_password=True)
    reason = " ".join(str(getattr(error, "orig", error)).split())  # without the SQL
    if isinstance(error, OperationalError | sqlite3.OperationalError):
        step = _FIX_LOCKED if _is_busy(error) else _FIX_PLACE
        return StateUnavailable(f"The database {shown} cannot be used: {reason}.", next_step=step)
    if type(error) in (DatabaseError, sqlite3.DatabaseError):
        return StateDamaged(f"The database {shown} cannot be read: {reason}.", next_step=_FIX_DAMAGED)
    return None


_FIX_LOCKED = (
    "Another program has locked it: wait for that program, or end it. STILLROOM_HOME or STILLROOM_DB selects another."
)
_FIX_PLACE = (
    "Check that its folder exists, has free space and is writable for this user; or choose another place: a folder in "
    "STILLROOM_HOME, or a database URL in STILLROOM_DB, such as sqlite:////absolute/path.db."
)
_FIX_DAMAGED = (
    "Restore it from a backup, or move it away: a new one is created, and run folders are not changed. STILLROOM_HOME "
    "or STILLROOM_DB selects another."
)
