"""The plan of a training job: its models and their sizes, copied layers and terms of the loss. No torch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

from trainer import zoo
from trainer.errors import BadSpec, StillroomError
from trainer.recipes.layer_maps import layer_map
from trainer.recipes.terms import Term
from trainer.resolved import ResolvedModel
from trainer.spec import TRAINED, JobSpec
from trainer.zoo import compatibility
from trainer.zoo.compatibility import Shape
from trainer.zoo.outputs import names_for
from workbench.launch import sizes

T = TypeVar("T")


@dataclass(frozen=True)
class Plan:
    """A job as it would run.

    terms: those with a weight. copied: (layer of the student, layer of its base), where 0 is the embeddings.
    Sizes are numbers of parameters, None where not known. made: whether the student is a changed copy of its base.
    """

    base: Shape
    student: Shape
    teacher: Shape | None = None
    teacher_size: int | None = None
    base_size: int | None = None
    student_size: int | None = None
    embeddings: int | None = None
    made: bool = False
    from_teacher: bool = False
    terms: tuple[Term, ...] = ()
    copied: tuple[tuple[int, int], ...] = ()


def plan(spec: JobSpec, *, labels: Sequence[str] = ()) -> Plan | None:
    """The plan of a spec; None where nothing is trained or a model is not on this machine or cannot be read.

    labels: those of its data set, where they are known.
    """
    base, teacher = _read_model(spec.start), _read_model(spec.teacher)
    if not base or (spec.teacher and not teacher) or spec.kind not in TRAINED:
        return None
    student = compatibility.changed(base.shape, spec.change)
    teacher_shape = teacher.shape if teacher else None
    terms = _if_valid(lambda: compatibility.plan(spec, student, teacher_shape))
    outputs = len(teacher.shape.labels) if teacher else len(names_for(spec.task.head, labels))
    size = sizes.size(student, head=spec.task.head, labels=outputs, change=spec.change)
    return Plan(
        base=base.shape,
        student=student,
        teacher=teacher_shape,
        teacher_size=_size(teacher, spec.task.head, len(teacher.shape.labels)) if teacher else None,
        base_size=_size(base, spec.task.head, outputs),
        student_size=size.total if size else (None if spec.change else sizes.stored_parameters(base.path)),
        embeddings=size.embeddings if size else None,
        made=spec.change is not None,
        from_teacher=spec.start == spec.teacher,
        terms=terms,
        copied=_copied(spec, base.shape, student),
    )


def levels_of(term: Term) -> str:
    """What a term compares, in words: outputs, or layers of the student with layers of the teacher."""
    if not term.pairs:
        return "outputs" if term.traits.needs_teacher else "the model's outputs"
    if term.pairs == ((0, 0),):
        return "embeddings"
    layers = ", ".join(f"{low}→{high}" for low, high in term.pairs if low)
    return f"{'embeddings and ' if term.pairs[0][0] == 0 else ''}layers {layers}"


@dataclass(frozen=True)
class _ReadModel:
    """A model on this machine whose dimensions can be read."""

    shape: Shape
    path: str


def _read_model(reference: str | None) -> _ReadModel | None:
    """The model, or None if it cannot be read; the problem is shown at its field."""
    try:
        model = zoo.resolve(reference) if reference else None
        return _ReadModel(_shape(model), model.path) if model else None
    except StillroomError:
        return None


@lru_cache(maxsize=64)
def _shape(model: ResolvedModel) -> Shape:
    return compatibility.shape(model)


def _if_valid(compute: Callable[[], tuple[T, ...]]) -> tuple[T, ...]:
    """What `compute` returns; empty where the spec is wrong: the problem is shown at its field."""
    try:
        return compute()
    except BadSpec:
        return ()


def _copied(spec: JobSpec, base: Shape, student: Shape) -> tuple[tuple[int, int], ...]:
    change = spec.change
    if change is None or change.start == "random":
        return ()
    if change.start == "embeddings" or change.architecture:
        return ((0, 0),)
    layers = _if_valid(lambda: layer_map(change.layer_map, student.layers, base.layers))
    return tuple(enumerate((0, *layers))) if layers else ()


def _size(model: _ReadModel, head: str, labels: int) -> int | None:
    computed = sizes.size(model.shape, head=head, labels=labels)
    return computed.total if computed else sizes.stored_parameters(model.path)
