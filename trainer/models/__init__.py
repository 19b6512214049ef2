"""Load a model from a checked folder, build one with random weights, save one, fetch one.

Weights are safetensors and all code comes from installed libraries: a folder is checked (zoo.weights) before it is
used, its config decides sizes only, and its tensors are read here, so that no library looks for files itself.
"""

import copy
import hashlib
import inspect
import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from safetensors.torch import load as read_tensors
from transformers import (
    CONFIG_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
    MODEL_FOR_QUESTION_ANSWERING_MAPPING,
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
from trainer.errors import BadSpec, CorruptFile, Unavailable
from trainer.files import commit_folder
from trainer.models import suitability
from trainer.models.heads import check_document_reading
from trainer.resolved import ResolvedModel
from trainer.tasks import TASKS
from trainer.zoo import ABOUT, ModelEntry, casing, entries, fetched, hub, remedies, resolve, weights_here
from trainer.zoo.outputs import (
    ANSWERS,
    ENCODER,
    HEADS,
    LABELS,
    ONE,
    TAGS,
    VOCABULARY,
    Outputs,
    check_predicts_labels,
    class_of,
)
from trainer.zoo.weights import WEIGHTS, check_folder, check_hashes, outputs_of, read_json

log = logging.getLogger(__name__)

# By head. transformers allows tuples of classes in these tables, but no head here has one.
CLASSES = cast(
    dict[str, Mapping[type[PreTrainedConfig], type[PreTrainedModel]]],
    {
        ENCODER.name: MODEL_MAPPING,
        VOCABULARY.name: MODEL_FOR_MASKED_LM_MAPPING,
        TAGS.name: MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING,
        LABELS.name: MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
        ANSWERS.name: MODEL_FOR_QUESTION_ANSWERING_MAPPING,
    },
)
MISNAMED = ("modernbert",)  # transformers' own architectures that a published config.json calls bert
# Config fields that choose files, kernels or third-party modules, the one that only splits a computation into chunks
# (and must divide every length), and the empty block that adapter-transformers left in the nlpie configs.
_IGNORED_FIELDS = (
    "adapters",
    "transformers_weights",
    "fusion_config",
    "attn_implementation",
    "_attn_implementation",
    "chunk_size_feed_forward",
)
_VOCABULARIES = ("tokenizer.json", "vocab.txt", "vocab.json", "spiece.model")
_COPY_TOKENIZER = "Copy the tokenizer files of the original model there (tokenizer.json, tokenizer_config.json)."


def load(
    reference: str | ResolvedModel, *, task: str | None = None, labels: Sequence[str] | None = None, seed: int = 0
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A model in eval mode, fp32 on the CPU, and its tokenizer with the casing and length that the zoo states.

    task: a task or a head (zoo.outputs); without one the model gets the head that its config.json names. A task with
    labels needs a folder that has its head. labels: every IOB2 tag, or every class, in order; the head is then
    initialised with `seed`, unless the folder's head has exactly these labels. A masked-LM head that the folder lacks
    is created, tied to the embeddings. Tensors that the model does not use (another task's head, a pooler) are counted
    in the log. Long attention is fast (architectures.quicken).

    Raises what `resolve` raises, CorruptFile (damaged weights, tokenizer or config, an encoder tensor missing) and
    Unavailable (an unsupported architecture, or no such head).
    """
    resolved = resolve(reference) if isinstance(reference, str) else reference
    folder, entry = Path(resolved.path), entries().get(resolved.zoo_id or "")
    check_folder(folder)
    check_hashes(folder, entry.files if entry else {})
    outputs = outputs_of(folder)
    config = _read_config(folder, entry, outputs)
    folder_head = _require_head(outputs, folder)
    head = TASKS[task].head if task in TASKS else task or folder_head
    if HEADS[head].labelled and labels is None and folder_head != head:
        raise Unavailable(
            f"{resolved.reference} has no {HEADS[head].kind} head.",
            next_step="Fine-tune it on a data set first, or choose a model that is fine-tuned.",
        )
    new_head = HEADS[head] is VOCABULARY and folder_head != head
    if labels is not None:
        new_head = not (folder_head == head and list((config.id2label or {}).values()) == list(labels))
        _set_labels(config, labels)
    network = _model_class(config, head)
    suitability.check_class(network, config)
    model = quicken(_assemble(network, config, _read_weights(resolved), new_head=new_head, seed=seed)).eval()
    if HEADS[head].predicts == "tags" and labels is None:
        _log_scheme(outputs, folder)
    tokenizer = _read_tokenizer(folder, entry, vocabulary=getattr(config, "vocab_size", None))
    if HEADS[head].predicts:
        suitability.check_answers(model, tokenizer)
    return model, tokenizer


def build(
    entry: ModelEntry, *, head: str = VOCABULARY.name, labels: Sequence[str] | None = None, seed: int = 0
) -> PreTrainedModel:
    """The architecture of an entry with random weights (eval mode, fp32, CPU); the same seed gives the same bits.

    head: one of zoo.outputs.HEADS; the encoder has its pooler, a labelled head gets `labels`. Needs no network access.
    Raises Unavailable if this version lacks the architecture, or its configuration was not published.
    """
    config = build_config(entry)
    if labels is not None:
        _set_labels(config, labels)
    with _quiet(), seeded(seed):
        return quicken(_model_class(config, head)(config)).eval()


def save(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase | None,
    folder: Path,
    *,
    dtype: torch.dtype | None = None,
) -> None:
    """Write config, one safetensors file and the tokenizer into `folder`; `dtype` is the number format on disk."""
    stored = model
    if dtype is not None:
        stored = copy.deepcopy(model).to(dtype)  # type: ignore[arg-type]  # transformers wraps `to` without its types
    with _quiet():
        stored.save_pretrained(folder, max_shard_size="100GB")
        if tokenizer is not None:
            tokenizer.save_pretrained(folder)


def fetch(entry: ModelEntry, *, allow_pickle: bool = False) -> Path:
    """The folder with an entry's weights; downloads them to STILLROOM_HOME/models/<id> if they are not here yet.

    Only this function uses the network. A pickle is read once, tensors only, in a separate process, and stored as
    safetensors. Raises Unavailable, Refused (a pickle without `allow_pickle`) or CorruptFile.
    """
    if entry.source != "hub" or weights_here(entry):
        return Path(resolve(entry.id).path)
    if not entry.hub_id or not entry.loads:
        why = entry.cannot_build or "Its weights were not published."
        raise Unavailable(f"{entry.id} cannot be fetched. {why}", next_step=remedies(entry))

    from trainer.models.convert import convert_apart  # not at the top: it also runs as a program

    def fill(draft: Path) -> None:
        weights = hub.download(entry, draft, allow_pickle=allow_pickle)
        if weights.name == hub.PICKLE:
            convert_apart(weights, draft / WEIGHTS)
        check_folder(draft)
        check_hashes(draft, entry.files)

    commit_folder(fetched(entry), fill)
    return fetched(entry)


def build_config(entry: ModelEntry) -> PreTrainedConfig:
    """The configuration of an entry's published architecture. Raises Unavailable if it cannot be built."""
    if entry.cannot_build:
        raise Unavailable(f"{entry.id} cannot be built here. {entry.cannot_build}", next_step=remedies(entry))
    shape = dict(entry.architecture)
    return CONFIG_MAPPING[shape.pop("model_type")](**shape)


def _read_config(folder: Path, entry: ModelEntry | None, outputs: Outputs) -> PreTrainedConfig:
    fields = read_json(folder / "config.json") or {}
    fields["architectures"] = [outputs.class_name] if outputs.class_name else None
    if len(outputs.labels) == 1 and fields.get("problem_type") == ONE:  # transformers would fail without a clear reason
        check_predicts_labels(ONE, outputs.labels)
    if outputs.labels:
        fields |= {"id2label": dict(enumerate(outputs.labels)), "num_labels": len(outputs.labels)}
        fields["label2id"] = {label: number for number, label in enumerate(outputs.labels)}
    model_type = fields["model_type"] = _model_type(fields, entry)
    if not isinstance(model_type, str) or model_type not in CONFIG_MAPPING:
        raise _unsupported(folder, f"the architecture {model_type!r:.80}")
    if "quantization_config" in fields:
        raise _unsupported(folder, "quantised weights")
    try:
        config = CONFIG_MAPPING[model_type].from_dict(
            {name: value for name, value in fields.items() if name not in _IGNORED_FIELDS}
        )
        check_document_reading(config)
    except (ValueError, TypeError, KeyError, AttributeError, StrictDataclassError) as error:
        raise suitability.bad_config(model_type, f"of {folder}", error) from None
    return config


def _unsupported(folder: Path, requirement: str) -> Unavailable:
    return Unavailable(
        f"{folder} needs {requirement}, which this version does not support.", next_step="Choose another checkpoint."
    )


def _model_type(fields: Mapping[str, Any], entry: ModelEntry | None) -> object:
    """The model_type of config.json, or of the zoo entry or class for types that config.json misnames (trap T11)."""
    class_name = class_of(fields).lower()
    listed = entry.architecture["model_type"] if entry else None
    corrected = (name for name in (*ARCHITECTURES, *MISNAMED) if name == listed or class_name.startswith(name))
    return next(corrected, fields.get("model_type"))


def _require_head(outputs: Outputs, folder: Path) -> str:
    if outputs.head is None:
        endings = [ending for head in HEADS.values() for ending in head.endings]
        raise Unavailable(
            f"{folder} holds a {outputs.class_name}, which this version does not support.",
            next_step=f"Choose a model whose class ends in one of: {', '.join(endings)}.",
        )
    return outputs.head


def _model_class(config: PreTrainedConfig, head: str) -> type[PreTrainedModel]:
    if type(config) not in CLASSES[head]:
        raise Unavailable(f"There is no {head} head for {config.model_type}.", next_step="Choose another model.")
    return CLASSES[head][type(config)]


def _log_scheme(outputs: Outputs, folder: Path) -> None:
    """Log how a tagger's labels are read, unless they are IOB2. Unusable labels are reported when tags are read."""
    with suppress(BadSpec):
        tag_set = tags.read(outputs.labels)
        if tag_set.scheme != "IOB2":
            kinds = ", ".join(tag_set.kinds)
            log.warning("The labels of %s are read as %s, of the entity types %s.", folder, tag_set.scheme, kinds)


def _set_labels(config: PreTrainedConfig, labels: Sequence[str]) -> None:
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: index for index, label in enumerate(labels)}


def _read_weights(model: ResolvedModel) -> dict[str, torch.Tensor]:
    # The file is read once and the same bytes are hashed and used, since it may change in between.
    data = (Path(model.path) / WEIGHTS).read_bytes()
    if hashlib.sha256(data).hexdigest() != model.sha256:
        raise CorruptFile(
            f"{WEIGHTS} of {model.path} has changed since {model.reference} was resolved.",
            next_step="Submit or ask again, so that the reference is resolved again.",
        )
    try:
        return read_tensors(data)
    except SafetensorError as error:
        raise CorruptFile(f"{WEIGHTS} of {model.path} is damaged ({error}).") from None


def _assemble(
    cls: type[PreTrainedModel],
    config: PreTrainedConfig,
    weights: Mapping[str, torch.Tensor],
    *,
    new_head: bool,
    seed: int,
) -> PreTrainedModel:
    """An instance of cls with these tensors. A new head uses none of them; no other part may lack any (trap T11)."""
    options: dict[str, Any] = {}
    if "add_pooling_layer" in inspect.signature(cls).parameters and not any("pooler." in name for name in weights):
        options["add_pooling_layer"] = False  # no pooler is better than a random one
    with _quiet(), seeded(seed), suitability.buildable(cls, config):
        loaded: Any = cls.from_pretrained(  # a pair with output_loading_info, which its types do not say
            None,
            config=config,
            state_dict=dict(weights),
            dtype=torch.float32,
            ignore_mismatched_sizes=True,  # they are checked below
            output_loading_info=True,
            **options,
        )
    model: PreTrainedModel
    loading_info: dict[str, Any]
    model, loading_info = loaded
    missing = {*loading_info["missing_keys"], *(name for name, *_ in loading_info["mismatched_keys"])}
    encoder = f"{cls.base_model_prefix}."
    # A pooler is a module of the encoder but belongs to the head: taggers and masked LMs have none.
    _check_complete(
        [name for name in sorted(missing) if not new_head or (name.startswith(encoder) and ".pooler." not in name)], cls
    )
    unused = loading_info["unexpected_keys"]
    suitability.check_layers(unused, cls)
    if unused:
        log.info("%d tensors are not used by %s and were left out.", len(unused), cls.__name__)
    if config.model_type == "mobilebert":
        # MobileBERT adds the next piece's embedding to each piece's. After the end of a text that is zero, so padding,
        # which stands there in a batch, must be zero as well; published files hold another row.
        model.get_input_embeddings().get_parameter("weight").data[config.pad_token_id or 0] = 0
    if new_head and cls in (CLASSES[name].get(type(config), None) for name, head in HEADS.items() if head.labelled):
        _initialise_head(model, missing, std=getattr(config, "initializer_range", 0.02), seed=seed)
    return model


def _check_complete(missing: Sequence[str], cls: type[PreTrainedModel]) -> None:
    if missing:
        raise CorruptFile(
            f"The weights do not fit {cls.__name__}: {len(missing)} tensors are missing or have a different shape, "
            f"such as {', '.join(missing[:3])}.",
            next_step="The file is incomplete, or its config.json names the wrong architecture. "
            "Fetch it again or choose another model.",
        )


def _initialise_head(model: PreTrainedModel, missing: Collection[str], *, std: float, seed: int) -> None:
    """Initialise the output layer, and every layer below it that the file lacks, from a normal distribution."""
    # With a separate generator, so that the head does not depend on what the library draws while it loads.
    noise = torch.Generator().manual_seed(seed)
    for name, layer in model.named_modules():
        in_encoder = name.startswith(f"{model.base_model_prefix}.") and ".pooler." not in name
        if not isinstance(layer, torch.nn.Linear):
            continue
        is_output = not in_encoder and layer.out_features == model.config.num_labels  # its name varies
        if is_output or f"{name}.weight" in missing:
            torch.nn.init.normal_(layer.weight, std=std, generator=noise)
            if layer.bias is not None:
                torch.nn.init.zeros_(layer.bias)


def _read_tokenizer(folder: Path, entry: ModelEntry | None, *, vocabulary: int | None) -> PreTrainedTokenizerBase:
    if not any((folder / name).is_file() for name in _VOCABULARIES):
        raise Unavailable(f"{folder} has no tokenizer.", next_step=_COPY_TOKENIZER)
    options: dict[str, bool | None] = {}
    if entry and entry.tokenizer["kind"] == "wordpiece":
        options["do_lower_case"] = entry.tokenizer["lower_case"]  # trap T12: published files may be wrong
    tokenizer = _open_tokenizer(folder, options)
    if entry is None and not (folder / ABOUT).is_file():  # a model trained here keeps the settings of its training
        stated = read_json(folder / "tokenizer_config.json") or {}
        if corrections := casing.corrections(tokenizer, stated, where=str(folder)):
            tokenizer = _open_tokenizer(folder, corrections)
            casing.correct(tokenizer, corrections)
            shown = ", ".join(f"{name}: {str(value).lower()}" for name, value in corrections.items())
            log.warning("The vocabulary of %s contradicts its other files; it is read with %s.", folder, shown)
    if not tokenizer.is_fast:
        raise Unavailable(
            f"The tokenizer of {folder} ({type(tokenizer).__name__}) does not report where its pieces are in a text.",
            next_step="Choose a model whose folder has a tokenizer.json.",
        )
    if vocabulary is not None and len(tokenizer) > vocabulary:  # a CANINE has no vocabulary
        raise CorruptFile(
            f"The tokenizer of {folder} has {len(tokenizer):,} pieces, its model only {vocabulary:,}.",
            next_step=_COPY_TOKENIZER,
        )
    if entry:
        tokenizer.model_max_length = entry.max_tokens
    return tokenizer


def _open_tokenizer(folder: Path, options: Mapping[str, bool | None]) -> PreTrainedTokenizerBase:
    try:
        with _quiet():
            return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False, **options)
    except Exception as error:  # the tokenizers library raises bare Exception for a file it cannot parse
        raise CorruptFile(
            f"The tokenizer of {folder} cannot be read ({type(error).__name__}).", next_step=_COPY_TOKENIZER
        ) from None


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """In the block torch draws from `seed`; after it, torch's generator continues where it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the library's progress bars and load reports; what matters in them is raised or logged here."""
    level, bars = library_logging.get_verbosity(), library_logging.is_progress_bar_enabled()
    library_logging.set_verbosity_error()
    library_logging.disable_progress_bar()
    try:
        yield
    finally:
        library_logging.set_verbosity(level)
        if bars:
            library_logging.enable_progress_bar()
