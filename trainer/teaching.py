"""What a teacher says about a fixed data set, computed once and kept by content: later epochs and runs pay nothing.

Kept by word, at its first piece, so that the student may cut words differently.
"""

import hashlib
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from trainer.architectures import global_attention
from trainer.batches import Batches
from trainer.errors import CorruptFile
from trainer.heads import classifier_logits
from trainer.run import commit_folder, verify_folder
from trainer.tokens import alone

FORMAT = 1  # of what is kept; another number leaves old files alone
BATCH_TOKENS = 4096
LOGITS, STATES = "logits.npy", "states.npy"


class Lessons(NamedTuple):
    """Outputs of a teacher by word: logits (words, labels) fp32, last hidden states (words, hidden) fp16 on disk."""

    logits: np.ndarray
    states: np.ndarray

    def at(self, words: torch.Tensor) -> dict[str, torch.Tensor]:
        """teacher_logits (positions, labels) and teacher_states (positions, hidden), fp32, of `words` (positions,)."""
        chosen = words.numpy()
        return {
            "teacher_logits": torch.from_numpy(self.logits[chosen]),
            "teacher_states": torch.from_numpy(self.states[chosen].astype(np.float32)),
        }


def lessons(teacher: torch.nn.Module, rows, *, weights: str, cache: Path) -> Lessons:
    """The teacher's outputs for `rows` (with their words), from `cache` or computed now on the teacher's device.

    weights: SHA-256 of the teacher's file. The key covers it and every piece and word of the rows, so other data,
    another tokenizer or another teacher never meet old outputs; a damaged folder is computed again.
    """
    folder = Path(cache) / "teacher" / _key(rows, weights)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with alone(folder):  # of two runs that start together one asks the teacher, and the other waits
        if not _whole(folder):
            commit_folder(folder, lambda draft: _compute(teacher, rows, draft))
    return Lessons(*(np.load(folder / name, mmap_mode="r") for name in (LOGITS, STATES)))


def _key(rows, weights: str) -> str:
    digest = hashlib.sha256(json.dumps([FORMAT, weights]).encode())
    for row in rows.rows:
        digest.update(np.array([len(row.input_ids), *row.input_ids, *row.words], dtype=np.int64).tobytes())
    return digest.hexdigest()


def _whole(folder: Path) -> bool:
    if not folder.exists():
        return False
    try:
        verify_folder(folder)
        return True
    except CorruptFile:
        return False


def _compute(teacher: torch.nn.Module, rows, folder: Path) -> None:
    words = 1 + max((max(row.words) for row in rows.rows), default=-1)
    shapes = (LOGITS, np.float32, teacher.config.num_labels), (STATES, np.float16, teacher.config.hidden_size)
    logits, states = (
        np.lib.format.open_memmap(folder / name, mode="w+", dtype=dtype, shape=(words, width))
        for name, dtype, width in shapes
    )
    device = next(teacher.parameters()).device
    for indices in Batches(rows.lengths, seed=0, batch_tokens=BATCH_TOKENS, batch_size=None).epoch(0):
        batch = rows.batch(indices)
        at = (batch["words"] >= 0).flatten()
        numbers = batch["words"].flatten()[at].numpy()
        with torch.inference_mode():
            inputs = {name: batch[name].to(device) for name in ("input_ids", "attention_mask")}
            inputs |= global_attention(teacher, inputs["input_ids"], "ner")
            found = teacher.base_model(**inputs).last_hidden_state.flatten(0, 1)[at.to(device)]
            logits[numbers] = classifier_logits(teacher, found).float().cpu().numpy()
            states[numbers] = found.half().cpu().numpy()
    for kept in (logits, states):
        kept.flush()
