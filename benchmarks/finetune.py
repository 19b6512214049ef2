"""Fine-tuning: Stillroom's loop against transformers' plain Trainer, in one run.

    python -m benchmarks.finetune [--json]            examples per second, interleaved rounds on the same sentences
    python -m benchmarks.finetune --full [--json]     a full fine-tuning of each, and its test F1

Peer: `Trainer` with DataCollatorForTokenClassification (dynamic padding), its default AdamW, the same model, data,
learning rate, threads and number of examples, and the papers' batch size of 16. Ours: the token budget of the specs.
"""

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import torch

from benchmarks import measure
from trainer import datasets, inference, models
from trainer.datasets.rows.batches import Batches
from trainer.datasets.tags import iob2
from trainer.evaluation import span_scores
from trainer.examples.ner import NERRows, encode
from trainer.spec import parse
from trainer.tasks import NER
from trainer.training import loop
from trainer.training.objective import Objective
from trainer.zoo import resolve

BATCH_TOKENS, LEARNING_RATE = 640, 2e-4
PEER_BATCH = 16


class Setting:
    """What both sides share: data, labels, encoded rows and a new copy of the same model."""

    def __init__(self, dataset: str, *, examples: int | None, epochs: float):
        schedule = {"batch_tokens": BATCH_TOKENS, "lr": LEARNING_RATE, "epochs": epochs}
        self.spec = parse({"kind": "finetune", "model": "minilm", "dataset": dataset, "schedule": schedule})
        self.epochs = epochs
        self.train = datasets.load(dataset, "train")
        if examples:  # a random sample, because neighbouring sentences have similar lengths
            self.train = random.Random(0).sample(self.train, examples)
        self.tags = iob2(datasets.entity_types(self.train))
        model, self.tokenizer = self.fresh()
        ids = model.config.label2id
        self.max_tokens = inference.model_limit(model, self.tokenizer)
        assert isinstance(self.spec.task, NER)
        encoded = encode(self.spec.task, self.train, self.tokenizer, label_ids=ids, max_tokens=self.max_tokens)
        self.rows = NERRows(encoded, pad_id=self.tokenizer.pad_token_id, words=False)

    def fresh(self) -> tuple[Any, Any]:
        """A new copy of the model, and its tokenizer."""
        return models.load(resolve("minilm"), task="ner", labels=self.tags, seed=self.spec.seed)


def ours(setting: Setting) -> tuple[float, torch.nn.Module]:
    """Seconds of Stillroom's loop over the epochs, and the trained model."""
    model, _ = setting.fresh()
    spec, schedule = setting.spec, setting.spec.schedule
    depth = model.config.num_hidden_layers
    assert spec.recipe is not None
    objective = Objective(model, spec.recipe.plan(depth, depth), head=spec.task.head)
    batches = Batches(setting.rows.lengths, seed=spec.seed, batch_tokens=schedule.batch_tokens, batch_size=None)
    began = time.perf_counter()
    steps = loop.train(
        objective,
        loop.optimizer_for(objective, schedule),
        batch_at=lambda step: setting.rows.batch(batches.at(step).tolist()),
        schedule=schedule,
        total=batches.steps(setting.epochs),
        seed=spec.seed,
    )
    for _ in steps:
        pass
    return time.perf_counter() - began, model


def peer(setting: Setting) -> tuple[float, torch.nn.Module]:
    """Seconds of transformers' Trainer over the same epochs, and the trained model."""
    from transformers import DataCollatorForTokenClassification, PrinterCallback, Trainer, TrainingArguments

    model, _ = setting.fresh()
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
            train_dataset=[{"input_ids": row.input_ids, "labels": row.labels} for row in setting.rows.rows],
            data_collator=DataCollatorForTokenClassification(setting.tokenizer),
        )
        trainer.remove_callback(PrinterCallback)  # it would print into the JSON
        began = time.perf_counter()
        trainer.train()
        return time.perf_counter() - began, model


def speed(dataset: str, *, examples: int, rounds: int, threads: int) -> dict[str, Any]:
    """One case: median seconds of both sides over `rounds` interleaved rounds of one epoch."""
    setting = Setting(dataset, examples=examples, epochs=1)
    our_seconds, peer_seconds = [], []
    for _ in range(rounds):
        our_seconds.append(ours(setting)[0])
        peer_seconds.append(peer(setting)[0])
    mine, theirs = statistics.median(our_seconds), statistics.median(peer_seconds)
    return _case(f"finetune-speed-{dataset}", setting, mine, theirs, threads=threads)


def full(dataset: str, *, epochs: float, threads: int) -> dict[str, Any]:
    """One case: a fine-tuning of each on all training data, and its test F1."""
    setting = Setting(dataset, examples=None, epochs=epochs)
    test = datasets.load(dataset, "test")
    mine, model = ours(setting)
    f1 = _test_f1(setting, model, test)
    theirs, model = peer(setting)
    peer_f1 = _test_f1(setting, model, test)
    case = _case(f"finetune-full-{dataset}", setting, mine, theirs, threads=threads)
    return case | {"equal": f1 - peer_f1, "f1": f1, "peer_f1": peer_f1}


def _test_f1(setting: Setting, model: torch.nn.Module, test: Sequence[datasets.Sentence]) -> float:
    model.eval()
    return span_scores.word_scores(model, setting.tokenizer, test, max_tokens=setting.max_tokens)["f1"]


def _case(name: str, setting: Setting, mine: float, theirs: float, *, threads: int) -> dict[str, Any]:
    examples = len(setting.rows.lengths) * setting.epochs
    model, _ = setting.fresh()
    work = measure.training_flops(model.config, setting.rows.lengths.tolist())
    peak = measure.matrix_peak(threads=threads)
    return {
        "name": name,
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
    parser.add_argument("--full", action="store_true", help="full fine-tunings with test F1 (many minutes)")
    parser.add_argument("--dataset", action="append", help="default: bc5cdr and ncbi-disease")
    parser.add_argument("--examples", type=int, default=960)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=float, default=4)
    parser.add_argument("--threads", type=int, default=2)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    cases = []
    for dataset in chosen.dataset or ("bc5cdr", "ncbi-disease"):
        if chosen.full:
            cases.append(full(dataset, epochs=chosen.epochs, threads=chosen.threads))
        else:
            cases.append(speed(dataset, examples=chosen.examples, rounds=chosen.rounds, threads=chosen.threads))
    measure.show(cases, as_json=chosen.json)


if __name__ == "__main__":
    main()
