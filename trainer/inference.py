"""Inference over text of any length, once, for evaluation, the command line and the app.

A text is cut into word pieces once. Long ones are read in overlapping windows; every piece is scored in the window
that shows it most context; windows of many texts share batches under a budget of padded pieces. Of the logits only
the best tag of each piece and its probability are kept, so memory grows by a few dozen bytes a piece.
"""

import itertools
import math
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch

from trainer.errors import BadSpec, StillroomError, UnknownName
from trainer.prediction import Cost, Coverage, Prediction, Span
from trainer.tasks.ner import NER

Reading = Literal["windows", "truncate", "whole"]
READINGS: tuple[str, ...] = get_args(Reading)
LABELLINGS = ("first", "all")
SEGMENT = 1 << 18  # code points that the tokenizer gets at once: bounds its memory on huge notes
SEAM = re.compile(r"(?<=\w) (?=\w)")  # a blank between words, where tokenizing may be resumed without a difference
SURROGATES = re.compile(r"[\ud800-\udfff]")  # not encodable, but pasted JSON can hold them


class Cancelled(StillroomError):
    """The caller's `cancelled` said so before the last window was read."""

    next_step = "Nothing was kept; ask again for an answer."


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


class Best(NamedTuple):
    """For each piece of one sequence the index of its likeliest tag and that tag's probability, both (pieces,)."""

    tags: np.ndarray
    scores: np.ndarray


class _Frame(NamedTuple):
    """The special tokens that the tokenizer's own template puts around one sequence, and the padding id."""

    prefix: list[int]
    suffix: list[int]
    pad_id: int

    def __len__(self) -> int:
        return len(self.prefix) + len(self.suffix)


def predict(text: str, model: torch.nn.Module, tokenizer: Any, **options: Any) -> Prediction:
    """What a tagging model finds in one text; the options are those of predict_many."""
    return predict_many([text], model, tokenizer, **options)[0]


def predict_many(
    texts: Sequence[str],
    model: torch.nn.Module,
    tokenizer: Any,
    *,
    name: str,
    reading: Reading = "windows",
    max_tokens: int | None = None,
    batch_tokens: int = 4096,
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> list[Prediction]:
    """What a tagging model finds in each text; windows of all texts share batches.

    reading: "windows" reads everything, "truncate" the first max_tokens pieces (the rest is in coverage.unread),
    "whole" everything in one window. max_tokens counts special tokens and defaults to the model's limit. batch_tokens
    is the budget of padded pieces a batch. progress gets (windows done, windows in all) after each batch; cancelled is
    asked before each. A text without pieces gives an empty prediction. In a batch each text carries the share of the
    wall time that its pieces have. Raises BadSpec, UnknownName and Cancelled.
    """
    began = time.perf_counter()
    labels = tag_names(model)
    window = _window_size(model, tokenizer, max_tokens)
    found = [cut(text, tokenizer, cancelled=cancelled) for text in texts]
    read = [pieces.first(_readable(len(pieces), reading, window)) for pieces in found]
    plans = [windows(len(pieces), window) for pieces in read]
    best = _score(
        [pieces.ids for pieces in read], plans, model, tokenizer, batch_tokens, progress=progress, cancelled=cancelled
    )
    spans = [_spans(*each, labels, tokenizer) for each in zip(texts, read, best, strict=True)]
    seconds = time.perf_counter() - began
    total = sum(map(len, read))
    return [
        Prediction(
            model=name,
            task="ner",
            spans=tuple(spans[i]),
            coverage=_coverage(texts[i], found[i], len(read[i]), len(plans[i])),
            cost=_cost(seconds * (len(read[i]) / total if total else 1 / len(texts)), len(read[i])),
            label_set=entity_types(labels),
        )
        for i in range(len(texts))
    ]


def tag_words(
    sentences: Sequence[Sequence[str]],
    model: torch.nn.Module,
    tokenizer: Any,
    *,
    labelling: Literal["first", "all"] = "first",
    max_tokens: int | None = None,
    batch_tokens: int = 4096,
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> list[list[str]]:
    """The tags of sentences that are split into words already; long ones go through the same windows.

    labelling "first": a tag a word, that of its first piece, and "O" for a word that yields no piece. "all": a tag a
    piece; `expand` repeats gold tags in the same way.
    """
    if labelling not in LABELLINGS:
        raise UnknownName("labelling", labelling, LABELLINGS)
    labels = tag_names(model)
    window = _window_size(model, tokenizer, max_tokens)
    found = [cut_words(words, tokenizer) for words in sentences]
    ids = [pieces.ids for pieces, _ in found]
    plans = [windows(len(sequence), window) for sequence in ids]
    best = _score(ids, plans, model, tokenizer, batch_tokens, progress=progress, cancelled=cancelled)
    tagged = []
    for words, (_, owners), (tags, _) in zip(sentences, found, best, strict=True):
        if labelling == "all":
            tagged.append([labels[tag] for tag in tags.tolist()])
            continue
        said = ["O"] * len(words)
        present, first = np.unique(owners, return_index=True)
        for word, tag in zip(present.tolist(), tags[first].tolist(), strict=True):
            said[word] = labels[tag]
        tagged.append(said)
    return tagged


def expand(sentences: Sequence[Sequence[str]], tags: Sequence[Sequence[str]], tokenizer: Any) -> list[list[str]]:
    """Word tags repeated unchanged on every piece of their word: the gold side of labelling "all"."""
    owners = (cut_words(words, tokenizer)[1].tolist() for words in sentences)
    return [[tags_of[word] for word in pieces] for tags_of, pieces in zip(tags, owners, strict=True)]


def tag_names(model: torch.nn.Module) -> list[str]:
    """The model's tags by output index. Raises BadSpec if its head is not one for named entities."""
    names = [model.config.id2label[index] for index in range(len(model.config.id2label))]
    if "O" not in names:
        raise BadSpec(
            [("model", f"it has no head for named entities (its labels are {', '.join(names[:6])})")],
            next_step="Choose a model that was fine-tuned for ner, or fine-tune this one first.",
        )
    return names


def entity_types(tags: Sequence[str]) -> tuple[str, ...]:
    """The entity types that some IOB2 tags name, sorted."""
    return tuple(sorted({tag[2:] if tag[:2] in ("B-", "I-") else tag for tag in tags} - {"O"}))


def model_limit(model: torch.nn.Module, tokenizer: Any) -> int:
    """The longest window, special tokens included, that the model has positions for.

    RoBERTa, Longformer and their kin number positions from padding_idx + 1, so that many rows are out of reach.
    """
    tables = [
        module
        for name, module in model.named_modules()
        if name.endswith("position_embeddings") and isinstance(module, torch.nn.Embedding)
    ]
    if tables:
        return min(t.num_embeddings - (0 if t.padding_idx is None else t.padding_idx + 1) for t in tables)
    return getattr(model.config, "max_position_embeddings", None) or tokenizer.model_max_length


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


def cut(text: str, tokenizer: Any, *, cancelled: Callable[[], bool] | None = None) -> Pieces:
    """The word pieces of a text with code-point offsets, whatever the tokenizer normalises, lower-cases or drops."""
    ids, offsets = [], []
    for start, segment in _segments(SURROGATES.sub("\ufffd", text)):
        _stop_if(cancelled)
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
    spelled = [index for index, word in enumerate(words) if word and not word.isspace()]
    ends = np.cumsum([len(words[index]) + 1 for index in spelled]) - 1
    pieces = cut(" ".join(words[index] for index in spelled), tokenizer)
    return pieces, np.array(spelled, dtype=np.int64)[np.searchsorted(ends, pieces.starts, side="right")]


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


def _segments(text: str) -> Iterator[tuple[int, str]]:
    """(offset, part) of consecutive parts of a text; a text of ordinary length is one part."""
    start = 0
    while len(text) - start > SEGMENT and (seam := SEAM.search(text, start + SEGMENT)):
        yield start, text[start : seam.start()]
        start = seam.start()
    yield start, text[start:]


def _window_size(model: torch.nn.Module, tokenizer: Any, max_tokens: int | None) -> int:
    """Pieces that a window has room for beside the special tokens."""
    limit, special = model_limit(model, tokenizer), tokenizer.num_special_tokens_to_add()
    wanted = min(limit, tokenizer.model_max_length) if max_tokens is None else max_tokens
    if not special < wanted <= limit:
        raise BadSpec(
            [("max_tokens", f"found {wanted:,}; this model reads {special + 1:,} to {limit:,} word pieces at once")],
            next_step="Give a number in that range, or leave it out to use the model's own limit.",
        )
    return wanted - special


def _readable(tokens: int, reading: str, window: int) -> int:
    """How many of a text's pieces this reading sees."""
    if reading not in READINGS:
        raise UnknownName("reading", reading, READINGS)
    if reading == "whole" and tokens > window:
        raise BadSpec(
            [("reading", f"'whole' reads up to {window:,} word pieces with this model, the text has {tokens:,}")],
            next_step="Use the reading 'windows', which reads a text of any length.",
        )
    return min(tokens, window) if reading == "truncate" else tokens


def _frame(tokenizer: Any) -> _Frame:
    probe = tokenizer("a", truncation=False, padding=False, return_special_tokens_mask=True)
    ids, special = probe["input_ids"], probe["special_tokens_mask"]
    first = special.index(0)
    last = len(special) - special[::-1].index(0)
    return _Frame(ids[:first], ids[last:], tokenizer.pad_token_id or 0)


def _score(
    sequences: Sequence[np.ndarray],
    plans: Sequence[np.ndarray],
    model: torch.nn.Module,
    tokenizer: Any,
    batch_tokens: int,
    *,
    progress: Callable[[int, int], None] | None,
    cancelled: Callable[[], bool] | None,
) -> list[Best]:
    """The likeliest tag of each piece of each sequence, each scored once, in the window that keeps it."""
    begins = np.cumsum([0, *map(len, sequences)])
    flat = np.concatenate([np.empty(0, dtype=np.int32), *sequences])  # (pieces,) of all sequences
    table = np.concatenate(
        [np.empty((0, 4), dtype=np.int64), *(plan + begin for plan, begin in zip(plans, begins[:-1], strict=True))]
    )
    best = Best(np.zeros(len(flat), dtype=np.int32), np.zeros(len(flat), dtype=np.float32))
    frame = _frame(tokenizer)
    done = 0
    with _evaluating(model), torch.inference_mode():
        for rows in _batches(table, len(frame), batch_tokens):
            _stop_if(cancelled)
            _score_batch(flat, rows, frame, model, best)
            done += len(rows)
            if progress:
                progress(done, len(table))
    return [Best(best.tags[a:b], best.scores[a:b]) for a, b in itertools.pairwise(begins)]


def _batches(table: np.ndarray, special: int, batch_tokens: int) -> Iterator[np.ndarray]:
    """Rows of `table`, longest first, in batches of at most batch_tokens padded pieces (one row at least)."""
    lengths = table[:, 1] - table[:, 0]
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        rows = max(1, batch_tokens // int(lengths[order[start]] + special))
        yield table[order[start : start + rows]]
        start += rows


def _score_batch(flat: np.ndarray, rows: np.ndarray, frame: _Frame, model: torch.nn.Module, best: Best) -> None:
    """Score the windows `rows` of `flat` in one forward pass and write what they keep into `best`."""
    start, end, first, last = rows.T[:, :, None]  # each (batch, 1)
    before, lengths = len(frame.prefix), end - start
    place = start - before + np.arange(lengths.max() + len(frame))  # (batch, width): the piece under each column
    inside = (place >= start) & (place < end)
    ids = np.where(inside, flat[place.clip(0, len(flat) - 1)], frame.pad_id).astype(np.int64)
    ids[:, :before] = frame.prefix
    np.put_along_axis(ids, before + lengths + np.arange(len(frame.suffix)), np.array([frame.suffix], dtype=np.int64), 1)
    mask = place < end + len(frame.suffix)
    device = next(model.parameters()).device
    logits = model(
        input_ids=torch.from_numpy(ids).to(device), attention_mask=torch.from_numpy(mask.astype(np.int64)).to(device)
    ).logits  # (batch, width, tags)
    scores, tags = logits.float().softmax(-1).max(-1)
    kept = (place >= first) & (place < last)
    best.tags[place[kept]] = tags.cpu().numpy()[kept]
    best.scores[place[kept]] = scores.cpu().numpy()[kept]


@contextmanager
def _evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Dropout off, also when training asks for a score between two steps."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def _spans(text: str, pieces: Pieces, best: Best, labels: Sequence[str], tokenizer: Any) -> list[Span]:
    if not len(pieces):
        return []
    first = word_starts(text, pieces, tokenizer)
    last = np.append(first[1:], len(pieces)) - 1
    words = np.stack([pieces.starts[first], pieces.ends[last]], axis=1)  # (words, 2)
    tags = [labels[tag] for tag in best.tags[first].tolist()]
    found = NER.spans(words.tolist(), tags, best.scores[first].tolist())
    # Byte-level tokenizers give a blank before a blank a piece that covers nothing.
    return [span for span in found if span.end > span.start]


def _coverage(text: str, pieces: Pieces, read: int, count: int) -> Coverage:
    unread = ((int(pieces.starts[read]), len(text)),) if read < len(pieces) else ()
    return Coverage(tokens=len(pieces), tokens_read=read, windows=count, unread=unread)


def _cost(seconds: float, tokens: int) -> Cost:
    return Cost(latency_ms=seconds * 1000, tokens_per_second=tokens / seconds)


def _stop_if(cancelled: Callable[[], bool] | None) -> None:
    if cancelled and cancelled():
        raise Cancelled("The prediction was cancelled.")
