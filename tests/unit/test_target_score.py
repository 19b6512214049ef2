"""The probe against Captum used plainly on the whole model, and against the model itself."""

import captum.attr
import numpy as np
import pytest
import torch
from families import family
from transformers import (
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForTokenClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
    RobertaForTokenClassification,
)

from trainer import models
from trainer.architectures import quicken
from trainer.architectures.minialbert import MiniAlbertConfig
from trainer.architectures.minialbert_heads import MiniAlbertForTokenClassification
from trainer.inference.target_score import Probe, Score, last_layer_at
from workbench.explain.methods import make_method, unit_scores
from workbench.explain.presence import presence

COLUMNS, PLACES = [1, 2], [3, 4, 7]
UNITS = np.repeat(np.arange(6), 3)  # 18 pieces, three a unit
SIZES = {"hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 64, "num_hidden_layers": 2}
TAGGERS = {
    "roberta": lambda: RobertaForTokenClassification(RobertaConfig(**SIZES, vocab_size=200, num_labels=3)),
    "distilbert": lambda: DistilBertForTokenClassification(
        DistilBertConfig(vocab_size=200, num_labels=3, dim=32, n_heads=4, hidden_dim=64, n_layers=2)
    ),
    "minialbert": lambda: MiniAlbertForTokenClassification(
        MiniAlbertConfig(**SIZES, embedding_size=16, vocab_size=200, num_labels=3)
    ),
}


@pytest.fixture(scope="module")
def tagger(tiny_model):
    model, tokenizer = models.load(str(tiny_model))
    model.classifier.weight.data *= 20
    return model, tokenizer


@pytest.fixture(scope="module")
def ids(tagger):
    drawn = np.random.default_rng(0).integers(2000, 20000, size=len(UNITS)).tolist()
    return [tagger[1].cls_token_id, *drawn, tagger[1].sep_token_id]


@pytest.fixture
def probe(tagger, ids):
    return open_probe(tagger[0], ids, baseline_id=tagger[1].mask_token_id)


def open_probe(model, ids, *, places=PLACES, baseline_id=1, **how) -> Probe:
    free = np.ones(len(ids) - 2, dtype=bool)
    score = Score.of(COLUMNS, range(3))
    return Probe(model, ids, before=1, free=free, places=places, score=score, baseline_id=baseline_id, **how)


def plain(model):
    """What is explained, written as its user would: from word embeddings through the whole model."""

    def forward(words):
        logits = model(inputs_embeds=words, attention_mask=torch.ones(words.shape[:2])).logits[:, PLACES]
        chances = logits.softmax(-1)[..., COLUMNS].sum(-1)
        return (chances.log() - (1 - chances).log()).mean(-1)

    return forward


@pytest.mark.parametrize("ours", [True, False])
def test_a_label_of_a_longformer_is_explained(ours):
    """Its first token sees all others by weights of its own, whether the attention is ours or transformers'."""
    model = family("longformer", MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING, None)
    ids = [0, *np.random.default_rng(0).integers(5, 60, size=len(UNITS)).tolist(), 2]
    model = quicken(model) if ours else model
    probe = open_probe(model, ids, places=[0], baseline_id=4)
    with torch.no_grad():
        expected = model(input_ids=torch.tensor([ids])).logits
        local = model.classifier(model.base_model(input_ids=torch.tensor([ids])).last_hidden_state)
    with torch.no_grad():
        logits = probe.logits(probe.words[None])
    assert torch.allclose(logits[:, 0], expected, atol=1e-5)
    assert not torch.allclose(local, expected, atol=1e-2), "and the global token counts"
    added = unit_scores(make_method("integrated_gradients", {"steps": 50}), probe, np.arange(18)).sum()
    whole, nothing = probe.log_odds(np.array([[True] * 18, [False] * 18]))
    assert added == pytest.approx(whole - nothing, rel=1e-4) and abs(added) > 0.01


@pytest.fixture
def embedded(probe, ids):
    """(words, baseline), each (1, n, E), as Captum takes them."""
    return probe.words[None].clone(), probe.absent[None].clone()


def of_pieces(attributions: torch.Tensor) -> np.ndarray:
    return attributions.detach()[0, 1:-1].sum(-1).numpy()


def test_integrated_gradients_equal_captums(probe, tagger, embedded):
    words, baseline = embedded
    expected = captum.attr.IntegratedGradients(plain(tagger[0])).attribute(words, baseline, n_steps=30)
    attributions = unit_scores(make_method("integrated_gradients", {"steps": 30}), probe, np.arange(18))
    np.testing.assert_allclose(attributions, of_pieces(expected), atol=1e-4)
    assert abs(attributions).max() > 0.1


def test_integrated_gradients_equal_captums_on_the_embedding_layer(probe, tagger, ids):
    """The tutorial's way: token ids in, LayerIntegratedGradients on the word embeddings."""
    model, tokenizer = tagger
    inputs, blank = torch.tensor([ids]), torch.tensor([[ids[0], *[tokenizer.mask_token_id] * 18, ids[-1]]])

    def forward(tokens):
        logits = model(input_ids=tokens, attention_mask=torch.ones_like(tokens)).logits[:, PLACES]
        return probe.score.log_odds(logits)

    layer = captum.attr.LayerIntegratedGradients(forward, model.get_input_embeddings())
    expected = layer.attribute(inputs, blank, n_steps=20, internal_batch_size=4)
    attributions = unit_scores(make_method("integrated_gradients", {"steps": 20}), probe, np.arange(18))
    np.testing.assert_allclose(attributions, of_pieces(expected), atol=1e-4)


def test_saliency_and_input_x_gradient_equal_captums(probe, tagger, embedded):
    words = embedded[0].requires_grad_(True)
    expected = captum.attr.Saliency(plain(tagger[0])).attribute(words, abs=False)
    attributions = unit_scores(make_method("saliency"), probe, np.arange(18))
    np.testing.assert_allclose(attributions, expected.norm(dim=-1)[0, 1:-1].numpy(), atol=1e-4)
    expected = captum.attr.InputXGradient(plain(tagger[0])).attribute(words)
    np.testing.assert_allclose(
        unit_scores(make_method("input_x_gradient"), probe, np.arange(18)), of_pieces(expected), atol=1e-4
    )


def test_gradient_shap_equals_captums_at_the_same_random_points(probe, tagger, embedded):
    words, baseline = embedded
    np.random.seed(5)  # Captum draws its points from numpy's global state
    expected = captum.attr.GradientShap(plain(tagger[0])).attribute(words, baseline, n_samples=12, stdevs=0.0)
    np.random.seed(5)
    np.random.choice(1, 12)  # which baseline
    alphas = np.random.uniform(0.0, 1.0, 12)
    attributions = probe.along_path(alphas, np.full(12, 1 / 12)).sum(-1)
    np.testing.assert_allclose(attributions, of_pieces(expected), atol=1e-4)


def test_gradient_shap_tends_to_integrated_gradients(probe):
    exact = unit_scores(make_method("integrated_gradients", {"steps": 30}), probe, UNITS)
    attributions = unit_scores(make_method("gradient_shap", {"samples": 600, "noise": 0.0}), probe, UNITS)
    np.testing.assert_allclose(attributions, exact, atol=0.1 * abs(exact).max())
    noisy = unit_scores(make_method("gradient_shap", {"samples": 600, "noise": 0.5}), probe, UNITS)
    assert abs(noisy - attributions).max() > 0


@pytest.mark.parametrize("name", ["feature_ablation", "occlusion"])
def test_perturbations_equal_captums_on_embeddings(probe, tagger, embedded, name):
    """Captum on the embeddings with a mask that says which unit a number belongs to; windows of six pieces."""
    words, baseline = embedded
    if name == "feature_ablation":
        owner = torch.from_numpy(np.concatenate([[6], UNITS, [7]]))[None, :, None].expand(1, 20, words.shape[-1])
        all_units = captum.attr.FeatureAblation(plain(tagger[0])).attribute(words, baseline, feature_mask=owner)
        expected = all_units[0, 1:-1:3, 0].numpy()
    else:
        first, last = words[:, :1], words[:, -1:]

        def between(part):
            ends = (each.expand(len(part), -1, -1) for each in (first, last))
            return plain(tagger[0])(torch.cat([next(ends), part, next(ends)], dim=1))

        way = captum.attr.Occlusion(between)
        shapes = {"sliding_window_shapes": (6, words.shape[-1]), "strides": (3, words.shape[-1])}
        expected = way.attribute(words[:, 1:-1], baselines=baseline[:, 1:-1], **shapes)[0, ::3, 0].numpy()
    options = {"width": 2} if name == "occlusion" else {}
    np.testing.assert_allclose(unit_scores(make_method(name, options), probe, UNITS), expected, atol=1e-4)


def test_kernel_shap_equals_captums_on_embeddings(probe, tagger, embedded):
    words, baseline = embedded
    owner = torch.from_numpy(np.concatenate([[6], UNITS, [7]]))[None, :, None]

    def forward(shown):  # (rows, 6) of ones and zeros
        keep = torch.cat([shown, torch.ones(len(shown), 2)], 1)[:, owner[0, :, 0], None]
        return plain(tagger[0])(keep * words + (1 - keep) * baseline)

    with models.seeded(0):
        whole = torch.ones(1, 6)
        expected = captum.attr.KernelShap(forward).attribute(
            whole, torch.zeros(1, 6), n_samples=50, perturbations_per_eval=8
        )
    attributions = unit_scores(make_method("kernel_shap", {"samples": 50}), probe, UNITS)
    np.testing.assert_allclose(attributions, expected[0].numpy(), atol=1e-3)


def test_rollout_equals_the_papers_recursion_on_the_models_own_attentions(probe, tagger, ids):
    model = tagger[0]
    model.set_attn_implementation("eager")
    maps = model(input_ids=torch.tensor([ids]), output_attentions=True).attentions
    model.set_attn_implementation("sdpa")
    flow = torch.eye(20)
    for layer in maps:
        attention = layer[0].mean(0) + torch.eye(20)
        flow = (attention / attention.sum(-1, keepdim=True)) @ flow
    expected = flow[PLACES].mean(0)[1:-1].detach().numpy()
    attributions = unit_scores(make_method("attention_rollout"), probe, np.arange(18))
    np.testing.assert_allclose(attributions, expected, atol=1e-6)
    assert attributions.sum() < 1


@pytest.mark.parametrize("name", ["bert", *TAGGERS])
def test_scores_and_gradients_equal_the_whole_models(tagger, name):
    """Whatever the last layer computes, and whether or not it is cut to the target's places."""
    with models.seeded(1):
        model = tagger[0] if name == "bert" else TAGGERS[name]().eval()
    probe = open_probe(model, [2, *range(50, 68), 3])
    words = probe.words[None].clone().requires_grad_(True)
    whole = probe.score.log_odds(model(inputs_embeds=words).logits[:, PLACES])
    expected = torch.autograd.grad(whole, words)[0][0, 1:-1].numpy()
    np.testing.assert_allclose(probe.gradient(), expected, atol=1e-5)
    keep = np.array([[True] * 18, [True] * 9 + [False] * 9])
    hidden = torch.where(torch.tensor([[True] * 10 + [False] * 9 + [True]])[..., None], words, probe.absent)
    later = probe.score.log_odds(model(inputs_embeds=hidden).logits[:, PLACES])
    np.testing.assert_allclose(probe.log_odds(keep), [whole.item(), later.item()], atol=1e-5)
    chances = model(inputs_embeds=words).logits[0, PLACES].softmax(-1)[:, COLUMNS].sum(-1).mean()
    assert probe.probabilities(keep[:1])[0] == pytest.approx(chances.item(), abs=1e-5)


@pytest.mark.parametrize(
    "kind", [(BertConfig, BertForSequenceClassification), (RobertaConfig, RobertaForSequenceClassification)]
)
def test_a_head_on_the_first_token_sees_the_same(kind):
    with models.seeded(2):
        model = kind[1](kind[0](**SIZES, vocab_size=200, num_labels=3)).eval()
    probe = open_probe(model, [2, *range(50, 68), 3], places=[0])
    words = probe.words[None].clone().requires_grad_(True)
    whole = probe.score.log_odds(model(inputs_embeds=words).logits[:, None])
    np.testing.assert_allclose(probe.log_odds(np.ones((1, 18), dtype=bool)), whole.detach(), atol=1e-5)
    np.testing.assert_allclose(probe.gradient(), torch.autograd.grad(whole, words)[0][0, 1:-1], atol=1e-5)


def test_the_last_layer_is_cut_and_whole_again_also_after_an_error(tagger):
    model = tagger[0]
    last, inputs = model.bert.encoder.layer[-1], {"inputs_embeds": torch.randn(2, 9, 32)}
    with pytest.raises(ZeroDivisionError), last_layer_at(model, [5, 1]) as narrow:
        assert narrow
        cut = model(**inputs).logits
        raise ZeroDivisionError
    assert model.bert.encoder.layer[-1] is last
    torch.testing.assert_close(cut, model(**inputs).logits[:, [5, 1]], atol=1e-5, rtol=0)


def test_independent_labels_have_probabilities_of_their_own():
    logits = torch.tensor([[[1.0, 2.0, -1.0]]])
    both, one = Score.of([1], range(3)), Score.of([1], range(3), independent=True)
    assert one.log_odds(logits).item() == 2.0
    assert one.probability(logits).item() == pytest.approx(1 / (1 + np.exp(-2)))
    chance = both.probability(logits).item()
    assert both.log_odds(logits).item() == pytest.approx(np.log(chance / (1 - chance)), abs=1e-5)
    assert Score.of([0], range(1)).log_odds(torch.tensor([[[3.0]]])).item() == 3.0


def test_only_outputs_that_compete_share_the_probability():
    logits = torch.tensor([[[1.0, 2.0, 9.0, 0.0], [3.0, 2.0, 9.0, 4.0]]])  # (1, places, outputs): two tags, two values
    tag = Score.of([1], [0, 1])
    assert tag.log_odds(logits).item() == pytest.approx(0.0)
    assert tag.probability(logits).item() == pytest.approx((logits[0, :, :2].softmax(-1)[:, 1]).mean().item())
    value = Score.of([2], [2, 3], pooled=True)
    assert value.probability(logits).item() == pytest.approx(logits[0].mean(0)[2:].softmax(-1)[0].item())
    assert value.log_odds(logits).item() == pytest.approx(7.0)


def test_batches_side_by_side_give_the_same(probe):
    alone = probe.along_path(np.linspace(0, 1, 40), np.full(40, 0.025))
    torch.set_num_threads(2)
    try:
        together = probe.along_path(np.linspace(0, 1, 40), np.full(40, 0.025))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_presence_shows_and_hides_whole_units(probe):
    score, whole, none = presence(probe, UNITS)
    assert whole.shape == none.shape == (1, 6)
    keep = np.ones((1, 18), dtype=bool)
    assert score(whole).item() == pytest.approx(probe.log_odds(keep)[0])
    keep[0, 3:6] = False
    shown = whole.clone()
    shown[0, 1] = 0
    assert score(shown).item() == pytest.approx(probe.log_odds(keep)[0])
    assert repr(probe) == "Probe(20 places)"
