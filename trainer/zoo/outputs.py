"""What a model's head is and what its outputs stand for, by its config.json and the names of its tensors. No torch.

The one place that knows: loading, checks, evaluation, predictions, explanations and training ask here.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from trainer.datasets import tags
from trainer.errors import BadSpec, CorruptFile, Unavailable
from trainer.tasks import TASKS


class Head(NamedTuple):
    """The output layer of a model; its name stands in specs, entries and results.

    kind: what it is called in messages. endings: of the names of its classes in transformers. says: what an output
    stands for: a tag, a label, a piece of the vocabulary; None without outputs. whole_text: whether it says one thing
    of a text, read at its first token, and not of each of its pieces.
    """

    name: str
    kind: str
    endings: tuple[str, ...]
    says: Literal["tags", "labels", "pieces"] | None
    whole_text: bool = False

    @property
    def labelled(self) -> bool:
        """Whether its outputs have names."""
        return self.says in ("tags", "labels")


TAGS = Head("ner", "token-classification", ("ForTokenClassification",), says="tags")
LABELS = Head(
    "classification", "sequence-classification", ("ForSequenceClassification",), says="labels", whole_text=True
)
VOCABULARY = Head("mlm", "masked-LM", ("ForMaskedLM", "ForPreTraining"), says="pieces")
ENCODER = Head("encoder", "encoder", ("Model",), says=None)
HEADS = {head.name: head for head in (VOCABULARY, TAGS, LABELS, ENCODER)}
MARK = "stillroom_task"  # in a config.json: the task, where it is not the usual one of the head
MOST = 100_000  # labels that a model may have
SEVERAL = "multi_label_classification"  # transformers' problem_type of a head with a probability for each label
ONE = "single_label_classification"
_VALUE = "regression"
_LAST = ("classifier.weight", "classifier.out_proj.weight", "score.weight", "logits_proj.weight")
_VOCABULARY = ("cls.predictions.", "lm_head.", "vocab_projector.", "vocab_transform.", "predictions.", "decoder.bias")
_DEEPER = ("classifier.dense.weight", "classifier.out_proj.weight", "pre_classifier.weight", "score.weight")
_DEFAULT = re.compile(r"LABEL_\d+")
_BORDER = re.compile(r"[BIESLUM][-_].+")
_WRITE_CLASS = 'Write it there, such as "architectures": ["BertForTokenClassification"].'
_WRITE_LABELS = 'Write a name for each output there, numbered from 0, such as "id2label": {"0": "no", "1": "yes"}.'

Shapes = Mapping[str, Sequence[int]]  # of a file's tensors, by name


class Outputs(NamedTuple):
    """head: one of HEADS, or None for a class that is not used here. named: that class, "" where config.json has none.
    labels: what the outputs of a labelled head stand for, by number; empty for any other head.
    """

    head: str | None
    named: str
    labels: tuple[str, ...]


def read(config: Mapping[str, Any], shapes: Shapes, *, where: str) -> Outputs:
    """What a model folder says of its outputs. CorruptFile or Unavailable names `where` and what in it does not do."""
    head, outputs = head_of(config, shapes, where=where), _outputs(shapes)
    labels: tuple[str, ...] = ()
    if head and HEADS[head].labelled:
        labels = labels_of(config, where=where)
        count = len(labels) or config.get("num_labels") or outputs or 2
        if type(count) is not int or not 0 < count <= MOST or count != (outputs or count):
            has = f", its weights have {outputs} outputs" if outputs else ""
            raise CorruptFile(f"config.json of {where} names {count!r:.40} labels{has}.", next_step=_WRITE_LABELS)
        labels = labels or tuple(f"LABEL_{number}" for number in range(count))
    return Outputs(head, class_of(config), labels)


def class_of(config: Mapping[str, Any]) -> str:
    """The class that a config.json names; "" where it names none."""
    named = config.get("architectures")
    first = named[0] if isinstance(named, list | tuple) and named else named
    return first if isinstance(first, str) else ""


def head_of(config: Mapping[str, Any], shapes: Shapes | None = None, *, where: str = "the model") -> str | None:
    """The head of a model by its class, or by its tensors where config.json names no class; None for a class that
    this version does not use. Unavailable where the tensors fit two heads.
    """
    if named := class_of(config):
        return head_of_class(named)
    names = list(shapes := shapes or {})
    if any(name.startswith(_VOCABULARY) for name in names):
        return VOCABULARY.name
    if any(name in shapes for name in _DEEPER):
        return LABELS.name
    if "classifier.weight" not in shapes:
        return ENCODER.name
    pooled = any("pooler." in name for name in names)  # a tagger has none, but old files of taggers kept one
    tagged = any(_BORDER.fullmatch(str(label)) for label in (config.get("id2label") or {}).values())
    if "head.dense.weight" in shapes or config.get("model_type") == "mobilebert" or (pooled and tagged):
        raise Unavailable(
            f"config.json of {where} does not name the model's class (architectures), and its weights could be a head "
            "for words or one for whole texts.",
            next_step=_WRITE_CLASS,
        )
    return LABELS.name if pooled else TAGS.name


def head_of_class(name: str) -> str | None:
    """The head of a class of transformers, or of one that is named like them; None for any other."""
    return next((head.name for head in HEADS.values() if name.endswith(head.endings)), None)


def head_of_model(model: Any) -> str | None:
    """The head of a loaded model, by its class; of a class of no library only its labels can tell. None: unknown."""
    if known := head_of_class(type(model).__name__):
        return known
    labels = getattr(model.config, "id2label", None)
    return (TAGS if tags.has_borders(labels.values()) else LABELS).name if labels else None


def task_of(head: str | None, config: Mapping[str, Any]) -> str | None:
    """The task of a model with this head: what its config.json is marked with, or the usual one; None without any."""
    able = [name for name, task in TASKS.items() if task.head == head]
    return config.get(MARK) if config.get(MARK) in able else next(iter(able), None)


def mark(task: str) -> dict[str, str]:
    """What a config.json keeps, so that `task_of` gives the task of its model: nothing for the usual one of a head."""
    return {} if task_of(TASKS[task].head, {}) == task else {MARK: task}


def check_labels(head: str, names: Sequence[str], *, problem_type: str | None = None) -> None:
    """BadSpec where outputs of these names do not say plainly what a head with labels gives."""
    if HEADS[head].says == "tags":
        tags.read(names)
    else:
        check_says_labels(problem_type, names)


def label_set(head: str | None, names: Sequence[str]) -> tuple[str, ...]:
    """Everything that outputs of these names can say: entity types or labels, sorted; nothing without labels."""
    if head is None or not HEADS[head].labelled:
        return ()
    return tags.read(names).kinds if HEADS[head].says == "tags" else tuple(sorted(names))


def names_for(head: str, labels: Iterable[str]) -> tuple[str, ...]:
    """The names of the outputs of a new head that is to say these entity types or labels."""
    return tags.iob2(labels) if HEADS[head].says == "tags" else tuple(labels)


def labels_of(config: Mapping[str, Any], *, where: str = "the model") -> tuple[str, ...]:
    """The names of the outputs by number; empty where config.json names none. CorruptFile where they are no names."""
    numbers = _numbers(config.get("label2id"))
    given = config.get("id2label")
    if given is None:
        return tuple(sorted(numbers, key=numbers.get)) if _counts(numbers.values()) else ()
    labels = _names(given, where)
    if _counts(numbers.values(), len(labels)) and all(map(_DEFAULT.fullmatch, labels)):
        return tuple(sorted(numbers, key=numbers.get))  # the names were lost in one of the two fields
    if moved := [name for number, name in enumerate(labels) if numbers.get(name, number) != number]:
        raise CorruptFile(
            f"config.json of {where} contradicts itself: in id2label {moved[0]!r:.60} is output "
            f"{labels.index(moved[0])}, in label2id output {numbers[moved[0]]}.",
            next_step="Correct the one that is wrong; its authors' description says what the outputs mean.",
        )
    return labels


def check_says_labels(problem_type: str | None, labels: Sequence[str]) -> None:
    """BadSpec where the head of a classifier gives a value, or nothing plain says what it gives."""
    if problem_type not in (None, ONE, SEVERAL, _VALUE):
        what = f"problem_type of its config.json is {problem_type!r:.60}, which says nothing about its outputs"
        raise BadSpec(
            [("model", what)],
            next_step=f"Write {ONE} or {SEVERAL} there; {_VALUE} is a head that gives a number and is not read here.",
        )
    if problem_type == _VALUE:
        raise BadSpec(
            [("model", "its head gives a number, not labels (problem_type of its config.json is regression)")],
            next_step="Choose a classifier, or fine-tune this model on labelled documents, which gives it a new head.",
        )
    if len(labels) == 1 and problem_type != SEVERAL:
        raise BadSpec(
            [("model", f"its head has one output, {labels[0]}, and nothing says whether that is a number or a label")],
            next_step=f'Where it is a label with a probability, write "problem_type": "{SEVERAL}" into its config.json '
            "(copy the folder first); a head that gives a number is not read here.",
        )


def says_values(config: Mapping[str, Any], labels: Sequence[str]) -> bool:
    """Whether `check_says_labels` would refuse a classifier."""
    try:
        check_says_labels(config.get("problem_type"), labels)
    except BadSpec:
        return True
    return False


def _outputs(shapes: Shapes) -> int | None:
    """How many outputs the last layer of a labelled head has; None where it is not known by name."""
    return next((shapes[name][0] for name in _LAST if len(shapes.get(name, ())) == 2), None)


def _counts(numbers: Any, count: int | None = None) -> bool:
    """Whether these are 0, 1, 2 ... and, if given, so many."""
    return bool(numbers) and sorted(numbers) == list(range(count or len(numbers)))


def _numbers(label2id: Any) -> dict[str, int]:
    """label2id as far as it is one."""
    pairs = label2id.items() if isinstance(label2id, Mapping) else ()
    return {str(name): number for name, number in pairs if type(number) is int}


def _names(given: Any, where: str) -> tuple[str, ...]:
    """The names of id2label in order."""
    if not isinstance(given, Mapping) or not given:
        raise _wrong(where, f"is {type(given).__name__} {str(given)[:40]!r}, not an object of numbers and names")
    if odd := [key for key in given if not re.fullmatch(r"\d{1,6}", str(key))]:
        raise _wrong(where, f"has the key {str(odd[0])[:40]!r}, which is no number of an output")
    by_number = {int(key): name for key, name in given.items()}
    missing = sorted(set(range(len(given))) - set(by_number))
    if missing:
        there = ", ".join(map(str, sorted(by_number)[:12]))
        raise _wrong(where, f"names the outputs {there}; output {missing[0]} has no name")
    names = [_name(by_number[number], number, where) for number in range(len(by_number))]
    if twice := [name for name in names if names.count(name) > 1]:
        raise _wrong(where, f"has the name {twice[0]!r:.60} twice")
    return tuple(names)


def _name(value: Any, number: int, where: str) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or not value.strip():
        raise _wrong(where, f"names output {number} {str(value)[:40]!r}, which is no name")
    return value


def _wrong(where: str, what: str) -> CorruptFile:
    return CorruptFile(f"config.json of {where}: id2label {what}.", next_step=_WRITE_LABELS)
