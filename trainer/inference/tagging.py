"""Tags and attributes of words: for sentences that are split into words, and for spans of running text."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple, Unpack

import numpy as np
import torch

from trainer.datasets.attributes import Attribute
from trainer.datasets.rows.pieces import Pieces, align_words, cut_words
from trainer.datasets.rows.words import Alignment, expand_tags, join, words_in
from trainer.datasets.tags import Tags
from trainer.errors import UnknownName
from trainer.inference import decoding
from trainer.inference.model_outputs import attributes_of, decodes_together, output_names, tags_of
from trainer.inference.viterbi import best_valid_outputs
from trainer.inference.window_batches import BATCH_TOKENS, BatchOptions, window_size
from trainer.inference.window_batches import read as read_windows
from trainer.prediction import AttributeValue, Span

Labelling = Literal["first", "all"]
LABELLINGS = ("first", "all")


class BestTags(NamedTuple):
    """For each piece of a sequence the index and probability of its most likely tag, both (pieces,), and the logits of
    all attributes' values, (pieces, values). log_scores: the log probabilities of all tags, (pieces, tags), where tags
    are decoded together (tags.DECODING), otherwise (pieces, 0).
    """

    tags: np.ndarray
    scores: np.ndarray
    values: np.ndarray
    log_scores: np.ndarray


class WordOutputs(NamedTuple):
    """What a tagger gives for the words of a text: the IOB2 tag of each word and its score, and the logits of the
    values of all attributes at the piece that speaks for the word, (words, values); 0 where none does. `offset` is the
    index of the first of these values among the model's outputs.
    """

    tags: list[str]
    scores: list[float]
    values: np.ndarray
    offset: int

    def attributes(self, first: int, last: int, kind: str, known: Sequence[Attribute]) -> dict[str, AttributeValue]:
        """The attributes of the span of words `first` to `last`, inclusive, that its entity type carries."""
        answers = {}
        for attribute in (each for each in known if kind in each.carriers):
            start = attribute.first - self.offset
            logits = self.values[first : last + 1, start : start + len(attribute.values)].mean(0)
            scores = torch.from_numpy(logits).double().softmax(-1)
            best = int(scores.argmax())
            answers[attribute.name] = AttributeValue(value=attribute.values[best], score=float(scores[best]))
        return answers


def tag_words(
    sentences: Sequence[Sequence[str]],
    model: torch.nn.Module,
    tokenizer: Any,
    *,
    labelling: Labelling = "first",
    max_tokens: int | None = None,
    batch_tokens: int = BATCH_TOKENS,
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> list[list[str]]:
    """The IOB2 tags of sentences that are already split into words; long sentences are read in windows as well.

    labelling "first": one tag per word of the joined text, exactly as `predict` would tag it; a word of the input may
    contain several of these (datasets.rows.words). "all": one tag per piece. `expand` converts gold tags to the same
    form. Raises what `predict_many` raises.
    """
    outputs = word_outputs(
        sentences,
        model,
        tokenizer,
        labelling=labelling,
        max_tokens=max_tokens,
        batch_tokens=batch_tokens,
        progress=progress,
        cancelled=cancelled,
    )
    return [each.tags for each in outputs]


def word_outputs(
    sentences: Sequence[Sequence[str]],
    model: torch.nn.Module,
    tokenizer: Any,
    *,
    labelling: Labelling = "first",
    max_tokens: int | None = None,
    batch_tokens: int = BATCH_TOKENS,
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> list[WordOutputs]:
    """The tags of `tag_words` with their scores, and what the model says of attributes."""
    if labelling not in LABELLINGS:
        raise UnknownName("labelling", labelling, LABELLINGS)
    scheme, window = tags_of(model), window_size(model, tokenizer, max_tokens)
    aligned = [align_words(words, tokenizer)[:2] for words in sentences]
    batching = BatchOptions(batch_tokens=batch_tokens, progress=progress, cancelled=cancelled)
    best = _best_tags([pieces.ids for pieces, _ in aligned], window, model, tokenizer, **batching)
    if labelling == "all":
        offset = len(scheme.names)
        return [WordOutputs(scheme.iob2(b.tags.tolist()), b.scores.tolist(), b.values, offset) for b in best]
    return [_of_words(alignment, each, scheme) for (_, alignment), each in zip(aligned, best, strict=True)]


def predict_spans(
    texts: Sequence[str],
    read: Sequence[Pieces],
    rooms: Sequence[int],
    model: torch.nn.Module,
    tokenizer: Any,
    **options: Unpack[BatchOptions],
) -> list[tuple[Span, ...]]:
    """The entities of each text, of which `read` are the pieces."""
    scheme, known = tags_of(model), attributes_of(model)
    best = _best_tags([pieces.ids for pieces in read], rooms, model, tokenizer, **options)
    return [_decode(*each, scheme, known) for each in zip(texts, read, best, strict=True)]


def expand(
    sentences: Sequence[Sequence[str]],
    tags: Sequence[Sequence[str]],
    tokenizer: Any,
    *,
    labelling: Labelling = "first",
) -> list[list[str]]:
    """Gold tags, one per input word, in the form that `tag_words` returns.

    With labelling "all" the tag of a word is repeated unchanged on each of its pieces.
    """
    numbers = word_owners(sentences, tokenizer, labelling=labelling)
    if labelling == "all":
        return [[word_tags[word] for word in pieces.tolist()] for word_tags, pieces in zip(tags, numbers, strict=True)]
    return [expand_tags(*each) for each in zip(tags, numbers, strict=True)]


def word_owners(
    sentences: Sequence[Sequence[str]], tokenizer: Any, *, labelling: Labelling = "first"
) -> Iterator[np.ndarray]:
    """Of each word of the joined text, or with labelling "all" of each piece, the number of the input word."""
    if labelling == "all":
        return (cut_words(words, tokenizer)[1] for words in sentences)
    return (source.owners(words_in(source.text).starts) for source in map(join, sentences))


def _best_tags(
    sequences: Sequence[np.ndarray],
    rooms: int | Sequence[int],
    model: torch.nn.Module,
    tokenizer: Any,
    **options: Unpack[BatchOptions],
) -> list[BestTags]:
    """The most likely tag of each piece of each sequence. Each piece is scored in one of the windows with it."""
    total, count = sum(map(len, sequences)), len(tags_of(model).names)
    values = np.zeros((total, len(output_names(model)) - count), dtype=np.float32)
    log_scores = np.zeros((total, count if decodes_together(model) else 0), dtype=np.float32)
    best = BestTags(np.zeros(total, dtype=np.int32), np.zeros(total, dtype=np.float32), values, log_scores)

    def store(logits: torch.Tensor, rows: np.ndarray, place: np.ndarray) -> None:
        scores, tags = logits[..., :count].softmax(-1).max(-1)  # from (batch, width, tags) to (batch, width) each
        first, last = rows.T[2:, :, None]  # each (batch, 1)
        scored = (place >= first) & (place < last)
        best.tags[place[scored]] = tags.cpu().numpy()[scored]
        best.scores[place[scored]] = scores.cpu().numpy()[scored]
        if values.shape[1]:
            values[place[scored]] = logits[..., count:].cpu().numpy()[scored]
        if log_scores.shape[1]:
            log_scores[place[scored]] = logits[..., :count].log_softmax(-1).cpu().numpy()[scored]

    begins, _ = read_windows(sequences, rooms, model, tokenizer, store=store, **options)
    return [BestTags(*(part[a:b] for part in best)) for a, b in itertools.pairwise(begins)]


def _of_words(alignment: Alignment, best: BestTags, scheme: Tags) -> WordOutputs:
    values = np.zeros((len(alignment.speaker), best.values.shape[1]), dtype=np.float32)
    spoken = alignment.speaker >= 0
    values[spoken] = best.values[alignment.speaker[spoken]]
    tags, scores = best.tags, best.scores
    if best.log_scores.shape[1]:
        tags, scores = tags.copy(), scores.copy()
        speakers = alignment.speaker[alignment.alone]
        tags[speakers] = best_valid_outputs(best.log_scores[speakers], scheme)
        scores[speakers] = np.exp(best.log_scores[speakers, tags[speakers]])
    return WordOutputs(*alignment.read(tags, scores, scheme), values, len(scheme.names))


def _decode(text: str, pieces: Pieces, best: BestTags, scheme: Tags, known: Sequence[Attribute]) -> tuple[Span, ...]:
    words = words_in(text)
    outputs = _of_words(pieces.align(words), best, scheme)
    spans = decoding.spans(
        words.places.tolist(),
        outputs.tags,
        outputs.scores,
        lambda first, last, kind: outputs.attributes(first, last, kind, known),
    )
    return tuple(spans)
