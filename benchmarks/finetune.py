"""Fine-tuning: Stillroom's loop against transformers' plain Trainer, in one run.

    python -m benchmarks.finetune [--json]            examples per second, interleaved rounds on the same examples
    python -m benchmarks.finetune --full [--json]     a full fine-tuning of each, and its test score
    python -m benchmarks.finetune --full --dataset evidence-inference --max-tokens 256 --epochs 7

Peer: `Trainer` with its collators (dynamic padding), its default AdamW, the same model, rows, learning rate, threads
and number of examples, and the papers' batch size of 16. Ours: the token budget of the specs. The task is that of the
data set; of a text in several windows the peer reads the first.
"""

import argparse
import statistics
import tempfile
import time
from typing import Any

import numpy as np
import torch

from benchmarks import measure
from trainer import inference, models
from trainer.datasets import resolve as resolve_data
from trainer.datasets.rows.batches import Batches
from trainer.examples import open_data
from trainer.spec import parse
from trainer.training import loop
from trainer.training.objective import Objective
from trainer.zoo import resolve

BATCH_TOKENS, LEARNING_RATE = 640, 2e-4
PEER_BATCH = 16
_PEER_FIELDS = ("input_ids", "token_type_ids", "labels")


class Setting:
    """What both sides share: data, labels, encoded rows and a new copy of the same model."""

    def __init__(self, dataset: str, *, examples: int | None, epochs: float, max_tokens: int | None, batch_tokens: int):
        schedule = {"batch_tokens": batch_tokens, "lr": LEARNING_RATE, "epochs": epochs}
        self.spec = parse({"kind": "finetune", "model": "minilm", "dataset": dataset, "schedule": schedule})
        self.epochs = epochs
        self.data = open_data(self.spec.task, resolve_data(dataset))
        self.labels = self.data.labels
        model, self.tokenizer = self.fresh()
        self.max_tokens = max_tokens or inference.model_limit(model, self.tokenizer)
        ids = model.config.label2id
        self.rows = self.data.rows("train", self.tokenizer, label_ids=ids, max_tokens=self.max_tokens)
        # A random sample, because neighbours have similar lengths.
        order = np.random.default_rng(0).permutation(len(self.rows.lengths))
        self.chosen = order[:examples] if examples else order

    def fresh(self) -> tuple[Any, Any]:
        """A new copy of the model, and its tokenizer."""
        task = self.spec.task.name
        model, tokenizer = models.load(resolve("minilm"), task=task, labels=self.labels, seed=self.spec.seed)
        for name, value in self.data.marks(512, np.zeros(1)).items():
            setattr(model.config, name, value)
        return model, tokenizer

    def peer_row(self, index: int) -> dict[str, list[int] | int]:
        """A row as transformers' collators take it: its first window."""
        batch = self.rows.batch([index], step=0)
        return {field: batch[field][0].tolist() for field in _PEER_FIELDS if field in batch}

    def score(self, model: Any) -> float:
        """The test score of a model, that of the task."""
        model.eval()
        return self.data.scores(model, self.tokenizer, "test", max_tokens=self.max_tokens)[self.spec.task.score]


def ours(setting: Setting) -> tuple[float, torch.nn.Module]:
    """Seconds of Stillroom's loop over the epochs, and the trained model."""
    model, _ = setting.fresh()
    spec, schedule = setting.spec, setting.spec.schedule
    depth = model.config.num_hidden_layers
    assert spec.recipe is not None
    objective = Objective(model, spec.recipe.plan(depth, depth), head=spec.task.head)
    lengths = setting.rows.lengths[setting.chosen]
    batches = Batches(lengths, seed=spec.seed, batch_tokens=schedule.batch_tokens, batch_size=None)
    began = time.perf_counter()
    steps = loop.train(
        objective,
        loop.optimizer_for(objective, schedule),
        batch_at=lambda step: setting.rows.batch(setting.chosen[batches.at(step)].tolist(), step=step),
        schedule=schedule,
        total=batches.steps(setting.epochs),
        seed=spec.seed,
    )
    for _ in steps:
        pass
    return time.perf_counter() - began, model


def peer(setting: Setting) -> tuple[float, torch.nn.Module]:
    """Seconds of transformers' Trainer over the same epochs, and the trained model."""
    from transformers import (
        DataCollatorForTokenClassification,
        DataCollatorWithPadding,
        PrinterCallback,
        Trainer,
        TrainingArguments,
    )

    model, _ = setting.fresh()
    rows = [setting.peer_row(int(index)) for index in setting.chosen]
    of_words = isinstance(rows[0]["labels"], list)
    collator = DataCollatorForTokenClassification if of_words else DataCollatorWithPadding
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            model=model,
            args=TrainingArguments(
                output_dir=folder,
                num_train_epochs=setting.epochs,
                per_device_train_batch_size=PEER_BATCH,
                learning_rate=setting.spec.schedule.lr,
                weight_decay=setting.spec.schedule.weight_decay,
                warmup_steps=setting.spec.schedule.warmup,
                seed=setting.spec.seed,
                use_cpu=True,
                save_strategy="no",
                report_to=[],
                disable_tqdm=True,
                logging_strategy="no",
            ),
            train_dataset=rows,
            data_collator=collator(setting.tokenizer),
        )
        trainer.remove_callback(PrinterCallback)  # it would print into the JSON
        began = time.perf_counter()
        trainer.train()
        return time.perf_counter() - began, model


def speed(setting: Setting, *, rounds: int, threads: int) -> dict[str, Any]:
    """One case: median seconds of both sides over `rounds` interleaved rounds."""
    our_seconds, peer_seconds = [], []
    for _ in range(rounds):
        our_seconds.append(ours(setting)[0])
        peer_seconds.append(peer(setting)[0])
    return _case("speed", setting, statistics.median(our_seconds), statistics.median(peer_seconds), threads=threads)


def full(setting: Setting, *, threads: int) -> dict[str, Any]:
    """One case: a fine-tuning of each, and its test score."""
    mine, model = ours(setting)
    score = setting.score(model)
    theirs, model = peer(setting)
    peer_score = setting.score(model)
    case = _case("full", setting, mine, theirs, threads=threads)
    return case | {"equal": score - peer_score, "score": score, "peer_score": peer_score}


def _case(name: str, setting: Setting, mine: float, theirs: float, *, threads: int) -> dict[str, Any]:
    examples = len(setting.chosen) * setting.epochs
    model, _ = setting.fresh()
    work = measure.training_flops(model.config, setting.rows.lengths[setting.chosen].tolist())
    peak = measure.matrix_peak(threads=threads)
    return {
        "name": f"finetune-{name}-{setting.spec.dataset}",
        "ours": mine,
        "peer": theirs,
        "ratio": theirs / mine,
        "equal": None,
        "limit_share": work * setting.epochs / mine / peak,
        "examples_per_second": examples / mine,
        "peer_examples_per_second": examples / theirs,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--full", action="store_true", help="full fine-tunings with the test score (many minutes)")
    parser.add_argument("--dataset", action="append", help="default: bc5cdr and ncbi-disease")
    parser.add_argument("--examples", type=int, default=960)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=float, default=4, help="of --full")
    parser.add_argument("--max-tokens", type=int, help="default: what the model can read")
    parser.add_argument("--batch-tokens", type=int, default=BATCH_TOKENS)
    parser.add_argument("--threads", type=int, default=2)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    cases = []
    for dataset in chosen.dataset or ("bc5cdr", "ncbi-disease"):
        examples, epochs = (None, chosen.epochs) if chosen.full else (chosen.examples, 1)
        setting = Setting(
            dataset,
            examples=examples,
            epochs=epochs,
            max_tokens=chosen.max_tokens,
            batch_tokens=chosen.batch_tokens,
        )
        case = full(setting, threads=chosen.threads) if chosen.full else None
        cases.append(case or speed(setting, rounds=chosen.rounds, threads=chosen.threads))
    measure.show(cases, as_json=chosen.json)


if __name__ == "__main__":
    main()
