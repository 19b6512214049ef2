"""Exact training state on disk: weights and optimiser moments as safetensors, the rest as JSON.

Batches and dropout noise are functions of (seed, step), so no state of random generators or loaders is stored.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, load_model, save_file, save_model

from trainer.datasets.rows import words
from trainer.errors import CorruptFile
from trainer.files import MANIFEST, commit_folder, verify_folder
from trainer.run import Run, checkpoint_step

KEEP = 2  # newest checkpoints that are not deleted, besides the best one


@dataclass
class Progress:
    """The state of training besides tensors.

    step: finished steps. best_step, best_score: of the best dev evaluation. stopped: whether training is over.
    evaluations: the dev scores so far, each with its step. words: the version of the definition of a word
    (datasets.rows.words) with which it began.
    """

    step: int = 0
    best_step: int | None = None
    best_score: float | None = None
    evaluations_since_best: int = 0
    stopped: bool = False
    evaluations: list[dict[str, Any]] = field(default_factory=list)
    words: int = words.VERSION

    def record(self, score: float, metrics: Mapping[str, float]) -> None:
        """Add a dev evaluation at the current step; of equal scores the first stays the best."""
        self.evaluations.append({"step": self.step, **metrics})
        if self.best_score is None or score > self.best_score:
            self.best_step, self.best_score, self.evaluations_since_best = self.step, score, 0
        else:
            self.evaluations_since_best += 1


def save(run: Run, model: torch.nn.Module, optimizer: torch.optim.Optimizer, progress: Progress) -> Path:
    """Commit checkpoints/step-<n> completely or not at all, then delete those that are no longer needed."""

    def write(folder: Path) -> None:
        save_model(model, str(folder / "model.safetensors"))  # tied tensors once
        save_file(_moments(optimizer), folder / "optimizer.safetensors")
        (folder / "progress.json").write_text(json.dumps(asdict(progress)))

    target = run.folder / "checkpoints" / f"step-{progress.step}"
    commit_folder(target, write)
    _prune(run, progress)
    run.emit("checkpoint", step=progress.step)
    return target


def latest(run: Run) -> Path | None:
    """The newest undamaged checkpoint of any attempt, or None; damaged ones are skipped with a note."""
    for folder in run.checkpoints():
        try:
            verify_folder(folder)
            return folder
        except CorruptFile as error:
            run.emit("note", message=f"Skipped a damaged checkpoint: {error.message}")
    return None


def at_step(run: Run, step: int) -> Path:
    """The checkpoint of one step, from any attempt that has it undamaged. Raises CorruptFile where none has."""
    for folder in run.checkpoints():
        if checkpoint_step(folder) == step:
            try:
                verify_folder(folder)
                return folder
            except CorruptFile:
                continue
    raise CorruptFile(
        f"The checkpoint of step {step}, the best one, is missing or damaged.",
        next_step="Run the job again from the start (retry with --fresh).",
    )


def restore(folder: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> Progress:
    """Load weights and moments, bit for bit as saved, and return the progress."""
    restore_weights(folder, model)
    moments = load_file(folder / "optimizer.safetensors")
    for index, parameter in enumerate(_parameters(optimizer)):
        # Moments are stored under the position of their parameter in the optimiser.
        state = {name.split(".", 1)[1]: value for name, value in moments.items() if name.split(".", 1)[0] == str(index)}
        if state:
            optimizer.state[parameter] = {
                name: value.to(value.device if name == "step" else parameter.device) for name, value in state.items()
            }
    return Progress(**{"words": 1} | json.loads((folder / "progress.json").read_text()))  # older ones lack it


def restore_weights(folder: Path, model: torch.nn.Module) -> None:
    """Load the weights of a checkpoint into `model`. Raises CorruptFile where they are of another architecture."""
    missing, unexpected = load_model(model, folder / "model.safetensors", strict=False)
    if missing or unexpected:
        raise CorruptFile(f"{folder.name} belongs to another architecture: {sorted({*missing, *unexpected})[:3]}.")


def _parameters(optimizer: torch.optim.Optimizer) -> list[torch.nn.Parameter]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _moments(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    return {
        f"{index}.{name}": value.contiguous()
        for index, parameter in enumerate(_parameters(optimizer))
        for name, value in optimizer.state.get(parameter, {}).items()
    }


def _prune(run: Run, progress: Progress) -> None:
    """Delete old checkpoints of this attempt; those of other attempts may be in use."""
    folders = [folder for folder in run.checkpoints() if folder.parent == run.folder / "checkpoints"]
    for folder in folders[KEEP:]:
        if checkpoint_step(folder) != progress.best_step:
            # Without its manifest it is no checkpoint, so an interrupted deletion leaves nothing that seems one.
            (folder / MANIFEST).unlink(missing_ok=True)
            shutil.rmtree(folder, ignore_errors=True)
