"""Whether a model supports the way text is read here: as text alone, with many windows in one padded batch.

The class is checked before the weights are read. The loaded model is then tried on a few pieces: its output for a text
must not depend on the other texts in the batch, nor on token types from its tokenizer, which are not passed to it.
"""

import inspect
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from transformers import PreTrainedConfig, PreTrainedModel

from trainer.datasets.rows.batches import pad
from trainer.datasets.rows.pieces import frame
from trainer.errors import CorruptFile, Unavailable
from trainer.models.heads import evaluating, inputs, logits_of, model_limit

# Architectures that the tests cover, so they are not tried each time they are loaded.
TESTED = (
    "albert",
    "bert",
    "big_bird",
    "camembert",
    "deberta",
    "deberta-v2",
    "distilbert",
    "electra",
    "longformer",
    "minialbert",
    "mobilebert",
    "modernbert",
    "mpnet",
    "roberta",
    "ultrabert",
    "xlm-roberta",
)
ENCODERS = "Choose a text encoder, such as a BERT, RoBERTa, DeBERTa or ModernBERT."
_NOT_IN_TEXT = {  # parameters of a forward pass for what a note does not have
    "bbox": "the position of each word on a page",
    "image": "images",
    "pixel_values": "images",
    "xpath_tags_seq": "the markup of a page",
    "input_shape_ids": "the shape of each character",
}
_TOLERANCE = 1e-4  # of the largest logit; rounding in fp32 stays far below
_IN_LAYER = re.compile(
    r"(^|\.)(layers?|h|blocks?|block_list)\.\d+\..*weight$"
)  # not buffers, which older files still hold
LENGTHS = (4, 5, 7, 11, 40)  # of the trial texts, in pieces


def check_class(cls: type[PreTrainedModel], config: PreTrainedConfig) -> None:
    """Raise Unavailable for a class that needs more than text, or that has an encoder and a decoder."""
    parameters = inspect.signature(cls.forward).parameters
    extra_input = next((what for name, what in _NOT_IN_TEXT.items() if name in parameters), None)
    modalities = {cls.input_modalities} if isinstance(cls.input_modalities, str) else {*cls.input_modalities}
    if not extra_input and (modalities != {"text"} or hasattr(config, "vision_config")):
        extra_input = "images or sound"
    if extra_input:
        raise Unavailable(f"A {cls.__name__} reads more than text: {extra_input}.", next_step=ENCODERS)
    if config.is_encoder_decoder:
        raise Unavailable(
            f"A {cls.__name__} has an encoder and a decoder, which this version does not support.", next_step=ENCODERS
        )


@contextmanager
def buildable(cls: type[PreTrainedModel], config: PreTrainedConfig) -> Iterator[None]:
    """Raise CorruptFile instead of an error in the block if no network of this class can have these sizes."""
    try:
        yield
    except Exception:
        try:
            with torch.device("meta"):  # needs no memory, so lack of memory is not the cause
                cls(config)
        except Exception as error:
            raise bad_config(config.model_type, "of the model", error) from None
        raise


def bad_config(model_type: str, where: str, error: Exception) -> CorruptFile:
    """The error for a config.json with values that its architecture cannot have."""
    why = f"{type(error).__name__}: {' '.join(str(error).split()):.160}"
    return CorruptFile(
        f"config.json {where} is not a valid {model_type} config ({why}).",
        next_step="Fetch or copy the model again, or correct the file.",
    )


def check_layers(left_out: Sequence[str], cls: type[PreTrainedModel]) -> None:
    """Raise CorruptFile if weights of a layer were left out: the network lacks a layer, or a part of each layer."""
    layers = sorted(name for name in left_out if _IN_LAYER.search(name))
    if layers:
        raise CorruptFile(
            f"config.json describes a smaller network than the weights: {len(layers)} tensors of layers are not part "
            f"of {cls.__name__}, such as {', '.join(layers[:3])}.",
            next_step="Correct config.json (num_hidden_layers), or choose another checkpoint.",
        )


def check_answers(model: PreTrainedModel, tokenizer: Any) -> None:
    """Raise Unavailable if a model's logits for a text depend on the batch around it, or need more than ids and a mask.

    An architecture in TESTED is tried only if its tokenizer gives token types other than 0.
    """
    trial = _Trial.of(model, tokenizer)
    if not trial.texts or (model.config.model_type in TESTED and not any(trial.types)):
        return
    try:
        with evaluating(model), torch.inference_mode():
            alone = [_logits(model, [text]) for text in trial.texts]
            batched = _logits(model, trial.texts, pad_id=trial.pad_id)
            typed = _logits(model, trial.texts[:1], types=trial.types)
    except Exception as error:  # whatever an unknown architecture raises when it lacks an input
        raise Unavailable(
            f"A {type(model).__name__} cannot read texts of different lengths in one batch from ids and a mask alone "
            f"({type(error).__name__}).",
            next_step=_remedy(model, trial),
        ) from error
    for one, other in zip(alone, batched, strict=True):
        other = other[None, : one.shape[1]]  # without the padding, if there are logits for each piece
        _require_equal(one, other, "next to a longer one: it reads padding as text", model, trial)
    _require_equal(alone[0], typed, "with its tokenizer's token types, which this version does not pass", model, trial)


def largest_difference(one: torch.Tensor, other: torch.Tensor) -> float:
    """The largest difference between logits that should be equal; 0 if rounding explains it."""
    largest = float((one - other).abs().max())
    return largest if largest > _TOLERANCE * float(one.abs().max()) else 0.0


class _Trial(NamedTuple):
    """A short text and longer ones, as piece ids. types: token types of the short one, empty if there are none."""

    texts: list[list[int]]
    types: list[int]
    pad_id: int

    @classmethod
    def of(cls, model: PreTrainedModel, tokenizer: Any) -> "_Trial":
        has_types = "token_type_ids" in {*tokenizer.model_input_names} & {*inspect.signature(model.forward).parameters}
        probe = tokenizer("a b c", truncation=False, padding=False)
        ids, (before, after, pad_id, *_) = probe["input_ids"], frame(tokenizer)
        pieces = ids[len(before) : len(ids) - len(after)]
        room = model_limit(model, tokenizer) - len(before) - len(after)
        longer = [[*before, *(pieces * size)[: min(size, room)], *after] for size in LENGTHS]
        return cls([ids, *longer] if pieces else [], probe["token_type_ids"] if has_types else [], pad_id)


def _logits(
    model: PreTrainedModel, texts: list[list[int]], *, types: Sequence[int] = (), pad_id: int = 0
) -> torch.Tensor:
    ids = pad(texts, value=pad_id)
    mask = (torch.arange(ids.shape[1]) < torch.tensor([len(text) for text in texts])[:, None]).long()
    type_ids = {"token_type_ids": torch.tensor([types])} if len(types) else {}
    return logits_of(model(**inputs(model, {"input_ids": ids, "attention_mask": mask}), **type_ids))


def _require_equal(alone: torch.Tensor, other: torch.Tensor, when: str, model: PreTrainedModel, trial: _Trial) -> None:
    if largest := largest_difference(alone, other):
        raise Unavailable(
            f"A {type(model).__name__} reads a text differently {when} (logits differ by up to {largest:.1g}).",
            next_step=_remedy(model, trial),
        )


def _remedy(model: PreTrainedModel, trial: _Trial) -> str:
    if model.config.pad_token_id == trial.pad_id:
        return ENCODERS
    return (
        f"config.json has the pad_token_id {model.config.pad_token_id}, but its tokenizer pads with {trial.pad_id}; "
        f"make them equal. {ENCODERS}"
    )
