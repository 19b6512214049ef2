"""Pairs of texts: their rows, what every model and tokenizer gets of them, and the baseline beside their scores."""

import gzip
import json

import numpy as np
import pytest
import torch
from families import FAMILIES, family, small_tokenizer, typed_tokenizer
from tokenizers_of_the_zoo import KINDS, tokenizer_of
from transformers import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING

from trainer import datasets, inference, models
from trainer.architectures import global_attention
from trainer.architectures.minialbert_heads import MiniAlbertForSequenceClassification
from trainer.datasets import LabelledDocument
from trainer.datasets.readers import pairs
from trainer.datasets.rows.batches import framed
from trainer.datasets.rows.pieces import cut, frame
from trainer.errors import BadData, BadSpec
from trainer.evaluation import hypothesis_only
from trainer.examples import open_data
from trainer.inference.target_score import Probe, Score
from trainer.models import heads
from trainer.tasks import TASKS

PREMISE, HYPOTHESIS = "a b c d e f g h a b c d", "b a c"
SECRET = "Mr Miller has a fever"
TYPED = {"bert", "mobilebert", "big_bird", "albert", "minialbert"}  # models with two token types, as published


# --- Rows


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("train.jsonl", '{"premise": "Fever.", "hypothesis": "Ill?", "label": "yes"}\n'),
        ("train.jsonl", '{"sentence1": "Fever.", "sentence2": "Ill?", "gold_label": "yes", "pairID": "1"}\n'),
        ("train.jsonl", '{"question": "Ill?", "contexts": ["Fever."], "answer": "yes", "id": 1}\n'),
        ("train.jsonl", '{"prompt": "Ill?", "evidence": [{"text": "Fever.", "span": [0, 6]}], "label": "yes"}\n'),
        ("train.csv", 'context,question,final_decision\n"Fever.",Ill?,yes\n'),
        ("train.tsv", "label\thypothesis\tpremise\nyes\tIll?\tFever.\n"),
    ],
)
def test_usual_rows_are_read(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    [pair] = pairs.read(tmp_path / name)
    assert (pair.text, pair.hypothesis, pair.labels) == ("Fever.", "Ill?", ("yes",))
    (tmp_path / f"{name}.gz").write_bytes(gzip.compress(content.encode()))
    assert list(pairs.read(tmp_path / f"{name}.gz")) == [pair]


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"premise": SECRET, "label": "yes"}, "without `premise` and `hypothesis`"),
        ({"premise": SECRET, "hypothesis": SECRET}, "without `label`"),
        ({"premise": SECRET, "hypothesis": " ", "label": "yes"}, "the hypothesis is empty"),
        ({"premise": [], "hypothesis": SECRET, "label": "yes"}, "the premise is empty"),
        ({"premise": [SECRET, 1], "hypothesis": SECRET, "label": "yes"}, "`premise` is a list"),
        ({"premise": SECRET, "hypothesis": SECRET, "label": 1}, "a label in `label` is a int"),
    ],
)
def test_a_wrong_row_is_named_by_its_line_and_not_quoted(tmp_path, row, problem):
    good = {"premise": "Fever.", "hypothesis": "Ill?", "label": "yes"}
    (tmp_path / "train.jsonl").write_text(f"{json.dumps(good)}\n{json.dumps(row)}\n")
    with pytest.raises(BadData) as error:
        list(pairs.read(tmp_path / "train.jsonl"))
    assert error.value.line == 2 and problem in str(error.value) and SECRET not in str(error.value)


def test_a_folder_is_known_by_its_rows(tmp_path):
    row = '{"premise": "Fever.", "hypothesis": "Ill?", "label": "yes"}\n'
    for split in ("train", "dev", "test"):
        (tmp_path / f"{split}.jsonl").write_text(row + row.replace("yes", "no"))
    report = datasets.check(tmp_path, task="pairs")
    assert report.ok and report.repeated["train/test"] == 1
    assert report.splits["train"].labels == {"no": 1, "yes": 1} and report.splits["train"].pairs == 2
    assert (
        "for the task pairs, not classification" in datasets.check(tmp_path, task="classification").problems[0].message
    )


# --- What is read


@pytest.mark.parametrize("kind", KINDS)
def test_a_pair_is_framed_as_its_tokenizer_does(kind):
    tokenizer = tokenizer_of(kind)
    premise, hypothesis = "Pain fell with aspirin. No fever", "Does aspirin help\n pain?"
    expected = tokenizer(premise, hypothesis, return_token_type_ids=True)
    batch = framed([(cut(premise, tokenizer).ids, frame(tokenizer, hypothesis))])
    assert batch["input_ids"][0].tolist() == expected["input_ids"]
    if "token_type_ids" in tokenizer.model_input_names:
        assert batch["token_type_ids"][0].tolist() == expected["token_type_ids"]
    else:
        assert "token_type_ids" not in batch


def test_a_tokenizer_that_frames_only_one_text_frames_a_hypothesis_too():
    tokenizer = small_tokenizer()  # its template has no pair
    batch = framed([(cut("a b", tokenizer).ids, frame(tokenizer, "c"))])
    assert tokenizer.convert_ids_to_tokens(batch["input_ids"][0]) == ["[CLS]", "a", "b", "[SEP]", "c", "[SEP]"]


def network_of(kind):
    network = family(kind, MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING, MiniAlbertForSequenceClassification)
    if kind in ("roberta", "longformer"):  # as published: one token type
        table = network.base_model.embeddings.token_type_embeddings
        network.config.type_vocab_size, table.num_embeddings = 1, 1
        table.weight = torch.nn.Parameter(table.weight[:1].detach())
    if kind == "mobilebert":  # whose embeddings look at their neighbours: models.load sees to this
        network.get_input_embeddings().weight.data[1] = 0
    network.config.stillroom_task = "pairs"
    return network


@pytest.mark.parametrize("kind", FAMILIES)
def test_every_architecture_reads_a_pair_as_its_own_forward_does(kind):
    """With token types where it has them, and never where it lacks them."""
    network, tokenizer = network_of(kind), typed_tokenizer()
    encoded = tokenizer([PREMISE, "c d"], [HYPOTHESIS, "e"], padding=True, return_tensors="pt")
    if kind not in TYPED:
        del encoded["token_type_ids"]
    more = global_attention(network, encoded, "classification")
    with torch.no_grad():
        own = network(**encoded, **more).logits
    read = inference.classify([PREMISE, "c d"], network, tokenizer, hypotheses=[HYPOTHESIS, "e"])
    assert torch.allclose(torch.from_numpy(read.probabilities), own.double().softmax(-1), atol=1e-5)

    parts = [(cut(p, tokenizer).ids, frame(tokenizer, h)) for p, h in ((PREMISE, HYPOTHESIS), ("c d", "e"))]
    batch = framed(parts) | {"owners": torch.tensor([0, 1]), "documents": torch.tensor([0, 1])}
    with torch.no_grad():
        trained = heads.forward(network, batch, head="classification").logits
    assert torch.allclose(trained, own, atol=1e-5)
    assert ("token_type_ids" in heads.inputs(network, batch)) == (kind in TYPED)

    ids, around = parts[0]
    probe = Probe(
        network,
        [*around.before, *ids.tolist(), *around.after],
        before=1,
        free=[True] * len(ids),
        places=[0],
        score=Score.of([0], range(5)),
        baseline_id=4,
        types=[0] * (1 + len(ids)) + list(around.types),
    )
    [explained] = probe.probabilities(np.ones((1, len(ids)), dtype=bool))
    assert explained == pytest.approx(read.probabilities[0, 0], abs=1e-5)


def test_a_hypothesis_is_in_every_window_whole():
    tokenizer = typed_tokenizer()
    data = open_data(TASKS["pairs"](), datasets.resolve("evidence-inference"))
    data._examples |= {"dev": [], "test": []}
    document = LabelledDocument("a b c d e f g h " * 4, ("x",), 7, "b a c")
    data._examples["train"] = [document]
    rows = data.rows("train", tokenizer, label_ids={"x": 0}, max_tokens=16)
    batch = rows.batch([0])
    assert len(batch["owners"]) > 2 and rows.lengths.tolist() == [4 * 16]
    ending = tokenizer.convert_tokens_to_ids(["[SEP]", "b", "a", "c", "[SEP]"])
    for ids, mask, types in zip(batch["input_ids"], batch["attention_mask"], batch["token_type_ids"], strict=True):
        length = int(mask.sum())
        assert length <= 16 and ids[:length].tolist()[-5:] == ending
        assert types[:length].tolist() == [0] * (length - 4) + [1] * 4
    read = [ids[1 : int(mask.sum()) - 5] for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True)]
    assert read[0].tolist() + read[-1].tolist() and {*torch.cat(read).tolist()} == {*cut(document.text, tokenizer).ids}
    data._examples["train"] = [document._replace(hypothesis="a b c " * 4)]
    with pytest.raises(BadData, match="line 7: the hypothesis takes up 15 of the 16"):
        data.rows("train", tokenizer, label_ids={"x": 0}, max_tokens=16)


def test_a_model_of_pairs_needs_a_hypothesis_and_another_takes_none():
    network, tokenizer = network_of("bert"), typed_tokenizer()
    for hypotheses in (None, [" "], ["a", "b"]):
        with pytest.raises(BadSpec, match="hypothesis: found none"):
            inference.classify(["a"], network, tokenizer, hypotheses=hypotheses)
    del network.config.stillroom_task
    with pytest.raises(BadSpec, match="hypothesis: found one"):
        inference.classify(["a"], network, tokenizer, hypotheses=["a"])


def test_the_teachers_outputs_depend_on_the_hypothesis():
    data = open_data(TASKS["pairs"](), datasets.resolve("evidence-inference"))
    data._examples |= {"dev": [], "test": []}
    contents = []
    for hypothesis in ("b a c", "b a d"):
        data._examples["train"] = [LabelledDocument("a b", ("x",), 1, hypothesis)]
        rows = data.rows("train", typed_tokenizer(), label_ids={"x": 0}, max_tokens=16)
        contents.append(list(rows.content()))
    assert contents[0] != contents[1]


# --- The baseline


def test_the_baseline_is_a_regression_on_the_words_of_hypotheses():
    linear = pytest.importorskip("sklearn.linear_model")
    text = pytest.importorskip("sklearn.feature_extraction.text")
    train, test = (datasets.pairs("evidence-inference", split, limit=200) for split in ("train", "test"))
    labels = sorted({pair.labels[0] for pair in train})
    answers = hypothesis_only.answers(train, test, labels)
    counter = text.CountVectorizer(
        token_pattern=r"\w+|[^\w\s]", ngram_range=(1, 2), binary=True, min_df=2, preprocessor=str.casefold
    )
    learned = linear.LogisticRegression(C=1.0, max_iter=2000).fit(
        counter.fit_transform([pair.hypothesis for pair in train]), [pair.labels[0] for pair in train]
    )
    expected = learned.predict_proba(counter.transform([pair.hypothesis for pair in test]))
    assert np.abs(answers.probabilities - expected).max() < 0.01
    assert answers.predicted.sum(axis=1).tolist() == [1] * len(test)


def test_the_baseline_sees_no_premise_and_learns_a_giveaway():
    rows = [LabelledDocument("x", (label,), 1, f"It is {word} true") for label, word in (("no", "not"), ("yes", "so"))]
    answers = hypothesis_only.answers(rows * 10, [row._replace(text="y") for row in rows], ["no", "yes"])
    assert answers.predicted.tolist() == [[True, False], [False, True]] == answers.gold.tolist()


def test_the_scores_of_a_model_stand_beside_those_of_the_baseline(tiny_model, stillroom, tmp_path):
    network, tokenizer = models.load(str(tiny_model), task="pairs", labels=["no", "yes"])
    network.config.stillroom_task = "pairs"
    models.save(network, tokenizer, tmp_path / "model")
    (tmp_path / "data").mkdir()
    for split in ("train", "dev", "test"):
        rows = [("Fever.", f"It is {word} so", label) for label, word in (("no", "not"), ("yes", "also"))] * 3
        lines = ["premise\thypothesis\tlabel", *("\t".join(row) for row in rows)]
        (tmp_path / "data" / f"{split}.tsv").write_text("\n".join(lines))
    code, out, err = stillroom("evaluate", "--model", tmp_path / "model", "--dataset", tmp_path / "data")
    assert code == 0, err
    [line] = [line for line in out.splitlines() if line.startswith("accuracy")]
    assert "hypothesis only" in out and line.split()[-1] == "1.000"
