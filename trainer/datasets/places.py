"""Where a data set is (an id that ships, a folder, a text file, or hf:owner/name), and its hash."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from trainer.datasets import hub
from trainer.datasets.cards import CARD, card, cards, folder_of
from trainer.datasets.formats import FORMATS
from trainer.datasets.readers import brat, labelled, pairs, related, roles, spans, text, values
from trainer.errors import BadData, CorruptFile, Refused, UnknownName
from trainer.files import sha256
from trainer.references import here
from trainer.resolved import ResolvedDataset
from trainer.tasks import TASKS, with_data

SPLITS = ("train", "dev", "test")
LAYOUT = (
    "A data set is a folder that holds train.conll, dev.conll and test.conll with tagged words; or these three with "
    f"entities by offset ({', '.join(spans.SUFFIXES)}, or folders of BRAT files); or these three with "
    f"labelled documents ({', '.join(labelled.SUFFIXES)}) or labelled pairs of texts (also .tsv); or these three with "
    "relations between entities, or one pair of mentions per row (also .tsv); or these three with questions in SQuAD "
    "form (.json), with roles of sentences, or with values; or train.txt with one document a line "
    f"(also {', '.join(text.SUFFIXES[1:])}); or one such text file; or hf:owner/name, a data set of the Hub "
    "that `stillroom datasets fetch` has brought here."
)
_DOCUMENTS = tuple(
    dict.fromkeys(suffix for kind in ("text", "labelled", "pairs", "questions") for suffix in FORMATS[kind].suffixes)
)


def locate(reference: str) -> Path:
    """The absolute path of an id, or of a folder or a file. Raises UnknownName for anything else."""
    if place := folder_of(reference) or here(reference):
        return place
    raise UnknownName("data set", reference, cards(), next_step=f"Give one of these ids, or a path. {LAYOUT}")


def resolve(reference: str) -> ResolvedDataset:
    """Find a data set: an id (data/<id>/), the path of a folder or a text file, or hf:owner/name, in this order.

    Raises UnknownName for anything else, BadData for a file that is not text, and what `digest` and `hub.resolve`
    raise.
    """
    if hub.is_reference(reference) and not folder_of(reference) and not here(reference):
        return hub.resolve(reference)
    place = locate(reference)
    files = hashes(place)
    return ResolvedDataset(reference=reference, path=str(place), sha256=_digest_of(files), files=files)


def is_hub(dataset: ResolvedDataset) -> bool:
    """Whether a data set is one of the Hub in this machine's cache; every other one has an absolute path."""
    return not Path(dataset.path).is_absolute()


def digest(place: Path) -> str:
    """The SHA-256 of the lines `sha256  file` of `hashes`, sorted by name. Raises what `hashes` raises."""
    return _digest_of(hashes(place))


def hashes(place: Path) -> dict[str, str]:
    """The SHA-256 of each split file by its path below the folder, or of a single file by its name.

    Raises BadData for a folder without splits, Refused for a split outside its folder, and CorruptFile for a file that
    differs from its card.
    """
    top = place if place.is_dir() else place.parent
    paths = split_files(place).values()
    files = [file for path in paths for file in (_brat_files(path) if path.is_dir() else [path])]
    hashed = {path.relative_to(top).as_posix(): sha256(path) for path in files}
    stated = card(place)
    for split in stated.splits.values() if stated else ():
        if hashed[split.file] != split.sha256:
            next_step = "Restore the file, or correct its sha256 in the card if the change is meant."
            raise CorruptFile(f"{place.name}/{split.file} is not the file that {CARD} describes.", next_step=next_step)
    return hashed


def _digest_of(hashed: Mapping[str, str]) -> str:
    return hashlib.sha256("".join(f"{hashed[name]}  {name}\n" for name in sorted(hashed)).encode()).hexdigest()


def split_files(place: Path) -> dict[str, Path]:
    """The file of each split: as the card names it; without a card <split>.conll, or else <split>.txt, .jsonl or .csv.

    A text file by itself is a train split. A split of BRAT files is a folder. Raises BadData for a file that is not
    text, and for a folder without splits.
    """
    if not place.is_dir():
        if not place.name.endswith(_DOCUMENTS):
            raise BadData("this is a file, not a data set.", path=place.name, next_step=LAYOUT)
        return {"train": place}
    stated = card(place)
    if not stated:
        return _search(place)
    files = {split: _inside(place, part.file) for split, part in stated.splits.items()}
    if absent := [path.name for path in files.values() if not path.is_file()]:
        raise BadData(f"there is no {' and no '.join(absent)}; {_listing(place)}.", path=place.name, next_step=LAYOUT)
    return files


def tasks_of(place: Path) -> tuple[str, ...]:
    """The tasks that a data set is for: what its card says, or what the endings of its split files allow.

    Labelled documents are also text, so they are for mlm too. Pairs, roles and values are known by the fields of their
    first row.
    """
    if place.is_dir() and (stated := card(place)):
        text_too = with_data("text") if TASKS[stated.task].data == "labelled" else ()
        return (stated.task, *text_too)
    files = split_files(place).values()
    if any(path.is_dir() for path in files):  # BRAT
        return with_data("tagged", "related")
    kinds = [name for name, each in FORMATS.items() if all(path.name.endswith(each.suffixes) for path in files)]
    if "roles" in kinds:
        kinds = ["roles"] if all(map(roles.has_roles, files)) else [kind for kind in kinds if kind != "roles"]
    if "values" in kinds:
        kinds = ["values"] if all(map(values.has_values, files)) else [kind for kind in kinds if kind != "values"]
    if "pairs" in kinds:
        kinds = ["pairs"] if all(map(pairs.has_pairs, files)) else [kind for kind in kinds if kind != "pairs"] or kinds
    if "related" in kinds and not all(map(related.is_related, files)):
        kinds.remove("related")
    if "tagged" not in kinds and all(path.name.endswith(spans.ENDINGS) for path in files):
        kinds = ["tagged"] * all(map(spans.has_entities, files)) + kinds
    return tuple(task for kind in kinds for task in with_data(kind))


def require_task(place: Path, task: str) -> None:
    """Raise BadData if a data set is not for a task."""
    if task not in (tasks := tasks_of(place)):
        what = f"its splits are for the task {' or '.join(tasks)}, not {task}."
        like = FORMATS[TASKS[task].data].suffixes[0]
        next_step = f"Use it for that task, or add train{like} to a data set without a card."
        if TASKS[task].data == "tagged" and all(
            path.name.endswith(spans.ENDINGS) for path in split_files(place).values()
        ):
            next_step = "Use it for that task, or give every row the list `entities` (usual name: train.spans.jsonl)."
        raise BadData(what, path=place.name, next_step=next_step)


def require_data(place: Path, kind: str) -> None:
    """Raise BadData if a data set is not for any task with data of this kind."""
    tasks = with_data(kind)
    if not {*tasks} & {*tasks_of(place)}:
        require_task(place, tasks[0])


def _search(folder: Path) -> dict[str, Path]:
    for suffixes in (FORMATS["tagged"].suffixes, _DOCUMENTS):
        paths = {split: [path for end in suffixes if (path := folder / f"{split}{end}").is_file()] for split in SPLITS}
        if same := next((candidates for candidates in paths.values() if len(candidates) > 1), None):
            what = f"{same[0].name} and {same[1].name} are both this split."
            raise BadData(what, path=folder.name, next_step="Remove or rename one of them.")
        if any(paths.values()):
            return {split: _inside(folder, candidates[0].name) for split, candidates in paths.items() if candidates}
    folders = {split: folder / split for split in SPLITS if (folder / split).is_dir()}
    if any(map(brat.is_split, folders.values())):
        return {split: _inside(folder, split) for split, path in folders.items() if brat.files(path)}
    what = f"there is no train.conll, no train.jsonl, no train.csv and no train.txt; {_listing(folder)}."
    raise BadData(what, path=folder.name, next_step=LAYOUT)


def _brat_files(folder: Path) -> list[Path]:
    return [_inside(folder, path.name) for path in brat.files(folder)]


def _listing(folder: Path) -> str:
    return "found " + (", ".join(sorted(path.name for path in folder.iterdir())[:8]) or "nothing")


def _inside(folder: Path, name: str) -> Path:
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise Refused(
            f"{folder.name}: the split file {name!r} is outside the folder.", next_step="Put it into the folder."
        )
    return path
