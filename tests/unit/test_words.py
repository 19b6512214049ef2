"""Words: what they are on the text alone, and that tags of words come back as those words with every tokenizer."""

import unicodedata

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tokenizers_of_the_zoo import KINDS, tokenizer_of
from toy_models import PerfectTagger

from trainer import inference
from trainer.datasets import Sentence
from trainer.datasets.rows.pieces import Pieces, cut
from trainer.datasets.rows.words import words_in
from trainer.datasets.tags import iob2
from trainer.datasets.tags import read as read_tags
from trainer.evaluation import span_scores
from trainer.examples.ner import IGNORED, encode
from trainer.tasks.ner import NER
from workbench.explain.grains import GRAINS, find_units

LABELS = iob2(("Disease", "Drug"))
IDS = {label: index for index, label in enumerate(LABELS)}
WORDS = (
    *("aspirin", "asthma", "COX-2", "37°C", "25mg/kg", "(see", "b.i.d.", "N/A", "a_b", "don't", "http://a.b/c)", "),"),
    *(
        "café",
        "cafe\u0301",
        "re\u0301sume\u0301",
        "soft\u00adhyphen",
        "zero\u200bwidth",
        "\ufeffBOM",
        "\u200d",
        "\u00ad",
    ),
    *("المريض", "می\u200cخواهم", "दर्द", "बुखार", "ปวดหัว", "น้ำ", "胸痛", "患者は胸痛を訴えた。", "胸痛/asthma"),
    *(
        "😀",
        "👍🏽",
        "👩\u200d⚕️",
        "🇩🇪🇫🇷",
        "1️⃣",
        "🏴\U000e0067\U000e0062\U000e007f",
        "aspirin😀",
        "→aspirin",
        "●",
        "…",
        "½",
        "ﬁne",
    ),
)
BLANKS = (
    " ",
    "  ",
    "\n",
    "\r\n",
    "\n\n- ",
    "\t",
    "\u00a0",
    "\u3000",
    "\u200b",
    "\f",
    "\v",
    "\x85",
    "\u2028",
    ", ",
    "/",
    "; ",
    "",
    ":\n1. ",
    "\r",
)
texts = st.lists(st.tuples(st.sampled_from(WORDS), st.sampled_from(BLANKS)), max_size=12).map(
    lambda pairs: "".join(word + blank for word, blank in pairs)
)
anything = st.text(st.one_of(st.characters(), st.sampled_from("ab \r\n.,-é\u0301\u200d😀ש胸(")), max_size=40)


def words_of(text: str) -> list[str]:
    return [text[start:end] for start, end in words_in(text).places]


def entities(tags: list[str]) -> list[tuple[int, int, str]]:
    """(first word, last word, type) of IOB2 tags."""
    starts = [index for index, tag in enumerate(tags) if tag.startswith("B-")]
    ends = [
        next(i for i in range(start + 1, len(tags) + 1) if not (tags + ["O"])[i].startswith("I-")) for start in starts
    ]
    return [(start, end - 1, tags[start][2:]) for start, end in zip(starts, ends, strict=True)]


# The definition


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Meds:\naspirin\r\nwarfarin\tx", "Meds : aspirin warfarin x"),
        ("(COX-2), a_b don't 25mg/kg", "( COX - 2 ) , a _ b don ' t 25mg / kg"),
        ("37°C →x ≥65 ±2", "37 ° C → x ≥ 65 ± 2"),
        ("cafe\u0301 re\u0301sume\u0301 दर्द น้ำ می\u200cخواهم", "cafe\u0301 re\u0301sume\u0301 दर्द น้ำ می\u200cخواهم"),
        ("ปวดหัวมาก المريض\u00a0يعاني", "ปวดหัวมาก المريض يعاني"),
        ("患者は胸痛を訴えた。", "患 者 は 胸 痛 を 訴 えた 。"),
        ("😀👍🏽👩\u200d⚕️🇩🇪🇫🇷1️⃣x", "😀 👍🏽 👩\u200d⚕️ 🇩🇪 🇫🇷 1️⃣x"),
        ("soft\u00adhyphen pain\u00ad. \ufeffBOM\u200bend \x00a", "soft\u00adhyphen pain . BOM end a"),
        ("width\u200d, \u0301alone -\u0301", "width\u200d , \u0301alone -\u0301"),
        (" \u00ad\u200b\r\n", ""),
    ],
)
def test_what_a_word_is(text, expected):
    assert words_of(text) == expected.split()


@given(text=st.text(st.characters(categories=("L", "N", "P", "Zs"), max_codepoint=0x2FFFF), max_size=30))
@settings(max_examples=200, deadline=None)
def test_words_of_letters_and_punctuation_are_those_of_bert(text):
    """Of characters that Unicode 3.2 had, so that every library has them in the same class."""
    from tokenizers.pre_tokenizers import BertPreTokenizer

    assume(all(unicodedata.ucd_3_2_0.category(each) == unicodedata.category(each) for each in text))
    apart = "".join(f" {each} " if words_in(each + "a").places.tolist() == [[0, 1], [1, 2]] else each for each in text)
    assert words_of(text) == [word for word, _ in BertPreTokenizer().pre_tokenize_str(apart)]


@given(text=anything)
@settings(max_examples=200, deadline=None)
def test_words_stand_apart_without_blanks_around_them_and_with_the_marks_on_them(text):
    places = words_in(text).places.tolist()
    for (_, before), (start, end) in zip([[0, 0], *places], places, strict=False):
        assert before <= start < end
        assert not {unicodedata.category(text[place]) for place in (start, end - 1)} & {"Cc", "Zs", "Zl", "Zp"}
        assert end == len(text) or unicodedata.category(text[end])[0] != "M"
    outside = np.ones(len(text), dtype=bool)
    for start, end in places:
        outside[start:end] = False
    assert all(text[i].isspace() or unicodedata.category(text[i]) in ("Cc", "Cf") for i in np.flatnonzero(outside))


# Tags of words


def tagged(data, words, alignment) -> list[str]:
    """Tags of words, drawn so that every entity begins at a word with a piece of its own and ends with its piece."""
    count, alone = len(words.starts), alignment.alone
    shares = ~alone & ~words.signs & (alignment.speaker >= 0)

    def later(word: int) -> np.ndarray:
        return np.arange(count) > word

    tags, word = ["O"] * count, 0
    while word < count:
        length = data.draw(st.integers(0, 3))
        last = min(word + length, count) - 1
        closes = (alone | shares)[last] and not shares[
            (alignment.speaker == alignment.speaker[last]) & later(last)
        ].any()
        if length and alone[word] and closes:
            kind = data.draw(st.sampled_from(("Disease", "Drug")))
            tags[word : last + 1] = [f"B-{kind}", *[f"I-{kind}"] * (last - word)]
        word += max(1, length)
    return tags


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data(), text=texts)
@settings(max_examples=25, deadline=None)
def test_tags_of_words_come_back_as_exactly_those_words(kind, data, text):
    tokenizer, words = tokenizer_of(kind), words_in(text)
    pieces = cut(text, tokenizer)
    alignment = pieces.align(words)
    tags = tagged(data, words, alignment)
    taught = np.random.default_rng(0).integers(len(LABELS), size=len(pieces))  # what is not taught is anything
    taught[alignment.speaker[alignment.alone]] = [IDS[tags[word]] for word in np.flatnonzero(alignment.alone)]
    prediction = inference.predict(
        text, PerfectTagger(LABELS, [taught], len(tokenizer)), tokenizer, name="m", max_tokens=256
    )
    expected = [(int(words.starts[a]), int(words.ends[b]), label) for a, b, label in entities(tags)]
    assert [(span.start, span.end, span.label) for span in prediction.spans] == expected


@pytest.mark.parametrize("kind", KINDS)
def test_every_word_of_ordinary_text_has_a_piece_of_its_own(kind):
    """So the test above is about nearly all words."""
    text = "Meds:\naspirin\r\n- asthma/fever\t(COX-2)\nlung cancer"
    words = words_in(text)
    assert cut(text, tokenizer_of(kind)).align(words).alone.all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("between", ["\n", "\r\n", "\t", "\f", "\v", "\x1d", "\x85", "\u2028", "\u00a0", "\u200b"])
def test_words_on_both_sides_of_any_white_space_have_pieces_of_their_own(kind, between):
    text = f"aspirin{between}warfarin"
    alignment = cut(text, tokenizer_of(kind)).align(words_in(text))
    assert alignment.alone.tolist() == [True, True]


@pytest.mark.parametrize("kind", KINDS)
@given(text=anything)
@settings(max_examples=20, deadline=None)
def test_boundaries_of_spans_and_of_explained_parts(kind, text):
    """Whatever the tags: no white space at either end, no mark cut off, and spans are whole words."""
    tokenizer = tokenizer_of(kind)
    pieces = cut(text, tokenizer)
    tags = [np.random.default_rng(1).integers(len(LABELS), size=len(pieces))]
    prediction = inference.predict(
        text, PerfectTagger(LABELS, tags, len(tokenizer)), tokenizer, name="m", max_tokens=256
    )
    words = words_in(text)
    for span in prediction.spans:
        assert span.start in words.starts and span.end in words.ends
    if len(words.starts):
        for grain in GRAINS:
            for start, end in find_units(text, pieces, grain).places if len(pieces) else ():
                assert text[start:end] == text[start:end].strip() != ""
                assert end == len(text) or unicodedata.category(text[end])[0] != "M"


# Pieces over several words


def pieces_of(*places: tuple[int, int], continues=()) -> Pieces:
    starts, ends = np.array(places).T
    return Pieces(np.arange(len(places)), starts, ends, np.isin(np.arange(len(places)), continues))


@pytest.mark.parametrize(
    ("text", "pieces", "tags", "expected"),
    [
        ("a), b", [(0, 1), (1, 3), (4, 5)], "B I I", "B I I I"),  # `),` within an entity
        ("a), b", [(0, 1), (1, 3), (4, 5)], "B I O", "B I O O"),  # the comma after it
        ("a), b", [(0, 1), (1, 3), (4, 5)], "B I B", "B I O B"),
        ("a://b", [(0, 1), (1, 4), (4, 5)], "B I I", "B I I I I"),
        ("(ab c", [(0, 3), (3, 5)], "B I", "O B I"),  # letters speak, not the bracket before them
        ("a -2 b", [(0, 1), (1, 4), (4, 6)], "B I O", "B I I O"),
        ("胸痛 x", [(0, 2), (2, 4)], "B O", "B I O"),  # two ideographs, one entity
        ("胸痛 x", [(0, 2), (2, 4)], "O B", "O O B"),
        ("a.\n b", [(0, 1), (1, 3), (3, 5)], "B I O", "B I O"),  # `.` with the line's end
    ],
)
def test_words_that_share_a_piece(text, pieces, tags, expected):
    names = ("O", "B-X", "I-X")
    alignment = pieces_of(*pieces).align(words_in(text))
    numbers = np.array(["OBI".index(tag) for tag in tags.split()])
    spans, _ = alignment.read(numbers, np.ones(len(numbers)), read_tags(names))
    assert [tag[0] for tag in spans] == expected.split()


def test_a_continuation_piece_gives_no_word_its_tag():
    """BERT reads 37°C as one word, and was trained on the tag of its first piece."""
    text, pieces, meant = "37°C x", [(0, 2), (2, 3), (3, 4), (5, 6)], read_tags(("O", "B-X", "I-X"))
    for marked, expected in (((1, 2), "B-X I-X I-X O"), ((), "B-X O I-X O")):
        alignment = pieces_of(*pieces, continues=marked).align(words_in(text))
        spans, scores = alignment.read(np.array([1, 0, 2, 0]), np.array([0.5, 0.6, 0.7, 0.8]), meant)
        assert spans == expected.split() and scores[0] == 0.5


# Training, evaluation and prediction


@pytest.mark.parametrize("kind", KINDS)
def test_training_rows_teach_the_words_within_given_words(kind):
    tokenizer = tokenizer_of(kind)
    sentence = Sentence(("COX-2", "asthma", "(fever)", "."), ("B-Drug", "B-Disease", "I-Disease", "O"))
    [row] = encode(NER(), [sentence], tokenizer, label_ids=IDS, max_tokens=64)
    labels = [LABELS[label] for label in row.labels if label != IGNORED]
    assert labels == ["B-Drug", "I-Drug", "I-Drug", "B-Disease", "I-Disease", "I-Disease", "I-Disease", "O"]
    assert [word for word in row.words if word >= 0] == list(range(8))
    model = PerfectTagger(
        LABELS, [[IDS["O"] if label == IGNORED else label for label in row.labels[1:-1]]], len(tokenizer)
    )
    text = " ".join(sentence.words)
    spans = inference.predict(text, model, tokenizer, name="m", max_tokens=256).spans
    assert [(text[span.start : span.end], span.label) for span in spans] == [
        ("COX-2", "Drug"),
        ("asthma (fever)", "Disease"),
    ]


visible = st.lists(st.sampled_from([word for word in WORDS if words_of(word)]), min_size=1, max_size=12)


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data(), words=visible)
@settings(max_examples=20, deadline=None)
def test_evaluation_counts_what_prediction_finds_in_the_joined_text(kind, data, words):
    """Gold entities as offsets against predicted spans, and the scores of `evaluate`: the same numbers."""
    tokenizer, text = tokenizer_of(kind), " ".join(words)
    gold: list[str] = []
    for prefix in data.draw(st.lists(st.sampled_from("OBI"), min_size=len(words), max_size=len(words))):
        begins = prefix == "B" or not gold or gold[-1] == "O"
        gold.append("O" if prefix == "O" else "B-Drug" if begins else "I-Drug")
    count = len(cut(text, tokenizer))
    tags = data.draw(st.lists(st.integers(0, len(LABELS) - 1), min_size=count, max_size=count))
    model = PerfectTagger(LABELS, [tags], len(tokenizer))
    spans = inference.predict(text, model, tokenizer, name="m", max_tokens=256).spans
    predicted = {(span.start, span.end, span.label) for span in spans}
    actual = gold_spans(words, gold)
    scores = span_scores.word_scores(model, tokenizer, [(tuple(words), tuple(gold))], max_tokens=256)
    assert scores["precision"] == (len(actual & predicted) / len(predicted) if predicted else 0)
    assert scores["recall"] == (len(actual & predicted) / len(actual) if actual else 0)


def gold_spans(words: list[str], tags: list[str]) -> set[tuple[int, int, str]]:
    """Entities of given words as offsets in the joined text, without what cannot be seen at their ends."""
    starts = np.cumsum([0, *(len(word) + 1 for word in words)])
    within = [words_in(word).places + start for word, start in zip(words, starts, strict=False)]
    return {(int(within[a][0, 0]), int(within[b][-1, 1]), label) for a, b, label in entities(tags)}
