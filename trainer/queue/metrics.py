"""Metric rows: one value per job, step and name. A step that is replayed after a resume overwrites its rows."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine, select

from trainer.queue.store import metric, open_store, read

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql, sqlite


def record(connection: Connection, job_id: str, rows: Mapping[tuple[int, str], float | None]) -> None:
    """Write rows {(step, name): value} in the caller's transaction, replacing existing ones.

    A value that is not finite is stored as null, the only way to express it in SQL and JSON.
    """
    if not rows:
        return
    insert = _insert_for(connection.dialect.name)
    upsert = insert.on_conflict_do_update(
        index_elements=[metric.c.job_id, metric.c.step, metric.c.name], set_={"value": insert.excluded.value}
    )
    values = [
        {"job_id": job_id, "step": step, "name": name, "value": finite(value)} for (step, name), value in rows.items()
    ]
    connection.execute(upsert, values)


def _insert_for(dialect: str) -> "postgresql.Insert | sqlite.Insert":
    """An insertion that can replace rows. Only the dialect that is used is imported: that takes 20 ms."""
    if dialect == "postgresql":
        from sqlalchemy.dialects import postgresql

        return postgresql.insert(metric)
    from sqlalchemy.dialects import sqlite

    return sqlite.insert(metric)


def history(job_id: str, *, store: Engine | None = None) -> list[dict[str, Any]]:
    """Every metric row of a job as {"step", "name", "value"}, by step and name; value is None if it was not finite."""
    query = select(metric.c.step, metric.c.name, metric.c.value).where(metric.c.job_id == job_id)
    query = query.order_by(metric.c.step, metric.c.name)
    return read(store or open_store(), lambda connection: [dict(row) for row in connection.execute(query).mappings()])


def finite(value: float | None) -> float | None:
    """The value as a float, or None if it is not a finite number."""
    return float(value) if value is not None and math.isfinite(value) else None
