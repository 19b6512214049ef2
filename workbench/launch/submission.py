"""From a spec or a chain to jobs in the queue: references are checked where they were written, then all is submitted.

A job is looked at under the name of its step; one that is no step of a chain has the name "".
"""

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from trainer import datasets, fit, queue, zoo
from trainer.chain import WITHOUT_MODEL, Chain, replaced
from trainer.errors import BadSpec, StillroomError, Unavailable
from trainer.fit import Model
from trainer.home import StateError
from trainer.queue import Job
from trainer.spec import JobSpec, parse
from workbench.launch.wording import over

POLL_S = 0.5


class Looked(NamedTuple):
    """A spec whose references were looked up: those that are here, what stands in the way of the job, and what of its
    data set and models is known.
    """

    references: Mapping[str, str]  # by dotted field
    problems: tuple[tuple[str, str], ...]  # (dotted field, what is wrong)
    data: datasets.Report | None
    start: Model | None
    teacher: Model | None


NOTHING = Looked({}, (), None, None, None)  # where there is no spec to look at


def look(spec: JobSpec, steps: Mapping[str, Model] = MappingProxyType({}), *, most_bytes: float = math.inf) -> Looked:
    """Everything that the run would refuse too (trainer.fit), before anything is queued.

    steps: by name the models that earlier steps of a chain promise, for "@name". most_bytes: a data set of more is not
    read, because a person waits.
    """
    found, wrong = {}, []
    for each in {each.field: each for each in spec.references()}.values():  # a teacher may be the start too
        try:
            found[each.field] = _model(each.name) if each.kind == "model" else _dataset(each.name)
        except StateError:
            raise
        except StillroomError as error:
            wrong.append((each.field, str(error)))
    missing = {field for field, _ in wrong}

    def known(name: str | None, *fields: str) -> Model | None:
        return None if name is None or missing.intersection(fields) else _known(name, steps)

    start = known(spec.start, fit.base_field(spec))
    teacher = known(spec.teacher, "teacher")
    others = [known(name, f"model.{place}") for place, name in enumerate(spec.others, 1)]
    data = unlabelled = None
    if "dataset" not in missing:
        data = fit.survey(spec, datasets.resolve(spec.dataset), start, most_bytes=most_bytes)
    if spec.unlabelled and "recipe.unlabelled" not in missing:
        unlabelled = datasets.resolve(spec.unlabelled)
    wrong += fit.problems(spec, data=data, start=start, teacher=teacher, others=others, unlabelled=unlabelled)
    return Looked(found, tuple(wrong), data, start, teacher)


def settled(spec: JobSpec, looked: Looked | None = None) -> JobSpec:
    """The spec with references that are here, folders as absolute paths: a worker runs in another folder, and later.

    A run may still be queued or running, and "@name" stays. BadSpec names everything that stands in the way, for the
    submitter to correct and not for the worker to find.
    """
    looked = looked or look(spec)
    if looked.problems:
        raise BadSpec(looked.problems)
    return replaced(spec, looked.references)


def settled_chain(given: Chain) -> Chain:
    """The same of every step; what a step promises to make is known to the steps after it."""
    names = {id(step.spec): step.name for step in given.steps}
    steps: dict[str, Model] = {}

    def settle(spec: JobSpec) -> JobSpec:
        looked, name = look(spec, steps), names[id(spec)]
        if spec.kind not in WITHOUT_MODEL:
            steps[name] = fit.promised(spec, f"@{name}", looked.data, looked.start, looked.teacher)
        return settled(spec, looked)

    return given.each(settle)


def submit(given: JobSpec | Chain) -> dict[str, Job]:
    """Submit what a file holds, settled; the jobs by step name, in order."""
    if isinstance(given, Chain):
        return queue.submit_chain(settled_chain(given))
    return {"": queue.submit(settled(given))}


def wait(steps: Mapping[str, Job], *, view: Callable[[str, Job], None]) -> dict[str, Job]:
    """The jobs when all have ended; `view` gets name and job whenever state or percentage of one has changed."""
    seen = {}
    while True:
        steps = {name: queue.job(job.id) for name, job in steps.items()}
        for name, job in steps.items():
            if seen.get(name) != (now := (job.state, round(job.progress, 2))):
                seen[name] = now
                view(name, job)
        if all(map(over, steps.values())):
            return steps
        time.sleep(POLL_S)


def document(steps: Mapping[str, Job], *, whole: bool) -> dict:
    """{"id"} of the last job, or with `whole` all about it; a chain has {"ids"} of every step too."""
    last = list(steps.values())[-1]
    ids = {} if "" in steps else {"ids": {name: job.id for name, job in steps.items()}}
    return (last.to_json() if whole else {"id": last.id}) | ids


def _model(reference: str) -> str:
    if reference.startswith("@") or _is_coming(reference):
        return reference
    path = zoo.resolve(reference).path
    return path if zoo.local(reference) else reference


def _known(reference: str, steps: Mapping[str, Model]) -> Model | None:
    """What is known of a model that is here, or that a step or a run will make."""
    if reference.startswith("@"):
        return steps.get(reference[1:])
    if not _is_coming(reference):
        return fit.model(zoo.resolve(reference))
    spec = parse(queue.job(reference).spec)
    try:
        looked = look(spec)
    except StillroomError:
        return None
    return fit.promised(spec, reference, looked.data, looked.start, looked.teacher)


def _is_coming(reference: str) -> bool:
    """Whether this is a run that has not ended; Unavailable if there will be no model when it has."""
    if not zoo.RUN_ID.fullmatch(reference) or over(job := queue.job(reference)):
        return False
    if job.kind in WITHOUT_MODEL:
        what = f"Run {reference} will leave no model behind: its kind is {job.kind}."
        raise Unavailable(what, next_step="Choose a run that trains one.")
    return True


def _dataset(reference: str) -> str:
    path = datasets.resolve(reference).path
    return path if reference not in datasets.cards() and Path(path).is_absolute() else reference
