"""Loaded models, bounded by the memory that they take. Imports without torch."""

import contextlib
import gc
import os
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from trainer.errors import BadSpec, Unavailable
from trainer.resolved import ResolvedModel
from trainer.zoo import weights

SHARE = 4  # the shelf keeps up to one part in so many of the machine's memory
MEMORY_MB = "STILLROOM_LAB_MEMORY_MB"
CGROUP = Path("/sys/fs/cgroup")  # where Linux says what a container may take


class _Loaded(NamedTuple):
    model: Any
    tokenizer: Any
    size_bytes: int


class Shelf:
    """Models that stay loaded until they take more than `limit_bytes` together; the least recently used leave first.

    A model that is larger than the limit by itself is kept alone. The default is `limit_bytes()` at each load. One
    thread loads at a time.
    """

    def __init__(self, *, limit_bytes: int | None = None):
        self._limit_bytes = limit_bytes
        self._loaded: OrderedDict[tuple, _Loaded] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, model: ResolvedModel) -> tuple[Any, Any]:
        """(model, tokenizer), from the shelf or freshly loaded. Unavailable where the memory that is free is too small.

        Raises what trainer.models.load raises, too.
        """
        from trainer import models

        key = (model.path, model.sha256, *sorted(model.files.items()))  # a config that was corrected is read again
        with self._lock:
            if key not in self._loaded:
                weights.check_folder(Path(model.path))
                self._make_room(model)
                network, tokenizer = models.load(model)
                self._loaded[key] = _Loaded(network, tokenizer, size_bytes(network))
            self._loaded.move_to_end(key)
            return self._loaded[key][:2]

    def clear(self) -> None:
        """Give everything back."""
        with self._lock:
            self._loaded.clear()
            gc.collect()

    def _make_room(self, model: ResolvedModel) -> None:
        folder = Path(model.path)
        kept, needed = weights.loaded_bytes(folder), weights.loading_bytes(folder)
        limit = limit_bytes() if self._limit_bytes is None else self._limit_bytes
        while self._loaded and (kept + self._size_bytes() > limit or needed > free_bytes()):
            self._loaded.popitem(last=False)
            gc.collect()
        if needed > (free := free_bytes()):
            raise Unavailable(
                f"{model.reference} takes {_mb(needed)} of memory while it is loaded; {_mb(free)} are free.",
                next_step="Choose a smaller model, or free memory on this machine: a training job may hold much of it.",
            )

    def _size_bytes(self) -> int:
        return sum(each.size_bytes for each in self._loaded.values())


def size_bytes(network: Any) -> int:
    """What the parameters and buffers of a model take, tied ones once."""
    return sum(
        each.numel() * each.element_size() for part in (network.parameters(), network.buffers()) for each in part
    )


def limit_bytes(cgroup: Path = CGROUP) -> int:
    """What a shelf may keep: STILLROOM_LAB_MEMORY_MB, or a quarter of this machine's, or container's, memory."""
    if said := os.environ.get(MEMORY_MB):
        if not (said.isascii() and said.isdigit() and int(said)):
            raise BadSpec(
                [(MEMORY_MB, f"found {said!r:.20}; a whole number of megabytes is needed")],
                next_step="Correct it, or leave it out, and start Stillroom again.",
            )
        return int(said) * 2**20
    return min([psutil.virtual_memory().total, *_container(cgroup)[:1]]) // SHARE


def free_bytes(cgroup: Path = CGROUP) -> int:
    """Memory that this process may still take: the machine's, or what its container has left."""
    return min([psutil.virtual_memory().available, *_container(cgroup)[1:]])


def _container(cgroup: Path) -> tuple[int, ...]:
    """(limit, left) of the control group (version 2), or nothing where it sets no limit."""
    with contextlib.suppress(OSError, ValueError):
        limit, used = (int((cgroup / f"memory.{name}").read_text()) for name in ("max", "current"))
        counts = dict(line.split() for line in (cgroup / "memory.stat").read_text().splitlines())
        return limit, limit - used + int(counts.get("inactive_file", 0))  # the cache of files gives way
    return ()


def _mb(size: int) -> str:
    return f"{size / 2**20:,.0f} MB"


SHELF = Shelf()  # of this process
