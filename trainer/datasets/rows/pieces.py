"""Word pieces with their offsets, in code points of the text exactly as it was given. No torch."""

import math
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from trainer.datasets.rows.words import Alignment, Words, align, join, words_in
from trainer.errors import BadData

SEGMENT = 1 << 18  # code points that the tokenizer receives at once, which bounds its memory on huge notes
SEAM = re.compile(r"(?<=\w) (?=\w)")  # a blank between words: a text split here has the same pieces
SURROGATES = re.compile(r"[\ud800-\udfff]")  # not encodable, but pasted JSON may contain them
# White space that BERT's normaliser removes, which would join the words beside a page break or a zero-width space.
REMOVED = dict.fromkeys((0x0B, 0x0C, *range(0x1C, 0x20), 0x85, 0x200B), " ")


class Pieces:
    """The word pieces of one text without special tokens; the repr shows their number, never the text."""

    __slots__ = ("ids", "starts", "ends", "continues")

    def __init__(self, ids: np.ndarray, starts: np.ndarray, ends: np.ndarray, continues: np.ndarray | None = None):
        self.ids, self.starts, self.ends = ids, starts, ends  # each (pieces,); offsets in code points of the text
        self.continues = np.zeros(len(ids), dtype=bool) if continues is None else continues  # WordPiece's ##

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        return f"Pieces({len(self):,})"

    def first(self, count: int) -> "Pieces":
        """The first `count` pieces."""
        return Pieces(*(column[:count] for column in (self.ids, self.starts, self.ends, self.continues)))

    def align(self, words: Words) -> Alignment:
        """Which piece gives each word of the same text its tag."""
        return align(words, self.starts, self.ends, self.continues)


class Frame(NamedTuple):
    """The ids that stand before and after the pieces of a text, and the padding id.

    They are the special tokens of one sequence; of a pair, `after` also holds the hypothesis, or `before` a question.
    types: the token types of `after`, where any of them is not 0. inner_type: that of the text. question: how many ids
    of `before` are the first token and those up to the question's last; 0 without a question.
    """

    before: list[int]
    after: list[int]
    pad_id: int
    types: tuple[int, ...] = ()
    inner_type: int = 0
    question: int = 0

    @property
    def size(self) -> int:
        """The number of ids around a text."""
        return len(self.before) + len(self.after)

    def all_types(self, pieces: int) -> list[int]:
        """The token type of each id of a window with so many pieces of the text."""
        return [*[0] * len(self.before), *[self.inner_type] * pieces, *(self.types or [0] * len(self.after))]

    def room(self, pieces: int, max_tokens: int) -> int:
        """How many of a text's `pieces` fit into a window of max_tokens; a hypothesis or a question is never cut.

        Raises BadData where a text has to be read in windows and the other text leaves it less than an eighth of each.
        """
        room = max_tokens - self.size
        if room < max(1, min(pieces, max_tokens // 8)):
            other = "question" if self.question else "hypothesis"
            what = (
                f"the {other} takes up {self.size:,} of the {max_tokens:,} word pieces that are read at once; "
                f"with a text of {pieces:,} it may take up seven eighths of them."
            )
            next_step = f"Shorten the {other}, or choose a model with a longer window."
            raise BadData(what, next_step=next_step)
        return room


def cut(text: str, tokenizer: Any, *, segment: int = SEGMENT) -> Pieces:
    """The pieces of a text by a fast tokenizer; offsets are right whatever it normalises, lower-cases or drops.

    segment: the number of code points of each part of a huge text.
    """
    ids, offsets = [], []
    for start, part in _segments(_readable(text, tokenizer), segment):
        encoded = tokenizer(
            part,
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
    all_ids = np.concatenate(ids)
    return Pieces(all_ids, starts, ends, _continues(all_ids, tokenizer))


def cut_words(words: Sequence[str], tokenizer: Any) -> tuple[Pieces, np.ndarray]:
    """The pieces of a data set's words, joined by blanks, and the index of the word of each piece, (pieces,).

    Pieces are aligned by offset, so a word without pieces shifts nothing.
    """
    source = join(words)
    pieces = cut(source.text, tokenizer)
    return pieces, source.owners(pieces.starts)


def align_words(words: Sequence[str], tokenizer: Any) -> tuple[Pieces, Alignment, np.ndarray]:
    """The pieces of a data set's words, joined by blanks; the alignment with the words of that text; and their owners.

    owners: the index of the data set's word that each word of the text is in, (words of the text,).
    """
    source = join(words)
    pieces, words_within = cut(source.text, tokenizer), words_in(source.text)
    return pieces, pieces.align(words_within), source.owners(words_within.starts)


def windows(tokens: int, size: int, shared: int | None = None) -> np.ndarray:
    """Windows of at most `size` tokens over a sequence: rows of (start, end, first scored, end of scored).

    There are as few windows as possible such that neighbours share at least `shared` tokens, half of `size` at most and
    a quarter by default. All have one length,
    and the last ends with the sequence. Each token is scored by the window in which it is farthest from the nearer
    edge, where the ends of the text do not count as edges; so the boundary between two neighbours is the middle of what
    they share.
    """
    if tokens <= size:
        return np.array([[0, tokens, 0, tokens]] if tokens else np.empty((0, 4)), dtype=np.int64)
    shared = size // 4 if shared is None else min(shared, size // 2)
    count = math.ceil((tokens - shared) / (size - shared))
    length = math.ceil((tokens + (count - 1) * shared) / count)
    starts = np.arange(count) * (tokens - length) // (count - 1)
    ends = starts + length
    borders = (starts[1:] + ends[:-1] + 1) // 2
    return np.stack([starts, ends, np.append(0, borders), np.append(borders, tokens)], axis=1)


def frame(tokenizer: Any, hypothesis: str | None = None) -> Frame:
    """What stands around a text, or around the premise of a pair, read off a short example.

    A tokenizer that says how one sequence is framed but not two frames the hypothesis in the same way.
    """
    probe = tokenizer("a", truncation=False, padding=False, return_special_tokens_mask=True)
    ids, special = probe["input_ids"], probe["special_tokens_mask"]
    first, last = special.index(0), len(special) - special[::-1].index(0)
    single = Frame(ids[:first], ids[last:], tokenizer.pad_token_id or 0)
    if hypothesis is None:
        return single
    pair = tokenizer("a", _readable(hypothesis, tokenizer), truncation=False, padding=False, verbose=False)
    owners, ids = pair.sequence_ids(0), pair["input_ids"]
    first, last = owners.index(0), len(owners) - owners[::-1].index(0)
    if owners.count(None) < single.size:
        return single._replace(after=[*single.after, *ids[last:], *single.after])
    types = tuple(pair.get("token_type_ids", ())[last:])
    return Frame(ids[:first], ids[last:], single.pad_id, types if any(types) else ())


def question_frame(tokenizer: Any, question: str, *, max_tokens: int) -> Frame:
    """What stands around a text that a question is asked about: the question comes first, as in SQuAD.

    Token types are those of the tokenizer, whether it returns them by default or not: a BigBird tells question and text
    apart by itself where it gets none. Raises BadData for a question of no or of more than max_tokens word pieces.
    """
    pair = tokenizer(_readable(question, tokenizer), "a", return_token_type_ids=True, truncation=False, verbose=False)
    owners, ids = pair.sequence_ids(0), pair["input_ids"]
    count = owners.count(0)
    if not 0 < count <= max_tokens:
        what = f"the question has {count:,} word pieces; 1 to {max_tokens:,} are read (max_question_tokens)."
        raise BadData(what, next_step="Shorten the question, or train a model for longer ones.")
    first, single = owners.index(1), frame(tokenizer)
    asked = len(owners) - owners[::-1].index(0)  # where the question ends
    if first == asked:  # a tokenizer that says how one sequence is framed but not two
        before = [*single.before, *(id for id, owner in zip(ids, owners, strict=True) if owner == 0)]
        return single._replace(before=[*before, *single.after], question=len(before))
    last = len(owners) - owners[::-1].index(1)
    types = pair["token_type_ids"]
    return Frame(ids[:first], ids[last:], single.pad_id, tuple(types[last:]), types[first], asked)


def _readable(text: str, tokenizer: Any) -> str:
    """A text of the same length that the tokenizer can read without joining words."""
    text = SURROGATES.sub("\ufffd", text)
    return text.translate(REMOVED) if _continuation_mark(tokenizer) else text


def _continues(ids: np.ndarray, tokenizer: Any) -> np.ndarray:
    """Whether the tokenizer marks each piece as a continuation of the piece before: (pieces,)."""
    mark = _continuation_mark(tokenizer)
    if not mark or not len(ids):
        return np.zeros(len(ids), dtype=bool)
    distinct, which = np.unique(ids, return_inverse=True)
    marked = [piece.startswith(mark) for piece in tokenizer.convert_ids_to_tokens(distinct.tolist())]
    return np.array(marked)[which] & (np.arange(len(ids)) > 0)


def _continuation_mark(tokenizer: Any) -> str | None:
    """The prefix of WordPiece pieces that continue a word, usually ##; None for other tokenizers."""
    return getattr(tokenizer.backend_tokenizer.model, "continuing_subword_prefix", None)


def _segments(text: str, size: int) -> Iterator[tuple[int, str]]:
    """(offset, part) of each consecutive part of a text; a text of ordinary length is one part."""
    start = 0
    while len(text) - start > size and (seam := SEAM.search(text, start + size)):
        yield start, text[start : seam.start()]
        start = seam.start()
    yield start, text[start:]
