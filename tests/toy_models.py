"""Models whose true attributions are known, behind the same interface as the real ones."""

from types import SimpleNamespace

import torch
from transformers import AutoTokenizer, PreTrainedTokenizerBase

LABELS = ("no", "yes")
TAGS = ("O", "B-Disease", "I-Disease")


class BagOfWords(torch.nn.Module):
    """Document labels from the sum of word weights: the log-odds of "yes" are bias + sum of weights[id].

    A piece's embedding is (its weight, two numbers that nothing uses); the mask's weight is 0. Labels no, yes.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, weights: dict[str, float], *, bias: float, noise: float = 0.0
    ):
        super().__init__()
        self.config = SimpleNamespace(id2label=dict(enumerate(LABELS)), max_position_embeddings=512, model_type="words")
        table = torch.randn(len(tokenizer), 3, generator=torch.Generator().manual_seed(0))
        table[:, 0] *= noise
        for word, weight in weights.items():
            (piece,) = tokenizer(word, add_special_tokens=False)["input_ids"]
            table[piece, 0] = weight
        table[list(tokenizer.all_special_ids)] = 0
        self.embeddings = torch.nn.Embedding.from_pretrained(table, freeze=False)
        self.bias = torch.nn.Parameter(torch.tensor(bias))

    def get_input_embeddings(self) -> torch.nn.Embedding:
        """The table of weights."""
        return self.embeddings

    def forward(self, input_ids=None, inputs_embeds=None, attention_mask=None):
        """(rows, n) ids or (rows, n, 3) embeddings to logits (rows, 2)."""
        words = self.embeddings(input_ids) if inputs_embeds is None else inputs_embeds
        yes = words[..., 0].sum(-1) + self.bias
        return SimpleNamespace(logits=torch.stack([torch.zeros_like(yes), yes], dim=-1))


class OwnWordTagger(BagOfWords):
    """Tags that depend on nothing but the piece itself: every other piece's true attribution is 0."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, weights: dict[str, float]):
        super().__init__(tokenizer, weights, bias=0.0, noise=0.1)
        self.config.id2label = dict(enumerate(TAGS))

    def forward(self, input_ids=None, inputs_embeds=None, attention_mask=None):
        """(rows, n) ids or (rows, n, 3) embeddings to logits (rows, n, 3)."""
        words = self.embeddings(input_ids) if inputs_embeds is None else inputs_embeds
        zero = torch.zeros_like(words[..., 0])
        return SimpleNamespace(logits=torch.stack([zero, words[..., 0], zero], dim=-1))


def read_tokenizer(folder) -> PreTrainedTokenizerBase:
    """The tokenizer of a model folder."""
    return AutoTokenizer.from_pretrained(folder, local_files_only=True)


class PerfectTagger(torch.nn.Module):
    """Says the tag that it was given for each piece of each row, (rows, pieces) without special tokens, and is sure."""

    def __init__(self, labels: tuple[str, ...], tags, vocabulary: int):
        super().__init__()
        named = dict(enumerate(labels))
        self.config = SimpleNamespace(id2label=named, max_position_embeddings=512, model_type="table")
        self.embeddings = torch.nn.Embedding(vocabulary, 1)
        self.tags = [torch.as_tensor(row, dtype=torch.long) for row in tags]

    def get_input_embeddings(self) -> torch.nn.Embedding:
        """Unused, but every model has one."""
        return self.embeddings

    def forward(self, input_ids=None, attention_mask=None):
        """(rows, n) ids to logits (rows, n, tags)."""
        logits = torch.zeros(*input_ids.shape, len(self.config.id2label))
        for row, tags in enumerate(self.tags):
            logits[row, torch.arange(len(tags)) + 1, tags] = 9.0
        return SimpleNamespace(logits=logits)
