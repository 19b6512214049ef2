"""Vocabulary trimming: what stays, and that text is cut as before wherever its pieces stay."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.models import BPE
from transformers import AutoTokenizer, BertTokenizer, PreTrainedTokenizerFast

from trainer.errors import BadSpec, Unavailable
from trainer.zoo import vocabulary

TEXTS = [
    "Naloxone reverses the antihypertensive effect of clonidine.",
    "A 5 µg dose was given – β-blockers and the patient’s α-agonist were stopped.",
    "No nausea; cardiomyopathy (congestive), 37.5 °C, 日本.",
]
SIZE = 2000


@pytest.fixture(scope="module")
def tokenizer(tiny_model):
    return AutoTokenizer.from_pretrained(tiny_model)


@pytest.fixture(scope="module")
def counts(tokenizer):
    return vocabulary.count_pieces(TEXTS, tokenizer)


@pytest.fixture(scope="module")
def ids(tokenizer, counts):
    return vocabulary.select_pieces(counts, tokenizer, size=SIZE)


@pytest.fixture(scope="module")
def trimmed(tokenizer, ids):
    return vocabulary.trim(tokenizer, ids)


def test_pieces_are_counted_over_all_texts(tokenizer, counts):
    expected = Counter(number for text in TEXTS for number in tokenizer(text, add_special_tokens=False)["input_ids"])
    assert len(counts) == len(tokenizer)
    assert {int(number): int(counts[number]) for number in counts.nonzero()[0]} == expected
    assert np.array_equal(vocabulary.count_pieces(iter([*TEXTS, "", *TEXTS]), tokenizer, chunk=2), 2 * counts)
    assert not vocabulary.count_pieces([], tokenizer).any()


def test_what_is_used_stays_in_its_order(tokenizer, counts, ids):
    assert ids.dtype == np.int64 and list(ids) == sorted(set(ids.tolist()))
    assert set(counts.nonzero()[0]) <= set(ids), "there is room for every piece that is used"
    assert set(tokenizer.all_special_ids) <= set(ids)
    assert len(ids) < SIZE, "nothing that never occurs is kept to fill it up, but single characters"
    unused = [tokenizer.convert_ids_to_tokens(int(number)) for number in ids if not counts[number]]
    assert all(len(piece.removeprefix("##")) == 1 or piece in tokenizer.all_special_tokens for piece in unused)


def fewest(tokenizer):
    return vocabulary.smallest_size(
        tokenizer.get_vocab(), [str(token) for token in tokenizer.added_tokens_decoder.values()]
    )


def test_where_room_is_short_the_most_used_pieces_stay(tokenizer):
    least = fewest(tokenizer)
    counts = np.zeros(len(tokenizer), dtype=np.int64)
    words = [tokenizer.convert_tokens_to_ids(word) for word in ("patient", "the", "dose", "日")]
    counts[words] = (7, 9, 7, 1)
    added = [set(vocabulary.select_pieces(counts, tokenizer, size=least + more)) for more in range(5)]
    order = [next(iter(larger - smaller)) for smaller, larger in zip(added, added[1:], strict=False)]
    patient, the, dose, sign = words
    assert order == [sign, the, *sorted((patient, dose))], "characters that occur, then by count, then by number"
    assert len(added[0]) == least


def test_fewer_pieces_than_must_stay_are_refused(tokenizer, counts):
    least = fewest(tokenizer)
    assert 300 < least < 1000
    with pytest.raises(BadSpec, match=f"found {least - 1}.* alone are {least}") as error:
        vocabulary.select_pieces(counts, tokenizer, size=least - 1)
    assert error.value.fields[0][0] == "student.vocabulary"


def spelled(tokenizer, text, **options):
    return tokenizer.convert_ids_to_tokens(tokenizer(text, **options)["input_ids"])


def test_text_whose_pieces_stay_is_cut_as_before(tokenizer, trimmed, ids):
    assert len(trimmed) == len(ids) == trimmed.vocab_size
    for text in TEXTS:
        assert spelled(trimmed, text) == spelled(tokenizer, text)
        assert ids[trimmed(text)["input_ids"]].tolist() == tokenizer(text)["input_ids"]
        offsets = {"return_offsets_mapping": True}
        assert trimmed(text, **offsets)["offset_mapping"] == tokenizer(text, **offsets)["offset_mapping"]


def test_special_tokens_are_the_same_under_new_numbers(tokenizer, trimmed, ids):
    for name in ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"):
        assert getattr(trimmed, name) == getattr(tokenizer, name)
        assert ids[getattr(trimmed, f"{name}_id")] == getattr(tokenizer, f"{name}_id")
    pair = trimmed("a dose", "was given", padding="max_length", max_length=12)
    assert trimmed.decode(pair["input_ids"]) == "[CLS] a dose [SEP] was given [SEP]" + " [PAD]" * 5
    assert trimmed("a [MASK] dose")["input_ids"][2] == trimmed.mask_token_id
    assert trimmed.num_special_tokens_to_add() == tokenizer.num_special_tokens_to_add()
    assert trimmed.model_max_length == tokenizer.model_max_length


def test_it_is_the_same_after_it_was_saved(trimmed, tmp_path):
    trimmed.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert again.get_vocab() == trimmed.get_vocab() and type(again) is type(trimmed)
    assert again.all_special_ids == trimmed.all_special_ids
    for text in (*TEXTS, "completely different words"):
        assert again(text)["input_ids"] == trimmed(text)["input_ids"]


def test_the_tokenizer_that_was_given_stays_as_it_is(tokenizer, trimmed):
    assert len(tokenizer) == 30522 and tokenizer("patient")["input_ids"] == [101, 5776, 102]
    assert trimmed("patient")["input_ids"] != [101, 5776, 102]


letters = st.characters(max_codepoint=0x24F, categories=["L", "N", "P", "S"])


@given(st.lists(st.text(letters, min_size=1, max_size=20), min_size=1, max_size=8))
@settings(max_examples=150, deadline=None)
def test_no_latin_word_becomes_unknown(tokenizer, trimmed, words):
    text = " ".join(words)
    before, after = (spelled(each, text, add_special_tokens=False) for each in (tokenizer, trimmed))
    assert after.count("[UNK]") <= before.count("[UNK]")


@pytest.mark.parametrize("text", ["cholecystitis", "Ménière’s disease", "β2-agonist–induced", "ÅNGSTRÖM"])
def test_dropped_words_are_cut_smaller(trimmed, text):
    pieces = spelled(trimmed, text, add_special_tokens=False)
    assert "[UNK]" not in pieces and len(pieces) > 3


def wordpiece(pieces, **options):
    return BertTokenizer(vocab={piece: number for number, piece in enumerate(pieces)}, **options)


PIECES = ["a", "b", "##a", "##b", "ab", "##ab", "abba", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[PAD]", "A", "##A", "É"]


def test_a_cased_tokenizer_and_an_unusual_order_of_pieces():
    tokenizer = wordpiece(PIECES, do_lower_case=False)
    counts = vocabulary.count_pieces(["abba A É"], tokenizer)
    ids = vocabulary.select_pieces(counts, tokenizer, size=13)
    assert [PIECES[number] for number in ids] == [piece for piece in PIECES if piece not in ("ab", "##ab")]
    trimmed = vocabulary.trim(tokenizer, ids)
    assert PIECES[ids[trimmed.pad_token_id]] == "[PAD]" and trimmed.pad_token_id == 9
    assert spelled(trimmed, "abba ab A É") == ["[CLS]", "abba", "a", "##b", "A", "É", "[SEP]"]


def test_an_added_token_stays(tmp_path):
    tokenizer = wordpiece(PIECES, do_lower_case=False)
    tokenizer.add_tokens(["baab"])
    ids = vocabulary.select_pieces(vocabulary.count_pieces(["ab"], tokenizer), tokenizer, size=14)
    trimmed = vocabulary.trim(tokenizer, ids)
    assert spelled(trimmed, "a baab", add_special_tokens=False) == ["a", "baab"]
    assert fewest(tokenizer) == 13 and len(ids) == 14


def test_another_kind_of_vocabulary_cannot_be_trimmed():
    other = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(BPE(vocab={"a": 0, "b": 1}, merges=[])))
    with pytest.raises(Unavailable, match="type BPE") as error:
        vocabulary.trim(other, np.array([0]))
    assert "WordPiece" in error.value.next_step
