"""What a word is, defined by the text alone, and which word piece gives each word its tag. No torch.

Training, evaluation, prediction, explanation and export all use these words, whatever the tokenizer. They are those of
BERT's pre-tokenizer except where noted:

- consecutive letters and digits are one word; so is a run of Thai, which is written without blanks;
- every other sign (punctuation, the underscore, a symbol, an emoji) is a word, and so is every CJK ideograph. BERT
  joins symbols beyond ASCII to the word beside them, so that the arrow of a list would decide the tag of the drug
  after it;
- combining marks, joiners, variation selectors and skin tones belong to the character before them; emoji joined by a
  zero-width joiner are one word, and so are the two regional indicators of a flag;
- white space ends a word, and so does the zero-width space. Other invisible characters (soft hyphens, byte order marks,
  control characters) do not, and no word begins or ends with one.

A word's tag is that of its speaker: the first piece that begins in it. A piece may contain several words, such as `),`
and `://` in RoBERTa, or `37°C` in BERT if one counts the continuations that WordPiece marks. It then gives its tag to
the first of them, or to the first letters if that is only a sign. Further letters in it continue its entity. A sign
without a piece of its own, and what the tokenizer drops, is inside an entity only if the words on both sides are.
"""

import unicodedata
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np

from trainer.datasets.tags import Tags, inside_tag

VERSION = 2  # of this definition; before version 1, data sets, tokenizers and scores each had another one
BLANK, HIDDEN, LETTER, SIGN, IDEOGRAPH, MARK = range(6)
_ZERO_WIDTH_SPACE, _ZERO_WIDTH_NON_JOINER, ZERO_WIDTH_JOINER = 0x200B, 0x200C, 0x200D
_FLAGS = (0x1F1E6, 0x1F1FF)  # regional indicators
_IDEOGRAPHS = ((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF))
_MARKS = ((_ZERO_WIDTH_NON_JOINER, ZERO_WIDTH_JOINER), (0x1F3FB, 0x1F3FF), (0xE0020, 0xE007F))  # and skin tones, tags
_LISTED = (range(0x20000), range(0xE0000, 0xE0200))  # planes with characters of many kinds


class Words(NamedTuple):
    """The words of a text in order: text[start:end] of each, and whether it is a sign; all (words,)."""

    starts: np.ndarray
    ends: np.ndarray
    signs: np.ndarray

    def __repr__(self) -> str:
        return f"Words({len(self.starts):,})"

    @property
    def places(self) -> np.ndarray:
        """[start, end) of each: (words, 2)."""
        return np.stack([self.starts, self.ends], axis=1)


def words_in(text: str) -> Words:
    """The words of a text."""
    return _cut(text, letters_join=True)


def characters_in(text: str) -> Words:
    """The visible characters of a text, each with its combining marks; no boundary may cut through one."""
    return _cut(text, letters_join=False)


def _cut(text: str, *, letters_join: bool) -> Words:
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
    kinds = _table()[codes]
    places = np.flatnonzero(kinds != HIDDEN)
    codes, kinds = codes[places], kinds[places]  # each (characters,), without the hidden ones
    after_blank = np.append(True, kinds[:-1] == BLANK)[: len(kinds)]
    bases = _bases(kinds, after_blank)
    continues = (kinds == MARK) | _joined(codes, kinds, bases)
    if letters_join:
        continues[1:] |= (kinds[1:] == LETTER) & (bases[:-1] == LETTER)
    begins = (kinds != BLANK) & (after_blank | ~continues)
    first = np.flatnonzero(begins)
    last = np.flatnonzero((kinds != BLANK) & np.append(begins[1:] | (kinds[1:] == BLANK), True)[: len(kinds)])
    return Words(places[first], places[last] + 1, bases[first] == SIGN)


class JoinedWords(NamedTuple):
    """The words of a data set, joined by blanks into a text: where each visible word ends there, and its index.

    ends, indices: (visible words,).
    """

    text: str
    ends: np.ndarray
    indices: np.ndarray

    def __repr__(self) -> str:
        return f"JoinedWords({len(self.ends):,})"

    def owners(self, starts: np.ndarray) -> np.ndarray:
        """The index of the word that contains each of these places of the text, or else follows it; as `starts`."""
        places = np.searchsorted(self.ends, starts, side="right").clip(max=max(0, len(self.ends) - 1))
        owners: np.ndarray = self.indices[places]
        return owners


def join(words: Sequence[str]) -> JoinedWords:
    """The text of a data set's words; `words_in` may split one of them into several, such as "COX-2".

    They are joined because byte-level and SentencePiece tokenizers spell a word differently without a blank before it,
    and running text has blanks.
    """
    visible = [index for index, word in enumerate(words) if word and not word.isspace()]
    ends = np.cumsum([len(words[index]) + 1 for index in visible], dtype=np.int64) - 1
    return JoinedWords(" ".join(words[index] for index in visible), ends, np.array(visible, dtype=np.int64))


def expand_tags(tags: Sequence[str], owners: np.ndarray) -> list[str]:
    """The tags of a text's words from those of the data set's words that contain them (owners): B- only once."""
    first = np.append(True, owners[1:] != owners[:-1])[: len(owners)]
    pairs = zip(owners.tolist(), first.tolist(), strict=True)
    return [tags[owner] if begins else inside_tag(tags[owner]) for owner, begins in pairs]


class Alignment(NamedTuple):
    """Words and pieces of one text.

    speaker: (words,) the piece that gives the word its tag, -1 if no piece covers the word. alone: (words,) whether
    that piece is the speaker of this word only, so that a model can be taught its tag. first, last: (pieces,) the first
    and the last word that a piece covers any part of; last is before first where it covers none (blanks).
    """

    words: Words
    speaker: np.ndarray
    alone: np.ndarray
    first: np.ndarray
    last: np.ndarray

    def read(self, outputs: np.ndarray, scores: np.ndarray, scheme: Tags) -> tuple[list[str], list[float]]:
        """IOB2 tag and score of each word, from the most likely output of each piece and its score, both (pieces,)."""
        count, alone = len(self.alone), np.flatnonzero(self.alone)
        speakers, tags, word_scores = self.speaker[alone], ["O"] * count, [0.0] * count
        spoken = zip(scheme.iob2(outputs[speakers].tolist()), scores[speakers].tolist(), strict=True)
        for word, (tag, score) in zip(alone.tolist(), spoken, strict=True):
            tags[word], word_scores[word] = tag, score
        between = ~self.alone & (self.words.signs | (self.speaker < 0))
        for word in np.flatnonzero(~self.alone & ~between).tolist():  # letters in the piece of the word before
            holder = int(alone[np.searchsorted(alone, word) - 1])
            tags[word], word_scores[word] = inside_tag(tags[holder]), word_scores[holder]
        _bridge(tags, word_scores, np.flatnonzero(between).tolist())
        return tags, word_scores


def align(words: Words, starts: np.ndarray, ends: np.ndarray, continues: np.ndarray) -> Alignment:
    """Which piece is the speaker of each word.

    starts, ends: [start, end) of each piece in the same text. continues: whether the tokenizer marks it as a
    continuation of the piece before. All (pieces,).
    """
    first = np.searchsorted(words.ends, starts, side="right")
    last = np.searchsorted(words.starts, ends, side="left") - 1
    speaker, alone = np.full(len(words.starts), -1), np.zeros(len(words.starts), dtype=bool)
    heads = np.flatnonzero(~continues)
    if len(heads):
        reach = np.maximum.reduceat(last, heads)  # (heads,) the last word of a piece and its continuations
        covers_any = first[heads] <= reach
        heads, reach = heads[covers_any], reach[covers_any]
        begun, at = np.unique(first[heads], return_index=True)
        speaker[begun], alone[begun] = heads[at], True
    rest = np.flatnonzero(~alone)
    if len(rest) and len(heads):
        before = np.searchsorted(np.maximum.accumulate(first[heads]), rest, side="right") - 1
        covered = (before >= 0) & (reach[before] >= rest)
        _share(words, speaker, alone, rest[covered], heads[before[covered]], first)
    return Alignment(words, speaker, alone, first, last)


def _bases(kinds: np.ndarray, after_blank: np.ndarray) -> np.ndarray:
    """For each mark the kind of the character below it, LETTER after a blank; for other characters their own kind."""
    standing = np.where((kinds != MARK) | after_blank, np.arange(len(kinds)), 0)
    bases = kinds[np.maximum.accumulate(standing)]
    return np.where(bases == MARK, LETTER, bases)


def _joined(codes: np.ndarray, kinds: np.ndarray, bases: np.ndarray) -> np.ndarray:
    """Whether a sign belongs to the sign before it: after a zero-width joiner, or as the second half of a flag."""
    joined, order = np.zeros(len(kinds), dtype=bool), np.arange(len(kinds))
    joined[1:] = (kinds[1:] == SIGN) & (bases[:-1] == SIGN) & (codes[:-1] == ZERO_WIDTH_JOINER)
    flags = (codes >= _FLAGS[0]) & (codes <= _FLAGS[1])
    if flags.any():
        opening = np.maximum.accumulate(np.where(flags & ~np.append(False, flags[:-1]), order, 0))
        joined |= flags & ((order - opening) % 2 == 1)
    return joined


def _share(
    words: Words, speaker: np.ndarray, alone: np.ndarray, rest: np.ndarray, pieces: np.ndarray, first: np.ndarray
) -> None:
    """Give the words `rest`, which are in `pieces` that begin in an earlier word, their speaker.

    It is that of the earlier word, unless that is only a sign and the later one is not: then the piece is theirs.
    """
    holders = first[pieces]
    yielded = words.signs[holders] & ~words.signs[rest]
    speaker[rest] = np.where(yielded, pieces, speaker[holders])
    moved, at = np.unique(pieces[yielded], return_index=True)
    alone[rest[yielded][at]] = True
    alone[first[moved][speaker[first[moved]] == moved]] = False


def _bridge(tags: list[str], scores: list[float], between: list[int]) -> None:
    """Tag words without a speaker: with the tag of the next word, if the entity before them continues there."""
    for word in reversed(between):
        after = word + 1
        continues = after < len(tags) and tags[after] == inside_tag(tags[after])
        tags[word], scores[word] = (tags[after], scores[after]) if continues else ("O", 0.0)
    for word in between:
        if not word or inside_tag(tags[word - 1]) != tags[word]:
            tags[word] = "O"


@cache
def _table() -> np.ndarray:
    """The kind of every code point, (0x110000,) uint8."""
    table = np.full(0x110000, LETTER, dtype=np.uint8)
    for code in (code for part in _LISTED for code in part):
        table[code] = _kind(chr(code))
    for kind, ranges in ((IDEOGRAPH, _IDEOGRAPHS), (MARK, _MARKS)):
        for low, high in ranges:
            table[low : high + 1] = kind
    table[_ZERO_WIDTH_SPACE] = BLANK
    return table


def _kind(character: str) -> int:
    if character.isspace():
        return BLANK
    category = unicodedata.category(character)
    by_class = {"Z": BLANK, "M": MARK, "P": SIGN, "S": SIGN}
    return HIDDEN if category in ("Cc", "Cf") else SIGN if category == "Cs" else by_class.get(category[0], LETTER)
