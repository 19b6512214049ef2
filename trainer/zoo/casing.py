"""Whether a tokenizer reads text in the case, and with the accents, that its vocabulary was made for.

Folders are often copied without the file that says it, and what a library assumes then, or what the file says, may
contradict the vocabulary: words that no text can ever match. A vocabulary that holds capitals keeps case, one that
holds accents keeps them; one without a capital under a file that says to keep case is asked about.
"""

import json
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from tokenizers import Tokenizer

from trainer.errors import CorruptFile

MODELS = ("WordPiece", "WordLevel", "Unigram")  # a byte-level vocabulary has every letter
_WORDS = ("WordPiece", "WordLevel")
SHARE = 0.01  # of a vocabulary's pieces; fewer may be marks that were put there by hand


def corrections(tokenizer: Any, stated: Mapping[str, Any], *, where: str) -> dict[str, bool]:
    """The options under which a tokenizer fits its vocabulary, as transformers calls them; none where it does already.

    stated: the folder's tokenizer_config.json. CorruptFile where that says to keep case and there is no capital.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None or type(backend.model).__name__ not in MODELS:
        return {}
    pieces = _pieces(tokenizer, backend)
    found: dict[str, bool] = {}
    capitals = [piece for piece in pieces if piece != piece.lower()]
    if _many(capitals, pieces) and _lowers(backend):
        found["do_lower_case"] = False
    elif not capitals and not _lowers(backend) and type(backend.model).__name__ in _WORDS and _in_letters(pieces):
        if stated.get("do_lower_case"):
            found["do_lower_case"] = True
        elif "do_lower_case" in stated:
            raise CorruptFile(
                f"tokenizer_config.json of {where} says to keep case (do_lower_case false), and its vocabulary of "
                f"{len(pieces):,} pieces holds no capital letter: words with one could not be read.",
                next_step='Write "do_lower_case": true there if it was trained on text in lower case; otherwise copy '
                "the vocabulary that belongs to it.",
            )
    if _many([piece for piece in pieces if _accented(piece)], pieces) and _strips(backend):
        found["strip_accents"] = False
    return found


def correct(tokenizer: Any, options: Mapping[str, bool]) -> None:
    """Make a tokenizer do what `corrections` says, where its class does not know the options."""
    backend = tokenizer.backend_tokenizer
    state = json.loads(backend.to_str())
    state["normalizer"] = _normalizer(state["normalizer"], options)
    backend.normalizer = Tokenizer.from_str(json.dumps(state)).normalizer


def _normalizer(state: dict | None, options: Mapping[str, bool]) -> dict:
    """A normaliser as tokenizer.json has it, with other options."""
    lower, strip = options.get("do_lower_case"), options.get("strip_accents")
    kind = state["type"] if state else None
    if kind == "BertNormalizer":
        return state | {
            "lowercase": state["lowercase"] if lower is None else lower,
            "strip_accents": state["strip_accents"] if strip is None else strip,
        }
    parts = state["normalizers"] if kind == "Sequence" else [state] if state else []
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
    """The vocabulary without what stands for no text: special tokens, and others in brackets such as [unused1]."""
    special = set(tokenizer.all_special_tokens)
    return [
        piece
        for piece in backend.get_vocab(with_added_tokens=False)
        if piece not in special and not (piece[:1] + piece[-1:] in ("[]", "<>") and len(piece) > 2)
    ]


def _many(some: Sequence[str], pieces: Sequence[str]) -> bool:
    """Whether these are the vocabulary's own."""
    return len(some) > SHARE * len(pieces)


def _in_letters(pieces: Sequence[str]) -> bool:
    """Whether most of a vocabulary is in a script that has capitals."""
    return 2 * sum(piece != piece.upper() for piece in pieces) > len(pieces)


def _accented(piece: str) -> bool:
    return any(unicodedata.category(sign) == "Mn" for sign in unicodedata.normalize("NFD", piece))


def _lowers(backend: Tokenizer) -> bool:
    return backend.normalizer is not None and "A" not in backend.normalizer.normalize_str("A")


def _strips(backend: Tokenizer) -> bool:
    return backend.normalizer is not None and backend.normalizer.normalize_str("é") == "e"
