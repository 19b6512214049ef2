"""What a model's head is and what its outputs stand for, from its config.json and tensor names. No torch.

The only place that decides this: loading, checks, evaluation, prediction, explanation and training all ask here.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from trainer.datasets import tags
from trainer.datasets.readers.questions import ANSWER
from trainer.errors import BadSpec, CorruptFile, Unavailable
from trainer.tasks import TASKS


class Head(NamedTuple):
    """The output layer of a model; specs, zoo entries and results use its name.

    kind: what messages call it. endings: how the names of its classes in transformers end. whole_text: whether there is
    one prediction per text, read at its first token, rather than one per word piece.
    """

    name: str
    kind: str
    endings: tuple[str, ...]
    whole_text: bool = False

    @property
    def predicts(self) -> str | None:
        """What each output stands for with the default task of the head; None for an encoder, which has no outputs."""
        return next((task.predicts for task in TASKS.values() if task.head == self.name), None)

    @property
    def labelled(self) -> bool:
        """Whether its outputs have names."""
        return self.predicts in ("tags", "labels", "ends")

    @property
    def over_pieces(self) -> bool:
        """Whether its distributions are over the word pieces of a window, not over outputs: those of an answer's ends.

        A teacher and its student then need the same word pieces.
        """
        return self.predicts == "ends"


TAGS = Head("ner", "token-classification", ("ForTokenClassification",))
LABELS = Head("classification", "sequence-classification", ("ForSequenceClassification",), whole_text=True)
ANSWERS = Head("questions", "question-answering", ("ForQuestionAnswering", "ForQuestionAnsweringSimple"))
ENDS = ("start", "end")  # the outputs of a head for answers, whatever a config.json calls them
VOCABULARY = Head("mlm", "masked-LM", ("ForMaskedLM", "ForPreTraining"))
ENCODER = Head("encoder", "encoder", ("Model",))
HEADS = {head.name: head for head in (VOCABULARY, TAGS, LABELS, ANSWERS, ENCODER)}
TASK_FIELD = "stillroom_task"  # in a config.json: the task, where it is not the default task of the head
MAX_LABELS = 100_000  # that a model may have
SEVERAL = "multi_label_classification"  # transformers' problem_type for a head with one probability per label
ONE = "single_label_classification"
VALUE = "regression"  # of a head with one number
VALUE_NAME = "value"  # of its output
_ENDS_WEIGHT = "qa_outputs.weight"
_LAST = ("classifier.weight", "classifier.out_proj.weight", "score.weight", "logits_proj.weight", _ENDS_WEIGHT)
_VOCABULARY = ("cls.predictions.", "lm_head.", "vocab_projector.", "vocab_transform.", "predictions.", "decoder.bias")
_DEEPER = ("classifier.dense.weight", "classifier.out_proj.weight", "pre_classifier.weight", "score.weight")
_DEFAULT_NAME = re.compile(r"LABEL_\d+")
_BOUNDARY_TAG = re.compile(r"[BIESLUM][-_].+")
_WRITE_CLASS = 'Write it there, such as "architectures": ["BertForTokenClassification"].'
_WRITE_LABELS = 'Write a name for each output there, numbered from 0, such as "id2label": {"0": "no", "1": "yes"}.'

Shapes = Mapping[str, Sequence[int]]  # of a file's tensors, by name


class Outputs(NamedTuple):
    """The outputs of a model folder.

    head: one of HEADS, or None for a class that this version does not use. class_name: the class that config.json
    names, "" if it names none. labels: what each output of a labelled head stands for, in order; otherwise empty.
    """

    head: str | None
    class_name: str
    labels: tuple[str, ...]


def read(config: Mapping[str, Any], shapes: Shapes, *, where: str) -> Outputs:
    """The outputs of a model folder, from its config.json and the shapes of its tensors.

    where: the folder, for messages. Raises CorruptFile if the labels are unusable or do not match the weights, and
    Unavailable if nothing says which head it has.
    """
    head, outputs = head_of(config, shapes, where=where), _outputs(shapes)
    labels: tuple[str, ...] = ()
    if head == ANSWERS.name:
        if outputs not in (None, len(ENDS)):
            what = f"the weights of {where} have {outputs} outputs for the ends of an answer; {len(ENDS)} are needed."
            raise CorruptFile(what, next_step="Choose another checkpoint.")
        labels = ENDS
    elif head and HEADS[head].labelled:
        labels = labels_of(config, where=where)
        count = len(labels) or config.get("num_labels") or outputs or 2
        if type(count) is not int or not 0 < count <= MAX_LABELS or count != (outputs or count):
            has = f", its weights have {outputs} outputs" if outputs else ""
            raise CorruptFile(f"config.json of {where} names {count!r:.40} labels{has}.", next_step=_WRITE_LABELS)
        labels = labels or tuple(f"LABEL_{number}" for number in range(count))
    return Outputs(head, class_of(config), labels)


def class_of(config: Mapping[str, Any]) -> str:
    """The class that a config.json names; "" if it names none."""
    names = config.get("architectures")
    first = names[0] if isinstance(names, list | tuple) and names else names
    return first if isinstance(first, str) else ""


def head_of(config: Mapping[str, Any], shapes: Shapes | None = None, *, where: str = "the model") -> str | None:
    """The head of a model, from its class, or from its tensors if config.json names no class.

    None for a class that this version does not use. Raises Unavailable if the tensors fit two heads.
    """
    if class_name := class_of(config):
        return head_of_class(class_name)
    names = list(shapes := shapes or {})
    if any(name.startswith(_VOCABULARY) for name in names):
        return VOCABULARY.name
    if _ENDS_WEIGHT in shapes:
        return ANSWERS.name
    if any(name in shapes for name in _DEEPER):
        return LABELS.name
    if "classifier.weight" not in shapes:
        return ENCODER.name
    pooled = any("pooler." in name for name in names)  # a tagger has none, but older files of taggers still hold one
    tagged = any(_BOUNDARY_TAG.fullmatch(str(label)) for label in (config.get("id2label") or {}).values())
    if "head.dense.weight" in shapes or config.get("model_type") == "mobilebert" or (pooled and tagged):
        raise Unavailable(
            f"config.json of {where} does not name the model's class (architectures), and its weights fit both a head "
            "for words and one for whole texts.",
            next_step=_WRITE_CLASS,
        )
    return LABELS.name if pooled else TAGS.name


def head_of_class(name: str) -> str | None:
    """The head of a transformers class, or of one that follows its naming; None for any other."""
    return next((head.name for head in HEADS.values() if name.endswith(head.endings)), None)


def head_of_model(model: Any) -> str | None:
    """The head of a loaded model, from its class, or from its labels if the class is unknown; None if neither tells."""
    if head := head_of_class(type(model).__name__):
        return head
    labels = getattr(model.config, "id2label", None)
    return (TAGS if tags.has_borders(labels.values()) else LABELS).name if labels else None


def task_of_head(head: str | None, config: Mapping[str, Any]) -> str | None:
    """The task of a model with this head: the one its config.json names, or the head's default; None if it has none."""
    candidates = [name for name, task in TASKS.items() if task.head == head]
    stated = config.get(TASK_FIELD)
    return stated if stated in candidates else next(iter(candidates), None)


def task_fields(task: str) -> dict[str, str]:
    """The fields of config.json that make `task_of_head` return this task; none for the default task of a head."""
    return {} if task_of_head(TASKS[task].head, {}) == task else {TASK_FIELD: task}


def check_labels(task: str, names: Sequence[str], *, problem_type: str | None = None) -> None:
    """Raise BadSpec if the names of the outputs do not tell what a model for a task with labels predicts."""
    if TASKS[task].predicts == "tags":
        tags.read(names)
    elif TASKS[task].predicts == "labels":
        check_predicts_labels(problem_type, names)
    elif TASKS[task].predicts == "value" and (problem_type != VALUE or len(names) != 1):
        what = f"it is said to be for {task}, but has {len(names)} outputs and the problem_type {problem_type!r:.60}"
        raise BadSpec([("model", what)], next_step="Choose a model that was trained for this task, or train one.")


def label_set(task: str | None, names: Sequence[str]) -> tuple[str, ...]:
    """All that outputs with these names can predict: entity types, labels, roles or answers, sorted; () without labels.

    task: what the model was trained for; None where it has no head for one.
    """
    if task is None or not TASKS[task].labelled:
        return ()
    if TASKS[task].predicts == "ends":
        return (ANSWER,)
    return tags.read(names).kinds if TASKS[task].predicts == "tags" else tuple(sorted(names))


def names_for(task: str, labels: Iterable[str]) -> tuple[str, ...]:
    """The names of the outputs of a new head for a task with these entity types, labels or roles."""
    if TASKS[task].predicts == "ends":
        return ENDS
    if TASKS[task].predicts == "value":
        return (VALUE_NAME,)
    return tags.iob2(labels) if TASKS[task].predicts == "tags" else tuple(labels)


def labels_of(config: Mapping[str, Any], *, where: str = "the model") -> tuple[str, ...]:
    """The names of the outputs, in order; empty if config.json has none. Raises CorruptFile if they are unusable."""
    numbers = _numbers(config.get("label2id"))
    by_number = tuple(sorted(numbers, key=lambda name: numbers[name]))
    id2label = config.get("id2label")
    if id2label is None:
        return by_number if _is_range(numbers.values()) else ()
    labels = _names(id2label, where)
    if _is_range(numbers.values(), len(labels)) and all(map(_DEFAULT_NAME.fullmatch, labels)):
        return by_number  # the names were lost in id2label
    if moved := [name for number, name in enumerate(labels) if numbers.get(name, number) != number]:
        raise CorruptFile(
            f"config.json of {where} contradicts itself: in id2label {moved[0]!r:.60} is output "
            f"{labels.index(moved[0])}, in label2id output {numbers[moved[0]]}.",
            next_step="Correct the one that is wrong; the description by its authors tells what the outputs mean.",
        )
    return labels


def check_predicts_labels(problem_type: str | None, labels: Sequence[str]) -> None:
    """Raise BadSpec if the head of a classifier predicts a number, or if it is unclear what it predicts."""
    if problem_type not in (None, ONE, SEVERAL, VALUE):
        what = f"problem_type of its config.json is {problem_type!r:.60}, which is not a known type"
        raise BadSpec(
            [("model", what)],
            next_step=f"Write {ONE} or {SEVERAL} there; {VALUE} is a head that predicts a number, not supported here.",
        )
    if problem_type == VALUE:
        raise BadSpec(
            [("model", "its head predicts a number, not labels (problem_type of its config.json is regression)")],
            next_step="Choose a classifier, or fine-tune this model on labelled documents, which gives it a new head.",
        )
    if len(labels) == 1 and problem_type != SEVERAL:
        raise BadSpec(
            [("model", f"its head has one output, {labels[0]}, and nothing says whether that is a number or a label")],
            next_step=f'Where it is a label with a probability, write "problem_type": "{SEVERAL}" into its config.json '
            "(copy the folder first); a head that predicts a number is not supported.",
        )


def predicts_labels(config: Mapping[str, Any], labels: Sequence[str]) -> bool:
    """Whether the head of a classifier predicts labels (`check_predicts_labels`)."""
    try:
        check_predicts_labels(config.get("problem_type"), labels)
    except BadSpec:
        return False
    return True


def _outputs(shapes: Shapes) -> int | None:
    """The number of outputs of a labelled head's last layer; None if that layer has an unknown name."""
    return next((shapes[name][0] for name in _LAST if len(shapes.get(name, ())) == 2), None)


def _is_range(numbers: Collection[int], count: int | None = None) -> bool:
    """Whether these are 0, 1, 2 ... in any order, and `count` of them if that is given."""
    return bool(numbers) and sorted(numbers) == list(range(count or len(numbers)))


def _numbers(label2id: Any) -> dict[str, int]:
    """The valid entries of label2id; empty if it is not a mapping."""
    pairs = label2id.items() if isinstance(label2id, Mapping) else ()
    return {str(name): number for name, number in pairs if type(number) is int}


def _names(id2label: Any, where: str) -> tuple[str, ...]:
    """The names of id2label in order."""
    if not isinstance(id2label, Mapping) or not id2label:
        raise _bad_labels(
            where, f"is {type(id2label).__name__} {str(id2label)[:40]!r}, not an object of numbers and names"
        )
    if odd := [key for key in id2label if not re.fullmatch(r"\d{1,6}", str(key))]:
        raise _bad_labels(where, f"has the key {str(odd[0])[:40]!r}, which is not the number of an output")
    by_number = {int(key): name for key, name in id2label.items()}
    missing = sorted(set(range(len(id2label))) - set(by_number))
    if missing:
        numbers = ", ".join(map(str, sorted(by_number)[:12]))
        raise _bad_labels(where, f"names the outputs {numbers}; output {missing[0]} has no name")
    names = [_name(by_number[number], number, where) for number in range(len(by_number))]
    if repeated := [name for name in names if names.count(name) > 1]:
        raise _bad_labels(where, f"has the name {repeated[0]!r:.60} twice")
    return tuple(names)


def _name(value: Any, number: int, where: str) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or not value.strip():
        raise _bad_labels(where, f"names output {number} {str(value)[:40]!r}, which is not a name")
    return value


def _bad_labels(where: str, what: str) -> CorruptFile:
    return CorruptFile(f"config.json of {where}: id2label {what}.", next_step=_WRITE_LABELS)
