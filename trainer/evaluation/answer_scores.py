"""Scores of answers to questions: exact match and F1 of SQuAD, and the ranking of BioASQ, with bootstrap intervals.

Answers are compared in the normal form of SQuAD's official script (Rajpurkar et al. 2016; with no-answer, 2018).
"""

import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trainer import inference
from trainer.datasets.readers.questions import Question
from trainer.datasets.rows.questions import QuestionReading
from trainer.errors import BadData
from trainer.evaluation import cost as costs
from trainer.evaluation.document_scores import SAMPLES, under
from trainer.evaluation.hardware import measured_on
from trainer.inference import Answers

LISTED = 5  # answers of a question that count in the ranking, as in BioASQ
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_SNIPPET = re.compile(r"([0-9a-f]{24})_\d{3}")  # of BioASQ in SQuAD form: one question with one of its snippets


def normalise(answer: str) -> str:
    """Lower case without punctuation, articles and superfluous white space, as in the official script."""
    return " ".join(_ARTICLES.sub(" ", answer.lower().translate(_PUNCTUATION)).split())


def exact(predicted: str, gold: str) -> float:
    """1 where both are the same in normal form, else 0."""
    return float(normalise(predicted) == normalise(gold))


def word_f1(predicted: str, gold: str) -> float:
    """F1 over the words of both in normal form; where one has no words, 1 if neither has."""
    one, other = normalise(predicted).split(), normalise(gold).split()
    if not one or not other:
        return float(one == other)
    common = (Counter(one) & Counter(other)).total()
    return 2 * common / (len(one) + len(other))


def measures(
    questions: Sequence[Question], answers: Sequence[Answers], reading: QuestionReading
) -> dict[str, np.ndarray]:
    """The value of each score for each question, (questions,), NaN where a question has no part in it.

    exact_match, f1: of the answer given, the best over the annotated ones; no answer given is right where there is
    none. mrr: 1 / rank of the first right one (by exact match) among the LISTED likeliest different ones, else 0;
    strict_accuracy, lenient_accuracy: whether the first, or any of them, is right. The snippets of a BioASQ question
    count as one. Where some texts lack the answer, has_answer.* and no_answer.* are the same for either kind.
    """
    gold = [_gold(question) for question in questions]
    given = [_words(question, each.best(reading)) for question, each in zip(questions, answers, strict=True)]
    values = {
        name: np.array([max(score(one, right) for right in each) for one, each in zip(given, gold, strict=True)])
        for name, score in (("exact_match", exact), ("f1", word_f1))
    }
    answered = np.array([bool(question.answers) for question in questions])
    ranked = _reciprocal_ranks(questions, answers, gold)
    parts: dict[str, np.ndarray] = {}
    if not answered.all():
        for kind, chosen in (("has_answer", answered), ("no_answer", ~answered)):
            parts |= under(kind, {name: np.where(chosen, value, np.nan) for name, value in values.items()})
    counted = np.isfinite(ranked)
    ranking = {
        "mrr": ranked,
        "strict_accuracy": np.where(counted, ranked == 1, np.nan),
        "lenient_accuracy": np.where(counted, ranked > 0, np.nan),
    }
    return values | ranking | parts


def metrics(values: Mapping[str, np.ndarray]) -> dict[str, float]:
    """The means of `measures`; those that no question has a part in are left out."""
    return {name: float(np.nanmean(each)) for name, each in values.items() if np.isfinite(each).any()}


def bootstrap(values: Mapping[str, np.ndarray], *, samples: int = SAMPLES, seed: int = 0) -> dict[str, list[float]]:
    """[low, high] of each of `metrics`: the 95 % percentile bootstrap over questions."""
    count = len(next(iter(values.values())))
    draws = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=samples)
    intervals = {}
    for name, each in values.items():
        numbers = draws @ np.isfinite(each)
        means = (draws @ np.nan_to_num(each))[numbers > 0] / numbers[numbers > 0]
        if len(means):
            intervals[name] = [float(limit) for limit in np.percentile(means, [2.5, 97.5])]
    return intervals


def ask(questions: Sequence[Question], model: torch.nn.Module, tokenizer: Any, **options: Any) -> list[Answers]:
    """inference.answer_questions of these questions."""
    texts, asked = [each.text for each in questions], [each.question for each in questions]
    return inference.answer_questions(texts, asked, model, tokenizer, **options)


def scores(model: torch.nn.Module, tokenizer: Any, questions: Sequence[Question], **options: Any) -> dict[str, float]:
    """The `metrics` of a model on questions; the options are those of inference.answer_questions."""
    answers = ask(questions, model, tokenizer, **options)
    return metrics(measures(questions, answers, inference.question_reading(model)))


def evaluate(
    model: torch.nn.Module,
    tokenizer: Any,
    questions: Sequence[Question],
    *,
    split: str = "",
    folder: Path | None = None,
    samples: int = SAMPLES,
    seed: int = 0,
    **options: Any,
) -> dict[str, Any]:
    """{"metrics", "n", "intervals", "cost", "measured_on"} of a model on questions.

    metrics: the means of `measures`. cost: of evaluation.cost, one question at a time. Raises BadData if
    there is nothing to score; `split` only names the questions in the message.
    """
    if not len(questions):
        raise BadData(f"there is nothing to score{f' in the {split} split' if split else ''}.")
    answers, cost = costs.measure(
        model,
        lambda: ask(questions, model, tokenizer, **options),
        pieces=lambda answers: sum(each.read for each in answers),
        read_one=lambda index: ask([questions[index]], model, tokenizer, **options),
        count=len(questions),
        folder=folder,
        seed=seed,
    )

    def read_text(text: str) -> object:
        return inference.answer_questions([text], [questions[0].question], model, tokenizer, **options)

    cost |= costs.by_length(read_text, dict.fromkeys(each.text for each in questions), tokenizer)
    values = measures(questions, answers, inference.question_reading(model))
    report = {"metrics": metrics(values), "n": len(questions)}
    report |= {"intervals": bootstrap(values, samples=samples, seed=seed), "cost": cost}
    return report | {"measured_on": measured_on(model)}


def best_threshold(questions: Sequence[Question], answers: Sequence[Answers]) -> float:
    """The threshold of QuestionReading with the highest F1 on these questions, the one nearest to 0 of equal ones."""
    always = QuestionReading()
    of_best = [
        max(word_f1(_words(question, each.best(always)), right) for right in _gold(question))
        for question, each in zip(questions, answers, strict=True)
    ]
    of_none = np.array([float(not question.answers) for question in questions])
    odds = np.array([each.log_odds for each in answers])
    edges = np.unique(odds[np.isfinite(odds)])
    if not len(edges):
        return 0.0
    middles = np.concatenate([[edges[0] - 1], (edges[1:] + edges[:-1]) / 2, [edges[-1] + 1], [0.0]])
    totals = np.array([np.where(odds > middle, of_none, of_best).sum() for middle in middles])
    best = middles[totals >= totals.max() - 1e-9]
    return float(best[np.abs(best).argmin()])


def _gold(question: Question) -> list[str]:
    """The annotated answers in words that count; the empty one where there is none."""
    answers = [question.text[start:end] for start, end in question.answers]
    return [answer for answer in answers if normalise(answer)] or [""]


def _words(question: Question, answer: Any) -> str:
    return "" if answer is None else question.text[answer.start : answer.end]


def _reciprocal_ranks(
    questions: Sequence[Question], answers: Sequence[Answers], gold: Sequence[Sequence[str]]
) -> np.ndarray:
    """1 / rank of the first right answer, 0 without one: (questions,), NaN without a gold answer.

    Of a group of snippets the first with a gold answer counts for all.
    """
    groups: dict[str, list[int]] = {}
    for number, question in enumerate(questions):
        snippet = _SNIPPET.fullmatch(question.id)
        groups.setdefault(snippet[1] if snippet else f"\0{number}", []).append(number)
    ranks = np.full(len(questions), np.nan)
    for members in groups.values():
        right = {normalise(answer) for number in members for answer in gold[number]} - {""}
        if not right:
            continue
        best: dict[str, float] = {}  # answers in normal form
        for number in members:
            for answer in answers[number].ranked:
                words = normalise(_words(questions[number], answer))
                best[words] = max(answer.score, best.get(words, 0.0))
        listed = sorted(best, key=lambda words: -best[words])[:LISTED]
        first = next(number for number in members if gold[number] != [""])
        ranks[first] = next((1 / rank for rank, words in enumerate(listed, 1) if words in right), 0.0)
    return ranks
