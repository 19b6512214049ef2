"""Converts a pickle of plain tensors to safetensors, in a separate process: `python -m trainer.models.convert`."""

import os
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from trainer.errors import Refused
from trainer.home import ROOT

TIMEOUT_S = 600


def convert_apart(pickle: Path, target: Path) -> None:
    """Replace a pickle with safetensors. A separate process reads it, without the environment's secrets.

    Raises Refused if it cannot be read as plain tensors; the pickle is deleted in any case.
    """
    environment = {name: os.environ[name] for name in ("PATH", "HOME", "LD_LIBRARY_PATH") if name in os.environ}
    command = [sys.executable, "-m", "trainer.models.convert", str(pickle), str(target)]
    try:
        finished = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        finished = None
    pickle.unlink()
    if finished is None or finished.returncode:
        raise Refused(
            f"{pickle.name} could not be read as plain tensors and was deleted.",
            next_step="It may be damaged, or hold more than tensors. Choose a checkpoint with safetensors.",
        )


def convert(pickle: str, target: str) -> None:
    """Read tensors only, and write them as safetensors."""
    tensors = torch.load(pickle, map_location="cpu", weights_only=True)
    # Tied weights share memory in a pickle and may not in safetensors.
    plain = {name: value.clone().contiguous() for name, value in tensors.items() if isinstance(value, torch.Tensor)}
    save_file(plain, target, metadata={"format": "pt"})


if __name__ == "__main__":
    convert(*sys.argv[1:])
