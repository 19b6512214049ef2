"""What a job is made of, fixed by content: the models and data of its spec with the hashes they had when it was queued.

What cannot be found at that time, such as the model of a run that has still to end, is fixed by the first attempt.
Every attempt compares what it finds with that, so that a run never goes on with other data or another base.
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from sqlalchemy import Connection, Engine, insert, select

from trainer.errors import CorruptFile, Refused, StillroomError
from trainer.home import StateError, home, portable, present
from trainer.queue.store import input as inputs_table
from trainer.queue.store import read, write
from trainer.resolved import Input, ResolvedDataset, ResolvedModel
from trainer.run import attempts, runs_dir
from trainer.spec import JobSpec

_DATA = ("dataset", "unlabelled")


def resolve(spec: JobSpec) -> dict[str, Input]:
    """All that a spec references, as it is now. Raises what is wrong with a reference."""
    return {each.input: _resolve(each.input, each.name) for each in spec.references()}


def there(spec: JobSpec) -> dict[str, Input]:
    """What of it can be found now; the job will say what is wrong with the rest, unless that is still to be made."""
    resolved = {}
    for each in spec.references():
        try:
            resolved[each.input] = _resolve(each.input, each.name)
        except StateError:
            raise
        except (StillroomError, OSError):
            continue
    return resolved


def fix(connection: Connection, job_id: str, inputs: Mapping[str, Input]) -> None:
    """Keep what a job is made of, where that is not fixed yet."""
    old = _fixed(connection, job_id)
    new = {name: each.placed(portable, home()) for name, each in inputs.items() if name not in old}
    rows = [{"job_id": job_id, "name": name, "value": each.model_dump(mode="json")} for name, each in new.items()]
    if rows:
        connection.execute(insert(inputs_table), rows)


def of_attempt(spec: JobSpec, job_id: str, store: Engine) -> dict[str, Input]:
    """All that a job references, for an attempt at it. CorruptFile where that is not what the job is made of.

    Raises what is wrong with a reference, too.
    """
    before = read(store, lambda connection: known(connection, job_id))
    now = {each.input: _again(each.input, each.name, before.get(each.input)) for each in spec.references()}
    if changes := list(_changes(before, now)):
        fresh = f"`stillroom retry {job_id} --fresh`, or submit the chain again that it is a step of"
        next_step = f"Restore the files, or start anew with those of now: {fresh}."
        raise CorruptFile(" ".join(changes), next_step=next_step)
    write(store, lambda connection: fix(connection, job_id, now))
    return now


def same(connection: Connection, job_id: str, inputs: Mapping[str, Input]) -> bool:
    """Whether a job is made of these inputs, as far as both are known."""
    return not any(_changes(known(connection, job_id), inputs))


def refuse_others(connection: Connection, job_id: str, inputs: Mapping[str, Input]) -> None:
    """Refused where a job of the same spec that is not over was queued with other inputs."""
    if changes := list(_changes(known(connection, job_id), inputs)):
        what = f"Job {job_id} has the same spec and is not over yet. {' '.join(changes)}"
        raise Refused(what, next_step="Cancel it first, or wait for its end; then submit again. Nothing was queued.")


def known(connection: Connection, job_id: str) -> dict[str, Input]:
    """What a job is made of, as far as that is fixed; of an older version's job, what its first attempt was given."""
    fixed = _fixed(connection, job_id)
    return fixed or _of_first_attempt(job_id)


def _of_first_attempt(job_id: str) -> dict[str, Input]:
    for run in attempts(runs_dir(), job_id)[-1:]:
        with suppress(OSError, ValueError):  # no spec.json, or one that was torn
            return run.spec.inputs
    return {}


def _fixed(connection: Connection, job_id: str) -> dict[str, Input]:
    query = select(inputs_table.c.name, inputs_table.c.value).where(inputs_table.c.job_id == job_id)
    rows = connection.execute(query).all()
    return {row.name: _type(row.name).model_validate(row.value).placed(present, home()) for row in rows}


def _type(name: str) -> type[Input]:
    return ResolvedDataset if name in _DATA else ResolvedModel


def _resolve(name: str, reference: str) -> Input:
    from trainer import datasets, zoo  # numpy: who only looks at jobs does not wait for it

    return datasets.resolve(reference) if name in _DATA else zoo.resolve(reference)


def _again(name: str, reference: str, before: Input | None) -> Input:
    """What a reference means; a folder that moved together with the state or the checkout is taken where it is now."""
    try:
        return _resolve(name, reference)
    except StillroomError:
        if before is None or not Path(before.path).is_absolute() or not Path(before.path).exists():
            raise
        return _resolve(name, before.path).model_copy(update={"reference": reference})


def _changes(before: Mapping[str, Input], now: Mapping[str, Input]) -> Iterator[str]:
    """A sentence for each input that has changed: which, and which of its files."""
    for name, old in before.items():
        if name in now and (old.sha256 != now[name].sha256 or (old.files and old.files != now[name].files)):
            what = "data set" if name in _DATA else "teacher" if name == "teacher" else "model"
            files = _differences(old.files, now[name].files)
            yield f"The {what} {old.reference!r} has changed since this job began: {files}."


def _differences(old: Mapping[str, str], new: Mapping[str, str]) -> str:
    """Which files are other ones. Run folders of older versions do not know."""
    changed = [name for name in old if name in new and old[name] != new[name]]
    listed = [(changed, "differs"), ([*(old.keys() - new.keys())], "is gone"), ([*(new.keys() - old.keys())], "is new")]
    phrases = [f"{', '.join(sorted(names))} {how}" for names, how in listed if names]
    return "; ".join(phrases) if old and phrases else "its files are not the same"
