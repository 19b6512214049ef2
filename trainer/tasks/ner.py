"""Named-entity recognition: one IOB2 tag a word."""

from typing import Literal

from pydantic import Field

from trainer.prediction import Plain


class NER(Plain):
    """Token classification with word-level tags.

    `labelling` says which pieces of a word carry its tag. "first" scores words, as the field does today. "all" is
    the scheme of the compact-biomedical and lightweight-clinical papers: every piece carries the word's tag
    unchanged (B- repeated), and scores count pieces, which inflates F1; never compare the two.
    """

    name: Literal["ner"] = "ner"
    labelling: Literal["first", "all"] = Field("first", description="Which word pieces carry the tag of their word")
