"""MiniALBERT against an independent re-computation from its state dict, and as published files have it."""

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional
from transformers import (
    AttentionInterface,
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
)

from trainer import models
from trainer.architectures import minialbert
from trainer.errors import CorruptFile
from trainer.zoo import entries

TAGS = ["O", "B-Disease", "I-Disease"]
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "Fever", "fever", "and", "no", "pain", "##s", "."]
TINY = {"vocab_size": len(PIECES), "embedding_size": 10, "hidden_size": 24, "num_attention_heads": 3}
TINY |= {"intermediate_size": 32, "reduction_factor": 4, "max_position_embeddings": 16}
HEADS = (AutoModel, AutoModelForMaskedLM, AutoModelForTokenClassification, AutoModelForSequenceClassification)
# Fields of a published config; those after use_adapter are left over from the ALBERT it was made from.
PUBLISHED = TINY | {"architectures": ["MiniAlbertForMaskedLM"], "model_type": "bert", "num_hidden_layers": 6}
PUBLISHED |= {"num_hidden_groups": 1, "inner_group_num": 1, "hidden_act": "gelu", "hidden_dropout_prob": 0.1}
PUBLISHED |= {"attention_probs_dropout_prob": 0.1, "classifier_dropout": None, "classifier_dropout_prob": 0.1}
PUBLISHED |= {"type_vocab_size": 2, "layer_norm_eps": 1e-12, "initializer_range": 0.02, "use_adapter": True}
PUBLISHED |= {"position_embedding_type": "absolute", "bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0}
PUBLISHED |= {"down_scale_factor": 1, "gap_size": 0, "net_structure_type": 0, "num_memory_blocks": 0}
PUBLISHED |= {"use_cache": True, "torch_dtype": "float32", "transformers_version": "4.27.0.dev0"}


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def make(head=AutoModelForMaskedLM, *, noise: float = 0.3, **fields):
    """A tiny model in eval mode whose every weight is off its start, so that no norm or bias is a no-op."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = head.from_config(minialbert.MiniAlbertConfig(**TINY | fields)).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(noise * torch.randn_like(parameter))
    return model


def batch() -> dict[str, torch.Tensor]:
    """Two rows of nine tokens, the second with four tokens of padding and a second segment."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(1, len(PIECES), (2, 9), generator=generator)
    mask, types = torch.ones(2, 9, dtype=torch.long), torch.zeros(2, 9, dtype=torch.long)
    mask[1, 5:] = ids[1, 5:] = 0
    types[1, 3:] = 1
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}


def small(**fields):
    """A zoo entry of the tiny shape."""
    shape = entries()["clinical-minialbert-312"].architecture | TINY | fields
    return entries()["clinical-minialbert-312"].model_copy(update={"architecture": shape})


@pytest.fixture
def tokenizer(tmp_path):
    folder = tmp_path / "pieces"
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(PIECES))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"do_lower_case": False, "tokenizer_class": "BertTokenizer"})
    )
    return AutoTokenizer.from_pretrained(folder)


@pytest.fixture
def published(tmp_path) -> Path:
    """A folder with the published names and config, and the model that its weights are of in `weights`."""
    folder = tmp_path / "published"
    folder.mkdir()
    weights = make().state_dict() | {"albert.albert.embeddings.position_ids": torch.arange(16)[None]}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(PUBLISHED))
    (folder / "vocab.txt").write_text("\n".join(PIECES))
    (folder / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": False}))
    return folder


def rewrite(folder: Path, change) -> None:
    save_file(change(load_file(folder / "model.safetensors")), folder / "model.safetensors")


def recomputed(weights: dict, tensors: dict, *, heads: int) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Hidden states and logits by the paper's formulas, from tensors and their names alone."""

    def linear(name, x):
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def norm(name, x):
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-12).sqrt()
        return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def gelu(x):
        return x / 2 * (1 + torch.erf(x / math.sqrt(2)))

    def adapter(name, z):
        if f"{name}.norm.weight" not in weights:
            return z
        return norm(f"{name}.norm", linear(f"{name}.block.2", gelu(linear(f"{name}.block.0", z))) + z)

    def attention(name, x):
        rows, tokens, hidden = x.shape
        q, k, v = (linear(f"{name}.{part}", x).view(rows, tokens, heads, -1) for part in ("query", "key", "value"))
        scores = torch.einsum("bihd,bjhd->bhij", q, k) / math.sqrt(hidden // heads)
        scores = scores.masked_fill(tensors["attention_mask"][:, None, None, :] == 0, -1e9)
        context = torch.einsum("bhij,bjhd->bihd", scores.softmax(-1), v).reshape(rows, tokens, hidden)
        return linear(f"{name}.dense", context)

    shell, layer = "albert.albert.embeddings", "albert.albert.encoder.albert_layer_groups.0.albert_layers.0"
    ids = tensors["input_ids"]
    x = weights[f"{shell}.word_embeddings.weight"][ids]
    x = x + weights[f"{shell}.position_embeddings.weight"][: ids.shape[1]]
    x = x + weights[f"{shell}.token_type_embeddings.weight"][tensors["token_type_ids"]]
    x = norm(f"{shell}.LayerNorm", x)
    if "albert.projector.weight" in weights:
        x = linear("albert.projector", x)
    states = [x]
    for recursion in range(6):
        a = adapter(f"albert.att_adapters.{recursion}", x)
        y = norm(f"{layer}.attention.LayerNorm", a + attention(f"{layer}.attention", a))
        b = adapter(f"albert.mlp_adapters.{recursion}", y)
        x = norm(f"{layer}.full_layer_layer_norm", b + linear(f"{layer}.ffn_output", gelu(linear(f"{layer}.ffn", b))))
        states.append(x)
    transformed = norm("vocab_layer_norm", gelu(linear("vocab_transform", x)))
    return states, linear("vocab_projector", transformed)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("fields", [{}, {"use_adapter": False}, {"embedding_size": 24}], ids=["", "bare", "square"])
def test_states_and_logits_are_those_of_the_formulas(fields, attention):
    model, tensors = make(**fields), batch()
    model.set_attn_implementation(attention)
    with torch.no_grad():
        output = model(**tensors, output_hidden_states=True)
        states, logits = recomputed(model.state_dict(), tensors, heads=3)
    assert len(output.hidden_states) == 7
    for one, other in zip([*output.hidden_states, output.logits], [*states, logits], strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=0)


def test_nothing_but_the_body_depends_on_the_head():
    tensors, body = batch(), make()
    for head in (AutoModelForTokenClassification, AutoModelForSequenceClassification):
        model = make(head)
        model.albert.load_state_dict(body.albert.state_dict())
        state = body.base_model(**tensors).last_hidden_state
        rows = state if head is AutoModelForTokenClassification else state[:, 0]
        torch.testing.assert_close(model(**tensors).logits, model.classifier(rows))
    assert model.base_model is model.albert is model.albert.base_model


def test_padding_changes_nothing():
    model, tensors = make(), batch()
    short = {name: tensor[1:, :5] for name, tensor in tensors.items()}
    torch.testing.assert_close(model(**tensors).logits[1:, :5], model(**short).logits, atol=1e-5, rtol=0)
    alone = {name: tensor for name, tensor in short.items() if name != "attention_mask"}
    torch.testing.assert_close(model(**alone).logits, model(**short).logits, atol=1e-5, rtol=0)


def test_word_embeddings_can_be_given_instead_of_ids():
    model, tensors = make(), batch()
    words = model.get_input_embeddings()(tensors["input_ids"])
    rest = {name: tensor for name, tensor in tensors.items() if name != "input_ids"}
    assert torch.equal(model(inputs_embeds=words, **rest).logits, model(**tensors).logits)
    with pytest.raises(ValueError, match="either"):
        model(**rest)


def test_every_recursion_goes_through_the_attention_interface():
    calls = []

    def watched(module, query, key, value, attention_mask, *, dropout, scaling, **_):
        calls.append((query.shape, dropout, scaling))
        return functional.scaled_dot_product_attention(query, key, value, scale=scaling).transpose(1, 2), None

    AttentionInterface.register("watched", watched)
    model = make()
    model.set_attn_implementation("watched")
    for training in (False, True):
        model.train(training)(input_ids=batch()["input_ids"])
    shape, scale = (2, 3, 9, 8), 8**-0.5
    assert calls == [(shape, 0.0, scale)] * 6 + [(shape, 0.1, scale)] * 6


def test_attention_maps_can_be_asked_for():
    model, tensors = make(), batch()
    model.set_attn_implementation("eager")
    maps = model(**tensors, output_attentions=True).attentions
    assert [tuple(one.shape) for one in maps] == [(2, 3, 9, 9)] * 6
    assert all(torch.allclose(one.sum(-1), torch.ones(2, 3, 9)) and not one[1, :, :, 5:].any() for one in maps)
    assert not torch.allclose(maps[0], maps[1])


def test_dropout_is_where_the_paper_has_it():
    """With everything dropped, what is left is the residual path through adapters and norms."""
    model, tensors = make(hidden_dropout_prob=1.0), batch()
    states = model.train().base_model(**tensors, output_hidden_states=True).hidden_states
    body = model.albert
    x = body.projector.bias.expand(2, 9, -1)
    for state, att, mlp in zip(states[1:], body.att_adapters, body.mlp_adapters, strict=True):
        x = body.albert.layer.full_layer_layer_norm(mlp(body.albert.layer.attention.LayerNorm(att(x))))
        torch.testing.assert_close(state, x)
    assert make(AutoModelForTokenClassification).dropout.p == 0.1
    assert make(AutoModelForTokenClassification, classifier_dropout=0.25).dropout.p == 0.25


@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients(checkpointing):
    fields = {"num_hidden_layers": 2, "attention_probs_dropout_prob": 0.0, "hidden_dropout_prob": 0.0}
    model, tensors = make(**fields).double().train(), batch()
    if checkpointing:
        model.activation_checkpointing_enable()
    assert model.albert.albert.layer.gradient_checkpointing == checkpointing
    labels = tensors["input_ids"].masked_fill(tensors["attention_mask"] == 0, -100)
    weights = dict(model.named_parameters())
    used = [name for name in weights if "pooler" not in name]

    def loss(*values):
        called = torch.func.functional_call(model, dict(zip(used, values, strict=True)), (), tensors)
        return functional.cross_entropy(called.logits.transpose(1, 2), labels)  # in double precision, unlike .loss

    given_weights = tuple(weights[name].detach().clone().requires_grad_() for name in used)
    assert torch.autograd.gradcheck(loss, given_weights, fast_mode=True, atol=1e-6)
    model(**tensors, labels=labels).loss.backward()
    still = {name for name, weight in weights.items() if weight.grad is None or not weight.grad.any()}
    assert still == {"albert.albert.pooler.weight", "albert.albert.pooler.bias"}


def test_losses():
    tensors, labels = batch(), batch()["input_ids"] % 3
    labels[1, 5:] = -100
    tagger = make(AutoModelForTokenClassification, num_labels=3)
    output = tagger(**tensors, labels=labels)
    expected = functional.cross_entropy(output.logits[labels >= 0], labels[labels >= 0])
    torch.testing.assert_close(output.loss, expected)
    cases = {
        "regression": (1, torch.tensor([0.5, -1.0]), lambda z, y: (z[:, 0] - y).square().mean()),
        "single_label_classification": (4, torch.tensor([3, 1]), functional.cross_entropy),
        "multi_label_classification": (2, torch.eye(2), functional.binary_cross_entropy_with_logits),
    }
    for kind, (width, target, loss) in cases.items():
        output = (model := make(AutoModelForSequenceClassification, num_labels=width))(**tensors, labels=target)
        torch.testing.assert_close(output.loss, loss(output.logits, target))
        assert model.config.problem_type == kind


def test_a_new_model_starts_as_bert_does():
    model = make(noise=0.0, vocab_size=400, hidden_size=96, embedding_size=40)
    for name, parameter in model.named_parameters():
        is_norm = "norm" in name.lower()
        if name.endswith("bias"):
            assert not parameter.any(), name
        elif is_norm:
            assert (parameter == 1).all(), name
        else:
            assert parameter.std().item() == pytest.approx(0.02, rel=0.3), name
    assert not model.get_input_embeddings().weight[0].any()  # padding


# Published files: names, sizes, configs.

LAYER = "albert.albert.encoder.albert_layer_groups.0.albert_layers.0"
NAMED = {
    "albert.albert.embeddings.word_embeddings.weight": (28996, 312),
    "albert.albert.embeddings.position_embeddings.weight": (512, 312),
    "albert.albert.embeddings.token_type_embeddings.weight": (2, 312),
    **{f"{LAYER}.attention.{part}.weight": (768, 768) for part in ("query", "key", "value", "dense")},
    **{f"{LAYER}.attention.{part}.bias": (768,) for part in ("query", "key", "value", "dense")},
    f"{LAYER}.ffn.weight": (3072, 768),
    f"{LAYER}.ffn.bias": (3072,),
    f"{LAYER}.ffn_output.weight": (768, 3072),
    f"{LAYER}.ffn_output.bias": (768,),
    "albert.albert.pooler.weight": (768, 768),
    "albert.albert.pooler.bias": (768,),
    "albert.projector.weight": (768, 312),
    "albert.projector.bias": (768,),
    "vocab_transform.weight": (768, 768),
    "vocab_transform.bias": (768,),
    "vocab_projector.weight": (28996, 768),
    "vocab_projector.bias": (28996,),
}
for _part in ("weight", "bias"):
    NAMED[f"albert.albert.embeddings.LayerNorm.{_part}"] = (312,)
    NAMED |= {f"{LAYER}.{norm}.{_part}": (768,) for norm in ("attention.LayerNorm", "full_layer_layer_norm")}
    NAMED[f"vocab_layer_norm.{_part}"] = (768,)
for _adapters in (f"albert.{kind}_adapters.{number}" for kind in ("att", "mlp") for number in range(6)):
    NAMED |= {f"{_adapters}.block.0.weight": (48, 768), f"{_adapters}.block.0.bias": (48,)}
    NAMED |= {f"{_adapters}.block.2.weight": (768, 48), f"{_adapters}.block.2.bias": (768,)}
    NAMED |= {f"{_adapters}.norm.weight": (768,), f"{_adapters}.norm.bias": (768,)}


def full_size(model_id: str, **fields):
    shape = dict(entries()[model_id].architecture) | fields
    with torch.device("meta"):
        return AutoModelForMaskedLM.from_config(AutoConfig.for_model(**shape))


def test_names_and_shapes_are_those_of_the_published_file():
    weights = full_size("clinical-minialbert-312").state_dict()
    assert {name: tuple(tensor.shape) for name, tensor in weights.items()} == NAMED
    assert len(weights) == 103  # the published 104 are these and position_ids


@pytest.mark.parametrize(
    ("model_id", "megabytes"),
    [("clinical-minialbert-312", 163.7), ("bio-minialbert-128", 141.4), ("minialbert-128", 146.9)],
)
def test_the_masked_lm_file_has_the_published_size(model_id, megabytes):
    tensors = full_size(model_id).state_dict().values()
    assert sum(4 * tensor.numel() for tensor in tensors) / 1e6 == pytest.approx(megabytes, abs=0.05)


@pytest.mark.parametrize(
    ("embedding", "with_adapters", "without"), [(128, 12.47, 11.56), (312, 18.04, 17.13), (768, 31.26, 30.34)]
)
def test_the_sizes_of_the_family(embedding, with_adapters, without):
    for use_adapter, millions in ((True, with_adapters), (False, without)):
        model = full_size("clinical-minialbert-312", embedding_size=embedding, use_adapter=use_adapter)
        assert model.albert.num_parameters() / 1e6 == pytest.approx(millions, abs=0.01)


def test_a_published_folder_loads_as_it_is(published, caplog):
    weights = load_file(published / "model.safetensors")
    with caplog.at_level("INFO", logger="trainer.models"):
        model, loaded = models.load(str(published))
    assert not caplog.records  # nothing was left out
    assert isinstance(model, minialbert.MiniAlbertForMaskedLM) and not model.training
    assert model.config.model_type == "minialbert" and model.config._attn_implementation == "sdpa"
    assert set(weights) - set(model.state_dict()) == {"albert.albert.embeddings.position_ids"}
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())
    assert loaded.tokenize("Fever and pains") == ["Fever", "and", "pain", "##s"]


@pytest.mark.parametrize("named", [["MiniAlbertForMaskedLM"], None])
def test_the_zoo_knows_what_a_published_config_does_not_say(home, published, named):
    config = json.loads((published / "config.json").read_text()) | {"architectures": named}
    (published / "config.json").write_text(json.dumps(config))
    place = home / "models" / "clinical-minialbert-312"
    place.parent.mkdir()
    published.rename(place)
    body, _ = models.load("clinical-minialbert-312", task="encoder")
    assert isinstance(body, minialbert.MiniAlbertModel)


def test_body_and_tagger_take_the_masked_lm_file(published):
    weights = load_file(published / "model.safetensors")
    body, _ = models.load(str(published), task="encoder")
    tagger, _ = models.load(str(published), task="ner", labels=TAGS)
    for prefix, model in (("albert.", body), ("", tagger)):
        tensors = {f"{prefix}{name}": tensor for name, tensor in model.state_dict().items() if "classifier" not in name}
        assert all(torch.equal(tensor, weights[name]) for name, tensor in tensors.items())
        assert len(tensors) == 103 - 6
    assert tagger.classifier.out_features == 3


@pytest.mark.parametrize(
    "lost", ["albert.att_adapters.5.block.2.bias", f"{LAYER}.ffn.weight", "albert.projector.weight"]
)
@pytest.mark.parametrize("options", [{}, {"task": "encoder"}, {"task": "ner", "labels": TAGS}])
def test_a_missing_tensor_is_fatal_and_named(published, lost, options):
    rewrite(published, lambda weights: {name: tensor for name, tensor in weights.items() if name != lost})
    with pytest.raises(CorruptFile, match=lost.removeprefix("albert.")):
        models.load(str(published), **options)


@pytest.mark.parametrize(
    "fields",
    [{"num_hidden_groups": 2}, {"inner_group_num": 2}, {"num_attention_heads": 5}, {"reduction_factor": 0}],
)
def test_a_config_that_is_no_minialbert_is_refused(published, fields):
    (published / "config.json").write_text(json.dumps(PUBLISHED | fields))
    with pytest.raises(CorruptFile, match="minialbert config"):
        models.load(str(published))


# Saving and loading our own.


@pytest.mark.parametrize("head", ["encoder", "mlm", "ner"])
def test_a_saved_model_loads_with_every_bit(tmp_path, tokenizer, head):
    built = models.build(small(), head=head, labels=TAGS if head == "ner" else None, seed=5)
    models.save(built, tokenizer, tmp_path / "out")
    again, pieces = models.load(str(tmp_path / "out"))
    assert type(again) is type(built) and again.config.architectures == [type(built).__name__]
    assert again.state_dict().keys() == load_file(tmp_path / "out" / "model.safetensors").keys()
    assert all(torch.equal(tensor, built.state_dict()[name]) for name, tensor in again.state_dict().items())
    assert json.loads((tmp_path / "out" / "config.json").read_text())["model_type"] == "minialbert"
    assert pieces.tokenize("Fever") == ["Fever"]


def test_the_auto_classes_know_it(tmp_path):
    for head in HEADS:
        built = make(head)
        built.save_pretrained(tmp_path / head.__name__)
        again = head.from_pretrained(tmp_path / head.__name__)
        assert type(again) is type(built)
        assert all(torch.equal(tensor, built.state_dict()[name]) for name, tensor in again.state_dict().items())
    assert isinstance(AutoConfig.from_pretrained(tmp_path / "AutoModel"), minialbert.MiniAlbertConfig)
    (tmp_path / "AutoModel" / "vocab.txt").write_text("\n".join(PIECES))
    assert AutoTokenizer.from_pretrained(tmp_path / "AutoModel").tokenize("pains") == ["pain", "##s"]


def test_a_saved_body_gives_its_weights_to_a_tagger(tmp_path, tokenizer):
    body = make(AutoModel)
    models.save(body, tokenizer, tmp_path / "body")
    tagger, _ = models.load(str(tmp_path / "body"), task="ner", labels=TAGS)
    assert all(torch.equal(tensor, body.state_dict()[name]) for name, tensor in tagger.albert.state_dict().items())
