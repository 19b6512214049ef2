"""Whether teacher, student and recipe fit, before a job is accepted. No torch: pages and the command line ask too."""

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
from trainer.zoo.outputs import ENCODER, HEADS, SEVERAL, class_of, head_of, labels_of, says_values
from trainer.zoo.vocabulary import smallest, too_few
from trainer.zoo.weights import outputs_of

# Architectures whose sizes can be changed, and where their layers are.
STACKS = {
    "bert": "encoder.layer",
    "roberta": "encoder.layer",
    "distilbert": "transformer.layer",
    "longformer": "encoder.layer",
}
LENGTHENED = ("bert", "roberta")  # those that a sliding window can be given
HIDDEN = ("longformer", "big_bird")  # those that show no attention, neither maps nor vectors
EMBEDDED = ("bert", "distilbert", "minialbert")  # those whose embeddings a MiniALBERT can take over
REDUCTION = 16  # hidden size : inner size of a MiniALBERT's adapters
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")

Problems = Iterator[tuple[str, str]]  # (dotted field, what is wrong with it and the nearest fix)


class Shape(Plain):
    """The sizes of a model that decide who can teach whom.

    positions: rows of the table of positions. padding: the number of the padding piece. token_types: None where the
    config leaves them to the architecture. pieces: a digest of the vocabulary, "" if unknown. fewest: how many pieces
    are left when it is trimmed as far as it can be; None if it cannot. labels: what the outputs of its head stand for;
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
    fewest: int | None = None
    positions: int
    padding: int = 0
    token_types: int | None = None
    head: str | None = None
    labels: tuple[str, ...] = ()
    multi_label: bool = False


def shape(found: ResolvedModel) -> Shape:
    """The shape of a model folder, from its config.json and its vocabulary."""
    folder = Path(found.path)
    pieces, fewest = _vocabulary(folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    head, _, labels = outputs_of(folder)
    return sizes(config, head=head, labels=labels).model_copy(update={"pieces": pieces, "fewest": fewest})


def sizes(config: Mapping[str, Any], *, head: str | None = None, labels: Sequence[str] = ()) -> Shape:
    """The shape that the fields of a config.json tell; nothing of the vocabulary but its size.

    head, labels: where they are known from more than the config alone. A head that gives a number says no labels.
    """
    head, labels = head or head_of(config), tuple(labels or labels_of(config))
    hidden = _first(config, "hidden_size", "dim")
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
        labels=() if head in HEADS and HEADS[head].says == "labels" and says_values(config, labels) else labels,
        multi_label=config.get("problem_type") == SEVERAL,
    )


def changed(base: Shape, change: Change | None) -> Shape:
    """The shape of what a change makes of a base."""
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
    before = base.padding + 1  # a Longformer, like a RoBERTa, counts places from the one after the padding piece
    own = base.positions - (before if base.model_type == "roberta" else 0)
    return (change.max_tokens or own) + before


def plan(spec: JobSpec, student: Shape, teacher: Shape | None) -> tuple[Term, ...]:
    """The terms that this recipe runs for these two, zero weights left out; BadSpec where no map of layers fits."""
    terms = spec.recipe.plan(student.layers, (teacher or student).layers)
    return tuple(term for term in terms if term.weight)


def check(spec: JobSpec, teacher: Shape, base: Shape) -> Shape:
    """The student's shape; BadSpec names every field in which teacher, student and recipe do not fit, and what would.

    base: the shape of what the student starts from.
    """
    student = changed(base, spec.change)
    problems = [*_sameness(spec, teacher, student), *_change(spec.change, base, student)]
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
    """The shape of what a change makes of a base; BadSpec names every field of it that does not fit this base."""
    student = changed(base, change)
    if problems := list(_change(change, base, student)):
        raise BadSpec(problems)
    return student


def check_alike(spec: JobSpec, shapes: Sequence[Shape]) -> None:
    """BadSpec where models whose weights are to be averaged differ, and in what; `shapes` are in the spec's order."""
    first, *others = shapes
    problems = []
    for place, other in enumerate(others, 1):
        if differing := list(_differing(first.model_dump(), other.model_dump())):
            fix = "only models of one shape, with the same word pieces and labels, have an average"
            problem = f"{spec.others[place - 1]} is not like {spec.start}: {', '.join(differing)}; {fix}"
            problems.append((f"model.{place}", problem))
    if problems:
        raise BadSpec(problems)


def _differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[str]:
    for name in (name for name in one if name != "fewest" and one[name] != other[name]):
        if name == "pieces":  # digests, which say nothing to a person
            yield "other word pieces"
        elif name == "labels":
            yield f"labels ({', '.join(other[name])}) beside ({', '.join(one[name])})"
        else:
            yield f"{name.replace('_', ' ')} {other[name]} beside {one[name]}"


def _sameness(spec: JobSpec, teacher: Shape, student: Shape) -> Problems:
    if student == teacher and spec.start == spec.teacher:
        yield "student", "it is the teacher itself; give it fewer layers, a smaller size, or choose another model"
    if not spec.task.labelled:
        return
    if not teacher.labels:
        yield "teacher", "it has no label head; fine-tune it on this data set first"
    elif teacher.head in HEADS and teacher.head not in (spec.task.head, ENCODER.name):
        yield "teacher", f"it is a model for {teacher.head}; {spec.task.name} needs one that was fine-tuned for that"
    elif teacher.head == spec.task.head and HEADS[teacher.head].says == "tags":
        try:
            tags.read(teacher.labels)
        except BadSpec as error:
            yield from (("teacher", f"{problem}. {error.next_step}") for _, problem in error.fields)
    stated = getattr(spec.task, "multi_label", None)
    if teacher.labels and stated is not None and stated != teacher.multi_label:
        said = {True: "several labels", False: "one label"}
        found = f"the teacher gives a document {said[teacher.multi_label]}, the task {said[stated]}"
        yield "task.multi_label", f"{found}; leave it empty, or choose another teacher"
    if getattr(spec.task, "labelling", "first") != "first":
        yield "task.labelling", f"found {spec.task.labelling}; teacher and student meet at first pieces; write first"


def _change(change: Change | None, base: Shape, student: Shape) -> Problems:
    if change is None:
        return
    bases = EMBEDDED if change.architecture else STACKS
    if base.model_type not in bases:
        yield "student.base", f"a {base.model_type} cannot be changed so; start from a model of: {', '.join(bases)}"
        return
    if student.hidden % student.heads:
        fits = ", ".join(str(heads) for heads in range(1, 33) if student.hidden % heads == 0)
        yield "student.heads", f"{student.heads} heads do not divide the hidden size {student.hidden}; these do: {fits}"
    if student.model_type == "minialbert" and student.hidden % REDUCTION:
        yield "student.hidden", f"found {student.hidden}; a MiniALBERT needs a multiple of {REDUCTION}"
    if change.embedding and not change.architecture:
        yield "student.embedding", "only a MiniALBERT has embeddings of another width; add `architecture: minialbert`"
    yield from _trimming(change, base, student)
    yield from _lengthening(change, base)
    yield from _starting(change, base, student)


def _trimming(change: Change, base: Shape, student: Shape) -> Problems:
    if change.vocabulary and change.vocabulary > base.vocabulary:
        found = f"found {change.vocabulary:,}; the base has {base.vocabulary:,} word pieces, and none are added"
        yield "student.vocabulary", f"{found}; write fewer, or leave it empty"
    if student.vocabulary == base.vocabulary or not base.pieces:
        return
    if base.fewest is None:
        yield "student.vocabulary", "only WordPiece vocabularies (the BERT family) can be trimmed; leave it empty"
    elif student.vocabulary < base.fewest:
        yield "student.vocabulary", too_few(student.vocabulary, base.fewest)


def _lengthening(change: Change, base: Shape) -> Problems:
    if change.attention and base.model_type not in LENGTHENED:
        fits = ", ".join(LENGTHENED)
        yield "student.attention", f"a {base.model_type} cannot be given a sliding window; start from: {fits}"
    if change.attention and change.architecture:
        yield "student.attention", f"a {change.architecture} has no sliding window; leave one of the two out"
    for name in ("max_tokens", "window"):
        if getattr(change, name) and not change.attention:
            yield f"student.{name}", "only a sliding window makes it another; add `attention: sliding_window`"


def _starting(change: Change, base: Shape, student: Shape) -> Problems:
    if change.start == "embeddings" and student.embedding > base.embedding:
        found = f"embeddings {student.embedding} wide cannot start from {base.embedding}"
        yield "student.start", f"{found}; make the student narrower or write `start: random`"
    if change.start != "copy":
        return
    unlike = [name for name in ("hidden", "heads") if getattr(base, name) != getattr(student, name)]
    if change.architecture and change.architecture != base.model_type:
        unlike.insert(0, "model_type")
    if student.intermediate > base.intermediate:  # a narrower one keeps the strongest neurons
        unlike.append("intermediate")
    if unlike or base.model_type not in STACKS:
        why = f"where {', '.join(unlike)} differ" if unlike else f"from a {base.model_type}"
        yield "student.start", f"layers cannot be copied {why}; write `start: embeddings` or `start: random`"
        return
    try:
        layer_map(change.layer_map, student.layers, base.layers)
    except BadSpec as error:
        yield from ((field, f"{problem}. {error.next_step}") for field, problem in error.fields)


def _term(term: Term, spec: JobSpec, teacher: Shape, student: Shape) -> Problems:
    traits = term.traits
    # A masked-LM teacher reads the student's pieces whatever the term; a tagging teacher only for some.
    together = traits.needs_same_pieces or (not spec.task.labelled and traits.needs_teacher)
    if together and (teacher.pieces, teacher.vocabulary) != (student.pieces, student.vocabulary):
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
            if side.model_type in HIDDEN:
                fix = "choose the recipe distil, task_kd or mlm"
                yield "recipe", f"{term.name} compares attention, which a {side.model_type} does not show; {fix}"
    if traits.needs_same_width and not term.projected and teacher.hidden != student.hidden:
        fix = "or choose the recipe tiny, minilm or task_kd"
        yield "student.hidden", f"{term.name} needs the teacher's width {teacher.hidden}, found {student.hidden}; {fix}"
    if wrong := [size for size in (teacher.hidden, student.hidden) if term.heads and size % term.heads]:
        yield "recipe.relation_heads", f"{term.heads} relation heads do not divide the hidden size {wrong[0]}"
    if any(layer > teacher.layers for _, layer in term.pairs):
        yield "recipe.teacher_layer", f"the teacher has layers 1 to {teacher.layers}"


def _model_type(config: Mapping[str, Any]) -> str:
    # Published MiniALBERTs (trap T11) and a ModernBERT say bert; their class says what they are.
    named = class_of(config).lower()
    known = (kind for kind in ("minialbert", "modernbert") if named.startswith(kind))
    return next(known, None) or _first(config, "model_type")


def _first(config: Mapping[str, Any], *names: str) -> Any:
    value = next((config[name] for name in names if name in config), None)
    if value is None:
        raise StillroomError(f"config.json names no {names[0]}.", next_step="Choose a model of the BERT family.")
    return value


def _vocabulary(folder: Path) -> tuple[str, int | None]:
    """A digest of every piece with its number, and how many pieces trimming leaves at least; None if it cannot trim."""
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
    return digest, smallest(pieces, added) if kind == "WordPiece" else None
