"""What a reference came to: the folder or file that was found, and what it hashes to."""

from collections.abc import Callable
from pathlib import Path
from typing import Self

from trainer.prediction import Plain


class Input(Plain):
    """Something that a job references, found: what was asked for, its absolute path, and what it hashes to.

    `files` has the SHA-256 of each file that counts, by its name; older run folders do not say it.
    """

    reference: str
    path: str
    sha256: str
    files: dict[str, str] = {}

    def __hash__(self) -> int:  # what is read of a model is kept by it
        return hash((self.reference, self.path, self.sha256))

    def placed(self, place: Callable[[str, Path], str], state: Path) -> Self:
        """The same with its path as `place` writes it (home.portable or home.present)."""
        return self.model_copy(update={"path": place(self.path, state)})


class ResolvedModel(Input):
    """A folder with config, tokenizer and weights, whose SHA-256 is `sha256`; `zoo_id` names the zoo entry, if any."""

    zoo_id: str | None = None


class ResolvedDataset(Input):
    """A folder or a file, or a Hub data set at its revision. `sha256` covers its files."""
