"""Whether teacher, student and recipe fit together, checked before a job is accepted. No torch: pages use it too."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from trainer.datasets import tags
from trainer.errors import BadSpec, StillroomError
from trainer.prediction import Plain
from trainer.recipes.layer_maps import layer_map
from trainer.recipes.terms import Term
from trainer.resolved import ResolvedModel
from trainer.spec import Change, JobSpec
from trainer.tasks import TASKS
from trainer.zoo.outputs import ENCODER, HEADS, SEVERAL, class_of, head_of, labels_of, predicts_labels, task_of_head
from trainer.zoo.vocabulary import smallest_size, too_few
from trainer.zoo.weights import outputs_of

# Architectures whose sizes can be changed, and the module that holds their layers.
RESIZABLE = {
    "bert": "encoder.layer",
    "roberta": "encoder.layer",
    "distilbert": "transformer.layer",
    "longformer": "encoder.layer",
}
EXTENDABLE = ("bert", "roberta")  # can be given a sliding window
WITHOUT_ATTENTION = ("longformer", "big_bird")  # expose neither attention maps nor queries, keys and values
EMBEDDING_DONORS = ("bert", "distilbert", "minialbert")  # a MiniALBERT can start from their embeddings
REDUCTION = 16  # hidden size / inner size of a MiniALBERT's adapters
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")

Problems = Iterator[tuple[str, str]]  # (dotted field, what is wrong and the nearest fix)


class Shape(Plain):
    """The properties of a model that decide which teacher fits which student.

    positions: rows of the position table. padding: the id of the padding piece. token_types: None if the config leaves
    them to the architecture. pieces: a digest of the vocabulary, "" if unknown. smallest_vocabulary: its size when
    trimmed as far as possible; None if it cannot be trimmed. labels: what the outputs of its head stand for.
    multi_label: whether a document may have several of them.
    """

    model_type: str
    layers: int
    hidden: int
    embedding: int
    heads: int
    intermediate: int
    vocabulary: int
    pieces: str = ""
    smallest_vocabulary: int | None = None
    positions: int
    padding: int = 0
    token_types: int | None = None
    head: str | None = None
    labels: tuple[str, ...] = ()
    multi_label: bool = False


def shape(model: ResolvedModel) -> Shape:
    """The shape of a model folder, from its config.json and its vocabulary."""
    folder = Path(model.path)
    pieces, smallest_vocabulary = _vocabulary(folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    head, _, labels = outputs_of(folder)
    return sizes(config, head=head, labels=labels).model_copy(
        update={"pieces": pieces, "smallest_vocabulary": smallest_vocabulary}
    )


def sizes(config: Mapping[str, Any], *, head: str | None = None, labels: Sequence[str] = ()) -> Shape:
    """The shape that the fields of a config.json describe; of the vocabulary only its size.

    head, labels: pass them if they were read from the weights too. A head that predicts a number, and not for the
    task of values, has no labels.
    """
    head, labels = head or head_of(config), tuple(labels or labels_of(config))
    hidden = _first(config, "hidden_size", "dim")
    task = task_of_head(head, config)
    of_labels = task is not None and TASKS[task].predicts == "labels"
    return Shape(
        model_type=_model_type(config),
        layers=_first(config, "num_hidden_layers", "n_layers"),
        hidden=hidden,
        embedding=config.get("embedding_size") or hidden,
        heads=_first(config, "num_attention_heads", "n_heads"),
        intermediate=_first(config, "intermediate_size", "hidden_dim"),
        vocabulary=_first(config, "vocab_size"),
        positions=config.get("max_position_embeddings", 512),
        padding=config.get("pad_token_id") or 0,
        token_types=config.get("type_vocab_size"),
        head=head,
        labels=() if of_labels and not predicts_labels(config, labels) else labels,
        multi_label=config.get("problem_type") == SEVERAL,
    )


def changed(base: Shape, change: Change | None) -> Shape:
    """The shape of a base after this change."""
    if change is None:
        return base
    trimmed = change.vocabulary is not None and change.vocabulary < base.vocabulary
    return base.model_copy(
        update={
            "model_type": change.architecture or ("longformer" if change.attention else base.model_type),
            "positions": _positions(base, change),
            "layers": change.layers or base.layers,
            "hidden": change.hidden or base.hidden,
            "embedding": change.embedding or change.hidden or base.hidden,
            "heads": change.heads or base.heads,
            "intermediate": change.intermediate or base.intermediate,
            "vocabulary": change.vocabulary if trimmed else base.vocabulary,
            "pieces": f"{base.pieces}, trimmed" if trimmed else base.pieces,
        }
    )


def _positions(base: Shape, change: Change) -> int:
    if not change.attention:
        return base.positions
    unused = base.padding + 1  # a Longformer, like a RoBERTa, numbers positions from padding + 1
    usable = base.positions - (unused if base.model_type == "roberta" else 0)
    return (change.max_tokens or usable) + unused


def plan(spec: JobSpec, student: Shape, teacher: Shape | None) -> tuple[Term, ...]:
    """The terms of the recipe for these two models, without zero weights. Raises BadSpec if no layer map fits."""
    if spec.recipe is None:
        return ()
    terms = spec.recipe.plan(student.layers, (teacher or student).layers)
    return tuple(term for term in terms if term.weight)


def check(spec: JobSpec, teacher: Shape, base: Shape) -> Shape:
    """The student's shape. Raises BadSpec for every field in which teacher, student and recipe do not fit.

    base: the shape of the model that the student starts from.
    """
    student = changed(base, spec.change)
    problems = [*_teacher_fits(spec, teacher, student), *_change(spec.change, base, student)]
    terms: tuple[Term, ...] = ()
    try:
        terms = plan(spec, student, teacher)
    except BadSpec as error:
        problems += [(field, f"{problem}. {error.next_step}") for field, problem in error.fields]
    if not terms and not problems:
        problems.append(("recipe", "every term has weight 0; give at least one a weight"))
    for term in terms:
        problems += _term(term, spec, teacher, student)
    if problems:
        raise BadSpec(list(dict.fromkeys(problems)))
    return student


def check_change(change: Change, base: Shape) -> Shape:
    """The shape of a base after this change. Raises BadSpec, which names every field that does not fit the base."""
    student = changed(base, change)
    if problems := list(_change(change, base, student)):
        raise BadSpec(problems)
    return student


def check_alike(spec: JobSpec, shapes: Sequence[Shape]) -> None:
    """Raise BadSpec if models whose weights are to be averaged differ; `shapes` are in the order of the spec."""
    first, *others = shapes
    problems = []
    for place, other in enumerate(others, 1):
        if differing := list(_differing(first.model_dump(), other.model_dump())):
            fix = "only models of one shape, with the same word pieces and labels, can be averaged"
            problem = f"{spec.others[place - 1]} differs from {spec.start}: {', '.join(differing)}; {fix}"
            problems.append((f"model.{place}", problem))
    if problems:
        raise BadSpec(problems)


def _differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[str]:
    for name in (name for name in one if name != "smallest_vocabulary" and one[name] != other[name]):
        if name == "pieces":  # digests, which a person cannot read
            yield "different word pieces"
        elif name == "labels":
            yield f"labels ({', '.join(other[name])}) instead of ({', '.join(one[name])})"
        else:
            yield f"{name.replace('_', ' ')} {other[name]} instead of {one[name]}"


def _teacher_fits(spec: JobSpec, teacher: Shape, student: Shape) -> Problems:
    if student == teacher and spec.start == spec.teacher:
        yield "student", "it is the teacher itself; give it fewer layers or a smaller size, or choose another model"
    if spec.task is None or not spec.task.labelled:
        return
    if not teacher.labels:
        yield "teacher", "it has no label head; fine-tune it on this data set first"
    elif teacher.head in HEADS and teacher.head not in (spec.task.head, ENCODER.name):
        yield (
            "teacher",
            f"it is a model for {teacher.head}; {spec.task.name} needs a teacher that was fine-tuned for it",
        )
    elif teacher.head == spec.task.head and spec.task.predicts == "tags":
        try:
            tags.read(teacher.labels)
        except BadSpec as error:
            yield from (("teacher", f"{problem}. {error.next_step}") for _, problem in error.fields)
    stated = getattr(spec.task, "multi_label", None)
    if teacher.labels and stated is not None and stated != teacher.multi_label:
        numbers = {True: "several labels", False: "one label"}
        difference = f"the teacher gives a document {numbers[teacher.multi_label]}, the task {numbers[stated]}"
        yield "task.multi_label", f"{difference}; leave it empty, or choose another teacher"
    if (labelling := getattr(spec.task, "labelling", "first")) != "first":
        yield "task.labelling", f"found {labelling}; teacher and student are compared at first pieces; write first"


def _change(change: Change | None, base: Shape, student: Shape) -> Problems:
    if change is None:
        return
    bases = EMBEDDING_DONORS if change.architecture else RESIZABLE
    if base.model_type not in bases:
        yield (
            "student.base",
            f"a {base.model_type} cannot be changed in this way; start from a model of: {', '.join(bases)}",
        )
        return
    if student.hidden % student.heads:
        fits = ", ".join(str(heads) for heads in range(1, 33) if student.hidden % heads == 0)
        yield "student.heads", f"{student.heads} heads do not divide the hidden size {student.hidden}; these do: {fits}"
    if student.model_type == "minialbert" and student.hidden % REDUCTION:
        yield "student.hidden", f"found {student.hidden}; a MiniALBERT needs a multiple of {REDUCTION}"
    if change.embedding and not change.architecture:
        yield (
            "student.embedding",
            "only a MiniALBERT has embeddings of a different width; add `architecture: minialbert`",
        )
    yield from _trimming(change, base, student)
    yield from _lengthening(change, base)
    yield from _starting(change, base, student)


def _trimming(change: Change, base: Shape, student: Shape) -> Problems:
    if change.vocabulary and change.vocabulary > base.vocabulary:
        excess = f"found {change.vocabulary:,}; the base has {base.vocabulary:,} word pieces, and none are added"
        yield "student.vocabulary", f"{excess}; write fewer, or leave it empty"
    if student.vocabulary == base.vocabulary or not base.pieces:
        return
    if base.smallest_vocabulary is None:
        yield "student.vocabulary", "only WordPiece vocabularies (the BERT family) can be trimmed; leave it empty"
    elif student.vocabulary < base.smallest_vocabulary:
        yield "student.vocabulary", too_few(student.vocabulary, base.smallest_vocabulary)


def _lengthening(change: Change, base: Shape) -> Problems:
    if change.attention and base.model_type not in EXTENDABLE:
        fits = ", ".join(EXTENDABLE)
        yield "student.attention", f"a {base.model_type} cannot be given a sliding window; start from: {fits}"
    if change.attention and change.architecture:
        yield "student.attention", f"a {change.architecture} has no sliding window; leave out one of the two"
    for name in ("max_tokens", "window"):
        if getattr(change, name) and not change.attention:
            yield f"student.{name}", "it applies only with a sliding window; add `attention: sliding_window`"


def _starting(change: Change, base: Shape, student: Shape) -> Problems:
    if change.start == "embeddings" and student.embedding > base.embedding:
        mismatch = f"embeddings {student.embedding} wide cannot start from embeddings {base.embedding} wide"
        yield "student.start", f"{mismatch}; make the student narrower or write `start: random`"
    if change.start != "copy":
        return
    differing = [name for name in ("hidden", "heads") if getattr(base, name) != getattr(student, name)]
    if change.architecture and change.architecture != base.model_type:
        differing.insert(0, "model_type")
    if student.intermediate > base.intermediate:  # a narrower feed-forward block keeps the strongest neurons
        differing.append("intermediate")
    if differing or base.model_type not in RESIZABLE:
        why = f"where {', '.join(differing)} differ" if differing else f"from a {base.model_type}"
        yield "student.start", f"layers cannot be copied {why}; write `start: embeddings` or `start: random`"
        return
    try:
        layer_map(change.layer_map, student.layers, base.layers)
    except BadSpec as error:
        yield from ((field, f"{problem}. {error.next_step}") for field, problem in error.fields)


def _term(term: Term, spec: JobSpec, teacher: Shape, student: Shape) -> Problems:
    traits = term.traits
    # A teacher of masked LM or of answers reads the student's pieces for every term, one with labels only for some.
    unlabelled = spec.task is not None and not spec.task.labelled
    over_pieces = spec.task is not None and HEADS[spec.task.head].over_pieces
    if (traits.needs_same_pieces or ((unlabelled or over_pieces) and traits.needs_teacher)) and (
        teacher.pieces,
        teacher.vocabulary,
    ) != (
        student.pieces,
        student.vocabulary,
    ):
        yield (
            "student.vocabulary" if student.pieces.endswith("trimmed") else "student",
            f"{term.name} needs the same word pieces; the teacher has {teacher.vocabulary:,}, the student "
            f"{student.vocabulary:,} others. Start the student from the teacher's vocabulary",
        )
    if traits.needs_same_heads and teacher.heads != student.heads:
        fix = f"give the student {teacher.heads} heads" if student.hidden % teacher.heads == 0 else "drop the term"
        yield "student.heads", f"{term.name} compares {teacher.heads} with {student.heads} attention maps; {fix}"
    if traits.needs_attention:
        for side in (teacher, student):
            if side.model_type in WITHOUT_ATTENTION:
                fix = "choose the recipe distil, task_kd or mlm"
                yield "recipe", f"{term.name} compares attention, which a {side.model_type} does not expose; {fix}"
    if traits.needs_same_width and not term.projected and teacher.hidden != student.hidden:
        fix = "or choose the recipe tiny, minilm or task_kd"
        yield "student.hidden", f"{term.name} needs the teacher's width {teacher.hidden}, found {student.hidden}; {fix}"
    if undivided := [size for size in (teacher.hidden, student.hidden) if term.heads and size % term.heads]:
        yield "recipe.relation_heads", f"{term.heads} relation heads do not divide the hidden size {undivided[0]}"
    if any(layer > teacher.layers for _, layer in term.pairs):
        yield "recipe.teacher_layer", f"the teacher has layers 1 to {teacher.layers}"


def _model_type(config: Mapping[str, Any]) -> str:
    # Published MiniALBERTs (trap T11) and one ModernBERT state the model_type bert; their class is right.
    class_name = class_of(config).lower()
    model_types = (name for name in ("minialbert", "modernbert") if class_name.startswith(name))
    return next(model_types, None) or str(_first(config, "model_type"))


def _first(config: Mapping[str, Any], *names: str) -> Any:
    value = next((config[name] for name in names if name in config), None)
    if value is None:
        raise StillroomError(f"config.json names no {names[0]}.", next_step="Choose a model of the BERT family.")
    return value


def _vocabulary(folder: Path) -> tuple[str, int | None]:
    """A digest of the pieces with their ids, and the smallest size that trimming can reach; None if it cannot trim."""
    added: Sequence[str]
    try:
        state = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
        pieces, kind = state["model"]["vocab"], state["model"]["type"]
        added = [token["content"] for token in state["added_tokens"]]
    except FileNotFoundError:
        path = folder / "vocab.txt"
        if not path.is_file():
            return "", None
        lines = path.read_text(encoding="utf-8").splitlines()
        pieces, kind, added = {piece: number for number, piece in enumerate(lines)}, "WordPiece", SPECIAL
    listed = sorted(pieces.items()) if isinstance(pieces, dict) else pieces
    digest = hashlib.sha256(json.dumps(listed).encode()).hexdigest()
    return digest, smallest_size(pieces, added) if kind == "WordPiece" else None
