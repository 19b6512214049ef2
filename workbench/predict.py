"""Predict the findings of a model in a note. An arm is a model together with how it reads long notes."""

from collections.abc import Callable
from typing import Literal, get_args

from pydantic import Field

from trainer import references, zoo
from trainer.errors import BadSpec, UnknownName
from trainer.prediction import Plain, Prediction
from trainer.resolved import ResolvedModel
from trainer.tasks import TASKS, needs_hypothesis, needs_question
from workbench.model_cache import CACHE
from workbench.note import Note

Reading = Literal["windows", "truncate", "whole"]
READINGS: tuple[str, ...] = get_args(Reading)


def letter(number: int) -> str:
    """The letter of an arm in pictures and sentences: A, B, C, D."""
    return chr(ord("A") + number)


def percent(score: float) -> str:
    """A score, which is a probability, in pictures and sentences; it is never shown as certain."""
    if score >= 0.995:
        return ">99%"
    return "<1%" if score < 0.005 else f"{score:.0%}"


class Arm(Plain):
    """One side of a comparison, written `M`, `M@reading` or `M@reading:max_tokens`; `model` is any model reference."""

    model: str = Field(min_length=1, max_length=300)
    reading: Reading = "windows"
    max_tokens: int | None = Field(None, ge=8, description="Longest window in word pieces, special tokens included")

    @classmethod
    def parse(cls, text: str) -> "Arm":
        """Parse an arm; an existing folder is a model, whatever its name contains.

        Raises BadSpec or UnknownName for the part that is wrong.
        """
        model, at, suffix = _parts(text)
        reading, colon, limit = suffix.partition(":")
        if not 0 < len(model) <= 300 or not references.storable(model):
            raise BadSpec([("model", f"found {text!r:.80}; write M, M@reading or M@reading:max_tokens")])
        if at and reading not in READINGS:
            raise UnknownName("reading", reading, READINGS, next_step=f"There is no folder {text!r:.80} either.")
        if colon and not (limit.isascii() and limit.isdigit() and len(limit) < 10 and int(limit) >= 8):
            raise BadSpec([("max_tokens", f"found {limit!r:.20} in {text!r:.80}; a whole number from 8 is needed")])
        fields: dict[str, object] = {"model": model}
        if at:
            fields["reading"] = reading
        if colon:
            fields["max_tokens"] = int(limit)
        return cls.model_validate(fields)

    @property
    def name(self) -> str:
        """The arm as it was written, which is its name in comparisons."""
        if self.max_tokens is not None:
            return f"{self.model}@{self.reading}:{self.max_tokens}"
        return f"{self.model}@{self.reading}" if "reading" in self.model_fields_set else self.model


def _parts(text: str) -> tuple[str, str, str]:
    """Model, `@` if present, and reading. A folder's name may itself contain an `@`."""
    written = text if references.here(text) else text.strip()
    model, at, suffix = written.rpartition("@")
    if not at or "/" in suffix or references.here(written):
        return written, "", ""
    if suffix.partition(":")[0] not in READINGS and references.is_path(written) and not references.here(model):
        return written, "", ""  # a missing folder, not an unknown reading
    return model, at, suffix


def predict(
    note: Note,
    model: str | ResolvedModel,
    *,
    relations: str | ResolvedModel | None = None,
    reading: Reading = "windows",
    max_tokens: int | None = None,
    name: str | None = None,
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Prediction:
    """Predict in this process, which imports torch here.

    relations: the model that labels the relations between the entities that `model` finds; its time is not in the
    prediction's cost. name: of the model in the prediction; by default its reference. progress and cancelled: as in
    trainer.inference.predict_many. The note's hypothesis and question are read only by models that need them. Raises
    what zoo.resolve, models.load and predict_many raise, and BadSpec for a model that does not label relations.
    """
    from trainer import inference

    resolved = zoo.resolve(model) if isinstance(model, str) else model
    relating = zoo.resolve(relations) if isinstance(relations, str) else relations
    network, tokenizer = CACHE.load(resolved)
    task = inference.task(network)
    prediction = inference.predict(
        note.text,
        network,
        tokenizer,
        hypothesis=note.hypothesis if needs_hypothesis(task) else None,
        question=note.question if needs_question(task) else None,
        name=name or resolved.reference,
        reading=reading,
        max_tokens=max_tokens,
        progress=progress,
        cancelled=cancelled,
    )
    if relating is None or TASKS[prediction.task].predicts != "tags":
        return prediction
    related = inference.predict_relations(note.text, prediction.spans, *CACHE.load(relating), cancelled=cancelled)
    return prediction.model_copy(update={"relations": related})
