"""A note and a model give a Prediction. An arm is a model together with how it reads."""

from collections.abc import Callable
from typing import Literal, get_args

from pydantic import Field

from trainer import references, zoo
from trainer.errors import BadSpec, UnknownName
from trainer.prediction import Plain, Prediction
from trainer.resolved import ResolvedModel
from workbench.model_cache import SHELF
from workbench.note import Note

Reading = Literal["windows", "truncate", "whole"]
READINGS: tuple[str, ...] = get_args(Reading)


def letter(number: int) -> str:
    """How pictures and sentences call the arm at a place: A, B, C, D."""
    return chr(ord("A") + number)


class Arm(Plain):
    """One side of a comparison, written `M`, `M@reading` or `M@reading:max_tokens`; `model` is any model reference."""

    model: str = Field(min_length=1, max_length=300)
    reading: Reading = "windows"
    max_tokens: int | None = Field(None, ge=8, description="Longest window in word pieces, special tokens included")

    @classmethod
    def parse(cls, text: str) -> "Arm":
        """The arm that a person wrote; a folder that is there is one, whatever its name holds.

        Raises BadSpec or UnknownName, saying which part is wrong.
        """
        model, at, how = _parts(text)
        reading, colon, limit = how.partition(":")
        if not 0 < len(model) <= 300 or not references.storable(model):
            raise BadSpec([("model", f"found {text!r:.80}; write M, M@reading or M@reading:max_tokens")])
        if at and reading not in READINGS:
            raise UnknownName("reading", reading, READINGS, next_step=f"There is no folder {text!r:.80} either.")
        if colon and not (limit.isascii() and limit.isdigit() and len(limit) < 10 and int(limit) >= 8):
            raise BadSpec([("max_tokens", f"found {limit!r:.20} in {text!r:.80}; a whole number from 8 is needed")])
        said = {"reading": reading} if at else {}
        return cls(model=model, **said, **({"max_tokens": int(limit)} if colon else {}))

    @property
    def name(self) -> str:
        """The arm as it was written; comparisons name it so."""
        if self.max_tokens is not None:
            return f"{self.model}@{self.reading}:{self.max_tokens}"
        return f"{self.model}@{self.reading}" if "reading" in self.model_fields_set else self.model


def _parts(text: str) -> tuple[str, str, str]:
    """Model, `@` where there is one, and how it reads. The name of a folder may hold an `@` of its own."""
    written = text if references.here(text) else text.strip()
    model, at, how = written.rpartition("@")
    if not at or "/" in how or references.here(written):
        return written, "", ""
    if how.partition(":")[0] not in READINGS and references.is_path(written) and not references.here(model):
        return written, "", ""  # a folder that is not there, not a way to read that is unknown
    return model, at, how


def predict(
    note: Note,
    model: str | ResolvedModel,
    *,
    reading: Reading = "windows",
    max_tokens: int | None = None,
    name: str | None = None,
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Prediction:
    """What a model finds in a note, computed in this process (which imports torch here).

    `name` is how the prediction names its model; by default the reference. progress and cancelled as in
    trainer.inference.predict_many. Raises what registry.resolve and models.load raise.
    """
    from trainer import inference

    resolved = zoo.resolve(model) if isinstance(model, str) else model
    network, tokenizer = SHELF.take(resolved)
    return inference.predict(
        note.text,
        network,
        tokenizer,
        name=name or resolved.reference,
        reading=reading,
        max_tokens=max_tokens,
        progress=progress,
        cancelled=cancelled,
    )
