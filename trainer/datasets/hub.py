"""Data sets of the Hugging Face Hub (`hf:owner/name`, `hf:owner/name:config`), read with the `datasets` library.

They are read from the library's cache on this machine; only `fetch` uses the network. To be used as they are their rows
need a field `text`, and for classification `label` or `labels`: names, or numbers that the data set's features name.
`datasets import` takes them for every task.
"""

import hashlib
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from trainer.datasets.readers import at_line
from trainer.datasets.readers.labelled import Field, LabelledDocument, parse_document
from trainer.datasets.readers.text import is_visible
from trainer.errors import BadData, Refused, Unavailable, UnknownName
from trainer.resolved import ResolvedDataset

NAMES = {"train": ("train",), "dev": ("dev", "validation", "valid"), "test": ("test",)}  # our names, and the Hub's
PREFIX, FORM = "hf:", "hf:owner/name, with :config and @revision where they are needed"
# References that older versions stored have no prefix; they are read from the cache and never looked up.
_REFERENCE = re.compile(r"(?:hf:)?([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?::([\w.-]+))?(?:@(\w+))?")
TIMEOUT_S = 5
_BUILDERS = {"arrow", "cache", "csv", "json", "parquet", "text"}  # formats that hold text and run no code


def is_reference(reference: str) -> bool:
    """Whether this is a reference to a data set of the Hub."""
    return reference.startswith(PREFIX)


def resolve(reference: str) -> ResolvedDataset:
    """The data set at the revision in the cache; its `path` is a reference with that revision.

    Raises Unavailable if it is not on this machine, UnknownName for a malformed reference, Refused for a format other
    than plain rows, and BadData without a field `text`.
    """
    builder = _builder(reference)
    fields = builder.info.features
    if fields is not None and "text" not in fields:
        what = f"it has no field `text`; it has {', '.join(list(fields)[:8])}."
        next_step = f"Run `stillroom datasets import {_written(reference)} --task T --name N`, and use N."
        raise BadData(what, path=reference, next_step=next_step)
    return _resolved(reference, builder)


def _resolved(reference: str, builder: Any) -> ResolvedDataset:
    pinned = f"{reference.removeprefix(PREFIX).partition('@')[0]}@{builder.hash}"
    sha256 = hashlib.sha256(pinned.encode()).hexdigest()
    return ResolvedDataset(reference=reference, path=PREFIX + pinned, sha256=sha256)


def splits(reference: str) -> dict[str, str]:
    """The Hub's name of each split that the data set has, by our name."""
    available = _pinned(reference).info.splits or {}
    names = {ours: [name for name in theirs if name in available] for ours, theirs in NAMES.items()}
    return {ours: theirs[0] for ours, theirs in names.items() if theirs}


def texts(reference: str, split: str) -> Iterator[str]:
    """The documents of a split (by the Hub's name), streamed; those without a visible character are skipped.

    Raises BadData for a row whose text is not a string.
    """
    for number, row in enumerate(_pinned(reference).as_streaming_dataset(split=split), 1):
        if not isinstance(row.get("text"), str):
            what = f"row {number:,}: the field `text` is a {type(row.get('text')).__name__}, not a string."
            raise BadData(what, path=f"{reference}, {split}", next_step="Choose another data set.")
        if is_visible(row["text"]):
            yield row["text"]


def labelled(reference: str, split: str, *, field: Field) -> Iterator[LabelledDocument]:
    """The documents of a split (by our name) with their labels; `line` is the number of the row.

    Raises BadData without such a split, and for a row that is not a labelled document.
    """
    available, place = splits(reference), f"{reference}, {split}"
    if split not in available:
        what = f"there is no split {split!r}; there is {', '.join(available)}."
        raise BadData(what, path=reference, next_step="Use one of the others, or save it as .jsonl files.")
    builder = _pinned(reference)
    names = _names((builder.info.features or {}).get(field))
    for number, row in enumerate(builder.as_streaming_dataset(split=available[split]), 1):
        value = row.get(field)
        if names and value is not None:
            row = row | {field: [names[each] for each in value] if isinstance(value, list) else names[value]}
        try:
            yield parse_document(row, field=field, line=number)
        except BadData as problem:
            raise at_line(problem, place, number) from None


def rows(reference: str) -> dict[str, Iterator[dict[str, Any]]]:
    """The rows of each split, by our name, with the names of labels in the place of their numbers.

    Raises what `resolve` raises, but for a data set without `text`.
    """
    features = _pinned(reference).info.features or {}
    names = {field: each for field, feature in features.items() if (each := _names(feature))}

    def named(row: dict[str, Any]) -> dict[str, Any]:
        return row | {
            field: [each[number] for number in value] if isinstance(value, list) else each[value]
            for field, each in names.items()
            if (value := row.get(field)) is not None
        }

    streamed = {ours: _pinned(reference).as_streaming_dataset(split=hubs) for ours, hubs in splits(reference).items()}
    return {split: map(named, stream) for split, stream in streamed.items()}


def label_field(reference: str) -> Field:
    """The field with the labels: `labels` if the features have only that, otherwise `label`."""
    fields = _pinned(reference).info.features or {}
    return "labels" if "labels" in fields and "label" not in fields else "label"


def _names(feature: Any) -> list[str] | None:
    """What the numbers of a feature, or of a list feature, stand for; None where its values are names already."""
    names: list[str] | None = getattr(getattr(feature, "feature", feature), "names", None)
    return names


@lru_cache(maxsize=8)
def _pinned(reference: str) -> Any:
    return _builder(reference)


def _builder(reference: str) -> Any:
    """The library's builder of a data set in this machine's cache."""
    name, config, revision = _parts(reference)
    try:
        builder = _cached(name, config)
    except (ValueError, OSError):
        raise _not_here(reference) from None
    if revision and builder.hash != revision:
        raise _not_here(reference, f"; its cache has the revision {builder.hash}")
    _check(builder, reference)
    return builder


def _cached(name: str, config: str | None) -> Any:
    """The library's builder of a data set in its cache. Raises ValueError or OSError if the cache does not have it.

    The class is private. If it was renamed, the library is asked for the data set, which gives the same builder without
    a network; therefore only a process that is kept offline asks.
    """
    try:
        from datasets.packaged_modules.cache.cache import Cache
    except ImportError:
        from datasets import load_dataset_builder
        from huggingface_hub import is_offline_mode

        if not is_offline_mode():
            raise FileNotFoundError(name) from None
        return load_dataset_builder(name, config)
    return Cache(repo_id=name, dataset_name=name.partition("/")[2], config_name=config, version="auto", hash="auto")


def fetch(reference: str) -> ResolvedDataset:
    """Download a data set from the Hub into this machine's cache: the only function here that uses the network.

    Raises Unavailable if the Hub does not answer or does not have it, and what `resolve` raises.
    """
    from datasets import load_dataset_builder
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HTTPError

    name, config, revision = _parts(reference)
    try:
        # The Hub is asked first because without a network the library would keep trying for half a minute.
        commit = HfApi().dataset_info(name, revision=revision, timeout=TIMEOUT_S).sha
        builder = load_dataset_builder(name, config, revision=commit)
        _check(builder, reference)
        builder.download_and_prepare()
    except (HTTPError, OSError, ValueError) as error:
        raise Unavailable(
            f"The Hub data set {name} cannot be fetched ({type(error).__name__}).",
            next_step="Check its name and the network, and that HF_HUB_OFFLINE is not set for this command.",
        ) from None
    _pinned.cache_clear()
    return _resolved(reference, _pinned(reference))


def _parts(reference: str) -> tuple[str, str | None, str | None]:
    """(owner/name, config, revision)."""
    if not (parts := _REFERENCE.fullmatch(reference)):
        raise UnknownName("Hub data set", reference, (), next_step=f"Write {FORM}.")
    name, config, revision = parts.groups()
    return name, config, revision


def _check(builder: Any, reference: str) -> None:
    kinds = {cls.__module__.rpartition(".")[2] for cls in type(builder).__mro__}
    if not kinds & _BUILDERS:
        raise Refused(
            f"{reference} does not consist of plain rows.", next_step=f"Allowed: {', '.join(sorted(_BUILDERS))}."
        )


def _written(reference: str) -> str:
    return reference if is_reference(reference) else PREFIX + reference


def _not_here(reference: str, why: str = "") -> Unavailable:
    return Unavailable(
        f"The Hub data set {reference} is not on this machine{why}.",
        next_step=f"Run `stillroom datasets fetch {_written(reference)}` where there is a network (nothing else "
        "reaches the Hub), or give the path of a folder or a text file.",
    )
