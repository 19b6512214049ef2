"""Document classification: heads of every family, windows in training and in inference, and what a model remembers."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from families import FAMILIES, family
from tiny_pair import TAGS, batch, bert
from transformers import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING, AutoTokenizer, BertConfig, BertModel

from trainer import datasets, inference, models, spec, zoo
from trainer.architectures.minialbert_heads import MiniAlbertForSequenceClassification
from trainer.datasets import LabelledDocument
from trainer.datasets.rows.pieces import cut, windows
from trainer.errors import BadSpec, Unavailable
from trainer.examples import open_data, read_task
from trainer.examples.whole_text import IGNORED
from trainer.models import heads, students
from trainer.recipes.finetune import Finetune
from trainer.resolved import ResolvedDataset
from trainer.tasks.classification import Classification
from trainer.training import teacher_cache
from trainer.training.objective import Objective
from trainer.zoo import compatibility

TEXTS = ("fever", " ".join(f"cough {number} and chills" for number in range(30)), "no pain")
IDS = {tag: number for number, tag in enumerate(TAGS)}


@pytest.fixture(scope="module")
def tokenizer(tiny_model):
    torch.set_num_threads(1)
    return AutoTokenizer.from_pretrained(tiny_model)


def data_of(*labels, field="label", **options):
    data = open_data(Classification(**options), ResolvedDataset(reference="none", path="/none", sha256=""))
    label_sets = labels or (("O",), ("B-Disease",), ("I-Disease",))
    data.field = field
    data._examples["train"] = [LabelledDocument(text, each, 1) for text, each in zip(TEXTS, label_sets, strict=True)]
    return data


def rows_of(tokenizer, *labels, max_tokens=16, seed=0, **options):
    return data_of(*labels, **options).rows("train", tokenizer, label_ids=IDS, max_tokens=max_tokens, seed=seed)


# Heads


@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize("name", FAMILIES)
def test_a_document_has_the_mean_of_its_windows_own_logits(name, pooling):
    network = family(name, MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING, MiniAlbertForSequenceClassification)
    if hasattr(network.config, "classifier_pooling"):
        network.config.classifier_pooling = pooling
    mask = (torch.arange(12) < torch.tensor([[12], [8], [5]])).long()
    tensors = {"input_ids": torch.randint(5, 60, (3, 12)), "attention_mask": mask}
    batch = tensors | {"owners": torch.tensor([0, 1, 1]), "documents": torch.arange(2)}
    with torch.no_grad():
        whole = network(**tensors).logits
        logits = heads.forward(network, batch, head="classification").logits
    torch.testing.assert_close(logits, torch.stack([whole[0], whole[1:].mean(0)]), rtol=1e-5, atol=1e-5)


def test_a_model_without_the_head_is_named():
    tensors = {"input_ids": torch.ones(1, 4, dtype=torch.long), "attention_mask": torch.ones(1, 4, dtype=torch.long)}
    for bare in (
        BertModel(BertConfig(num_hidden_layers=1, hidden_size=24, num_attention_heads=4)),
        bert("ner", layers=1),
    ):
        with pytest.raises(Unavailable, match="has no sequence-classification head"):
            heads.forward(bare, tensors, head="classification")


@pytest.mark.parametrize("how", ["mean", "max"])
def test_windows_are_pooled_document_by_document(how):
    values, owners = torch.randn(5, 3), torch.tensor([0, 1, 1, 1, 2])
    logits = heads.pooled(values, owners, 3, how=how)
    whole = values[1:4].mean(0) if how == "mean" else values[1:4].amax(0)
    torch.testing.assert_close(logits, torch.stack([values[0], whole, values[4]]))


@pytest.mark.parametrize("pooling", ["mean", "max"])
@pytest.mark.parametrize("head", ["classification", "several labels"])
def test_the_loss_is_that_of_the_pooled_logits(head, pooling):
    model, tensors = bert(head, layers=2, dropout=0.0), batch(head)
    model.config.document_reading = {"pooling": pooling}
    objective = Objective(model, Finetune.plan(2, 2), head="classification").train()
    logits = model(input_ids=tensors["input_ids"], attention_mask=tensors["attention_mask"]).logits
    first = logits[:2].mean(0) if pooling == "mean" else logits[:2].amax(0)
    pooled = torch.stack([first, *logits[2:]])
    functional = torch.nn.functional
    judge = functional.cross_entropy if head == "classification" else functional.binary_cross_entropy_with_logits
    torch.testing.assert_close(objective(tensors)["loss"], judge(pooled, tensors["labels"]))


# Rows


def test_short_documents_are_one_window_and_long_ones_are_the_windows_of_inference(tokenizer):
    rows = rows_of(tokenizer, most_windows=100)
    tensors = rows.batch([0, 1, 2])
    long = cut(TEXTS[1], tokenizer)
    plan = windows(len(long), 14)
    assert tensors["owners"].tolist() == [0, *[1] * len(plan), 2]
    assert tensors["labels"].tolist() == [0, 1, 2] and tensors["documents"].tolist() == [0, 1, 2]
    for ids, mask, (start, end, *_) in zip(
        tensors["input_ids"][1:-1], tensors["attention_mask"][1:-1], plan, strict=True
    ):
        wanted = [tokenizer.cls_token_id, *long.ids[start:end].tolist(), tokenizer.sep_token_id]
        assert ids[mask.bool()].tolist() == wanted
    assert rows.pieces.tolist() == [3, len(plan) * (plan[0, 1] - plan[0, 0] + 2), 4]
    assert rows.lengths.tolist() == [3, len(plan) * 16, 4], "several windows count as whole ones"


def test_a_step_reads_so_many_windows_and_others_each_time(tokenizer):
    rows, again = (rows_of(tokenizer, most_windows=3, seed=7) for _ in range(2))
    seen = set()
    for step in range(20):
        one, other = rows.batch([1, 0], step=step), again.batch([1, 0], step=step)
        assert all(torch.equal(one[name], other[name]) for name in one), "fixed by seed and step"
        assert one["owners"].tolist() == [0, 0, 0, 1]
        seen.update(tuple(ids.tolist()) for ids in one["input_ids"][:3])
    whole = rows.batch([1])["input_ids"]
    assert len(seen) == len(whole) > 3, "every window comes up"
    assert rows.lengths[1] == 3 * 16


def test_truncate_reads_the_start_and_no_more(tokenizer):
    tensors = rows_of(tokenizer, reading="truncate").batch([1])
    assert len(tensors["input_ids"]) == 1
    assert tensors["input_ids"][0, 1:-1].tolist() == cut(TEXTS[1], tokenizer).ids[:14].tolist()


def test_several_labels_are_a_row_of_zeros_and_ones_and_unlabelled_documents_have_none(tokenizer):
    data = data_of(("O", "I-Disease"), (), ("B-Disease",), field="labels")
    data.unlabelled = [LabelledDocument("a cold", (), 1)]
    labels = data.rows("train", tokenizer, label_ids=IDS, max_tokens=16).batch([0, 1, 2, 3])["labels"]
    assert labels.tolist() == [[1, 0, 1], [0, 0, 0], [0, 1, 0], [IGNORED] * 3]
    assert labels.dtype == torch.float32
    single = data_of()
    single.unlabelled = [LabelledDocument("a cold", (), 1)]
    labels = single.rows("train", tokenizer, label_ids=IDS, max_tokens=16).batch([3, 1])["labels"]
    assert labels.tolist() == [IGNORED, 1]


def test_a_batch_is_no_wider_than_its_budget(tokenizer):
    from trainer.datasets.rows.batches import Batches

    noise = np.random.default_rng(0)
    data = data_of()
    texts = [" ".join(["cough"] * noise.integers(1, 60)) for _ in range(200)]
    data._examples["train"] = [LabelledDocument(text, ("O",), 1) for text in texts]
    rows = data.rows("train", tokenizer, label_ids=IDS, max_tokens=16)
    for indices in Batches(rows.lengths, seed=0, batch_tokens=128, batch_size=None).epoch(0):
        assert rows.batch(indices, step=0)["input_ids"].numel() <= 128


# Inference


@pytest.mark.parametrize("head", ["classification", "several labels"])
@pytest.mark.parametrize("pooling", ["mean", "max"])
def test_labels_are_ranked_with_the_probabilities_of_the_pooled_logits(tokenizer, head, pooling):
    model = bert(head, layers=2, vocabulary=len(tokenizer))
    model.config.document_reading = {"reading": "windows", "pooling": pooling, "max_tokens": 16}
    predictions = inference.predict_many(TEXTS, model, tokenizer, name="x")
    for text, prediction in zip(TEXTS, predictions, strict=True):
        ids = cut(text, tokenizer).ids
        logits = []
        for start, end, *_ in windows(len(ids), 14).tolist():
            piece_ids = torch.tensor([[tokenizer.cls_token_id, *ids[start:end].tolist(), tokenizer.sep_token_id]])
            with torch.no_grad():
                logits.append(model(input_ids=piece_ids).logits[0])
        whole = torch.stack(logits).mean(0) if pooling == "mean" else torch.stack(logits).amax(0)
        wanted = whole.sigmoid() if head == "several labels" else whole.softmax(-1)
        scores = {label.label: label.score for label in prediction.labels}
        assert [scores[tag] for tag in TAGS] == pytest.approx(wanted.tolist(), abs=1e-5)
        assert [label.score for label in prediction.labels] == sorted(scores.values(), reverse=True)
        labels = (
            [tag for tag in TAGS if scores[tag] >= 0.5] if head == "several labels" else [prediction.labels[0].label]
        )
        assert set(prediction.chosen) == set(labels)
        assert (prediction.task, prediction.spans, prediction.label_set) == ("classification", (), tuple(sorted(TAGS)))
        assert (prediction.coverage.tokens, prediction.coverage.tokens_read, prediction.coverage.windows) == (
            len(ids),
            len(ids),
            len(logits),
        )
    assert ("threshold" in predictions[0].to_json()) == (head == "several labels")


def test_readings_of_a_document(tokenizer):
    model = bert("classification", layers=2, vocabulary=len(tokenizer))
    (cut_off,) = inference.predict_many([TEXTS[1]], model, tokenizer, name="x", reading="truncate", max_tokens=16)
    assert cut_off.coverage.tokens_read == 14 and cut_off.coverage.unread
    with pytest.raises(BadSpec, match="'whole' reads up to 38"):
        inference.predict_many([TEXTS[1]], model, tokenizer, name="x", reading="whole")
    (empty,) = inference.predict_many([""], model, tokenizer, name="x")
    assert empty.labels == () and empty.chosen == ()
    with pytest.raises(BadSpec, match="no head for named entities"):
        inference.tag_words([["fever"]], model, tokenizer)


def test_a_model_reads_as_it_was_trained(tokenizer, tmp_path):
    model = bert("classification", layers=1, vocabulary=len(tokenizer))
    for name, value in data_of(pooling="max", reading="truncate").marks(24, np.array([24])).items():
        setattr(model.config, name, value)
    models.save(model, tokenizer, tmp_path / "model")
    loaded, _ = models.load(str(tmp_path / "model"))
    assert heads.document_reading(loaded) == {"reading": "truncate", "pooling": "max", "max_tokens": 24}
    resolved = zoo.resolve(str(tmp_path / "model"))
    assert zoo.labelled_task(resolved) == "classification"
    assert read_task("classification", resolved) == Classification(multi_label=False, reading="truncate", pooling="max")
    (long,) = inference.predict_many([TEXTS[1]], loaded, tokenizer, name="x", reading="truncate")
    assert long.coverage.tokens_read == 22


# Loading and teaching


@pytest.mark.parametrize("base", ["masked LM", "tagger"])
def test_a_fresh_head_has_its_pooler_and_depends_on_the_seed_alone(base, tokenizer, tmp_path):
    models.save(
        bert("mlm" if base == "masked LM" else "ner", layers=1, vocabulary=len(tokenizer)), tokenizer, tmp_path / "m"
    )
    made = [models.load(str(tmp_path / "m"), task="classification", labels=["x", "y"], seed=s)[0] for s in (1, 1, 2)]
    weights = [model.state_dict() for model in made]
    for name in ("classifier.weight", "bert.pooler.dense.weight"):
        assert torch.equal(weights[0][name], weights[1][name]) and not torch.equal(weights[0][name], weights[2][name])
    assert made[0].classifier.out_features == 2
    with pytest.raises(Unavailable, match="no sequence-classification head"):
        models.load(str(tmp_path / "m"), task="classification")


def test_a_student_takes_over_the_whole_head(tokenizer):
    base = bert("classification", layers=2, vocabulary=len(tokenizer))
    student, _ = students.make(base, tokenizer, spec.Change(layers=1), texts=lambda: (), seed=1)
    weights, weights_of_student = base.state_dict(), student.state_dict()
    for name in ("classifier.weight", "bert.pooler.dense.weight", "bert.pooler.dense.bias"):
        assert torch.equal(weights_of_student[name], weights[name])


def test_a_teachers_outputs_are_kept_by_document_and_read_all_of_it(tokenizer, tmp_path):
    teacher = bert("classification", layers=2, vocabulary=len(tokenizer))
    rows = rows_of(tokenizer, most_windows=2)
    outputs = teacher_cache.teacher_outputs(teacher, rows, levels=[2], weights="w", cache=tmp_path)
    assert outputs.logits.shape == (3, 3) and outputs.states.shape == (3, 1, 24)
    probabilities = inference.classify(TEXTS, teacher, tokenizer, max_tokens=16).probabilities
    np.testing.assert_allclose(torch.tensor(np.array(outputs.logits)).softmax(-1).numpy(), probabilities, atol=1e-5)
    teacher.config.document_reading = {"pooling": "max"}
    other = teacher_cache.teacher_outputs(teacher, rows, levels=[2], weights="w", cache=tmp_path)
    assert not np.allclose(other.logits[1], outputs.logits[1]), "another pooling is another output"


def test_a_teacher_of_another_task_does_not_fit():
    config = {"model_type": "bert", "num_hidden_layers": 4, "hidden_size": 24, "num_attention_heads": 4}
    config |= {"intermediate_size": 48, "vocab_size": 50, "id2label": {"0": "x", "1": "y"}}
    fields = {"kind": "distill", "teacher": "t", "student": {"layers": 2}, "dataset": "mtsamples", "recipe": "task_kd"}
    job = spec.parse(fields)
    assert job.task.name == "classification", "as the card of the data set says"
    tagger = compatibility.sizes(config | {"architectures": ["BertForTokenClassification"]})
    with pytest.raises(BadSpec, match="teacher: it is a model for ner; classification needs a teacher"):
        compatibility.check(job, tagger, tagger)
    one = compatibility.sizes(config | {"architectures": ["BertForSequenceClassification"]})
    assert compatibility.check(job, one, one).layers == 2
    several = spec.parse(fields | {"task": {"name": "classification", "multi_label": True}})
    with pytest.raises(BadSpec, match="task.multi_label: the teacher gives a document one label, the task several"):
        compatibility.check(several, one, one)


# The spec


def test_the_task_of_a_job_is_that_of_its_data():
    for kind, dataset, task in (
        ("finetune", "mtsamples", "classification"),
        ("finetune", "bc5cdr", "ner"),
        ("finetune", "./mine", "ner"),
        ("evaluate", "mtsamples-slice", "classification"),
        ("evaluate", "clinical-text", "mlm"),
        ("pretrain", "mtsamples", "mlm"),
    ):
        assert spec.parse({"kind": kind, "model": "m", "dataset": dataset}).task.name == task
    with pytest.raises(BadSpec, match="task.*most_windows"):
        spec.parse(
            {"kind": "finetune", "model": "m", "dataset": "d", "task": {"name": "classification", "most_windows": 0}}
        )


def test_a_spec_is_written_as_a_person_writes_it():
    plain = spec.parse({"kind": "finetune", "model": "m", "dataset": "mtsamples"})
    assert "task" not in plain.to_yaml() and spec.parse(json.loads(plain.canonical)) == plain
    parsed = spec.parse(
        {"kind": "finetune", "model": "m", "dataset": "./mine", "task": {"name": "classification", "pooling": "max"}}
    )
    assert "task: {name: classification, pooling: max}\n" in parsed.to_yaml()


def test_the_task_imports_without_torch():
    code = "import sys, trainer.tasks, trainer.datasets; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_shipped_slice_becomes_rows(tokenizer):
    data = open_data(Classification(most_windows=2), datasets.resolve("mtsamples-slice"))
    ids = {label: number for number, label in enumerate(data.labels)}
    rows = data.rows("train", tokenizer, label_ids=ids, max_tokens=128)
    assert len(rows.lengths) == 48 and rows.lengths.max() == 256
