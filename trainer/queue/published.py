"""Runs as models: those that succeeded and left one, and with the zoo's all that are ready to use. No torch.

What was read of a run's folder is used again while its files are the same, so that a page that lists hundreds of runs
asks for the marks of their files and reads none.
"""

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from trainer.queue import artifacts
from trainer.tasks import answers
from trainer.zoo import ABOUT, ModelEntry, Tokenizer, entries, weights_here
from trainer.zoo.weights import WEIGHTS, read_json

CONFIG = "config.json"
RECENT_S = 2.0  # as coarse as the clock of a file system may be: what is younger can change again and look the same

log = logging.getLogger(__name__)


class _Mark(NamedTuple):
    """What changes with a file: which it is, how large, and when it was written."""

    inode: int
    mode: int
    size: int
    written_ns: int
    changed_ns: int


class _Reading(NamedTuple):
    """What came of a run's folder: the marks of its files, the base that its entry was made with, and the entry."""

    marks: tuple[_Mark | None, ...]
    base_id: str | None
    base: ModelEntry | None
    entry: ModelEntry | None  # None where it cannot be used


_readings: dict[tuple[str, Path], _Reading] = {}  # of each run and folder, the last


def runs(*, store=None) -> list[ModelEntry]:
    """Runs that succeeded and left a model behind, newest first; those whose folder is gone or damaged are left out."""
    known, usable = dict(entries()), []
    for run_id, folder in reversed(artifacts(store=store).items()):  # oldest first: a run's base is known before it
        if entry := _entry(run_id, folder, known):
            known[run_id] = entry
            usable.append(entry)
    return usable[::-1]


def _entry(run_id: str, folder: Path, known: Mapping[str, ModelEntry]) -> ModelEntry | None:
    """The run as a model, read anew where one of its files or its base has changed; None where it is none."""
    marks = tuple(_mark(folder / name) for name in (ABOUT, WEIGHTS, CONFIG))
    last = _readings.get((run_id, folder))
    if last and last.marks == marks and last.base is known.get(last.base_id):
        return last.entry
    reading = _read(run_id, folder, marks, known)
    if time.time_ns() - max((mark.changed_ns for mark in marks if mark), default=0) > RECENT_S * 1e9:
        _readings[run_id, folder] = reading
    return reading.entry


def _mark(path: Path) -> _Mark | None:
    try:
        stat = path.stat()
    except (OSError, ValueError):
        return None
    return _Mark(stat.st_ino, stat.st_mode, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


def _read(run_id: str, folder: Path, marks: tuple, known: Mapping[str, ModelEntry]) -> _Reading:
    about = read_json(folder / ABOUT)
    if about is None or not (folder / WEIGHTS).is_file():
        return _Reading(marks, None, None, None)
    base_id = about.get("base") if isinstance(about.get("base"), str) else None
    base = known.get(base_id)
    try:
        return _Reading(marks, base_id, base, _run_entry(run_id, folder, about, base))
    except (ValueError, TypeError, AttributeError) as error:  # one damaged folder must not hide the others
        log.warning("Run %s is left out: its %s or config cannot be used (%s).", run_id, ABOUT, type(error).__name__)
    return _Reading(marks, base_id, base, None)


_PATTERN = ("num_hidden_layers", "n_layers", "attention_window", "attention_type", "block_size", "num_random_blocks")


def _window(config: Mapping, base: ModelEntry | None) -> int:
    """A run reads as far as its base, unless it was lengthened. A Longformer counts positions from pad_token_id + 1."""
    positions = config.get("max_position_embeddings", 512)
    if config.get("model_type") == "longformer":
        return positions - config.get("pad_token_id", 1) - 1
    return base.max_tokens if base else positions


def _run_entry(run_id: str, folder: Path, about: Mapping, base: ModelEntry | None) -> ModelEntry:
    config = read_json(folder / CONFIG) or {}
    scores = {k: v for k, v in about.get("metrics", {}).items() if k.startswith("test_") and isinstance(v, int | float)}
    dataset = about.get("dataset")
    unknown: Tokenizer = {"kind": None, "vocab": None, "cased": None, "lower_case": None}
    return ModelEntry(
        id=run_id,
        name=f"{base.name if base else about.get('base', 'model')} on {dataset}",
        source="run",
        path=str(folder),
        architecture={"model_type": config.get("model_type", "")} | {k: config[k] for k in _PATTERN if k in config},
        tokenizer=base.tokenizer if base else unknown,
        max_tokens=_window(config, base),
        licence=base.licence if base else None,
        family=base.family if base else "local",
        role="run",
        task=about.get("task") if answers(about.get("task")) else None,
        labels=tuple(about.get("labels", ())),
        params={"encoder": about.get("params"), "mlm": None},
        reported=tuple(
            {"metric": name, "dataset": dataset, "value": value, "source": f"run {run_id}", "note": None}
            for name, value in scores.items()
        ),
        teacher=about.get("teacher"),
        start=about.get("base"),
    )


def ready(*, task: str | Sequence[str] | None = None, store=None) -> list[ModelEntry]:
    """Models whose weights are on this machine: the zoo's, then published runs; with tasks, those with such a head."""
    here = [entry for entry in entries().values() if entry.loads and weights_here(entry)]
    wanted = (task,) if isinstance(task, str) else task
    return [entry for entry in [*here, *runs(store=store)] if wanted is None or entry.task in wanted]
