"""Scores of entity spans, counted as seqeval counts them, with bootstrap intervals, and the cost of a model."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trainer import inference
from trainer.datasets import Sentence
from trainer.datasets.rows.pieces import cut_words
from trainer.datasets.rows.words import join, words_in
from trainer.datasets.tags import entities_of, entity_types
from trainer.errors import BadData, BadSpec
from trainer.evaluation import attribute_scores, outcomes
from trainer.evaluation import cost as costs
from trainer.evaluation.hardware import measured_on
from trainer.evaluation.outcomes import Outcomes
from trainer.inference import Labelling


def scores(gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> dict[str, float]:
    """Micro-averaged precision, recall and f1 of entities, and precision.TYPE, recall.TYPE and f1.TYPE, from 0 to 1.

    Both arguments hold one list of IOB2 tags per sentence. An entity is correct if its type and both boundaries are:
    seqeval's default mode. A score with nothing to count is 0. Raises BadData where the lengths differ.
    """
    kinds, counts = count(gold, predicted)
    return {name: float(value) for name, value in _ratios(kinds, counts.sum(axis=0)).items()}


def bootstrap(
    gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]], *, samples: int = 1000, seed: int = 0
) -> dict[str, list[float]]:
    """[low, high] of each of `scores`: the 95 % percentile bootstrap over sentences (Efron and Tibshirani 1993)."""
    kinds, counts = count(gold, predicted)
    if not counts.size:
        return {name: [0.0, 0.0] for name in _ratios(kinds, counts.sum(axis=0))}
    # Sentences with equal counts are interchangeable, so drawing how often each distinct one occurs is equivalent.
    distinct, times = np.unique(counts.reshape(len(counts), -1), axis=0, return_counts=True)
    draws = np.random.default_rng(seed).multinomial(len(counts), times / len(counts), size=samples)
    resampled = (draws @ distinct).reshape(samples, len(kinds), 3)
    limits = {name: np.percentile(values, [2.5, 97.5]) for name, values in _ratios(kinds, resampled).items()}
    return {name: [float(low), float(high)] for name, (low, high) in limits.items()}


def count(gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> tuple[list[str], np.ndarray]:
    """The entity types, sorted, and (sentences, types, 3) counts of correct, predicted and gold entities."""
    _check_lengths(gold, predicted)
    pairs = [(set(entities_of(a)), set(entities_of(b))) for a, b in zip(gold, predicted, strict=True)]
    kinds = sorted({kind for pair in pairs for entities in pair for kind, *_ in entities})
    counts = np.zeros((len(pairs), len(kinds), 3), dtype=np.int64)
    for row, (gold_entities, predicted_entities) in zip(counts, pairs, strict=True):
        correct = gold_entities & predicted_entities
        for column, entities in enumerate((correct, predicted_entities, gold_entities)):
            for kind, *_ in entities:
                row[kinds.index(kind), column] += 1
    return kinds, counts


def word_scores(
    model: torch.nn.Module,
    tokenizer: Any,
    sentences: Sequence[Sentence],
    *,
    labelling: Labelling = "first",
    max_tokens: int | None = None,
    batch_tokens: int = inference.BATCH_TOKENS,
    annotated: Collection[str] | None = None,
) -> dict[str, float]:
    """The metrics of `evaluate` for a model on tagged sentences, or pairs (words, tags).

    With labelling "all" pieces are counted, not words.

    annotated: as for `evaluate`.
    """
    sentences = list(map(Sentence.of, sentences))
    gold, outputs = _read(model, tokenizer, sentences, labelling, max_tokens, batch_tokens)
    predicted, _ = drop_unannotated([each.tags for each in outputs], annotated)
    stated = _stated_attributes(sentences, tokenizer, labelling)
    return scores(gold, predicted) | attribute_scores.scores(model, gold, predicted, outputs, stated)


def evaluate(
    model: torch.nn.Module,
    tokenizer: Any,
    sentences: Sequence[Sentence],
    *,
    labelling: Labelling = "first",
    split: str = "",
    folder: Path | None = None,
    max_tokens: int | None = None,
    batch_tokens: int = inference.BATCH_TOKENS,
    annotated: Collection[str] | None = None,
    samples: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """{"metrics", "n", "intervals", "cost", "measured_on"} of a model on tagged sentences.

    metrics and intervals: `scores` and `bootstrap`, and those of attribute_scores; labelling "all" counts pieces (the
    papers' scheme, trap T1).
    cost: of evaluation.cost, an item being a sentence. measured_on: of evaluation.hardware.
    annotated: the entity types that the data set annotates; None: all that the model knows. Predictions of other types
    are neither right nor wrong and are not counted; "not_annotated" gives their number by type, where there are any.
    Raises BadSpec if the sentences have entity types that the model does not know, and BadData if there is nothing to
    score; `split` only names the sentences in these messages. outcomes: what all this rests on, where words are scored.
    """
    sentences = list(map(Sentence.of, sentences))
    _check_types(model, sentences, split)
    tag = partial(inference.tag_words, model=model, tokenizer=tokenizer, max_tokens=max_tokens)
    (gold, outputs), cost = costs.measure(
        model,
        lambda: _read(model, tokenizer, sentences, labelling, max_tokens, batch_tokens),
        pieces=lambda _: sum(len(cut_words(sentence.words, tokenizer)[0]) for sentence in sentences),
        read_one=lambda index: tag([sentences[index].words]),
        count=len(sentences),
        folder=folder,
        seed=seed,
    )
    texts = (" ".join(sentence.words) for sentence in sentences)
    cost |= costs.by_length(lambda text: tag([text.split()]), texts, tokenizer)
    predicted, dropped = drop_unannotated([each.tags for each in outputs], annotated)
    spans = (model, gold, predicted, outputs, _stated_attributes(sentences, tokenizer, labelling))
    metrics = scores(gold, predicted) | attribute_scores.scores(*spans)
    intervals = bootstrap(gold, predicted, samples=samples, seed=seed)
    intervals |= attribute_scores.intervals(*spans, samples=samples, seed=seed)
    report = {"metrics": metrics, "n": len(sentences), "intervals": intervals, "cost": cost}
    report |= {"measured_on": measured_on(model)}
    if labelling == "first":
        report |= {"outcomes": _outcomes(model, sentences, gold, predicted, outputs, spans[-1])}
    return report | ({"not_annotated": dropped} if dropped else {})


def _outcomes(
    model: torch.nn.Module,
    sentences: Sequence[Sentence],
    gold: Sequence[Sequence[str]],
    predicted: Sequence[Sequence[str]],
    outputs: Sequence[inference.WordOutputs],
    stated: Sequence[Mapping[str, Sequence[str]]],
) -> Outcomes:
    """The outcome of each sentence, with its places in the text of its words."""
    known, attributes = inference.attributes_of(model), []
    for tags, answer, words, values in zip(gold, predicted, outputs, stated, strict=True):
        by_span = {}
        for kind, first, last in set(entities_of(tags)) & set(entities_of(answer)):
            read = words.attributes(first, last, kind, known)
            pairs = {name: (values[name][first], each.value) for name, each in read.items() if name in values}
            by_span[kind, first, last] = {name: pair for name, pair in pairs.items() if pair[0]}
        attributes.append(by_span)
    places = [words_in(join(sentence.words).text).places for sentence in sentences]
    return outcomes.of_spans(places, gold, predicted, attributes, measures="f1", unit="sentences")


def drop_unannotated(
    predicted: Sequence[Sequence[str]], annotated: Collection[str] | None
) -> tuple[Sequence[Sequence[str]], dict[str, int]]:
    """Predicted tags without entities of types that a data set does not annotate, and the number dropped by type."""
    if annotated is None:
        return predicted, {}
    dropped = Counter(kind for tags in predicted for kind, *_ in entities_of(tags) if kind not in annotated)
    if not dropped:
        return predicted, {}
    remaining = [[tag if tag == "O" or tag[2:] in annotated else "O" for tag in tags] for tags in predicted]
    return remaining, dict(sorted(dropped.items()))


def _ratios(kinds: Sequence[str], counts: np.ndarray) -> dict[str, np.ndarray]:
    """Precision, recall and f1 from counts (..., types, 3), micro and per type; each value has the leading shape."""
    by_suffix = {"": counts.sum(axis=-2)} | {f".{kind}": counts[..., index, :] for index, kind in enumerate(kinds)}
    ratios = {}
    for suffix, triples in by_suffix.items():
        correct, predicted, gold = np.moveaxis(triples, -1, 0)
        ratios[f"precision{suffix}"] = correct / np.maximum(predicted, 1)
        ratios[f"recall{suffix}"] = correct / np.maximum(gold, 1)
        ratios[f"f1{suffix}"] = 2 * correct / np.maximum(predicted + gold, 1)
    return ratios


def _read(
    model: torch.nn.Module,
    tokenizer: Any,
    sentences: Sequence[Sentence],
    labelling: Labelling,
    max_tokens: int | None,
    batch_tokens: int,
) -> tuple[list[list[str]], list[inference.WordOutputs]]:
    """Gold tags and the model's outputs: for each word of the joined text, or with labelling "all" for each piece."""
    words, gold = [sentence.words for sentence in sentences], [sentence.tags for sentence in sentences]
    outputs = inference.word_outputs(
        words, model, tokenizer, labelling=labelling, max_tokens=max_tokens, batch_tokens=batch_tokens
    )
    return inference.expand(words, gold, tokenizer, labelling=labelling), outputs


def _stated_attributes(
    sentences: Sequence[Sentence], tokenizer: Any, labelling: Labelling
) -> list[dict[str, list[str]]]:
    """The gold attributes of each sentence: by name the value of each word, or piece, that `_read` returns."""
    stated = [sentence.attributes for sentence in sentences]
    if not any(stated):
        return [{} for _ in sentences]
    owners = inference.word_owners([sentence.words for sentence in sentences], tokenizer, labelling=labelling)
    return [
        {name: [values[word] for word in words.tolist()] for name, values in by_name.items()}
        for by_name, words in zip(stated, owners, strict=True)
    ]


def _check_lengths(gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> None:
    if len(gold) != len(predicted):
        raise BadData(f"there are {len(gold):,} sentences of gold tags and {len(predicted):,} of predicted tags.")
    for number, (gold_tags, predicted_tags) in enumerate(zip(gold, predicted, strict=True), 1):
        if len(gold_tags) != len(predicted_tags):
            what = f"sentence {number:,} has {len(gold_tags)} gold tags and {len(predicted_tags)} predicted tags."
            raise BadData(what)


def _check_types(model: torch.nn.Module, sentences: Sequence[Sentence], split: str) -> None:
    if not len(sentences):
        raise BadData(f"there is no sentence to score{f' in the {split} split' if split else ''}.")
    known = inference.tags_of(model).kinds
    present = entity_types(tag for sentence in sentences for tag in sentence.tags)
    if missing := sorted(set(present) - set(known)):
        where = f"the {split} split" if split else "the data set"
        lists = [", ".join(kinds) for kinds in (present, known, missing)]
        raise BadSpec(
            [("dataset", f"{where} has the entity types {lists[0]}; the model knows {lists[1]}, not {lists[2]}")],
            next_step="Choose a model that was trained on these entity types, or fine-tune this one on this data set.",
        )
