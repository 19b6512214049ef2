"""model_zoo.yaml: the architectures are exactly the published ones, and every figure in it is known."""

import functools

import pytest
import torch
from transformers import CONFIG_MAPPING

from trainer import models
from trainer.errors import BadData, Unavailable
from trainer.zoo import entries, read_zoo

# Copied by hand from the systems' published tables: parameters of the encoder (with its pooler) and with the MLM head.
COUNTS = {
    "distil-biobert": (65_783_040, 65_813_572),
    "compact-biobert": (65_783_040, 65_813_572),
    "distil-clinicalbert": (65_783_040, 65_813_572),
    "bio-distilbert-cased": (65_190_912, 65_812_036),
    "clinical-distilbert": (65_190_912, 65_812_036),
    "bio-distilbert-uncased": (66_362_880, 66_985_530),
    "tiny-biobert": (13_874_136, 13_903_756),
    "tiny-clinicalbert": (13_874_136, 13_903_756),
    "bio-tinybert": (14_350_248, 14_381_394),
    "bio-mobilebert": (24_581_888, 36_596_538),
    "clinical-mobilebert": (24_581_888, 36_596_538),
    "biobert-v1.1": (108_310_272, 108_340_804),
    "biobert-v1.2": (108_310_272, 108_340_804),
    "bio-clinicalbert": (108_310_272, 108_340_804),
    "clinical-longformer": (148_659_456, 148_711_257),
    "clinical-bigbird": (127_468_800, 128_111_286),
    # Starting points have the counts of what was made from them.
    "distilbert-base-cased": (65_190_912, 65_812_036),
    "distilbert-base-uncased": (66_362_880, 66_985_530),
    "tinybert-general-4l-312d": (14_350_248, 14_381_394),
    "mobilebert-uncased": (24_581_888, 36_596_538),
    "longformer-base-4096": (148_659_456, 148_711_257),
    "bigbird-roberta-base": (127_468_800, 128_111_286),
    "bio-minialbert-128": (12_468_032, 35_358_084),
    "clinical-minialbert-312": (18_039_552, 40_929_604),
    "minialbert-128": (12_663_360, 36_726_906),
}
# layers, hidden, heads, feed-forward, vocabulary, positions, cased
SHAPES = {
    "distil-biobert": ("bert", 6, 768, 12, 3072, 28996, 512, True),
    "compact-biobert": ("bert", 6, 768, 12, 3072, 28996, 512, True),
    "tiny-biobert": ("bert", 4, 312, 12, 1200, 28996, 512, True),
    "bio-distilbert-cased": ("distilbert", 6, 768, 12, 3072, 28996, 512, True),
    "bio-distilbert-uncased": ("distilbert", 6, 768, 12, 3072, 30522, 512, False),
    "bio-tinybert": ("bert", 4, 312, 12, 1200, 30522, 512, False),
    "bio-mobilebert": ("mobilebert", 24, 512, 4, 512, 30522, 512, False),
    "distil-clinicalbert": ("bert", 6, 768, 12, 3072, 28996, 512, True),
    "clinical-distilbert": ("distilbert", 6, 768, 12, 3072, 28996, 512, True),
    "tiny-clinicalbert": ("bert", 4, 312, 12, 1200, 28996, 512, True),
    "clinical-mobilebert": ("mobilebert", 24, 512, 4, 512, 30522, 512, False),
    "clinical-minialbert-312": ("minialbert", 6, 768, 12, 3072, 28996, 512, True),
    "bio-minialbert-128": ("minialbert", 6, 768, 12, 3072, 28996, 512, True),
    "minialbert-128": ("minialbert", 6, 768, 12, 3072, 30522, 512, False),
    "clinical-longformer": ("longformer", 12, 768, 12, 3072, 50265, 4098, True),
    "clinical-bigbird": ("big_bird", 12, 768, 12, 3072, 50358, 4096, True),
    "modernbert-base": ("modernbert", 22, 768, 12, 1152, 50368, 8192, True),
    "bioclinical-modernbert-large": ("modernbert", 28, 1024, 16, 2624, 50368, 8192, True),
}
CONSTANTS = {
    "distil-biobert": {"hidden_act": "gelu", "layer_norm_eps": 1e-12, "hidden_dropout_prob": 0.1, "type_vocab_size": 2},
    "bio-distilbert-cased": {"activation": "gelu", "dropout": 0.1, "seq_classif_dropout": 0.2},
    "bio-mobilebert": {
        "hidden_act": "relu",
        "normalization_type": "no_norm",
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.1,
        "embedding_size": 128,
        "intra_bottleneck_size": 128,
        "trigram_input": True,
        "num_feedforward_networks": 4,
        "key_query_shared_bottleneck": True,
        "use_bottleneck_attention": False,
        "classifier_activation": False,
    },
    "clinical-minialbert-312": {
        "embedding_size": 312,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
        "type_vocab_size": 2,
        "use_adapter": True,
        "reduction_factor": 16,
        "pad_token_id": 0,
        "tie_word_embeddings": False,
    },
    "clinical-longformer": {
        "layer_norm_eps": 1e-5,
        "type_vocab_size": 1,
        "pad_token_id": 1,
        "attention_window": [512] * 12,
    },
    "clinical-bigbird": {
        "hidden_act": "gelu_new",
        "layer_norm_eps": 1e-12,
        "block_size": 64,
        "num_random_blocks": 3,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "sep_token_id": 66,
        "type_vocab_size": 2,
        "rescale_embeddings": False,
    },
}
SYSTEMS = {*COUNTS, "abadeer-distilbert"}
RIVALS = {
    "bioclinical-modernbert-base",
    "bioclinical-modernbert-large",
    "clinical-modernbert",
    "modernbert-base",
    "modernbert-large",
    "openmed-ner-disease-434m",
    "gliner-biomed-base",
    "gliner-biomed-bi-large",
    "ultrabert-150m",
    "bert-base-uncased",
}
BUILDABLE = [entry.id for entry in entries().values() if not entry.cannot_build]


@functools.cache
def counted(model_id):
    """Parameters of the encoder with its pooler and of the masked LM, tied weights once."""
    config = models.build_config(entries()[model_id])
    with torch.device("meta"):
        networks = {head: models.CLASSES[head][type(config)](config) for head in ("encoder", "mlm")}
    return {head: sum(parameter.numel() for parameter in network.parameters()) for head, network in networks.items()}


def test_every_system_is_in_the_zoo():
    assert set(entries()) >= SYSTEMS | RIVALS | {"minilm", "minilm-bc5cdr", "minilm-ncbi"}


@pytest.mark.parametrize("model_id", COUNTS)
def test_parameter_counts_are_the_published_ones(model_id):
    encoder, mlm = COUNTS[model_id]
    assert counted(model_id) == {"encoder": encoder, "mlm": mlm}


@pytest.mark.parametrize("model_id", BUILDABLE)
def test_the_file_says_the_counts_that_are_built(model_id):
    assert counted(model_id) == entries()[model_id].params


@pytest.mark.parametrize("model_id", SHAPES)
def test_shapes_are_the_published_ones(model_id):
    kind, layers, hidden, heads, inner, vocabulary, positions, cased = SHAPES[model_id]
    entry = entries()[model_id]
    config = models.build_config(entry)
    inner_size = config.hidden_dim if kind == "distilbert" else config.intermediate_size
    assert (config.model_type, config.num_hidden_layers, config.hidden_size) == (kind, layers, hidden)
    assert (config.num_attention_heads, inner_size, config.vocab_size) == (heads, inner, vocabulary)
    assert (config.max_position_embeddings, entry.tokenizer["cased"]) == (positions, cased)
    assert entry.max_tokens == {4098: 4096}.get(positions, positions)


@pytest.mark.parametrize("model_id", CONSTANTS)
def test_other_constants_are_the_published_ones(model_id):
    config = models.build_config(entries()[model_id])
    assert {name: getattr(config, name) for name in CONSTANTS[model_id]} == CONSTANTS[model_id]


@pytest.mark.parametrize("entry", entries().values(), ids=entries())
def test_an_entry_is_honest(entry):
    assert entry.name and entry.family
    assert entry.loads == (entry.architecture["model_type"] in CONFIG_MAPPING)
    assert entry.loads or entry.cannot_build
    assert bool(entry.labels) == (entry.task is not None)
    sources = {"stillroom evaluate"} if entry.role == "starter" else {"PWC", "E", "BP", "DB", "JAMIA", "card"}
    assert all(figure["source"] in sources for figure in entry.reported)
    if entry.params["encoder"] and entry.stated_params:
        assert entry.stated_params == pytest.approx(entry.params["encoder"], rel=0.1)


def test_casing_is_stated_for_every_word_piece_model():
    for entry in entries().values():
        if entry.tokenizer["kind"] == "wordpiece":
            assert entry.tokenizer["lower_case"] is not entry.tokenizer["cased"], entry.id
    assert entries()["bio-clinicalbert"].tokenizer["lower_case"] is False  # trap T12
    assert "lower-case" in entries()["bio-clinicalbert"].notes
    assert "lower-case" in entries()["tiny-clinicalbert"].notes


@pytest.mark.parametrize("model_id", [i for i, e in entries().items() if e.cannot_build])
def test_what_cannot_be_built_says_why_and_what_to_do(model_id):
    with pytest.raises(Unavailable) as caught:
        models.build(entries()[model_id])
    assert entries()[model_id].cannot_build in caught.value.message
    assert caught.value.next_step


def test_a_build_is_the_same_for_the_same_seed_and_leaves_the_generator_alone():
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    small = entries()["tiny-biobert"].architecture | {"vocab_size": 1000}
    entry = entries()["tiny-biobert"].model_copy(update={"architecture": small})
    one, same, other = (models.build(entry, seed=seed) for seed in (7, 7, 8))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
    name = "bert.encoder.layer.0.output.dense.weight"
    assert not torch.equal(one.get_parameter(name), other.get_parameter(name))
    assert not one.training and one.dtype == torch.float32
    assert one.cls.predictions.decoder.weight is one.bert.embeddings.word_embeddings.weight


def test_a_tagger_can_be_built():
    model = models.build(entries()["bio-tinybert"], head="ner", labels=["O", "B-Drug", "I-Drug"])
    assert model.classifier.out_features == 3
    assert model.config.label2id == {"O": 0, "B-Drug": 1, "I-Drug": 2}


GOOD = """
- id: one
  name: One
  hub_id: a/one
  architecture: {model_type: bert}
  tokenizer: {kind: wordpiece, vocab: v, cased: true, lower_case: false}
  max_tokens: 512
  licence: MIT
  family: f
  role: student
"""


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (("max_tokens: 512", "max_tokens: many"), ("one", "max_tokens", "many")),
        (("licence: MIT", "license: MIT"), ("one", "licen")),
        (("role: student", "role: pupil"), ("one", "role", "pupil")),
        (("cased: true", "casing: true"), ("one", "tokenizer", "cas")),
        (("id: one", "id: Some One"), ("Some One", "id")),
        (("hub_id: a/one", "hub_id: a/one/../b"), ("one", "hub_id")),
        (("role: student", "role: student\n  revision: main"), ("one", "revision", "main")),
        (("role: student", "role: student\n  teacher: nobody"), ("one", "teacher", "nobody")),
        (("role: student", "role: student\n  files: {a.json: abc}"), ("one", "files", "abc")),
        (("{model_type: bert}", "{vocab_size: 3}"), ("one", "architecture", "model_type")),
        (("role: student\n", "role: student\n" + GOOD.strip("\n")), ("one", "id", "earlier")),
        (("role: student\n", "role: student\n" + GOOD.strip("\n").replace("id: one", "id: two")), ("one", "hub_id")),
        (("- id: one", "- id: [one"), ("line",)),
        (("- id: one", "- just a text\n- id: one"), ("number 1",)),
    ],
)
def test_a_wrong_entry_is_named_with_its_field(tmp_path, change, named):
    path = tmp_path / "zoo.yaml"
    path.write_text("models:" + GOOD)
    assert list(read_zoo(path)) == ["one"]
    path.write_text("models:" + GOOD.replace(*change))
    with pytest.raises(BadData) as caught:
        read_zoo(path)
    assert all(part in str(caught.value) for part in ("zoo.yaml", *named)), str(caught.value)
