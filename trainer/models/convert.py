"""A pickle of plain tensors as safetensors: `python -m trainer.models.convert PICKLE TARGET`, a process of its own."""

import sys

import torch
from safetensors.torch import save_file


def convert(pickle: str, target: str) -> None:
    """Read tensors only, and write them as safetensors."""
    tensors = torch.load(pickle, map_location="cpu", weights_only=True)
    # Tied weights share memory in a pickle and may not in safetensors.
    plain = {name: value.clone().contiguous() for name, value in tensors.items() if isinstance(value, torch.Tensor)}
    save_file(plain, target, metadata={"format": "pt"})


if __name__ == "__main__":
    convert(*sys.argv[1:])
