"""Run folders of ended runs with a model, written without training."""

import shutil
from pathlib import Path

from trainer.home import runs_dir
from trainer.run import Result, Run


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
