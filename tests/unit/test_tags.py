"""Tag schemes are recognised from the whole label set and mapped to IOB2 and back, or refused with a reason."""

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.datasets import tags
from trainer.errors import BadSpec

READ = {  # the labels; what people call the scheme; its types; the IOB2 tags of the outputs in turn
    "O B-Drug I-Drug": ("IOB2", "Drug", "O B-Drug I-Drug"),
    "B-Drug I-Drug O": ("IOB2", "Drug", "B-Drug I-Drug O"),
    "O I-Drug I-Test": ("IO", "Drug Test", "O I-Drug I-Test"),
    "O B-X I-X I-Y": ("IOB1", "X Y", "O B-X I-X I-Y"),
    "O B-Drug": ("IOB2", "Drug", "O B-Drug"),
    "O B-X I-X E-X S-X": ("BIOES", "X", "O B-X I-X I-X B-X"),
    "O S-X E-X I-X B-X S-Y": ("BIOES", "X Y", "O B-X B-X B-X B-X B-Y"),
    "O B-X I-X L-X U-X": ("BILOU", "X", "O B-X I-X I-X B-X"),
    "O B-X M-X E-X S-X": ("BMES", "X", "O B-X I-X I-X B-X"),
    "O B-X M-X E-X W-X": ("BMEWO", "X", "O B-X I-X I-X B-X"),
    "O E-X I-X": ("IOE", "X", "O I-X B-X"),
    "O BEGIN-X INSIDE-X": ("BIOES in words", "X", "O B-X I-X"),
    "O B_X I_X": ("IOB2", "X", "O B-X I-X"),
    "O I_X I_Y": ("IO", "X Y", "O I-X I-Y"),
    "O B.X I.X": ("IOB2", "X", "O B-X I-X"),
    "O b-drug i-drug": ("IOB2", "drug", "O B-drug I-drug"),
    "o b-drug i-drug": ("IOB2", "drug", "O B-drug I-drug"),
    "O X-B X-I Y-B Y-I": ("IOB2", "X Y", "O B-X I-X B-Y I-Y"),
    "O X_B X_I X_E X_S": ("BIOES", "X", "O B-X I-X I-X B-X"),
    "O Drug Disease": ("types without borders", "Disease Drug", "O I-Drug I-Disease"),
    "O OTHER DATE": ("types without borders", "DATE OTHER", "O I-OTHER I-DATE"),
    "OTHER B-X I-X": ("IOB2", "X", "O B-X I-X"),
    "O B-O I-O": ("IOB2", "O", "O B-O I-O"),
    "O B-side_effect-1 I-side_effect-1": ("IOB2", "side_effect-1", "O B-side_effect-1 I-side_effect-1"),
    "O B-cell T-cell": ("types without borders", "B-cell T-cell", "O I-B-cell I-T-cell"),
    "O E-coli B-cell": ("types without borders", "B-cell E-coli", "O I-E-coli I-B-cell"),
    "O S-phase M-phase": ("types without borders", "M-phase S-phase", "O I-S-phase I-M-phase"),
    "O vitamin-B vitamin-E": ("types without borders", "vitamin-B vitamin-E", "O I-vitamin-B I-vitamin-E"),
    "O I.V. I.M.": ("types without borders", "I.M. I.V.", "O I-I.V. I-I.M."),
    "O e-cigarette": ("types without borders", "e-cigarette", "O I-e-cigarette"),
    "[PAD] O B-X I-X [CLS] [SEP]": ("IOB2", "X", "O O B-X I-X O O"),
    "O": ("types without borders", "", "O"),
}


@pytest.mark.parametrize("labels", READ)
def test_a_label_set_tells_its_scheme(labels):
    scheme, kinds, names = READ[labels]
    meant = tags.read(labels.split())
    assert (meant.scheme, " ".join(meant.kinds)) == (scheme, kinds)
    assert " ".join(meant.iob2(range(len(meant.names)))) == names
    assert meant.iob2([meant.outside]) == ["O"]
    for kind in meant.kinds:
        assert all(kind in meant.names[output] for output in meant.columns(kind))


def test_types_may_hold_blanks():
    meant = tags.read(["O", "B-family history", "I-family history"])
    assert meant.iob2([1, 2]) == ["B-family history", "I-family history"]
    assert tags.read(["O", "family history"]).kinds == ("family history",)


@pytest.mark.parametrize(
    ("labels", "what"),
    [
        ("LABEL_0 LABEL_1 LABEL_2", "gives to outputs without a name"),
        ("Drug Disease", "none of them is O"),
        ("OTHER DATE", "none of them is O"),
        ("B-X I-X", "none of them is O"),
        ("O B I", "no entity type"),
        ("O I", "no entity type"),
        ("O B I E S", "no entity type"),
        ("O B-PER I-PER DATE", "there is DATE"),
        ("O B-X I-X X", "there is X"),
        ("O B-X E-X I-Y", "no known scheme"),
        ("O B-X I-X B_Y I_Y", "no known scheme"),
        ("O B-X I-X L-X E-X", "no known scheme"),
        ("", "none of them is O"),
    ],
)
def test_labels_whose_meaning_is_not_plain_are_refused(labels, what):
    with pytest.raises(BadSpec, match=what) as caught:
        tags.read(labels.split())
    assert "id2label" in caught.value.next_step
    assert all(label in caught.value.message for label in labels.split())


def test_unmarked_boundaries_close_and_open_entities():
    bilou = tags.read(["O", "B-D", "I-D", "L-D", "U-D", "U-X"])
    numbers = [bilou.names.index(name) for name in ["U-D", "U-D", "B-D", "L-D", "L-D", "I-D", "O", "U-X", "U-D"]]
    assert bilou.iob2(numbers) == ["B-D", "B-D", "B-D", "I-D", "B-D", "B-D", "O", "B-X", "B-D"]
    ioe = tags.read(["O", "I-D", "E-D"])
    assert ioe.iob2([1, 2, 2, 1, 0, 1]) == ["I-D", "I-D", "B-D", "B-D", "O", "I-D"]


SETS = [
    [f"{border}-{kind}" for kind in ("X", "Y") for border in borders]
    for borders in ("BI", "BIES", "BILU", "BMES", "BMEW")
]


@st.composite
def sentences(draw):
    """IOB2 tags of some words."""
    names_drawn = []
    for _ in range(draw(st.integers(0, 12))):
        inside = [f"I-{names_drawn[-1][2:]}"] if names_drawn and names_drawn[-1] != "O" else []
        names_drawn.append(draw(st.sampled_from(["O", "B-X", "B-Y", *inside])))
    return names_drawn


@given(sentences(), st.sampled_from(SETS), st.integers(0, 9))
def test_a_scheme_with_boundaries_reads_back_what_it_wrote(sentence, names, seed):
    names = ["O", *names]
    random.Random(seed).shuffle(names)
    meant = tags.read(names)
    assert meant.iob2(meant.outputs(sentence)) == sentence


def test_a_scheme_writes_the_nearest_tag_it_has():
    gold = ["B-X", "B-X", "I-X", "O", "B-Y", "I-Y", "I-Y"]

    def names_read(labels):
        meant = tags.read(labels.split())
        return [meant.names[output] for output in meant.outputs(gold)]

    assert names_read("O B-X I-X L-X U-X B-Y I-Y L-Y U-Y") == ["U-X", "B-X", "L-X", "O", "B-Y", "I-Y", "L-Y"]
    assert names_read("O X Y") == ["X", "X", "X", "O", "Y", "Y", "Y"]
    assert names_read("O I-X I-Y") == ["I-X", "I-X", "I-X", "O", "I-Y", "I-Y", "I-Y"]
    assert names_read("O B-X I-X I-Y") == ["B-X", "B-X", "I-X", "O", "I-Y", "I-Y", "I-Y"]
    assert names_read("O I-X E-X I-Y E-Y") == ["E-X", "I-X", "E-X", "O", "I-Y", "I-Y", "E-Y"]
    assert names_read("[PAD] O B-X I-X B-Y I-Y") == gold
    with pytest.raises(KeyError):
        tags.read(["O", "B-X", "I-X"]).outputs(["B-Z"])


def test_the_order_of_the_labels_changes_no_meaning():
    names = ["O", "B-X", "I-X", "L-X", "U-X"]
    meant = {name: meaning for name, meaning in zip(names, tags.read(names).meanings, strict=True)}
    for order in itertools.permutations(names):
        assert tags.read(order).meanings == tuple(meant[name] for name in order)


def test_types_of_iob2_tags():
    assert tags.entity_types(["O", "B-O", "I-O", "B-a-b", "O"]) == ("O", "a-b")
    assert [tags.kind_of(tag) for tag in ("O", "B-O", "I-x")] == ["", "O", "x"]
    assert tags.has_borders(["O", "B-X", "I-X"]) and not tags.has_borders(["A", "B", "AB", "O"])
