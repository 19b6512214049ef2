"""From a spec or a chain to jobs in the queue: references are checked where they were written, then all is submitted.

A job is looked at under the name of its step; one that is no step of a chain has the name "".
"""

import time
from collections.abc import Callable, Mapping
from pathlib import Path

from trainer import datasets, pairing, queue, registry
from trainer.chain import WITHOUT_MODEL, Chain, references, replaced
from trainer.errors import BadSpec, StillroomError, Unavailable
from trainer.queue import Job
from trainer.spec import JobSpec
from workbench.wording import over

POLL_S = 0.5


def settled(spec: JobSpec) -> JobSpec:
    """The spec with references that are here, folders as absolute paths: a worker runs in another folder, and later.

    A run may still be queued or running, and "@name" stays. BadSpec names every other reference that is not here, for
    the submitter to correct and not for the worker to find.
    """
    found, wrong = {}, []
    for find, fields in ((_model, references(spec.model_dump())), (_dataset, _data(spec))):
        for field, reference in fields.items():
            try:
                found[field] = find(reference)
            except StillroomError as error:
                wrong.append((field, str(error)))
    if wrong:
        raise BadSpec(wrong)
    _fits(spec)
    return replaced(spec, found)


def submit(given: JobSpec | Chain) -> dict[str, Job]:
    """Submit what a file holds, settled; the jobs by step name, in order."""
    if isinstance(given, Chain):
        return queue.submit_chain(given.each(settled))
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


def _data(spec: JobSpec) -> dict[str, str]:
    """The data-set references of a spec by dotted field."""
    unlabelled = getattr(spec.recipe, "unlabelled", None)
    return {"dataset": spec.dataset} | ({"recipe.unlabelled": unlabelled} if unlabelled else {})


def _model(reference: str) -> str:
    if _is_later(reference):
        return reference
    path = registry.resolve(reference).path
    return path if registry.local(reference) else reference


def _fits(spec: JobSpec) -> None:
    """BadSpec where teacher, student and recipe, a change and its base, or models to average do not fit.

    What is yet to be made is not looked at: the run itself checks again.
    """
    looked_at = [name for name in (spec.teacher, spec.start, *spec.others) if name]
    if not (spec.teacher or spec.change or spec.others) or any(map(_is_later, looked_at)):
        return
    shapes = [pairing.shape(registry.resolve(name)) for name in looked_at]
    if spec.others:
        pairing.check_alike(spec, shapes)
        return
    *teacher, base = shapes
    try:
        pairing.check(spec, *teacher, base) if teacher else pairing.check_change(spec.change, base)
    except BadSpec as error:
        place = "student." if teacher else "model."
        raise BadSpec([(field.replace("student.", place), said) for field, said in error.fields]) from None


def _is_later(reference: str) -> bool:
    return reference.startswith("@") or _is_coming(reference)


def _is_coming(reference: str) -> bool:
    """Whether this is a run that has not ended; Unavailable if there will be no model when it has."""
    if not registry.RUN_ID.fullmatch(reference) or over(job := queue.job(reference)):
        return False
    if job.kind in WITHOUT_MODEL:
        what = f"Run {reference} will leave no model behind: its kind is {job.kind}."
        raise Unavailable(what, next_step="Choose a run that trains one.")
    return True


def _dataset(reference: str) -> str:
    path = datasets.resolve(reference).path
    return path if reference not in datasets.cards() and Path(path).is_absolute() else reference
