"""Pairs of a premise and a hypothesis: training rows, and scores beside those of the hypotheses alone."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from trainer import datasets, inference
from trainer.datasets import LabelledDocument
from trainer.evaluation import baselines, document_scores, hypothesis_only
from trainer.examples.whole_text import WholeTextData, WholeTextRows, stated_reading
from trainer.resolved import ResolvedDataset, ResolvedModel
from trainer.tasks.pairs import Pairs

BASELINE = "hypothesis_only"  # prefix of the scores of the baseline


class PairsData(WholeTextData[Pairs]):
    """The pairs of one data set; the unlabelled ones are pairs of another, whose labels are not used."""

    @classmethod
    def read_task(cls, model: ResolvedModel) -> Pairs:
        """The task as a model was trained for it: how premises are read."""
        return Pairs(**stated_reading(model)[1])

    def read_split(self, split: str) -> list[LabelledDocument]:
        """The pairs of a split. Raises BadData where it is missing or invalid."""
        return datasets.pairs(self.dataset, split, limit=self.limit)

    def texts(self, split: str) -> Iterator[str]:
        """Each pair of a split as one text; with train the unlabelled ones too."""
        return (f"{pair.text}\n{pair.hypothesis}" for pair in self.all_examples(split))

    def rows(
        self,
        split: str,
        tokenizer: PreTrainedTokenizerBase,
        *,
        label_ids: Mapping[str, int],
        max_tokens: int,
        seed: int = 0,
        with_units: bool = False,
    ) -> WholeTextRows:
        """As of documents. Raises BadData for a hypothesis that is too long; with train, for one in any split."""
        for other in ("dev", "test") if split == "train" else ():  # before a run has trained for hours
            for pair in self.examples(other):
                self.row(pair, tokenizer, max_tokens)
        return super().rows(
            split, tokenizer, label_ids=label_ids, max_tokens=max_tokens, seed=seed, with_units=with_units
        )

    def read_unlabelled(self, dataset: ResolvedDataset, *, limit: int | None = None) -> None:
        """Add the first `limit` pairs of another data set, for a teacher to label."""
        self.unlabelled = datasets.pairs(dataset, "train", limit=limit)

    def scores(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, split: str, *, max_tokens: int | None
    ) -> dict[str, float]:
        """As of documents; hypothesis_only.accuracy and the like are those of the baseline (hypothesis_only)."""
        scores = super().scores(model, tokenizer, split, max_tokens=max_tokens)
        return scores | self._baseline(split, inference.output_names(model))

    def report(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        split: str,
        *,
        max_tokens: int | None,
        folder: Path | None = None,
    ) -> dict[str, Any]:
        """The same with intervals, costs and notes, as `stillroom evaluate --json` prints them."""
        report = super().report(model, tokenizer, split, max_tokens=max_tokens, folder=folder)
        report["metrics"] |= self._baseline(split, inference.output_names(model))
        return report

    def baseline(self, split: str, labels: Sequence[str]) -> dict[str, Any]:
        """{"name", "metrics"} of the hypotheses alone."""
        metrics = {name.removeprefix(f"{BASELINE}."): value for name, value in self._baseline(split, [*labels]).items()}
        return {"name": baselines.HYPOTHESIS, "metrics": metrics}

    def _baseline(self, split: str, labels: list[str]) -> dict[str, float]:
        if split not in self._baselines:
            known = [label for label in labels if label in self.survey.labels]
            answers = hypothesis_only.answers(self.examples("train"), self.examples(split), known)
            self._baselines[split] = document_scores.under(BASELINE, document_scores.metrics(answers))
        return self._baselines[split]

    @cached_property
    def _baselines(self) -> dict[str, dict[str, float]]:
        return {}


DATA = PairsData
