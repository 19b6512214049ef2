"""The child process of a run: kind -> train or evaluate.

Reads spec.json; writes events, checkpoints, artifacts and, last, result.json.
"""

import errno
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from trainer import fit, inference, models
from trainer.datasets.rows import words
from trainer.errors import CorruptFile, StillroomError
from trainer.evaluation import cost
from trainer.examples import complete_task, open_data
from trainer.examples.task_data import LabelledData, TaskData
from trainer.models import export
from trainer.models.average import average
from trainer.models.heads import document_reading, is_classifier
from trainer.resolved import ResolvedModel
from trainer.run import Result, Run
from trainer.training import checkpoint, loop, memory
from trainer.training.setup import LoadedModel, TrainingSetup, prepare

FINISHED, FAILED, DISK_FULL, STOPPED = 0, 1, 28, 143  # exit codes; the worker reads them
LOGGED_STEPS = 2000  # largest number of step events of a run
LOGGED_LINES = 50  # largest number of steps in its log

log = logging.getLogger(__name__)


class Stopped(Exception):
    """The run was asked to stop; its state is saved and it can continue later."""


def execute(folder: Path) -> int:
    """Run one attempt to its end and return the exit code; errors of the run are in its result, not raised."""
    run = Run(Path(folder).absolute())
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    try:
        result = run.result or _run(run)
        return FINISHED if result.state == "succeeded" else FAILED
    except Stopped:
        return STOPPED
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        # There may be no room for a result; the exit code says it, and the last checkpoint is safe.
        log.error("The disk is full.")
        return DISK_FULL


def _run(run: Run) -> Result:
    try:
        torch.set_num_threads(run.spec.threads)
        fit.check(run.spec)
        with _stop_requests() as stopping:
            result = KINDS[run.spec.spec.kind](run, stopping)
    except StillroomError as error:
        log.exception("The run failed.")
        result = Result(state="failed", error=error.to_json())
    except (RuntimeError, MemoryError) as error:
        if not memory.ran_out(error):
            raise
        log.exception("The run failed.")
        result = Result(state="failed", error=memory.OutOfMemory.of(run.spec.spec, run.spec.device).to_json())
    run.finish(result)
    return result


def train(run: Run, stopping: Callable[[], bool]) -> Result:
    """Pre-train, distil or fine-tune; keep the best dev score, score it on test, publish the model."""
    device = torch.device(run.spec.device)
    cost.reset_peak(device)
    setup = prepare(run.spec, cache=run.cache, progress=_report_teacher(run, stopping))
    notes = _data_notes(setup.data)
    best = _fit(run, setup, stopping)
    assert best.best_step is not None  # the last step is always evaluated
    peak = cost.peak_bytes(device)
    checkpoint.restore_weights(checkpoint.at_step(run, best.best_step), setup.objective)
    task, student = run.spec.spec.task, setup.objective.student
    student.config.update(setup.data.choose_on_dev(student, setup.tokenizer, max_tokens=setup.max_tokens))
    _note(run, f"Scoring the best checkpoint, that of step {best.best_step}, on the test split.")
    report = _store_outcomes(run, setup.data.report(student, setup.tokenizer, "test", max_tokens=setup.max_tokens))
    metrics = {f"dev_{task.score}": best.best_score, "best_step": float(best.best_step), "peak_memory_bytes": peak}
    metrics |= {f"test_{name}": value for name, value in report["metrics"].items()}
    metrics |= _retention(task.score, report["metrics"], setup.teacher_scores("test"))
    about = _about(run, student, metrics=metrics, report=report) | {"data_notes": notes}
    export.publish(run.folder / "artifacts" / "model", student, setup.tokenizer, about)
    return Result(state="succeeded", metrics=metrics, report=report, artifact="artifacts/model")


def averaging(run: Run, stopping: Callable[[], bool]) -> Result:
    """Average the weights of models of the same shape, score the average on dev and test, publish it."""
    spec = run.spec.spec
    data, (first, tokenizer) = _data(run), _load(run, run.spec.model)
    notes = _data_notes(data)
    run.emit("plan", steps=1, start=0)
    log.info("The weights of %d models are averaged, and the result is scored on dev and test.", 1 + len(spec.others))
    model = average(chain([first], (_load(run, one)[0] for one in run.spec.others)))
    model.to(run.spec.device)  # type: ignore[arg-type]  # transformers wraps `to` without its self
    max_tokens = _max_tokens(run, model, tokenizer)
    model.config.update(data.choose_on_dev(model, tokenizer, max_tokens=max_tokens))
    dev, report = (data.report(model, tokenizer, split, max_tokens=max_tokens) for split in ("dev", "test"))
    report = _store_outcomes(run, report)
    metrics = {f"dev_{spec.task.score}": dev["metrics"][spec.task.score]}
    metrics |= {f"test_{name}": value for name, value in report["metrics"].items()}
    about = _about(run, model, metrics=metrics, report=report) | {"data_notes": notes}
    export.publish(run.folder / "artifacts" / "model", model, tokenizer, about)
    report |= {"members": [_member(run, one) for one in (run.spec.model, *run.spec.others)]}
    return Result(state="succeeded", metrics=metrics, report=report, artifact="artifacts/model")


def _store_outcomes(run: Run, report: dict[str, Any]) -> dict[str, Any]:
    """Write what a report rests on into the run folder; the report without it."""
    if outcomes := report.pop("outcomes", None):
        outcomes.write(run.folder)
    return report


def _member(run: Run, model: ResolvedModel) -> dict[str, Any]:
    """A model that is averaged, with the scores of its run on the same data, if there are any."""
    about, score = export.read_about(Path(model.path)), run.spec.spec.task.score
    same = (about.get("data_sha256"), about.get("limit")) == (run.spec.dataset.sha256, run.spec.spec.limit)
    known = about.get("metrics", {}) if same else {}
    return {"model": model.reference} | {name: known.get(name) for name in (f"dev_{score}", f"test_{score}")}


def evaluation(run: Run, stopping: Callable[[], bool]) -> Result:
    """Score a model on one split of a data set."""
    data, (model, tokenizer) = _data(run), _load(run, run.spec.model)
    _data_notes(data)
    model.to(run.spec.device)  # type: ignore[arg-type]  # transformers wraps `to` without its self
    run.emit("plan", steps=1, start=0)
    max_tokens, folder = _max_tokens(run, model, tokenizer), Path(run.spec.model.path)
    report = data.report(model, tokenizer, run.spec.spec.split, max_tokens=max_tokens, folder=folder)
    report = _store_outcomes(run, report)
    return Result(state="succeeded", metrics=report["metrics"], report=report)


KINDS = {"pretrain": train, "distill": train, "finetune": train, "average": averaging, "evaluate": evaluation}


def _data(run: Run) -> TaskData[Any]:
    """The data set for scoring the model: options that the task leaves open are as the model was trained."""
    return open_data(complete_task(run.spec.spec.task, run.spec.model), run.spec.dataset, limit=run.spec.spec.limit)


def _data_notes(data: TaskData[Any]) -> list[str]:
    """What to know about labelled data, such as what was left out in reading; also logged."""
    notes = list(data.survey.notes) if isinstance(data, LabelledData) else []
    for note in notes:
        log.info("%s", note)
    return notes


def _load(run: Run, model: ResolvedModel) -> LoadedModel:
    """A model with its tokenizer as it is; for a task without labels with the masked-LM head, new if it has none."""
    task = run.spec.spec.task
    return models.load(model, task=None if task.labelled else task.name)


def _max_tokens(run: Run, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> int:
    """The longest window, in word pieces, for a model that is not trained here."""
    limit = inference.model_limit(model, tokenizer)
    trained = document_reading(model)["max_tokens"] if is_classifier(model) else None
    return min(run.spec.spec.schedule.max_tokens, limit, trained or limit)


def _fit(run: Run, setup: TrainingSetup, stopping: Callable[[], bool]) -> checkpoint.Progress:
    """Train from the last checkpoint to the end or an early stop; the best checkpoint is then on disk."""
    spec, objective, total = run.spec.spec, setup.objective, setup.total
    schedule = spec.schedule
    optimizer = loop.optimizer_for(objective, schedule)
    folder = checkpoint.latest(run)
    progress = checkpoint.restore(folder, objective, optimizer) if folder else checkpoint.Progress()
    if progress.words != words.VERSION and getattr(spec.task, "labelling", None) == "first":
        raise CorruptFile(
            "An older version began this run and cut words differently: its first steps learned other labels.",
            next_step="Run the job again from the start (retry with --fresh).",
        )
    run.emit("plan", steps=total, start=progress.step)
    threads = torch.get_num_threads()
    log.info("Training from step %d to %d on %s with %d threads.", progress.step, total, run.spec.device, threads)
    if progress.stopped:
        return progress
    if teacher := setup.teacher_scores("dev"):
        run.emit("evaluation", step=progress.step, metrics=_with_prefix("teacher_dev", teacher))
    steps = loop.train(
        objective,
        optimizer,
        batch_at=setup.batch_at,
        schedule=schedule,
        total=total,
        start=progress.step,
        seed=spec.seed,
        precision=spec.compute.precision,
    )
    log_every = max(1, total // LOGGED_STEPS)
    for step in steps:
        progress.step = step.number
        if step.number % log_every == 0 or step.number == total:
            run.emit("step", step=step.number, metrics=step.metrics)
        if step.number % max(1, total // LOGGED_LINES) == 0:
            log.info("Step %d of %d: %s", step.number, total, _figures(step.metrics))
        due = _evaluation_due(step.number, total=total, every=schedule.evaluate_every, setup=setup)
        if due:
            metrics = _with_prefix("dev", setup.dev_scores())
            progress.record(metrics[f"dev_{spec.task.score}"], metrics)
            progress.stopped = step.number == total or progress.evaluations_since_best >= (schedule.patience or total)
            run.emit("evaluation", step=step.number, metrics=metrics)
            log.info("Dev after step %d: %s", step.number, _figures(metrics))
        stop_now = stopping()
        if due or stop_now or step.number % schedule.checkpoint_every == 0:
            checkpoint.save(run, objective, optimizer, progress)
        if progress.stopped:
            break
        if stop_now:
            raise Stopped
    return progress


def _with_prefix(prefix: str, scores: dict[str, float]) -> dict[str, float]:
    """Scores with `prefix` before their names, without those of single labels (f1.Disease)."""
    return {f"{prefix}_{name}": value for name, value in scores.items() if "." not in name}


def _retention(score: str, student: dict[str, float], teacher: dict[str, float]) -> dict[str, float]:
    """The teacher's test scores, and the share of its score that the student retains."""
    if not teacher:
        return {}
    share = student[score] / teacher[score] if teacher[score] else float("nan")
    return {f"teacher_test_{name}": value for name, value in teacher.items()} | {"retention": share}


def _evaluation_due(step: int, *, total: int, every: int | None, setup: TrainingSetup) -> bool:
    """Whether to evaluate after `step`: at the end, and after every `every` steps or, without it, each epoch."""
    if step == total:
        return True
    return step % every == 0 if every else setup.epoch_of(step) != setup.epoch_of(step - 1)


def _about(
    run: Run, model: PreTrainedModel, *, metrics: Mapping[str, float | None], report: Mapping[str, Any]
) -> dict[str, Any]:
    """What stillroom.json and the model card say about the model."""
    spec = run.spec.spec
    return {
        "kind": spec.kind,
        "task": spec.task.name,
        "labelling": getattr(spec.task, "labelling", None),
        "labels": inference.label_set(model) if spec.task.labelled else [],
        "multi_label": inference.is_multi_label(model) if spec.task.answers == "labels" else None,
        "document_reading": getattr(model.config, "document_reading", None),
        "value_range": getattr(model.config, inference.RANGE, None),
        "thresholds": getattr(model.config, inference.THRESHOLDS, None),
        "base": spec.start,
        "made_from": spec.made_from,
        "teacher": spec.teacher,
        "dataset": spec.dataset,
        "limit": spec.limit,
        "run": run.spec.id,
        "spec": spec.to_yaml(),
        "steps": export.lineage(run.spec),
        "weights_of_base": ", ".join(one.sha256 for one in (run.spec.model, *run.spec.others)),
        "weights_of_teacher": run.spec.teacher and run.spec.teacher.sha256,
        "data_sha256": run.spec.dataset.sha256,
        "unlabelled": spec.unlabelled,
        "unlabelled_sha256": run.spec.unlabelled and run.spec.unlabelled.sha256,
        "metrics": metrics,
        "intervals": report["intervals"],
        "unit": report.get("unit", spec.task.unit),
        "params": sum(parameter.numel() for parameter in model.parameters()),
    }


def _report_teacher(run: Run, stopping: Callable[[], bool]) -> Callable[[int, int], None]:
    """Reports the progress of the teacher's outputs at each 5 %; raises Stopped when the run is to stop."""
    reported = 0

    def progress(done: int, rows: int) -> None:
        nonlocal reported
        if stopping():
            raise Stopped
        if (share := 20 * done // rows) > reported:
            reported = share
            _note(run, f"The teacher reads {rows:,} rows, once for all runs on this data: {5 * share} %.")

    return progress


def _note(run: Run, message: str) -> None:
    run.emit("note", message=message)
    log.info(message)


def _figures(metrics: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in metrics.items())


@contextmanager
def _stop_requests() -> Iterator[Callable[[], bool]]:
    """A function that tells whether to stop: after SIGTERM or SIGINT, or when the worker has ended."""
    signals: list[int] = []
    worker = int(os.environ.get("STILLROOM_WORKER_PID") or os.getppid())
    previous = {
        name: signal.signal(name, lambda number, _: signals.append(number)) for name in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield lambda: bool(signals) or os.getppid() != worker
    finally:
        for name, handler in previous.items():
            signal.signal(name, handler)
