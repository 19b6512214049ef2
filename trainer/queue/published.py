"""Published runs: the models of successful runs, alone or with the zoo models that are ready to use. No torch.

What was read from a run's folder is cached until one of its files changes, so a page that lists hundreds of runs only
checks the status of their files and reads none.
"""

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import Engine

from trainer.queue import artifacts
from trainer.tasks import answers
from trainer.zoo import ABOUT, ModelEntry, Tokenizer, entries, weights_here
from trainer.zoo.weights import WEIGHTS, read_json

CONFIG = "config.json"
RECENT_S = 2.0  # the coarsest time stamps of file systems: a younger file may change without a new time stamp

log = logging.getLogger(__name__)


class _FileStatus(NamedTuple):
    """What changes when a file changes: its inode, size and times."""

    inode: int
    mode: int
    size: int
    written_ns: int
    changed_ns: int


class _Reading(NamedTuple):
    """The result of reading a run's folder: the status of its files, the base that its entry used, and the entry."""

    statuses: tuple[_FileStatus | None, ...]
    base_id: str | None
    base: ModelEntry | None
    entry: ModelEntry | None  # None if the model cannot be used


_readings: dict[tuple[str, Path], _Reading] = {}  # the last reading of each run and folder


def runs(*, store: Engine | None = None) -> list[ModelEntry]:
    """The models of successful runs, newest first, without those whose folder is missing or damaged."""
    known, usable = dict(entries()), []
    for run_id, folder in reversed(
        artifacts(store=store).items()
    ):  # oldest first, so that a base comes before its runs
        if entry := _entry(run_id, folder, known):
            known[run_id] = entry
            usable.append(entry)
    return usable[::-1]


def _entry(run_id: str, folder: Path, known: Mapping[str, ModelEntry]) -> ModelEntry | None:
    """The model of a run, read again if one of its files or its base has changed; None if it has no usable model."""
    statuses = tuple(_status(folder / name) for name in (ABOUT, WEIGHTS, CONFIG))
    last = _readings.get((run_id, folder))
    if last and last.statuses == statuses and last.base is known.get(last.base_id or ""):
        return last.entry
    reading = _read(run_id, folder, statuses, known)
    if time.time_ns() - max((status.changed_ns for status in statuses if status), default=0) > RECENT_S * 1e9:
        _readings[run_id, folder] = reading
    return reading.entry


def _status(path: Path) -> _FileStatus | None:
    try:
        stat = path.stat()
    except (OSError, ValueError):
        return None
    return _FileStatus(stat.st_ino, stat.st_mode, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


def _read(
    run_id: str, folder: Path, statuses: tuple[_FileStatus | None, ...], known: Mapping[str, ModelEntry]
) -> _Reading:
    about = read_json(folder / ABOUT)
    if about is None or not (folder / WEIGHTS).is_file():
        return _Reading(statuses, None, None, None)
    base_id: str | None = about["base"] if isinstance(about.get("base"), str) else None
    base = known.get(base_id or "")
    try:
        return _Reading(statuses, base_id, base, _run_entry(run_id, folder, about, base))
    except (ValueError, TypeError, AttributeError) as error:  # one damaged folder must not hide the others
        log.warning("Run %s is left out: its %s or config is unusable (%s).", run_id, ABOUT, type(error).__name__)
    return _Reading(statuses, base_id, base, None)


_PATTERN = ("num_hidden_layers", "n_layers", "attention_window", "attention_type", "block_size", "num_random_blocks")


def _window(config: Mapping[str, Any], base: ModelEntry | None) -> int:
    """The window of a run: that of its base, unless it was lengthened to a Longformer (pad_token_id + 1 is unused)."""
    positions: int = config.get("max_position_embeddings", 512)
    if config.get("model_type") == "longformer":
        padding: int = config.get("pad_token_id", 1)
        return positions - padding - 1
    return base.max_tokens if base else positions


def _run_entry(run_id: str, folder: Path, about: Mapping[str, Any], base: ModelEntry | None) -> ModelEntry:
    config = read_json(folder / CONFIG) or {}
    scores = {
        name: value
        for name, value in about.get("metrics", {}).items()
        if name.startswith("test_") and isinstance(value, int | float)
    }
    pattern = {name: config[name] for name in _PATTERN if name in config}
    dataset = about.get("dataset")
    unknown: Tokenizer = {"kind": None, "vocab": None, "cased": None, "lower_case": None}
    return ModelEntry(
        id=run_id,
        name=f"{base.name if base else about.get('base', 'model')} on {dataset}",
        source="run",
        path=str(folder),
        architecture={"model_type": config.get("model_type", "")} | pattern,
        tokenizer=base.tokenizer if base else unknown,
        max_tokens=_window(config, base),
        licence=base.licence if base else None,
        family=base.family if base else "local",
        role="run",
        task=about.get("task") if answers(about.get("task") or "") else None,
        labels=tuple(about.get("labels", ())),
        params={"encoder": about.get("params"), "mlm": None},
        reported=tuple(
            {"metric": name, "dataset": dataset, "value": value, "source": f"run {run_id}", "note": None}
            for name, value in scores.items()
        ),
        teacher=about.get("teacher"),
        start=about.get("base"),
    )


def ready(*, task: str | Sequence[str] | None = None, store: Engine | None = None) -> list[ModelEntry]:
    """Models whose weights are on this machine, the zoo's and then published runs; only those for `task`, if given."""
    here = [entry for entry in entries().values() if entry.loads and weights_here(entry)]
    tasks = (task,) if isinstance(task, str) else task
    return [entry for entry in [*here, *runs(store=store)] if tasks is None or entry.task in tasks]
