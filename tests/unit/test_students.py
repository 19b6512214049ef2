"""Where a student's weights come from: layers by map, embeddings, head, a trimmed vocabulary, MiniALBERT."""

import copy

import numpy as np
import pytest
import torch
from tiny_pair import TAGS
from transformers import (
    AlbertConfig,
    AlbertForMaskedLM,
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    BertForTokenClassification,
    DistilBertConfig,
    DistilBertForMaskedLM,
    RobertaConfig,
    RobertaForMaskedLM,
)

from trainer import models
from trainer.architectures.minialbert import MiniAlbertForMaskedLM
from trainer.architectures.minialbert_heads import MiniAlbertForTokenClassification
from trainer.errors import BadSpec
from trainer.models import export, seeded
from trainer.models.students import make
from trainer.recipes.layer_maps import layer_map
from trainer.spec import Change

TEXTS = ["naloxone reverses the effect of clonidine .", "no adverse events were seen in the patients ."]
HEADS = {"mlm": BertForMaskedLM, "ner": BertForTokenClassification}


@pytest.fixture(scope="module")
def tokenizer(tiny_model):
    return AutoTokenizer.from_pretrained(tiny_model)


def base(head="mlm", *, layers=12, hidden=32, vocabulary=30522):
    config = BertConfig(
        vocab_size=vocabulary,
        num_hidden_layers=layers,
        hidden_size=hidden,
        num_attention_heads=4,
        intermediate_size=48,
        initializer_range=0.2,
        id2label=dict(enumerate(TAGS)),
        label2id={tag: number for number, tag in enumerate(TAGS)},
    )
    return uneven(HEADS[head], config)


def uneven(kind, config):
    """A model with weights from a seed, norms and biases too: a trained one's are not all 1 and 0 either."""
    with seeded(0), torch.no_grad():
        model = kind(config)
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.normal_(1.0, 0.3)
    return model.eval()


@pytest.fixture(scope="module")
def teacher():
    """A masked LM with as many layers as the papers' teachers have."""
    return base()


@pytest.fixture
def made(tokenizer):
    """made(base, change...) -> the student."""

    def build(base, *, seed=0, **change):
        return make(base, tokenizer, Change(**change), texts=lambda: TEXTS, seed=seed)[0]

    return build


def same(one, other):
    one, other = one.state_dict(), other.state_dict()
    return set(one) == set(other) and all(torch.equal(value, other[name]) for name, value in one.items())


def logits(model, tokenizer, texts=TEXTS):
    with torch.no_grad():
        return model(**tokenizer(list(texts), padding=True, return_tensors="pt")).logits


@pytest.mark.parametrize("layers", [4, 6])
@pytest.mark.parametrize("name", ["first", "last", "spread", "own"])
def test_layers_are_copied_as_the_map_says(teacher, made, layers, name):
    chosen = tuple(range(layers, 0, -1)) if name == "own" else name
    student = made(teacher, layers=layers, layer_map=chosen)
    stack, original = student.bert.encoder.layer, teacher.bert.encoder.layer
    assert len(stack) == student.config.num_hidden_layers == layers
    numbers = layer_map(chosen, layers, 12)
    assert all(same(stack[place], original[number - 1]) for place, number in enumerate(numbers))
    unlike = [number for number in range(1, 13) if number not in numbers]
    assert not any(same(stack[0], original[number - 1]) for number in unlike)
    assert same(student.bert.embeddings, teacher.bert.embeddings)


def test_the_student_shares_no_memory_with_its_base(teacher, made):
    student, before = made(teacher, layers=4), copy.deepcopy(teacher.state_dict())
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(1)
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())


def test_a_copy_of_everything_says_what_its_base_says(tokenizer, made):
    for head in HEADS:
        model = base(head, layers=2)
        student = made(model, layers=2)
        assert type(student) is type(model) and not student.training
        assert torch.equal(logits(student, tokenizer), logits(model, tokenizer))


def test_a_random_head_is_that_of_the_papers(teacher, made):
    """Encoder and embeddings are transferred; the transform and the bias are fresh, the decoder stays tied."""
    student, copied = made(teacher, layers=6, head="random"), made(teacher, layers=6)
    assert same(student.bert, copied.bert)
    mine, theirs = student.cls.predictions, teacher.cls.predictions
    assert not torch.equal(mine.transform.dense.weight, theirs.transform.dense.weight)
    assert mine.transform.dense.weight.std().item() == pytest.approx(0.2, rel=0.2)
    assert torch.equal(mine.transform.LayerNorm.weight, torch.ones(32))
    assert not mine.bias.any()
    for model in (student, copied):
        assert model.cls.predictions.decoder.weight is model.bert.embeddings.word_embeddings.weight
    assert torch.equal(mine.decoder.weight, theirs.decoder.weight)


def test_a_copied_head_is_copied_whole(teacher, made):
    assert same(made(teacher, layers=6).cls, teacher.cls)
    tagger = base("ner", layers=4)
    student = made(tagger, layers=2)
    assert same(student.classifier, tagger.classifier)
    assert student.config.id2label == dict(enumerate(TAGS))
    assert not same(made(tagger, layers=2, head="random").classifier, tagger.classifier)


def test_fresh_weights_are_fixed_by_the_seed(teacher, made):
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    one, again, other = (made(teacher, seed=seed, layers=2, start="random") for seed in (1, 1, 2))
    assert torch.equal(torch.rand(2), expected), "nobody else's random numbers are used up"
    assert same(one, again) and not same(one, other)
    assert not torch.equal(one.bert.embeddings.word_embeddings.weight, teacher.bert.embeddings.word_embeddings.weight)


def test_the_tinybert_shape_starts_at_random(teacher, made):
    student = made(teacher, layers=4, hidden=24, heads=12, intermediate=96, start="random")
    config = student.config
    assert (config.num_hidden_layers, config.hidden_size, config.intermediate_size) == (4, 24, 96)
    assert (config.num_attention_heads, config.vocab_size, config.max_position_embeddings) == (12, 30522, 512)
    spread = student.bert.encoder.layer[0].intermediate.dense.weight.std().item()
    assert spread == pytest.approx(config.initializer_range, rel=0.1)


def test_narrower_embeddings_keep_what_a_projection_of_that_width_can(teacher, made):
    """Principal components: no projection of this width is nearer to the distances between the base's rows."""
    table = teacher.bert.embeddings.word_embeddings.weight.detach()
    table[:, :8] *= 5  # so that some directions matter more
    student = made(teacher, layers=2, hidden=8, heads=2, start="embeddings")
    mine = student.bert.embeddings.word_embeddings.weight.detach()
    assert mine.shape == (30522, 8)
    explained = (mine - mine.mean(0)).square().sum()
    best = torch.linalg.svdvals((table - table.mean(0)).double())[:8].square().sum()
    assert explained.item() == pytest.approx(best.item(), rel=1e-4)
    turn = torch.linalg.lstsq(table, mine).solution
    positions = teacher.bert.embeddings.position_embeddings.weight.detach()
    assert torch.allclose(student.bert.embeddings.position_embeddings.weight, positions @ turn, atol=1e-3)
    table[:, :8] /= 5


def test_embeddings_of_the_same_width_are_taken_as_they_are(teacher, made):
    student = made(teacher, layers=3, intermediate=96, start="embeddings")
    assert same(student.bert.embeddings, teacher.bert.embeddings)
    assert not any(same(layer, teacher.bert.encoder.layer[0]) for layer in student.bert.encoder.layer)


@pytest.mark.parametrize("head", ["mlm", "ner"])
def test_a_trimmed_vocabulary_predicts_the_same(head, tokenizer, tmp_path):
    model = base(head, layers=3)
    change = Change(layers=3, vocabulary=1500)
    student, smaller = make(model, tokenizer, change, texts=lambda: TEXTS)
    rows = student.get_input_embeddings().weight
    assert len(rows) == student.config.vocab_size == len(smaller) < 1500
    ids = torch.tensor(tokenizer.convert_tokens_to_ids(smaller.convert_ids_to_tokens(list(range(len(smaller))))))
    expected = logits(model, tokenizer)
    expected = expected[..., ids] if head == "mlm" else expected
    assert torch.allclose(logits(student, smaller), expected, atol=1e-5)

    export.publish(tmp_path / "model", student, smaller, {"task": head})
    loaded, reread = models.load(str(tmp_path / "model"))
    assert torch.equal(logits(loaded, reread), logits(student, smaller))


def test_a_vocabulary_that_is_large_enough_is_left_alone(tokenizer, teacher):
    def texts():
        raise AssertionError("the texts were read")

    for size in (None, 30522):
        _, same_one = make(teacher, tokenizer, Change(layers=2, vocabulary=size), texts=texts)
        assert same_one is tokenizer


def test_padding_keeps_its_row_wherever_it_stands(made):
    from transformers import BertTokenizer

    pieces = ["[UNK]", "[CLS]", "[SEP]", "[MASK]", "zz", "a", "b", "[PAD]", *(f"unused{i}" for i in range(100))]
    tokenizer = BertTokenizer(vocab={piece: number for number, piece in enumerate(pieces)})
    model = base(layers=1, vocabulary=len(pieces))
    model.config.pad_token_id = 7
    student, smaller = make(model, tokenizer, Change(vocabulary=100), texts=lambda: ["a b a"])
    assert smaller.pad_token_id == student.config.pad_token_id == 6
    assert student.get_input_embeddings().padding_idx == 6


@pytest.mark.parametrize("head", ["mlm", "ner"])
def test_a_minialbert_student_of_a_bert_teacher(head, tokenizer, tmp_path):
    model = base(head, layers=4)
    change = Change(architecture="minialbert", layers=2, embedding=16, start="embeddings")
    student, _ = make(model, tokenizer, change, texts=lambda: TEXTS)
    kind = MiniAlbertForMaskedLM if head == "mlm" else MiniAlbertForTokenClassification
    assert type(student) is kind
    config = student.config
    assert (config.hidden_size, config.embedding_size, config.num_hidden_layers) == (32, 16, 2)
    assert (config.num_attention_heads, config.intermediate_size, config.vocab_size) == (4, 48, 30522)
    assert student.albert.projector.weight.shape == (32, 16)
    table = student.get_input_embeddings().weight.detach()
    assert table.square().sum() > 0.3 * model.get_input_embeddings().weight.square().sum()
    if head == "ner":
        assert config.id2label == dict(enumerate(TAGS))
    export.publish(tmp_path / "model", student, tokenizer, {"task": head})
    loaded, _ = models.load(str(tmp_path / "model"))
    assert type(loaded) is kind and torch.equal(logits(loaded, tokenizer), logits(student, tokenizer))


def test_a_minialbert_takes_unfactorised_and_trimmed_embeddings(tokenizer, teacher):
    change = Change(architecture="minialbert", layers=6, vocabulary=1500, start="embeddings")
    student, smaller = make(teacher, tokenizer, change, texts=lambda: TEXTS)
    ids = tokenizer.convert_tokens_to_ids(smaller.convert_ids_to_tokens(list(range(len(smaller)))))
    table = teacher.get_input_embeddings().weight[ids]
    assert torch.equal(student.get_input_embeddings().weight, table)
    assert same(student.albert.albert.embeddings.LayerNorm, teacher.bert.embeddings.LayerNorm)
    assert logits(student, smaller).shape[-1] == len(smaller)


SMALL = {"vocab_size": 30522, "num_hidden_layers": 4, "hidden_size": 32, "num_attention_heads": 4}
DISTILBERT = DistilBertConfig(vocab_size=30522, n_layers=4, dim=32, n_heads=4, hidden_dim=48)
ROBERTA = RobertaConfig(**SMALL, intermediate_size=48, max_position_embeddings=66)


@pytest.mark.parametrize(
    ("kind", "config", "stack"),
    [(DistilBertForMaskedLM, DISTILBERT, "transformer"), (RobertaForMaskedLM, ROBERTA, "encoder")],
    ids=["distilbert", "roberta"],
)
def test_other_families_copy_alike(kind, config, stack, made):
    model = uneven(kind, config)
    student = made(model, layers=2, layer_map="first")
    layers, originals = (getattr(each.base_model, stack).layer for each in (student, model))
    assert len(layers) == 2 and same(layers[0], originals[0]) and same(layers[1], originals[2])
    assert same(student.base_model.embeddings, model.base_model.embeddings)
    head = {name: value for name, value in model.state_dict().items() if not name.startswith(model.base_model_prefix)}
    assert head and all(torch.equal(student.state_dict()[name], value) for name, value in head.items())
    narrow = made(model, hidden=16, intermediate=24, start="embeddings")
    layer = getattr(narrow.base_model, stack).layer[0]
    assert {24, 16} == {max(p.shape) for p in layer.parameters()} | {min(p.shape) for p in layer.parameters()}


@pytest.mark.parametrize(
    ("kind", "config", "inner", "outer"),
    [
        (DistilBertForMaskedLM, DISTILBERT, "ffn.lin1", "ffn.lin2"),
        (RobertaForMaskedLM, ROBERTA, "intermediate.dense", "output.dense"),
    ],
    ids=["distilbert", "roberta"],
)
def test_the_strongest_neurons_are_those_with_the_largest_weights_on_either_side(kind, config, inner, outer, made):
    model = uneven(kind, config)
    student = made(model, layers=1, layer_map=(2,), intermediate=10)
    layers = [module for name, module in model.named_modules() if name.endswith("layer.1")]
    source, target = layers[0], next(m for name, m in student.named_modules() if name.endswith("layer.0"))
    (into, bias), out_of = source.get_submodule(inner).parameters(), source.get_submodule(outer).weight.detach()
    strength = {n: float(sum(into.detach()[n] ** 2) * sum(out_of[:, n] ** 2)) for n in range(48)}
    strongest = sorted(sorted(strength, key=strength.get)[-10:])
    assert torch.equal(target.get_submodule(inner).weight, into[strongest])
    assert torch.equal(target.get_submodule(inner).bias, bias[strongest])
    assert torch.equal(target.get_submodule(outer).weight, out_of[:, strongest])
    assert torch.equal(target.get_submodule(outer).bias, source.get_submodule(outer).bias)


def test_a_minialbert_of_a_distilbert(made, tokenizer):
    model = uneven(DistilBertForMaskedLM, DISTILBERT)
    student = made(model, architecture="minialbert", layers=2, start="embeddings")
    assert student.config.intermediate_size == 48
    assert torch.equal(student.get_input_embeddings().weight, model.get_input_embeddings().weight)
    assert logits(student, tokenizer).isfinite().all()


@pytest.mark.parametrize(
    ("change", "field", "message"),
    [
        ({"heads": 5}, "student.heads", "these do: 1, 2, 4, 8, 16, 32"),
        ({"hidden": 16}, "student.start", "hidden differ; write `start: embeddings`"),
        ({"heads": 8, "intermediate": 96}, "student.start", "heads, intermediate differ"),
        ({"layers": 13}, "student.layers", "1 to 12 layers"),
        ({"layers": 2, "layer_map": (1, 13)}, "student.layer_map", "Name 2 layers from 1 to 12"),
        ({"architecture": "minialbert"}, "student.start", "model_type differ"),
        ({"embedding": 16}, "student.embedding", "architecture: minialbert"),
        ({"hidden": 64, "start": "embeddings"}, "student.start", "64 wide cannot start from embeddings 32"),
        ({"architecture": "minialbert", "hidden": 24, "start": "random"}, "student.hidden", "multiple of 16"),
        ({"vocabulary": 100}, "student.vocabulary", "a few thousand"),
    ],
)
def test_a_change_that_does_not_fit_names_its_field(teacher, made, change, field, message):
    with pytest.raises(BadSpec) as error:
        made(teacher, **change)
    assert field in [name for name, _ in error.value.fields]
    assert message in str(error.value)


def test_an_architecture_whose_layers_are_shared_is_refused(made):
    config = AlbertConfig(**SMALL, embedding_size=16, intermediate_size=48)
    with pytest.raises(BadSpec, match="an? albert cannot be changed in this way; start from a model of: bert, roberta"):
        made(AlbertForMaskedLM(config), layers=2)
    minialbert = made(base(layers=2), architecture="minialbert", start="random")
    with pytest.raises(BadSpec, match="layers cannot be copied from a minialbert"):
        made(minialbert, architecture="minialbert", layers=2)
    again = made(minialbert, architecture="minialbert", layers=4, start="embeddings")
    assert np.allclose(again.get_input_embeddings().weight.detach(), minialbert.get_input_embeddings().weight.detach())


def test_a_narrower_feed_forward_block_keeps_the_strongest_neurons(teacher, made):
    """Silent neurons are left out first, and without them a layer computes what it did."""
    source = teacher.bert.encoder.layer[11]
    silent = [3, 17, 40]
    with torch.no_grad():
        weights = {name: value.clone() for name, value in source.state_dict().items()}
        source.output.dense.weight[:, silent] = 0
        student = made(teacher, layers=1, layer_map=(12,), intermediate=45)
        states = torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(0))
        mine, theirs = student.bert.encoder.layer[0](states), source(states)
        source.load_state_dict(weights)
    assert student.config.intermediate_size == 45
    torch.testing.assert_close(mine, theirs, atol=1e-6, rtol=1e-6)
