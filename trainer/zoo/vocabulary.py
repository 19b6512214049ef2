"""Vocabulary trimming: keep only the word pieces that a domain uses; embeddings are half of a small model.

Tokenization stays the same algorithm: a word whose piece was dropped is split into smaller pieces that remain.
"""

import json
import tempfile
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.errors import BadSpec, Unavailable

Integers = NDArray[np.int64]
PREFIX = "##"
CHUNK = 1000  # texts per call of the tokenizer


def count_pieces(texts: Iterable[str], tokenizer: Any, *, chunk: int = CHUNK) -> Integers:
    """The number of times each piece of the vocabulary occurs in the texts, (vocabulary,); `chunk` texts per call."""
    counts = np.zeros(max(tokenizer.get_vocab().values()) + 1, dtype=np.int64)
    waiting: list[str] = []
    for text in texts:
        waiting.append(text)
        if len(waiting) == chunk:
            _count(waiting, tokenizer, counts)
            waiting = []
    _count(waiting, tokenizer, counts)
    return counts


def smallest_size(pieces: Iterable[str], added: Iterable[str]) -> int:
    """The number of pieces that trimming always keeps: added tokens (special tokens) and single characters."""
    return len({*added, *filter(_stays, pieces)})


def select_pieces(counts: Integers, tokenizer: Any, *, size: int) -> Integers:
    """The ids of at most `size` pieces, ascending: those that always stay, then those that occur, most frequent first.

    Added tokens and single characters of the Latin, Greek and punctuation blocks always stay, so that no ordinary word
    becomes unknown; other characters that occur come before longer pieces. Raises BadSpec if more than `size` pieces
    always stay.
    """
    vocabulary = tokenizer.get_vocab()
    always: set[int] = {number for piece, number in vocabulary.items() if _stays(piece)} | set(
        tokenizer.added_tokens_decoder
    )
    if len(always) > size:
        raise BadSpec([("student.vocabulary", too_few(size, len(always)))])
    longer = np.ones(len(counts), dtype=bool)
    longer[[number for piece, number in vocabulary.items() if len(piece.removeprefix(PREFIX)) == 1]] = False
    order = np.lexsort((-counts, longer)).tolist()
    rest = [number for number in order if number not in always and counts[number] > 0]
    return np.array(sorted([*always, *rest[: size - len(always)]]), dtype=np.int64)


def too_few(size: int, always: int) -> str:
    """The message for a vocabulary of `size` pieces when `always` pieces cannot be dropped."""
    return f"found {size}; special tokens and single characters alone are {always}; a few thousand are usual"


def trim(tokenizer: Any, ids: Integers) -> Any:
    """The same tokenizer with only the pieces `ids` (ascending), renumbered from 0; Unavailable unless WordPiece."""
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    if state["model"]["type"] != "WordPiece":
        raise Unavailable(
            f"Vocabularies of type {state['model']['type']} cannot be trimmed.",
            next_step="Leave `vocabulary` empty, or start from a model with WordPiece (the BERT family).",
        )
    new = {int(old): number for number, old in enumerate(ids)}
    pieces = state["model"]["vocab"]
    state["model"]["vocab"] = {piece: new[number] for piece, number in pieces.items() if number in new}
    for token in state["added_tokens"]:
        token["id"] = new[token["id"]]
    for token in state["post_processor"].get("special_tokens", {}).values():
        token["ids"] = [new[number] for number in token["ids"]]
    return _reload(tokenizer, state)


def _count(texts: list[str], tokenizer: Any, counts: Integers) -> None:
    if texts:
        for ids in tokenizer(texts, add_special_tokens=False, truncation=False, verbose=False)["input_ids"]:
            np.add.at(counts, ids, 1)


def _stays(piece: str) -> bool:
    bare = piece.removeprefix(PREFIX)
    if len(bare) != 1:
        return False
    number = ord(bare)
    greek = 0x370 <= number < 0x400 and unicodedata.category(bare) == "Ll"
    return number < 0x2B0 or greek or 0x2000 <= number < 0x2070  # Latin with phonetic letters, Greek, punctuation


def _reload(tokenizer: Any, state: dict[str, Any]) -> Any:
    # Through files, as every later reader opens it; a tokenizer object edited in place keeps parts of the old state.
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        (Path(folder) / "tokenizer.json").write_text(json.dumps(state, ensure_ascii=False), encoding="utf-8")
        return type(tokenizer).from_pretrained(folder)
