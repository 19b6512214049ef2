"""Masked language modelling: predict the masked word pieces."""

from typing import ClassVar, Literal

from pydantic import Field

from trainer.tasks.task import Task


class MLM(Task):
    """15 % of the word pieces are masked (80 % [MASK], 10 % random, 10 % unchanged), as in all systems of the papers.

    mask_share: Devlin et al. 2019. whole_words: their later variant (Cui et al. 2021); the papers' runs mask single
    word pieces. rows: "packed" as in RoBERTa (Liu et al. 2019), without padding; "documents" never joins two documents;
    "truncated" reads only the start of each, as the PubMed runs of the compact-biomedical models did.
    """

    title: ClassVar = "Masked language model"
    answers: ClassVar = None
    head: ClassVar = "mlm"
    data: ClassVar = "text"
    labelled: ClassVar = False
    score: ClassVar = "accuracy"
    level: ClassVar = "masked tokens"
    unit: ClassVar = "documents"
    name: Literal["mlm"] = "mlm"
    mask_share: float = Field(0.15, gt=0, lt=1, description="Share of the word pieces that are masked")
    whole_words: bool = Field(False, description="Mask all word pieces of a word together")
    rows: Literal["packed", "documents", "truncated"] = Field(
        "packed", description="Rows of joined documents, windows of single ones, or only the start of each"
    )
