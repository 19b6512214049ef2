"""Dynamic masking for masked language modelling, as a pure function of the pieces, a seed and a step. No torch."""

from typing import Any

import numpy as np

from trainer.errors import BadSpec

IGNORED = -100  # the label that cross-entropy skips
MASKED, REPLACED = 0.8, 0.1  # of the chosen pieces; the rest remain as they are (Devlin et al. 2019)
_WORD_STARTS = ("Ġ", "Ċ", "ĉ", "▁")  # how byte-level and SentencePiece vocabularies spell the blank before a word


class Masking:
    """Masks pieces at random.

    Each piece is chosen with probability `share`. Of the chosen pieces 80 % become [MASK], 10 % another piece and 10 %
    remain, as in transformers' collator and all systems of the papers. Special tokens ([PAD], [UNK], [CLS], [SEP],
    [MASK]) are never chosen and never replace another piece. With `whole_words` all pieces of a word are chosen
    together. Raises BadSpec for a tokenizer without a mask token.
    """

    def __init__(self, tokenizer: Any, *, share: float = 0.15, whole_words: bool = False):
        if tokenizer.mask_token_id is None:
            raise BadSpec(
                [("model", "its tokenizer has no mask token, so nothing can be masked")],
                next_step="Choose a model that was pre-trained as a masked LM.",
            )
        self.share, self.mask_id = share, tokenizer.mask_token_id
        self.special = np.zeros(len(tokenizer), dtype=bool)  # (vocabulary,)
        self.special[tokenizer.all_special_ids] = True
        self.plain = np.flatnonzero(~self.special)  # (pieces that may be chosen,)
        self.continues = _continuations(tokenizer) & ~self.special if whole_words else None  # (vocabulary,)

    def __call__(self, ids: np.ndarray, *, seed: int, step: int) -> tuple[np.ndarray, np.ndarray]:
        """(inputs, labels), both of the shape of ids (rows, tokens); labels are IGNORED where nothing was chosen.

        At least one piece is chosen if any may be, so that a batch always has a loss.
        """
        random = np.random.default_rng((seed, step))
        candidates = ~self.special[ids]
        draws = self._draw(ids, random)  # (rows, tokens), one number per piece or word
        draws[~candidates] = np.inf
        chosen = (draws < max(self.share, np.nextafter(draws.min(), 2))) & candidates
        inputs, labels = ids.copy(), np.where(chosen, ids, IGNORED)
        fate = random.random(ids.shape, dtype=np.float32)
        inputs[chosen & (fate < MASKED)] = self.mask_id
        replaced = chosen & (fate >= MASKED) & (fate < MASKED + REPLACED)
        inputs[replaced] = self.plain[random.integers(len(self.plain), size=np.count_nonzero(replaced))]
        return inputs, labels

    def _draw(self, ids: np.ndarray, random: np.random.Generator) -> np.ndarray:
        if self.continues is None:
            return random.random(ids.shape, dtype=np.float32)
        begins = ~self.continues[ids]
        begins[:, 0] = True
        words = np.cumsum(begins) - 1  # (rows x tokens,): the word of each piece
        draws: np.ndarray = random.random(words[-1] + 1, dtype=np.float32)[words]
        return draws.reshape(ids.shape)


def _continuations(tokenizer: Any) -> np.ndarray:
    """Whether each piece of the vocabulary continues a word, (vocabulary,)."""
    vocabulary = [piece or "" for piece in tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))]
    if prefix := getattr(tokenizer.backend_tokenizer.model, "continuing_subword_prefix", None):
        return np.array([piece.startswith(prefix) for piece in vocabulary])
    return np.array([not piece.startswith(_WORD_STARTS) for piece in vocabulary])
