"""Masked language modelling: say which piece was hidden."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from trainer.prediction import Plain

if TYPE_CHECKING:
    from trainer.corpus import Rows
    from trainer.run import ResolvedDataset, ResolvedModel
    from trainer.tokens import Tokens


class MLM(Plain):
    """Pieces are hidden and the model says what they were: 15 %, 80/10/10, as in all systems of the papers.

    mask_share: Devlin et al. 2019. whole_words: their later variant (Cui et al. 2021); the papers' runs mask word
    pieces. rows: "packed" as RoBERTa (Liu et al. 2019), no work spent on padding; "documents" never joins two of them;
    "truncated" reads only the start of each, as the PubMed runs of the compact-biomedical models did.
    """

    head: ClassVar = "mlm"
    score: ClassVar = "accuracy"
    labelled: ClassVar = False
    level: ClassVar = "masked tokens"
    unit: ClassVar = "documents"
    name: Literal["mlm"] = "mlm"
    mask_share: float = Field(0.15, gt=0, lt=1, description="Share of the word pieces that are hidden")
    whole_words: bool = Field(False, description="Hide all pieces of a word together")
    rows: Literal["packed", "documents", "truncated"] = Field(
        "packed", description="Rows of joined documents, windows of single ones, or only the start of each"
    )

    def fitted(self, model: "ResolvedModel") -> "MLM":
        """This task for scoring a model: the same for all."""
        return self

    def open(self, dataset: "ResolvedDataset", *, limit: int | None = None) -> "MLMData":
        """The splits of a text data set as this task uses them: only the first `limit` documents of each, if given."""
        return MLMData(self, dataset, limit=limit)


class MLMData:
    """The splits of one text data set, each cut into pieces once for a tokenizer. There are no labels."""

    labels = None

    def __init__(self, task: MLM, dataset: "ResolvedDataset", *, limit: int | None = None):
        self.task, self.dataset, self.limit = task, dataset, limit

    def marks(self, max_tokens: int, lengths: np.ndarray) -> dict[str, Any]:
        """What a model's config keeps of how it was trained: nothing."""
        return {}

    def texts(self, split: str) -> Iterator[str]:
        """The documents of a split, streamed."""
        from trainer import datasets

        return datasets.documents(self.dataset, split, limit=self.limit)

    def rows(
        self,
        split: str,
        tokenizer: Any,
        *,
        label_ids: Mapping[str, int] | None = None,
        max_tokens: int,
        seed: int = 0,
    ) -> "Rows":
        """Training rows of a split, masked anew at every step as `seed` and the step say; there are no `label_ids`."""
        from trainer.corpus import Rows
        from trainer.masking import Masking

        masking = Masking(tokenizer, share=self.task.mask_share, whole_words=self.task.whole_words)
        corpus = self._tokens(split, tokenizer)
        return Rows(corpus, tokenizer, masking, kind=self.task.rows, max_tokens=max_tokens, seed=seed)

    def scores(self, model, tokenizer, split: str, *, max_tokens: int) -> dict[str, float]:
        """accuracy, loss (nats) and perplexity at the masked positions of a fixed masking, whatever the options."""
        from trainer import perplexity

        return perplexity.scores(model, tokenizer, self._tokens(split, tokenizer), max_tokens=max_tokens)

    def report(self, model, tokenizer, split: str, *, max_tokens: int, folder: Path | None = None) -> dict:
        """Scores, intervals and costs, in the shape of `stillroom evaluate --json`."""
        from trainer import perplexity

        corpus = self._tokens(split, tokenizer)
        return perplexity.evaluate(model, tokenizer, corpus, max_tokens=max_tokens, folder=folder)

    def _tokens(self, split: str, tokenizer: Any) -> "Tokens":
        from trainer.tokens import tokens

        return tokens(self.dataset, split, tokenizer, limit=self.limit)
