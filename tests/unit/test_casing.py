"""Case and accents of a text match the model's vocabulary, whatever its other files say."""

import json
import logging
from pathlib import Path

import pytest
from tokenizers import Tokenizer, normalizers, pre_tokenizers
from tokenizers import models as kinds
from transformers import BertConfig, BertForTokenClassification, PreTrainedTokenizerFast

from trainer import models
from trainer.datasets.rows.pieces import cut
from trainer.errors import CorruptFile
from trainer.zoo import casing

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[unused1]", "[unusedA]"]
LETTERS = [mark + letter for letter in "abcdefghijklmnopqrstuvwxyz" for mark in ("", "##")]
LOWER = [*SPECIAL, *LETTERS, "lung", "aspirin", "fievre"]
CASED = [*LOWER, "LUNG", "Aspirin"]
ACCENTED = [*LOWER, "fièvre", "##é"]
TEXT = "LUNG Aspirin fièvre"
LOWERED, KEPT = ["lung", "aspirin", "fievre"], ["LUNG", "Aspirin"]


def write(folder: Path, pieces: list[str], *, normalizer=None, **config) -> Path:
    """A model folder with this vocabulary: vocab.txt, or tokenizer.json where a normaliser is given."""
    folder.mkdir(parents=True)
    sizes = dict(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
    labels = {"id2label": {0: "O", 1: "B-X"}, "label2id": {"O": 0, "B-X": 1}}
    BertForTokenClassification(BertConfig(vocab_size=len(pieces), **sizes, **labels)).save_pretrained(folder)
    if normalizer is None:
        (folder / "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf-8")
        if config:
            (folder / "tokenizer_config.json").write_text(json.dumps(config))
        return folder
    ids = {piece: number for number, piece in enumerate(pieces)}
    backend = Tokenizer(kinds.WordPiece(ids, unk_token="[UNK]"))
    backend.normalizer, backend.pre_tokenizer = normalizer, pre_tokenizers.Whitespace()
    named = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(tokenizer_object=backend, mask_token="[MASK]", **named, **config).save_pretrained(folder)
    return folder


def read(folder: Path) -> list[str]:
    """The pieces of TEXT, those of accents put together."""
    _, tokenizer = models.load(str(folder))
    return tokenizer.convert_ids_to_tokens(cut(TEXT, tokenizer).ids.tolist())


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"do_lower_case": True},
        {"tokenizer_class": "BertTokenizer"},
        {"do_lower_case": True, "strip_accents": True},
        {"normalizer": normalizers.BertNormalizer(lowercase=True)},
        {"normalizer": normalizers.BertNormalizer(lowercase=True), "do_lower_case": True},
        {"normalizer": normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])},
        {"normalizer": normalizers.Sequence([normalizers.BertNormalizer(lowercase=True)])},
        {"normalizer": normalizers.Lowercase()},
    ],
    ids=str,
)
def test_a_vocabulary_with_capitals_keeps_case(tmp_path, caplog, files):
    with caplog.at_level(logging.WARNING):
        assert read(write(tmp_path / "m", CASED, **files))[:2] == KEPT
    assert "contradicts" in caplog.text and "do_lower_case" in caplog.text


def test_a_vocabulary_with_capitals_that_is_read_with_case_is_left_alone(tmp_path, caplog):
    assert read(write(tmp_path / "m", CASED, do_lower_case=False))[:2] == KEPT
    assert read(write(tmp_path / "n", CASED, normalizer=normalizers.NFC()))[:2] == KEPT
    assert not caplog.records


@pytest.mark.parametrize(
    "files",
    [{}, {"do_lower_case": True}, {"normalizer": normalizers.BertNormalizer(lowercase=True), "do_lower_case": False}],
    ids=str,
)
def test_a_vocabulary_without_capitals_is_read_in_lower_case(tmp_path, caplog, files):
    assert read(write(tmp_path / "m", LOWER, **files)) == LOWERED
    assert not caplog.records


def test_two_files_that_agree_on_lower_case_have_it_against_one(tmp_path):
    folder = write(tmp_path / "m", LOWER, normalizer=normalizers.BertNormalizer(lowercase=False), do_lower_case=True)
    assert read(folder) == LOWERED
    folder = write(tmp_path / "n", LOWER, normalizer=normalizers.NFC(), do_lower_case=True)
    assert read(folder)[:2] == LOWERED[:2]


@pytest.mark.parametrize("normalizer", [None, normalizers.BertNormalizer(lowercase=False)])
def test_a_vocabulary_without_capitals_that_is_to_keep_case_is_asked_about(tmp_path, normalizer):
    folder = write(tmp_path / "m", LOWER, normalizer=normalizer, do_lower_case=False)
    with pytest.raises(CorruptFile, match="do_lower_case false.* holds no capital") as caught:
        models.load(str(folder))
    assert '"do_lower_case": true' in caught.value.next_step
    (folder / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": True}))
    assert read(folder)[:2] == LOWERED[:2]


def test_a_script_without_case_has_none_to_keep(tmp_path):
    signs = [*SPECIAL, *(chr(0x4E00 + number) for number in range(80)), "lung"]
    models.load(str(write(tmp_path / "m", signs, do_lower_case=False)))


@pytest.mark.parametrize("files", [{}, {"do_lower_case": True}, {"strip_accents": True}], ids=str)
def test_a_vocabulary_with_accents_keeps_them(tmp_path, files):
    assert read(write(tmp_path / "m", ACCENTED, **files)) == ["lung", "aspirin", "fièvre"]
    assert read(write(tmp_path / "n", LOWER, **files)) == LOWERED


def test_marks_that_were_put_into_a_vocabulary_by_hand_do_not_count(tmp_path):
    pieces = [*LOWER, *(f"word{number}" for number in range(300)), "MARK", "ENTITY"]
    assert read(write(tmp_path / "m", pieces)) == LOWERED
    assert read(write(tmp_path / "n", [*pieces, "LUNG", "Aspirin"]))[:2] == KEPT


def test_a_corrected_tokenizer_is_saved_corrected(tmp_path, caplog):
    model, tokenizer = models.load(str(write(tmp_path / "m", CASED, do_lower_case=True)))
    models.save(model, tokenizer, tmp_path / "saved")
    caplog.clear()
    assert read(tmp_path / "saved")[:2] == KEPT and not caplog.records


def test_what_was_trained_here_is_read_as_it_was_trained(tmp_path):
    folder = write(tmp_path / "m", CASED, do_lower_case=True)
    (folder / "stillroom.json").write_text("{}")
    assert read(folder) == LOWERED


def test_other_tokenizers_are_left_alone():
    backend = Tokenizer(kinds.BPE())
    backend.normalizer = normalizers.Lowercase()
    assert casing.corrections(PreTrainedTokenizerFast(tokenizer_object=backend), {}, where="x") == {}
    assert casing.corrections(object(), {}, where="x") == {}
