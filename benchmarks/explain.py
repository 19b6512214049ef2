"""Integrated gradients on a full window: Stillroom's against Captum as its tutorial uses it, in one run.

    python -m benchmarks.explain [--json] [--model minilm-bc5cdr] [--tokens 512] [--steps 50] [--rounds 3] [--threads 2]

Peer: LayerIntegratedGradients on the word embeddings, from token ids and attention mask, as in Captum's BERT tutorial.
There are two cases: its default single batch, and the `internal_batch_size` that is fastest here. Same model, note,
target, steps and baseline. `equal` is the largest difference of a piece's attribution.
"""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from captum.attr import LayerIntegratedGradients

from benchmarks import measure
from trainer import inference, models
from trainer.datasets.rows.pieces import cut, frame
from trainer.inference.target_score import Probe, Score
from trainer.zoo import resolve
from workbench.explain.methods import make_method, unit_scores

NOTE = Path(__file__).parents[1] / "data" / "notes" / "cns-lymphoma-discharge.txt"
INTERNAL = (1, 2, 4, 8)  # batch sizes that the peer may choose from


class Case:
    """One window of `tokens` pieces, special ones included; the target is the span with the highest score in it."""

    def __init__(self, model_id: str, *, tokens: int, steps: int):
        self.model, self.tokenizer = models.load(resolve(model_id))
        self.steps, text = steps, NOTE.read_text(encoding="utf-8")
        around, pieces = frame(self.tokenizer), cut(text, self.tokenizer)
        room = tokens - len(around.before) - len(around.after)
        self.ids = [*around.before, *pieces.ids[:room].tolist(), *around.after]
        span = max(
            inference.predict(text[: pieces.ends[room - 1]], self.model, self.tokenizer, name="").spans,
            key=lambda each: each.score,
        )
        begins = np.flatnonzero((pieces.starts[:room] >= span.start) & (pieces.ends[:room] <= span.end))
        tags = inference.tags_of(self.model)
        columns = tags.columns(span.label)
        self.places = [int(begins[0]) + len(around.before)]
        self.score = Score.of(columns, range(len(tags.names)))
        self.baseline = list(self.ids)
        self.baseline[len(around.before) : -len(around.after)] = [self.tokenizer.mask_token_id] * room

    def ours(self) -> np.ndarray:
        """One attribution per piece, (tokens - 2,)."""
        free = np.ones(len(self.ids) - 2, dtype=bool)
        baseline_id = self.tokenizer.mask_token_id
        probe = Probe(
            self.model, self.ids, before=1, free=free, places=self.places, score=self.score, baseline_id=baseline_id
        )
        return unit_scores(make_method("integrated_gradients", {"steps": self.steps}), probe, np.arange(len(free)))

    def peer(self, internal_batch_size: int | None = None) -> np.ndarray:
        """The same, computed by Captum."""

        def forward(ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            logits = self.model(input_ids=ids, attention_mask=mask.expand_as(ids)).logits
            return self.score.log_odds(logits[:, self.places])

        attributions = LayerIntegratedGradients(forward, self.model.get_input_embeddings()).attribute(
            inputs=torch.tensor([self.ids]),
            baselines=torch.tensor([self.baseline]),
            additional_forward_args=(torch.ones(1, len(self.ids), dtype=torch.long),),
            n_steps=self.steps,
            internal_batch_size=internal_batch_size,
        )
        return attributions[0, 1:-1].sum(-1).detach().numpy()


def cases(case: Case, *, rounds: int, threads: int) -> list[dict[str, Any]]:
    """Ours against the peer's default batch, and against the peer's fastest one."""
    sides: dict[str, Callable[[], object]] = {f"peer {size}": partial(case.peer, size) for size in INTERNAL}
    sides |= {"default": case.peer, "ours": case.ours}
    equal = float(abs(case.ours() - case.peer(2)).max())
    peak = measure.matrix_peak(threads=threads)
    seconds = measure.interleaved(sides, rounds=rounds)
    peak = max(peak, measure.matrix_peak(threads=threads))  # a busy machine may have been slower before
    ours, default = seconds.pop("ours"), seconds.pop("default")
    best = min(seconds, key=seconds.__getitem__)
    # A backward pass to the inputs only repeats every product of the forward pass once.
    work = 2 * case.steps * measure.forward_flops(case.model.config, [len(case.ids)])
    common = {"equal": equal, "limit_share": work / ours / peak, "steps": case.steps, "tokens": len(case.ids)}
    return [
        {"name": f"integrated-gradients-{name}", "ours": ours, "peer": peer, "ratio": peer / ours, **common}
        | {"peer_batch_size": size, "threads": threads}
        for name, peer, size in (
            ("default", default, case.steps),
            ("best-batch", seconds[best], int(best.split()[1])),
        )
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--model", default="minilm-bc5cdr")
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    case = Case(chosen.model, tokens=chosen.tokens, steps=chosen.steps)
    measure.show(cases(case, rounds=chosen.rounds, threads=chosen.threads), as_json=chosen.json)


if __name__ == "__main__":
    main()
