"""A corpus as word pieces, cut once and kept in a memory-mapped file. No torch.

The file holds the text in another spelling, so its folder is readable by the owner alone.
"""

import fcntl
import hashlib
import json
import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from tokenizers import Tokenizer

from trainer import datasets
from trainer.datasets.rows.pieces import SEAM, SEGMENT, SURROGATES
from trainer.errors import BadData, BadSpec
from trainer.files import commit_folder
from trainer.home import home
from trainer.resolved import ResolvedDataset

CHUNK = 1 << 20  # characters that are tokenised at once
_FORMAT = 1  # of the files; another number cuts every corpus anew

log = logging.getLogger(__name__)


class Tokens(NamedTuple):
    """A tokenised split: the pieces of every document with a separator after each, and where each document ends."""

    ids: np.ndarray  # (pieces and separators,) uint16 or uint32, memory-mapped
    ends: np.ndarray  # (documents,) int64, memory-mapped; the separator is included

    def __repr__(self) -> str:
        return f"Tokens({len(self.ends):,} documents, {len(self.ids) - len(self.ends):,} pieces)"


def tokens(dataset: ResolvedDataset, split: str, tokenizer: Any, *, limit: int | None = None) -> Tokens:
    """The pieces of a split, from STILLROOM_HOME/cache/tokens if this tokenizer has cut this split before.

    tokenizer: a fast one of transformers. The text is read as a stream and the pieces are written as they come, so
    neither need fit into memory. `limit` counts documents. Raises what `datasets.documents` raises, BadData for a split
    without text, and BadSpec for a tokenizer without a separator.
    """
    plain, separator = backend(tokenizer), _separator(tokenizer)
    spelling = hashlib.sha256(plain.to_str().encode()).hexdigest()
    named = json.dumps([_FORMAT, dataset.sha256, split, limit, spelling, separator])
    folder = _cache() / hashlib.sha256(named.encode()).hexdigest()[:32]
    dtype = np.dtype(np.uint16 if len(tokenizer) <= 1 << 16 else np.uint32)
    with alone(folder):  # of two runs that start together one cuts, and the other waits
        if (found := _open(folder, dtype)) is None:
            texts = datasets.documents(dataset, split, limit=limit)
            commit_folder(folder, lambda draft: _write(draft, encode(texts, plain), separator, dtype))
            found = _open(folder, dtype)
            log.info("The %s split is cut into pieces: %r.", split, found)
    return found


def backend(tokenizer: Any) -> Tokenizer:
    """A copy of a tokenizer, of the `tokenizers` library or a fast one of transformers, that cuts and pads nothing."""
    copy = Tokenizer.from_str(getattr(tokenizer, "backend_tokenizer", tokenizer).to_str())
    copy.no_truncation()
    copy.no_padding()
    return copy


def encode(texts: Iterable[str], plain: Tokenizer) -> Iterator[np.ndarray]:
    """The piece ids of each text, (pieces,), without special tokens; a huge text goes in parts, to bound the memory."""
    for chunk in _chunks(texts):
        parts = [list(_segments(SURROGATES.sub("\ufffd", text))) for text in chunk]
        found = iter(plain.encode_batch_fast([part for text in parts for part in text], add_special_tokens=False))
        for text in parts:
            yield np.concatenate([np.array(next(found).ids, dtype=np.uint32) for _ in text])


def _chunks(texts: Iterable[str]) -> Iterator[list[str]]:
    chunk, size = [], 0
    for text in texts:
        chunk.append(text)
        size += len(text)
        if size >= CHUNK:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _segments(text: str) -> Iterator[str]:
    start = 0
    while len(text) - start > SEGMENT and (seam := SEAM.search(text, start + SEGMENT)):
        yield text[start : seam.start()]
        start = seam.start()
    yield text[start:]


def _separator(tokenizer: Any) -> int:
    found = tokenizer.eos_token_id if tokenizer.sep_token_id is None else tokenizer.sep_token_id
    if found is None:
        raise BadSpec([("model", "its tokenizer has no token that separates documents")])
    return found


def _write(draft: Path, documents: Iterable[np.ndarray], separator: int, dtype: np.dtype) -> None:
    draft.chmod(0o700)
    place = 0
    with _create(draft / "ids") as ids, _create(draft / "ends") as ends:
        for pieces in documents:
            if not len(pieces):  # nothing but characters that the tokenizer drops
                continue
            place += len(pieces) + 1
            ids.write(np.append(pieces, separator).astype(dtype).tobytes())
            ends.write(np.int64(place).tobytes())
    if not place:
        raise BadData("the split holds no document.", next_step="Fill it, or use another split.")


def _create(path: Path) -> BinaryIO:
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")


def _open(folder: Path, dtype: np.dtype) -> Tokens | None:
    """The pieces that are kept in a folder; None where there are none, or not as many as were written."""
    try:
        ids, ends = np.memmap(folder / "ids", dtype, "r"), np.memmap(folder / "ends", np.int64, "r")
    except (FileNotFoundError, ValueError):  # ValueError: an empty file, or half a number at its end
        return None
    return Tokens(ids, ends) if len(ids) == ends[-1] else None


def _cache() -> Path:
    folder = home() / "cache" / "tokens"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder; the system lets go of it when this process ends, however it ends."""
    with folder.with_suffix(".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
