"""Captured attention: what transformers' eager attention shows, at the outputs of fused attention, family by family."""

import logging

import pytest
import torch
import transformers
from tiny_pair import batch, bert

from trainer.architectures import layer_outputs
from trainer.architectures.layer_outputs import capturing
from trainer.architectures.minialbert import MiniAlbertConfig, MiniAlbertForMaskedLM
from trainer.errors import Unavailable
from trainer.models import seeded

SIZES = {
    "vocab_size": 50,
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "max_position_embeddings": 40,
    "initializer_range": 0.2,
}
DISTILBERT = {"vocab_size": 50, "dim": 24, "n_layers": 3, "n_heads": 4, "hidden_dim": 40, "max_position_embeddings": 40}
MOBILEBERT = {"embedding_size": 16, "intra_bottleneck_size": 16, "num_feedforward_networks": 2, "hidden_size": 32}
SPECIAL = {"pad_token_id": 0, "bos_token_id": 1, "cls_token_id": 1, "eos_token_id": 2, "sep_token_id": 2}
FAMILIES = {
    "bert": (transformers.BertForMaskedLM, transformers.BertConfig(**SIZES)),
    "distilbert": (transformers.DistilBertForMaskedLM, transformers.DistilBertConfig(**DISTILBERT)),
    "roberta": (transformers.RobertaForMaskedLM, transformers.RobertaConfig(**SIZES)),
    "albert": (transformers.AlbertForMaskedLM, transformers.AlbertConfig(**SIZES, embedding_size=12)),
    "minialbert": (MiniAlbertForMaskedLM, MiniAlbertConfig(**SIZES, embedding_size=12, reduction_factor=4)),
    "mobilebert": (transformers.MobileBertForMaskedLM, transformers.MobileBertConfig(**SIZES | MOBILEBERT)),
    "electra": (transformers.ElectraForMaskedLM, transformers.ElectraConfig(**SIZES, embedding_size=12)),
    "modernbert": (transformers.ModernBertForMaskedLM, transformers.ModernBertConfig(**SIZES | SPECIAL)),
}
EVERY = (1, 2, 3)


@pytest.fixture(params=FAMILIES)
def family(request):
    """A tiny random model in eval mode with transformers' own sdpa attention."""
    kind, config = FAMILIES[request.param]
    with seeded(0):
        model = kind(config).eval()
    model.set_attn_implementation("sdpa")
    return model


def inputs(**options):
    return {name: value for name, value in batch(**options).items() if name != "labels"}


@torch.no_grad()
def run(model, tensors, **options):
    return model(**tensors, **options)


@pytest.mark.parametrize("padded", [True, False])
def test_maps_and_outputs_are_those_of_transformers(family, padded):
    tensors = inputs(padded=padded)
    fused = run(family, tensors)
    with capturing(family, maps=EVERY) as seen:
        captured = run(family, tensors)
    family.set_attn_implementation("eager")
    eager = run(family, tensors, output_attentions=True)
    real = tensors["attention_mask"].bool()
    assert torch.allclose(captured.logits[real], fused.logits[real], atol=1e-5)
    assert sorted(seen.maps) == [1, 2, 3] and seen.layer == 3 and not seen.vectors
    for layer, shown in zip(EVERY, eager.attentions, strict=True):
        queries = real[:, None, :].expand(shown.shape[:3])
        assert torch.allclose(seen.maps[layer][queries], shown[queries], atol=1e-6)
        assert torch.allclose(seen.maps[layer].sum(-1), torch.ones(shown.shape[:3]), atol=1e-5)
        assert (seen.maps[layer].transpose(1, -1)[~real] == 0).all(), "padding keys get nothing"


def test_layers_that_are_not_captured_run_fused(family):
    tensors = inputs()
    with capturing(family, maps={2}, vectors={3}) as seen:
        captured = run(family, tensors)
    assert (set(seen.maps), set(seen.vectors), seen.layer) == ({2}, {3}, 3)
    family.set_attn_implementation("sdpa")
    real = tensors["attention_mask"].bool()
    assert torch.allclose(captured.logits[real], run(family, tensors).logits[real], atol=1e-5)


def test_the_model_works_on_when_nothing_is_captured(family):
    tensors = inputs()
    fused = run(family, tensors)
    with capturing(family, maps={1}) as first:
        run(family, tensors)
    after = run(family, tensors)
    assert first.layer == 3, "the pass after the block was not counted"
    assert torch.allclose(after.logits, fused.logits, atol=1e-5)


def test_capturing_nothing_changes_nothing(family):
    with capturing(family) as seen:
        run(family, inputs())
    assert seen.layer == 0 and family.config._attn_implementation == "sdpa"


def test_vectors_are_queries_keys_and_values():
    model, shown = bert(layers=2), {}
    for name in ("query", "key", "value"):
        projection = getattr(model.bert.encoder.layer[1].attention.self, name)
        projection.register_forward_hook(lambda module, arguments, out, name=name: shown.update({name: out}))
    with capturing(model, vectors={2}) as seen:
        run(model, inputs())
    assert set(seen.vectors) == {2}
    for vectors, name in zip(seen.vectors[2], ("query", "key", "value"), strict=True):
        assert torch.equal(vectors, shown[name])


def test_before_dropout_rows_sum_to_one_and_after_it_they_do_not():
    """Trap T3: what transformers returns in training mode is the map after dropout."""
    model, tensors = bert(layers=2, dropout=0.4).train(), inputs(padded=False)
    maps = {}
    for after in (False, True):
        torch.manual_seed(0)
        with capturing(model, maps={1, 2}, after_dropout=after) as seen:
            run(model, tensors)
        maps[after] = seen.maps
    for layer in (1, 2):
        before, after = maps[False][layer], maps[True][layer]
        assert torch.allclose(before.sum(-1), torch.ones(before.shape[:3]), atol=1e-6)
        assert (before > 0).all()
        dropped = after == 0
        assert 0.3 < dropped.float().mean() < 0.5
        assert torch.allclose(after[~dropped], before[~dropped] / 0.6, rtol=1e-4), "the same noise, and what is kept"
    assert not torch.allclose(maps[True][1].sum(-1), torch.ones(4, 4, 9), atol=0.1)


def test_the_context_in_training_is_that_of_the_dropped_map():
    model, tensors = bert(layers=1, dropout=0.4).train(), inputs()
    attention = model.bert.encoder.layer[0].attention.self
    shown = {}
    attention.register_forward_hook(lambda module, tensors, out: shown.update(context=out[0]))
    with capturing(model, maps={1}, vectors={1}, after_dropout=True) as seen:
        run(model, tensors)
    value = seen.vectors[1][2].view(4, 9, 4, 6).transpose(1, 2)  # (rows, heads, tokens, width)
    expected = (seen.maps[1] @ value).transpose(1, 2).reshape(4, 9, 24)
    assert torch.allclose(shown["context"], expected, atol=1e-6)


def test_gradients_flow_through_maps_and_vectors():
    model = bert(layers=1).double()
    query = model.bert.encoder.layer[0].attention.self.query.weight

    def loss(weight):
        query.data.copy_(weight)
        with capturing(model, maps={1}, vectors={1}) as seen:
            model(**inputs(rows=2, tokens=4))
        return seen.maps[1].square().sum() + seen.vectors[1][0].square().sum()

    at = query.detach().clone()
    loss(at).backward()
    gradient, step = query.grad[3, 5].item(), 1e-6
    moved = torch.zeros_like(at)
    moved[3, 5] = step
    with torch.no_grad():
        slope = (loss(at + moved) - loss(at - moved)) / (2 * step)
    assert gradient == pytest.approx(slope.item(), rel=1e-5)


def test_two_models_may_be_captured_one_inside_the_other():
    outer, inner, tensors = bert(layers=1), bert(layers=1, seed=1), inputs()
    with capturing(outer, maps={1}) as first:
        run(outer, tensors)
        with capturing(inner, maps={1}) as second:
            run(inner, tensors)
    assert (first.layer, second.layer) == (1, 1)
    assert not torch.equal(first.maps[1], second.maps[1])


LONG = {"attention_window": [4] * 3, "pad_token_id": 0}


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        (transformers.LongformerForMaskedLM, transformers.LongformerConfig(**SIZES | LONG)),
        (transformers.DebertaV2ForMaskedLM, transformers.DebertaV2Config(**SIZES)),
    ],
    ids=["longformer", "deberta-v2"],
)
def test_a_model_that_hides_its_attention_is_a_typed_error(kind, config):
    logging.getLogger("transformers").setLevel(logging.ERROR)
    model = kind(config).eval()
    with (
        pytest.raises(Unavailable, match=f"{kind.__name__} exposes no attention of layer 1") as error,
        capturing(model, maps={1, 3}),
    ):
        run(model, inputs())
    assert "distil" in error.value.next_step


def test_a_layer_that_is_not_there_is_a_typed_error():
    model = bert(layers=2)
    with pytest.raises(Unavailable, match="layer 3; it has 2 such layers"), capturing(model, vectors={1, 3}):
        run(model, inputs())


def test_an_error_inside_the_block_is_the_one_that_is_raised():
    model = bert(layers=2)
    with pytest.raises(RuntimeError, match="of the caller"), capturing(model, maps={1}):
        raise RuntimeError("of the caller")
    with capturing(model, maps={1}) as seen:
        run(model, inputs())
    assert seen.layer == 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_mask_hides_with_finite_numbers_in_every_precision(dtype):
    """fp32's lowest number is minus infinity in bf16, and a row of padding alone would be NaN."""
    seen = torch.tensor([[True, False], [False, False]])
    lowest = torch.zeros(2, 2).masked_fill(~seen, torch.finfo(torch.float32).min)
    for mask in (seen, lowest):
        shares = layer_outputs._bias(mask, dtype).softmax(-1)
        assert shares.dtype == dtype and shares.tolist() == [[1, 0], [0.5, 0.5]]
