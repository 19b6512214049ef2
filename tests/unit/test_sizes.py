"""Parameter counts from sizes: exactly those of the models that torch builds."""

import json

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoConfig, BertConfig, BigBirdConfig, DistilBertConfig, LongformerConfig, RobertaConfig

from trainer import models, zoo
from trainer.architectures.minialbert import MiniAlbertConfig
from trainer.models import CLASSES, students
from trainer.resolved import ResolvedModel
from trainer.spec import Change
from trainer.zoo import compatibility
from workbench.launch import sizes

CONFIGS = [
    BertConfig(vocab_size=700, hidden_size=48, num_hidden_layers=3, num_attention_heads=4, intermediate_size=96),
    RobertaConfig(
        vocab_size=700,
        hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=96,
        max_position_embeddings=130,
        type_vocab_size=1,
    ),
    LongformerConfig(
        vocab_size=700,
        hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=96,
        max_position_embeddings=514,
        type_vocab_size=1,
        attention_window=64,
    ),
    BigBirdConfig(vocab_size=700, hidden_size=48, num_hidden_layers=2, num_attention_heads=4, intermediate_size=96),
    DistilBertConfig(vocab_size=700, dim=48, n_layers=2, n_heads=4, hidden_dim=96),
    MiniAlbertConfig(
        vocab_size=700,
        embedding_size=32,
        hidden_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=96,
    ),
]


def counted(config, head: str) -> int:
    with torch.device("meta"):
        model = CLASSES[head][type(config)](config)
    return sum(parameter.numel() for parameter in model.parameters())


def shape_of(config, tmp_path) -> compatibility.Shape:
    config.save_pretrained(tmp_path)
    save_file({}, tmp_path / "model.safetensors")
    return compatibility.shape(ResolvedModel(reference="m", path=str(tmp_path), sha256="0" * 64))


@pytest.mark.parametrize("head", ["ner", "classification", "mlm"])
@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.model_type)
def test_the_formula_counts_what_torch_builds(config, head, tmp_path):
    config.id2label = dict(enumerate(("O", "B-X", "I-X")))
    parameters = sizes.size(
        shape_of(config, tmp_path),
        head=head,
        labels=3,
        change=Change(architecture="minialbert", embedding=32) if config.model_type == "minialbert" else None,
    )
    assert parameters.total == counted(config, head)
    assert 0 < parameters.embeddings < parameters.total


@pytest.mark.parametrize(
    "change",
    [
        Change(layers=1),
        Change(layers=2, hidden=16, heads=2, intermediate=24, start="embeddings"),
        Change(vocabulary=2000, layers=1),
        Change(architecture="minialbert", embedding=16, start="embeddings"),
        Change(attention="sliding_window", max_tokens=1024, window=32),
        Change(attention="sliding_window", layers=1, vocabulary=2000, intermediate=16),
    ],
)
def test_a_changed_model_has_the_size_that_is_foretold(change, tiny_model):
    base, tokenizer = models.load(str(tiny_model))
    words = [" ".join(piece for piece in tokenizer.get_vocab() if piece.isalpha())]
    made, _ = students.make(base, tokenizer, change, texts=lambda: words)
    shape = compatibility.changed(compatibility.shape(zoo.resolve(str(tiny_model))), change)
    assert sizes.size(shape, head="ner", labels=3, change=change).total == sum(p.numel() for p in made.parameters())


@pytest.mark.parametrize("kind", ["roberta", "bert"])
def test_a_lengthened_model_has_the_size_that_is_foretold(kind, tiny_model):
    """Also without a length of its own: then it has the base's, which a RoBERTa's table of positions exceeds."""
    _, tokenizer = models.load(str(tiny_model))
    options = {"vocab_size": len(tokenizer), "hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = {"roberta": RobertaConfig, "bert": BertConfig}[kind](**options, intermediate_size=32)
    base = CLASSES["mlm"][type(config)](config).eval()
    for change in (Change(attention="sliding_window"), Change(attention="sliding_window", max_tokens=96)):
        made, _ = students.make(base, tokenizer, change, texts=lambda: ())
        shape = compatibility.changed(compatibility.sizes(config.to_dict()), change)
        size = sizes.size(shape, head="mlm")
        assert size.total == sum(p.numel() for p in made.parameters())
        assert shape.positions == made.config.max_position_embeddings


def test_a_shape_that_no_formula_knows_is_counted_from_its_file(tiny_model, tmp_path):
    shape = compatibility.shape(zoo.resolve(str(tiny_model)))
    assert sizes.size(shape.model_copy(update={"model_type": "modernbert"}), head="ner", labels=3) is None
    assert sizes.stored_parameters(tiny_model) == json.loads((tiny_model / "stillroom.json").read_text())["params"]
    assert sizes.stored_parameters(tmp_path) is None
    assert AutoConfig.from_pretrained(tiny_model).model_type == "bert"
