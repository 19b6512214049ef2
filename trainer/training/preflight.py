"""Estimates the cost of a job in a separate process, from a warm-up and two timed steps of the real training.

Only the first examples are trained on and scored. The number of steps, and the share of text that max_tokens cuts off,
are counted on all of the data. Reads spec.json of a run folder and writes trial.json beside it; leaves no other file.
"""

import json
import logging
import math
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from trainer import datasets, fit
from trainer.datasets.rows import corpus
from trainer.datasets.rows.batches import Batches
from trainer.errors import StillroomError
from trainer.evaluation import masked_lm
from trainer.examples import open_data
from trainer.examples.task_data import LabelledData, LabelledRows, TaskData
from trainer.files import write_file
from trainer.resolved import ResolvedDataset
from trainer.run import Run, RunSpec
from trainer.spec import Schedule
from trainer.tasks.mlm import MLM
from trainer.tasks.task import Task
from trainer.training import loop, memory, teacher_cache
from trainer.training.estimate import Estimate
from trainer.training.setup import TrainingSetup, prepare

RESULT = "trial.json"
BATCHES = 3  # filled with real examples: one to warm up, two to time
SCORED = 64  # examples of the dev split
FEWEST = 16  # examples in a trial
COUNTED = 20_000  # documents on which word pieces are counted when a vocabulary is trimmed
NICENESS = 10
WHOLE = 1 << 30  # a window longer than any document

log = logging.getLogger(__name__)


def excerpt(task: Task, dataset: ResolvedDataset, *, limit: int | None, examples: int) -> TaskData[Any]:
    """The first examples of a data set."""
    return open_data(task, dataset, limit=min(examples, limit or examples))


class Whole(NamedTuple):
    """All of the data: the length of each training row, and how much more there is than in the excerpt."""

    lengths: np.ndarray  # (rows,) positions that a row occupies in a batch
    dev: float  # examples of the dev split / those scored in the trial
    cut: float  # share of the word pieces that truncation drops
    split: float  # share of the word pieces in examples that are read in several windows
    units: int = 0  # words or documents for which the teacher's outputs are cached
    partial: bool = False  # whether the figures come from a sample of the documents
    pieces: np.ndarray | None = None  # (rows,) word pieces, where a row occupies more positions than it has pieces


def run(folder: Path) -> int:
    """Estimate the cost of the run in a folder; write {"estimate"} or {"error"} to trial.json; return the exit code."""
    began = time.perf_counter() - (time.time() - psutil.Process().create_time())  # imports count as preparation
    os.nice(NICENESS)
    logging.basicConfig(level=logging.INFO, stream=sys.stdout)
    trial = Run(Path(folder).absolute())
    torch.set_num_threads(trial.spec.threads)
    outcome = answer(trial.spec, cache=trial.cache, began=began)
    write_file(trial.folder / RESULT, json.dumps(outcome).encode())
    return 0


def answer(ready: RunSpec, *, cache: Path, began: float | None = None) -> dict[str, Any]:
    """{"estimate": fields of Estimate} or {"error": StillroomError.to_json()}. Other exceptions, bugs, are raised."""
    try:
        return {"estimate": estimate(ready, cache=cache, began=began).model_dump()}
    except StillroomError as error:
        return {"error": error.to_json()}
    except (RuntimeError, MemoryError) as error:
        if not memory.ran_out(error):
            raise
        return {"error": memory.OutOfMemory.of(ready.spec, ready.device).to_json()}


def estimate(ready: RunSpec, *, cache: Path, began: float | None = None) -> Estimate:
    """Cost of a run, estimated from one warm-up step and two timed steps. Raises what the run itself would raise.

    cache: folder for the teacher's outputs on the excerpt. began: start of the process, as time.perf_counter counts.
    """
    began = time.perf_counter() if began is None else began
    fit.check(ready)
    examples = _examples(ready)
    setup = prepare(
        _shortened(ready, examples),
        cache=cache,
        open_data=partial(excerpt, examples=examples),
        counted=lambda: islice(_whole(ready).texts("train"), COUNTED),
    )
    preparing_s = time.perf_counter() - began
    seconds_per_place = _steps(setup)
    data = open_data(ready.spec.task, ready.dataset, limit=min(SCORED, ready.spec.limit or SCORED))
    evaluation_s = _scoring(setup, data, setup.objective.student, setup.tokenizer)
    teacher_s = _teacher_seconds(setup, data)
    peak = _peak_bytes(ready.device)  # before all of the data are counted below: a run does not do that a second time
    whole = (_labelled if ready.spec.task.labelled else _documents)(ready, setup, data)
    schedule, (steps, places, tokens, epochs) = ready.spec.schedule, _course(whole, ready)
    objective = setup.objective
    return Estimate(
        device=ready.device,
        threads=ready.threads,
        params=_count(objective.student.parameters()),
        trained=_count(parameter for parameter in objective.parameters() if parameter.requires_grad),
        teacher_params=_count(setup.teacher[0].parameters()) if setup.teacher else None,
        steps=steps,
        seconds_per_step=seconds_per_place * places,
        tokens_per_step=tokens,
        evaluations=math.ceil(steps / schedule.evaluate_every) if schedule.evaluate_every else epochs,
        evaluation_s=evaluation_s * whole.dev,
        teacher_s=teacher_s(whole),
        preparing_s=preparing_s,
        peak_memory_bytes=peak,
        outputs_bytes=setup.teacher_outputs.unit_bytes * whole.units if setup.teacher_outputs else 0,
        cut=whole.cut,
        split=whole.split,
        partial=whole.partial,
    )


def _whole(ready: RunSpec) -> TaskData[Any]:
    """The data of the run, none left out."""
    return open_data(ready.spec.task, ready.dataset, limit=ready.spec.limit)


def _examples(ready: RunSpec) -> int:
    """How many examples fill BATCHES batches of a run, and one batch of its teacher."""
    spec, mean = ready.spec, _mean_length(ready)
    # A batch of the teacher can set the peak memory too.
    read = teacher_cache.BATCH_TOKENS / mean if spec.kind == "distill" else 0
    return math.ceil(max(FEWEST, BATCHES * _per_batch(spec.schedule, mean), read))


def _shortened(ready: RunSpec, examples: int) -> RunSpec:
    """The same run with at most `examples` texts for the teacher to label."""
    if not ready.unlabelled:
        return ready
    recipe = ready.spec.recipe
    assert recipe is not None  # jobs that train have one
    limit = min(examples, getattr(recipe, "unlabelled_limit", None) or examples)
    recipe = recipe.model_copy(update={"unlabelled_limit": limit})
    return ready.model_copy(update={"spec": ready.spec.model_copy(update={"recipe": recipe})})


def _mean_length(ready: RunSpec) -> float:
    """Mean words per example; there are at least as many word pieces, so a batch is full with this estimate."""
    task, texts = ready.spec.task, open_data(ready.spec.task, ready.dataset, limit=1000).texts("train")
    words = [len(text.split()) for text in texts]
    mean = sum(words) / max(1, len(words))
    reading = f"{getattr(task, 'rows', '')} {getattr(task, 'reading', '')}"
    return max(1.0, min(mean, ready.spec.schedule.max_tokens) if "truncate" in reading else mean)


def _per_batch(schedule: Schedule, mean: float) -> float:
    if schedule.batch_tokens:
        return schedule.batch_tokens / mean
    assert schedule.batch_size is not None  # a schedule has batch_size or batch_tokens
    return schedule.batch_size * max(1.0, schedule.max_tokens / mean)


def _steps(setup: TrainingSetup) -> float:
    """Seconds per padded position, from two steps after a warm-up on the largest batch, which sets the peak memory."""
    lengths, batches = setup.rows.lengths, setup.batches.epoch(0)
    places = [len(batch) * int(lengths[batch].max()) for batch in batches]
    order = sorted(range(len(batches)), key=places.__getitem__, reverse=True)
    middle = order[len(order) // 2 :][:1] + order[:1]
    chosen = [order[0], *middle]  # warm-up, a typical batch, and the largest once more
    schedule = setup.ready.spec.schedule.model_copy(update={"accumulate": 1})
    steps = loop.train(
        setup.objective,
        loop.optimizer_for(setup.objective, schedule),
        batch_at=lambda step: setup.batch_at(chosen[step]),
        schedule=schedule,
        total=len(chosen),
        seed=setup.ready.spec.seed,
        precision=setup.ready.spec.compute.precision,
    )
    next(steps)
    seconds = _timed(lambda: list(steps))
    return seconds / sum(places[index] for index in chosen[1:])


def _scoring(
    setup: TrainingSetup, data: TaskData[Any], model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> float:
    """Seconds to score a model on the dev examples of `data`."""
    return _timed(lambda: data.scores(model.eval(), tokenizer, "dev", max_tokens=setup.max_tokens))


def _teacher_seconds(setup: TrainingSetup, data: TaskData[Any]) -> Callable[[Whole], float]:
    """Seconds for the teacher outside the training steps (outputs and scores), as a function of all of the data."""
    if setup.teacher is None:
        return lambda whole: 0.0
    teacher, tokenizer = setup.teacher
    scoring_s = _scoring(setup, data, teacher, tokenizer)
    outputs_s, pieces = 0.0, int(setup.rows.lengths.sum())
    if setup.teacher_outputs is not None:
        rows, levels = setup.rows, setup.objective.teacher_levels
        assert isinstance(rows, LabelledRows)  # outputs are cached by their units
        with tempfile.TemporaryDirectory() as folder:
            cache = Path(folder)
            outputs_s = _timed(
                lambda: teacher_cache.teacher_outputs(teacher, rows, levels=levels, weights="", cache=cache)
            )
    return lambda whole: outputs_s * whole.lengths.sum() / pieces + 2 * scoring_s * whole.dev  # dev and test


def _labelled(ready: RunSpec, setup: TrainingSetup, scored: TaskData[Any]) -> Whole:
    spec = ready.spec
    data = _whole(ready)
    assert isinstance(data, LabelledData) and isinstance(scored, LabelledData)
    if ready.unlabelled:
        data.read_unlabelled(ready.unlabelled, limit=getattr(spec.recipe, "unlabelled_limit", None))
    label_ids = {name: int(number) for name, number in (setup.objective.student.config.label2id or {}).items()}
    windows = partial(data.rows, "train", setup.tokenizer, label_ids=label_ids, seed=spec.seed)
    rows = windows(max_tokens=setup.max_tokens)
    pieces, longer = rows.pieces, np.zeros(1)
    if rows.lengths.max() >= setup.max_tokens:
        uncut = windows(max_tokens=WHOLE).lengths
        longer = uncut[uncut > setup.max_tokens]
    dev = len(data.examples("dev")) / len(scored.examples("dev"))
    if getattr(spec.task, "reading", None) == "truncate":
        lost = (longer - setup.max_tokens).clip(min=0).sum()
        cut = float(lost / (lost + pieces.sum()))
        return Whole(rows.lengths, dev=dev, cut=cut, split=0.0, units=rows.units, pieces=pieces)
    split = float(longer.sum() / max(longer.sum(), pieces.sum()))
    return Whole(rows.lengths, dev=dev, cut=0.0, split=split, units=rows.units, pieces=pieces)


def _documents(ready: RunSpec, setup: TrainingSetup, scored: TaskData[Any]) -> Whole:
    """Unlabelled text: extrapolated from a sample where tokenizing all of it would keep a person waiting."""
    spec, task = ready.spec, ready.spec.task
    assert isinstance(task, MLM) and isinstance(setup.rows, corpus.Rows) and scored.limit is not None
    kind = task.rows
    stated = corpus.statistics(ready.dataset, setup.tokenizer, max_tokens=setup.max_tokens)
    share = min(1.0, spec.limit / stated.documents) if spec.limit else 1.0
    rows = max(1, round(stated.rows[kind].rows * share))
    packed = kind == "packed"
    lengths = np.full(rows, setup.max_tokens) if packed else np.resize(setup.rows.lengths, rows)
    documents = np.diff(setup.rows.corpus.ends, prepend=0) - 1
    longer = documents[documents > setup.max_tokens].sum() / documents.sum() if kind == "documents" else 0.0
    return Whole(
        lengths,
        dev=_dev_share(ready, scored.limit, stated.pieces / stated.documents),
        cut=stated.lost if kind == "truncated" else 0.0,
        split=float(longer),
        partial=not stated.complete,
    )


def _dev_share(ready: RunSpec, scored: int, mean: float) -> float:
    """Dev documents that a run scores, divided by those of the trial; both stop after masked_lm.SCORED word pieces."""
    most = math.ceil(masked_lm.SCORED / max(1.0, mean))
    there = min(most, ready.spec.limit or most, _length(datasets.documents(ready.dataset, "dev", limit=most)))
    return max(1, there) / max(1, min(there, scored))


def _course(whole: Whole, ready: RunSpec) -> tuple[int, float, float, int]:
    """Steps of the run; mean padded positions and mean word pieces per step; epochs begun."""
    spec, schedule = ready.spec, ready.spec.schedule
    batches = Batches(whole.lengths, seed=spec.seed, batch_tokens=schedule.batch_tokens, batch_size=schedule.batch_size)
    epoch, parts = batches.epoch(0), schedule.accumulate
    steps = schedule.steps
    if not steps:
        assert schedule.epochs is not None  # a schedule has steps or epochs
        steps = max(1, batches.steps(schedule.epochs) // parts)
    places = sum(len(batch) * int(whole.lengths[batch].max()) for batch in epoch) / len(epoch)
    tokens = float((whole.lengths if whole.pieces is None else whole.pieces).sum()) / len(epoch)
    return steps, places * parts, tokens * parts, batches.epoch_of(steps * parts - 1) + 1


def _peak_bytes(device: str) -> int:
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS reports bytes, Linux KiB


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _count(parameters: Iterable[torch.nn.Parameter]) -> int:
    return sum(parameter.numel() for parameter in parameters)


def _length(items: Iterable[object]) -> int:
    return sum(1 for _ in items)
