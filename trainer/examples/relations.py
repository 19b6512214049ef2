"""Relations between mentions: pairs that train a classifier, each in its passage, and the scores of their labels."""

import json
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from trainer import datasets, inference
from trainer.datasets import RelatedDocument, Report
from trainer.datasets.cards import RelatedCard, card
from trainer.datasets.contents import RelatedContents
from trainer.datasets.readers.related import NEGATIVE, find_negative
from trainer.datasets.rows.candidates import Candidate, Candidates, PairReading, find_candidates, mark
from trainer.datasets.rows.pieces import frame
from trainer.errors import BadSpec
from trainer.evaluation import baselines, calibration, document_scores
from trainer.evaluation.document_scores import Answers
from trainer.examples.task_data import LabelledData
from trainer.examples.whole_text import IGNORED, Row, WholeTextRows
from trainer.inference.relations import READING, read_passages
from trainer.resolved import ResolvedDataset, ResolvedModel
from trainer.tasks.relations import Relations
from trainer.zoo.outputs import ONE


class RelationsData(LabelledData[Relations]):
    """The splits of one data set, each read once. `unlabelled` pairs are added to the training rows."""

    @classmethod
    def read_task(cls, model: ResolvedModel) -> Relations:
        """The task as a model was trained for it: how it reads pairs."""
        config = json.loads((Path(model.path) / "config.json").read_text(encoding="utf-8"))
        stated = PairReading.model_validate(config.get(READING) or {})
        return Relations(**stated.model_dump(exclude={"types"}))

    @classmethod
    def complete_task(cls, task: Relations, model: ResolvedModel) -> Relations:
        """The task for scoring a model, which can read pairs only as it was trained."""
        return cls.read_task(model)

    def __init__(self, task: Relations, dataset: ResolvedDataset, *, limit: int | None = None):
        super().__init__(task, dataset, limit=limit)
        self.unlabelled: list[Candidate] = []
        self._documents: dict[str, list[RelatedDocument]] = {}

    def documents(self, split: str) -> list[RelatedDocument]:
        """The documents of a split, read once. Raises BadData where it is missing or invalid."""
        if split not in self._documents:
            self._documents[split] = datasets.related_documents(self.dataset, split, limit=self.limit)
        return self._documents[split]

    def examples(self, split: str) -> list[Candidate]:
        """The candidate pairs of a split."""
        return self._candidates(split, self.reading).pairs

    def _candidates(self, split: str, reading: PairReading) -> Candidates:
        each = [find_candidates(document, reading) for document in self.documents(split)]
        return Candidates([pair for one in each for pair in one.pairs], [pair for one in each for pair in one.missed])

    @cached_property
    def reading(self) -> PairReading:
        """How pairs are chosen and read: with the types of the whole training split, whatever the limit."""
        train = self.survey.splits["train"]
        anonymised = any(document.anonymised for document in self.documents("train"))
        return PairReading(
            mentions="anonymised" if anonymised else self.task.mentions,
            max_sentences=self.task.max_sentences,
            types=train.types if isinstance(train, RelatedContents) else (),
            negative=self.negative,
        )

    @cached_property
    def negative(self) -> str | None:
        """The label of a pair without a relation: as the task or the card says, or a usual name among the labels."""
        place = Path(self.dataset.path)
        stated = card(place) if place.is_dir() else None
        named = self.task.negative or (stated.negative if isinstance(stated, RelatedCard) else None)
        return named or find_negative(self.train_labels)

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The labels of the whole training split, whatever the limit, that of no relation among them, sorted."""
        return tuple(sorted({*self.train_labels} - {NEGATIVE} | ({self.negative} if self.negative else set())))

    @property
    def survey(self) -> Report:
        """What all splits hold."""
        return datasets.survey(self.dataset, task=self.task.name)

    def read_unlabelled(self, dataset: ResolvedDataset, *, limit: int | None = None) -> None:
        """Add the pairs of the first `limit` documents of another data set, for a teacher to label."""
        documents = datasets.related_documents(dataset, "train", limit=limit)
        self.unlabelled = [pair for each in documents for pair in find_candidates(each, self.reading).pairs]

    def texts(self, split: str) -> Iterator[str]:
        """The passage of each pair, marked; with train those of the unlabelled pairs too."""
        pairs = [*self.examples(split), *(self.unlabelled if split == "train" else ())]
        return (mark(pair, self.reading.mentions).text for pair in pairs)

    def marks(self, max_tokens: int, lengths: np.ndarray) -> dict[str, Any]:
        """How pairs are read, and the longest passage."""
        reading = self.reading.model_dump(mode="json")
        return {"problem_type": ONE, "document_reading": {"max_tokens": max_tokens}, READING: reading}

    def check_teacher(self, teacher: PreTrainedModel) -> None:
        """Raise BadSpec where a teacher was trained on mentions that look otherwise."""
        if (theirs := inference.pair_reading(teacher).mentions) != self.reading.mentions:
            what = f"the data are read with {self.reading.mentions} mentions, the teacher was trained on {theirs} ones"
            raise BadSpec([("task.mentions", what)], next_step=f"Write {theirs} there, or choose another teacher.")

    def rows(
        self,
        split: str,
        tokenizer: PreTrainedTokenizerBase,
        *,
        label_ids: Mapping[str, int],
        max_tokens: int,
        seed: int = 0,
        with_units: bool = False,
    ) -> WholeTextRows:
        """Training rows of a split, one per pair and label, the unlabelled pairs after those of train."""
        labelled = [(pair, label) for pair in self.examples(split) for label in pair.labels]
        pairs = [pair for pair, _ in labelled] + (self.unlabelled if split == "train" else [])
        around = frame(tokenizer)
        ids, _ = read_passages(pairs, self.reading, tokenizer, max_tokens - around.size)
        targets = [label_ids[label] for _, label in labelled]
        targets += [IGNORED] * (len(pairs) - len(labelled))
        return WholeTextRows(
            [Row(each, np.array([[0, len(each), 0, len(each)]]), around) for each in ids],
            [np.array(target, dtype=np.int64) for target in targets],
            most_windows=1,
            max_tokens=max_tokens,
            seed=seed,
        )

    def scores(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, split: str, *, max_tokens: int | None
    ) -> dict[str, float]:
        """accuracy, micro_f1 and macro_f1 without the label of no relation, and f1, precision and recall by label.

        The pairs are those of the model's reading; related ones that are no candidates count as missed.
        """
        pairs, options = self._asked(model, split)
        return document_scores.scores(model, tokenizer, pairs, max_tokens=max_tokens, **options)

    def report(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        split: str,
        *,
        max_tokens: int | None,
        folder: Path | None = None,
    ) -> dict[str, Any]:
        """Scores, intervals, costs and notes, as `stillroom evaluate --json` prints them."""
        pairs, options = self._asked(model, split)
        report = document_scores.evaluate(
            model,
            tokenizer,
            pairs,
            split=split,
            folder=folder,
            max_tokens=max_tokens,
            measures=self.task.score,
            calibrated_on=self._calibration_pairs(inference.pair_reading(model)),
            **options,
        )
        report = self.with_notes(report | self._beside(report, model, split), split)
        notes = [*report.get("notes", ())]
        if number := len(options["missed"]):
            notes.append(f"{number:,} related pairs of {split} are no candidates of this model; they count as missed.")
        if options["negative"] is None:
            notes.append(
                "No pair is without a relation here: micro F1 is the accuracy, and easier than with such pairs."
            )
        return report | ({"notes": notes} if notes else {})

    def _calibration_pairs(self, reading: PairReading) -> list[Candidate]:
        pairs = self._candidates("dev", reading).pairs if "dev" in self.survey.splits else []
        return [pairs[n] for n in np.sort(np.random.default_rng(0).permutation(len(pairs))[: calibration.MOST_ITEMS])]

    def _beside(self, report: Mapping[str, Any], model: PreTrainedModel, split: str) -> dict[str, Any]:
        """What stands beside the scores: where each pair is, and the scores of a trivial answer and of parts."""
        reading = inference.pair_reading(model)
        each = [find_candidates(document, reading) for document in self.documents(split)]
        pairs, missed = [pair for one in each for pair in one.pairs], [pair for one in each for pair in one.missed]
        owners = [number for kind in ("pairs", "missed") for number, one in enumerate(each) for _ in getattr(one, kind)]
        places = [((pair.head.start, pair.head.end), (pair.tail.start, pair.tail.end)) for pair in pairs]
        outcomes = report["outcomes"]
        mistakes = tuple(
            one.model_copy(update={"places": places[one.item]}) if one.item < len(places) else one
            for one in outcomes.mistakes
        )
        outcomes = outcomes.model_copy(update={"documents": tuple(owners), "mistakes": mistakes})
        known = [label for label in inference.output_names(model) if label in {*self.survey.labels, reading.negative}]
        stated = [pair.labels for pair in pairs] + list(missed)
        gold = np.array([[label in labels for label in known] for labels in stated])
        train = [pair.labels for pair in self._candidates("train", reading).pairs]
        predicted = baselines.majority(train, known, len(stated), negative=reading.negative)
        predicted[len(pairs) :] = False  # nobody asks about these
        answers = Answers(tuple(known), gold, predicted, predicted.astype(np.float64), False, reading.negative)
        lengths = [len(pair.text[pair.start : pair.end].split()) for pair in pairs] + [0] * len(missed)
        return {
            "outcomes": outcomes,
            "baseline": {"name": baselines.EVERY_PAIR, "metrics": document_scores.metrics(answers)},
            "slices": self.slices(outcomes, split, lengths),
        }

    def _asked(self, model: PreTrainedModel, split: str) -> tuple[list[Candidate], dict[str, Any]]:
        """The pairs of a split that a model is asked about, and the options that its scores depend on."""
        reading = inference.pair_reading(model)
        pairs, missed = self._candidates(split, reading)
        known = {reading.negative} if reading.negative else set()
        return pairs, {
            "classify": inference.classify_pairs,
            "annotated": {*self.survey.labels, *known},
            "negative": reading.negative,
            "missed": missed,
        }


DATA = RelationsData
