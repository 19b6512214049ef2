"""Layer maps: the published ones by name, and what holds for every depth."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.errors import BadSpec
from trainer.recipes.layer_maps import MAPS, check_depth, last_layers, layer_map, uniform

depths = st.integers(1, 48).flatmap(lambda teacher: st.tuples(st.integers(1, teacher), st.just(teacher)))


@pytest.mark.parametrize(
    ("name", "student", "copied"),
    [
        ("first", 6, (1, 3, 5, 7, 9, 11)),  # DistilBioBERT
        ("last", 6, (2, 4, 6, 8, 10, 12)),  # CompactBioBERT and DistilClinicalBERT
        ("spread", 6, (1, 3, 5, 8, 10, 12)),  # the original DistilBERT
        ("first", 4, (1, 4, 7, 10)),
        ("last", 4, (3, 6, 9, 12)),
        ("spread", 4, (1, 5, 8, 12)),
        ((12, 1), 2, (12, 1)),
        ([3, 3], 2, (3, 3)),
    ],
)
def test_the_copied_layers_of_a_base_sized_teacher(name, student, copied):
    assert layer_map(name, student, 12) == copied


def test_the_three_published_maps_differ():
    assert len({layer_map(name, 6, 12) for name in MAPS}) == 3


@given(st.sampled_from(MAPS), depths)
def test_maps_rise_and_stay_inside_the_teacher(name, depth):
    student, teacher = depth
    copied = layer_map(name, student, teacher)
    assert len(copied) == student
    assert list(copied) == sorted(set(copied))
    assert copied[0] >= 1 and copied[-1] <= teacher
    assert copied[-1] == teacher or name == "first" or student == 1
    assert copied[0] == 1 or name == "last"
    assert student < teacher or copied == tuple(range(1, teacher + 1))


def test_the_maps_of_the_tiny_and_the_compact_objective():
    assert uniform(4, 12) == ((1, 3), (2, 6), (3, 9), (4, 12))
    assert uniform(4, 12, embeddings=True) == ((0, 0), (1, 3), (2, 6), (3, 9), (4, 12))
    assert uniform(6, 12) == tuple((layer, 2 * layer) for layer in range(1, 7))
    assert last_layers(6, 12) == ((6, 12),)


@given(depths)
def test_the_uniform_map_ends_with_the_last_layers(depth):
    student, teacher = depth
    levels = [level for _, level in uniform(student, teacher, embeddings=True)]
    assert levels == sorted(set(levels)) and (levels[0], levels[-1]) == (0, teacher)


@pytest.mark.parametrize("make", [check_depth, uniform, *(lambda s, t, n=name: layer_map(n, s, t) for name in MAPS)])
def test_a_student_deeper_than_its_teacher_is_refused(make):
    with pytest.raises(BadSpec, match="7 layers and its teacher only 6") as error:
        make(7, 6)
    assert error.value.fields[0][0] == "student.layers" and "1 to 6" in error.value.next_step


@pytest.mark.parametrize("layers", [(1, 2, 3), (0, 1), (1, 13), ()])
def test_layers_that_are_not_there_are_refused(layers):
    with pytest.raises(BadSpec, match="layer_map") as error:
        layer_map(layers, 2, 12)
    assert "Name 2 layers from 1 to 12, or one of first, last, spread." in str(error.value)
