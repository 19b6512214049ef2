"""Batches as a pure function of (seed, step): there is no loader state, so none needs to be restored on resuming."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Protocol

import numpy as np
import torch

from trainer.datasets.rows.pieces import Frame

POOL = 64  # batches whose examples are sorted by length together: little padding, but new batches in each epoch


class Row(Protocol):
    """What `collate` needs of a row, besides the fields that `padding` names."""

    @property
    def input_ids(self) -> Sequence[int]: ...


class Batches:
    """Which examples are in the batch of each step.

    Each epoch shuffles the examples, sorts pools of them by length, cuts the pools into batches of at most
    `batch_tokens` padded pieces (or exactly `batch_size` examples) and shuffles the batches. lengths: (examples,), in
    pieces.
    """

    def __init__(
        self, lengths: Sequence[int] | np.ndarray, *, seed: int, batch_tokens: int | None, batch_size: int | None
    ):
        if not len(lengths):
            raise ValueError("no examples to make batches of")
        self.lengths = np.asarray(lengths)  # (examples,)
        self.seed, self.batch_tokens, self.batch_size = seed, batch_tokens, batch_size
        self.epoch = lru_cache(maxsize=2)(self._epoch)
        self._ends = [0]  # steps before each epoch; epochs may differ by a batch or two

    def steps(self, epochs: float) -> int:
        """The number of batches in this many epochs, at least one."""
        whole = int(epochs)
        part = len(self.epoch(whole)) * (epochs - whole) if epochs > whole else 0
        return max(1, self._end(whole) + round(part))

    def at(self, step: int) -> np.ndarray:
        """The indices of the examples of 0-based `step`, (batch,)."""
        epoch = self.epoch_of(step)
        return self.epoch(epoch)[step - self._ends[epoch]]

    def epoch_of(self, step: int) -> int:
        """The 0-based epoch that 0-based `step` belongs to."""
        while self._ends[-1] <= step:
            self._end(len(self._ends))
        return int(np.searchsorted(self._ends, step, side="right")) - 1

    def _end(self, epochs: int) -> int:
        while len(self._ends) <= epochs:
            self._ends.append(self._ends[-1] + len(self.epoch(len(self._ends) - 1)))
        return self._ends[epochs]

    def _epoch(self, number: int) -> list[np.ndarray]:
        random = np.random.default_rng((self.seed, number))
        order = random.permutation(len(self.lengths))
        per_batch = self.batch_size or max(1, int((self.batch_tokens or 0) / self.lengths.mean()))
        batches: list[np.ndarray] = []
        for start in range(0, len(order), POOL * per_batch):
            pool = order[start : start + POOL * per_batch]
            batches += self._cut(pool[np.argsort(self.lengths[pool], kind="stable")])
        return [batches[index] for index in random.permutation(len(batches))]

    def _cut(self, pool: np.ndarray) -> list[np.ndarray]:
        if self.batch_size:
            return [pool[i : i + self.batch_size] for i in range(0, len(pool), self.batch_size)]
        batches, start, budget = [], 0, self.batch_tokens or 0
        for index, length in enumerate(self.lengths[pool]):  # ascending, so `length` is the padded width
            if index > start and (index + 1 - start) * length > budget:
                batches.append(pool[start:index])
                start = index
        return [*batches, pool[start:]]


def pad(rows: Sequence[Sequence[int]], *, value: int) -> torch.Tensor:
    """Rows of different lengths as one int64 tensor (rows, longest), padded with `value`."""
    width = max(map(len, rows))
    padded = np.full((len(rows), width), value, dtype=np.int64)
    for index, row in enumerate(rows):
        padded[index, : len(row)] = row
    return torch.from_numpy(padded)


def framed(windows: Sequence[tuple[np.ndarray, Frame]]) -> dict[str, torch.Tensor]:
    """Windows of piece ids with what stands around each, padded: input_ids and attention_mask, (windows, longest).

    token_type_ids, of the same shape, are there where a frame has them: only models that know them read them. So is
    question_mask: 1 at the first token and those of the question.
    """
    lengths = np.array([len(ids) + around.size for ids, around in windows])
    ids = np.full((len(windows), lengths.max()), windows[0][1].pad_id, dtype=np.int64)
    typed = any(around.inner_type or any(around.types) for _, around in windows)
    types = np.zeros_like(ids) if typed else None
    for row, (inner, around) in enumerate(windows):
        start, end = len(around.before), len(around.before) + len(inner)
        ids[row, :start], ids[row, start:end], ids[row, end : lengths[row]] = around.before, inner, around.after
        if types is not None:
            types[row, : lengths[row]] = around.all_types(len(inner))
    mask = (np.arange(ids.shape[1]) < lengths[:, None]).astype(np.int64)
    batch = {"input_ids": ids, "attention_mask": mask} | ({} if types is None else {"token_type_ids": types})
    if any(asked := [around.question for _, around in windows]):
        batch["question_mask"] = (np.arange(ids.shape[1]) < np.array(asked)[:, None]).astype(np.int64)
    return {name: torch.from_numpy(array) for name, array in batch.items()}


def collate(rows: Sequence[Row], *, padding: Mapping[str, int]) -> dict[str, torch.Tensor]:
    """The fields that `padding` names, padded with its values, and attention_mask; each (rows, longest)."""
    padded = {name: pad([getattr(row, name) for row in rows], value=value) for name, value in padding.items()}
    lengths = torch.tensor([len(row.input_ids) for row in rows])
    attention_mask = (torch.arange(int(lengths.max())) < lengths[:, None]).long()
    return {**padded, "attention_mask": attention_mask}
