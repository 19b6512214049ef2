"""A job in words: what it does, how far it is, how long it took. Plain strings; what they quote is data, not markup."""

import time
from collections.abc import Mapping, Sequence

import humanize

from trainer.queue import Job
from trainer.spec import Change, JobSpec

USUAL_SEED = JobSpec.model_fields["seed"].default

VERBS = {
    "finetune": "fine-tuned",
    "distill": "taught by {teacher}",
    "pretrain": "pre-trained",
    "average": "averaged, scored",
    "evaluate": "scored",
}
# The figure a job is remembered by, whatever its kind and task.
SCORES = {
    "test_f1": "Test F1",
    "f1": "F1",
    "test_macro_f1": "Test macro F1",
    "macro_f1": "Macro F1",
    "test_accuracy": "Test accuracy",
    "accuracy": "Accuracy",
}
# By the score that a report is judged by: its name, and what it counts.
EVIDENCE = {"f1": ("F1", "sentences"), "macro_f1": ("macro F1", "documents")}


def over(job: Job) -> bool:
    """Whether nothing moves any more."""
    return job.state not in ("queued", "running")


def state(job: Job) -> str:
    """The state; "stopping" between a request to cancel and its effect, "interrupted" where the worker has died."""
    if job.state != "running":
        return job.state
    return "stopping" if job.cancel_requested else "running" if job.held else "interrupted"


def what(job: Job) -> str:
    """minilm fine-tuned on bc5cdr; minilm with layers 3 taught by minilm-bc5cdr on bc5cdr, seed 43. The names are the
    spec's; the usual seed is not told.
    """
    verb = VERBS.get(job.kind, job.kind).replace("{teacher}", str(job.spec.get("teacher")))
    seed = job.spec.get("seed", USUAL_SEED)
    return f"{model(job.spec)} {verb} on {job.spec['dataset']}" + (f", seed {seed}" if seed != USUAL_SEED else "")


def model(spec: Mapping) -> str:
    """The model that a stored spec trains or scores: minilm, minilm with layers 3, or a, b and c."""
    chosen = spec.get("student") or spec.get("model")
    if isinstance(chosen, list):
        return listed(chosen)
    if not isinstance(chosen, Mapping):
        return str(chosen)
    usual = Change().model_dump(mode="json")
    said = [f"{name} {value}" for name, value in chosen.items() if name != "base" and value != usual.get(name)]
    base = chosen.get("base") or spec.get("teacher")
    return f"{base} with {', '.join(said)}" if said else str(base)


def listed(names: Sequence[str]) -> str:
    """a; a and b; a, b and c."""
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def line(job: Job) -> str:
    """Where a queued job stands: its number in line, or what it waits for."""
    if job.waits_for:
        return f"Waits for {listed(job.waits_for)}"
    return f"Number {job.place} in line"


def scores(job: Job) -> dict[str, float]:
    """The test scores by label, where there are any."""
    return {label: job.metrics[name] for name, label in SCORES.items() if job.metrics.get(name) is not None}


def evidence(report: Mapping) -> str:
    """How sure the F1 of a result's report is: its 95 % bootstrap interval, and how many examples are behind it."""
    for score, (name, unit) in EVIDENCE.items():
        low_high = report.get("intervals", {}).get(score)
        if low_high and report.get("n"):
            return f"95 % interval of {name}: {low_high[0]:.3f} to {low_high[1]:.3f}, over {report['n']:,} {unit}."
    return ""


def progress(job: Job) -> str:
    """36 % · step 640 of 1,800 · about 6 minutes left."""
    steps = f"step {job.step:,} of {job.steps:,}" if job.steps else "preparing"
    left = [f"about {duration(job.eta_seconds)} left"] if job.eta_seconds is not None else []
    return " · ".join([f"{job.progress:.0%}", steps, *left])


def times(job: Job, *, now: float | None = None) -> str:
    """Queued 7 minutes ago · running for 6 minutes."""
    now = time.time() if now is None else now
    said = [f"Queued {ago(job.created_at, now=now)}"]
    if job.started_at:
        how = "running for" if job.state == "running" else "ran for"
        said.append(f"{how} {duration((job.ended_at or now) - job.started_at)}")
    return " · ".join(said)


def ago(moment: float, *, now: float | None = None) -> str:
    """now, 42 seconds ago, 7 minutes ago, 3 hours ago, 2 days ago."""
    return humanize.naturaltime(max(0, (time.time() if now is None else now) - moment))


def duration(seconds: float) -> str:
    """42 seconds, 7 minutes, 3 hours and 5 minutes."""
    whole = max(0, round(seconds))
    smallest = "seconds" if whole < 60 else "minutes"
    return humanize.precisedelta(whole, minimum_unit=smallest, format="%.0f")
