"""Runs as models: those that succeeded and left one, and with the zoo's all that are ready to use. No torch."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from trainer.queue import jobs
from trainer.tasks import LABELLED
from trainer.zoo import ABOUT, ModelEntry, Tokenizer, entries, weights_here
from trainer.zoo.weights import WEIGHTS, read_json

log = logging.getLogger(__name__)


def runs(*, store=None) -> list[ModelEntry]:
    """Runs that succeeded and left a model behind, newest first; those whose folder is gone or damaged are left out."""
    known, found = dict(entries()), []
    done = [job for job in jobs(store=store, limit=10_000) if job.state == "succeeded" and job.artifact]
    for job in reversed(done):  # oldest first, so that a run's base is known before it
        folder = Path(job.artifact)
        about = read_json(folder / ABOUT)
        if about is None or not (folder / WEIGHTS).is_file():
            continue
        try:
            known[job.id] = _run_entry(job.id, folder, about, known.get(about.get("base")))
        except (ValueError, TypeError, AttributeError) as error:  # one damaged folder must not hide the others
            log.warning(
                "Run %s is left out: its %s or config cannot be used (%s).", job.id, ABOUT, type(error).__name__
            )
            continue
        found.append(known[job.id])
    return found[::-1]


_PATTERN = ("num_hidden_layers", "n_layers", "attention_window", "attention_type", "block_size", "num_random_blocks")


def _window(config: Mapping, base: ModelEntry | None) -> int:
    """A run reads as far as its base, unless it was lengthened. A Longformer counts positions from pad_token_id + 1."""
    positions = config.get("max_position_embeddings", 512)
    if config.get("model_type") == "longformer":
        return positions - config.get("pad_token_id", 1) - 1
    return base.max_tokens if base else positions


def _run_entry(run_id: str, folder: Path, about: Mapping, base: ModelEntry | None) -> ModelEntry:
    config = read_json(folder / "config.json") or {}
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
        task=about.get("task") if about.get("task") in LABELLED else None,
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
