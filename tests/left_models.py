"""Run folders of ended runs with a model, written without training."""

import json
import shutil
from pathlib import Path

from trainer import datasets
from trainer.datasets.rows.words import expand_tags, join, words_in
from trainer.evaluation import outcomes
from trainer.home import runs_dir
from trainer.run import Result, Run

COST = {"params": 22_566_531, "disk_bytes": 45_000_000, "latency_ms_p50": 4.5, "latency_ms_p95": 9.25}
PLACE = {"hardware": "A processor", "threads": 1, "precision": "float32"}


def leave(job_id: str, model: Path | str | None, *, state: str = "succeeded") -> Path:
    """End the first attempt at a job as its child process does, with a copy of a model if there is one; its folder."""
    run = Run(runs_dir() / job_id / "attempt-1")
    run.folder.mkdir(parents=True, exist_ok=True)
    folder = run.folder / "artifacts" / "model"
    if model and Path(model).is_dir():
        shutil.copytree(model, folder)
    error = {"type": "Crashed", "message": "It ended."} if state == "failed" else None
    run.finish(Result(state=state, artifact="artifacts/model" if model else None, error=error))
    return folder


def leave_scored(job_id: str, *, every: int, dataset: str = "ncbi-disease-slice") -> dict[str, float]:
    """End an evaluation whose model reads each entity but every n-th right, and finds its first word; its metrics."""
    examples = datasets.load(dataset, "test")
    texts = [join(each.words) for each in examples]
    places = [words_in(each.text).places for each in texts]
    owners = [text.owners(at[:, 0]) for text, at in zip(texts, places, strict=True)]
    gold, read = ([expand_tags(each.tags, o) for each, o in zip(examples, owners, strict=True)] for _ in range(2))
    entities = [(tags, place) for tags in read for place, tag in enumerate(tags) if tag.startswith("B-")]
    for number, (tags, place) in enumerate(entities):
        inside = range(place + 1, next((n for n in range(place + 1, len(tags)) if tags[n][0] != "I"), len(tags)))
        if number % every == 0:
            tags[place] = "O" if not inside else tags[place]
            tags[place + 1 : inside.stop] = ["O"] * len(inside)
    stored = outcomes.of_spans(places, gold, read, measures="f1", unit="sentences")
    score = outcomes.score("f1", stored.table(), stored.right())
    run = Run(runs_dir() / job_id / "attempt-1")
    run.folder.mkdir(parents=True, exist_ok=True)
    (run.folder / "spec.json").write_text(json.dumps({"dataset": {"sha256": "0" * 64}, "threads": 1}))
    stored.write(run.folder)
    curve = [{"n": 9, "probability": each / 10 + 0.05, "true": each / 12} for each in range(10)]
    report = {
        "n": stored.n,
        "unit": "sentences",
        "intervals": {"f1": [score - 0.03, min(1.0, score + 0.03)]},
        "cost": COST | {"peak_memory_bytes": 500_000_000 + every},
        "measured_on": PLACE,
        "baseline": {"name": "mentions of train, looked up", "metrics": {"f1": 0.4}},
        "slices": [{"slice": "length", "part": "up to 9 words", "n": 9, "score": score, "interval": [0.7, 0.9]}],
        "calibration": {"ece": 0.12, "ece_scaled": 0.03, "temperature": 1.8, "fitted_on": 500}
        | {"curve": curve, "curve_scaled": [each | {"true": each["probability"]} for each in curve]},
    }
    run.finish(Result(state="succeeded", metrics={"f1": score}, report=report))
    return {"f1": score}
