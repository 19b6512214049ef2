"""BERT and RoBERTa lengthened: the same words for short text, windows for long, and a student of the result."""

import pytest
import torch
import transformers
from tiny_pair import TAGS
from transformers import AutoTokenizer, BertConfig, RobertaConfig

from trainer import models
from trainer.architectures import longformer
from trainer.architectures.lengthening import lengthen, lengthened_config
from trainer.errors import BadSpec
from trainer.inference import model_limit, predict
from trainer.models import seeded, students
from trainer.spec import Change, parse
from trainer.zoo import compatibility
from trainer.zoo.compatibility import check_change, sizes

POSITIONS = 40
HEADS = {
    ("bert", "mlm"): transformers.BertForMaskedLM,
    ("bert", "ner"): transformers.BertForTokenClassification,
    ("bert", "classification"): transformers.BertForSequenceClassification,
    ("bert", "encoder"): transformers.BertModel,
    ("roberta", "mlm"): transformers.RobertaForMaskedLM,
    ("roberta", "ner"): transformers.RobertaForTokenClassification,
    ("roberta", "classification"): transformers.RobertaForSequenceClassification,
}
LONG = {"attention": "sliding_window", "max_tokens": 100, "window": 32}


@pytest.fixture(scope="module")
def tokenizer(tiny_model):
    return AutoTokenizer.from_pretrained(tiny_model)


def base(kind, head, **changes):
    """A tiny model whose norms and biases are random too."""
    sizes = {
        "vocab_size": 30522,
        "hidden_size": 24,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 40,
        "initializer_range": 0.2,
        "layer_norm_eps": 1e-3,
        "id2label": dict(enumerate(TAGS)),
        "label2id": {tag: number for number, tag in enumerate(TAGS)},
    }
    if kind == "bert":
        config = BertConfig(**sizes | {"max_position_embeddings": POSITIONS} | changes)
    else:
        config = RobertaConfig(**sizes | {"max_position_embeddings": POSITIONS + 2, "type_vocab_size": 1} | changes)
    with seeded(0), torch.no_grad():
        model = HEADS[kind, head](config)
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.normal_(0.5, 0.3)
    return model.eval()


def longer(model, tokenizer, **change):
    return students.make(model, tokenizer, Change(**LONG | change), texts=lambda: [])


def inputs(tokens, *, pad_id, padded=0):
    ids = torch.randint(1000, 30000, (2, tokens), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    if padded:
        ids[1, -padded:], mask[1, -padded:] = pad_id, 0
    return {"input_ids": ids, "attention_mask": mask}


@torch.no_grad()
def states_of(model, tensors):
    output = model(**tensors)
    return output.logits if "logits" in output else output.last_hidden_state


@pytest.mark.parametrize(("kind", "head"), HEADS)
def test_short_text_is_read_as_before(kind, head, tokenizer):
    model = base(kind, head)
    made, cutter = longer(model, tokenizer)
    assert type(made).__name__ == type(model).__name__.replace(kind.capitalize(), "Longformer")
    assert isinstance(made.base_model, longformer.LongformerModel) and not made.training
    for tensors in (
        inputs(17, pad_id=model.config.pad_token_id),
        inputs(17, pad_id=model.config.pad_token_id, padded=5),
    ):
        real = ... if head == "classification" else tensors["attention_mask"].bool()
        torch.testing.assert_close(states_of(made, tensors)[real], states_of(model, tensors)[real], rtol=0, atol=1e-5)
    far = inputs(POSITIONS, pad_id=model.config.pad_token_id)
    assert not torch.allclose(states_of(made, far), states_of(model, far), atol=1e-3), "it differs beyond the window"
    assert (model_limit(made, cutter), cutter.model_max_length) == (100, 100)
    assert states_of(made, inputs(100, pad_id=model.config.pad_token_id)).isfinite().all()
    assert made.config.id2label == model.config.id2label
    assert tokenizer.model_max_length != 100, "the tokenizer of the base is left alone"


def test_a_window_over_everything_changes_nothing_up_to_the_old_length(tokenizer):
    model = base("roberta", "mlm")
    made, _ = longer(model, tokenizer, window=2 * POSITIONS)
    tensors = inputs(POSITIONS, pad_id=1, padded=7)
    real = tensors["attention_mask"].bool()
    torch.testing.assert_close(states_of(made, tensors)[real], states_of(model, tensors)[real], rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_positions_repeat_and_global_projections_are_copies(kind, tokenizer):
    model = base(kind, "mlm")
    made, _ = longer(model, tokenizer)
    table, base_table = (m.base_model.embeddings.position_embeddings.weight for m in (made, model))
    first, theirs = made.config.pad_token_id + 1, 0 if kind == "bert" else 2
    assert len(table) == 100 + first and not table[:first].any()
    for place in (0, 1, POSITIONS - 1, POSITIONS, POSITIONS + 5, 99):
        assert torch.equal(table[first + place], base_table[theirs + place % POSITIONS])
    for layer, source in zip(made.base_model.encoder.layer, model.base_model.encoder.layer, strict=True):
        for part in ("query", "key", "value"):
            expected = getattr(source.attention.self, part).weight
            copies = [getattr(layer.attention.self, name).weight for name in (part, f"{part}_global")]
            assert all(torch.equal(weight, expected) for weight in copies)
            assert len({weight.data_ptr() for weight in (*copies, expected)}) == 3
    assert made.lm_head.decoder.weight is made.get_input_embeddings().weight


def test_other_changes_come_first_and_the_default_window_is_512(tokenizer):
    model = base("bert", "ner")
    made, _ = longer(model, tokenizer, layers=2, layer_map=(3, 1), window=None)
    assert made.config.attention_window == [512, 512]
    short, _ = students.make(model, tokenizer, Change(layers=2, layer_map=(3, 1)), texts=lambda: [])
    tensors = inputs(POSITIONS, pad_id=0)
    torch.testing.assert_close(states_of(made, tensors), states_of(short, tensors), rtol=0, atol=1e-5)


def test_it_is_saved_and_loaded_as_a_longformer(tokenizer, tmp_path):
    made, cutter = longer(base("bert", "ner"), tokenizer)
    models.save(made, cutter, tmp_path / "long")
    loaded, again = models.load(str(tmp_path / "long"))
    tensors = inputs(70, pad_id=0)
    assert torch.equal(states_of(loaded, tensors), states_of(made, tensors)) and again.model_max_length == 100
    prediction = predict("fever and pain " * 80, loaded, again, name="long")
    assert prediction.coverage.windows > 1 and prediction.coverage.tokens_read == prediction.coverage.tokens == 240


def test_a_lengthened_teacher_has_students(tokenizer):
    teacher, cutter = longer(base("bert", "mlm"), tokenizer)
    teacher.config.attention_window = [32, 8, 16]
    for layer, window in zip(teacher.longformer.encoder.layer, (32, 8, 16), strict=True):
        layer.attention.self.one_sided_attn_window_size = window // 2
    student, _ = students.make(teacher, cutter, Change(layers=2, layer_map=(1, 3)), texts=lambda: [])
    assert student.config.attention_window == [32, 16]
    assert [layer.attention.self.one_sided_attn_window_size for layer in student.longformer.encoder.layer] == [16, 8]
    mine, theirs = student.longformer.encoder.layer[1].state_dict(), teacher.longformer.encoder.layer[2].state_dict()
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
    assert isinstance(student.base_model, longformer.LongformerModel), "a student's attention is fast too"
    whole, _ = students.make(teacher, cutter, Change(layers=3, layer_map=(1, 2, 3)), texts=lambda: [])
    assert torch.equal(states_of(whole, inputs(90, pad_id=0)), states_of(teacher, inputs(90, pad_id=0)))


@pytest.mark.parametrize(
    ("kind", "change", "field"),
    [
        ("albert", LONG, "student.base"),
        ("distilbert", LONG, "student.attention"),
        ("longformer", LONG, "student.attention"),
        ("bert", LONG | {"architecture": "minialbert", "start": "random"}, "student.attention"),
        ("bert", {"max_tokens": 4096}, "student.max_tokens"),
        ("bert", {"window": 64}, "student.window"),
    ],
)
def test_what_cannot_be_lengthened_is_named(kind, change, field):
    shape = sizes(BertConfig().to_dict()).model_copy(update={"model_type": kind})
    with pytest.raises(BadSpec) as error:
        check_change(Change(**change), shape)
    assert field in dict(error.value.fields)


def test_its_shape_is_predicted(tokenizer):
    model = base("bert", "mlm")
    made, _ = longer(model, tokenizer, layers=2)
    foretold = check_change(Change(**LONG, layers=2), sizes(model.config.to_dict()))
    assert (foretold.model_type, foretold.positions, foretold.layers) == ("longformer", 101, 2)
    assert sizes(made.config.to_dict()) == foretold


def test_attention_of_a_longformer_cannot_be_compared():
    shape = sizes(BertConfig().to_dict())
    spec = {"kind": "distill", "teacher": "a", "student": {"layers": 4} | LONG, "dataset": "d"}
    problems = {}
    for recipe in ("compact", "minilm", "distil"):
        try:
            compatibility.check(parse(spec | {"recipe": recipe}), shape, shape)
            problems[recipe] = ""
        except BadSpec as error:
            problems[recipe] = dict(error.fields)["recipe"]
    assert problems.pop("distil") == "" and all("does not expose" in problem for problem in problems.values())


def test_another_activation_in_the_head_is_refused(tokenizer):
    model = base("bert", "mlm", hidden_act="relu")
    with pytest.raises(BadSpec, match="relu"):
        longer(model, tokenizer)
    tagger, _ = longer(base("bert", "ner", hidden_act="relu"), tokenizer)
    assert tagger.config.hidden_act == "relu", "a tagger has no such head"
    config = lengthened_config(model.config, tokenizer, max_tokens=50)
    with pytest.raises(BadSpec):
        lengthen(model, transformers.LongformerForMaskedLM(config), tokenizer, max_tokens=50)


@pytest.mark.parametrize("change", [{"window": 7}, {"max_tokens": 4}, {"attention": "full"}])
def test_fields_have_limits(change):
    spec = {"kind": "pretrain", "model": {"base": "minilm"} | LONG | change, "dataset": "clinical-text"}
    with pytest.raises(BadSpec, match=f"model.{next(iter(change))}"):
        parse(spec)
