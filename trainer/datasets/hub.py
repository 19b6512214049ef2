"""Text data sets of the Hugging Face Hub, streamed by the `datasets` library: `org/name`, `org/name:config`.

What the library has cached on this machine is read without a network. Its rows need a field `text`, and `label` or
`labels` where documents are classified: names, or numbers that the data set's features name.
"""

import hashlib
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from trainer.datasets.labelled import Field, LabelledDocument, document
from trainer.errors import BadData, Refused, Unavailable
from trainer.run import ResolvedDataset

NAMES = {"train": ("train",), "dev": ("dev", "validation", "valid"), "test": ("test",)}  # ours, and what the Hub says
_REFERENCE = re.compile(r"([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?::([\w.-]+))?(?:@(\w+))?")
TIMEOUT_S = 5
_BUILDERS = {"arrow", "cache", "csv", "json", "parquet", "text"}  # formats that hold text and run no code
_CACHE = "On a machine with a network run `python -c 'import datasets; datasets.load_dataset(\"NAME\")'` once."


def is_reference(reference: str) -> bool:
    """Whether this is written as a Hub data set is: org/name, with :config and @revision where they are needed."""
    return bool(_REFERENCE.fullmatch(reference))


def resolve(reference: str) -> ResolvedDataset:
    """The data set at the revision that the Hub, or else the cache, has now; its `path` is a reference that pins it.

    Raises Unavailable if neither has it, Refused for a format other than plain rows, BadData without a field `text`.
    """
    builder = _builder(reference)
    pinned = f"{reference.partition('@')[0]}@{builder.hash}"
    return ResolvedDataset(reference=reference, path=pinned, sha256=hashlib.sha256(pinned.encode()).hexdigest())


def splits(reference: str) -> dict[str, str]:
    """Our names of the splits that are there, and the Hub's names of them."""
    there = _pinned(reference).info.splits or {}
    found = {ours: [name for name in names if name in there] for ours, names in NAMES.items()}
    return {ours: names[0] for ours, names in found.items() if names}


def texts(reference: str, split: str) -> Iterator[str]:
    """The documents of a split (the Hub's name of it), streamed; those without a visible character are skipped."""
    for number, row in enumerate(_pinned(reference).as_streaming_dataset(split=split), 1):
        if not isinstance(row.get("text"), str):
            what = f"row {number:,}: the field `text` is a {type(row.get('text')).__name__}, not a string."
            raise BadData(what, path=f"{reference}, {split}", next_step="Choose another data set.")
        if row["text"] and not row["text"].isspace():
            yield row["text"]


def labelled(reference: str, split: str, *, field: Field) -> Iterator[LabelledDocument]:
    """The documents of a split (our name of it) with their labels; `line` is the number of the row."""
    there, place = splits(reference), f"{reference}, {split}"
    if split not in there:
        what = f"there is no split {split!r}; there is {', '.join(there)}."
        raise BadData(what, path=reference, next_step="Use one of the others, or save it as .jsonl files.")
    builder = _pinned(reference)
    names = _names((builder.info.features or {}).get(field))
    for number, row in enumerate(builder.as_streaming_dataset(split=there[split]), 1):
        given = row.get(field)
        if names and given is not None:
            row = row | {field: [names[each] for each in given] if isinstance(given, list) else names[given]}
        try:
            yield document(row, field=field, line=number)
        except BadData as problem:
            raise BadData(problem.message, path=place, line=number, next_step=problem.next_step) from None


def label_field(reference: str) -> Field:
    """`label` where the features have it, or else `labels`."""
    fields = _pinned(reference).info.features or {}
    return "labels" if "labels" in fields and "label" not in fields else "label"


def _names(feature: Any) -> list[str] | None:
    """The names of a feature's numbers, one or a list of them; None where its values are names themselves."""
    return getattr(getattr(feature, "feature", feature), "names", None)


@lru_cache(maxsize=8)
def _pinned(reference: str) -> Any:
    return _builder(reference)


def _builder(reference: str) -> Any:
    """The library's reader of a data set: of the Hub where it answers, of the cache otherwise."""
    from datasets import load_dataset_builder
    from datasets.packaged_modules.cache.cache import Cache
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HTTPError

    name, config, revision = _REFERENCE.fullmatch(reference).groups()
    try:
        # Asked first, because the library itself would try for half a minute where there is no network.
        found = HfApi().dataset_info(name, revision=revision, timeout=TIMEOUT_S).sha
        builder = load_dataset_builder(name, config, revision=found)
    except (HTTPError, OSError, ValueError) as error:
        try:
            where = {"repo_id": name, "dataset_name": name.partition("/")[2], "config_name": config}
            builder = Cache(**where, version="auto", hash="auto")
        except ValueError:
            raise _unavailable(name, f"({type(error).__name__})") from None
    if revision and builder.hash != revision:
        raise _unavailable(name, f"at revision {revision}; the cache has {builder.hash}")
    _check(builder, reference)
    return builder


def _check(builder: Any, reference: str) -> None:
    kinds = {cls.__module__.rpartition(".")[2] for cls in type(builder).__mro__}
    if not kinds & _BUILDERS:
        raise Refused(f"{reference} is not made of plain rows.", next_step=f"Allowed: {', '.join(sorted(_BUILDERS))}.")
    fields = builder.info.features
    if fields is not None and "text" not in fields:
        what = f"it has no field `text`; it has {', '.join(list(fields)[:8])}."
        raise BadData(what, path=reference, next_step="Save it as .jsonl with that field, and use the file.")


def _unavailable(name: str, why: str) -> Unavailable:
    return Unavailable(
        f"There is no folder {name} here, and the Hub data set {name} can neither be reached nor is it cached {why}.",
        next_step=f"{_CACHE.replace('NAME', name)} Or give the path of a folder or a text file.",
    )
