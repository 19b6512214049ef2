"""A child that keeps the run-folder contract without any training, and misbehaves where it is told to.

`python scripted_run.py child FOLDER` is the child; the environment variable SCRIPT holds what it does (see SCRIPT
below). `python scripted_run.py worker TIMING` (or `drain TIMING`) is a real worker that starts such children. The
"weights" after a step are a hash chain over the steps, so a resumed run can be compared with one that was never
interrupted. `python scripted_run.py claim TIMING` claims and finishes jobs without any child.
"""

import hashlib
import json
import os
import random
import shutil
import signal
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

SCRIPT = {
    "steps": 6,
    "step_s": 0.02,
    "checkpoint_every": 2,
    "at": None,  # the step after which it misbehaves
    "does": None,  # kill | kill_parent | crash | segfault | disk_full | hang | fail | term_parent | odd_events ...
    "attempts": 1,  # it misbehaves in so many first attempts
    "seed": None,  # of the only spec whose run misbehaves
    "ignore_term": False,
    "bytes": None,  # a file: what it appends to its events, or leaves as its result, when it misbehaves
}


def weights_after(steps: int) -> str:
    """The hash chain of a run that was never interrupted."""
    weights = ""
    for step in range(1, steps + 1):
        weights = _next(weights, step)
    return weights


def _next(weights: str, step: int) -> str:
    return hashlib.sha256(f"{weights}{step}".encode()).hexdigest()


class Child:
    def __init__(self, folder: Path):
        self.folder = folder
        self.script = SCRIPT | json.loads(os.environ.get("SCRIPT", "{}"))
        self.run_spec = json.loads((folder / "spec.json").read_text())
        if self.script["seed"] not in (None, self.run_spec["spec"]["seed"]):
            self.script["at"] = None
        self.stopping = False
        signal.signal(signal.SIGTERM, self._on_term)

    def _on_term(self, *_):
        self.stopping = not self.script["ignore_term"]

    def emit(self, event: str, **fields):
        with (self.folder / "events.jsonl").open("a") as file:
            file.write(json.dumps({"event": event, **fields}) + "\n")

    def save(self, step: int, weights: str):
        draft, final = (self.folder / "checkpoints" / f"{prefix}step-{step}" for prefix in (".tmp-", ""))
        draft.mkdir(parents=True, exist_ok=True)
        (draft / "weights.txt").write_text(weights)
        (draft / "MANIFEST.json").write_text("{}")
        draft.replace(final)
        self.emit("checkpoint", step=step)

    def last(self) -> tuple[int, str]:
        manifests = self.folder.parent.glob("attempt-*/checkpoints/step-*/MANIFEST.json")
        steps = {int(path.parent.name.removeprefix("step-")): path.parent for path in manifests}
        return (max(steps), (steps[max(steps)] / "weights.txt").read_text()) if steps else (0, "")

    def misbehave(self):
        match self.script["does"]:
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "kill_parent":
                os.kill(os.getppid(), signal.SIGKILL)
            case "term_parent":
                os.kill(os.getppid(), signal.SIGTERM)
            case "crash":
                raise RuntimeError("a shape that does not fit")
            case "segfault":
                os.kill(os.getpid(), signal.SIGSEGV)
            case "disk_full":
                sys.exit(28)
            case "hang":
                time.sleep(3600)
            case "odd_events":
                with (self.folder / "events.jsonl").open("ab") as file:
                    file.write(Path(self.script["bytes"]).read_bytes())
                time.sleep(0.2)  # so that they are read and renewed with
            case "odd_result":
                shutil.copy(self.script["bytes"], self.folder / "result.json")
                sys.exit(1)
            case "remove_run":
                shutil.rmtree(self.folder.parent)
            case "fail":
                error = {"type": "BadData", "message": "line 3 has three columns", "next_step": "Correct it."}
                self.finish(state="failed", error=error)
                sys.exit(1)

    def finish(self, **result):
        draft = self.folder / ".tmp-result.json"
        draft.write_text(json.dumps(result))
        draft.replace(self.folder / "result.json")

    def run(self):
        script, attempt = self.script, int(self.folder.name.removeprefix("attempt-"))
        start, weights = self.last()
        print(f"attempt {attempt} starts at step {start}")
        self.emit("plan", steps=script["steps"], start=start)
        for step in range(start + 1, script["steps"] + 1):
            time.sleep(script["step_s"])
            weights = _next(weights, step)
            self.emit("step", step=step, metrics={"loss": 1 / step})
            if self.stopping or step % script["checkpoint_every"] == 0:
                self.save(step, weights)
            if self.stopping:
                sys.exit(143)
            if step == script["at"] and attempt <= script["attempts"]:
                self.misbehave()
        artifact = self.folder / "artifacts" / "model"
        model = self.run_spec["model"]["path"].replace("$STILLROOM_HOME", str(self.folder.parents[2]))
        shutil.copytree(model, artifact)  # a model that other runs can refer to
        (artifact / "weights.txt").write_text(weights)
        self.finish(state="succeeded", metrics={"test_f1": 0.5}, artifact="artifacts/model")


def engine():
    """The engine that starts such children: the local one with another command."""
    from trainer.queue.engines import LocalEngine

    class ScriptedEngine(LocalEngine):
        def command(self, run):
            return [sys.executable, "-S", __file__, "child", str(run.folder)]

    return ScriptedEngine


def inputs(folder: Path) -> tuple[str, str]:
    """References of a model folder and a data set that resolve, as small as they can be."""
    import numpy as np
    from safetensors.numpy import save_file

    model, data = folder / "model", folder / "data"
    model.mkdir()
    data.mkdir()
    save_file({"w": np.zeros(1, dtype=np.float32)}, model / "model.safetensors")
    (model / "config.json").write_text(json.dumps({"model_type": "bert", "architectures": ["BertModel"]}))
    (model / "tokenizer.json").write_text("{}")
    for split in ("train", "dev", "test"):
        (data / f"{split}.conll").write_text("fever\tB-Disease\n")
    return str(model), str(data)


@contextmanager
def database_in_memory(folder: Path):
    """A database URL on a file system in memory where there is one: the same locks, without waiting for a disk."""
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else folder) as place:
        yield f"sqlite:///{place}/stillroom.db"


def processes_of(job_id: str) -> list[int]:
    """Processes that name the job's run folder in their command line."""
    processes = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and f"runs/{job_id}/".encode() in (entry / "cmdline").read_bytes():
                processes.append(int(entry.name))
        except OSError:
            continue
    return processes


def serve(timing: dict, drain: bool):
    """A worker process."""
    from trainer.queue import engines, worker

    engines.ENGINES["local"] = engine()
    worker.work(drain=drain, threads=1, timing=worker.Timing(**timing))
    assert "torch" not in sys.modules


def claim(*, lease_s: float = 30.0, stop_share: float = 0.0, hold_s: float = 0.0):
    """Claim, hold and finish jobs until nothing is queued or running; print what was finished, and in which attempt.

    A share of the claims ends in SIGSTOP: somebody else has to send SIGCONT, and then it is too late.
    """
    from trainer import queue
    from trainer.errors import LeaseLost
    from trainer.queue.engines import Process
    from trainer.queue.store import open_store

    store, watch = open_store(), queue.Watch()
    me = queue.enlist(store, device="cpu", process=Process.of(os.getpid()))
    print("ready", flush=True)
    sys.stdin.readline()
    while True:
        queue.reclaim(store, watch, lease_s=lease_s)
        if (lease := queue.claim(store, me)) is None:
            if all(job.ended_at for job in queue.jobs(store=store, limit=1000)):
                return
            time.sleep(0.1)
            continue
        if random.random() < stop_share:
            os.kill(os.getpid(), signal.SIGSTOP)
        time.sleep(hold_s)
        try:
            queue.finish(store, lease, state="succeeded")
        except LeaseLost:
            print("lost", lease.id, flush=True)
        else:
            print("finished", lease.id, lease.attempts, flush=True)


if __name__ == "__main__":
    options = sys.argv[2]
    match sys.argv[1]:
        case "child":
            Child(Path(options)).run()
        case "claim":
            claim(**json.loads(options))
        case mode:
            serve(json.loads(options), drain=mode == "drain")
