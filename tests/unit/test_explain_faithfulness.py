"""Faithfulness on models whose true attributions are known: good scores are trusted, others are not."""

import numpy as np
import pytest
import torch
from toy_models import BagOfWords, read_tokenizer

from trainer import models
from trainer.datasets.rows.pieces import cut
from trainer.inference.target_score import Probe, Score
from workbench.explain import METHODS, ExplainOptions, explain_text, faithfulness
from workbench.explain.methods import make_method, unit_scores
from workbench.explain.traits import PieceMethod

FILLER = "the patient was seen in clinic today and we went over all of the plan with her at length again"
TEXT = f"{FILLER} insulin {FILLER} nausea {FILLER} cancer {FILLER} fever {FILLER} pain {FILLER}"
WEIGHTS = {"insulin": 3.0, "nausea": 2.0, "cancer": 2.0, "fever": -1.0, "pain": 0.5}
SIGNED = [n for n, kind in METHODS.items() if kind.targeted and kind.signed and n != "input_x_gradient"]
OPTIONS = {"occlusion": {"width": 1}, "kernel_shap": {"samples": 400}, "gradient_shap": {"noise": 0.01}}


@pytest.fixture(scope="module")
def tokenizer(tiny_model):
    return read_tokenizer(tiny_model)


@pytest.fixture(scope="module")
def bag(tokenizer):
    """(model, tokenizer): "yes" has the probability 0.95 with every word, 0.03 with none."""
    return BagOfWords(tokenizer, WEIGHTS, bias=-3.5, noise=0.0), tokenizer


@pytest.fixture(scope="module")
def case(bag):
    """(probe, owner, true scores) of TEXT; every piece is a unit."""
    model, tokenizer = bag
    ids = cut(TEXT, tokenizer).ids.tolist()
    probe = Probe(
        model,
        [tokenizer.cls_token_id, *ids, tokenizer.sep_token_id],
        before=1,
        free=np.ones(len(ids), dtype=bool),
        places=[0],
        score=Score.of([1], range(2)),
        baseline_id=tokenizer.mask_token_id,
    )
    return probe, np.arange(len(ids)), model.embeddings.weight.detach()[ids, 0].numpy()


def test_the_figures_are_those_of_a_plain_loop(case):
    """Written out once more: for each share of the parts, hide the highest, or all but the highest."""
    probe, owner, true = case

    def probability(shown: np.ndarray) -> float:
        return 1 / (1 + np.exp(3.5 - true[shown].sum()))

    def falls(order: np.ndarray) -> tuple[float, float]:
        pairs = []
        for share in (0.01, 0.05, 0.1, 0.2, 0.5):
            size, every = int(np.ceil(share * len(true))), np.ones(len(true), dtype=bool)
            named = np.isin(np.arange(len(true)), order[:size])
            pairs.append([probability(every) - probability(~named), probability(every) - probability(named)])
        return tuple(np.mean(pairs, axis=0))

    random = np.random.default_rng(3)
    others = np.mean([falls(random.permutation(len(true))) for _ in range(4)], axis=0)
    figures, trusted = faithfulness.measure(probe, owner, true, orders=4, seed=3)
    curve = falls(np.argsort(-true, kind="stable"))
    assert (figures.comprehensiveness, figures.sufficiency) == pytest.approx(curve, abs=1e-5)
    assert (figures.random_comprehensiveness, figures.random_sufficiency) == pytest.approx(tuple(others), abs=1e-5)
    assert trusted
    assert figures.comprehensiveness > 0.8 and figures.sufficiency < 0.1


def test_shuffled_scores_are_not_trusted(case):
    probe, owner, true = case
    random = np.random.default_rng(0)
    trusted = [faithfulness.measure(probe, owner, random.permutation(true), seed=n)[1] for n in range(100)]
    assert sum(trusted) <= 6, "about 3 in a hundred pass by chance"


def test_reversed_and_constant_scores_are_not_trusted(case):
    probe, owner, true = case
    assert not faithfulness.measure(probe, owner, -true)[1]
    assert not faithfulness.measure(probe, owner, np.zeros_like(true))[1]


def test_what_changes_nothing_is_not_trusted(tokenizer):
    """A model that looks at no word: no order can be better than another."""
    explanation = explain_text(TEXT, BagOfWords(tokenizer, {}, bias=3.0), tokenizer, "yes", name="blind")
    assert explanation.trusted is False
    assert explanation.faithfulness.comprehensiveness == explanation.faithfulness.random_comprehensiveness == 0


def test_one_part_alone_cannot_be_trusted(bag):
    explanation = explain_text("insulin nausea cancer", *bag, "yes", ExplainOptions(grain="section"), name="toy")
    assert len(explanation.attributions) == 1
    assert explanation.trusted is False


@pytest.mark.parametrize("name", SIGNED)
def test_a_method_that_finds_the_truth_is_trusted(bag, name):
    options = ExplainOptions(method=name, grain="word", method_options=OPTIONS.get(name, {}))
    explanation = explain_text(TEXT, *bag, "yes", options, name="toy")
    assert explanation.trusted is True
    best = max(explanation.attributions, key=lambda part: part.score)
    assert TEXT[best.start : best.end] == "insulin"


def test_a_method_that_cannot_see_the_truth_is_not_trusted(bag):
    """The gradient of a linear model is the same everywhere: its length says nothing."""
    assert explain_text(TEXT, *bag, "yes", ExplainOptions(method="saliency"), name="toy").trusted is False


def test_parts_that_cannot_be_hidden_take_no_part(case):
    probe, owner, true = case
    fixed = probe.with_words(probe.words)
    fixed.free = np.arange(len(owner)) != int(np.argmax(true))
    figures, _ = faithfulness.measure(fixed, owner, true, orders=3)
    without = np.where(fixed.free, true, -9)  # the highest one ranks last instead, and still nothing changes
    assert faithfulness.measure(fixed, owner, without, orders=3)[0] == figures


def test_infidelity_of_the_truth_is_nothing_and_of_another_is_not(case):
    probe, owner, true = case
    assert faithfulness.infidelity(probe, owner, true) == pytest.approx(0, abs=1e-6)
    assert faithfulness.infidelity(probe, owner, true[::-1].copy()) > 0.5


def test_sensitivity_is_nothing_where_noise_changes_nothing_and_grows_with_it(case):
    probe, owner, _ = case
    ablation = make_method("feature_ablation")
    still = faithfulness.sensitivity(ablation, probe, owner, radius=1e-6)
    near, far = (faithfulness.sensitivity(ablation, probe, owner, radius=radius) for radius in (0.1, 0.5))
    assert still < 1e-4 < near < far


def test_shuffled_weights_change_an_explanation_that_is_of_the_model(tiny_model):
    model, tokenizer = models.load(str(tiny_model))
    text = f"{FILLER} {FILLER}"
    options = ExplainOptions(method_options={"steps": 8}, checks=True, orders=0)
    explanation = explain_text(text, model, tokenizer, "4:11:Disease", options, name="tiny")
    assert abs(explanation.checks.randomised) < 0.7
    assert explanation.checks.infidelity >= 0 and explanation.checks.sensitivity > 0
    assert explanation.to_json()["checks"]["randomised"] == explanation.checks.randomised


class Places(PieceMethod):
    """Says where a piece stands, whatever the model is."""

    def rows(self, units: int) -> int:
        return 0

    def attribute(self, probe) -> np.ndarray:
        return np.arange(len(probe.free), dtype=float)


def test_an_explanation_that_ignores_the_model_is_found_out_by_shuffled_weights(case):
    probe, owner, _ = case
    before = {name: value.clone() for name, value in probe.model.state_dict().items()}
    places = Places(name="places")
    assert faithfulness.randomised(places, probe, owner, unit_scores(places, probe, owner)) == pytest.approx(1)
    assert all(torch.equal(value, before[name]) for name, value in probe.model.state_dict().items())


def test_the_predicted_number_of_rows_is_read(case):
    probe, owner, true = case
    before = probe.progress.done
    faithfulness.measure(probe, owner, true, orders=3)
    assert probe.progress.done - before == faithfulness.count_rows(len(owner), 3)
    assert faithfulness.count_rows(50, 0) == 0
