"""A job in words: what it does, its progress and its duration. Plain strings; what they quote is data, not markup."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import humanize

from trainer.queue import Job

VERBS = {
    "finetune": "fine-tuned",
    "distill": "taught by {teacher}",
    "pretrain": "pre-trained",
    "average": "averaged, scored",
    "evaluate": "scored",
}
# The scores that stand for a job, whatever its kind and task.
SCORES = {
    "test_f1": "Test F1",
    "f1": "F1",
    "test_macro_f1": "Test macro F1",
    "macro_f1": "Macro F1",
    "test_accuracy": "Test accuracy",
    "accuracy": "Accuracy",
    "test_hypothesis_only.accuracy": "Test accuracy, hypothesis only",
    "hypothesis_only.accuracy": "Accuracy, hypothesis only",
}
EVIDENCE = {"f1": "F1", "macro_f1": "macro F1"}  # the scores of a report whose interval is said


def has_ended(job: Job) -> bool:
    """Whether the job has reached its final state."""
    return job.state not in ("queued", "running")


def state(job: Job) -> str:
    """The job's state; "stopping" after a request to cancel, "interrupted" where its worker has died."""
    if job.state != "running":
        return job.state
    return "stopping" if job.cancel_requested else "running" if job.held else "interrupted"


def summary(job: Job) -> str:
    """What a job does: "minilm fine-tuned on bc5cdr", "minilm with layers 3 taught by bert on bc5cdr, seed 43".

    The names are those of the spec; the default seed is left out.
    """
    from trainer.spec import JobSpec  # here, so that a list of jobs need not wait for it

    verb = VERBS.get(job.kind, job.kind).replace("{teacher}", str(job.spec.get("teacher")))
    default = JobSpec.model_fields["seed"].default
    seed = job.spec.get("seed", default)
    return f"{model(job.spec)} {verb} on {job.spec['dataset']}" + (f", seed {seed}" if seed != default else "")


def model(spec: Mapping[str, Any]) -> str:
    """The model that a stored spec trains or scores: "minilm", "minilm with layers 3", or "a, b and c"."""
    chosen = spec.get("student") or spec.get("model")
    if isinstance(chosen, list):
        return enumeration(chosen)
    if not isinstance(chosen, Mapping):
        return str(chosen)
    from trainer.spec import Change

    defaults = Change().model_dump(mode="json")
    changes = [f"{name} {value}" for name, value in chosen.items() if name != "base" and value != defaults.get(name)]
    base = chosen.get("base") or spec.get("teacher")
    return f"{base} with {', '.join(changes)}" if changes else str(base)


def enumeration(names: Sequence[str]) -> str:
    """The names as a list in a sentence: "a", "a and b", "a, b and c"."""
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def queue_position(job: Job) -> str:
    """The position of a queued job, or the jobs that it waits for."""
    if job.waits_for:
        return f"Waiting for {enumeration(job.waits_for)}"
    return f"Position {job.place} in the queue"


def scores(job: Job) -> dict[str, float]:
    """The test scores by display name; empty before there are any."""
    return {label: score for name, label in SCORES.items() if (score := job.metrics.get(name)) is not None}


def evidence(report: Mapping[str, Any], *, unit: str) -> str:
    """The 95 % bootstrap interval of a report's F1 and the number of `unit` it rests on; empty where not known."""
    for score, name in EVIDENCE.items():
        interval = report.get("intervals", {}).get(score)
        if interval and report.get("n"):
            return f"95 % interval of {name}: {interval[0]:.3f} to {interval[1]:.3f}, over {report['n']:,} {unit}."
    return ""


def progress(job: Job) -> str:
    """Share done, steps and time left: "36% · step 640 of 1,800 · about 6 minutes left"."""
    steps = f"step {job.step:,} of {job.steps:,}" if job.steps else "preparing"
    remaining = [f"about {duration(job.eta_seconds)} left"] if job.eta_seconds is not None else []
    return " · ".join([f"{job.progress:.0%}", steps, *remaining])


def times(job: Job, *, now: float | None = None) -> str:
    """When the job was queued and how long it has run: "Queued 7 minutes ago · running for 6 minutes"."""
    now = time.time() if now is None else now
    phrases = [f"Queued {ago(job.created_at, now=now)}"]
    if job.started_at:
        verb = "running for" if job.state == "running" else "ran for"
        phrases.append(f"{verb} {duration((job.ended_at or now) - job.started_at)}")
    return " · ".join(phrases)


def ago(moment: float, *, now: float | None = None) -> str:
    """How long ago a moment was: "now", "42 seconds ago", "2 days ago"."""
    return humanize.naturaltime(max(0, (time.time() if now is None else now) - moment))


def duration(seconds: float) -> str:
    """A duration: "42 seconds", "7 minutes", "3 hours and 5 minutes"."""
    whole = max(0, round(seconds))
    smallest = "seconds" if whole < 60 else "minutes"
    return humanize.precisedelta(whole, minimum_unit=smallest, format="%.0f")
