"""What a word is, read off the text alone, and which word piece speaks for which word. No torch.

Training, evaluation, prediction, explanation and export all use these words, whatever the tokenizer; they are those of
BERT's own pre-tokenizer wherever both agree:

- letters and digits that follow each other are one word; so is a run of Thai, which has no blanks;
- every other sign (punctuation, the underscore, a symbol, an emoji) is a word, and so is every CJK ideograph. BERT
  leaves symbols beyond ASCII to the word beside them; then the arrow of a list would decide for the drug after it;
- combining marks, joiners, variation selectors and skin tones stay with what they stand on, and what a zero-width
  joiner joins is one emoji; two regional indicators are one flag;
- white space ends a word, and so does the zero-width space. Other characters without a look of their own (soft
  hyphens, byte order marks, control characters) end none, and no word begins or ends with one.

A word's tag is that of the first piece that begins in it. A piece may hold several words, such as `),` and `://` in
RoBERTa and, with the pieces that WordPiece marks as its continuations, `37°C` in BERT. It speaks for the first word in
it; a sign gives it up to letters, which have no other. Further letters in it go on with the entity that it says. A sign
without a piece of its own, as well as what the tokenizer drops, is inside an entity only where the words on both sides
are.
"""

import unicodedata
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np

from trainer.datasets.tags import Tags, going_on

VERSION = 2  # of this definition; until 1 every data set, tokenizer and score had another
BLANK, HIDDEN, LETTER, SIGN, IDEOGRAPH, MARK = range(6)
_ZERO_WIDTH_SPACE, _ZERO_WIDTH_NON_JOINER, ZERO_WIDTH_JOINER = 0x200B, 0x200C, 0x200D
_FLAGS = (0x1F1E6, 0x1F1FF)  # regional indicators
_IDEOGRAPHS = ((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF))
_MARKS = ((_ZERO_WIDTH_NON_JOINER, ZERO_WIDTH_JOINER), (0x1F3FB, 0x1F3FF), (0xE0020, 0xE007F))  # and skin tones, tags
_LISTED = (range(0x20000), range(0xE0000, 0xE0200))  # planes whose characters are of many kinds


class Words(NamedTuple):
    """The words of a text in order: text[start:end] each, and whether it is a sign; all (words,)."""

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
    """The characters of a text that can be seen, each with the marks on it: what no border may cut through."""
    return _cut(text, letters_join=False)


def _cut(text: str, *, letters_join: bool) -> Words:
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
    kinds = _table()[codes]
    places = np.flatnonzero(kinds != HIDDEN)
    codes, kinds = codes[places], kinds[places]  # each (characters,), as if the hidden ones were not there
    after_blank = np.append(True, kinds[:-1] == BLANK)[: len(kinds)]
    bases = _bases(kinds, after_blank)
    goes_on = (kinds == MARK) | _joined(codes, kinds, bases)
    if letters_join:
        goes_on[1:] |= (kinds[1:] == LETTER) & (bases[:-1] == LETTER)
    begins = (kinds != BLANK) & (after_blank | ~goes_on)
    first = np.flatnonzero(begins)
    last = np.flatnonzero((kinds != BLANK) & np.append(begins[1:] | (kinds[1:] == BLANK), True)[: len(kinds)])
    return Words(places[first], places[last] + 1, bases[first] == SIGN)


class Given(NamedTuple):
    """The text of words that a data set has cut, joined by blanks; where each ends there, and which it is."""

    text: str
    ends: np.ndarray  # (given words that are visible,)
    numbers: np.ndarray  # the same

    def __repr__(self) -> str:
        return f"Given({len(self.ends):,} words)"

    def owners(self, starts: np.ndarray) -> np.ndarray:
        """The number of the given word that each place of the text is in, or that begins after it."""
        return self.numbers[np.searchsorted(self.ends, starts, side="right").clip(max=max(0, len(self.ends) - 1))]


def join(words: Sequence[str]) -> Given:
    """The text of words that a data set has cut; `words_in` may find several in one of them, such as "COX-2".

    Joined, because byte-level and SentencePiece tokenizers spell a word differently where no blank precedes it, and
    running text has blanks.
    """
    visible = [index for index, word in enumerate(words) if word and not word.isspace()]
    ends = np.cumsum([len(words[index]) + 1 for index in visible], dtype=np.int64) - 1
    return Given(" ".join(words[index] for index in visible), ends, np.array(visible, dtype=np.int64))


def expand_tags(tags: Sequence[str], owners: np.ndarray) -> list[str]:
    """The tags of the words within given words, from the tags of those: an entity begins once, and then goes on."""
    first = np.append(True, owners[1:] != owners[:-1])[: len(owners)]
    pairs = zip(owners.tolist(), first.tolist(), strict=True)
    return [tags[owner] if begins else going_on(tags[owner]) for owner, begins in pairs]


class Alignment(NamedTuple):
    """Words and pieces of one text.

    speaker: (words,) the piece whose tag the word has, -1 where none covers it. alone: (words,) whether that piece
    speaks for this word alone, so that its tag can be taught. first, last: (pieces,) the words that a piece covers any
    of; of none (blanks) where last is before first.
    """

    words: Words
    speaker: np.ndarray
    alone: np.ndarray
    first: np.ndarray
    last: np.ndarray

    def read(self, outputs: np.ndarray, scores: np.ndarray, meant: Tags) -> tuple[list[str], list[float]]:
        """IOB2 tag and score of each word, from the likeliest output of each piece and its score, both (pieces,)."""
        count, alone = len(self.alone), np.flatnonzero(self.alone)
        at, tags, sure = self.speaker[alone], ["O"] * count, [0.0] * count
        for word, tag, score in zip(alone.tolist(), meant.iob2(outputs[at].tolist()), scores[at].tolist(), strict=True):
            tags[word], sure[word] = tag, score
        between = ~self.alone & (self.words.signs | (self.speaker < 0))
        for word in np.flatnonzero(~self.alone & ~between).tolist():  # letters in the piece of the word before
            holder = int(alone[np.searchsorted(alone, word) - 1])
            tags[word], sure[word] = going_on(tags[holder]), sure[holder]
        _bridge(tags, sure, np.flatnonzero(between).tolist())
        return tags, sure


def align(words: Words, starts: np.ndarray, ends: np.ndarray, continues: np.ndarray) -> Alignment:
    """Which piece speaks for which word.

    starts, ends: [start, end) of each piece in the same text. continues: whether the tokenizer marks it as one that
    goes on with the piece before. All (pieces,).
    """
    first = np.searchsorted(words.ends, starts, side="right")
    last = np.searchsorted(words.starts, ends, side="left") - 1
    speaker, alone = np.full(len(words.starts), -1), np.zeros(len(words.starts), dtype=bool)
    heads = np.flatnonzero(~continues)
    if len(heads):
        reach = np.maximum.reduceat(last, heads)  # (heads,) the last word of a piece and those that continue it
        heads, reach = heads[filled := first[heads] <= reach], reach[filled]
        begun, at = np.unique(first[heads], return_index=True)
        speaker[begun], alone[begun] = heads[at], True
    rest = np.flatnonzero(~alone)
    if len(rest) and len(heads):
        before = np.searchsorted(np.maximum.accumulate(first[heads]), rest, side="right") - 1
        covered = (before >= 0) & (reach[before] >= rest)
        _share(words, speaker, alone, rest[covered], heads[before[covered]], first)
    return Alignment(words, speaker, alone, first, last)


def _bases(kinds: np.ndarray, after_blank: np.ndarray) -> np.ndarray:
    """The kind of the character that each mark stands on, of others their own; on a blank it stands like a letter."""
    standing = np.where((kinds != MARK) | after_blank, np.arange(len(kinds)), 0)
    bases = kinds[np.maximum.accumulate(standing)]
    return np.where(bases == MARK, LETTER, bases)


def _joined(codes: np.ndarray, kinds: np.ndarray, bases: np.ndarray) -> np.ndarray:
    """Whether a sign is one with the sign before: after a zero-width joiner, or as the second half of a flag."""
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
    """Words `rest` lie in `pieces` that begin in a word before: they go on with it, unless that is only a sign."""
    holders = first[pieces]
    freed = words.signs[holders] & ~words.signs[rest]
    speaker[rest] = np.where(freed, pieces, speaker[holders])
    taken, at = np.unique(pieces[freed], return_index=True)
    alone[rest[freed][at]] = True
    alone[first[taken][speaker[first[taken]] == taken]] = False


def _bridge(tags: list[str], scores: list[float], between: list[int]) -> None:
    """The tags of words that no piece speaks for: that of the word after, where the entity before goes on there."""
    for word in reversed(between):
        after = word + 1
        goes_on = after < len(tags) and tags[after] == going_on(tags[after])
        tags[word], scores[word] = (tags[after], scores[after]) if goes_on else ("O", 0.0)
    for word in between:
        if not word or going_on(tags[word - 1]) != tags[word]:
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
