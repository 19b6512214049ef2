"""Tagging long notes: Stillroom's inference against transformers' token-classification pipeline, in one run.

    python -m benchmarks.tagging [--json] [--notes 60] [--rounds 3] [--threads 2]

Peer: the pipeline with aggregation "first" and `stride` for long notes (neighbours share as many pieces as ours do at
least), one note at a time or in batches of eight, whichever is faster here. Same model, notes and threads. `equal` is
the largest difference of a score on the notes cut to one window, where the spans must be the same.
"""

import argparse
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unicodedata import category

import numpy as np
import torch
from transformers import PreTrainedModel

from benchmarks import measure
from trainer import inference, models
from trainer.datasets.rows.pieces import cut
from trainer.zoo import resolve

NOTES = Path(__file__).parents[1] / "data" / "notes"
TAGS = ("O", "B-Chemical", "I-Chemical", "B-Disease", "I-Disease")
CHARACTERS = (2500, 6500)  # the shortest and the longest note; all are longer than one window
PEER_BATCHES = (1, 8)


def long_notes(count: int, *, seed: int = 0) -> list[str]:
    """`count` different long notes: random parts, seeded, of the notes that ship with Stillroom."""
    text = "\n\n".join(path.read_text(encoding="utf-8") for path in sorted(NOTES.glob("*.txt")))
    random = np.random.default_rng(seed)
    lengths = random.integers(*CHARACTERS, size=count)
    starts = random.integers(0, len(text) - CHARACTERS[1], size=count)
    return [text[start : start + length].split(" ", 1)[1] for start, length in zip(starts, lengths, strict=True)]


def tagger() -> tuple[PreTrainedModel, Any]:
    """The embedded MiniLM with a seeded random head whose tags vary, so that there are many spans to group."""
    model, tokenizer = models.load(resolve("minilm"), task="ner", labels=TAGS, seed=0)
    weight = model.get_parameter("classifier.weight")
    torch.nn.init.normal_(weight, std=0.3, generator=torch.Generator().manual_seed(0))
    return model, tokenizer


def case(model: PreTrainedModel, tokenizer: Any, notes: list[str], *, rounds: int, threads: int) -> dict[str, Any]:
    """Median seconds of both sides over all notes, how far they agree, and the share of the peak that ours reaches."""
    room = inference.model_limit(model, tokenizer) - tokenizer.num_special_tokens_to_add()
    tag = _pipeline(model, tokenizer, stride=room // 4)
    sides: dict[str, Callable[[], object]] = {
        f"peer {size}": partial(tag, notes, batch_size=size) for size in PEER_BATCHES
    }
    sides["ours"] = lambda: inference.predict_many(notes, model, tokenizer, name="ours")
    peak = measure.matrix_peak(threads=threads)
    seconds = measure.interleaved(sides, rounds=rounds)
    peak = max(peak, measure.matrix_peak(threads=threads))  # a busy machine may have been slower before
    ours = seconds.pop("ours")
    peer = min(seconds, key=seconds.__getitem__)
    counts = [len(cut(note, tokenizer)) for note in notes]
    plans = np.concatenate([inference.windows(count, room) for count in counts])
    lengths = plans[:, 1] - plans[:, 0] + tokenizer.num_special_tokens_to_add()
    work = measure.forward_flops(model.config, lengths)
    return {
        "name": f"tagging-{len(notes)}-long-notes",
        "ours": ours,
        "peer": seconds[peer],
        "ratio": seconds[peer] / ours,
        "equal": _largest_difference(model, tokenizer, notes),
        "limit_share": work / ours / peak,
        "tokens_per_second": sum(counts) / ours,
        "peer_tokens_per_second": sum(counts) / seconds[peer],
        "peer_batch_size": int(peer.split()[1]),
        "threads": threads,
    }


def _pipeline(model: PreTrainedModel, tokenizer: Any, **options: Any) -> Callable[..., Any]:
    from transformers import pipeline

    return pipeline("token-classification", model=model, tokenizer=tokenizer, aggregation_strategy="first", **options)


def _largest_difference(model: PreTrainedModel, tokenizer: Any, notes: list[str]) -> float:
    """The largest difference of a score over the notes cut to one window; 1 if any span differs.

    Symbols beyond ASCII are left out: the pipeline treats them as part of the word beside them (datasets.rows.words).
    """
    cut_off = (note[: CHARACTERS[0] // 3] for note in notes)
    short = [
        "".join(" " if category(each)[0] == "S" and not each.isascii() else each for each in note) for note in cut_off
    ]
    predictions = inference.predict_many(short, model, tokenizer, name="ours")
    largest = 0.0
    for spans, expected in zip((each.spans for each in predictions), _pipeline(model, tokenizer)(short), strict=True):
        theirs = [(entity["start"], entity["end"], entity["entity_group"]) for entity in expected]
        if [(span.start, span.end, span.label) for span in spans] != theirs:
            return 1.0
        differences = [abs(span.score - float(e["score"])) for span, e in zip(spans, expected, strict=True)]
        largest = max([largest, *differences])
    return largest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--notes", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    warnings.simplefilter("ignore")  # the pipeline's advice about batches
    result = case(*tagger(), long_notes(chosen.notes), rounds=chosen.rounds, threads=chosen.threads)
    measure.show([result], as_json=chosen.json)


if __name__ == "__main__":
    main()
