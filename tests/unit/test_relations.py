"""Relations: candidate pairs and their passages, training rows, heads of every family, scores and predictions."""

import csv
import io
import json
import zipfile
from datetime import datetime

import numpy as np
import pytest
import torch
from families import FAMILIES, family
from transformers import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING, AutoTokenizer

from trainer import inference, models, zoo
from trainer.architectures.minialbert_heads import MiniAlbertForSequenceClassification
from trainer.datasets.places import digest
from trainer.datasets.readers.entities import Entity
from trainer.datasets.readers.related import RelatedDocument, Relation
from trainer.datasets.rows.candidates import (
    Candidate,
    Mention,
    PairReading,
    PairTypes,
    find_candidates,
    fit,
    mark,
    pair_mentions,
    pair_types,
)
from trainer.datasets.rows.pieces import Pieces
from trainer.errors import BadSpec
from trainer.evaluation import document_scores
from trainer.evaluation.document_scores import Answers, metrics
from trainer.examples import open_data
from trainer.prediction import Cost, Coverage, Prediction, Span
from trainer.prediction import Relation as Found
from trainer.resolved import ResolvedDataset
from trainer.tasks.relations import Relations
from workbench import explain, highlight
from workbench.compare import compare as compare_predictions
from workbench.compare import report
from workbench.compare.costs import Weights
from workbench.compare.filters import Filter, apply_filter
from workbench.compare.relations import as_csv, list_relations
from workbench.explain import ExplainOptions
from workbench.highlight import arcs
from workbench.note import Note

TEXT = "Aspirin caused a rash and fever. Codeine did not. Later came hives."
KINDS = {"Aspirin": "Drug", "rash": "Problem", "fever": "Problem", "Codeine": "Drug", "hives": "Problem"}
DRUG_PROBLEM = PairReading(types=(PairTypes("Drug", "Problem"),), negative="none")


def mentions(words=KINDS, text=TEXT):
    return tuple(Entity(text.index(word), text.index(word) + len(word), kind, id=word) for word, kind in words.items())


def document(*relations, groups=None, **options):
    names = list(KINDS)
    stated = tuple(Relation(names.index(head), names.index(tail), label) for head, tail, label in relations)
    return RelatedDocument(TEXT, mentions(), groups or tuple((n,) for n in range(5)), stated, 1, **options)


def named(candidates):
    return {(TEXT[c.head.start : c.head.end], TEXT[c.tail.start : c.tail.end]): c.labels for c in candidates.pairs}


# Candidates


def test_candidates_are_pairs_of_a_sentence_whose_types_are_related_in_train():
    text = document(("Aspirin", "rash", "causes"), ("Codeine", "hives", "causes"))
    assert pair_types([text]) == DRUG_PROBLEM.types
    found = find_candidates(text, DRUG_PROBLEM)
    assert named(found) == {("Aspirin", "rash"): ("causes",), ("Aspirin", "fever"): ("none",)}
    assert found.missed == [("causes",)]  # of different sentences
    passages = {TEXT[pair.start : pair.end] for pair in found.pairs}
    assert passages == {"Aspirin caused a rash and fever. "}


def test_pairs_across_sentences_by_choice():
    text = document(("Codeine", "hives", "causes"))
    two = find_candidates(text, DRUG_PROBLEM.model_copy(update={"max_sentences": 2}))
    assert named(two)["Codeine", "hives"] == ("causes",) and not two.missed
    assert named(two)["Codeine", "rash"] == ("none",) and ("Aspirin", "hives") not in named(two)
    assert len(find_candidates(text, DRUG_PROBLEM.model_copy(update={"max_sentences": 3})).pairs) == 6


def test_of_concepts_the_closest_mentions_are_read():
    """Rash and hives are one concept, as in PubTator files: Aspirin is related to it once."""
    groups = ((0,), (1, 4), (2,), (3,))
    text = RelatedDocument(TEXT, mentions(), groups, (Relation(0, 1, "causes"),), 1)
    found = find_candidates(text, DRUG_PROBLEM.model_copy(update={"max_sentences": 3}))
    assert named(found)["Aspirin", "rash"] == ("causes",) and ("Aspirin", "hives") not in named(found)
    assert named(found)["Codeine", "rash"] == ("none",)  # as close in sentences as hives, and closer in characters


def test_a_pair_keeps_all_its_labels():
    text = document(("Aspirin", "rash", "causes"), ("Aspirin", "rash", "worsens"))
    assert named(find_candidates(text, DRUG_PROBLEM))["Aspirin", "rash"] == ("causes", "worsens")


def test_of_one_type_the_order_of_train_counts():
    text = document(("rash", "fever", "before"))
    (types,) = pair_types([text])
    assert types == PairTypes("Problem", "Problem", in_order=True)
    assert set(named(find_candidates(text, PairReading(types=(types,))))) == {("rash", "fever")}
    back = document(("fever", "rash", "after"))
    assert set(named(find_candidates(back, PairReading(types=pair_types([text, back]))))) == {
        ("rash", "fever"),
        ("fever", "rash"),
    }


def test_types_of_another_model_are_known_by_name_whatever_their_case():
    found = [Mention(0, 7, "DRUG"), Mention(17, 21, "problem")]
    (pair,) = pair_mentions(TEXT, found, DRUG_PROBLEM)
    assert (pair.head.label, pair.tail.label, pair.pair) == ("Drug", "Problem", (0, 1))
    untyped = PairReading(types=(PairTypes("entity", "entity", in_order=True),))
    assert [pair.pair for pair in pair_mentions(TEXT, found, untyped)] == [(0, 1)]


# Passages


def marked(head, tail, marking="marked", text="Low Aspirin dose"):
    return mark(Candidate(text, 0, len(text), Mention(*head), Mention(*tail), (0, 1), ()), marking)


@pytest.mark.parametrize(
    ("head", "tail", "marking", "expected", "mentions"),
    [
        (
            (4, 11, "Drug"),
            (12, 16, "A_dose"),
            "marked",
            "Low @ * drug * Aspirin @ # ^ a dose ^ dose #",
            ("@ * drug * Aspirin @", "# ^ a dose ^ dose #"),
        ),
        (
            (12, 16, "X"),
            (4, 11, "Y"),
            "marked",
            "Low # ^ y ^ Aspirin # @ * x * dose @",
            ("@ * x * dose @", "# ^ y ^ Aspirin #"),
        ),
        (
            (4, 16, "X"),
            (4, 11, "Y"),
            "marked",
            "Low @ * x * # ^ y ^ Aspirin # dose @",
            ("@ * x * # ^ y ^ Aspirin # dose @", "# ^ y ^ Aspirin #"),
        ),
        ((4, 11, "Drug"), (12, 16, "Dose"), "anonymised", "Low @Drug$ @Dose$", ("@Drug$", "@Dose$")),
        ((12, 16, "Dose"), (4, 11, "Drug"), "anonymised", "Low @Drug$ @Dose$", ("@Dose$", "@Drug$")),
        ((4, 16, "CHEM"), (4, 11, "GENE"), "anonymised", "Low @CHEM-GENE$", ("@CHEM-GENE$", "@CHEM-GENE$")),
    ],
)
def test_marks_show_both_mentions_and_their_types(head, tail, marking, expected, mentions):
    passage = marked(head, tail, marking)
    assert passage.text == expected and "Aspirin" not in repr(passage)
    assert tuple(expected[start:end] for start, end in passage.mentions) == mentions
    for (start, end), character in zip(passage.origins.tolist(), expected, strict=True):
        origin = "Low Aspirin dose"[start:end]
        assert origin in ("", character) or (marking == "anonymised" and len(origin) > 1)


def test_a_passage_that_is_too_long_keeps_what_is_near_to_either_mention():
    starts = np.arange(0, 200, 2)
    pieces = Pieces(np.arange(100), starts, starts + 1)
    passage = marked((4, 11, "Drug"), (12, 16, "Dose"))._replace(mentions=((20, 24), (160, 164)))
    read = fit(pieces, passage, 20)
    assert len(read) == 20 and (np.diff(read) > 0).all()
    assert {10, 11, 80, 81} <= set(read.tolist()) and not set(range(25, 65)) & set(read.tolist())
    assert len(fit(pieces, passage, 100)) == 100


# Rows and scores


@pytest.fixture
def data(tmp_path):
    """Documents in which drugs cause problems; test has a pair with two labels and one across sentences."""

    def row(*relations):
        entities = [{"id": each.id, "start": each.start, "end": each.end, "label": each.label} for each in mentions()]
        stated = [{"label": label, "head": head, "tail": tail} for head, tail, label in relations]
        return json.dumps({"text": TEXT, "entities": entities, "relations": stated}) + "\n"

    cause, worsen = ("Aspirin", "rash", "causes"), ("Aspirin", "rash", "worsens")
    (tmp_path / "train.spans.jsonl").write_text(row(cause, worsen))
    (tmp_path / "dev.spans.jsonl").write_text(row(cause))
    (tmp_path / "test.spans.jsonl").write_text(row(cause, worsen, ("Codeine", "hives", "causes")))
    place = ResolvedDataset(reference=str(tmp_path), path=str(tmp_path), sha256=digest(tmp_path))
    return lambda **options: open_data(Relations(**options), place)


@pytest.fixture(scope="module")
def tokenizer(tiny_model):
    torch.set_num_threads(1)
    return AutoTokenizer.from_pretrained(tiny_model)


def test_labels_are_sorted_with_that_of_no_relation(data):
    """Trap T15: the same data always give the same outputs."""
    assert data().labels == ("causes", "none", "worsens")
    assert data(negative="false").labels == ("causes", "false", "worsens")
    marks = data().marks(64, np.array([9]))
    assert PairReading.model_validate(marks["relation_reading"]) == data().reading == DRUG_PROBLEM


def test_a_pair_with_several_labels_has_a_training_row_for_each(data, tokenizer):
    opened = data()
    ids = {label: number for number, label in enumerate(opened.labels)}
    rows = opened.rows("train", tokenizer, label_ids=ids, max_tokens=48)
    batch = rows.batch(np.arange(len(rows.lengths)))
    assert sorted(batch["labels"].tolist()) == [ids["causes"], ids["none"], ids["worsens"]]
    read = tokenizer.decode(batch["input_ids"][0], skip_special_tokens=True)
    assert read == tokenizer.decode(tokenizer(next(opened.texts("train")))["input_ids"], skip_special_tokens=True)
    assert opened.survey.splits["train"].several == 1 and opened.survey.splits["test"].distant == 1
    assert any("several labels" in note for note in opened.survey.notes)


def test_the_label_of_no_relation_does_not_count():
    """Trap T14: against scikit-learn without it, and against accuracy with it."""
    judge = pytest.importorskip("sklearn.metrics")
    noise = np.random.default_rng(0)
    gold, decided = noise.integers(0, 3, 50), noise.integers(0, 3, 50)
    numbers = np.arange(3)
    case = Answers(("a", "b", "none"), numbers == gold[:, None], numbers == decided[:, None], np.zeros((50, 3)), False)
    scores = metrics(case._replace(negative="none"))
    for average in ("micro", "macro"):
        expected = judge.f1_score(gold, decided, labels=[0, 1], average=average)
        assert scores[f"{average}_f1"] == pytest.approx(expected)
    assert scores["micro_f1"] != scores["accuracy"] == metrics(case)["micro_f1"]


def test_what_cannot_be_asked_counts_as_missed(data, monkeypatch):
    """The model finds every candidate: of test it still lacks a second label and the pair across sentences."""
    opened = data()
    pairs = opened.examples("test")
    names = opened.labels
    outputs = inference.relations.PairOutputs(
        np.array([[float(name == pair.labels[0]) for name in names] for pair in pairs]), np.ones(2), np.ones(2)
    )
    monkeypatch.setattr(inference, "output_names", lambda model: list(names))
    monkeypatch.setattr(inference, "is_multi_label", lambda model: False)
    scores = document_scores.scores(
        None, None, pairs, classify=lambda *a, **o: outputs, negative="none", missed=[("causes",)]
    )
    assert scores["micro_f1"] == pytest.approx(2 * 1 / (1 + 3))
    assert scores["precision.causes"] == 1 and scores["recall.causes"] == 0.5 and scores["recall.worsens"] == 0


# Models


def relation_model(folder, name="bert"):
    network = family(name, MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING, MiniAlbertForSequenceClassification)
    reading = DRUG_PROBLEM.model_dump(mode="json")
    network.config.update({"stillroom_task": "relations", "relation_reading": reading})
    network.config.id2label = dict(enumerate(("causes", "none", "worsens", "treats", "prevents")))
    return network


@pytest.mark.parametrize("name", FAMILIES)
def test_each_pair_has_the_logits_of_its_own_passage(name, tiny_model, tokenizer):
    """The forward pass of training, and that of inference, against transformers' own for one passage at a time."""
    network = relation_model(tiny_model, name)
    network.config.vocab_size = 60
    found = [Mention(each.start, each.end, each.label) for each in mentions()]
    pairs = pair_mentions(TEXT, found, DRUG_PROBLEM)
    assert len(pairs) == 2
    small = _SmallIds(tokenizer)
    with torch.no_grad():
        own = [network(**small.inputs(mark(pair, "marked").text)).logits[0] for pair in pairs]
    said = inference.classify_pairs(pairs, network, small, max_tokens=40).probabilities
    np.testing.assert_allclose(said, torch.stack(own).double().softmax(-1).numpy(), atol=1e-5)


class _SmallIds:
    """The tokenizer of the tiny model with its ids folded into the vocabulary of 60 that a family has."""

    def __init__(self, tokenizer):
        self._tokenizer = tokenizer

    def __getattr__(self, name):
        return getattr(self._tokenizer, name)

    def __call__(self, *args, **options):
        encoded = self._tokenizer(*args, **options)
        encoded["input_ids"] = [5 + number % 55 for number in encoded["input_ids"]]
        return encoded

    def inputs(self, text):
        ids = torch.tensor([self(text)["input_ids"]])
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def test_relations_of_predicted_spans(tiny_model, tokenizer):
    network = relation_model(tiny_model)
    network.resize_token_embeddings(len(tokenizer))
    spans = [Span(start=each.start, end=each.end, label=each.label.upper(), score=1.0) for each in mentions()]
    with torch.no_grad():
        network.classifier.weight.zero_()
        network.classifier.bias.copy_(torch.tensor([3.0, 0, 0, 0, 0]))
    found = inference.predict_relations(TEXT, spans, network, tokenizer)
    assert [(each.head, each.tail, each.label) for each in found] == [(0, 1, "causes"), (0, 2, "causes")]
    assert found[0].score == pytest.approx(np.exp(3) / (np.exp(3) + 4))
    with torch.no_grad():
        network.classifier.bias.copy_(torch.tensor([0, 3.0, 0, 0, 0]))
    assert inference.predict_relations(TEXT, spans, network, tokenizer) == ()
    assert inference.predict_relations(TEXT, spans[:1], network, tokenizer) == ()


def test_a_model_for_relations_reads_no_text_alone_and_another_no_pairs(tiny_model, tokenizer):
    network = relation_model(tiny_model)
    with pytest.raises(BadSpec, match="relations between entities"):
        inference.predict(TEXT, network, tokenizer, name="relations")
    network.config.stillroom_task = "classification"
    with pytest.raises(BadSpec, match="does not label relations"):
        inference.pair_reading(network)


# Predictions on a note, comparison and explanation


def span(word, kind=None, score=0.9):
    return Span(start=TEXT.index(word), end=TEXT.index(word) + len(word), label=kind or KINDS[word], score=score)


def prediction(*relations, spans=("Aspirin", "rash", "fever"), model="A", score=0.8):
    found = tuple(span(word) for word in spans)
    stated = tuple(Found(head=head, tail=tail, label=label, score=score) for head, tail, label in relations)
    coverage, cost = Coverage(tokens=9, tokens_read=9, windows=1), Cost(latency_ms=1, tokens_per_second=9)
    fields = {"task": "ner", "label_set": ("Drug", "Problem"), "coverage": coverage, "cost": cost}
    return Prediction(model=model, spans=found, relations=stated, **fields)


def test_a_prediction_carries_relations_only_where_a_model_was_asked():
    related = prediction((0, 1, "causes"))
    assert related.to_json()["relations"] == [{"head": 0, "tail": 1, "label": "causes", "score": 0.8}]
    assert prediction().to_json()["relations"] == []
    assert "relations" not in related.model_copy(update={"relations": None}).to_json()
    assert Prediction.model_validate(related.model_dump()) == related


def test_a_filter_keeps_relations_of_the_spans_that_stay():
    related = prediction((0, 1, "causes"), (0, 2, "causes"))
    without = related.with_spans(lambda each: each.start != TEXT.index("rash"))
    assert [(each.head, each.tail) for each in without.relations] == [(0, 1)] and len(without.spans) == 2
    assert apply_filter(related, Filter(min_score=0.85)).relations == ()
    assert apply_filter(related, Filter(labels=("Drug",))).relations == ()


def test_the_table_shows_each_relation_once_with_the_score_of_each_model_and_escapes_the_note():
    text = TEXT.replace("rash", "<b>a")
    one = prediction((0, 1, "causes"))
    other = prediction((0, 1, "causes"), (0, 2, "treats"), model="B", score=0.6)
    listed = list_relations(TEXT, [one, other])
    assert [(each.head, each.label, each.tail, each.times, each.scores) for each in listed] == [
        ("Aspirin", "causes", "rash", 1, (0.8, 0.6)),
        ("Aspirin", "treats", "fever", 1, (None, 0.6)),
    ]
    panes = [highlight.Pane(each.model, each.model, prediction=each) for each in (one, other)]
    picture = str(highlight.relations_table(text, panes))
    assert "80%" in picture and "60%" in picture and "&lt;b&gt;a" in picture and "<b>a" not in picture
    assert f'href="#sr-f{TEXT.index("rash")}-0"' in picture
    asked = highlight.Pane("A", "A", prediction=prediction())
    assert "No relations" in highlight.relations_table(text, [asked])
    never = asked._replace(prediction=prediction().model_copy(update={"relations": None}))
    assert highlight.relations_table(text, [never]) == ""


def test_arcs_stand_over_the_findings_and_escape_the_note():
    text = TEXT.replace("rash", "<b>a")
    middle = TEXT.index("rash") + 2
    drawing = arcs.relation_arcs(text, prediction((0, 1, "CID"), (2, 0, "treats")))
    assert "&lt;b&gt;a" in drawing and "<b>a" not in drawing and drawing.count("sr-arc ") == 2
    assert f"left:3.5ch;width:{middle - 3.5:.1f}ch;height:{arcs.LEVEL:.1f}em" in drawing, "from word to word"
    assert "<b>induces</b>" in drawing and f"height:{2 * arcs.LEVEL:.1f}em" in drawing, "a level of its own"
    assert "sr-forth" in drawing and "sr-back" in drawing
    assert arcs.relation_arcs(text, prediction()) == ""


def test_findings_that_stand_far_apart_are_left_to_the_table(monkeypatch):
    monkeypatch.setattr(arcs, "LONGEST", 10)
    assert arcs.relation_arcs(TEXT, prediction((0, 1, "causes"))) == ""


def test_relations_are_exported():
    one, other = prediction((0, 1, "causes")), prediction((0, 1, "causes"), (0, 2, "treats"), model="B", score=0.6)
    rows = [*csv.reader(io.StringIO(as_csv(TEXT, [one, other], with_text=True)))]
    place = f"{TEXT.index('rash')}-{TEXT.index('rash') + 4}"
    assert rows[1] == ["Aspirin", "rash", "causes", "Drug", "0-7", "Problem", place, "1", "0.8", "0.6"]
    assert rows[2][-2:] == ["", "0.6"] and "Aspirin" not in as_csv(TEXT, [one], with_text=False)
    weights = tuple(Weights(reference=name, sha256="0" * 64, parameters=9, size_bytes=9) for name in "AB")
    document = report.Report(
        Note(TEXT), compare_predictions([one, other]), {"A": "A", "B": "B"}, weights, datetime(2026, 12, 1)
    )
    with zipfile.ZipFile(io.BytesIO(report.as_brat(document))) as archive:
        lines = archive.read("B/note.ann").decode().splitlines()
    assert "R1\tcauses Arg1:T1 Arg2:T2" in lines and "R2\ttreats Arg1:T1 Arg2:T3" in lines
    page = highlight.report_page(document._replace(with_text=True))
    assert "Related findings" in page and "<bdi>Aspirin</bdi> → <bdi>rash</bdi>" in page
    page = highlight.report_page(document)
    assert "Drug 0–7" in page and "Aspirin" not in page
    assert "Relations: " not in page and "relations_model" not in report.as_json(document)
    document = document._replace(relating=Weights(reference="relater", sha256="1" * 64))
    page = highlight.report_page(document)
    assert "Relations: relater" in page and "1" * 64 in page
    assert json.loads(report.as_json(document))["relations_model"]["reference"] == "relater"


@pytest.fixture
def saved(tiny_model, tmp_path, tokenizer):
    """The folder of a model that finds `causes` between every drug and problem."""
    network = relation_model(tiny_model)
    network.resize_token_embeddings(len(tokenizer))
    with torch.no_grad():
        network.get_input_embeddings().weight.normal_()  # the new rows are all alike
        network.classifier.weight.mul_(0.1)
        network.classifier.bias.copy_(torch.tensor([3.0, 0, 0, 0, 0]))
    models.save(network, tokenizer, tmp_path / "relations")
    return tmp_path / "relations"


def test_the_command_line_relates_what_another_model_finds(saved, tiny_model, tmp_path, stillroom, monkeypatch):
    (tmp_path / "note.txt").write_text(TEXT)
    found = prediction().model_copy(update={"relations": None})
    monkeypatch.setattr(inference, "predict", lambda *args, **options: found)
    file = ("--text-file", tmp_path / "note.txt")
    code, out, _ = stillroom("predict", "--model", tiny_model, "--relations", saved, *file, "--json")
    assert code == 0
    assert [(each["head"], each["tail"], each["label"]) for each in json.loads(out)["relations"]] == [
        (0, 1, "causes"),
        (0, 2, "causes"),
    ]
    target = "0:7:Drug>17:21:Problem:causes"
    code, out, _ = stillroom("predict", "--model", tiny_model, "--relations", saved, *file)
    assert code == 0 and "causes" in out
    code, out, err = stillroom("predict", "--model", tiny_model, "--relations", tiny_model, *file, "--json")
    assert code == 2 and "does not label relations" in out
    monkeypatch.undo()
    code, out, _ = stillroom("predict", "--model", saved, *file, "--json")
    assert code == 2 and "between entities" in out
    words = ("explain", "--model", saved, *file, "--method", "feature_ablation", "--grain", "word", "--json")
    code, out, _ = stillroom(*words, "--target", target)
    assert code == 0 and json.loads(out)["target"] == target


@pytest.mark.parametrize("context", [False, True])
def test_an_explanation_scores_the_words_of_the_note_and_no_marks(context, saved):
    network, tokenizer = models.load(zoo.resolve(str(saved)))
    options = ExplainOptions(method="feature_ablation", grain="word", context=context, orders=0)
    target = "0:7:Drug>17:21:Problem:causes"
    why = explain.explain_text(TEXT, network, tokenizer, target, options, name="m")
    words = [TEXT[each.start : each.end] for each in why.attributions]
    assert words == ["Aspirin", "caused", "a", "rash", "and", "fever", "."]
    assert any(each.score for each in why.attributions)
    own = [each.score for each, word in zip(why.attributions, words, strict=True) if word in ("Aspirin", "rash")]
    assert all(score == 0 for score in own) == context
    assert why.coverage.unread == ((33, len(TEXT)),)
    spans = [span("Aspirin"), span("rash")]
    (related,) = inference.predict_relations(TEXT, spans, network, tokenizer)
    assert why.probability == pytest.approx(related.score, abs=1e-5)
    ablated = explain.ablate(TEXT, network, tokenizer, target, [(8, 14)])
    assert ablated.before == pytest.approx(why.probability, abs=1e-5) and ablated.after != ablated.before


def test_a_target_that_the_model_does_not_relate_is_refused(saved):
    network, tokenizer = models.load(zoo.resolve(str(saved)))
    for target, problem in (
        ("17:21:Problem>0:7:Drug:causes", "this model relates Drug>Problem, within 1 sentence"),
        ("0:7:Drug>60:65:Problem:causes", "within 1 sentence"),
        ("0:7:Drug>90:95:Problem:causes", "the text has"),
        ("0:7:Drug", "START:END:TYPE>START:END:TYPE:LABEL"),
    ):
        with pytest.raises(BadSpec, match=problem):
            explain.explain_text(TEXT, network, tokenizer, target, name="m")
