"""Whether a model can be read as everything is read here: text alone, windows of many texts in one padded batch.

What its class says is asked before its weights are read. What it does is tried on a few pieces: an answer that changes
with the texts beside it, or with what its tokenizer would have told it, is no answer to a text.
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
from trainer.models.heads import evaluating, inputs, model_limit

# Architectures that tests have tried: they are not tried again each time they are loaded.
TRIED = ("albert", "bert", "big_bird", "camembert", "deberta", "deberta-v2", "distilbert", "electra", "longformer")
TRIED += ("minialbert", "mobilebert", "modernbert", "mpnet", "roberta", "ultrabert", "xlm-roberta")
ENCODERS = "Choose an encoder of text, such as a BERT, RoBERTa, DeBERTa or ModernBERT."
_MORE = {  # parameters of a forward pass that stand for what a note does not have
    "bbox": "the place of each word on a page",
    "image": "images",
    "pixel_values": "images",
    "xpath_tags_seq": "the mark-up of a page",
    "input_shape_ids": "the shape of each character",
}
_ALIKE = 1e-4  # of the largest logit; rounding in fp32 stays far below
_IN_LAYER = re.compile(r"(^|\.)(layers?|h|blocks?|block_list)\.\d+\..*weight$")  # buffers of older files are none
LENGTHS = (4, 5, 7, 11, 40)  # pieces of the texts of a trial


def check_class(cls: type[PreTrainedModel], config: PreTrainedConfig) -> None:
    """Raise Unavailable for a class that reads more than text, or that writes text and so has two networks."""
    asked = inspect.signature(cls.forward).parameters
    wanted = next((what for name, what in _MORE.items() if name in asked), None)
    modalities = {cls.input_modalities} if isinstance(cls.input_modalities, str) else {*cls.input_modalities}
    if not wanted and (modalities != {"text"} or hasattr(config, "vision_config")):
        wanted = "images or sound"
    if wanted:
        raise Unavailable(f"A {cls.__name__} reads more than text: {wanted}.", next_step=ENCODERS)
    if config.is_encoder_decoder:
        raise Unavailable(
            f"A {cls.__name__} is made of an encoder and a decoder, which this version does not read.",
            next_step=ENCODERS,
        )


@contextmanager
def buildable(cls: type[PreTrainedModel], config: PreTrainedConfig) -> Iterator[None]:
    """CorruptFile instead of an error in the block, where no network can have these sizes, whatever its weights."""
    try:
        yield
    except Exception:
        try:
            with torch.device("meta"):  # takes no memory, so that this is not what is missing
                cls(config)
        except Exception as error:
            raise bad_config(config.model_type, "of the model", error) from None
        raise


def bad_config(kind: str, where: str, error: Exception) -> CorruptFile:
    """What to say of a config.json that holds what its architecture cannot have."""
    why = f"{type(error).__name__}: {' '.join(str(error).split()):.160}"
    return CorruptFile(
        f"config.json {where} is not a valid {kind} config ({why}).",
        next_step="Fetch or copy the model again, or correct the file.",
    )


def check_layers(left_out: Sequence[str], cls: type[PreTrainedModel]) -> None:
    """Raise CorruptFile where weights of a layer have no place in the network: a layer left out, or a part of each."""
    layers = sorted(name for name in left_out if _IN_LAYER.search(name))
    if layers:
        raise CorruptFile(
            f"config.json describes a smaller network than the weights are of: {len(layers)} tensors of layers have no "
            f"place in {cls.__name__}, such as {', '.join(layers[:3])}.",
            next_step="Correct config.json (num_hidden_layers), or choose a checkpoint that this version reads whole.",
        )


def check_answers(model: PreTrainedModel, tokenizer: Any) -> None:
    """Raise Unavailable where a model with a head answers a text otherwise beside longer ones, or needs more than ids
    and a mask. An architecture of TRIED is taken as it is.
    """
    trial = _Trial.of(model, tokenizer)
    if not trial.texts or (model.config.model_type in TRIED and not any(trial.types)):
        return
    try:
        with evaluating(model), torch.inference_mode():
            alone = [_logits(model, [text]) for text in trial.texts]
            beside = _logits(model, trial.texts, pad_id=trial.pad_id)
            typed = _logits(model, trial.texts[:1], types=trial.types)
    except Exception as error:  # whatever an unknown architecture raises where it lacks an input
        raise Unavailable(
            f"A {type(model).__name__} cannot read texts of different length in one batch, by ids and a mask alone "
            f"({type(error).__name__}).",
            next_step=_remedy(model, trial),
        ) from error
    for one, other in zip(alone, beside, strict=True):
        other = other[None, : one.shape[1]]  # without the padding, where there are logits for each piece
        _require_alike(one, other, "when a longer one stands beside it: it takes padding for text", model, trial)
    _require_alike(
        alone[0], typed, "by the token types of its tokenizer, which this version does not pass on", model, trial
    )


def unlike(one: torch.Tensor, other: torch.Tensor) -> float:
    """The largest difference of two answers that should be one; 0 where rounding explains it."""
    difference = float((one - other).abs().max())
    return difference if difference > _ALIKE * float(one.abs().max()) else 0.0


class _Trial(NamedTuple):
    """Texts of few and many pieces, and the first one's token types (none where model or tokenizer have none)."""

    texts: list[list[int]]
    types: list[int]
    pad_id: int

    @classmethod
    def of(cls, model: PreTrainedModel, tokenizer: Any) -> "_Trial":
        typed = "token_type_ids" in {*tokenizer.model_input_names} & {*inspect.signature(model.forward).parameters}
        probe = tokenizer("a b c", truncation=False, padding=False)
        ids, (before, after, pad_id) = probe["input_ids"], frame(tokenizer)
        pieces = ids[len(before) : len(ids) - len(after)]
        room = model_limit(model, tokenizer) - len(before) - len(after)
        longer = [[*before, *(pieces * size)[: min(size, room)], *after] for size in LENGTHS]
        return cls([ids, *longer] if pieces else [], probe["token_type_ids"] if typed else [], pad_id)


def _logits(model: PreTrainedModel, texts: list[list[int]], *, types: Sequence[int] = (), pad_id: int = 0):
    ids = pad(texts, value=pad_id)
    mask = (torch.arange(ids.shape[1]) < torch.tensor([len(text) for text in texts])[:, None]).long()
    more = {"token_type_ids": torch.tensor([types])} if len(types) else {}
    return model(**inputs(model, {"input_ids": ids, "attention_mask": mask}), **more).logits


def _require_alike(alone: torch.Tensor, other: torch.Tensor, why: str, model: PreTrainedModel, trial: _Trial) -> None:
    if difference := unlike(alone, other):
        raise Unavailable(
            f"A {type(model).__name__} answers a text otherwise {why} (logits differ by up to {difference:.1g}).",
            next_step=_remedy(model, trial),
        )


def _remedy(model: PreTrainedModel, trial: _Trial) -> str:
    if model.config.pad_token_id == trial.pad_id:
        return ENCODERS
    return (
        f"Its config.json has the pad_token_id {model.config.pad_token_id} and its tokenizer pads with {trial.pad_id}: "
        f"make them one. {ENCODERS}"
    )
