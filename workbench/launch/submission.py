"""From a spec or a chain to jobs in the queue: references are resolved in the submitter's folder, then all are queued.

Jobs are keyed by the name of their step; a job outside a chain has the name "".
"""

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from trainer import datasets, fit, queue, zoo
from trainer.chain import WITHOUT_MODEL, Chain, replaced
from trainer.errors import BadSpec, StillroomError, Unavailable
from trainer.fit import Model
from trainer.home import StateError
from trainer.queue import Job
from trainer.spec import JobSpec, parse
from workbench.launch.wording import has_ended

POLL_S = 0.5


class Inspection(NamedTuple):
    """What is known of a spec before it is queued: its resolved references, problems, data set and models."""

    references: Mapping[str, str]  # by dotted field
    problems: tuple[tuple[str, str], ...]  # (dotted field, what is wrong)
    data: datasets.Report | None
    start: Model | None
    teacher: Model | None


NO_INSPECTION = Inspection({}, (), None, None, None)  # where the form holds no valid spec


def inspect(
    spec: JobSpec, steps: Mapping[str, Model] = MappingProxyType({}), *, most_bytes: float = math.inf
) -> Inspection:
    """Find every problem that the run would report (trainer.fit), before anything is queued.

    steps: the models that earlier steps of a chain will make, by name, for "@name". most_bytes: a larger data set is
    not read, because a person is waiting.
    """
    references, wrong = {}, []
    for each in {each.field: each for each in spec.references()}.values():  # a teacher may be the start too
        try:
            references[each.field] = _model(each.name) if each.kind == "model" else _dataset(each.name)
        except StateError:
            raise
        except StillroomError as error:
            wrong.append((each.field, str(error)))
    missing = {field for field, _ in wrong}

    def known(name: str | None, *fields: str) -> Model | None:
        return None if name is None or missing.intersection(fields) else _look_up(name, steps)

    start = known(spec.start, fit.base_field(spec))
    teacher = known(spec.teacher, "teacher")
    others = [known(name, f"model.{place}") for place, name in enumerate(spec.others, 1)]
    data = unlabelled = None
    if "dataset" not in missing:
        data = fit.survey(spec, datasets.resolve(spec.dataset), start, most_bytes=most_bytes)
    if spec.unlabelled and "recipe.unlabelled" not in missing:
        unlabelled = datasets.resolve(spec.unlabelled)
    wrong += fit.find_problems(spec, data=data, start=start, teacher=teacher, others=others, unlabelled=unlabelled)
    return Inspection(references, tuple(wrong), data, start, teacher)


def resolve_references(spec: JobSpec, inspection: Inspection | None = None) -> JobSpec:
    """The spec with its references checked and its folders as absolute paths, since a worker runs in another folder.

    A run may still be queued or running, and "@name" stays. Raises BadSpec with every problem, so that the submitter
    and not the worker finds them.
    """
    inspection = inspection or inspect(spec)
    if inspection.problems:
        raise BadSpec(inspection.problems)
    return replaced(spec, inspection.references)


def resolve_chain(chain: Chain) -> Chain:
    """resolve_references for each step; a step knows the models that earlier steps will make."""
    names = {id(step.spec): step.name for step in chain.steps}
    steps: dict[str, Model] = {}

    def resolve(spec: JobSpec) -> JobSpec:
        inspection, name = inspect(spec, steps), names[id(spec)]
        if spec.kind not in WITHOUT_MODEL:
            steps[name] = fit.foresee_model(spec, f"@{name}", inspection.data, inspection.start, inspection.teacher)
        return resolve_references(spec, inspection)

    return chain.each(resolve)


def submit(request: JobSpec | Chain) -> dict[str, Job]:
    """Resolve and queue a spec or a chain; returns the jobs by step name, in order. Raises BadSpec for any problem."""
    if isinstance(request, Chain):
        return queue.submit_chain(resolve_chain(request))
    return {"": queue.submit(resolve_references(request))}


def wait(steps: Mapping[str, Job], *, view: Callable[[str, Job], None]) -> dict[str, Job]:
    """Wait until all jobs have ended; `view` gets name and job at each change of state or percentage."""
    seen: dict[str, tuple[str, float]] = {}
    while True:
        steps = {name: queue.job(job.id) for name, job in steps.items()}
        for name, job in steps.items():
            if seen.get(name) != (now := (job.state, round(job.progress, 2))):
                seen[name] = now
                view(name, job)
        if all(map(has_ended, steps.values())):
            return steps
        time.sleep(POLL_S)


def document(steps: Mapping[str, Job], *, whole: bool) -> dict[str, Any]:
    """{"id"} of the last job, or with `whole` its full record; a chain adds {"ids"} of all steps."""
    last = list(steps.values())[-1]
    ids = {} if "" in steps else {"ids": {name: job.id for name, job in steps.items()}}
    return (last.to_json() if whole else {"id": last.id}) | ids


def _model(reference: str) -> str:
    if reference.startswith("@") or _is_coming(reference):
        return reference
    path = zoo.resolve(reference).path
    return path if zoo.local(reference) else reference


def _look_up(reference: str, steps: Mapping[str, Model]) -> Model | None:
    """What is known of a model: one on this machine, or one that a step or a run will make."""
    if reference.startswith("@"):
        return steps.get(reference[1:])
    if not _is_coming(reference):
        return fit.read_model(zoo.resolve(reference))
    spec = parse(queue.job(reference).spec)
    try:
        inspection = inspect(spec)
    except StillroomError:
        return None
    return fit.foresee_model(spec, reference, inspection.data, inspection.start, inspection.teacher)


def _is_coming(reference: str) -> bool:
    """Whether this is a run that has not ended. Raises Unavailable for one that will leave no model."""
    if not zoo.RUN_ID.fullmatch(reference) or has_ended(job := queue.job(reference)):
        return False
    if job.kind in WITHOUT_MODEL:
        message = f"Run {reference} will not produce a model: its kind is {job.kind}."
        raise Unavailable(message, next_step="Choose a run that trains a model.")
    return True


def only_here(chain: Chain) -> tuple[Chain, dict[str, str]]:
    """The steps of a chain whose models are on this machine, and the models that the others lack, by step.

    Raises UnknownName for a model that is not in the zoo either, and Unavailable where no step is left.
    """
    lacking: dict[str, str] = {}
    for step in chain.steps:
        for each in step.spec.references("model"):
            try:
                if not each.name.startswith("@"):
                    zoo.resolve(each.name)
            except Unavailable:
                lacking[step.name] = each.name
    remaining = chain.without(lacking)
    if not remaining.steps:
        names = ", ".join(sorted(set(lacking.values())))
        raise Unavailable(
            f"No model of this chain is on this machine: {names}.",
            next_step="Run `stillroom zoo fetch ID` for each on a connected machine.",
        )
    left_out = {step.name for step in chain.steps} - {step.name for step in remaining.steps}
    return remaining, {name: lacking.get(name, "an earlier step") for name in sorted(left_out)}


def _dataset(reference: str) -> str:
    path = datasets.resolve(reference).path
    return datasets.version_of(reference) or (path if Path(path).is_absolute() else reference)
