"""What a model's outputs mean is the same for predict, evaluate, compare, explain and distillation, or all refuse."""

import json
import logging
from pathlib import Path

import known_models as known
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from trainer import datasets, inference, models, zoo
from trainer.datasets import LabelledDocument, Sentence
from trainer.datasets.rows.tokens import Tokens
from trainer.datasets.tags import iob2
from trainer.errors import BadSpec, CorruptFile, NonFiniteOutputs, Unavailable
from trainer.evaluation import document_scores, masked_lm, span_scores
from trainer.examples.ner import IGNORED, NERRows, encode
from trainer.run import RunSpec
from trainer.spec import parse
from trainer.tasks.ner import NER
from trainer.training import teacher_cache
from trainer.training.setup import prepare
from trainer.zoo import compatibility
from trainer.zoo.outputs import ONE
from workbench import cli
from workbench import explain as why
from workbench.note import Note
from workbench.predict import predict

TEXT = "aspirin warfarin , asthma and lung cancer ."
SPANS = [("Drug", "aspirin"), ("Drug", "warfarin"), ("Disease", "asthma"), ("Disease", "lung cancer")]
GOLD = ["B-Drug", "B-Drug", "O", "B-Disease", "O", "B-Disease", "I-Disease", "O"]
BLOOD = ("A", "B", "AB", "O")
UNMEASURED = why.ExplainOptions(orders=0)


def labels_spelled(spelling: str, kinds=("Drug", "Disease")) -> list[str]:
    """Labels of both types: "{}" stands for the type, borders are joined to it one by one."""
    return ["O", *(each.format(kind) for kind in kinds for each in spelling.split())]


# The labels, and the tags of aspirin, warfarin, asthma, lung, cancer.
SCHEMES = {
    "IOB2": (labels_spelled("B-{} I-{}"), "B-Drug B-Drug B-Disease B-Disease I-Disease"),
    "IOB2, other separator": (labels_spelled("B_{} I_{}"), "B_Drug B_Drug B_Disease B_Disease I_Disease"),
    "IOB2, behind": (labels_spelled("{}-B {}-I"), "Drug-B Drug-B Disease-B Disease-B Disease-I"),
    "IOB2, small": (labels_spelled("b-{} i-{}"), "b-Drug b-Drug b-Disease b-Disease i-Disease"),
    "IOB1": (["O", "I-Drug", "B-Drug", "I-Disease"], "I-Drug B-Drug I-Disease I-Disease I-Disease"),
    "BIOES": (labels_spelled("B-{} I-{} E-{} S-{}"), "S-Drug S-Drug S-Disease B-Disease E-Disease"),
    "BILOU": (labels_spelled("B-{} I-{} L-{} U-{}"), "U-Drug U-Drug U-Disease B-Disease L-Disease"),
    "BMES": (labels_spelled("B-{} M-{} E-{} S-{}"), "S-Drug S-Drug S-Disease B-Disease E-Disease"),
    "IOE": (labels_spelled("I-{} E-{}"), "E-Drug E-Drug E-Disease I-Disease E-Disease"),
}


def words_of(tags: str) -> dict[str, str]:
    return dict(zip(["aspirin", "warfarin", "asthma", "lung", "cancer"], tags.split(), strict=True))


def covered(prediction, text: str = TEXT) -> list[tuple[str, str]]:
    return [(span.label, text[span.start : span.end]) for span in prediction.spans]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_scheme_gives_the_same_spans(tmp_path, scheme, caplog):
    labels, tags = SCHEMES[scheme]
    folder = known.tagger(tmp_path / "m", words_of(tags), labels[::-1])
    with caplog.at_level(logging.WARNING):
        model, tokenizer = models.load(str(folder))
    assert ("are read as" in caplog.text) == (not scheme.startswith("IOB2"))
    assert covered(inference.predict(TEXT, model, tokenizer, name="m")) == SPANS
    assert inference.label_set(model) == ("Disease", "Drug")
    sentence = Sentence(tuple(TEXT.split()), tuple(GOLD))
    assert inference.tag_words([sentence.words], model, tokenizer) == [GOLD] or scheme in ("IOB1", "IOE")
    report = span_scores.evaluate(model, tokenizer, [sentence], split="test")
    assert {name for name in report["metrics"] if name.startswith("f1")} == {"f1", "f1.Disease", "f1.Drug"}
    assert report["metrics"]["f1"] == 1.0
    answer = why.explain_text(TEXT, model, tokenizer, "30:41:Disease", UNMEASURED, name="m")
    assert answer.probability > 0.99
    shape = compatibility.shape(zoo.resolve(str(folder)))
    assert set(shape.labels) == set(labels) and zoo.labelled_task(zoo.resolve(str(folder))) == "ner"


@pytest.mark.parametrize("labels", [["O", "Drug", "Disease"], ["O", "I-Drug", "I-Disease"]])
def test_without_boundaries_neighbours_of_one_type_are_one_entity(tmp_path, labels):
    drug, disease = labels[1:]
    folder = known.tagger(tmp_path / "m", words_of(f"{drug} {drug} {disease} {disease} {disease}"), labels)
    model, tokenizer = models.load(str(folder))
    entities = covered(inference.predict(TEXT, model, tokenizer, name="m"))
    assert entities == [("Drug", "aspirin warfarin"), *SPANS[2:]]
    words = ("aspirin", "and", "warfarin", "for", "lung", "cancer")
    gold = Sentence(words, ("B-Drug", "O", "B-Drug", "O", "B-Disease", "I-Disease"))
    scores = span_scores.word_scores(model, tokenizer, [gold])
    assert (
        scores["f1"] == 1.0
        and set(scores) >= {"f1.Drug", "f1.Disease"}
        and "overlap_f1" in scores
        and len(scores) == 10
    )


def test_an_entity_type_called_o_is_one(tmp_path):
    model, tokenizer = models.load(str(known.tagger(tmp_path / "m", {"fever": "B-O"}, ["O", "B-O", "I-O"])))
    assert inference.label_set(model) == ("O",)
    assert covered(inference.predict("fever and aspirin", model, tokenizer, name="m"), "fever and") == [("O", "fever")]
    gold = Sentence(("fever", "and"), ("B-O", "O"))
    assert span_scores.evaluate(model, tokenizer, [gold])["metrics"]["f1.O"] == 1.0
    assert why.explain_text("fever and", model, tokenizer, "0:5:O", UNMEASURED, name="m").probability > 0.99


def test_gold_tags_are_taught_in_the_scheme_of_the_teacher(tmp_path):
    labels, tags = SCHEMES["BILOU"]
    model, tokenizer = models.load(str(known.tagger(tmp_path / "m", words_of(tags), labels)))
    (row,) = encode(
        NER(), [Sentence(tuple(TEXT.split()), tuple(GOLD))], tokenizer, label_ids=model.config.label2id, max_tokens=32
    )
    names = [labels[label] for label in row.labels if label != IGNORED]
    assert names == ["U-Drug", "U-Drug", "O", "U-Disease", "O", "B-Disease", "L-Disease", "O"]


@pytest.mark.parametrize(
    ("labels", "what"),
    [
        (["LABEL_0", "LABEL_1"], "gives to outputs without a name"),
        (["Drug", "Disease"], "none of them is O"),
        (["O", "B-Drug", "I-Drug", "Disease"], "there is Disease"),
    ],
)
def test_tags_that_mean_nothing_plain_are_refused_everywhere(tmp_path, labels, what):
    folder = known.tagger(tmp_path / "m", {}, labels, outside=labels[0])
    assert_all_refuse(folder, BadSpec, what, target="0:7:Drug")


def assert_all_refuse(folder: Path, kind: type, what: str, *, target: str) -> None:
    """predict, explain, evaluate and what trains and compares by them say one thing."""
    reference = str(folder)
    with pytest.raises(kind, match=what):
        predict(Note(TEXT), reference)
    with pytest.raises(kind, match=what):
        why.explain(Note(TEXT), reference, target)
    with pytest.raises(kind, match=what):
        zoo.labelled_task(zoo.resolve(reference))
    with pytest.raises(kind, match=what):
        inference.label_set(models.load(reference)[0])


def test_a_class_called_o_is_a_label_like_any_other(tmp_path):
    folder = known.classifier(tmp_path / "m", [0.0, 1.0, 0.5, 3.0], BLOOD)
    prediction = predict(Note(TEXT), str(folder))
    expected = torch.tensor([0.0, 1.0, 0.5, 3.0]).softmax(0).tolist()
    assert {each.label: each.score for each in prediction.labels} == pytest.approx(
        dict(zip(BLOOD, expected, strict=True))
    )
    assert (prediction.task, prediction.chosen, prediction.spans) == ("classification", ("O",), ())
    assert prediction.label_set == tuple(sorted(BLOOD))
    for label, probability in zip(BLOOD, expected, strict=True):
        answer = why.explain(Note(TEXT), str(folder), label, UNMEASURED)
        assert answer.probability == pytest.approx(probability, abs=1e-6)
    with pytest.raises(BadSpec, match="labels whole texts"):
        why.explain(Note(TEXT), str(folder), "0:7:O")
    model, tokenizer = models.load(str(folder))
    documents = [LabelledDocument("aspirin", ("O",), 1), LabelledDocument("fever", ("A",), 2)]
    assert document_scores.evaluate(model, tokenizer, documents)["metrics"]["accuracy"] == 0.5
    assert zoo.labelled_task(zoo.resolve(str(folder))) == "classification"


@pytest.mark.parametrize(
    ("labels", "problem"),
    [(["LABEL_0"], "regression"), (["LABEL_0"], None), (["severity"], None), (["a", "b"], "regression")],
)
def test_a_number_is_never_a_probability(tmp_path, labels, problem):
    folder = known.classifier(tmp_path / "m", [42.5] * len(labels), labels, problem_type=problem)
    assert_all_refuse(folder, BadSpec, "number", target=labels[0])
    model, tokenizer = models.load(str(folder))
    with pytest.raises(BadSpec, match="number"):
        inference.classify([TEXT], model, tokenizer)
    assert compatibility.shape(zoo.resolve(str(folder))).labels == (), "it teaches no labels"
    again, _ = models.load(str(folder), task="classification", labels=["no", "yes"])
    assert again.config.num_labels == 2, "it may be what a classifier starts from"


def test_a_single_label_does_not_mean_certainty(tmp_path):
    folder = known.classifier(tmp_path / "m", [42.5], ["a"], problem_type=ONE)
    with pytest.raises(BadSpec, match="number or a label"):
        zoo.labelled_task(zoo.resolve(str(folder)))
    with pytest.raises(BadSpec, match="number or a label"):
        predict(Note(TEXT), str(folder))


def test_one_label_with_a_probability_is_one(tmp_path):
    folder = known.classifier(tmp_path / "m", [2.0], ["pain"], problem_type="multi_label_classification")
    prediction = predict(Note(TEXT), str(folder))
    assert prediction.labels[0].score == pytest.approx(torch.tensor(2.0).sigmoid().item())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_outputs_that_are_no_numbers_are_an_error(tmp_path, value):
    for folder, target in (
        (known.tagger(tmp_path / "t", {"aspirin": "B-X"}, ["O", "B-X", "I-X"]), "0:7:X"),
        (known.classifier(tmp_path / "c", [0.0, 1.0], ["no", "yes"]), "yes"),
    ):
        weights = load_file(folder / "model.safetensors")
        weights["classifier.bias"][1] = value  # one output alone
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(NonFiniteOutputs, match="NaN or infinite") as caught:
            predict(Note(TEXT), str(folder))
        assert "aspirin" not in str(caught.value) and caught.value.next_step
        with pytest.raises(NonFiniteOutputs):
            why.explain(Note(TEXT), str(folder), target)
    model, tokenizer = models.load(str(tmp_path / "t"))
    with pytest.raises(NonFiniteOutputs):
        span_scores.word_scores(model, tokenizer, [Sentence(("aspirin",), ("B-X",))])
    model, tokenizer = models.load(str(tmp_path / "c"))
    with pytest.raises(NonFiniteOutputs):
        document_scores.scores(model, tokenizer, [LabelledDocument("aspirin", ("no",), 1)])


def test_outputs_at_padding_are_ignored(tmp_path, monkeypatch):
    model, tokenizer = models.load(str(known.tagger(tmp_path / "m", {"fever": "B-X"}, ["O", "B-X", "I-X"])))
    plain, padded = model.forward, []

    def noisy(input_ids, attention_mask, **more):
        outputs = plain(input_ids=input_ids, attention_mask=attention_mask, **more)
        outputs.logits[attention_mask == 0] = float("nan")
        padded.extend((attention_mask == 0).nonzero())
        return outputs

    monkeypatch.setattr(model, "forward", noisy)
    texts = ["fever and fever", "fever and", "and fever"]  # the first two share a batch
    predictions = inference.predict_many(texts, model, tokenizer, name="m")
    assert [len(prediction.spans) for prediction in predictions] == [2, 1, 1] and padded


def test_a_teacher_whose_outputs_are_no_numbers_teaches_nothing(tmp_path):
    model, tokenizer = models.load(str(known.tagger(tmp_path / "m", {"fever": "B-X"}, ["O", "B-X", "I-X"])))
    with torch.no_grad():
        model.classifier.bias[2] = float("inf")
    sentences = encode(
        NER(), [Sentence(("fever",), ("B-X",))], tokenizer, label_ids=model.config.label2id, max_tokens=16
    )
    rows = NERRows(sentences, pad_id=0, words=True)
    with pytest.raises(NonFiniteOutputs):
        teacher_cache.teacher_outputs(model, rows, levels=[1], weights="w", cache=tmp_path)


def test_without_a_class_a_tagger_is_known_by_its_tensors(tmp_path):
    folder = known.tagger(tmp_path / "m", words_of(SCHEMES["IOB2"][1]), SCHEMES["IOB2"][0], architectures=None)
    assert "architectures" not in json.loads((folder / "config.json").read_text())
    assert covered(predict(Note(TEXT), str(folder))) == SPANS
    assert zoo.labelled_task(zoo.resolve(str(folder))) == "ner"
    assert why.explain(Note(TEXT), str(folder), "0:7:Drug", UNMEASURED).probability > 0.99
    groups = known.classifier(tmp_path / "c", [0.0, 1.0, 0.5, 3.0], BLOOD, architectures=None)
    assert predict(Note(TEXT), str(groups)).chosen == ("O",)
    tagged = known.classifier(tmp_path / "d", [0.0, 1.0], ["O", "B-Drug"], architectures=None)
    with pytest.raises(Unavailable, match="does not name the model's class"):
        zoo.resolve(str(tagged))


def test_a_model_without_a_head_is_refused_everywhere(tmp_path):
    folder = known.tagger(tmp_path / "m", {}, ["O", "B-X", "I-X"])
    weights = {name: value for name, value in load_file(folder / "model.safetensors").items() if "class" not in name}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    for named in (None, ["BertModel"]):
        known.edit(folder, architectures=named)
        assert_all_refuse(folder, BadSpec, "has no head", target="0:7:X")


FAULTS = {
    "gap": {"id2label": {"0": "O", "2": "B-X", "3": "I-X"}},
    "null": {"id2label": {"0": "O", "1": None, "2": "I-X"}},
    "empty": {"id2label": {"0": "O", "1": "", "2": "I-X"}},
    "twice": {"id2label": {"0": "O", "1": "B-X", "2": "B-X"}},
    "key": {"id2label": {"O": 0, "B-X": 1, "I-X": 2}},
    "list": {"id2label": ["O", "B-X", "I-X"]},
    "few": {"id2label": {"0": "O", "1": "B-X"}},
    "against": {"id2label": {"0": "O", "1": "B-X", "2": "I-X"}, "label2id": {"O": 2, "B-X": 1, "I-X": 0}},
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_config_whose_labels_are_none_is_one_error_for_every_command(tmp_path, fault, home, capfd, tiny_model):
    folder = known.edit(known.tagger(tmp_path / "m", {}, ["O", "B-X", "I-X"]), **FAULTS[fault])
    (tmp_path / "note.txt").write_text(TEXT)
    note = ("--text-file", tmp_path / "note.txt")
    for words in (
        ("predict", "--model", folder, *note),
        ("compare", "--model", tiny_model, "--model", folder, *note),
        ("explain", "--model", folder, "--target", "0:7:X", *note),
        ("evaluate", "--model", folder, "--dataset", "ncbi-disease-slice"),
    ):
        with pytest.raises(SystemExit) as ended:
            cli.main([*map(str, words), "--json"])
        error = json.loads(capfd.readouterr().out)["error"]
        assert ended.value.code and error["type"] == CorruptFile.__name__ and error["next_step"]
        assert "config.json" in error["message"]


def test_whole_numbers_are_names(tmp_path):
    folder = known.classifier(tmp_path / "m", [0.0, 1.0], ["a", "b"])
    known.edit(folder, id2label={"0": 0, "1": 1}, label2id={"0": 0, "1": 1})
    assert predict(Note(TEXT), str(folder)).chosen == ("1",)


@pytest.mark.parametrize("scheme", ["BILOU", "IOB2, behind", "plain"])
def test_a_student_learns_the_scheme_of_its_teacher(tmp_path, scheme):
    """One step of task_kd: rows, losses and scores agree with what the teacher says, whatever its scheme."""
    plain = (["O", "Drug", "Disease"], "Drug Drug Disease Disease Disease")
    labels, tags = SCHEMES.get(scheme, plain)
    teacher = zoo.resolve(str(known.tagger(tmp_path / "m", words_of(tags), labels)))
    words = ["aspirin", "and", "asthma", "for", "lung", "cancer"]
    gold = ["B-Drug", "O", "B-Disease", "O", "B-Disease", "I-Disease"]
    (tmp_path / "d").mkdir()
    rows = "\n".join(f"{word}\t{tag}" for word, tag in zip(words, gold, strict=True)) + "\n\n"
    for split in ("train", "dev", "test"):
        (tmp_path / "d" / f"{split}.conll").write_text(rows * 2)
    fields = {"kind": "distill", "teacher": "t", "student": {"layers": 1}, "dataset": "d", "recipe": "task_kd"}
    spec = parse(fields | {"recipe": {"name": "task_kd", "labels": 1.0}, "schedule": {"steps": 1}})
    options = {"id": "00000000-1", "attempt": 1, "threads": 1, "device": "cpu"}
    dataset = datasets.resolve(str(tmp_path / "d"))
    made = prepare(RunSpec(spec=spec, model=teacher, teacher=teacher, dataset=dataset, **options), cache=tmp_path)
    terms = made.objective.eval()(made.batch_at(0))
    assert terms["loss.task"].item() < 1e-3, "the gold labels are those that the teacher is sure of"
    assert terms["loss.soft_targets"].item() < 1e-3
    assert made.dev_scores()["f1"] == made.teacher_scores("dev")["f1"] == 1.0
    student, tokenizer = made.objective.student, made.tokenizer
    assert covered(inference.predict(TEXT, student, tokenizer, name="s"))[-1] == SPANS[-1]
    models.save(student, tokenizer, tmp_path / "saved")
    again, tokenizer = models.load(str(tmp_path / "saved"))
    assert covered(inference.predict(TEXT, again, tokenizer, name="s"))[-1] == SPANS[-1]
    fresh, _ = models.load(teacher, task="ner", labels=iob2(["Drug", "Disease"]))
    assert inference.tag_names(fresh) == list(iob2(["Drug", "Disease"])), "fine-tuning makes its own head"


def test_a_masked_lm_whose_outputs_are_no_numbers_has_no_score(tiny_model):
    from transformers import AutoTokenizer, BertConfig, BertForMaskedLM

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    shape = {name: value for name, value in known.SHAPE.items() if name != "vocab_size"}
    model = BertForMaskedLM(BertConfig(vocab_size=len(tokenizer), **shape)).eval()
    ids = np.array(tokenizer("fever and cough " * 20, add_special_tokens=False)["input_ids"], dtype=np.uint16)
    corpus = Tokens(ids, np.array([len(ids)]))
    assert masked_lm.scores(model, tokenizer, corpus, max_tokens=32)["loss"] > 0
    with torch.no_grad():
        model.cls.predictions.decoder.bias[0] = float("nan")
    with pytest.raises(NonFiniteOutputs):
        masked_lm.scores(model, tokenizer, corpus, max_tokens=32)
