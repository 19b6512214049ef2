"""Masked language modelling: predict the masked word pieces."""

from typing import ClassVar, Literal

from pydantic import Field

from trainer.tasks.task import Task


class MLM(Task):
    """Predict masked word pieces: of the 15 % chosen, 80 % become [MASK], 10 % a random piece, 10 % stay.

    mask_share: Devlin et al. 2019, as in all of the papers. whole_words: the later variant (Cui et al. 2021); the
    papers mask single word pieces. rows: "packed" joins documents to full rows, as RoBERTa did (Liu et al. 2019);
    "documents" never joins two documents; "truncated" reads only the start of each, as the PubMed runs of the
    compact-biomedical models did.
    """

    title: ClassVar = "Masked language model"
    answers: ClassVar = None
    head: ClassVar = "mlm"
    predicts: ClassVar = "pieces"
    data: ClassVar = "text"
    labelled: ClassVar = False
    score: ClassVar = "accuracy"
    level: ClassVar = "masked tokens"
    unit: ClassVar = "documents"
    name: Literal["mlm"] = "mlm"
    mask_share: float = Field(0.15, gt=0, lt=1, description="Share of the word pieces that are masked")
    whole_words: bool = Field(False, description="Mask all word pieces of a word together")
    rows: Literal["packed", "documents", "truncated"] = Field(
        "packed", description="Rows of joined documents, windows of single documents, or only the start of each"
    )
