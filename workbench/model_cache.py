"""Cache of loaded models, bounded by their memory. Imports without torch."""

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

SHARE = 4  # the cache takes up to a quarter of the machine's memory
MEMORY_MB = "STILLROOM_LAB_MEMORY_MB"
CGROUP = Path("/sys/fs/cgroup")  # where Linux keeps the limits of a container


class _Loaded(NamedTuple):
    model: Any
    tokenizer: Any
    size_bytes: int


class ModelCache:
    """Keeps models loaded up to `limit_bytes` in all, and drops the least recently used first.

    A model above the limit is kept alone. The default limit is `limit_bytes()` at each load. One thread loads at a
    time.
    """

    def __init__(self, *, limit_bytes: int | None = None):
        self._limit_bytes = limit_bytes
        self._loaded: OrderedDict[tuple[object, ...], _Loaded] = OrderedDict()
        self._lock = threading.Lock()

    def load(self, model: ResolvedModel) -> tuple[Any, Any]:
        """(model, tokenizer), cached or newly loaded. Raises Unavailable if there is not enough free memory.

        Also raises what trainer.models.load raises.
        """
        from trainer import models

        key = (
            model.path,
            model.sha256,
            *sorted(model.files.items()),
        )  # a model whose config has changed is loaded again
        with self._lock:
            if key not in self._loaded:
                weights.check_folder(Path(model.path))
                self._make_room(model)
                network, tokenizer = models.load(model)
                self._loaded[key] = _Loaded(network, tokenizer, size_bytes(network))
            self._loaded.move_to_end(key)
            return self._loaded[key][:2]

    def clear(self) -> None:
        """Drop all models."""
        with self._lock:
            self._loaded.clear()
            gc.collect()

    def _make_room(self, model: ResolvedModel) -> None:
        folder = Path(model.path)
        loaded, needed = weights.loaded_bytes(folder), weights.loading_bytes(folder)
        limit = limit_bytes() if self._limit_bytes is None else self._limit_bytes
        while self._loaded and (loaded + self._size_bytes() > limit or needed > free_bytes()):
            self._loaded.popitem(last=False)
            gc.collect()
        if needed > (free := free_bytes()):
            raise Unavailable(
                f"Loading {model.reference} needs {_mb(needed)} of memory; {_mb(free)} is free.",
                next_step="Choose a smaller model, or free memory on this machine: a training job may be using it.",
            )

    def _size_bytes(self) -> int:
        return sum(each.size_bytes for each in self._loaded.values())


def size_bytes(network: Any) -> int:
    """The memory of a model's parameters and buffers; tied ones count once."""
    return sum(
        each.numel() * each.element_size() for part in (network.parameters(), network.buffers()) for each in part
    )


def limit_bytes(cgroup: Path = CGROUP) -> int:
    """The limit of a cache: STILLROOM_LAB_MEMORY_MB, or a quarter of the memory of this machine or container.

    Raises BadSpec if the variable is not a number.
    """
    if setting := os.environ.get(MEMORY_MB):
        if not (setting.isascii() and setting.isdigit() and int(setting)):
            raise BadSpec(
                [(MEMORY_MB, f"found {setting!r:.20}; a whole number of megabytes is needed")],
                next_step="Correct or remove it, and start Stillroom again.",
            )
        return int(setting) * 2**20
    return min([psutil.virtual_memory().total, *_container(cgroup)[:1]]) // SHARE


def free_bytes(cgroup: Path = CGROUP) -> int:
    """Memory that this process may still use, on the machine or in its container."""
    return min([psutil.virtual_memory().available, *_container(cgroup)[1:]])


def _container(cgroup: Path) -> tuple[int, ...]:
    """(limit, left) in bytes of the control group (version 2); empty without a limit."""
    with contextlib.suppress(OSError, ValueError):
        limit, used = (int((cgroup / f"memory.{name}").read_text()) for name in ("max", "current"))
        counts = dict(line.split() for line in (cgroup / "memory.stat").read_text().splitlines())
        return limit, limit - used + int(counts.get("inactive_file", 0))  # the file cache can be dropped
    return ()


def _mb(size: int) -> str:
    return f"{size / 2**20:,.0f} MB"


CACHE = ModelCache()  # of this process
