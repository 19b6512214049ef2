"""How well models of single sentences read running text: test sentences joined to long texts, the same words and tags.

    python -m benchmarks.running_text minilm-bc5cdr minilm-bc5cdr-l3 [...] [--dataset bc5cdr] [--joined 40] [--json]

Each model reads the sentences one by one, and then texts of so many of them: in windows as long as it can take, in
windows of 128 tokens, and in windows as long as it was trained on, which is how the app reads a note. `f1` are
word-level scores with 95 % intervals over the sentences or over the texts, `seconds` one pass over all of them.
"""

import argparse
import json
import time
from collections.abc import Sequence

import torch
from rich.console import Console
from rich.table import Table

from trainer import datasets, inference, models
from trainer.evaluation import span_scores
from trainer.models.heads import document_reading

SHORT = 128  # tokens


def joined(sentences: Sequence, number: int) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Texts of `number` neighbouring sentences, the last one shorter: (words, tags) of each."""
    parts = [sentences[start : start + number] for start in range(0, len(sentences), number)]
    return [tuple(tuple(item for each in part for item in each[side]) for side in (0, 1)) for part in parts]


def read(model, tokenizer, texts: Sequence, max_tokens: int | None) -> dict:
    """F1 with its interval, and the seconds of one pass."""
    began = time.perf_counter()
    found = inference.tag_words([words for words, _ in texts], model, tokenizer, max_tokens=max_tokens)
    seconds = time.perf_counter() - began
    gold = inference.expand(*zip(*texts, strict=True), tokenizer)
    return {
        "f1": span_scores.scores(gold, found)["f1"],
        "interval": span_scores.bootstrap(gold, found)["f1"],
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
    texts = joined(sentences, chosen.joined)
    found = {}
    for name in chosen.models:
        model, tokenizer = models.load(name, task="ner")
        trained = document_reading(model)["max_tokens"]
        ways = {"sentences": (sentences, None), "texts": (texts, None), f"texts in {SHORT}": (texts, SHORT)}
        ways |= {"texts as trained": (texts, trained)}
        found[name] = {way: read(model, tokenizer, *given) for way, given in ways.items()}
    if chosen.json:
        print(json.dumps(found, indent=1))
        return
    table = Table("model", *next(iter(found.values())), title=f"{len(texts)} texts of {chosen.joined} sentences")
    for name, row in found.items():
        said = "{f1:.3f} [{interval[0]:.3f}, {interval[1]:.3f}], {seconds:.0f} s"
        cells = (said.format(**each) for each in row.values())
        table.add_row(name, *cells)
    Console().print(table)


if __name__ == "__main__":
    main()
