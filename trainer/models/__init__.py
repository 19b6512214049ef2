"""Load a model from a checked folder, build one with random weights, save one, fetch one.

Weights are safetensors and code is the library's: a folder is checked (zoo.weights) before it is used, its config
chooses only sizes, and its tensors are read here instead of letting a library look for files.
"""

import copy
import hashlib
import inspect
import logging
import os
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from safetensors.torch import load as read_tensors
from transformers import (
    CONFIG_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING,
    MODEL_MAPPING,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as library_logging

from trainer.architectures import ARCHITECTURES, quicken
from trainer.datasets import tags
from trainer.errors import BadSpec, CorruptFile, Refused, Unavailable
from trainer.files import commit_folder
from trainer.models import suitability
from trainer.models.heads import check_document_reading
from trainer.resolved import ResolvedModel
from trainer.tasks import TASKS
from trainer.zoo import ABOUT, ROOT, ModelEntry, casing, entries, fetched, hub, remedies, resolve, weights_here
from trainer.zoo.outputs import ENCODER, HEADS, LABELS, ONE, TAGS, VOCABULARY, Outputs, check_says_labels, class_of
from trainer.zoo.weights import WEIGHTS, check_folder, check_hashes, outputs_of, read_json

log = logging.getLogger(__name__)

CLASSES = {  # by head
    ENCODER.name: MODEL_MAPPING,
    VOCABULARY.name: MODEL_FOR_MASKED_LM_MAPPING,
    TAGS.name: MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING,
    LABELS.name: MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
}
MISNAMED = ("modernbert",)  # of transformers' own, those that a published config.json calls bert
# Config fields that choose files, kernels or other people's modules, one that only cuts a computation into parts (and
# must divide every length), and the empty block that adapter-transformers left in the nlpie configs.
_NOT_SIZES = ("adapters", "transformers_weights", "fusion_config", "attn_implementation", "_attn_implementation")
_NOT_SIZES += ("chunk_size_feed_forward",)
_VOCABULARIES = ("tokenizer.json", "vocab.txt", "vocab.json", "spiece.model")
_COPY_TOKENIZER = "Copy the tokenizer files of the model it comes from (tokenizer.json, tokenizer_config.json) there."
_CONVERT_TIMEOUT_S = 600


def load(
    reference: str | ResolvedModel, *, task: str | None = None, labels: Sequence[str] | None = None, seed: int = 0
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A model in eval mode, fp32 on the CPU, and its tokenizer with the casing and length that the zoo states.

    task: a task or a head (zoo.outputs); without one the model has the head that its config.json names. A task with
    labels needs a folder with its head; with `labels` (every IOB2 tag, or class, in order) the head is made anew, its
    weights fixed by `seed`, unless the folder's own has exactly these labels. A masked-LM head is made where the folder
    has none, tied to its embeddings. Tensors that the model has no place for (another task's head, an
    unused pooler) are counted in the log; a tensor of the encoder that the file lacks is a CorruptFile. Long attention
    is fast (architectures.quicken).
    """
    found = resolve(reference) if isinstance(reference, str) else reference
    folder, entry = Path(found.path), entries().get(found.zoo_id)
    check_folder(folder)
    check_hashes(folder, entry.files if entry else {})
    outputs = outputs_of(folder)
    config = _read_config(folder, entry, outputs)
    own = _own_head(outputs, folder)
    head = TASKS[task].head if task in TASKS else task or own
    if HEADS[head].labelled and labels is None and own != head:
        raise Unavailable(
            f"{found.reference} has no {HEADS[head].kind} head.",
            next_step="Fine-tune it on a data set first, or choose a model that is fine-tuned.",
        )
    fresh = HEADS[head] is VOCABULARY and own != head
    if labels is not None:
        fresh = not (own == head and list(config.id2label.values()) == list(labels))
        _set_labels(config, labels)
    network = _model_class(config, head)
    suitability.check_class(network, config)
    model = quicken(_assemble(network, config, _read_weights(found), fresh=fresh, seed=seed)).eval()
    if HEADS[head].says == "tags" and labels is None:
        _say_scheme(outputs, folder)
    tokenizer = _read_tokenizer(folder, entry, vocabulary=getattr(config, "vocab_size", None))
    if HEADS[head].says:
        suitability.check_answers(model, tokenizer)
    return model, tokenizer


def build(
    entry: ModelEntry, *, head: str = VOCABULARY.name, labels: Sequence[str] | None = None, seed: int = 0
) -> PreTrainedModel:
    """The architecture of an entry with random weights (eval mode, fp32, CPU); the same seed gives the same bits.

    head: one of zoo.outputs.HEADS, the encoder with its pooler, those with names with `labels`. Needs no network.
    Unavailable where this version does not have the architecture, or does not know its configuration.
    """
    config = build_config(entry)
    if labels is not None:
        _set_labels(config, labels)
    with _quiet(), seeded(seed):
        return quicken(_model_class(config, head)(config)).eval()


def parameter_counts(entry: ModelEntry) -> dict[str, int]:
    """{"encoder", "mlm"}: parameters of the encoder with its pooler and of the masked LM, tied weights once."""
    config = build_config(entry)
    with _quiet(), torch.device("meta"):
        models = {head: _model_class(config, head)(config) for head in (ENCODER.name, VOCABULARY.name)}
    return {head: sum(parameter.numel() for parameter in model.parameters()) for head, model in models.items()}


def save(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase | None,
    folder: Path,
    *,
    dtype: torch.dtype | None = None,
) -> None:
    """Write config, one safetensors file and the tokenizer into `folder`; `dtype` is the number format on disk."""
    stored = model if dtype is None else copy.deepcopy(model).to(dtype)
    with _quiet():
        stored.save_pretrained(folder, max_shard_size="100GB")
        if tokenizer is not None:
            tokenizer.save_pretrained(folder)


def fetch(entry: ModelEntry, *, allow_pickle: bool = False) -> Path:
    """The folder with an entry's weights, from the Hub if they are not here yet: STILLROOM_HOME/models/<id>.

    Only this function reaches the network. A pickle is read once, tensors only, in a process of its own, and kept as
    safetensors. Raises Unavailable, Refused (a pickle without `allow_pickle`) or CorruptFile.
    """
    if entry.source != "hub" or weights_here(entry):
        return Path(resolve(entry.id).path)
    if not entry.hub_id or not entry.loads:
        why = entry.cannot_build or "No weights of it were published."
        raise Unavailable(f"{entry.id} is not fetched. {why}", next_step=remedies(entry))

    def fill(draft: Path) -> None:
        weights = hub.download(entry, draft, allow_pickle=allow_pickle)
        if weights.name == hub.PICKLE:
            _convert(weights, draft / WEIGHTS)
        check_folder(draft)
        check_hashes(draft, entry.files)

    commit_folder(fetched(entry), fill)
    return fetched(entry)


def build_config(entry: ModelEntry) -> PreTrainedConfig:
    """The configuration of an entry's published architecture; Unavailable where it cannot be built."""
    if entry.cannot_build:
        raise Unavailable(f"{entry.id} cannot be built here. {entry.cannot_build}", next_step=remedies(entry))
    shape = dict(entry.architecture)
    return CONFIG_MAPPING[shape.pop("model_type")](**shape)


def _read_config(folder: Path, entry: ModelEntry | None, outputs: Outputs) -> PreTrainedConfig:
    said = read_json(folder / "config.json")
    said["architectures"] = [outputs.named] if outputs.named else None
    if len(outputs.labels) == 1 and said.get("problem_type") == ONE:  # transformers refuses it, and does not say so
        check_says_labels(ONE, outputs.labels)
    if outputs.labels:
        said |= {"id2label": dict(enumerate(outputs.labels)), "num_labels": len(outputs.labels)}
        said["label2id"] = {label: number for number, label in enumerate(outputs.labels)}
    kind = said["model_type"] = _model_type(said, entry)
    known = isinstance(kind, str) and kind in CONFIG_MAPPING
    if not known or "quantization_config" in said:
        what = "quantised weights" if known else f"the architecture {kind!r:.80}"
        raise Unavailable(
            f"{folder} needs {what}, which this version does not read.", next_step="Choose another checkpoint."
        )
    try:
        config = CONFIG_MAPPING[kind].from_dict({name: said[name] for name in said if name not in _NOT_SIZES})
        check_document_reading(config)
    except (ValueError, TypeError, KeyError, AttributeError, StrictDataclassError) as error:
        raise suitability.bad_config(kind, f"of {folder}", error) from None
    return config


def _model_type(said: Mapping, entry: ModelEntry | None) -> object:
    """What config.json says, unless zoo or class know better: MiniALBERTs (trap T11) and a ModernBERT say bert."""
    its_class = class_of(said).lower()
    listed = entry.architecture["model_type"] if entry else None
    own = (kind for kind in (*ARCHITECTURES, *MISNAMED) if kind == listed or its_class.startswith(kind))
    return next(own, said.get("model_type"))


def _own_head(outputs: Outputs, folder: Path) -> str:
    if outputs.head is None:
        endings = [ending for head in HEADS.values() for ending in head.endings]
        raise Unavailable(
            f"{folder} holds a {outputs.named}, a kind of model that this version does not use.",
            next_step=f"Choose a model whose class ends in one of: {', '.join(endings)}.",
        )
    return outputs.head


def _model_class(config: PreTrainedConfig, head: str) -> type[PreTrainedModel]:
    if type(config) not in CLASSES[head]:
        raise Unavailable(f"There is no {head} head for {config.model_type}.", next_step="Choose another model.")
    return CLASSES[head][type(config)]


def _say_scheme(outputs: Outputs, folder: Path) -> None:
    """What the labels of a tagger are read as, where they are not the usual; who asks for tags meets what is wrong."""
    with suppress(BadSpec):
        scheme, kinds = (meant := tags.read(outputs.labels)).scheme, meant.kinds
        if scheme != "IOB2":
            log.warning("The labels of %s are read as %s, of the entity types %s.", folder, scheme, ", ".join(kinds))


def _set_labels(config: PreTrainedConfig, labels: Sequence[str]) -> None:
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: index for index, label in enumerate(labels)}


def _read_weights(found: ResolvedModel) -> dict[str, torch.Tensor]:
    # The bytes that were hashed are the bytes that are used: no second look at a file that may have changed since.
    data = (Path(found.path) / WEIGHTS).read_bytes()
    if hashlib.sha256(data).hexdigest() != found.sha256:
        raise CorruptFile(
            f"{WEIGHTS} of {found.path} is not the file that {found.reference} was resolved to.",
            next_step="Submit or ask again, so that the reference is resolved anew.",
        )
    try:
        return read_tensors(data)
    except SafetensorError as error:
        raise CorruptFile(f"{WEIGHTS} of {found.path} is damaged ({error}).") from None


def _assemble(
    cls: type[PreTrainedModel], config: PreTrainedConfig, weights: Mapping, *, fresh: bool, seed: int
) -> PreTrainedModel:
    """An instance of cls with these tensors; a fresh head takes none, any other part may lack none (trap T11)."""
    options = {}
    if "add_pooling_layer" in inspect.signature(cls).parameters and not any("pooler." in name for name in weights):
        options["add_pooling_layer"] = False  # rather no pooler than a random one
    with _quiet(), seeded(seed), suitability.buildable(cls, config):
        model, told = cls.from_pretrained(
            None,
            config=config,
            state_dict=dict(weights),
            dtype=torch.float32,
            ignore_mismatched_sizes=True,  # they are judged below
            output_loading_info=True,
            **options,
        )
    wanting = {*told["missing_keys"], *(name for name, *_ in told["mismatched_keys"])}
    body = f"{cls.base_model_prefix}."
    # A pooler stands in the encoder but belongs to the head: models made for words or gaps have none.
    _check_complete(
        [name for name in sorted(wanting) if not fresh or (name.startswith(body) and ".pooler." not in name)], cls
    )
    suitability.check_layers(told["unexpected_keys"], cls)
    if told["unexpected_keys"]:
        log.info("%d tensors have no place in %s and were left out.", len(told["unexpected_keys"]), cls.__name__)
    if config.model_type == "mobilebert":
        # The embedding of a piece takes in that of the next one: past the end of a text there is nothing, so padding,
        # which stands there in a batch, is nothing as well. Published files hold some other row for it.
        model.get_input_embeddings().weight.data[config.pad_token_id or 0] = 0
    if fresh and cls in (CLASSES[name].get(type(config), None) for name, head in HEADS.items() if head.labelled):
        _start_head(model, wanting, std=getattr(config, "initializer_range", 0.02), seed=seed)
    return model


def _check_complete(wanting: Sequence[str], cls: type) -> None:
    if wanting:
        raise CorruptFile(
            f"The weights do not fit {cls.__name__}: {len(wanting)} tensors are missing or of another shape, "
            f"such as {', '.join(wanting[:3])}.",
            next_step="The file is incomplete, or its config.json names an architecture that it does not have. "
            "Fetch it again or choose another model.",
        )


def _start_head(model: PreTrainedModel, wanting: Collection[str], *, std: float, seed: int) -> None:
    """The output layer, and every layer below it that the file lacks, with fresh weights."""
    # Drawn from its own generator: the same head whatever else the library draws while it loads.
    noise = torch.Generator().manual_seed(seed)
    for name, layer in model.named_modules():
        below = name.startswith(f"{model.base_model_prefix}.") and ".pooler." not in name
        if not isinstance(layer, torch.nn.Linear):
            continue
        says_labels = not below and layer.out_features == model.config.num_labels  # whatever its name is
        if says_labels or f"{name}.weight" in wanting:
            torch.nn.init.normal_(layer.weight, std=std, generator=noise)
            if layer.bias is not None:
                torch.nn.init.zeros_(layer.bias)


def _read_tokenizer(folder: Path, entry: ModelEntry | None, *, vocabulary: int | None) -> PreTrainedTokenizerBase:
    if not any((folder / name).is_file() for name in _VOCABULARIES):
        raise Unavailable(f"{folder} has no tokenizer.", next_step=_COPY_TOKENIZER)
    options = {}
    if entry and entry.tokenizer["kind"] == "wordpiece":
        options["do_lower_case"] = entry.tokenizer["lower_case"]  # trap T12: published files may say otherwise
    tokenizer = _open_tokenizer(folder, options)
    if entry is None and not (folder / ABOUT).is_file():  # what was trained here is read as it was trained
        stated = read_json(folder / "tokenizer_config.json") or {}
        if options := casing.corrections(tokenizer, stated, where=str(folder)):
            tokenizer = _open_tokenizer(folder, options)
            casing.correct(tokenizer, options)
            shown = ", ".join(f"{name}: {str(value).lower()}" for name, value in options.items())
            log.warning("The vocabulary of %s contradicts its other files; it is read with %s.", folder, shown)
    if not tokenizer.is_fast:
        raise Unavailable(
            f"The tokenizer of {folder} ({type(tokenizer).__name__}) does not say where its pieces stand in a text.",
            next_step="Choose a model whose folder has a tokenizer.json.",
        )
    if vocabulary is not None and len(tokenizer) > vocabulary:  # a CANINE reads any character
        raise CorruptFile(
            f"The tokenizer of {folder} knows {len(tokenizer):,} pieces, its model only {vocabulary:,}.",
            next_step=_COPY_TOKENIZER,
        )
    if entry:
        tokenizer.model_max_length = entry.max_tokens
    return tokenizer


def _open_tokenizer(folder: Path, options: Mapping[str, bool]) -> PreTrainedTokenizerBase:
    try:
        with _quiet():
            return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False, **options)
    except Exception as error:  # the tokenizers library raises bare Exception for a file it cannot parse
        raise CorruptFile(
            f"The tokenizer of {folder} cannot be read ({type(error).__name__}).", next_step=_COPY_TOKENIZER
        ) from None


def _convert(pickle: Path, target: Path) -> None:
    """Read a pickle in a process of its own, without the environment's secrets, and replace it by safetensors."""
    needed = {name: os.environ[name] for name in ("PATH", "HOME", "LD_LIBRARY_PATH") if name in os.environ}
    command = [sys.executable, "-m", "trainer.models.convert", str(pickle), str(target)]
    try:
        done = subprocess.run(command, cwd=ROOT, env=needed, capture_output=True, timeout=_CONVERT_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        done = None
    pickle.unlink()
    if done is None or done.returncode:
        raise Refused(
            f"{pickle.name} could not be read as plain tensors; nothing of it was kept.",
            next_step="It may be damaged, or hold more than tensors. Choose a checkpoint with safetensors.",
        )


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Random numbers from `seed` in the block, and torch's own again after it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the library's progress bars and load reports away: what matters of them is raised or logged here."""
    level, bars = library_logging.get_verbosity(), library_logging.is_progress_bar_enabled()
    library_logging.set_verbosity_error()
    library_logging.disable_progress_bar()
    try:
        yield
    finally:
        library_logging.set_verbosity(level)
        if bars:
            library_logging.enable_progress_bar()
