"""Whether a job can run: one set of rules for `submit`, chains, the Train page, preflight and the run itself. No torch.

Rules about a data set alone are in trainer.datasets.rules, where `datasets check` uses them too; rules about the sizes
of models are in zoo.compatibility. Anything not known yet is None, and rules about it are skipped.
"""

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from trainer import datasets
from trainer.datasets import attributes, rules
from trainer.datasets.formats import FORMATS
from trainer.datasets.places import is_hub, split_files, tasks_of
from trainer.errors import BadSpec, StillroomError
from trainer.prediction import Plain
from trainer.resolved import ResolvedDataset, ResolvedModel
from trainer.run import RunSpec
from trainer.spec import TRAINED, JobSpec, Schedule
from trainer.tasks import TASKS, with_data
from trainer.zoo import compatibility
from trainer.zoo.compatibility import Shape
from trainer.zoo.outputs import SEVERAL, check_labels, head_of, label_set, names_for, task_of_head
from trainer.zoo.weights import outputs_of, read_json

LARGE_BYTES = 50_000_000  # a larger text data set is read when the job starts, row by row
SHOWN = 5  # problems of a data set listed in an error
USUAL_MAX_TOKENS = Schedule.model_fields["max_tokens"].default  # unless changed it means "as long as the model reads"
# Model types whose positions start after the padding id, so that the first position embeddings are unused.
SHIFTED = ("roberta", "xlm-roberta", "camembert", "longformer", "mpnet", "roberta-prelayernorm", "xlm-roberta-xl")

Problems = Iterator[tuple[str, str]]  # (dotted field of the spec, what is wrong and what to do)


class Model(Plain):
    """The properties of a model that decide in which jobs it can be used.

    head: its output layer, a key of zoo.outputs.HEADS, None if unknown. task: what it was trained for, None without a
    head for a task. label_set: the entity types or labels that it can predict. attributes: names of the attributes that
    it predicts for spans, such as assertion. window: the longest input in word pieces, None if unknown. unclear: why
    the meaning of its outputs cannot be told from its files, else empty. shape: its sizes, None unless all are known.
    """

    reference: str
    head: str | None
    task: str | None = None
    label_set: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()
    multi_label: bool = False
    window: int | None = None
    unclear: str = ""
    shape: Shape | None = None


@functools.lru_cache(maxsize=256)
def read_model(resolved: ResolvedModel) -> Model:
    """Read a Model from the files of its folder, once per process and version."""
    config, unclear = read_json(Path(resolved.path) / "config.json") or {}, ""
    types: tuple[str, ...] = ()
    labels: Sequence[str] = ()
    try:
        shape = compatibility.shape(resolved)
    except (StillroomError, ValueError, KeyError, TypeError):  # the rules that need the sizes report what is wrong
        shape = None
    try:
        head, _, labels = outputs_of(Path(resolved.path))
        types = _checked_label_set(task_of_head(head, config), labels, config)
    except StillroomError as error:
        head, unclear = head_of(config), str(error)
    return Model(
        reference=resolved.reference,
        head=head,
        task=task_of_head(head, config),
        label_set=types,
        attributes=tuple(attribute.name for attribute in attributes.read(labels, {}, types)),
        multi_label=config.get("problem_type") == SEVERAL,
        window=_window(shape, config) if shape else None,
        unclear=unclear,
        shape=shape,
    )


def _checked_label_set(task: str | None, labels: Sequence[str], config: Mapping[str, Any]) -> tuple[str, ...]:
    if task and TASKS[task].labelled:
        check_labels(task, labels, problem_type=config.get("problem_type"))
    return label_set(task, labels)


def foresee_model(
    spec: JobSpec, name: str, data: datasets.Report | None, start: Model | None, teacher: Model | None
) -> Model:
    """The Model that a job will produce, as far as its spec determines it; `name` is its reference until it exists."""
    source = teacher if spec.kind == "distill" else start if spec.kind == "average" else None
    task, shape = spec.task, start.shape if start else None
    if source:
        types, multi_label, named = source.label_set, source.multi_label, source.attributes
    else:
        named = getattr(task, "attributes", ())
        train = data.splits.get("train") if data and task.labelled else None
        types = tuple(sorted(getattr(train, "labels", ())))
        multi_label = _several(spec, data)
    change = spec.change
    if shape and change:
        # The size of a trimmed vocabulary is not known in advance.
        shape = None if change.vocabulary else compatibility.changed(shape, change)
    if shape:
        labels = source.shape.labels if source and source.shape else names_for(task.name, types)
        shape = shape.model_copy(update={"head": task.head, "labels": labels, "multi_label": multi_label})
    window = (change.max_tokens if change and change.attention else None) or (start.window if start else None)
    return Model(
        reference=name,
        head=task.head,
        task=task.name,
        label_set=types,
        attributes=named,
        multi_label=multi_label,
        window=window,
        shape=shape,
    )


def survey(
    spec: JobSpec, dataset: ResolvedDataset, start: Model | None, *, most_bytes: float = math.inf
) -> datasets.Report | None:
    """The report on a spec's data set; None if it is larger than `most_bytes`, or is text of more than LARGE_BYTES,
    which is read only when its rows are needed.
    """
    if _size(dataset) > min(most_bytes, math.inf if spec.task.labelled else LARGE_BYTES):
        return None
    return datasets.survey(dataset, task=spec.task.name, multi_label=_stated(spec, start))


def find_problems(
    spec: JobSpec,
    *,
    data: datasets.Report | None,
    start: Model | None,
    teacher: Model | None = None,
    others: Sequence[Model | None] = (),
    unlabelled: ResolvedDataset | None = None,
) -> list[tuple[str, str]]:
    """Everything that prevents a job from running, as (field, what is wrong); empty if it can run."""
    wrong = [*_heads(spec, start, teacher, others), *_label_counts(spec, data, start, teacher)]
    wrong += _attributes(spec, data, teacher)
    if not wrong:  # the labels of a model for another task would only confuse
        wrong += _data(spec, data, start, teacher, others)
    elif data:
        wrong += _listed(spec, [problem for problem in data.problems if problem.split == ""])
    if not any(field in ("teacher", base_field(spec)) for field, _ in wrong):
        wrong += _sizes(spec, start, teacher, others)
    wrong += [*_unlabelled(spec, unlabelled), *_windows(spec, start, teacher)]
    return list(dict.fromkeys(wrong))


def check(ready: RunSpec) -> None:
    """Raise BadSpec, naming every wrong field, unless the run passes the rules of `submit`."""
    spec, start = ready.spec, read_model(ready.model)
    wrong = find_problems(
        spec,
        data=survey(spec, ready.dataset, start),
        start=start,
        teacher=read_model(ready.teacher) if ready.teacher else None,
        others=[read_model(other) for other in ready.others],
        unlabelled=ready.unlabelled,
    )
    if wrong:
        raise BadSpec(wrong, next_step="Correct these fields and submit a new job.")


def splits(spec: JobSpec) -> tuple[str, ...]:
    """The splits that a job reads."""
    return {"evaluate": (spec.split,), "average": ("dev", "test")}.get(spec.kind, ("train", "dev", "test"))


def base_field(spec: JobSpec) -> str:
    """The field that names the model to be trained or scored."""
    return spec.references()[0].field


def _heads(spec: JobSpec, start: Model | None, teacher: Model | None, others: Sequence[Model | None]) -> Problems:
    """Models that are scored or averaged need the head of the task; so does a teacher whose logits are compared."""
    task = spec.task.name
    if spec.kind not in TRAINED:
        for field, each in _members(spec, start, others):
            if each and each.unclear and spec.task.labelled:
                yield field, each.unclear
            elif each and each.task != task:
                yield (
                    field,
                    f"{_describe_head(each)}; the task is {task}. Choose a model for {task}, or train one first.",
                )
    elif teacher and teacher.unclear and spec.task.labelled:
        yield "teacher", teacher.unclear
    elif teacher and teacher.task != task and (spec.task.labelled or _outputs_count(spec, start, teacher)):
        yield (
            "teacher",
            f"{_describe_head(teacher)}; the task is {task}. Choose a teacher for {task}, or train one first.",
        )


def _describe_head(model: Model) -> str:
    if model.head is None:
        return "Stillroom does not know its kind of head"
    return f"it is a model for {model.task}" if model.task else "it has no head"


def _members(spec: JobSpec, start: Model | None, others: Sequence[Model | None]) -> Iterator[tuple[str, Model | None]]:
    yield base_field(spec), start
    yield from ((f"model.{place}", other) for place, other in enumerate(others, 1))


def _outputs_count(spec: JobSpec, start: Model | None, teacher: Model) -> bool:
    """Whether a recipe compares the logits of student and teacher; False if its terms cannot be planned yet."""
    student = compatibility.changed(start.shape, spec.change) if start and start.shape else None
    if student is None or teacher.shape is None:
        return False
    try:
        terms = compatibility.plan(spec, student, teacher.shape)
    except BadSpec:
        return False
    return any(term.traits.compares == "logits" for term in terms)


def _label_counts(spec: JobSpec, data: datasets.Report | None, start: Model | None, teacher: Model | None) -> Problems:
    """Model, task and data must agree on whether a document has one label or several."""
    if spec.task.answers != "labels":
        return
    labels = {True: "several labels", False: "one label"}
    reader = teacher if spec.kind == "distill" else start if spec.kind not in TRAINED else None
    if reader is None or reader.task != spec.task.name:
        return
    field, stated = ("teacher" if reader is teacher else base_field(spec)), getattr(spec.task, "multi_label", None)
    several = stated if stated is not None else _several(spec, data) if reader is teacher and data else None
    if several is not None and several != reader.multi_label:
        whose = "the task says" if stated is not None else "the data set has"
        fix = "Choose another model, or set multi_label in the task to match this one."
        yield field, f"it gives a document {labels[reader.multi_label]}; {whose} {labels[several]}. {fix}"


def _attributes(spec: JobSpec, data: datasets.Report | None, teacher: Model | None) -> Problems:
    """Attributes that a job learns must be in the train split, and the teacher must predict them."""
    wanted = getattr(spec.task, "attributes", ())
    splits = data.splits if data else {}
    train = splits.get("train")
    for name in wanted if train and spec.kind in TRAINED else ():
        known = getattr(train, "attributes", {})
        if name not in known:
            has = f"has {rules.list_labels(known)}" if known else "has no attributes"
            yield (
                "task.attributes",
                f"found {name}; the train split of {spec.dataset} {has}. Name one of its attributes, or none.",
            )
        for split in ("dev", "test"):
            stated = getattr(splits.get(split), "attributes", {}).get(name, {})
            learned = {value for values in known.get(name, {}).values() for value in values}
            if foreign := sorted({value for values in stated.values() for value in values} - learned):
                what = f"{name} has the value {foreign[0]!r} in {split} but not in train"
                yield "task.attributes", f"{what}. Add examples of it to train, or remove it from {split}."
    if spec.kind == "distill" and teacher and teacher.task == spec.task.name:
        for name in wanted:
            if name not in teacher.attributes:
                gives = (
                    f"gives {rules.list_labels(teacher.attributes)}" if teacher.attributes else "gives no attributes"
                )
                yield "task.attributes", f"found {name}; the teacher {gives}. Choose a teacher that was trained on it."


def _data(
    spec: JobSpec,
    data: datasets.Report | None,
    start: Model | None,
    teacher: Model | None,
    others: Sequence[Model | None],
) -> Problems:
    """Problems with the splits that are read, and labels in them that neither the train split nor the model has."""
    if data is None:
        return
    wanted = splits(spec)
    if not spec.task.labelled and set(wanted) - set(data.splits):
        wanted = (*wanted, "train")  # missing splits are held out from train
    if spec.kind in ("finetune", "pretrain") or not spec.task.labelled:
        yield from _listed(spec, [problem for problem in data.problems if problem.split in ("", *wanted)])
        return
    wrong = [problem for problem in _rows(data) if problem.split in ("", *wanted)]
    if spec.kind == "distill":
        readers = [("the teacher", teacher)]
    else:
        readers = [
            ("the model", each) if not spec.others else (each.reference, each) for each in (start, *others) if each
        ]
    for who, each in readers:
        if each and each.task == spec.task.name:
            errors = rules.label_problems(
                data.splits, data.files, each.label_set, task=spec.task.name, who=who, wanted=wanted
            )
            wrong += [datasets.Problem.of(error, error.path, split) for split, error in errors]
    yield from _listed(spec, wrong)


def _rows(data: datasets.Report) -> list[datasets.Problem]:
    """The problems of a report, without those that matter only to a model that learns its labels from train."""
    return [problem for problem in data.problems if not problem.learning]


def _listed(spec: JobSpec, wrong: Sequence[datasets.Problem]) -> Problems:
    yield from (("dataset", str(problem)) for problem in wrong[:SHOWN])
    if len(wrong) > SHOWN:
        command = f"stillroom datasets check {spec.dataset} --task {spec.task.name}"
        yield "dataset", f"{len(wrong) - SHOWN} more problems; `{command}` lists them."


def _unlabelled(spec: JobSpec, unlabelled: ResolvedDataset | None) -> Problems:
    """Problems with the text that a teacher labels, of which only the train split is read."""
    if unlabelled is None or is_hub(unlabelled):
        return
    field, kinds = "recipe.unlabelled", [kind for kind in spec.task.unlabelled if _holds(unlabelled, kind)]
    if not kinds:
        wanted = FORMATS[spec.task.unlabelled[0]]
        name, task = Path(unlabelled.path).name, spec.task.name
        yield field, f"{name}: {task} needs {wanted.title} here. Give a folder with {wanted.files}."
        return
    task = with_data(kinds[0])[0]
    if _size(unlabelled) <= LARGE_BYTES:
        wrong = [each for each in _rows(datasets.survey(unlabelled, task=task)) if each.split in ("", "train")]
        yield from ((field, str(problem)) for problem in wrong[:SHOWN])


def _sizes(spec: JobSpec, start: Model | None, teacher: Model | None, others: Sequence[Model | None]) -> Problems:
    """Sizes of teacher, student and changes, or of the models to average; skipped if any is unknown."""
    models = (start, *([teacher] if spec.teacher else []), *others)
    shapes = [each.shape for each in models if each and each.shape]
    if len(shapes) < len(models):
        return
    try:
        if spec.others:
            compatibility.check_alike(spec, shapes)
        elif spec.teacher:
            compatibility.check(spec, shapes[1], shapes[0])
        elif spec.change:
            compatibility.check_change(spec.change, shapes[0])
    except BadSpec as error:
        for field, problem in error.fields:
            first, dot, rest = field.partition(".")
            yield (field if spec.teacher or first != "student" else f"model{dot}{rest}"), problem


def _windows(spec: JobSpec, start: Model | None, teacher: Model | None) -> Problems:
    """A window longer than the model can read, which would be shortened silently. The default is always valid."""
    wanted, change = spec.schedule.max_tokens, spec.change
    window = start.window if start else None
    if change and change.attention:
        window = change.max_tokens or window
    whose = [("the student" if spec.kind == "distill" else "the model", window)]
    whose += [("the teacher", teacher.window)] if teacher else []
    for who, limit in whose:
        if limit is not None and wanted > limit and wanted != USUAL_MAX_TOKENS:
            yield (
                "schedule.max_tokens",
                f"found {wanted:,}; {who} reads up to {limit:,} word pieces at once. Write {limit} or fewer.",
            )


def _stated(spec: JobSpec, start: Model | None) -> bool | None:
    """Whether documents have several labels, if the task or the model states it; None leaves it to the data set."""
    if spec.task.answers != "labels":
        return None
    stated = getattr(spec.task, "multi_label", None)
    if stated is None and spec.kind not in TRAINED and start and start.task == spec.task.name:
        return start.multi_label
    return stated


def _several(spec: JobSpec, data: datasets.Report | None) -> bool:
    stated = getattr(spec.task, "multi_label", None)
    if stated is None and data and data.splits:
        return any(getattr(split, "multi_label", False) for split in data.splits.values())
    return bool(stated)


def _window(shape: Shape, config: Mapping[str, Any]) -> int | None:
    if "max_position_embeddings" not in config:
        return None
    return shape.positions - (shape.padding + 1 if shape.model_type in SHIFTED else 0)


def _size(dataset: ResolvedDataset) -> int:
    """Total bytes of the local split files; 0 for a Hub data set, which is streamed."""
    if is_hub(dataset):
        return 0
    return sum(path.stat().st_size for path in split_files(Path(dataset.path)).values() if path.is_file())


def _holds(dataset: ResolvedDataset, kind: str) -> bool:
    """Whether a data set is of a kind of data, a key of FORMATS."""
    return bool({*with_data(kind)} & {*tasks_of(Path(dataset.path))})
