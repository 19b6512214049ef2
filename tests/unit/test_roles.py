"""Roles of sentences: their rows, windows of whole sentences, what every model reads, and scores over whole texts."""

import gzip
import json
from itertools import pairwise

import numpy as np
import pytest
import torch
from families import FAMILIES, family, small_tokenizer, typed_tokenizer
from transformers import MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING

from trainer import datasets, fit, inference, models, zoo
from trainer.architectures import global_attention
from trainer.architectures.minialbert_heads import MiniAlbertForTokenClassification
from trainer.datasets.readers import roles
from trainer.datasets.rows.sentences import first_pieces, sentence_places, sentence_windows
from trainer.errors import BadData, BadSpec, UnknownName
from trainer.evaluation import role_scores
from trainer.evaluation.document_scores import Answers, bootstrap
from trainer.evaluation.outcomes import score
from trainer.examples import open_data
from trainer.inference.target_score import Probe, Score
from trainer.models import heads
from trainer.tasks import TASKS
from trainer.zoo import outputs
from workbench.explain import ExplainOptions, explain_text
from workbench.explain.targets import SentenceTarget, as_asked, parse

NAMES = ("AIM", "METHODS", "RESULTS", "END", "OTHER")
TEXT = "A b c d. B c d e f. C d. D e f g h a b. E f."  # five sentences
SECRET = "Mr Miller has a fever"


def row_of(*sentences):
    return {"sentences": [{"text": text, "label": label} for text, label in sentences]}


# --- Rows


def test_rows_are_read_packed_or_not_and_joined_by_blanks(tmp_path):
    row = json.dumps(row_of((" We ask. ", "AIM"), ("We saw.", "RESULTS")) | {"id": "PMC1"}) + "\n"
    (tmp_path / "train.jsonl").write_text(row)
    (tmp_path / "train.jsonl.gz").write_bytes(gzip.compress(row.encode()))
    [document] = roles.read(tmp_path / "train.jsonl")
    assert [document] == list(roles.read(tmp_path / "train.jsonl.gz"))
    assert document.text == "We ask. We saw." and document.labels == ("AIM", "RESULTS")
    assert [document.text[start:end] for start, end in document.places] == ["We ask.", "We saw."]
    assert "We" not in repr(document)


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"text": SECRET, "label": "AIM"}, "without the field `sentences`"),
        ({"sentences": SECRET}, "`sentences` is a str, not a list"),
        ({"sentences": []}, "the text has no sentence"),
        ({"sentences": [SECRET]}, "sentence 1: a str, not an object"),
        (row_of((SECRET, "AIM"), (" ", "AIM")), "sentence 2: its text is empty"),
        (row_of((SECRET, "AIM"), (SECRET, 3)), "sentence 2: a label in `label` is a int"),
        ({"sentences": [{"text": SECRET}]}, "sentence 1: an object of 1 fields without the field `label`"),
    ],
)
def test_a_wrong_row_is_named_by_line_and_sentence_and_not_quoted(tmp_path, row, problem):
    (tmp_path / "train.jsonl").write_text(f"{json.dumps(row_of(('We ask.', 'AIM')))}\n{json.dumps(row)}\n")
    with pytest.raises(BadData) as error:
        list(roles.read(tmp_path / "train.jsonl"))
    assert error.value.line == 2 and problem in str(error.value) and SECRET not in str(error.value)
    found = datasets.check(tmp_path / "train.jsonl", task="roles")
    assert [each.line for each in found.problems] == [2] and found.splits["train"].documents == 1


def test_a_folder_is_known_by_its_rows_checked_and_imported(tmp_path, home):
    rows = [row_of((f"We ask {n}.", "AIM"), (f"We saw {n}.", "RESULTS")) for n in range(20)]
    (tmp_path / "train.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    report = datasets.check(tmp_path / "train.jsonl", task="roles")
    assert report.ok and report.splits["train"].labels == {"AIM": 20, "RESULTS": 20}
    assert "not mlm" in datasets.check(tmp_path, task="mlm").problems[0].message
    name, imported = datasets.import_data(tmp_path / "train.jsonl", task="roles", name="mine")
    assert name.startswith("mine@") and imported.ok
    assert [imported.splits[split].documents for split in ("train", "dev", "test")] == [14, 2, 4]
    assert not any(imported.repeated.values()) and datasets.cards()["mine"].task == "roles"


def test_one_role_teaches_nothing(tmp_path):
    for split in ("train", "dev", "test"):
        (tmp_path / f"{split}.jsonl").write_text(json.dumps(row_of((f"We ask {split}.", "AIM"))) + "\n")
    [problem] = datasets.check(tmp_path, task="roles").problems
    assert "only the label AIM" in problem.message


# --- Sentences and windows


def test_sentences_of_a_note_are_places_without_the_blanks_around_them():
    text = "  HISTORY:\n\nNo fever. Seen by Dr. Lee.\nPain  "
    assert [text[start:end] for start, end in sentence_places(text)] == [
        "HISTORY:",
        "No fever.",
        "Seen by Dr. Lee.",
        "Pain",
    ]
    assert sentence_places(" \n ").shape == (0, 2)


def test_windows_begin_and_end_where_sentences_do_and_each_sentence_counts_once():
    random = np.random.default_rng(0)
    for _ in range(300):
        lengths = random.integers(1, 60, size=random.integers(1, 40))
        first, tokens, size = np.cumsum([0, *lengths])[:-1], int(lengths.sum()), int(random.integers(8, 200))
        table = sentence_windows(first, tokens, size)
        start, end, scored, last = table.T
        assert (end - start <= size).all() and (start <= scored).all() and (last <= end).all()
        assert scored[0] == 0 and last[-1] == tokens and (scored[1:] == last[:-1]).all() and (scored < last).all()
        for border in {*table[:, :2].ravel().tolist()} - {*first.tolist(), tokens}:
            assert lengths[np.searchsorted(first, border, side="right") - 1] > size
    assert sentence_windows(np.array([0, 4, 8, 12]), 16, 8).tolist() == [[0, 8, 0, 8], [8, 16, 8, 16]]
    assert sentence_windows(np.arange(0, 32, 2), 32, 16)[:2].tolist() == [[0, 16, 0, 14], [12, 28, 14, 26]]
    assert len(sentence_windows(np.array([], dtype=int), 0, 8)) == 0


def test_a_sentence_without_a_piece_of_its_own_has_no_role():
    starts, ends = np.array([0, 5, 12]), np.array([4, 9, 14])
    places = np.array([[0, 4], [4, 9], [9, 11], [12, 14], [15, 17]])
    assert first_pieces(places, starts, ends).tolist() == [0, 1, -1, 2, -1]


# --- What is read


def network_of(kind):
    network = family(kind, MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING, MiniAlbertForTokenClassification)
    network.config.id2label = dict(enumerate(NAMES))
    network.config.stillroom_task = "roles"
    if kind == "mobilebert":  # whose embeddings look at their neighbours: models.load sees to this
        network.get_input_embeddings().weight.data[1] = 0
    return network


def own_probabilities(network, ids, places):
    """Of the model's own forward pass at some places: (places, roles)."""
    batch = {"input_ids": torch.tensor([ids]), "attention_mask": torch.ones(1, len(ids), dtype=torch.long)}
    with torch.no_grad():
        logits = network(**batch, **global_attention(network, batch, "ner")).logits[0, places]
    return logits.double().softmax(-1).numpy()


@pytest.mark.parametrize("kind", FAMILIES)
def test_every_architecture_reads_a_role_as_its_own_forward_does(kind):
    network, tokenizer = network_of(kind), typed_tokenizer()
    text = TEXT.lower().replace(".", "")  # its tokenizer knows letters alone
    bounds = np.array([[0, 7], [8, 17], [18, 21], [22, 35], [36, 39]])
    ids = tokenizer(text)["input_ids"]
    firsts = [1, 5, 10, 12, 19]
    expected = own_probabilities(network, ids, firsts)
    [read] = inference.classify_sentences([text], [bounds], network, tokenizer)
    assert np.abs(read.probabilities - expected).max() < 1e-5

    marked = torch.full((1, len(ids)), heads.IGNORED)
    marked[0, firsts] = torch.tensor([0, 1, 2, 3, 4])
    batch = {"input_ids": torch.tensor([ids]), "attention_mask": torch.ones(1, len(ids), dtype=torch.long)}
    with torch.no_grad():
        trained = heads.forward(network, batch | {"labels": marked}, head="ner").logits
    assert np.abs(trained.double().softmax(-1).numpy() - expected).max() < 1e-5
    probe = Probe(
        network,
        ids,
        before=1,
        free=[True] * (len(ids) - 2),
        places=[firsts[3]],
        score=Score.of([2], range(5)),
        baseline_id=4,
    )
    [explained] = probe.probabilities(np.ones((1, len(ids) - 2), dtype=bool))
    assert explained == pytest.approx(expected[3, 2], abs=1e-5)


@pytest.fixture(scope="module")
def model(tiny_model, tmp_path_factory):
    """The tiny tagger with a new head for roles, as a folder."""
    network, tokenizer = models.load(str(tiny_model), task="roles", labels=NAMES)
    network.config.update(outputs.task_fields("roles") | {"document_reading": {"max_tokens": 16}})
    models.save(network, tokenizer, folder := tmp_path_factory.mktemp("models") / "roles")
    return folder


def test_a_note_is_read_in_windows_of_sentences_and_explained_where_it_is_read(model):
    network, tokenizer = models.load(str(model))
    prediction = inference.predict(TEXT * 4, network, tokenizer, name="m")
    assert prediction.task == "roles" and prediction.label_set == tuple(sorted(NAMES))
    assert [[span.start, span.end] for span in prediction.spans] == sentence_places(TEXT * 4).tolist()
    assert prediction.coverage.windows > 2 and not prediction.coverage.unread
    span = prediction.spans[7]
    options = ExplainOptions(method="feature_ablation", orders=0)
    answer = explain_text(TEXT * 4, network, tokenizer, f"{span.start + 2}:{span.end}:{span.label}", options, name="m")
    assert answer.probability == pytest.approx(span.score, abs=1e-5)
    assert any(part.score for part in answer.attributions)
    with pytest.raises(UnknownName, match="label of this model"):
        explain_text(TEXT, network, tokenizer, "0:3:Disease", options, name="m")
    with pytest.raises(BadSpec, match="gives sentences roles|marks spans"):
        explain_text(TEXT, network, tokenizer, "AIM", options, name="m")
    cut = inference.predict(TEXT * 4, network, tokenizer, name="m", reading="truncate", max_tokens=16)
    assert 0 < len(cut.spans) < len(prediction.spans) and cut.coverage.unread
    assert inference.predict(" \n", network, tokenizer, name="m").spans == ()


def test_a_target_anywhere_in_a_sentence_is_that_sentence(model):
    network, _ = models.load(str(model))
    target = as_asked(parse("4:6:AIM"), network)
    assert type(target) is SentenceTarget and target.competing(NAMES) == [0, 1, 2, 3, 4]
    assert target.columns(NAMES) == [0] and str(target) == "4:6:AIM"


def test_a_model_of_roles_is_no_tagger_and_a_tagger_gives_no_roles(model, tiny_model):
    network, tokenizer = models.load(str(model))
    with pytest.raises(BadSpec, match="no head for named entities"):
        inference.tags_of(network)
    tagger, tokenizer = models.load(str(tiny_model))
    with pytest.raises(BadSpec, match="gives sentences no roles"):
        inference.classify_sentences([TEXT], [sentence_places(TEXT)], tagger, tokenizer)
    resolved = zoo.resolve(str(model))
    known = fit.read_model(resolved)
    assert zoo.labelled_task(resolved) == known.task == "roles"
    assert known.label_set == tuple(sorted(NAMES)) and known.shape.labels == NAMES and not known.unclear


# --- Training rows and scores


def test_each_sentence_is_learned_in_the_window_that_inference_reads_it_in():
    tokenizer = small_tokenizer()
    data = open_data(TASKS["roles"](), datasets.resolve("pmc-rct-slice"))
    sentences = ["a b c d", "b c d e f", "c d", "d e f g h a b", "e f"] * 2
    document = roles.join(sentences, list(NAMES) * 2, line=1)
    data._examples["train"] = [document, document]
    label_ids = {name: number for number, name in enumerate(NAMES)}
    rows = data.rows("train", tokenizer, label_ids=label_ids, max_tokens=14, with_units=True)
    assert rows.units == 20 and all(len(row.input_ids) <= 14 for row in rows.rows)
    batch = rows.batch(range(len(rows.rows)))
    counted = batch["words"][batch["words"] >= 0].tolist()
    assert counted == list(range(20)), "each sentence once"
    assert batch["labels"][batch["words"] >= 0].tolist() == [label_ids[name] for name in NAMES] * 4
    begins = batch["input_ids"][batch["words"] >= 0]
    assert tokenizer.convert_ids_to_tokens(begins) == [sentence[0] for sentence in sentences] * 2
    starts = [row.input_ids[1] for row in rows.rows]
    assert {*tokenizer.convert_ids_to_tokens(starts)} <= {"a", "b", "c", "d", "e"}
    data.unlabelled = [document._replace(labels=())]
    more = data.rows("train", tokenizer, label_ids=label_ids, max_tokens=14, with_units=True)
    last = more.batch([len(more.rows) - 1])
    assert more.units == 30 and (last["words"] >= 0).any() and (last["labels"] == heads.IGNORED).all()


def test_a_teacher_labels_text_that_is_cut_into_sentences():
    data = open_data(TASKS["roles"](), datasets.resolve("pmc-rct-slice"))
    data.read_unlabelled(datasets.resolve("clinical-text-slice"), limit=3)
    assert len(data.unlabelled) == 3 and all(each.places and not each.labels for each in data.unlabelled)
    data.read_unlabelled(datasets.resolve("pmc-rct-slice"), limit=2)
    assert len(data.unlabelled) == 2 and not data.unlabelled[0].labels and len(data.unlabelled[0].places) > 5


def test_scores_are_those_of_scikit_learn_over_all_sentences(model):
    measured = pytest.importorskip("sklearn.metrics")
    network, tokenizer = models.load(str(model))
    documents = [roles.join(["A b.", "B c d.", "C."], ["AIM", "END", "END"], line=1)] * 2
    documents.append(roles.join(["D e f.", "A."], ["METHODS", "RESULTS"], line=2))
    read = [inference.classify_sentences([d.text], [np.array(d.places)], network, tokenizer)[0] for d in documents]
    predicted = [NAMES[best] for each in read for best in each.probabilities.argmax(1)]
    gold = [label for document in documents for label in document.labels]
    report = role_scores.evaluate(network, tokenizer, documents, samples=50)
    assert report["n"] == 3 and report["metrics"]["accuracy"] == measured.accuracy_score(gold, predicted)
    assert report["metrics"]["accuracy"] == pytest.approx(report["metrics"]["micro_f1"])  # trap T14
    assert report["metrics"]["macro_f1"] == pytest.approx(measured.f1_score(gold, predicted, average="macro"))
    stored = report["outcomes"]
    assert stored.n == 3 and score("macro_f1", stored.table(), stored.right()) == report["metrics"]["macro_f1"]
    assert len(stored.mistakes) == sum(one != other for one, other in zip(gold, predicted, strict=True))
    assert {one.item for one in stored.mistakes} <= {0, 1, 2} and stored.mistakes[0].places[0] in documents[0].places
    usual = role_scores.majority(documents, documents, NAMES)
    assert usual["accuracy"] == measured.accuracy_score(gold, ["END"] * len(gold))
    assert report["metrics"]["support.END"] == 4 and report["cost"]["params"]
    with pytest.raises(BadSpec, match="has the labels FINDINGS"):
        unknown = [roles.join(["A b."], ["FINDINGS"], line=1)]
        role_scores.evaluate(network, tokenizer, unknown)


def test_whole_texts_are_drawn_for_intervals():
    """Sentences of a text that are all right or all wrong tell as much as one sentence."""
    right = np.repeat([True, False] * 10, 20)
    gold = np.stack([np.ones(400, dtype=bool), np.zeros(400, dtype=bool)], axis=1)
    predicted = np.stack([right, ~right], axis=1)
    answers = Answers(("a", "b"), gold, predicted, predicted.astype(float), multi_label=False)
    by_text = bootstrap(answers, owners=np.repeat(np.arange(20), 20))["accuracy"]
    alone = bootstrap(answers)["accuracy"]
    assert by_text[1] - by_text[0] == pytest.approx(4.47 * (alone[1] - alone[0]), rel=0.15)
    assert [high > low for low, high in pairwise([*by_text])] == [True]
