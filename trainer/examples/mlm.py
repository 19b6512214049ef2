"""Plain text: masked rows that train a masked language model, and its scores."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from trainer import datasets
from trainer.datasets.rows.corpus import Rows
from trainer.datasets.rows.masking import Masking
from trainer.datasets.rows.tokens import Tokens, tokens
from trainer.evaluation import masked_lm
from trainer.examples.task_data import TaskData
from trainer.tasks.mlm import MLM


class MLMData(TaskData[MLM]):
    """The splits of one text data set, each cut into word pieces once per tokenizer. There are no labels."""

    labels = None

    def texts(self, split: str) -> Iterator[str]:
        """The documents of a split, streamed from disk."""
        return datasets.documents(self.dataset, split, limit=self.limit)

    def rows(
        self,
        split: str,
        tokenizer: PreTrainedTokenizerBase,
        *,
        label_ids: Mapping[str, int] | None = None,
        max_tokens: int,
        seed: int = 0,
        with_units: bool = False,
    ) -> Rows:
        """Training rows of a split, masked anew at every step by `seed` and the step. There are no labels or units."""
        masking = Masking(tokenizer, share=self.task.mask_share, whole_words=self.task.whole_words)
        corpus = self._tokens(split, tokenizer)
        return Rows(corpus, tokenizer, masking, kind=self.task.rows, max_tokens=max_tokens, seed=seed)

    def scores(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, split: str, *, max_tokens: int
    ) -> dict[str, float]:
        """accuracy, loss (nats) and perplexity at masked positions; the masking is the same for all options."""
        return masked_lm.scores(model, tokenizer, self._tokens(split, tokenizer), max_tokens=max_tokens)

    def report(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        split: str,
        *,
        max_tokens: int,
        folder: Path | None = None,
    ) -> dict[str, Any]:
        """Scores, intervals and costs, as `stillroom evaluate --json` prints them."""
        corpus = self._tokens(split, tokenizer)
        return masked_lm.evaluate(model, tokenizer, corpus, max_tokens=max_tokens, folder=folder)

    def _tokens(self, split: str, tokenizer: PreTrainedTokenizerBase) -> Tokens:
        return tokens(self.dataset, split, tokenizer, limit=self.limit)


DATA = MLMData
