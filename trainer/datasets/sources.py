"""Where the rows of a split come from, as their files say: the field `source` of JSONL."""

from pathlib import Path

from trainer.datasets.places import split_files
from trainer.datasets.readers.lines import objects
from trainer.resolved import ResolvedDataset

FIELD = "source"
LONGEST = 60  # characters; anything longer is no name


def sources(dataset: ResolvedDataset, split: str, count: int) -> list[str]:
    """The source of each of the first `count` rows of a split, "" where a row names none.

    Empty where no row names one, where the split is no JSONL file, and where its rows are not `count` items or more.
    """
    place = Path(dataset.path)
    path = split_files(place).get(split) if place.exists() else None
    if path is None or not path.name.endswith((".jsonl", ".jsonl.gz")):
        return []
    rows = [row for _, row in objects(path)]
    named = [row.get(FIELD) if isinstance(row, dict) else None for row in rows]
    names = [name if isinstance(name, str) and len(name) <= LONGEST else "" for name in named][:count]
    return names if len(names) == count and any(names) else []
