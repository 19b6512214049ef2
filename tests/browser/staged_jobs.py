"""Jobs in the app's queue without any training: this process takes the part of their worker."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from left_models import leave
from safetensors.torch import load_file, save_file

from trainer import queue
from trainer.queue import Lease, Progress, store
from trainer.queue.engines import Process
from trainer.spec import parse

FINETUNING = {"kind": "finetune", "model": "minilm", "dataset": "ncbi-disease-slice"}


@contextmanager
def claimed(spec: dict[str, object]) -> Iterator[Lease]:
    """A job of this process; cancelled at the end of the block if it is still running."""
    job = queue.submit(parse(spec))
    worker = queue.enlist(store.open_store(), device="cpu", process=Process.of(os.getpid()))
    lease = queue.claim(store.open_store(), worker)
    assert lease.id == job.id, "an earlier test left a job in the queue"
    try:
        yield lease
    finally:
        if queue.job(lease.id).state == "running":
            queue.finish(store.open_store(), lease, state="cancelled")


def report(lease: Lease, last: int) -> None:
    """What a worker reports after step `last` of 40."""
    rows = {(step, "loss"): 2 / step for step in range(1, last + 1)} | {(last, "dev_f1"): last / 80}
    queue.renew(store.open_store(), lease, Progress(step=last, steps=40, rate=1.0, rows=rows))


def publish(model: Path, seed: int, *, silence: float = 0.0) -> str:
    """The id of a run whose last layer is drawn by the seed; the higher `silence`, the less it finds."""
    with claimed(FINETUNING | {"seed": seed}) as lease:
        folder = leave(lease.id, model)
        weights = load_file(folder / "model.safetensors")
        weights["classifier.weight"] = torch.randn(3, 32, generator=torch.Generator().manual_seed(seed))
        weights["classifier.bias"] += torch.tensor([silence, 0.0, 0.0])
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        queue.finish(store.open_store(), lease, state="succeeded", artifact=str(folder))
    return lease.id
