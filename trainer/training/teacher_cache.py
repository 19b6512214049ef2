"""Content-addressed cache of teacher outputs: computed once per data set, so later epochs and runs pay nothing.

Stored per unit, that is per word, at its first piece, or per document, so that the student may cut words differently.
"""

import hashlib
import json
import mmap
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from trainer.datasets.rows.batches import Batches
from trainer.datasets.rows.tokens import lock
from trainer.errors import CorruptFile
from trainer.files import commit_folder, verify_folder
from trainer.inference.window_batches import check_finite
from trainer.models.heads import document_reading, forward, is_classifier, unit_numbers, unit_states
from trainer.zoo.outputs import head_of_model

FORMAT = 1  # of the stored files; another number leaves old files alone
BATCH_TOKENS = 4096
LOGITS, STATES = "logits.npy", "states.npy"


class TeacherOutputs(NamedTuple):
    """Outputs of a teacher by unit: logits (units, labels) fp32, hidden states (units, levels, hidden) fp16 on disk."""

    logits: np.memmap
    states: np.memmap

    @property
    def unit_bytes(self) -> int:
        """What a unit takes up on disk."""
        return sum(file[:1].nbytes for file in self)

    def at(self, numbers: torch.Tensor) -> dict[str, torch.Tensor]:
        """teacher_logits (units, labels) and teacher_states (units, levels, hidden), fp32, of the units `numbers`."""
        chosen = numbers.numpy()
        outputs = {
            "teacher_logits": torch.from_numpy(self.logits[chosen]),
            "teacher_states": torch.from_numpy(self.states[chosen].astype(np.float32)),
        }
        _let_go(*self)
        return outputs


def teacher_outputs(
    teacher: torch.nn.Module,
    rows,
    *,
    levels: Sequence[int],
    weights: str,
    cache: Path,
    progress: Callable[[int, int], None] | None = None,
    batch_tokens: int = BATCH_TOKENS,
) -> TeacherOutputs:
    """The teacher's outputs for `rows` (with their units), from `cache` or computed now on the teacher's device.

    levels: whose hidden states are stored, 0 the embedding output. weights: SHA-256 of the teacher's file. The key
    covers both and every piece and unit of the rows, so other data, another tokenizer or another teacher never meet old
    outputs; a damaged folder is computed again. progress gets (rows done, rows in all) after each batch, and stops the
    work by raising; nothing is stored then. Raises OSError (ENOSPC) before any work where the disk has no room.
    """
    settings: list = [document_reading(teacher)["pooling"]] if is_classifier(teacher) else []
    if tuple(levels) != (teacher.config.num_hidden_layers,):  # the last alone has the key that it had before levels
        settings.append(list(levels))
    folder = Path(cache) / "teacher" / _key(rows, [FORMAT, weights, *settings])
    folder.parent.mkdir(parents=True, exist_ok=True)
    with lock(folder):  # of two runs that start together one asks the teacher, and the other waits
        if not _whole(folder):
            commit_folder(folder, lambda draft: _fill(draft, teacher, rows, levels, progress, batch_tokens))
    logits, states = (np.load(folder / name, mmap_mode="r") for name in (LOGITS, STATES))
    return TeacherOutputs(logits, states.reshape(len(states), len(levels), teacher.config.hidden_size))


def _key(rows, settings: list) -> str:
    digest = hashlib.sha256(json.dumps(settings).encode())
    for row in rows.content():
        digest.update(np.array(row, dtype=np.int64).tobytes())
    return digest.hexdigest()


def _whole(folder: Path) -> bool:
    if not folder.exists():
        return False
    try:
        verify_folder(folder)
        return True
    except CorruptFile:
        return False


def _fill(draft: Path, teacher: torch.nn.Module, rows, levels: Sequence[int], progress, batch_tokens: int) -> None:
    """The files of a folder; where they cannot be finished, their room is given back at once."""
    widths = {LOGITS: (np.float32, teacher.config.num_labels)}
    widths[STATES] = (np.float16, len(levels) * teacher.config.hidden_size)
    try:
        files = [_reserved(draft / name, (rows.units, width), dtype) for name, (dtype, width) in widths.items()]
        _compute(teacher, rows, levels, *files, progress, batch_tokens)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    for file in files:
        file.flush()


def _reserved(path: Path, shape: tuple[int, int], dtype: type) -> np.memmap:
    """A mapped file with its room on the disk: one that finds the disk full later ends the process (SIGBUS)."""
    mapped = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return mapped


def _let_go(*files: np.memmap) -> None:
    """Keep no page of these files in this process: they stay in the system's cache, which is not what can run out."""
    for mapping in map(_mapping, files):
        if hasattr(mmap, "MADV_DONTNEED") and mapping is not None:
            mapping.madvise(mmap.MADV_DONTNEED)  # a shared mapping: what was written stays


def _mapping(array: np.ndarray) -> mmap.mmap | None:
    """The mapped file below an array or a view of it; None below an empty one, whose mapping numpy forgets."""
    while isinstance(array, np.ndarray):
        array = array.base
    return array if isinstance(array, mmap.mmap) else None


def _compute(
    teacher: torch.nn.Module,
    rows,
    levels: Sequence[int],
    logits: np.memmap,  # (units, labels)
    states: np.memmap,  # (units, levels x hidden)
    progress: Callable[[int, int], None] | None,
    batch_tokens: int,
) -> None:
    device, head = next(teacher.parameters()).device, head_of_model(teacher)
    done = 0
    for indices in Batches(rows.lengths, seed=0, batch_tokens=batch_tokens, batch_size=None).epoch(0):
        batch = {name: tensor.to(device) for name, tensor in rows.batch(indices).items()}
        numbers = unit_numbers(batch).cpu().numpy()
        with torch.inference_mode():
            output = forward(teacher, batch, head=head, levels=levels)
            check_finite(output.logits.float(), teacher)
            logits[numbers] = output.logits.float().cpu().numpy()
            for place, level in enumerate(levels):
                part = unit_states(teacher, output.states[level], batch).half().cpu().numpy()
                states[numbers, place * part.shape[1] : (place + 1) * part.shape[1]] = part
        _let_go(logits, states)
        done += len(indices)
        if progress:
            progress(done, len(rows.lengths))
