"""A state that has grown: what pages, commands and the worker's looks take with many runs and very many jobs.

    python -m benchmarks.state [--json] [--runs 500] [--jobs 10000] [--rounds 5] [--only page-train]

A state folder of its own holds `runs` finished runs, each with a small model folder, and in all `jobs` jobs: half as
many runs again whose folder is gone, jobs that wait in line, and jobs that have ended without a model. `seconds` is the
median by the clock, `processor_seconds` that of the time on the processor, which other work on the machine changes
little; `limit_seconds` is what was promised. A page is drawn by Streamlit's AppTest, after it was drawn once.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from streamlit.testing.v1 import AppTest

from benchmarks import measure
from trainer import queue
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
    """Make the state in `home`, which STILLROOM_HOME names; the ids of the finished runs, newest first."""
    rows = [_row(number, *_kind(number, runs, jobs)) for number in range(jobs)]
    store.write(store.open_store(), lambda connection: connection.execute(store.job.insert(), rows))
    finished = [row["id"] for row in rows[-runs:]]
    for run_id in finished:
        _folder(home / "runs" / run_id / "attempt-1", run_id)
    return finished[::-1]


def _kind(number: int, runs: int, jobs: int) -> tuple[str, bool]:
    """State of a job, and whether it made a model: the newest are the runs, then come those that are gone."""
    back = jobs - number
    if back <= runs + runs // 2:
        return "succeeded", True
    return ("queued", "failed", "cancelled", "succeeded")[min(number % 20, 3)], False


def _row(number: int, state: str, model: bool) -> dict:
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
    """What is timed, by name."""
    for name in PAGES:
        yield f"page-{name}", _page(name)
    yield "page-job", _page("jobs", job=finished[0])
    for name, arguments in COMMANDS.items():
        yield f"command-{name}", lambda arguments=arguments: _command(*arguments)
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


def case(name: str, side: Callable[[], object], *, rounds: int) -> dict:
    """Median seconds of one side, after a rehearsal."""
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
    """Seconds on the processor of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def processor() -> str:
    """The model of the processor, as the system names it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--runs", type=int, default=500, help="finished runs whose model is there")
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
        size = {"runs": chosen.runs, "jobs": chosen.jobs, "processor": processor()}
        cases = [case(name, side, rounds=chosen.rounds) | size for name, side in wanted]
    measure.show(cases, as_json=chosen.json)


if __name__ == "__main__":
    main()
