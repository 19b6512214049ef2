"""Checks of a model folder before anything in it is used: it may hold plain data and safetensors, nothing else.

Nothing here imports torch or opens a tensor; the checks read headers and hash bytes.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainer.bounds import shown
from trainer.errors import CorruptFile, Refused, Unavailable
from trainer.files import MANIFEST, sha256
from trainer.zoo import outputs
from trainer.zoo.outputs import Outputs

WEIGHTS = "model.safetensors"
HEADER_CAP = 10 * 2**20  # bytes of JSON before the tensors; real headers are below 0.1 MB
LARGEST = 2**53  # integers up to here are exact as a float too
TEXT_CAP = 50 * 2**20  # bytes of a config or tokenizer file
_CHOOSE = "Give a folder that holds config.json, the tokenizer and model.safetensors."
_PICKLES = (".bin", ".pt", ".pt2", ".pth", ".pkl", ".pickle", ".ckpt", ".npy", ".npz")


def read_json(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file, or None if the file is missing or holds anything else."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def check_folder(folder: Path) -> None:
    """Refuse a model folder that is not plain data, before anything in it is used.

    Raises Refused (only a pickle, remote code, a file too large), CorruptFile (no config, damaged safetensors, unusable
    labels) or Unavailable (an adapter, several weight files, or no way to tell what the head is).
    """
    if not (folder / "config.json").is_file():
        raise CorruptFile(f"{folder} is not a model folder: it has no config.json.", next_step=_CHOOSE)
    for path in texts(folder):
        if path.stat().st_size > TEXT_CAP:
            what = f"{path.name} of {folder} is larger than {TEXT_CAP // 2**20} MB."
            raise Refused(what, next_step="Remove everything from it that is not configuration or tokenizer.")
    for name in ("config.json", "tokenizer_config.json"):
        settings = read_json(folder / name)
        if settings is None and (folder / name).exists():
            raise CorruptFile(f"{name} of {folder} is not a JSON object.")
        if settings and settings.get("auto_map"):
            raise Refused(
                f"{name} of {folder} asks for remote code (auto_map), which is never run.",
                next_step="Use a checkpoint whose architecture is part of transformers or of Stillroom.",
            )
    _check_numbers(folder)
    if not (folder / WEIGHTS).is_file():
        _no_weights(folder)
    _check_header(folder / WEIGHTS)
    outputs_of(folder)


def outputs_of(folder: Path) -> Outputs:
    """The head of a model folder and what its outputs stand for. Raises the errors of outputs.read."""
    shapes = {name: tensor["shape"] for name, tensor in _header(folder / WEIGHTS)[1].items()}
    return outputs.read(read_json(folder / "config.json") or {}, shapes, where=str(folder))


def _check_numbers(folder: Path) -> None:
    """Raise CorruptFile for an implausibly large integer in the config: memory and time are computed from these."""
    values: list[tuple[str, Any]] = [("", read_json(folder / "config.json"))]
    while values:
        place, value = values.pop()
        if isinstance(value, dict | list):
            items = value.items() if isinstance(value, dict) else enumerate(value)
            values += [(f"{place}.{name}".lstrip("."), item) for name, item in items]
        elif isinstance(value, int) and abs(value) > LARGEST:
            raise CorruptFile(f"config.json of {folder}: {place} is {shown(value)}; no model is so large.")


def texts(folder: Path) -> list[Path]:
    """The configuration and tokenizer files of a model folder, sorted by name."""
    paths = (path for path in folder.iterdir() if path.suffix in (".json", ".txt", ".model") and path.name != MANIFEST)
    return sorted(path for path in paths if path.is_file())


def _no_weights(folder: Path) -> None:
    names = sorted(path.name for path in folder.iterdir())
    pickles = [name for name in names if name.endswith(_PICKLES)]
    if pickles:
        raise Refused(
            f"{folder} holds its weights only as a pickle ({', '.join(pickles[:3])}), which can run code when read.",
            next_step="For a zoo model run `stillroom zoo fetch ID --allow-pickle`, which keeps it as safetensors; "
            "otherwise convert it yourself if you trust it.",
        )
    if any(name.endswith(".safetensors.index.json") for name in names):
        raise Unavailable(f"{folder} holds its weights in several files.", next_step=f"Save them as one {WEIGHTS}.")
    if "adapter_config.json" in names:
        raise Unavailable(f"{folder} holds an adapter, not a model.", next_step="Merge it into its base and save that.")
    raise CorruptFile(f"{folder} holds no {WEIGHTS}.", next_step=_CHOOSE)


def _check_header(path: Path) -> None:
    """Raise CorruptFile unless a file is an 8-byte length, JSON of that length, and exactly the bytes it describes."""
    size = path.stat().st_size
    try:
        length, tensors = _header(path)
        ends = [tensor["data_offsets"][1] for tensor in tensors.values()]
        whole = 8 + length + max(ends, default=0)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
        raise CorruptFile(f"{path} is not a safetensors file: its header cannot be read.") from None
    if whole != size:
        raise CorruptFile(f"{path} has {size:,} bytes where its header says {whole:,}; it is incomplete or damaged.")


def _header(path: Path) -> tuple[int, dict[str, dict[str, Any]]]:
    """The length of a safetensors header in bytes, and its entry for each tensor by name."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > HEADER_CAP:
            what = f"{path} has a header of {length:,} bytes; allowed are {HEADER_CAP:,}."
            raise Refused(what, next_step="Copy or fetch it again from its source.")
        header = json.loads(file.read(length))
    return length, {name: tensor for name, tensor in header.items() if name != "__metadata__"}


def loaded_bytes(folder: Path) -> int:
    """The memory that the tensors of a checked folder take in fp32, whatever their type on disk, in bytes."""
    return sum(4 * math.prod(tensor["shape"]) for tensor in _header(folder / WEIGHTS)[1].values())


def loading_bytes(folder: Path) -> int:
    """The minimum memory while loading, in bytes: the file, which is hashed, and the tensors at the same time."""
    return loaded_bytes(folder) + (folder / WEIGHTS).stat().st_size


def check_hashes(folder: Path, pinned: Mapping[str, str]) -> None:
    """Raise CorruptFile unless every pinned file, and every file in the folder's manifest, has its SHA-256."""
    manifest = read_json(folder / MANIFEST) or {}
    for name, expected in {**manifest, **pinned}.items():
        if not (folder / name).is_file() or sha256(folder / name) != expected:
            raise CorruptFile(
                f"{name} of {folder} does not match its checksum.",
                next_step="Fetch or copy the model again; what you changed on purpose needs its own folder.",
            )
