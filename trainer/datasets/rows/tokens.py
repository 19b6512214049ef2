"""A corpus as word pieces, tokenised once and cached in a memory-mapped file. No torch.

The text can be restored from the file, so only its owner can read its folder.
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
from trainer.errors import BadData, BadSpec, CorruptFile
from trainer.files import commit_folder
from trainer.home import home
from trainer.resolved import ResolvedDataset

CHUNK = 1 << 20  # characters that are tokenised at once
_FORMAT = 1  # of the files; with another number every corpus is tokenised again

log = logging.getLogger(__name__)


class Tokens(NamedTuple):
    """A tokenised split: the pieces of every document with a separator after each, and where each document ends."""

    ids: np.ndarray  # (pieces and separators,) uint16 or uint32, memory-mapped
    ends: np.ndarray  # (documents,) int64, memory-mapped; the separator is included

    def __repr__(self) -> str:
        return f"Tokens({len(self.ends):,} documents, {len(self.ids) - len(self.ends):,} pieces)"


def tokens(dataset: ResolvedDataset, split: str, tokenizer: Any, *, limit: int | None = None) -> Tokens:
    """The pieces of a split, from STILLROOM_HOME/cache/tokens if this tokenizer has cut this split before.

    tokenizer: a fast one of transformers. The text is streamed and the pieces are written at once, so neither need fit
    into memory. `limit` counts documents. Raises what `datasets.documents` raises, BadData for a split without text,
    and BadSpec for a tokenizer without a separator.
    """
    plain, separator = backend(tokenizer), _separator(tokenizer)
    tokenizer_sha256 = hashlib.sha256(plain.to_str().encode()).hexdigest()
    key = json.dumps([_FORMAT, dataset.sha256, split, limit, tokenizer_sha256, separator])
    folder = _cache() / hashlib.sha256(key.encode()).hexdigest()[:32]
    dtype = np.dtype(np.uint16 if len(tokenizer) <= 1 << 16 else np.uint32)
    with lock(folder):  # of two runs that start together, one tokenises and the other waits
        if cached := _open(folder, dtype):
            return cached
        texts = datasets.documents(dataset, split, limit=limit)
        commit_folder(folder, lambda draft: _write(draft, encode(texts, plain), separator, dtype))
        written = _open(folder, dtype)
        if written is None:
            raise CorruptFile(f"The pieces of the {split} split in {folder} were changed while they were written.")
        log.info("The %s split is cut into pieces: %r.", split, written)
        return written


def backend(tokenizer: Any) -> Tokenizer:
    """A copy of a tokenizer (of `tokenizers`, or a fast one of transformers) without truncation or padding."""
    copy = Tokenizer.from_str(getattr(tokenizer, "backend_tokenizer", tokenizer).to_str())
    copy.no_truncation()
    copy.no_padding()
    return copy


def encode(
    texts: Iterable[str], plain: Tokenizer, *, chunk: int = CHUNK, segment: int = SEGMENT
) -> Iterator[np.ndarray]:
    """The piece ids of each text, (pieces,), without special tokens; a huge text is encoded in parts to save memory.

    chunk: the number of characters that are tokenised at once; segment: of code points in each part of a huge text.
    """
    for together in _chunks(texts, chunk):
        parts = [list(_segments(SURROGATES.sub("\ufffd", text), segment)) for text in together]
        encoded = iter(plain.encode_batch_fast([part for text in parts for part in text], add_special_tokens=False))
        for text_parts in parts:
            yield np.concatenate([np.array(next(encoded).ids, dtype=np.uint32) for _ in text_parts])


def _chunks(texts: Iterable[str], least: int) -> Iterator[list[str]]:
    chunk, size = [], 0
    for text in texts:
        chunk.append(text)
        size += len(text)
        if size >= least:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _segments(text: str, size: int) -> Iterator[str]:
    start = 0
    while len(text) - start > size and (seam := SEAM.search(text, start + size)):
        yield text[start : seam.start()]
        start = seam.start()
    yield text[start:]


def _separator(tokenizer: Any) -> int:
    separator: int | None = tokenizer.eos_token_id if tokenizer.sep_token_id is None else tokenizer.sep_token_id
    if separator is None:
        raise BadSpec([("model", "its tokenizer has no token that separates documents")])
    return separator


def _write(draft: Path, documents: Iterable[np.ndarray], separator: int, dtype: np.dtype) -> None:
    draft.chmod(0o700)
    place = 0
    with _create(draft / "ids") as ids, _create(draft / "ends") as ends:
        for pieces in documents:
            if not len(pieces):  # only characters that the tokenizer drops
                continue
            place += len(pieces) + 1
            ids.write(np.append(pieces, separator).astype(dtype).tobytes())
            ends.write(np.int64(place).tobytes())
    if not place:
        raise BadData("the split holds no document.", next_step="Fill it, or use another split.")


def _create(path: Path) -> BinaryIO:
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")


def _open(folder: Path, dtype: np.dtype) -> Tokens | None:
    """The cached pieces of a folder; None without any, or if the file is incomplete."""
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
def lock(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder; the system releases it when this process ends, however it ends."""
    with folder.with_suffix(".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
