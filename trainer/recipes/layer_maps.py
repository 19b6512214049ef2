"""Layer maps: which layers of a teacher a student copies, or is compared with."""

from collections.abc import Sequence

from trainer.errors import BadSpec

MAPS = ("first", "last", "spread")


def last_layers(student: int, teacher: int) -> tuple[tuple[int, int], ...]:
    """The last layer of each, as (student, teacher)."""
    return ((student, teacher),)


def uniform(student: int, teacher: int, *, embeddings: bool = False) -> tuple[tuple[int, int], ...]:
    """(student, teacher) layers, from 1: layer k of S beside layer k*T/S of T, rounded up. Raises BadSpec where S > T.

    12 -> 4 gives 3, 6, 9, 12 and 12 -> 6 gives 2, 4, ..., 12: the maps of the tiny and the compact objective.
    embeddings: begin with (0, 0), the embedding outputs.
    """
    check_depth(student, teacher)
    start = 0 if embeddings else 1
    return tuple((level, -(-level * teacher // student)) for level in range(start, student + 1))


def layer_map(name: str | Sequence[int], student: int, teacher: int) -> tuple[int, ...]:
    """The teacher layers (from 1) that a student's layers are copied from, for one of MAPS or a list of layers.

    first: the first of each group of T/S layers (12 -> 6: 1,3,5,7,9,11; DistilBioBERT).
    last: the last of each group (12 -> 6: 2,4,...,12; CompactBioBERT, DistilClinicalBERT).
    spread: evenly from the first to the last (12 -> 6: 1,3,5,8,10,12; the original DistilBERT).
    Raises BadSpec where the student is deeper than the teacher, or a list does not fit.
    """
    if not isinstance(name, str):
        return _listed_layers(tuple(name), student, teacher)
    check_depth(student, teacher)
    if name == "first":
        return tuple(index * teacher // student + 1 for index in range(student))
    if name == "last":
        return tuple(layer for _, layer in uniform(student, teacher))
    steps = max(1, student - 1)
    return tuple(1 + (2 * index * (teacher - 1) + steps) // (2 * steps) for index in range(student))  # round half up


def check_depth(student: int, teacher: int) -> None:
    """Raise BadSpec where the student has more layers than the teacher: no layer map exists then."""
    if student > teacher:
        raise BadSpec(
            [("student.layers", f"the student has {student} layers and its teacher only {teacher}")],
            next_step=f"Give the student 1 to {teacher} layers, or choose a deeper teacher or the recipe minilm.",
        )


def _listed_layers(layers: tuple[int, ...], student: int, teacher: int) -> tuple[int, ...]:
    if len(layers) != student or not all(1 <= layer <= teacher for layer in layers):
        raise BadSpec(
            [("student.layer_map", f"found {list(layers)}; the student has {student} layers, the teacher {teacher}")],
            next_step=f"Name {student} layers from 1 to {teacher}, or one of {', '.join(MAPS)}.",
        )
    return layers
