"""Content-addressed cache of teacher outputs: computed once per data set, so later epochs and runs pay nothing.

Outputs are stored by unit, that is for each word (at its first piece) or document, so that the tokenizers of teacher
and student may differ.
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
from transformers import PreTrainedModel

from trainer.datasets.rows.batches import Batches
from trainer.datasets.rows.tokens import lock
from trainer.errors import CorruptFile
from trainer.examples.task_data import LabelledRows
from trainer.files import commit_folder, verify_folder
from trainer.inference.window_batches import check_finite
from trainer.models.heads import document_reading, forward, is_classifier, unit_numbers, unit_states
from trainer.zoo.outputs import head_of_model

FORMAT = 1  # of the stored files, part of their key
BATCH_TOKENS = 4096
LOGITS, STATES = "logits.npy", "states.npy"

Report = Callable[[int, int], None]  # called with (rows done, rows in all)


class TeacherOutputs(NamedTuple):
    """Outputs of a teacher by unit: logits (units, labels) fp32, hidden states (units, levels, hidden) fp16 on disk."""

    logits: np.memmap
    states: np.memmap

    @property
    def unit_bytes(self) -> int:
        """Bytes on disk for each unit."""
        return int(sum(file[:1].nbytes for file in self))

    def at(self, numbers: torch.Tensor) -> dict[str, torch.Tensor]:
        """teacher_logits (units, labels) and teacher_states (units, levels, hidden), fp32, for the units `numbers`."""
        chosen = numbers.numpy()
        outputs = {
            "teacher_logits": torch.from_numpy(self.logits[chosen]),
            "teacher_states": torch.from_numpy(self.states[chosen].astype(np.float32)),
        }
        _drop_pages(*self)
        return outputs


def teacher_outputs(
    teacher: PreTrainedModel,
    rows: LabelledRows,
    *,
    levels: Sequence[int],
    weights: str,
    cache: Path,
    progress: Report | None = None,
    batch_tokens: int = BATCH_TOKENS,
) -> TeacherOutputs:
    """The teacher's outputs for `rows`, from the folder `cache` or computed now on the teacher's device.

    levels: whose hidden states are stored, 0 for the embedding output. weights: SHA-256 of the teacher's weights. The
    key covers both and every piece and unit of the rows, so outputs of other data, tokenizers or teachers are never
    used; a damaged entry is computed again. progress: called with (rows done, rows in all) after each batch; where it
    raises, the work stops and nothing is stored. Raises OSError (ENOSPC) before any work where the disk is too full.
    """
    settings: list[object] = [document_reading(teacher)["pooling"]] if is_classifier(teacher) else []
    if tuple(levels) != (teacher.config.num_hidden_layers,):  # the last alone: its key is as in older versions
        settings.append(list(levels))
    folder = Path(cache) / "teacher" / _key(rows, [FORMAT, weights, *settings])
    folder.parent.mkdir(parents=True, exist_ok=True)
    with lock(folder):  # of two runs that start together one computes, and the other waits
        if not _is_intact(folder):
            commit_folder(folder, lambda draft: _fill(draft, teacher, rows, levels, progress, batch_tokens))
    logits, states = (np.load(folder / name, mmap_mode="r") for name in (LOGITS, STATES))
    return TeacherOutputs(logits, states.reshape(len(states), len(levels), teacher.config.hidden_size))


def _key(rows: LabelledRows, settings: Sequence[object]) -> str:
    digest = hashlib.sha256(json.dumps(list(settings)).encode())
    for row in rows.content():
        digest.update(np.array(row, dtype=np.int64).tobytes())
    return digest.hexdigest()


def _is_intact(folder: Path) -> bool:
    if not folder.exists():
        return False
    try:
        verify_folder(folder)
        return True
    except CorruptFile:
        return False


def _fill(
    draft: Path,
    teacher: PreTrainedModel,
    rows: LabelledRows,
    levels: Sequence[int],
    progress: Report | None,
    batch_tokens: int,
) -> None:
    """Write the files of an entry; where that fails, remove them at once to free the disk."""
    labels = teacher.config.num_labels or 0
    states_width = len(levels) * teacher.config.hidden_size
    try:
        logits = _allocate(draft / LOGITS, (rows.units, labels), np.float32)
        states = _allocate(draft / STATES, (rows.units, states_width), np.float16)
        _compute(teacher, rows, levels, logits, states, progress, batch_tokens)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    logits.flush()
    states.flush()


def _allocate(path: Path, shape: tuple[int, int], dtype: type[np.floating]) -> np.memmap:
    """A memory-mapped file whose disk space is reserved: running out later would end the process (SIGBUS)."""
    mapped: np.memmap = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return mapped


def _drop_pages(*files: np.memmap) -> None:
    """Drop the pages of these files from the memory of this process; they stay in the cache of the system."""
    for mapping in map(_mapping, files):
        if hasattr(mmap, "MADV_DONTNEED") and mapping is not None:
            mapping.madvise(mmap.MADV_DONTNEED)  # a shared mapping: what was written stays


def _mapping(array: np.ndarray) -> mmap.mmap | None:
    """The mapping of an array or a view of it; None for an empty one, for which numpy keeps none."""
    base: object = array
    while isinstance(base, np.ndarray):
        base = base.base
    return base if isinstance(base, mmap.mmap) else None


def _compute(
    teacher: PreTrainedModel,
    rows: LabelledRows,
    levels: Sequence[int],
    logits: np.memmap,  # (units, labels)
    states: np.memmap,  # (units, levels x hidden)
    progress: Report | None,
    batch_tokens: int,
) -> None:
    device, head = next(teacher.parameters()).device, head_of_model(teacher)
    assert head is not None  # a teacher whose outputs are cached has the head of a labelled task
    done = 0
    for indices in Batches(rows.lengths, seed=0, batch_tokens=batch_tokens, batch_size=None).epoch(0):
        batch = {name: tensor.to(device) for name, tensor in rows.batch(indices).items()}
        numbers = unit_numbers(batch).cpu().numpy()
        with torch.inference_mode():
            output = forward(teacher, batch, head=head, levels=levels)
            assert isinstance(output.logits, torch.Tensor)  # (units, labels): only masked LMs give a projection
            check_finite(output.logits.float(), teacher)
            logits[numbers] = output.logits.float().cpu().numpy()
            for index, level in enumerate(levels):
                level_states = unit_states(teacher, output.states[level], batch).half().cpu().numpy()  # (units, hidden)
                width = level_states.shape[1]
                states[numbers, index * width : (index + 1) * width] = level_states
        _drop_pages(logits, states)
        done += len(indices)
        if progress:
            progress(done, len(rows.lengths))
