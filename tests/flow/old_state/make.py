"""Make state.tar.xz with the version of Stillroom that is checked out: python make.py

A state folder with a fine-tuned tagger, a student distilled from it, a classifier that was stopped in the middle of its
training, and a job that failed. The models have two layers of 16 and a vocabulary of a few hundred pieces, so all is
small.
"""

import hashlib
import json
import os
import tarfile
import tempfile
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
SCHEDULE = {"batch_tokens": 128, "max_tokens": 64, "lr": 1e-3}
STEPS = 600  # of the run that is interrupted
COMPUTE = {"threads": 1, "precision": "fp32"}


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="stillroom-") as made:
        place = Path(made)
        os.environ["STILLROOM_HOME"] = str(place / "home")
        base, data = _base(place / "base"), _broken(place / "broken")
        tagger = _run(kind="finetune", model=str(base), dataset="ncbi-disease-slice", steps=20, evaluate_every=20)
        student = {"teacher": tagger, "student": {"layers": 1}, "recipe": "task_kd"}
        distilled = _run(kind="distill", dataset="ncbi-disease-slice", steps=20, evaluate_every=20, **student)
        classifier = {"kind": "finetune", "model": tagger, "dataset": "mtsamples-slice"}
        classifier |= {"steps": STEPS, "checkpoint_every": 50, "evaluate_every": STEPS}
        interrupted = _interrupted(**classifier)
        failed = _run(kind="finetune", model=tagger, dataset=str(data), steps=4)
        jobs = {"tagger": tagger, "distilled": distilled, "interrupted": interrupted, "failed": failed}
        with tarfile.open(HERE / "state.tar.xz", "w:xz") as archive:
            archive.add(place / "home", "home")
        fresh = _fresh(interrupted)
        expected = {"jobs": jobs, "uninterrupted_sha256": hashlib.sha256(fresh.read_bytes()).hexdigest()}
        (HERE / "expected.json").write_text(json.dumps(expected, indent=2) + "\n")


def _base(folder: Path) -> Path:
    import torch
    from tokenizers import BertWordPieceTokenizer
    from transformers import BertConfig, BertForMaskedLM, BertTokenizerFast

    from trainer import datasets

    texts = [" ".join(sentence.words) for sentence in datasets.load("ncbi-disease-slice", "train")]
    pieces = BertWordPieceTokenizer(lowercase=True)
    pieces.train_from_iterator(texts, vocab_size=400, min_frequency=2)
    folder.mkdir()
    pieces.save_model(str(folder))
    BertTokenizerFast.from_pretrained(folder, do_lower_case=True).save_pretrained(folder)
    sizes = {"num_hidden_layers": 2, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}
    torch.manual_seed(0)
    config = BertConfig(vocab_size=pieces.get_vocab_size(), max_position_embeddings=64, **sizes)
    BertForMaskedLM(config).save_pretrained(folder)
    return folder


def _broken(folder: Path) -> Path:
    folder.mkdir()
    for split in ("train", "dev", "test"):
        (folder / f"{split}.conll").write_text("fever\tB-Disease\n\ncough\tB-Disease\tmore\n")
    return folder


def _submit(**fields) -> str:
    from trainer import queue, spec

    schedule = SCHEDULE | {name: fields.pop(name) for name in list(fields) if name in spec.Schedule.model_fields}
    return queue.submit(spec.parse(fields | {"limit": 24, "schedule": schedule, "compute": COMPUTE})).id


def _run(**fields) -> str:
    from trainer.queue.worker import work

    job_id = _submit(**fields)
    work(drain=True)
    return job_id


def _interrupted(**fields) -> str:
    from trainer import queue
    from trainer.queue.worker import Timing, work

    job_id = _submit(**fields)
    worker = threading.Thread(target=lambda: work(drain=True, timing=Timing(beat_s=0.1)))
    worker.start()
    while not queue.job(job_id).step:
        time.sleep(0.02)
    queue.cancel(job_id)
    worker.join()
    job = queue.job(job_id)
    assert job.state == "cancelled" and job.step < STEPS, (job.state, job.step)
    return job_id


def _fresh(job_id: str) -> Path:
    from trainer import queue
    from trainer.queue.worker import work

    fresh = queue.retry(job_id, fresh=True).id
    work(drain=True)
    return Path(queue.job(fresh).artifact) / "model.safetensors"


if __name__ == "__main__":
    main()
