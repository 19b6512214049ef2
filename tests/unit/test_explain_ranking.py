"""Parts by strength, and the same explanation in larger parts: equal to asking the model at that grain."""

import pytest
from unit.test_explain_agreement import explanation

from trainer import models
from trainer.errors import UnknownName
from trainer.zoo import resolve
from workbench.explain import METHODS, ExplainOptions, explain_text
from workbench.explain.grains import GRAINS
from workbench.explain.ranking import available_grains, coarsen, rank_parts

TEXT = (
    "HISTORY: Fever, chills (for 3 days); no rash.\r\nSaw Dr. Smith.\nPLAN:\nGive naloxone, 1.5 mg. Hepatitis?\n"
    "\U0001f9ec e\u0301 שלום"
)


def test_the_strongest_come_first_whatever_their_sign():
    ranks = rank_parts(explanation([1, -3, 0, 2]))
    assert [(part.rank, part.start, part.score) for part in ranks] == [(1, 10, -3), (2, 30, 2), (3, 0, 1)]
    assert [part.share for part in ranks] == pytest.approx([1 / 2, 1 / 3, 1 / 6])
    assert rank_parts(explanation([0, 0])) == []


def test_only_scores_that_add_up_are_shown_in_larger_parts():
    assert available_grains(explanation([1], method="saliency", grain="word")) == GRAINS[:4]
    assert available_grains(explanation([1], method="saliency", grain="piece")) == (
        "section",
        "sentence",
        "phrase",
        "piece",
    )
    assert available_grains(explanation([1], method="kernel_shap", grain="word")) == ("word",)
    with pytest.raises(UnknownName, match="grain of this explanation"):
        coarsen(explanation([1], method="kernel_shap", grain="word"), TEXT, "section")


@pytest.mark.parametrize("grain", ["section", "sentence", "phrase"])
@pytest.mark.parametrize("asked", ["word", "piece"])
def test_larger_parts_are_what_the_model_would_have_answered(tiny_model, grain, asked):
    model, tokenizer = models.load(resolve(str(tiny_model)))
    each = [ExplainOptions(method="saliency", orders=0, grain=one) for one in (asked, grain)]
    fine, coarse = (explain_text(TEXT, model, tokenizer, "9:14:Disease", options, name="m") for options in each)
    shown = coarsen(fine, TEXT, grain)
    assert shown.grain == grain
    assert [(part.start, part.end) for part in shown.attributions] == [(p.start, p.end) for p in coarse.attributions]
    assert [p.score for p in shown.attributions] == pytest.approx([p.score for p in coarse.attributions])
    assert coarsen(fine, TEXT, asked) is fine
    assert METHODS["saliency"].at == "pieces"
