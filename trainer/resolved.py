"""Resolved references: the folder or file that a reference points to, and its hash."""

from collections.abc import Callable
from pathlib import Path
from typing import Self

from trainer.prediction import Plain


class Input(Plain):
    """A model or data set that a job refers to: the reference as written, the absolute path, and the hash.

    `files` maps the name of each file that is part of it to its SHA-256; older run folders do not record it.
    """

    reference: str
    path: str
    sha256: str
    files: dict[str, str] = {}

    def __hash__(self) -> int:  # so that what was read from a model can be cached
        return hash((self.reference, self.path, self.sha256))

    def placed(self, place: Callable[[str, Path], str], state: Path) -> Self:
        """A copy with its path converted by `place`, which is home.portable or home.present."""
        return self.model_copy(update={"path": place(self.path, state)})


class ResolvedModel(Input):
    """A folder with config, tokenizer and weights. `sha256` is that of the weights; zoo_id: its zoo entry, if any."""

    zoo_id: str | None = None


class ResolvedDataset(Input):
    """A folder or a file, or a Hub data set at its revision. `sha256` covers its files."""
