"""How far a token attends, as numbers and as a sentence, from the fields of a config.json alone. No torch."""

from collections.abc import Mapping
from typing import Any

from trainer.prediction import Plain
from trainer.zoo.outputs import ANSWERS, ENCODER, HEADS

_DEFAULT_LAYERS = {"longformer": 12, "big_bird": 12, "modernbert": 22}  # for a config that leaves the number out


class Reach(Plain):
    """What one token attends to in one layer, and how far it reaches through all layers, in word pieces.

    side: pieces on either side of it; None for all. shared: global pieces, which attend to every token and which every
    token attends to. question: whether these are the first token and the pieces of the question. drawn: further pieces,
    chosen at random once. through: how far information travels through all layers on one side; None if a layer attends
    to the whole input. every: 3 if every third layer does. full_below: the longest input that is attended to as a
    whole.
    """

    side: int | None
    shared: int = 0
    question: bool = False
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
        seen += ["all of the question"] if self.question else []
        seen += [f"{self.drawn:,} elsewhere"] if self.drawn else []
        listed = seen[0] if len(seen) == 1 else f"{', '.join(seen[:-1])} and {seen[-1]}"
        far = f"{self.layers} layers reach {self.through:,}" if self.through else ""
        far = far or f"every {_ordinal(self.every)} of {self.layers} layers sees the whole input"
        short = f"; an input of up to {self.full_below:,} is seen whole" if self.full_below else ""
        return f"each token sees {listed}; {far}{short}"


def reach(config: Mapping[str, Any], *, head: str = ENCODER.name) -> Reach:
    """The attention pattern of a model: sliding windows (Longformer, ModernBERT), blocks (BigBird), or full attention.

    head: decides the global tokens of a Longformer, as in architectures.global_attention. For BigBird `side` is one
    block, the least that a token sees on either side; it sees two at most.
    """
    model_type = str(config.get("model_type"))
    layers = config.get("num_hidden_layers") or config.get("n_layers") or _DEFAULT_LAYERS.get(model_type, 1)
    if model_type == "longformer":
        windows = config.get("attention_window", 512)
        windows = [windows] * layers if isinstance(windows, int) else windows
        shared, through = int(HEADS[head].whole_text), sum(windows) // 2
        question = HEADS[head] is ANSWERS
        return Reach(side=min(windows) // 2, shared=shared, question=question, layers=layers, through=through)
    if model_type == "big_bird" and config.get("attention_type", "block_sparse") == "block_sparse":
        size, drawn = config.get("block_size", 64), config.get("num_random_blocks", 3)
        return Reach(
            side=size,
            shared=2 * size,
            drawn=drawn * size if config.get("seeded_blocks") else 0,
            layers=layers,
            through=layers * size,
            full_below=(5 + 2 * drawn) * size,
        )
    if model_type == "modernbert":
        side = config.get("local_attention", 128) // 2
        return Reach(side=side, layers=layers, through=None, every=config.get("global_attn_every_n_layers", 3))
    return Reach(side=None, layers=layers, through=None)


def _ordinal(number: int) -> str:
    return {1: "first", 2: "second", 3: "third"}.get(number, f"{number}th")
