"""How far a token sees, in numbers and in words, from the fields of a config.json alone. No torch."""

from collections.abc import Mapping
from typing import Any

from trainer.prediction import Plain
from trainer.zoo.outputs import ENCODER, HEADS

_USUAL_LAYERS = {"longformer": 12, "big_bird": 12, "modernbert": 22}  # what a config leaves out is its class's default


class Reach(Plain):
    """What one token sees in one layer, and how far it reaches through all; numbers are word pieces.

    side: on either side of it. shared: pieces that every token sees and that see every token. drawn: pieces elsewhere,
    chosen once and for all. through: how far a token reaches through all layers on one side; None where a layer sees
    the whole input. every: with 3, each third layer does. full_below: an input of at most so many pieces is seen whole.
    """

    side: int | None
    shared: int = 0
    drawn: int = 0
    layers: int
    through: int | None
    every: int = 0
    full_below: int = 0

    @property
    def words(self) -> str:
        """One sentence for a person."""
        if self.side is None:
            return f"each token sees the whole input in each of {self.layers} layers"
        seen = [f"{self.side:,} on either side"]
        seen += [f"{self.shared:,} global {'token' if self.shared == 1 else 'tokens'}"] if self.shared else []
        seen += [f"{self.drawn:,} elsewhere"] if self.drawn else []
        listed = seen[0] if len(seen) == 1 else f"{', '.join(seen[:-1])} and {seen[-1]}"
        far = f"{self.layers} layers reach {self.through:,}" if self.through else ""
        far = far or f"every {_ordinal(self.every)} of {self.layers} layers sees the whole input"
        short = f"; an input of up to {self.full_below:,} is seen whole" if self.full_below else ""
        return f"each token sees {listed}; {far}{short}"


def reach(config: Mapping[str, Any], *, head: str = ENCODER.name) -> Reach:
    """The attention pattern of a model: sliding windows of Longformer and ModernBERT, blocks of BigBird, or everything.

    head: decides the global tokens of a Longformer, as architectures.global_attention does. A BigBird block counts as
    a whole: a token sees at least one block on either side, at most two.
    """
    kind = config.get("model_type")
    layers = config.get("num_hidden_layers") or config.get("n_layers") or _USUAL_LAYERS.get(kind, 1)
    if kind == "longformer":
        windows = config.get("attention_window", 512)
        windows = [windows] * layers if isinstance(windows, int) else windows
        shared, through = int(HEADS[head].whole_text), sum(windows) // 2
        return Reach(side=min(windows) // 2, shared=shared, layers=layers, through=through)
    if kind == "big_bird" and config.get("attention_type", "block_sparse") == "block_sparse":
        size, drawn = config.get("block_size", 64), config.get("num_random_blocks", 3)
        return Reach(
            side=size,
            shared=2 * size,
            drawn=drawn * size if config.get("seeded_blocks") else 0,
            layers=layers,
            through=layers * size,
            full_below=(5 + 2 * drawn) * size,
        )
    if kind == "modernbert":
        side = config.get("local_attention", 128) // 2
        return Reach(side=side, layers=layers, through=None, every=config.get("global_attn_every_n_layers", 3))
    return Reach(side=None, layers=layers, through=None)


def _ordinal(number: int) -> str:
    return {1: "first", 2: "second", 3: "third"}.get(number, f"{number}th")
