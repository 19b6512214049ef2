"""Whether a tokenizer treats case and accents as its vocabulary requires.

Model folders are often copied without tokenizer_config.json. The library's defaults, or a wrong file, may then
contradict the vocabulary, so that some of its words can never match. A vocabulary with capitals needs text with its
case, one with accents needs them kept. If a vocabulary has no capitals and the file says to keep case, loading fails.
"""

import json
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from tokenizers import Tokenizer

from trainer.errors import CorruptFile

MODELS = ("WordPiece", "WordLevel", "Unigram")  # a byte-level vocabulary can spell every letter
_WORDS = ("WordPiece", "WordLevel")
SHARE = 0.01  # of a vocabulary's pieces; fewer may be markers that were added by hand


def corrections(tokenizer: Any, stated: Mapping[str, Any], *, where: str) -> dict[str, bool]:
    """The transformers options that make a tokenizer fit its vocabulary; empty if it already does.

    stated: the folder's tokenizer_config.json. Raises CorruptFile if that says to keep case but no piece has a capital.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None or type(backend.model).__name__ not in MODELS:
        return {}
    pieces = _pieces(tokenizer, backend)
    options: dict[str, bool] = {}
    capitals = [piece for piece in pieces if piece != piece.lower()]
    if _many(capitals, pieces) and _lowercases(backend):
        options["do_lower_case"] = False
    elif (
        not capitals
        and not _lowercases(backend)
        and type(backend.model).__name__ in _WORDS
        and _has_cased_script(pieces)
    ):
        if stated.get("do_lower_case"):
            options["do_lower_case"] = True
        elif "do_lower_case" in stated:
            raise CorruptFile(
                f"tokenizer_config.json of {where} says to keep case (do_lower_case false), and its vocabulary of "
                f"{len(pieces):,} pieces holds no capital letter: words with one could not be read.",
                next_step='Write "do_lower_case": true there if it was trained on text in lower case; otherwise copy '
                "the vocabulary that belongs to it.",
            )
    if _many([piece for piece in pieces if _accented(piece)], pieces) and _strips_accents(backend):
        options["strip_accents"] = False
    return options


def correct(tokenizer: Any, options: Mapping[str, bool]) -> None:
    """Apply the options of `corrections` to a tokenizer whose class ignores them."""
    backend = tokenizer.backend_tokenizer
    state = json.loads(backend.to_str())
    state["normalizer"] = _normalizer(state["normalizer"], options)
    backend.normalizer = Tokenizer.from_str(json.dumps(state)).normalizer


def _normalizer(state: dict[str, Any] | None, options: Mapping[str, bool]) -> dict[str, Any]:
    """A normalizer, as tokenizer.json stores it, with these options."""
    lower, strip = options.get("do_lower_case"), options.get("strip_accents")
    if state and state["type"] == "BertNormalizer":
        return state | {
            "lowercase": state["lowercase"] if lower is None else lower,
            "strip_accents": state["strip_accents"] if strip is None else strip,
        }
    parts: list[dict[str, Any]] = []
    if state:
        parts = state["normalizers"] if state["type"] == "Sequence" else [state]
    dropped = {"Lowercase"} if lower is False else set()
    dropped |= {"StripAccents"} if strip is False else set()
    parts = [
        _normalizer(part, options) if part["type"] in ("BertNormalizer", "Sequence") else part
        for part in parts
        if part["type"] not in dropped
    ]
    added = [{"type": "Lowercase"}] if lower and not any(part["type"] == "BertNormalizer" for part in parts) else []
    return {"type": "Sequence", "normalizers": [*added, *parts]}


def _pieces(tokenizer: Any, backend: Tokenizer) -> list[str]:
    """The pieces that stand for text: no special tokens, and nothing in brackets such as [unused1]."""
    special = set(tokenizer.all_special_tokens)
    return [
        piece
        for piece in backend.get_vocab(with_added_tokens=False)
        if piece not in special and not (piece[:1] + piece[-1:] in ("[]", "<>") and len(piece) > 2)
    ]


def _many(selected: Sequence[str], pieces: Sequence[str]) -> bool:
    """Whether the selected pieces are too many to have been added by hand."""
    return len(selected) > SHARE * len(pieces)


def _has_cased_script(pieces: Sequence[str]) -> bool:
    """Whether most pieces are in a script that has capitals."""
    return 2 * sum(piece != piece.upper() for piece in pieces) > len(pieces)


def _accented(piece: str) -> bool:
    return any(unicodedata.category(character) == "Mn" for character in unicodedata.normalize("NFD", piece))


def _lowercases(backend: Tokenizer) -> bool:
    return backend.normalizer is not None and "A" not in backend.normalizer.normalize_str("A")


def _strips_accents(backend: Tokenizer) -> bool:
    return backend.normalizer is not None and backend.normalizer.normalize_str("é") == "e"
