"""A large state folder: how long pages, commands and the worker's checks take with many runs and very many jobs.

    python -m benchmarks.state [--json] [--runs 500] [--jobs 10000] [--rounds 5] [--only page-train]

A state folder of its own has `runs` finished runs, each with a small model folder, and `jobs` jobs in all: half as many
runs again whose folder is gone, queued jobs, and jobs that ended without a model. `seconds` is the median wall time,
`processor_seconds` the median processor time, which depends little on other work of the machine; `limit_seconds` is
what was promised. A page is drawn by Streamlit's AppTest, after one warm-up.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from streamlit.testing.v1 import AppTest

from benchmarks import measure
from trainer import queue
from trainer.evaluation import hardware
from trainer.offline import go_offline
from trainer.queue import published, store
from trainer.spec import parse

ROOT = Path(__file__).parents[1]
LIMITS = {"page-train": 0.3, "command-jobs": 0.5, "command-help": 0.3}  # seconds
PAGES = ("train", "jobs", "zoo", "compare")
COMMANDS = {"help": ("--help",), "jobs": ("jobs",), "zoo": ("zoo",)}
BYTES = 20_000  # of a log

ABOUT = {"task": "ner", "labels": ["Chemical", "Disease"], "base": "minilm", "dataset": "bc5cdr", "params": 22_565_376}
CONFIG = {"model_type": "bert", "num_hidden_layers": 6, "max_position_embeddings": 512}
WEIGHTS = (2).to_bytes(8, "little") + b"{}"  # a safetensors file without a tensor


def fill(home: Path, *, runs: int, jobs: int) -> list[str]:
    """Fill the state folder `home`, which STILLROOM_HOME names; returns the ids of finished runs, newest first."""
    rows = [_row(number, *_kind(number, runs, jobs)) for number in range(jobs)]
    store.write(store.open_store(), lambda connection: connection.execute(store.job.insert(), rows))
    finished = [row["id"] for row in rows[-runs:]]
    for run_id in finished:
        _folder(home / "runs" / run_id / "attempt-1", run_id)
    return finished[::-1]


def _kind(number: int, runs: int, jobs: int) -> tuple[str, bool]:
    """The state of a job, and whether it has a model: the newest are the runs, before them those without a folder."""
    back = jobs - number
    if back <= runs + runs // 2:
        return "succeeded", True
    return ("queued", "failed", "cancelled", "succeeded")[min(number % 20, 3)], False


def _row(number: int, state: str, model: bool) -> dict[str, Any]:
    kind = "finetune" if model or state != "succeeded" else "evaluate"
    spec = parse({"kind": kind, "model": "minilm-bc5cdr", "dataset": "bc5cdr", "seed": number})
    job_id, ended = f"{spec.digest[:8]}-{number + 1}", None if state == "queued" else number + 60.0
    error = {"type": "Crashed", "message": "It ended.", "next_step": "Try again."} if state == "failed" else None
    return {
        "id": job_id,
        "digest": spec.digest,
        "number": number + 1,
        "kind": kind,
        "spec": spec.model_dump(mode="json"),
        "state": state,
        "turn": number + 1,
        "step": 0 if state == "queued" else 100,
        "steps": None if state == "queued" else 100,
        "metrics": _metrics(number) if state == "succeeded" else {},
        "artifact": f"runs/{job_id}/attempt-1/artifacts/model" if model else None,
        "error": error,
        "created_at": float(number),
        "started_at": None if state == "queued" else float(number),
        "ended_at": ended,
    }


def _metrics(number: int) -> dict[str, float]:
    names = ("precision", "recall", "f1", "f1.Chemical", "f1.Disease")
    return {f"{split}_{name}": number % 1000 / 1000 for split in ("dev", "test") for name in names}


def _folder(attempt: Path, run_id: str) -> None:
    model = attempt / "artifacts" / "model"
    model.mkdir(parents=True)
    about = ABOUT | {"run": run_id, "metrics": _metrics(1)}
    (model / "stillroom.json").write_text(json.dumps(about, indent=2), encoding="utf-8")
    (model / "config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    (model / "model.safetensors").write_bytes(WEIGHTS)
    (attempt / "log.txt").write_text("step\n" * (BYTES // 5), encoding="utf-8")
    result = {"state": "succeeded", "metrics": about["metrics"], "artifact": "artifacts/model"}
    (attempt / "result.json").write_text(json.dumps(result), encoding="utf-8")


def sides(finished: list[str]) -> Iterator[tuple[str, Callable[[], object]]]:
    """(name, call) of everything that is timed."""
    for name in PAGES:
        yield f"page-{name}", _page(name)
    yield "page-job", _page("jobs", job=finished[0])
    for name, arguments in COMMANDS.items():
        yield f"command-{name}", partial(_command, *arguments)
    opened = store.open_store()
    yield "models-that-are-ready", published.ready
    yield "list-of-jobs", queue.jobs
    yield "one-job", lambda: queue.job(finished[0])
    yield "look-of-a-worker", lambda: _look(opened)


def _page(name: str, **address: str) -> Callable[[], None]:
    page = AppTest.from_string(f"from workbench.pages import {name}; {name}.render()", default_timeout=600)
    for field, value in address.items():
        page.query_params[field] = value

    def draw() -> None:
        page.run()
        if page.exception:
            raise SystemExit(f"The page {name} failed: {page.exception[0].message}")

    return draw


def _command(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "workbench.cli", *arguments], cwd=ROOT, check=True, capture_output=True)


def _look(opened: store.Engine) -> None:
    queue.reclaim(opened, queue.Watch())
    queue.sweep(opened)
    queue.waiting(opened)


def case(name: str, side: Callable[[], object], *, rounds: int) -> dict[str, Any]:
    """Median seconds of one side, after a warm-up."""
    side()
    clock, processor = [], []
    for _ in range(rounds):
        began, spent = time.perf_counter(), _processor_s()
        side()
        clock.append(time.perf_counter() - began)
        processor.append(_processor_s() - spent)
    return {
        "name": name,
        "seconds": statistics.median(clock),
        "processor_seconds": statistics.median(processor),
        "limit_seconds": LIMITS.get(name),
    }


def _processor_s() -> float:
    """The processor time in seconds of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--runs", type=int, default=500, help="finished runs with a model")
    parser.add_argument("--jobs", type=int, default=10_000, help="jobs in all")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", help="what the names of the cases begin with")
    chosen = parser.parse_args()
    go_offline()
    with tempfile.TemporaryDirectory() as home:
        os.environ["STILLROOM_HOME"] = home
        os.environ.pop("STILLROOM_DB", None)
        finished = fill(Path(home), runs=chosen.runs, jobs=chosen.jobs)
        wanted = [side for side in sides(finished) if side[0].startswith(chosen.only or "")]
        size = {"runs": chosen.runs, "jobs": chosen.jobs, "processor": hardware.processor()}
        cases = [case(name, side, rounds=chosen.rounds) | size for name, side in wanted]
    measure.show(cases, as_json=chosen.json)


if __name__ == "__main__":
    main()
