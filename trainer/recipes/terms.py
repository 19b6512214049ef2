"""The loss terms, each once: what it compares, what that asks of student and teacher, and what it is called. No torch.

A recipe is a list of terms. To add one, write its entry here and its function in trainer.training.losses; training, the
check of what fits, the teacher cache and the pages ask this table.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator

from trainer.prediction import Plain


@dataclass(frozen=True, kw_only=True)
class TermTraits:
    """What is known of a term whatever the recipe that weighs it.

    compares, and how the function in trainer.training.losses is called with it:
        labels: the student's logits with gold labels (logits, labels, ignored=)
        logits: the student's logits with the teacher's (student, teacher), and temperature= where it is `softened`
        states: hidden states of pairs of levels (student, teacher); level 0 is the embedding output, k that of layer k
        maps: attention maps of pairs of layers, from 1 (student, teacher, mask)
        vectors: queries, keys and values of pairs of layers, one kind after another (student, teacher, mask, heads=)
    padding: whether padding counts too; then states are compared whole and maps without a mask. Otherwise states of a
    masked LM are compared at every real token, those of a labelled task where a label is.
    function, of_sets: the function's name where it is not the term's, and where a document may have several labels.
    """

    title: str
    meaning: str  # one sentence for the page
    compares: Literal["labels", "logits", "states", "maps", "vectors"]
    softened: bool = False
    padding: bool = False
    function: str | None = None
    of_sets: str | None = None

    @property
    def needs_teacher(self) -> bool:
        """All but terms of gold labels."""
        return self.compares != "labels"

    @property
    def needs_logits(self) -> bool:
        """Whether the student's head has to be computed."""
        return self.compares in ("labels", "logits")

    @property
    def needs_attention(self) -> bool:
        """Whether both models have to show their attention."""
        return self.compares in ("maps", "vectors")

    @property
    def needs_same_pieces(self) -> bool:
        """Whether it compares piece by piece in every task: words are then cut alike, and the teacher runs live."""
        return self.needs_attention or (self.compares == "states" and self.padding)

    @property
    def needs_same_heads(self) -> bool:
        """Attention maps are compared head by head."""
        return self.compares == "maps"

    @property
    def needs_same_width(self) -> bool:
        """Hidden states are compared element by element, unless the student's go through a projection."""
        return self.compares == "states"


TERMS: dict[str, TermTraits] = {
    "task": TermTraits(
        title="Gold labels",
        meaning="Cross-entropy against the gold labels; label by label where a document may have several.",
        compares="labels",
        function="hard_labels",
        of_sets="label_sets",
    ),
    "mlm": TermTraits(
        title="Masked LM",
        meaning="Cross-entropy at the masked positions: say which piece was hidden.",
        compares="labels",
        function="hard_labels",
    ),
    "soft_targets": TermTraits(
        title="Soft targets",
        meaning="Divergence of the two output distributions, softened by the temperature.",
        compares="logits",
        softened=True,
        of_sets="soft_label_sets",
    ),
    "soft_cross_entropy": TermTraits(
        title="Soft cross-entropy",
        meaning="Cross-entropy of the student's outputs against the teacher's distribution.",
        compares="logits",
        of_sets="soft_label_sets",
    ),
    "hidden_cosine": TermTraits(
        title="Hidden states, cosine",
        meaning="Turns the student's hidden states in the direction of the teacher's.",
        compares="states",
    ),
    "hidden_mse": TermTraits(
        title="Hidden states, squared error",
        meaning="Squared distance of the hidden states.",
        compares="states",
        padding=True,
    ),
    "attention_kl": TermTraits(
        title="Attention maps, KL",
        meaning="Divergence of the attention maps, head by head.",
        compares="maps",
    ),
    "attention_mse": TermTraits(
        title="Attention maps, squared error",
        meaning="Squared distance of the attention maps, head by head.",
        compares="maps",
        padding=True,
    ),
    "embedding_cosine": TermTraits(
        title="Embeddings, cosine",
        meaning="Turns the embedding outputs in the direction of the teacher's.",
        compares="states",
        function="hidden_cosine",
    ),
    "relations": TermTraits(
        title="Self-attention relations",
        meaning="How queries, keys and values relate among themselves, whatever the width.",
        compares="vectors",
    ),
}


def _is_listed(name: str) -> str:
    if name not in TERMS:
        raise ValueError(f"found {name}; the terms are {', '.join(TERMS)}")
    return name


class Term(Plain):
    """One term of a loss as a recipe weighs it.

    pairs: (student level, teacher level), summed over; levels are those of TermTraits.
    """

    name: Annotated[str, AfterValidator(_is_listed)]
    weight: float
    temperature: float = 1.0
    pairs: tuple[tuple[int, int], ...] = ()
    projected: bool = False  # the student's states go through the one shared linear map that is discarded at the end
    heads: int | None = None  # relation heads

    @property
    def traits(self) -> TermTraits:
        """What TERMS says of it."""
        return TERMS[self.name]
