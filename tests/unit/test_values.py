"""Values of whole texts: their rows, what every model reads, losses, scores, and how they are shown."""

import json

import numpy as np
import pytest
import torch
from families import FAMILIES, family, typed_tokenizer
from transformers import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING

from trainer import datasets, fit, inference, models, zoo
from trainer.architectures import global_attention
from trainer.architectures.minialbert_heads import MiniAlbertForSequenceClassification
from trainer.datasets import LabelledDocument
from trainer.datasets.readers import values
from trainer.errors import BadData, BadSpec, CorruptFile
from trainer.evaluation import value_scores
from trainer.examples import open_data
from trainer.inference.target_score import Probe, Score
from trainer.models import heads
from trainer.prediction import Value
from trainer.recipes.terms import Term
from trainer.tasks import TASKS
from trainer.training import losses
from trainer.training.objective import Objective
from workbench.explain import ExplainOptions, ablate, explain_text
from workbench.explain.agreement import ablation_sentence
from workbench.explain.wording import account, score_words

SECRET = "Mr Miller has a fever"
ROWS = [("Mild pain.", 1), ("No pain at all.", 0.0), ("Severe pain, fever.", 7.5), ("The worst pain.", 10)]


def write(folder, rows=ROWS, ending="jsonl"):
    for number, split in enumerate(("train", "dev", "test")):
        lines = [json.dumps({"text": f"{text} {number}", "value": value}) for text, value in rows]
        (folder / f"{split}.{ending}").write_text("\n".join(lines))
    return folder


# --- Rows


def test_numbers_are_read_from_json_and_csv(tmp_path):
    (tmp_path / "train.jsonl").write_text('{"text": "Pain.", "value": 3}\n{"text": "Ache.", "value": -2.5, "id": 1}\n')
    (tmp_path / "train.csv").write_text("value,text\n3,Pain.\n-2.5,Ache.\n")
    for name in ("train.jsonl", "train.csv"):
        assert [(each.text, each.value) for each in values.read(tmp_path / name)] == [("Pain.", 3.0), ("Ache.", -2.5)]


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"value": 1}, "without the field `text`"),
        ({"text": SECRET}, "without the field `value`"),
        ({"text": SECRET, "value": "3"}, "`value` is a str, not a number"),
        ({"text": SECRET, "value": True}, "`value` is a bool, not a number"),
        ({"text": SECRET, "value": None}, "`value` is a NoneType, not a number"),
        ({"text": SECRET, "value": float("nan")}, "not a finite number"),
        ({"text": SECRET, "value": float("-inf")}, "not a finite number"),
        ({"text": SECRET, "value": 10**400}, "not a finite number"),
    ],
)
def test_a_wrong_row_is_named_by_its_line_and_not_quoted(tmp_path, row, problem):
    (tmp_path / "train.jsonl").write_text(f'{{"text": "Pain.", "value": 1}}\n{json.dumps(row)}\n')
    with pytest.raises(BadData) as error:
        list(values.read(tmp_path / "train.jsonl"))
    assert error.value.line == 2 and problem in str(error.value) and SECRET not in str(error.value)


@pytest.mark.parametrize("cell", ["high", "", "nan", "inf", "1e999"])
def test_a_wrong_cell_is_named_by_its_line(tmp_path, cell):
    (tmp_path / "train.csv").write_text(f"text,value\nPain.,1\nPain.,{cell}\n")
    [problem] = datasets.check(tmp_path / "train.csv", task="values").problems
    assert problem.line == 3 and "number" in problem.message


def test_a_folder_is_known_checked_and_imported(tmp_path, home):
    report = datasets.check(write(tmp_path), task="values")
    train = report.splits["train"]
    assert report.ok and (train.lowest, train.highest, train.mean) == (0.0, 10.0, 4.625) and not report.labels
    assert "for the task values, not" in datasets.check(tmp_path, task="classification").problems[0].message
    name, imported = datasets.import_data(tmp_path, task="values", name="pain")
    assert name and imported.ok and datasets.cards()["pain"].splits["test"].highest == 10
    write(tmp_path, [("Pain.", 3), ("More pain.", 3)])
    [problem] = datasets.check(tmp_path, task="values").problems
    assert "every value of the split is 3" in problem.message


# --- What is read


def network_of(kind):
    network = family(kind, MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING, MiniAlbertForSequenceClassification, labels=1)
    network.config.update({"problem_type": "regression", "stillroom_task": "values", "stillroom_value_range": [0, 10]})
    network.config.id2label = {0: "value"}
    if kind == "mobilebert":  # whose embeddings look at their neighbours: models.load sees to this
        network.get_input_embeddings().weight.data[1] = 0
    return network


@pytest.mark.parametrize("kind", FAMILIES)
def test_every_architecture_gives_the_value_of_its_own_forward_pass(kind):
    network, tokenizer = network_of(kind), typed_tokenizer()
    text = "a b c d e f g h"
    ids = torch.tensor([tokenizer(text)["input_ids"]])
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    with torch.no_grad():
        own = network(**batch, **global_attention(network, batch, "classification")).logits
        units = {"owners": torch.tensor([0]), "documents": torch.tensor([0])}
        trained = heads.forward(network, batch | units, head="classification").logits
    assert own.shape == (1, 1) and torch.allclose(trained, own, atol=1e-5)
    read = inference.read_values([text], network, tokenizer)
    assert read.values[0] == pytest.approx(10 * float(own), abs=1e-4)
    [prediction] = inference.predict_many([text], network, tokenizer, name="m")
    assert prediction.value.value == pytest.approx(10 * float(own), abs=1e-4) and not prediction.labels
    probe = Probe(
        network,
        ids[0].tolist(),
        before=1,
        free=[True] * 8,
        places=[0],
        score=Score.of_value(),
        baseline_id=4,
    )
    [explained] = probe.probabilities(np.ones((1, 8), dtype=bool))
    assert explained == pytest.approx(float(own), abs=1e-5)


@pytest.fixture(scope="module")
def model(tiny_model, tmp_path_factory):
    """The tiny model with a new head for values, as a folder."""
    network, tokenizer = models.load(str(tiny_model), task="values", labels=("value",))
    reading = {"reading": "windows", "pooling": "mean", "max_tokens": 16}
    marks = {"stillroom_task": "values", "problem_type": "regression", "document_reading": reading}
    network.config.update(marks | {"stillroom_value_range": [0.0, 10.0]})
    models.save(network, tokenizer, folder := tmp_path_factory.mktemp("models") / "values")
    return folder


def test_a_model_of_values_is_accepted_for_its_task_alone(model, tmp_path):
    resolved = zoo.resolve(str(model))
    known = fit.read_model(resolved)
    assert zoo.labelled_task(resolved) == known.task == "values" and not known.unclear
    assert known.label_set == ("value",) == known.shape.labels
    network, tokenizer = models.load(str(model))
    with pytest.raises(BadSpec, match="no head for whole documents"):
        inference.classify(["a"], network, tokenizer)
    config = json.loads((model / "config.json").read_text())
    other = tmp_path / "other"
    models.save(network, tokenizer, other)
    (other / "config.json").write_text(json.dumps({k: v for k, v in config.items() if k != "stillroom_task"}))
    with pytest.raises(BadSpec, match="predicts a number"):
        zoo.labelled_task(zoo.resolve(str(other)))
    (other / "config.json").write_text(json.dumps(config | {"problem_type": None}))
    with pytest.raises(BadSpec, match="has 1 outputs and the problem_type None"):
        zoo.labelled_task(zoo.resolve(str(other)))
    (other / "config.json").write_text(json.dumps(config | {"stillroom_value_range": [0, "x"]}))
    with pytest.raises(CorruptFile, match="lowest and the highest"):
        inference.predict("a", *models.load(str(other)), name="m")


def test_a_value_is_shown_on_its_scale_and_never_as_a_probability(model):
    assert str(Value(value=3.44, lowest=0, highest=10)) == "3.4 on a scale of 0 to 10"
    assert str(Value(value=0.5, lowest=0, highest=1)) == "0.50 on a scale of 0 to 1"
    assert str(Value(value=57.3, lowest=0, highest=100)) == "57 on a scale of 0 to 100"
    network, tokenizer = models.load(str(model))
    text = "Pain and fever. " * 12
    prediction = inference.predict(text, network, tokenizer, name="m")
    assert prediction.coverage.windows > 1 and prediction.to_json()["value"]["highest"] == 10
    options = ExplainOptions(method="feature_ablation", orders=0, reading="truncate")
    answer = explain_text(text, network, tokenizer, "value", options, name="m")
    first = inference.predict(text, network, tokenizer, name="m", reading="truncate").value
    assert answer.value.value == pytest.approx(first.value, abs=1e-4) and "%" not in score_words(answer)
    assert answer.to_json()["value"]["lowest"] == 0 and any(part.score for part in answer.attributions)
    hidden = ablate(text, network, tokenizer, "value", [(0, 16)])
    sentence = ablation_sentence("m", hidden)
    assert hidden.values[0].highest == 10 and "on a scale of 0 to 10" in sentence and "%" not in sentence
    assert "%" not in " ".join(account(answer)) and "shares of the scale" in account(answer)[0]
    with pytest.raises(BadSpec, match="gives the text a value: write value"):
        explain_text(text, network, tokenizer, "0:4:value", options, name="m")


# --- Training and scores


def test_rows_hold_shares_of_the_scale_and_nothing_where_a_value_is_not_known(tmp_path):
    data = open_data(TASKS["values"](), datasets.resolve(str(write(tmp_path))))
    data.unlabelled = [LabelledDocument("a b", (), 1)]
    rows = data.rows("train", typed_tokenizer(), label_ids={"value": 0}, max_tokens=16)
    labels = rows.batch(range(5))["labels"]
    assert torch.allclose(labels[:4], torch.tensor([0.1, 0.0, 0.75, 1.0])) and labels[4].isnan()
    assert data.labels == ("value",) and data.marks(16, rows.lengths)["stillroom_value_range"] == [0.0, 10.0]


def test_losses_are_squared_errors_of_what_is_known():
    outputs, gold = torch.tensor([[0.5], [2.0], [9.0]]), torch.tensor([1.0, 0.0, float("nan")])
    assert losses.values(outputs, gold).item() == pytest.approx((0.25 + 4) / 2)
    assert losses.values(outputs[2:], gold[2:]).item() == 0
    assert losses.soft_values(outputs, outputs + 2, temperature=3).item() == pytest.approx(4)
    outputs.requires_grad_(True)
    losses.values(outputs, gold).backward()
    assert torch.isfinite(outputs.grad).all() and outputs.grad[2] == 0


def test_an_objective_compares_values_with_gold_and_teacher():
    network, other = network_of("bert"), network_of("bert")
    with torch.no_grad():
        other.classifier.bias += 0.5
    ids = torch.tensor([[2, 5, 6, 3], [2, 7, 8, 3]])
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "owners": torch.tensor([0, 1])}
    batch |= {"documents": torch.tensor([0, 1]), "labels": torch.tensor([0.2, float("nan")])}
    plan = [Term(name="task", weight=1.0), Term(name="soft_targets", weight=1.0, temperature=2.0)]
    objective = Objective(network, plan, head="classification", teacher=other).eval()
    with torch.no_grad():
        terms, logits = objective(batch), network(ids).logits
    assert terms["loss.task"].item() == pytest.approx((logits[0, 0].item() - 0.2) ** 2, abs=1e-5)
    assert terms["loss.soft_targets"].item() == pytest.approx(0.25, abs=1e-5)


def test_scores_are_those_of_scipy_and_the_baseline_is_the_mean_of_train(model, tmp_path):
    stats = pytest.importorskip("scipy.stats")
    random = np.random.default_rng(0)
    gold, predicted = random.normal(size=50).round(1), random.normal(size=50)
    scores = value_scores.metrics(gold, predicted)
    assert scores["pearson"] == pytest.approx(stats.pearsonr(gold, predicted).statistic)
    assert scores["spearman"] == pytest.approx(stats.spearmanr(gold, predicted).statistic)
    assert scores["mae"] == np.abs(gold - predicted).mean() and scores["rmse"] ** 2 == pytest.approx(
        np.square(gold - predicted).mean()
    )
    assert value_scores.metrics(gold, np.ones(50))["spearman"] == 0
    low, high = value_scores.bootstrap(gold, predicted, samples=300)["mae"]
    assert low < scores["mae"] < high
    network, tokenizer = models.load(str(model))
    data = open_data(TASKS["values"](), datasets.resolve(str(write(tmp_path))))
    report = data.report(network, tokenizer, "test", max_tokens=16)
    assert report["baseline"]["metrics"]["mae"] == pytest.approx(np.abs(np.array([1, 0, 7.5, 10]) - 4.625).mean())
    assert report["n"] == 4 and {*report["intervals"]} == {"pearson", "spearman", "mae", "rmse"}
