"""Word pieces with their place in the text: offsets count code points of the text exactly as given. No torch."""

import math
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

SEGMENT = 1 << 18  # code points that the tokenizer gets at once: bounds its memory on huge notes
SEAM = re.compile(r"(?<=\w) (?=\w)")  # a blank between words, where tokenizing may be resumed without a difference
SURROGATES = re.compile(r"[\ud800-\udfff]")  # not encodable, but pasted JSON can hold them


class Pieces:
    """The word pieces of one text without special tokens; the repr shows how many, never what."""

    __slots__ = ("ids", "starts", "ends")

    def __init__(self, ids: np.ndarray, starts: np.ndarray, ends: np.ndarray):
        self.ids, self.starts, self.ends = ids, starts, ends  # each (pieces,); offsets in code points of the text

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        return f"Pieces({len(self):,})"

    def first(self, count: int) -> "Pieces":
        """The first `count` pieces."""
        return Pieces(self.ids[:count], self.starts[:count], self.ends[:count])


class Frame(NamedTuple):
    """The special tokens that the tokenizer's own template puts before and after one sequence, and the padding id."""

    before: list[int]
    after: list[int]
    pad_id: int


def cut(text: str, tokenizer: Any) -> Pieces:
    """The pieces of a text by a fast tokenizer, whatever that normalises, lower-cases or drops."""
    ids, offsets = [], []
    for start, segment in _segments(SURROGATES.sub("\ufffd", text)):
        encoded = tokenizer(
            segment,
            add_special_tokens=False,
            truncation=False,
            padding=False,
            return_offsets_mapping=True,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
        )
        ids.append(np.array(encoded["input_ids"], dtype=np.int32))
        offsets.append(np.array(encoded["offset_mapping"], dtype=np.int32).reshape(-1, 2) + start)
    starts, ends = np.concatenate(offsets).T
    return Pieces(np.concatenate(ids), starts, ends)


def cut_words(words: Sequence[str], tokenizer: Any) -> tuple[Pieces, np.ndarray]:
    """The pieces of words joined by blanks, and the index of the word that each piece belongs to, (pieces,).

    Joined, because byte-level and SentencePiece tokenizers spell a word differently where no blank precedes it, and
    running text has blanks. Aligned by offset, so a word without pieces shifts nothing.
    """
    visible = [index for index, word in enumerate(words) if word and not word.isspace()]
    ends = np.cumsum([len(words[index]) + 1 for index in visible]) - 1
    pieces = cut(" ".join(words[index] for index in visible), tokenizer)
    return pieces, np.array(visible, dtype=np.int64)[np.searchsorted(ends, pieces.starts, side="right")]


def word_starts(text: str, pieces: Pieces, tokenizer: Any) -> np.ndarray:
    """The index of the first piece of each word, (words,): the words of transformers' token-classification pipeline.

    With WordPiece a piece whose length is not that of its text continues a word; an unknown piece never does. Other
    tokenizers do not mark continuations: there a piece continues unless a blank is at or before its start. Unlike the
    pipeline's, words never overlap: the pieces of one character stay together.
    """
    starts, ends = pieces.starts, pieces.ends
    if getattr(tokenizer.backend_tokenizer.model, "continuing_subword_prefix", None):
        distinct, which = np.unique(pieces.ids, return_inverse=True)
        spelled = [len(piece) for piece in tokenizer.convert_ids_to_tokens(distinct.tolist())]
        continues = np.array(spelled, dtype=np.int32)[which] != ends - starts
    else:
        blank = np.append(np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4") == ord(" "), False)
        continues = (starts > 0) & ~(blank[starts - 1] | blank[starts])
    continues[pieces.ids == tokenizer.unk_token_id] = False
    continues[1:] |= starts[1:] < ends[:-1]
    continues[:1] = False
    return np.flatnonzero(~continues)


def windows(tokens: int, size: int) -> np.ndarray:
    """Windows of at most `size` over a sequence: rows of (start, end, first kept, end of kept).

    As few as can be with neighbours that share at least a quarter of `size`, all of one length, the last flush with
    the end. Each token is kept by the window where it is farthest from the nearer edge, the ends of the text not
    counting as edges; so the border between two neighbours is the middle of what they share.
    """
    if tokens <= size:
        return np.array([[0, tokens, 0, tokens]] if tokens else np.empty((0, 4)), dtype=np.int64)
    shared = size // 4
    count = math.ceil((tokens - shared) / (size - shared))
    length = math.ceil((tokens + (count - 1) * shared) / count)
    starts = np.arange(count) * (tokens - length) // (count - 1)
    ends = starts + length
    borders = (starts[1:] + ends[:-1] + 1) // 2
    return np.stack([starts, ends, np.append(0, borders), np.append(borders, tokens)], axis=1)


def frame(tokenizer: Any) -> Frame:
    """What the tokenizer puts around one sequence, read off a probe."""
    probe = tokenizer("a", truncation=False, padding=False, return_special_tokens_mask=True)
    ids, special = probe["input_ids"], probe["special_tokens_mask"]
    first, last = special.index(0), len(special) - special[::-1].index(0)
    return Frame(ids[:first], ids[last:], tokenizer.pad_token_id or 0)


def _segments(text: str) -> Iterator[tuple[int, str]]:
    """(offset, part) of consecutive parts of a text; a text of ordinary length is one part."""
    start = 0
    while len(text) - start > SEGMENT and (seam := SEAM.search(text, start + SEGMENT)):
        yield start, text[start : seam.start()]
        start = seam.start()
    yield start, text[start:]
