"""Data cards, and finding a data set: an id of the shipped ones, or any folder."""

import hashlib
from functools import cache
from pathlib import Path

import yaml
from pydantic import Field, ValidationError

from trainer.errors import BadData, CorruptFile, Refused, UnknownName
from trainer.prediction import Plain
from trainer.run import ResolvedDataset, file_sha256

DATA = Path(__file__).resolve().parents[2] / "data"
CARD = "card.yaml"
SPLITS = ("train", "dev", "test")
_LAYOUT = "A data set is a folder that holds train.conll, dev.conll and test.conll."


class CardSplit(Plain):
    """One split as its card states it; `entities` counts B- tags."""

    file: str
    sentences: int
    tokens: int
    entities: int
    sha256: str


class DatasetCard(Plain):
    """card.yaml: what a data set is, who made it, under which licence, and what its files hold.

    `licence_files` are relative to the folder of the card; `labels` are entity types, without B- and I-.
    """

    id: str
    name: str
    task: str
    labels: tuple[str, ...]
    licence: str
    licence_files: tuple[str, ...] = ()
    source: str
    citation: str
    changes: str = ""
    splits: dict[str, CardSplit] = Field(min_length=1)
    notes: tuple[str, ...] = ()


def cards() -> dict[str, DatasetCard]:
    """The cards of the data sets that ship with the project, by id."""
    return dict(_cards(DATA))


@cache
def _cards(data: Path) -> dict[str, DatasetCard]:
    return {path.parent.name: _read_card(path.parent) for path in sorted(data.glob(f"*/{CARD}"))}


def card(folder: Path) -> DatasetCard | None:
    """The card of a folder, None where it has none; BadData names what is wrong in it."""
    return _read_card(folder) if (folder / CARD).is_file() else None


def _read_card(folder: Path) -> DatasetCard:
    place = f"{folder.name}/{CARD}"
    try:
        return DatasetCard.model_validate(yaml.safe_load((folder / CARD).read_text(encoding="utf-8")))
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'card'}: {e['msg']}" for e in error.errors())
        raise BadData(f"{wrong}.", path=place, next_step="Correct these fields, or remove the card.") from None
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else None
        raise BadData("this is not YAML.", path=place, line=line, next_step="Correct or remove the card.") from None


def locate(reference: str) -> Path:
    """The absolute path of what an id, or the path of a folder or a file, stands for; UnknownName for none of these."""
    if reference in _cards(DATA):
        return DATA / reference
    try:
        if reference.strip() and Path(reference).exists():
            return Path(reference).resolve()
    except (OSError, ValueError):  # too long for a path, no permission, a NUL inside
        pass
    next_step = f"Give one of these ids, or the path of a folder. {_LAYOUT}"
    raise UnknownName("data set", reference, _cards(DATA), next_step=next_step)


def resolve(reference: str) -> ResolvedDataset:
    """Find a data set: an id (data/<id>/), or the path of a folder; an id wins over a folder of the same name.

    Raises UnknownName for neither, BadData for a file, and what `digest` raises.
    """
    folder = locate(reference)
    if not folder.is_dir():
        raise BadData("this is a file, not a data set.", path=folder.name, next_step=_LAYOUT)
    return ResolvedDataset(reference=reference, path=str(folder), sha256=digest(folder))


def digest(folder: Path) -> str:
    """SHA-256 over the lines `sha256  file` of the split files of a folder, in order of their names.

    Raises BadData for a folder without splits, Refused for a split outside its folder, CorruptFile for a file that is
    not what its card says.
    """
    hashes = {path.relative_to(folder).as_posix(): file_sha256(path) for path in split_files(folder).values()}
    stated = card(folder)
    for split in stated.splits.values() if stated else ():
        if hashes[split.file] != split.sha256:
            next_step = "Restore the file, or correct its sha256 in the card if the change is meant."
            raise CorruptFile(f"{folder.name}/{split.file} is not the file that {CARD} describes.", next_step=next_step)
    return hashlib.sha256("".join(f"{hashes[name]}  {name}\n" for name in sorted(hashes)).encode()).hexdigest()


def split_files(folder: Path) -> dict[str, Path]:
    """The file of each split that is there: as the card names them, or train.conll, dev.conll and test.conll."""
    stated = card(folder)
    names = {name: part.file for name, part in stated.splits.items()} if stated else {s: f"{s}.conll" for s in SPLITS}
    files = {split: _inside(folder, name) for split, name in names.items()}
    absent = [path.name for path in files.values() if not path.is_file()]
    if absent and (stated or len(absent) == len(files)):
        held = ", ".join(sorted(path.name for path in folder.iterdir())[:8]) or "nothing"
        raise BadData(f"there is no {' and no '.join(absent)}; found {held}.", path=folder.name, next_step=_LAYOUT)
    return {split: path for split, path in files.items() if path.is_file()}


def _inside(folder: Path, name: str) -> Path:
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise Refused(
            f"{folder.name}: the split file {name!r} is outside the folder.", next_step="Put it into the folder."
        )
    return path
