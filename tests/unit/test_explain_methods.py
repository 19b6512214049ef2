"""Every attribution method keeps the promises of its entry; explanations of long notes, cancelling, and silence."""

import logging
from pathlib import Path

import numpy as np
import pytest
from toy_models import BagOfWords, OwnWordTagger, read_tokenizer

from trainer import models, zoo
from trainer.errors import BadData, BadSpec, StillroomError, Unavailable, UnknownName
from trainer.inference import Cancelled
from workbench.explain import GRAINS, METHODS, ExplainOptions, ablate, explain, explain_stream, explain_text
from workbench.explain.methods import make_method
from workbench.note import Note

TEXT = (
    "HISTORY:\r\nPt \U0001f600 with ataxia-telangiectasia, and cafe\u0301 au lait spots; no nausea.\r\n"
    "\u0639\u062f\u0648\u0649 was treated. Insulin helped!\rPLAN:\r\nStop aspirin, watch fever."
)
SPAN = (TEXT.index("ataxia"), TEXT.index(", and cafe"))
TARGET = f"{SPAN[0]}:{SPAN[1]}:Disease"
TARGETED = [name for name, kind in METHODS.items() if kind.targeted]
FEW = {"integrated_gradients": {"steps": 20}, "kernel_shap": {"samples": 60}}


@pytest.fixture(scope="module")
def tagger(tiny_model):
    """(model, tokenizer) of the tiny tagger, its head scaled so that scores differ."""
    model, tokenizer = models.load(str(tiny_model))
    model.classifier.weight.data *= 20
    return model, tokenizer


@pytest.fixture(scope="module")
def tokenizer(tiny_model):
    return read_tokenizer(tiny_model)


SALIENCY = ExplainOptions(method="saliency")


def why(
    tagger,
    *,
    text=TEXT,
    target=TARGET,
    method="integrated_gradients",
    options=None,
    progress=None,
    cancelled=None,
    **how,
):
    few = FEW.get(method, {}) if options is None else options
    chosen = ExplainOptions(method=method, method_options=few, **{"orders": 0} | how)
    return explain_text(text, *tagger, target, chosen, name="tiny", progress=progress, cancelled=cancelled)


def scores(explanation) -> np.ndarray:
    return np.array([part.score for part in explanation.attributions])


@pytest.mark.parametrize("name", METHODS)
def test_an_entry_declares_itself(name):
    kind = METHODS[name]
    assert kind().name == name
    assert (kind.at in ("pieces", "units"), kind.grain in GRAINS) == (True, True)
    assert kind.title and kind().rows(10) >= 1


@pytest.mark.parametrize("name", METHODS)
def test_scores_depend_on_the_text_and_are_the_same_twice(tagger, name):
    before = {key: value.clone() for key, value in tagger[0].state_dict().items()}
    first, second = why(tagger, method=name), why(tagger, method=name)
    assert first.attributions == second.attributions
    assert np.ptp(scores(first)) > 0
    assert all((value == before[key]).all() for key, value in tagger[0].state_dict().items())
    assert all(weight.requires_grad and weight.grad is None for weight in tagger[0].parameters())
    assert tagger[0].config._attn_implementation == "sdpa"


@pytest.mark.parametrize("grain", GRAINS)
@pytest.mark.parametrize("name", METHODS)
def test_parts_are_places_in_the_text_in_order(tagger, name, grain):
    explanation = why(tagger, method=name, grain=grain)
    places = [(part.start, part.end) for part in explanation.attributions]
    assert explanation.grain == grain
    assert places == sorted(places)
    assert all(end <= start for (_, end), (start, _) in zip(places, places[1:], strict=False))
    for start, end in places:
        covered = TEXT[start:end]
        assert covered and covered == covered.strip()
    read = "".join(TEXT[start:end] for start, end in places)
    marks = str.maketrans("", "", " \r\n\u0301")  # this tokenizer drops accents, so a mark may be in no piece
    assert read.translate(marks) == TEXT.translate(marks), "every other character is in a part"


@pytest.mark.parametrize("name", [name for name, kind in METHODS.items() if kind.at == "pieces"])
def test_sums_are_kept_across_grains(tagger, name):
    by_grain = {grain: why(tagger, method=name, grain=grain).attributions for grain in GRAINS}
    for coarse, fine in zip(GRAINS, GRAINS[1:], strict=False):
        assert len(by_grain[coarse]) <= len(by_grain[fine])
        for part in by_grain[coarse]:
            inside = [each.score for each in by_grain[fine] if part.start <= each.start and each.end <= part.end]
            assert sum(inside) == pytest.approx(part.score, abs=1e-5)


@pytest.mark.parametrize("name", [name for name, kind in METHODS.items() if kind.complete])
def test_scores_of_a_complete_method_sum_to_what_the_text_adds(tagger, name):
    explanation = why(tagger, method=name)
    gap = why(tagger, method="occlusion", options={"width": 100}, grain="piece")  # hides everything at once
    assert scores(explanation).sum() == pytest.approx(scores(gap)[0], abs=0.02)
    assert explanation.convergence_delta == pytest.approx(scores(explanation).sum() - scores(gap)[0], abs=1e-4)


@pytest.mark.parametrize("name", [name for name, kind in METHODS.items() if not kind.complete])
def test_a_method_that_promises_no_sum_states_no_delta(tagger, name):
    assert why(tagger, method=name).convergence_delta is None


@pytest.mark.parametrize("name", [n for n in TARGETED if METHODS[n].signed and n != "input_x_gradient"])
def test_the_true_attributions_of_a_linear_model_are_recovered(tokenizer, name):
    """In a bag of words a part's attribution is the sum of its words' weights."""
    model = BagOfWords(tokenizer, {"insulin": 3.0, "nausea": -2.0, "fever": 1.0}, bias=-1.0)
    options = {"gradient_shap": {"noise": 0.0}, "occlusion": {"width": 1}} | FEW
    explanation = why((model, tokenizer), target="yes", method=name, grain="sentence", options=options.get(name))
    expected = {"nausea": -2.0, "Insulin": 3.0, "fever": 1.0}
    for part in explanation.attributions:
        true = sum(weight for word, weight in expected.items() if word in TEXT[part.start : part.end])
        assert part.score == pytest.approx(true, abs=0.02)


@pytest.mark.parametrize("name", TARGETED)
def test_nothing_but_the_targets_own_words_counts_where_nothing_else_can(tokenizer, name):
    model = OwnWordTagger(tokenizer, {"insulin": 3.0, "fever": 4.0})
    start = TEXT.index("Insulin")
    target = f"{start}:{start + 7}:Disease"
    options = {"width": 1} if name == "occlusion" else FEW.get(name)
    explanation = why((model, tokenizer), target=target, method=name, grain="word", options=options)
    scores_of_target = [part.score for part in explanation.attributions if part.start == start]
    others = [abs(part.score) for part in explanation.attributions if part.start != start]
    assert abs(scores_of_target[0]) > 0.5
    assert max(others) < (0.2 if name == "kernel_shap" else 1e-5)


@pytest.mark.parametrize("name", TARGETED)
def test_another_target_has_another_explanation(tagger, name):
    fever = TEXT.index("fever")
    other = why(tagger, target=f"{fever}:{fever + 5}:Disease", method=name)
    assert not np.allclose(scores(why(tagger, method=name)), scores(other))


@pytest.mark.parametrize("name", METHODS)
def test_with_context_the_targets_own_words_have_nothing(tagger, name):
    explanation = why(tagger, method=name, grain="word", context=True)
    inside = [part.score for part in explanation.attributions if SPAN[0] <= part.start and part.end <= SPAN[1]]
    outside = [part.score for part in explanation.attributions if part.end <= SPAN[0]]
    assert len(inside) == 3 and any(outside)
    near = 1 if name == "occlusion" else 0  # it hides neighbours together, so their effect spreads
    assert near or inside == pytest.approx([0, 0, 0], abs=0.05 if name == "kernel_shap" else 1e-6)


@pytest.mark.parametrize("name", METHODS)
def test_a_long_note_is_explained_in_the_targets_window(tagger, name):
    text = "Nothing of note here. " * 60 + TEXT + " Nothing after it either." * 60
    shift = text.index(TEXT)
    target = f"{SPAN[0] + shift}:{SPAN[1] + shift}:Disease"
    explanation = why(tagger, text=text, target=target, method=name, max_tokens=128)
    (first, start), (end, last) = explanation.coverage.unread
    assert (first, last) == (0, len(text))
    assert 0 < start <= SPAN[0] + shift and SPAN[1] + shift <= end < len(text)
    assert explanation.coverage.tokens_read <= 126 < explanation.coverage.tokens
    for part in explanation.attributions:
        unread = part.end <= start or part.start >= end
        assert not (unread and part.score)
    assert any(part.score for part in explanation.attributions)
    changed = "Someone" + text[7:]  # outside the window, and as many word pieces as before
    again = why(tagger, text=changed, target=target, method=name, max_tokens=128)
    seen = [part for part in explanation.attributions if part.start >= start and part.end <= end]
    assert seen == [part for part in again.attributions if part.start >= start and part.end <= end]


def test_a_window_that_inference_keeps_the_target_in_is_the_one_that_is_explained(tagger):
    from trainer import inference
    from trainer.datasets.rows.pieces import cut

    text = "Fever and ataxia with cough. " * 60
    pieces = cut(text, tagger[1])
    table = inference.windows(len(pieces), 62)
    for piece in (5, 60, 150, len(pieces) - 3):
        target = f"{pieces.starts[piece]}:{pieces.ends[piece]}:Disease"
        explanation = why(tagger, text=text, target=target, method="saliency", grain="piece", max_tokens=64)
        start, end = next((row[0], row[1]) for row in table if row[2] <= piece < row[3])
        window = [pieces.starts[start], pieces.ends[end - 1]]
        seen = [part for part in explanation.attributions if part.score]
        assert [seen[0].start, seen[-1].end] == window


def test_whole_reads_as_far_as_the_model_can_and_truncate_may_miss_the_target(tagger):
    whole = why(tagger, method="saliency", reading="whole")
    assert whole.coverage.unread == ()
    late = TEXT.index("fever")
    with pytest.raises(BadSpec, match=f"found {late}:{late + 5}, where the model reads no word"):
        why(tagger, target=f"{late}:{late + 5}:Disease", reading="truncate", max_tokens=16)


def test_a_label_of_a_long_note_is_explained_in_its_strongest_window(tokenizer):
    model = BagOfWords(tokenizer, {"insulin": 3.0}, bias=-1.0)
    text = "Nothing of note here. " * 60 + "Insulin helped. " + "Nothing after it. " * 60
    seen = []
    follow = {"progress": lambda done, rows: seen.append((done, rows)), "context": True}  # it has no words of its own
    explanation = why((model, tokenizer), text=text, target="yes", grain="word", max_tokens=64, **follow)
    assert seen[-1][0] == seen[-1][1]
    best = max(explanation.attributions, key=lambda part: part.score)
    assert text[best.start : best.end] == "Insulin"
    assert explanation.probability == pytest.approx(1 / (1 + np.exp(-2)), abs=1e-4)


@pytest.mark.parametrize("name", METHODS)
def test_cancelling_stops_between_two_batches(tagger, name):
    asked = []

    def cancelled() -> bool:
        asked.append(True)
        return len(asked) > 1

    with pytest.raises(Cancelled):
        why(tagger, method=name, cancelled=cancelled)
    assert len(asked) == 2
    assert why(tagger, method=name).attributions, "the model is as it was"


@pytest.mark.parametrize("name", METHODS)
def test_progress_ends_at_the_predicted_number_of_rows(tagger, name):
    seen = []
    why(tagger, method=name, orders=2, progress=lambda done, rows: seen.append((done, rows)))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert len({rows for _, rows in seen}) == 1
    assert seen[-1][0] == seen[-1][1]


def test_a_stream_gives_sentences_first_and_then_what_was_asked(tagger):
    text, options = TEXT + " More of it. " * 5, ExplainOptions(method_options={"steps": 5}, orders=2)
    coarse, fine = explain_stream(text, *tagger, TARGET, options, name="tiny")
    assert (coarse.method, coarse.grain, coarse.faithfulness) == ("feature_ablation", "sentence", None)
    assert (fine.method, fine.grain) == ("integrated_gradients", "word")
    assert fine.faithfulness is not None
    ablation = ExplainOptions(method="feature_ablation", orders=2)
    alone = list(explain_stream(text, *tagger, TARGET, ablation, name="tiny"))
    assert len(alone) == 1


def test_a_stream_reports_a_mistake_before_it_computes(tagger):
    reads = []
    with pytest.raises(BadSpec, match="steps"):
        wrong = ExplainOptions(method_options={"steps": 0})
        next(explain_stream(TEXT, *tagger, TARGET, wrong, name="tiny", progress=reads.append))
    assert not reads


def test_hiding_the_targets_words_takes_its_probability_away(tokenizer):
    model = OwnWordTagger(tokenizer, {"insulin": 5.0})
    start = TEXT.index("Insulin")
    target, places = f"{start}:{start + 7}:Disease", [(start, start + 7)]
    gone = ablate(TEXT, model, tokenizer, target, places, ExplainOptions(context=False))
    assert (gone.before, gone.after) == (pytest.approx(0.99, abs=0.02), pytest.approx(2 / 3, abs=0.01))
    stays = ablate(TEXT, model, tokenizer, target, places)
    assert stays.before == stays.after == gone.before
    assert gone.hidden == tuple(places)


def test_explain_takes_a_note_and_a_model_reference(tiny_model):
    explanation = explain(Note(TEXT), str(tiny_model), TARGET, SALIENCY)
    assert (explanation.model, explanation.target, explanation.baseline) == (str(tiny_model), TARGET, "mask")
    assert set(explanation.to_json()) == {
        "target",
        "method",
        "attributions",
        "convergence_delta",
        "faithfulness",
        "trusted",
    }
    assert set(explanation.to_json()["attributions"][0]) == {"start", "end", "score"}
    named = explain(Note(TEXT), zoo.resolve(str(tiny_model)), TARGET, SALIENCY, name="mine")
    assert named.model == "mine"


@pytest.mark.parametrize(
    ("target", "error", "message"),
    [
        ("5:9:Disese", UnknownName, "Did you mean 'Disease'"),
        ("5:9999:Disease", BadSpec, f"found 5:9999; the text has {len(TEXT)} characters"),
        ("9:9:Disease", BadSpec, "START is before END"),
        ("8:10:Disease", BadSpec, "reads no word"),  # the line end
        ("Disease", BadSpec, "this model marks spans: write START:END:LABEL"),
        (" ", BadSpec, "write START:END:LABEL or LABEL"),
    ],
)
def test_a_target_that_cannot_be_explained_says_why(tagger, target, error, message):
    with pytest.raises(error, match=message) as raised:
        why(tagger, target=target)
    assert "without --target" in raised.value.next_step


def test_a_label_that_the_model_does_not_know_and_a_span_for_a_document_model(tokenizer):
    model = BagOfWords(tokenizer, {}, bias=0.0)
    with pytest.raises(UnknownName, match="Known: no, yes"):
        why((model, tokenizer), target="maybe")
    with pytest.raises(BadSpec, match="this model labels whole texts: write LABEL"):
        why((model, tokenizer), target=TARGET)


def test_unknown_methods_options_grains_and_baselines_are_refused(tagger):
    with pytest.raises(UnknownName, match="Did you mean 'saliency'"):
        why(tagger, method="salience")
    with pytest.raises(BadSpec, match=r"kernel_shap\.samples"):
        why(tagger, method="kernel_shap", options={"samples": 1})
    with pytest.raises(UnknownName, match="phrase"):
        why(tagger, grain="letter")
    with pytest.raises(UnknownName, match="Known: mask, pad"):
        why(tagger, baseline="zero")
    assert make_method("occlusion", {"width": 2}).width == 2


def test_the_baseline_matters_and_is_stated(tagger):
    mask, pad = why(tagger), why(tagger, baseline="pad")
    assert (mask.baseline, pad.baseline) == ("mask", "pad")
    assert not np.allclose(scores(mask), scores(pad))


def test_a_note_of_which_no_piece_is_left(tagger):
    with pytest.raises(BadData, match="no word piece"):
        why(tagger, text="\u200b\u200b", target="0:1:Disease")


def test_rollout_needs_attention_maps(tokenizer):
    from transformers import LongformerConfig, LongformerForTokenClassification

    sizes = {"hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 64, "num_hidden_layers": 2}
    tags = {"id2label": {0: "O", 1: "B-Disease"}, "label2id": {"O": 0, "B-Disease": 1}}
    config = LongformerConfig(
        **sizes, **tags, vocab_size=len(tokenizer), max_position_embeddings=514, attention_window=[16, 16]
    )
    longformer = LongformerForTokenClassification(config).eval()
    with pytest.raises(Unavailable, match="full attention map") as raised:
        why((longformer, tokenizer), method="attention_rollout")
    assert "integrated_gradients" in raised.value.next_step
    assert why((longformer, tokenizer), options={"steps": 3}).attributions, "other methods work"
    with pytest.raises(Unavailable, match="BagOfWords does not show"):
        why((BagOfWords(tokenizer, {}, bias=0.0), tokenizer), target="yes", method="attention_rollout")


@pytest.mark.parametrize("name", METHODS)
def test_no_note_text_in_what_is_kept_said_or_logged(tagger, caplog, capsys, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    secret = "Zebulon Quux"
    with caplog.at_level(logging.DEBUG):
        explanation = why(tagger, text=f"{secret} {TEXT}", method=name, target="0:7:Disease", orders=1)
        output = repr(explanation) + str(explanation.to_json())
        for target in ("0:7:Zebra", "0:90000:Disease"):
            with pytest.raises(StillroomError) as raised:
                why(tagger, text=f"{secret} {TEXT}", method=name, target=target)
            output += str(raised.value)
    output += caplog.text + "".join(capsys.readouterr())
    assert not any(word.lower() in output.lower() for word in secret.split())
    assert not any(Path(tmp_path).rglob("*"))
