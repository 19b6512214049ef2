"""The average of models: the mean of every parameter, tied weights counted once, and only of models of one shape."""

import pytest
import torch
from tiny_pair import bert

from trainer.errors import BadSpec
from trainer.models.average import average
from trainer.spec import parse
from trainer.zoo.compatibility import Shape, check_alike


def test_every_parameter_is_the_mean_over_the_models():
    models = [bert(layers=2, seed=seed) for seed in (1, 2, 3)]
    originals = [{name: tensor.clone() for name, tensor in model.state_dict().items()} for model in models]
    averaged = average(iter(models)).state_dict()
    assert averaged.keys() == originals[0].keys()
    for name, tensor in averaged.items():
        expected = torch.stack([state[name].double() for state in originals]).mean(0)  # tied weights stand here twice
        torch.testing.assert_close(tensor.double(), expected, rtol=0, atol=1e-7)
    assert not all(torch.equal(tensor, originals[0][name]) for name, tensor in averaged.items())


def test_models_of_other_sizes_have_no_average():
    with pytest.raises(BadSpec, match=r"model\.2: its weights have different names or sizes"):
        average([bert(layers=2, seed=1), bert(layers=2, seed=2), bert(layers=1, seed=3)])


SIZES = {"layers": 3, "hidden": 384, "embedding": 384, "heads": 12, "intermediate": 1536, "positions": 512}
SHAPE = Shape(model_type="bert", vocabulary=10_000, pieces="abc", labels=("O", "B-Disease", "I-Disease"), **SIZES)
SPEC = parse({"kind": "average", "model": ["one", "two", "three"], "dataset": "ncbi-disease"})


def test_differences_are_named_relative_to_the_first_model():
    other = SHAPE.model_copy(update={"layers": 2, "labels": ("O", "B-Chemical", "I-Chemical")})
    with pytest.raises(BadSpec) as caught:
        check_alike(SPEC, [SHAPE, SHAPE, other])
    [(field, problem)] = caught.value.fields
    assert field == "model.2" and problem.startswith("three differs from one: layers 2 instead of 3, labels (O, B-Chem")
    check_alike(SPEC, [SHAPE] * 3)


def test_equal_sizes_with_different_word_pieces_do_not_match():
    with pytest.raises(BadSpec, match="three differs from one: different word pieces; only"):
        check_alike(SPEC, [SHAPE, SHAPE, SHAPE.model_copy(update={"pieces": "def"})])


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"kind": "average", "model": "minilm"}, "average needs a list of the models"),
        ({"kind": "average", "model": ["minilm"]}, "write two or more references in a list"),
        ({"kind": "average", "model": ["minilm", {"layers": 3}]}, "write two or more references in a list"),
        ({"kind": "average", "model": ["a", "b", "a"]}, "a is in the list twice"),
        ({"kind": "average", "model": ["a", "b"], "recipe": "finetune"}, "average takes no recipe"),
        ({"kind": "average", "model": ["a", "b"], "teacher": "c"}, "average takes model, not teacher"),
        ({"kind": "finetune", "model": ["a", "b"]}, "finetune needs one model, not a list"),
        ({"kind": "evaluate", "model": ["a", "b"]}, "evaluate needs one model, not a list"),
        ({"kind": "distill", "teacher": "a", "student": ["a", "b"], "recipe": "task_kd"}, "write a reference"),
    ],
)
def test_a_list_of_models_is_for_averages_only(fields, problem):
    with pytest.raises(BadSpec, match=problem):
        parse(fields | {"dataset": "bc5cdr"})


def test_a_spec_of_an_average_says_what_it_is_made_from():
    assert (SPEC.start, SPEC.others, SPEC.made_from) == ("one", ("two", "three"), "the average of one, two, three")
    assert SPEC.to_yaml() == "kind: average\nmodel: [one, two, three]\ndataset: ncbi-disease\n"
