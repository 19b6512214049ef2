"""What a teacher says about a fixed data set, computed once and kept by content: later epochs and runs pay nothing.

Kept by unit, that is by word, at its first piece, or by document, so that the student may cut words differently.
"""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from trainer.batches import Batches
from trainer.errors import CorruptFile
from trainer.heads import document_reading, encode, is_classifier, unit_logits, unit_numbers, unit_states
from trainer.run import commit_folder, verify_folder
from trainer.tokens import alone

FORMAT = 1  # of what is kept; another number leaves old files alone
BATCH_TOKENS = 4096
LOGITS, STATES = "logits.npy", "states.npy"


class Lessons(NamedTuple):
    """Outputs of a teacher by unit: logits (units, labels) fp32, last hidden states (units, hidden) fp16 on disk."""

    logits: np.ndarray
    states: np.ndarray

    def at(self, numbers: torch.Tensor) -> dict[str, torch.Tensor]:
        """teacher_logits (units, labels) and teacher_states (units, hidden), fp32, of the units of these `numbers`."""
        chosen = numbers.numpy()
        return {
            "teacher_logits": torch.from_numpy(self.logits[chosen]),
            "teacher_states": torch.from_numpy(self.states[chosen].astype(np.float32)),
        }


def lessons(
    teacher: torch.nn.Module,
    rows,
    *,
    weights: str,
    cache: Path,
    progress: Callable[[int, int], None] | None = None,
) -> Lessons:
    """The teacher's outputs for `rows` (with their units), from `cache` or computed now on the teacher's device.

    weights: SHA-256 of the teacher's file. The key covers it and every piece and unit of the rows, so other data,
    another tokenizer or another teacher never meet old outputs; a damaged folder is computed again. progress gets
    (rows done, rows in all) after each batch, and stops the work by raising; nothing is kept then.
    """
    pooling = [document_reading(teacher)["pooling"]] if is_classifier(teacher) else []
    folder = Path(cache) / "teacher" / _key(rows, [FORMAT, weights, *pooling])
    folder.parent.mkdir(parents=True, exist_ok=True)
    with alone(folder):  # of two runs that start together one asks the teacher, and the other waits
        if not _whole(folder):
            commit_folder(folder, lambda draft: _compute(teacher, rows, draft, progress))
    return Lessons(*(np.load(folder / name, mmap_mode="r") for name in (LOGITS, STATES)))


def _key(rows, said: list) -> str:
    digest = hashlib.sha256(json.dumps(said).encode())
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


def _compute(teacher: torch.nn.Module, rows, folder: Path, progress: Callable[[int, int], None] | None) -> None:
    shapes = (LOGITS, np.float32, teacher.config.num_labels), (STATES, np.float16, teacher.config.hidden_size)
    logits, states = (
        np.lib.format.open_memmap(folder / name, mode="w+", dtype=dtype, shape=(rows.units, width))
        for name, dtype, width in shapes
    )
    device, head = next(teacher.parameters()).device, "classification" if is_classifier(teacher) else "ner"
    done = 0
    for indices in Batches(rows.lengths, seed=0, batch_tokens=BATCH_TOKENS, batch_size=None).epoch(0):
        batch = {name: tensor.to(device) for name, tensor in rows.batch(indices).items()}
        numbers = unit_numbers(batch).cpu().numpy()
        with torch.inference_mode():
            found = encode(teacher, batch).last_hidden_state
            logits[numbers] = unit_logits(teacher, found, batch, head=head).float().cpu().numpy()
            states[numbers] = unit_states(teacher, found, batch).half().cpu().numpy()
        done += len(indices)
        if progress:
            progress(done, len(rows.lengths))
    for kept in (logits, states):
        kept.flush()
