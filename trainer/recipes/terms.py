"""The table of loss terms: what each compares, and so what it needs of student and teacher. No torch.

A recipe is a list of terms. To add a term, write its entry here and its function in trainer.training.losses; training,
the compatibility check, the teacher cache and the pages all ask this table.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator

from trainer.prediction import Plain


@dataclass(frozen=True, kw_only=True)
class TermTraits:
    """What is known of a term, whatever the recipe.

    compares: what, and how the function in trainer.training.losses is called with it:
        labels: the student's logits with gold labels (logits, labels, ignored=)
        logits: the student's logits with the teacher's (student, teacher), and temperature= where it is `softened`
        states: hidden states of pairs of levels (student, teacher); level 0 is the embedding output, k that of layer k
        maps: attention maps of pairs of layers, from 1 (student, teacher, mask)
        vectors: queries, keys and values of pairs of layers, one kind after another (student, teacher, mask, heads=)
    padding: whether padding counts too; states are then compared whole and maps without a mask. Otherwise states of a
    masked LM are compared at every real token, those of a labelled task at its labelled positions.
    function: the name of the function, if it is not that of the term. of_sets: the same where a document may have
    several labels; of_values: where it has a number.
    """

    title: str
    meaning: str  # one sentence for the page
    compares: Literal["labels", "logits", "states", "maps", "vectors"]
    softened: bool = False
    padding: bool = False
    function: str | None = None
    of_sets: str | None = None
    of_values: str | None = None

    @property
    def needs_teacher(self) -> bool:
        """Whether it compares with the teacher: all but terms on gold labels."""
        return self.compares != "labels"

    @property
    def needs_logits(self) -> bool:
        """Whether the output of the student's head is needed."""
        return self.compares in ("labels", "logits")

    @property
    def needs_attention(self) -> bool:
        """Whether the attention of both models has to be captured."""
        return self.compares in ("maps", "vectors")

    @property
    def needs_same_pieces(self) -> bool:
        """Whether both models must have the same word pieces in every task; the teacher then runs in every step."""
        return self.needs_attention or (self.compares == "states" and self.padding)

    @property
    def needs_same_heads(self) -> bool:
        """Whether both models must have the same number of attention heads: maps are compared head by head."""
        return self.compares == "maps"

    @property
    def needs_same_width(self) -> bool:
        """Whether both widths must be the same, unless the student's states are projected: states are compared."""
        return self.compares == "states"


TERMS: dict[str, TermTraits] = {
    "task": TermTraits(
        title="Gold labels",
        meaning="Cross-entropy with the gold labels, label by label where a document may have several; "
        "squared error of values.",
        compares="labels",
        function="hard_labels",
        of_sets="label_sets",
        of_values="values",
    ),
    "mlm": TermTraits(
        title="Masked LM",
        meaning="Cross-entropy at the masked positions: predict the masked word pieces.",
        compares="labels",
        function="hard_labels",
    ),
    "soft_targets": TermTraits(
        title="Soft targets",
        meaning="KL divergence of the two output distributions, softened by the temperature.",
        compares="logits",
        softened=True,
        of_sets="soft_label_sets",
        of_values="soft_values",
    ),
    "soft_cross_entropy": TermTraits(
        title="Soft cross-entropy",
        meaning="Cross-entropy of the student's outputs with the teacher's distribution.",
        compares="logits",
        of_sets="soft_label_sets",
        of_values="soft_values",
    ),
    "hidden_cosine": TermTraits(
        title="Hidden states, cosine",
        meaning="Cosine distance of the hidden states: they learn the direction of the teacher's.",
        compares="states",
    ),
    "hidden_mse": TermTraits(
        title="Hidden states, squared error",
        meaning="Mean squared error of the hidden states.",
        compares="states",
        padding=True,
    ),
    "attention_kl": TermTraits(
        title="Attention maps, KL",
        meaning="KL divergence of the attention maps, head by head.",
        compares="maps",
    ),
    "attention_mse": TermTraits(
        title="Attention maps, squared error",
        meaning="Mean squared error of the attention maps, head by head.",
        compares="maps",
        padding=True,
    ),
    "embedding_cosine": TermTraits(
        title="Embeddings, cosine",
        meaning="Cosine distance of the embedding outputs: they learn the direction of the teacher's.",
        compares="states",
        function="hidden_cosine",
    ),
    "relations": TermTraits(
        title="Self-attention relations",
        meaning="KL divergence of how queries, keys and values relate among themselves; widths may differ.",
        compares="vectors",
    ),
}


def _check_listed(name: str) -> str:
    if name not in TERMS:
        raise ValueError(f"found {name}; the terms are {', '.join(TERMS)}")
    return name


class Term(Plain):
    """One term of a recipe's loss, with its weight.

    pairs: (student level, teacher level) that are compared, levels as in TermTraits; the term is the sum over them.
    projected: the student's states go through the one shared linear map, which is discarded after training.
    heads: relation heads.
    """

    name: Annotated[str, AfterValidator(_check_listed)]
    weight: float
    temperature: float = 1.0
    pairs: tuple[tuple[int, int], ...] = ()
    projected: bool = False
    heads: int | None = None

    @property
    def traits(self) -> TermTraits:
        """Its entry in TERMS."""
        return TERMS[self.name]
