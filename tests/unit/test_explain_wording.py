"""What a page says of an explanation: whether to rely on it and why, in words that follow the figures."""

import re

import pytest
from unit.test_explain_agreement import explanation

from workbench.explain.agreement import compare_explanations
from workbench.explain.explanation import Checks, Faithfulness
from workbench.explain.methods import METHODS
from workbench.explain.targets import parse
from workbench.explain.wording import (
    account,
    describe_agreement,
    describe_target,
    method_summary,
    name_target,
    verdict,
)


def measured(measured_fall: tuple[float, float], random: tuple[float, float], *, trusted: bool, **fields):
    names = ("comprehensiveness", "sufficiency", "random_comprehensiveness", "random_sufficiency")
    figures = Faithfulness(**dict(zip(names, (*measured_fall, *random), strict=True)))
    return explanation([3, 2, -1], faithfulness=figures, trusted=trusted, **fields)


def test_one_that_beats_random_orders_says_by_how_much():
    judgement = verdict(measured((0.41, 0.02), (0.05, 0.6), trusted=True))
    assert (judgement.level, judgement.title) == ("better", "Better than chance")
    assert judgement.meaning == "The marked words really move this model's score, more than random words do."
    assert judgement.figures == (
        "Without the words that it ranks highest, the score falls by 41 percentage points; "
        "without as many random words, it falls by 5 percentage points.",
        "With only those words, the score falls by 2 percentage points; "
        "with as many random ones, it falls by 60 percentage points.",
    )


@pytest.mark.parametrize(
    ("measured_fall", "random", "why"),
    [
        ((0.05, 0.6), (0.05, 0.5), "matter no more to the model than random words"),
        ((0.02, 0.3), (0.05, 0.5), "Without the words that it ranks highest, the score is no better"),
        ((0.3, 0.5), (0.05, 0.5), "With only the words that it ranks highest, the score is no better"),
        ((0.07, 0.48), (0.05, 0.5), "not by enough to rule out chance"),
    ],
)
def test_one_that_does_not_says_do_not_rely_on_it_and_where_it_fails(measured_fall, random, why):
    judgement = verdict(measured(measured_fall, random, trusted=False))
    assert (judgement.level, judgement.title) == ("doubtful", "Do not rely on this")
    assert why in judgement.figures[0]
    assert f"falls by {100 * measured_fall[0]:.0f} percentage points" in judgement.figures[1]
    assert "random words" in judgement.meaning and judgement.meaning.count(".") == 1, "one plain sentence, no figures"


def test_a_score_of_almost_nothing_leaves_little_to_explain():
    assert "score for this is 4%" in verdict(measured((0, 0), (0, 0), trusted=False, probability=0.04)).meaning
    assert "little" not in verdict(measured((0, 0), (0, 0), trusted=False, probability=0.4)).meaning


def test_a_score_that_does_not_fall_is_not_described_as_a_fall():
    figures = verdict(measured((-0.2, 0.001), (0.05, 0.5), trusted=False)).figures
    assert "it ranks highest, the score rises by 20 percentage points" in figures[1]
    assert "With only those words, the score stays the same;" in figures[2]


def test_what_was_not_measured_is_stated():
    assert verdict(explanation([1, 0])) == (
        "unmeasured",
        "Not measured",
        "These words have not been compared with random ones yet: take them as a first hint.",
        (),
    )
    assert "No part was hidden" in verdict(explanation([0, 0])).meaning


def test_a_sum_that_is_far_off_is_stated():
    near = verdict(explanation([3, 2], method="integrated_gradients", convergence_delta=0.02)).figures[-1]
    assert near == "The scores add up to +5.00; the log-odds change by +4.98 (convergence delta +0.020)."
    far = verdict(explanation([3, 2], method="integrated_gradients", convergence_delta=-1.0)).figures[-1]
    assert "take more steps" in far and "+6.00" in far


def test_checks_come_with_their_meaning_and_an_untargeted_method_is_marked():
    checks = Checks(infidelity=0.1234, sensitivity=0.5, randomised=None)
    judgement = verdict(explanation([1, 2], method="attention_rollout", checks=checks))
    assert "does not use the label" in judgement.meaning
    infidelity, sensitivity, randomised = judgement.figures
    assert "Infidelity 0.123 " in infidelity and "Sensitivity 0.50 " in sensitivity and "undefined" in randomised
    assert "0.87" in verdict(explanation([1], checks=checks.model_copy(update={"randomised": 0.87}))).figures[-1]


@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_a_plain_sentence_and_a_unit(name):
    sentence = method_summary(name)
    assert sentence.endswith((".", ")")) and 30 < len(sentence) < 160 and not re.search(r"[=_\n]|\bar[Xx]iv", sentence)
    assert METHODS[name].unit and METHODS[name].signed in (True, False)


def test_how_it_was_computed_is_stated():
    fields = {"method": "integrated_gradients", "options": {"steps": 50}, "context": True, "probability": 0.9991}
    assert account(explanation([1], **fields)) == [
        "Integrated gradients, steps 50, scores in log-odds",
        "by word",
        "hidden parts become mask",
        "the target's own words stay in place",
        "score >99%, +1.00 log-odds",
    ]


def test_targets_read_as_a_person_says_them():
    assert describe_target(parse("3:9:Disease"), "sepsis") == "Disease: sepsis"
    assert describe_target(parse("3:9:Disease")) == "Disease: characters 3 to 9"
    assert describe_target(parse("Urology")) == "Urology, of the whole note"
    assert describe_target(parse("3:9:@assertion=absent"), "sepsis") == "Why absent? sepsis"
    assert name_target(parse("3:9:@assertion=absent"), "sepsis") == "“sepsis” as absent"
    assert name_target(parse("3:9:Disease")) == "3:9 as Disease" and name_target(parse("Urology")) == "Urology"


def test_outputs_compete_with_those_of_their_kind():
    names = ["O", "B-problem", "I-problem", "@assertion=absent", "@assertion=present", "@severity=mild"]
    span, value = parse("0:5:problem"), parse("0:5:@assertion=present")
    assert (span.columns(names), span.competing(names)) == ([1, 2], [0, 1, 2])
    assert (value.columns(names), value.competing(names)) == ([4], [3, 4])
    assert parse("a").competing(["a", "b"]) == [0, 1]


def test_agreement_is_stated_with_its_figures():
    sentences = describe_agreement(
        compare_explanations(explanation([5, 4, 3, 2, 1]), explanation([1, 4, 3, 2, 5]), k=2), "word"
    )
    assert "Spearman -0.60" in sentences[1] and "Kendall -0.40" in sentences[1]
    assert sentences[0] == "Of the 2 words with the strongest support, 1 is the same."
    assert (
        "Spearman undefined"
        in describe_agreement(compare_explanations(explanation([1, 1]), explanation([1, 2])), "word")[1]
    )
