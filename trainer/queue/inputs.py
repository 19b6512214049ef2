"""The inputs of a job: the models and data that its spec refers to, with their hashes at the time it was queued.

An input that does not exist yet, such as the model of a run that has not ended, is recorded by the first attempt. Every
attempt compares its inputs with the record, so that a run never continues with changed data or a changed base.
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, Engine, insert, select

from trainer.errors import CorruptFile, Refused, StillroomError
from trainer.home import StateError, home, portable, present, runs_dir
from trainer.queue.store import input as inputs_table
from trainer.queue.store import read, write
from trainer.resolved import Input, ResolvedDataset, ResolvedModel

if TYPE_CHECKING:
    from trainer.spec import JobSpec

_DATASETS = ("dataset", "unlabelled")


def resolve(spec: "JobSpec") -> dict[str, Input]:
    """Every input of a spec as it is now, by name. Raises the error of the first reference that cannot be resolved."""
    return {each.input: _resolve(each.input, each.name) for each in spec.references()}


def resolve_available(spec: "JobSpec") -> dict[str, Input]:
    """The inputs of a spec that exist now, by name. Those that are still missing when the job runs are reported."""
    resolved = {}
    for each in spec.references():
        try:
            resolved[each.input] = _resolve(each.input, each.name)
        except StateError:
            raise
        except (StillroomError, OSError):
            continue
    return resolved


def record(connection: Connection, job_id: str, inputs: Mapping[str, Input]) -> None:
    """Record the inputs of a job that are not recorded yet."""
    earlier = _recorded(connection, job_id)
    new = {name: each.placed(portable, home()) for name, each in inputs.items() if name not in earlier}
    rows = [{"job_id": job_id, "name": name, "value": each.model_dump(mode="json")} for name, each in new.items()]
    if rows:
        connection.execute(insert(inputs_table), rows)


def resolve_for_attempt(spec: "JobSpec", job_id: str, store: Engine) -> dict[str, Input]:
    """Every input of a job, by name, for a new attempt; records those that are not recorded yet.

    Raises CorruptFile if an input has changed since it was recorded, and the errors of `resolve`.
    """
    before = read(store, lambda connection: recorded(connection, job_id))
    current = {each.input: _resolve_again(each.input, each.name, before.get(each.input)) for each in spec.references()}
    if changes := list(_changes(before, current)):
        fresh = f"`stillroom retry {job_id} --fresh`, or submit its chain again"
        next_step = f"Restore the files, or start again with the current ones: {fresh}."
        raise CorruptFile(" ".join(changes), next_step=next_step)
    write(store, lambda connection: record(connection, job_id, current))
    return current


def unchanged(connection: Connection, job_id: str, inputs: Mapping[str, Input]) -> bool:
    """Whether these are the inputs of a job, as far as both are known."""
    return not any(_changes(recorded(connection, job_id), inputs))


def refuse_changed(connection: Connection, job_id: str, inputs: Mapping[str, Input]) -> None:
    """Raise Refused if an unfinished job of the same spec was queued with different inputs."""
    if changes := list(_changes(recorded(connection, job_id), inputs)):
        what = f"Job {job_id} has the same spec and has not ended. {' '.join(changes)}"
        raise Refused(what, next_step="Cancel it, or wait until it ends; then submit again. Nothing was queued.")


def recorded(connection: Connection, job_id: str) -> dict[str, Input]:
    """The recorded inputs of a job, by name; for a job of an older version, those of its first attempt."""
    return _recorded(connection, job_id) or _of_first_attempt(job_id)


def _of_first_attempt(job_id: str) -> dict[str, Input]:
    from trainer.run import attempts

    for run in attempts(runs_dir(), job_id)[-1:]:
        with suppress(OSError, ValueError):  # no spec.json, or an incomplete one
            return run.spec.inputs
    return {}


def _recorded(connection: Connection, job_id: str) -> dict[str, Input]:
    query = select(inputs_table.c.name, inputs_table.c.value).where(inputs_table.c.job_id == job_id)
    rows = connection.execute(query).all()
    return {row.name: _type(row.name).model_validate(row.value).placed(present, home()) for row in rows}


def _type(name: str) -> type[Input]:
    return ResolvedDataset if name in _DATASETS else ResolvedModel


def _resolve(name: str, reference: str) -> Input:
    from trainer import datasets, zoo  # they import numpy, which listing jobs does not need

    return datasets.resolve(reference) if name in _DATASETS else zoo.resolve(reference)


def _resolve_again(name: str, reference: str, before: Input | None) -> Input:
    """What a reference means now, also if its folder has moved together with the state folder or the checkout."""
    try:
        return _resolve(name, reference)
    except StillroomError:
        if before is None or not Path(before.path).is_absolute() or not Path(before.path).exists():
            raise
        return _resolve(name, before.path).model_copy(update={"reference": reference})


def _changes(before: Mapping[str, Input], current: Mapping[str, Input]) -> Iterator[str]:
    """One sentence per changed input: which input, and which of its files."""
    for name, old in before.items():
        new = current.get(name)
        if new and (old.sha256 != new.sha256 or (old.files and old.files != new.files)):
            what = "data set" if name in _DATASETS else "teacher" if name == "teacher" else "model"
            files = _differences(old.files, new.files)
            yield f"The {what} {old.reference!r} has changed since this job began: {files}."


def _differences(old: Mapping[str, str], new: Mapping[str, str]) -> str:
    """Which files have changed. The records of older versions have no files."""
    changed = [name for name in old if name in new and old[name] != new[name]]
    listed = [(changed, "differs"), ([*(old.keys() - new.keys())], "is gone"), ([*(new.keys() - old.keys())], "is new")]
    phrases = [f"{', '.join(sorted(names))} {how}" for names, how in listed if names]
    return "; ".join(phrases) if old and phrases else "its files are not the same"
