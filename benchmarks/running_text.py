"""How well models trained on single sentences read running text: the test sentences are joined to long texts.

    python -m benchmarks.running_text minilm-bc5cdr minilm-bc5cdr-l3 [...] [--dataset bc5cdr] [--joined 40] [--json]

Each model reads the sentences one by one, and then texts of `--joined` sentences: in windows of its maximum length, in
windows of 128 tokens, and in windows of the length that it was trained with, as the app reads a note. `f1` is the
word-level score with its 95 % interval over the sentences or the texts, `seconds` the time of one pass.
"""

import argparse
import json
import time
from collections.abc import Sequence
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from trainer import datasets, inference, models
from trainer.datasets import Sentence
from trainer.evaluation import span_scores
from trainer.models.heads import document_reading

SHORT = 128  # tokens


def join(sentences: Sequence[Sentence], number: int) -> list[Sentence]:
    """Texts of `number` consecutive sentences; the last one may be shorter."""
    parts = [sentences[start : start + number] for start in range(0, len(sentences), number)]
    return [
        Sentence(
            tuple(word for sentence in part for word in sentence.words),
            tuple(tag for sentence in part for tag in sentence.tags),
        )
        for part in parts
    ]


def read(model: torch.nn.Module, tokenizer: Any, texts: Sequence[Sentence], max_tokens: int | None) -> dict[str, Any]:
    """F1 with its interval, and the seconds of one pass."""
    words, tags = [text.words for text in texts], [text.tags for text in texts]
    began = time.perf_counter()
    predicted = inference.tag_words(words, model, tokenizer, max_tokens=max_tokens)
    seconds = time.perf_counter() - began
    gold = inference.expand(words, tags, tokenizer)
    return {
        "f1": span_scores.scores(gold, predicted)["f1"],
        "interval": span_scores.bootstrap(gold, predicted)["f1"],
        "seconds": seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--dataset", default="bc5cdr")
    parser.add_argument("--joined", type=int, default=40)
    parser.add_argument("--limit", type=int, help="use only so many sentences")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    sentences = datasets.load(chosen.dataset, "test", limit=chosen.limit)
    texts = join(sentences, chosen.joined)
    results: dict[str, dict[str, dict[str, Any]]] = {}
    for name in chosen.models:
        model, tokenizer = models.load(name, task="ner")
        ways: dict[str, tuple[list[Sentence], int | None]] = {
            "sentences": (sentences, None),
            "texts": (texts, None),
            f"texts in {SHORT}": (texts, SHORT),
            "texts as trained": (texts, document_reading(model)["max_tokens"]),
        }
        results[name] = {way: read(model, tokenizer, *each) for way, each in ways.items()}
    if chosen.json:
        print(json.dumps(results, indent=1))
        return
    table = Table("model", *next(iter(results.values())), title=f"{len(texts)} texts of {chosen.joined} sentences")
    cell = "{f1:.3f} [{interval[0]:.3f}, {interval[1]:.3f}], {seconds:.0f} s"
    for name, row in results.items():
        table.add_row(name, *(cell.format(**each) for each in row.values()))
    Console().print(table)


if __name__ == "__main__":
    main()
