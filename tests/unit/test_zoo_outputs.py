"""What a config.json and the names of tensors say of a head and its outputs, or the error that says what is wrong."""

import pytest

from trainer.errors import BadSpec, CorruptFile, StillroomError, Unavailable
from trainer.zoo import outputs

TAGGER = {"architectures": ["BertForTokenClassification"]}
CLASSIFIER = {"architectures": ["RobertaForSequenceClassification"]}
TWO = {"classifier.weight": [2, 8], "classifier.bias": [2]}


def read(config, shapes=TWO):
    return outputs.read(config, shapes, where="./m")


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        ({"0": "no", "1": "yes"}, ("no", "yes")),
        ({"1": "yes", "0": "no"}, ("no", "yes")),
        ({0: "no", 1: "yes"}, ("no", "yes")),
        ({"0": 0, "1": 1}, ("0", "1")),
        ({"0": 1.5, "1": 2}, ("1.5", "2")),
        ({"0": "A", "1": "O"}, ("A", "O")),
    ],
)
def test_names_of_outputs(names, labels):
    assert read(CLASSIFIER | {"id2label": names}).labels == labels


@pytest.mark.parametrize(
    ("names", "what"),
    [
        ({"0": "no", "2": "yes"}, "names the outputs 0, 2; output 1 has no name"),
        ({"1": "no", "2": "yes"}, "output 0 has no name"),
        ({"0": "no", "1": None}, "output 1 'None'"),
        ({"0": "no", "1": ""}, "output 1 ''"),
        ({"0": "no", "1": "  "}, "output 1 '  '"),
        ({"0": "no", "1": ["yes"]}, "not a name"),
        ({"0": "no", "1": True}, "not a name"),
        ({"0": "no", "1": "no"}, "'no' twice"),
        ({"0": 1, "1": "1"}, "'1' twice"),
        ({"0": "no", "one": "yes"}, "key 'one'"),
        ({"0": "no", "-1": "yes"}, "key '-1'"),
        ({"0": "no", "00": "yes"}, "output 1 has no name"),
        (["no", "yes"], "is list"),
        ({}, "is dict"),
        ("no", "is str"),
    ],
)
@pytest.mark.parametrize("config", [TAGGER, CLASSIFIER])
def test_names_that_are_none_are_refused(config, names, what):
    with pytest.raises(CorruptFile, match="id2label") as caught:
        read(config | {"id2label": names})
    assert what in caught.value.message and "./m" in caught.value.message and "id2label" in caught.value.next_step
    assert read({"architectures": ["BertForMaskedLM"], "id2label": names}).labels == (), "nobody asks a masked LM"


def test_names_that_are_lost_in_one_field_are_taken_from_the_other():
    lost, both = {"0": "LABEL_0", "1": "LABEL_1"}, {"yes": 1, "no": 0}
    assert read(CLASSIFIER | {"id2label": lost, "label2id": both}).labels == ("no", "yes")
    assert read(CLASSIFIER | {"label2id": both}).labels == ("no", "yes")
    assert read(CLASSIFIER | {"id2label": {"0": "no", "1": "yes"}, "label2id": {"LABEL_0": 0}}).labels == ("no", "yes")
    assert read(CLASSIFIER).labels == ("LABEL_0", "LABEL_1"), "as many as the weights have"
    with pytest.raises(CorruptFile, match="'no' is output 0, in label2id output 1"):
        read(CLASSIFIER | {"id2label": {"0": "no", "1": "yes"}, "label2id": {"no": 1, "yes": 0}})


@pytest.mark.parametrize("count", ["two", 1.5, -1, True, 10**9, [2]])
@pytest.mark.parametrize("shapes", [TWO, {"last.weight": [2, 8]}])
def test_a_number_of_labels_is_one(count, shapes):
    with pytest.raises(CorruptFile, match="names .* labels"):
        read(CLASSIFIER | {"num_labels": count}, shapes)


@pytest.mark.parametrize("config", [{"id2label": {"0": "a", "1": "b", "2": "c"}}, {"num_labels": 3}])
@pytest.mark.parametrize("last", ["classifier", "classifier.out_proj", "score"])
def test_names_and_weights_must_agree(config, last):
    shapes = {f"{last}.weight": [2, 8]}
    with pytest.raises(CorruptFile, match="names 3 labels, its weights have 2 outputs"):
        read(CLASSIFIER | config, shapes)
    assert len(read(CLASSIFIER | config, {f"{last}.weight": [3, 8]}).labels) == 3


def test_the_head_is_that_of_the_class():
    by_ending = {ending: head.name for head in outputs.HEADS.values() for ending in head.endings}
    for name, head in by_ending.items():
        assert outputs.head_of({"architectures": [f"Bert{name}"]}, TWO) == head
        assert outputs.head_of({"architectures": f"Bert{name}"}) == head, "a name alone"
    assert outputs.head_of({"architectures": ["BertForNextSentencePrediction"]}, TWO) is None


@pytest.mark.parametrize("nothing", [{}, {"architectures": None}, {"architectures": []}, {"architectures": [None]}])
@pytest.mark.parametrize(
    ("names", "head"),
    [
        (["classifier.weight"], "ner"),
        (["bert.pooler.dense.weight", "classifier.weight"], "classification"),
        (["classifier.dense.weight", "classifier.out_proj.weight"], "classification"),
        (["pre_classifier.weight", "classifier.weight"], "classification"),
        (["score.weight"], "classification"),
        (["cls.predictions.bias"], "mlm"),
        (["lm_head.bias"], "mlm"),
        (["embeddings.word_embeddings.weight"], "encoder"),
    ],
)
def test_without_a_class_the_head_is_that_of_the_tensors(nothing, names, head):
    kind = outputs.read(nothing, {name: [2, 8] for name in names}, where="./m")
    assert (kind.head, kind.class_name) == (head, "")


@pytest.mark.parametrize(
    ("config", "names"),
    [
        ({"id2label": {"0": "B-X", "1": "O"}}, ["bert.pooler.dense.weight", "classifier.weight"]),
        ({"model_type": "modernbert"}, ["head.dense.weight", "classifier.weight"]),
        ({"model_type": "mobilebert"}, ["classifier.weight"]),
    ],
)
def test_tensors_that_fit_two_heads_are_asked_about(config, names):
    with pytest.raises(Unavailable, match="does not name the model's class") as caught:
        outputs.read(config, {name: [2, 8] for name in names}, where="./m")
    assert "architectures" in caught.value.next_step
    assert outputs.read(config | TAGGER, {name: [2, 8] for name in names}, where="./m").head == "ner"


def test_a_regression_head_has_no_labels():
    unclear = [("regression", ["LABEL_0"]), ("regression", ["a", "b"]), (None, ["LABEL_0"]), (outputs.ONE, ["a"])]
    for problem, labels in (*unclear, ("ordinal", ["a", "b"]), (3, ["a", "b"])):
        with pytest.raises(BadSpec, match="number|says nothing") as caught:
            outputs.check_predicts_labels(problem, labels)
        assert isinstance(caught.value, StillroomError) and caught.value.next_step
        assert not outputs.predicts_labels({"problem_type": problem}, labels)
    for problem, labels in ((None, ["a", "b"]), (outputs.SEVERAL, ["a"]), ("single_label_classification", ["a", "b"])):
        outputs.check_predicts_labels(problem, labels)
        assert outputs.predicts_labels({"problem_type": problem}, labels)
