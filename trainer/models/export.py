"""Writes a model folder that others can use: weights, tokenizer, stillroom.json and a model card."""

import json
from collections.abc import Mapping
from pathlib import Path
from textwrap import indent
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from trainer import chain, markdown, models
from trainer.datasets import attributes
from trainer.errors import Refused
from trainer.files import MANIFEST, commit_folder, write_file
from trainer.resolved import ResolvedModel
from trainer.run import RunSpec
from trainer.tasks import MLM, TASKS, answers
from trainer.zoo import ABOUT, RUN_ID
from trainer.zoo.compatibility import shape
from trainer.zoo.outputs import label_set, task_of_head


def publish(
    folder: Path,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    about: Mapping[str, Any],
    *,
    dtype: torch.dtype | None = None,
) -> None:
    """Write a model folder completely or not at all. `about` goes into stillroom.json and the model card.

    dtype: the number format on disk (float16 halves the file; `models.load` converts it to float32).
    """

    def write(draft: Path) -> None:
        models.save(model, tokenizer, draft, dtype=dtype)
        described = {**about, **_attributes(model)}
        write_file(draft / ABOUT, json.dumps(described, indent=2, ensure_ascii=False).encode())
        write_file(draft / "README.md", model_card(described).encode())

    commit_folder(folder, write)


def export(resolved: ResolvedModel, folder: Path, *, half: bool = False) -> Path:
    """Copy a model as safetensors into `folder`; `half` stores float16. Raises Refused unless the folder is empty."""
    folder = Path(folder).absolute()
    if folder.exists() and any(folder.iterdir()):
        raise Refused(f"{folder} is not empty.", next_step="Choose a new folder, or empty this one yourself.")
    model, tokenizer = models.load(resolved)
    about = read_about(Path(resolved.path)) or _describe(resolved, model)
    publish(
        folder,
        model,
        tokenizer,
        about | {"dtype": "float16" if half else "float32"},
        dtype=torch.float16 if half else None,
    )
    (folder / MANIFEST).unlink()  # an exported folder may be edited; its manifest would make that an error
    return folder


def _describe(resolved: ResolvedModel, model: PreTrainedModel) -> dict[str, Any]:
    """`about` for a model that was not made by a run: its task, its labels and its size."""
    properties = shape(resolved)
    task = task_of_head(properties.head, model.config.to_dict())
    tagged = task and TASKS[task].predicts == "tags"
    labels = label_set(task, properties.labels) if tagged else properties.labels
    return {
        "base": resolved.reference,
        "task": task if task and (labels or not TASKS[task].labelled) else None,
        "labels": list(labels),
        "params": sum(parameter.numel() for parameter in model.parameters()),
    }


def _attributes(model: PreTrainedModel) -> dict[str, Any]:
    """The values of each attribute that a tagger gives, and the entity types whose spans carry it."""
    names = [name for _, name in sorted((model.config.id2label or {}).items())]
    known = attributes.read(names, getattr(model.config, attributes.CARRIERS, {}), ())
    described = {each.name: {"values": list(each.values), "carriers": list(each.carriers)} for each in known}
    return {"attributes": described} if described else {}


def read_about(folder: Path) -> dict[str, Any]:
    """The content of stillroom.json in a model folder; empty if there is none."""
    path = Path(folder) / ABOUT
    about: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return about


def lineage(run: RunSpec) -> dict[str, str]:
    """The specs that lead to a run's model, as YAML by step name: those of the runs that it starts from, its own last.

    Together they are the steps of a chain (trainer.chain) that depends on no run of this machine: "@name" replaces
    every reference to a run. Only a run whose model does not record its steps keeps its reference.
    """
    steps: dict[str, str] = {}
    last_steps: dict[str, str] = {}  # by run id
    for source in (run.model, *run.others, *([run.teacher] if run.teacher else [])):
        earlier = read_about(Path(source.path)).get("steps") if RUN_ID.fullmatch(source.reference) else None
        if earlier:
            steps |= earlier
            last_steps[source.reference] = list(earlier)[-1]
    models = run.spec.references("model")
    named = {each.field: f"@{last_steps[each.name]}" for each in models if each.name in last_steps}
    return steps | {f"run-{run.id}": chain.replaced(run.spec, named).to_yaml()}


def _metric_format(name: str) -> str:
    """The format of a metric: counts as integers, scores with four digits."""
    return ",.0f" if "support." in name or name.endswith(".n") else ".4f"


def model_card(about: Mapping[str, Any]) -> str:
    """A model card in Markdown, generated from what the run recorded."""
    rows = [
        f"| {markdown.inline(name.removeprefix('test_'))} | {value:{_metric_format(name)}} | {_interval(about, name)} |"
        for name, value in about.get("metrics", {}).items()
        if name.startswith("test_")
    ]
    task = TASKS.get(about.get("task") or "", MLM)
    scores = (
        [f"| test score, {task.level} | value | 95 % interval |", "|---|---|---|", *rows]
        if rows
        else ["Not scored yet."]
    )
    labels = markdown.inline(", ".join(about.get("labels", [])))
    return "\n".join(
        [
            f"# {markdown.inline(_title(about))}",
            "",
            f"Task: {about.get('task') or 'none'}. Labels: {labels or 'none'}.",
            *_attribute_lines(about),
            *_how_it_reads(about),
            f"{about.get('params', 0):,} parameters, weights stored as {about.get('dtype', 'float32')}.",
            "",
            "Research use only: not a medical device, not for decisions about patients. The model knows the kind of",
            "text it was trained on and will miss things in other text. Compare it on your own notes first.",
            "",
            *scores,
            "",
            *_teacher(about),
            *_data(about),
            *(_how_made(about) if about.get("spec") else []),
            *(f"SHA-256 of {what}: `{about[name]}`." for name, what in _HASHES.items() if about.get(name)),
            "",
        ]
    )


def _how_made(about: Mapping[str, Any]) -> list[str]:
    """How the model was made and scored, with the commands that repeat both."""
    command = f"stillroom evaluate --model <this folder> --dataset {about.get('dataset')}"
    return [
        f"Intervals are percentile bootstrap over test {about.get('unit') or TASKS[about['task']].unit}."
        " Scored with float32 weights, as trained;",
        f"{markdown.code(command)} scores the file itself.",
        "",
        "## How it was made",
        "",
        "Save this as spec.yaml, then `stillroom submit spec.yaml` and `stillroom worker --drain`:",
        "",
        markdown.block(_recipe(about), "yaml"),
        "",
    ]


_HASHES = {
    "weights_of_base": "the base weights",
    "weights_of_teacher": "the teacher's weights",
    "data_sha256": "the data",
    "unlabelled_sha256": "the unlabelled text",
}


def _recipe(about: Mapping[str, Any]) -> str:
    """The YAML that makes the model: one spec, or a chain if the model starts from other runs."""
    steps = about.get("steps") or {}
    if len(steps) < 2:
        return str(about.get("spec", "")).strip()
    blocks = (indent(f"name: {name}\n{spec}".rstrip(), "    ") for name, spec in steps.items())
    return "\n".join(["steps:", *(f"  - {block.lstrip()}" for block in blocks)])


def _title(about: Mapping[str, Any]) -> str:
    made, dataset = about.get("made_from") or about.get("base"), about.get("dataset")
    others = {"distill": f"taught by {about.get('teacher')}", "pretrain": "pre-trained", "average": "scored"}
    how = others.get(about.get("kind") or "", "fine-tuned")
    return f"{made}, {how} on {dataset}" if about.get("spec") else f"{made}"


def _attribute_lines(about: Mapping[str, Any]) -> list[str]:
    """One line per attribute, such as: Each problem has one assertion: absent, possible, present."""
    return [
        markdown.inline(f"Each {' or '.join(each['carriers'])} has one {name}: {', '.join(each['values'])}.")
        for name, each in about.get("attributes", {}).items()
    ]


def _how_it_reads(about: Mapping[str, Any]) -> list[str]:
    """How the model reads long documents, and how a classifier chooses labels."""
    reading = about.get("document_reading")
    if not reading:
        return []
    if TASKS[about["task"]].predicts == "value":
        return [_value_line(about)]
    if TASKS[about["task"]].predicts == "roles":
        return [f"Texts are read in windows of up to {reading['max_tokens']:,} word pieces, cut between sentences."]
    if answers(about.get("task") or "") == "spans":
        return [f"Texts are read in windows of {reading['max_tokens']:,} word pieces, as long as its training rows."]
    if answers(about.get("task") or "") == "relations":
        return [f"It reads pairs of mentions, each in its own passage of up to {reading['max_tokens']:,} word pieces."]
    if answers(about.get("task") or "") == "answer":
        return [f"It reads a question with a text of any length, in windows of {reading['max_tokens']:,} word pieces."]
    one = TASKS[about["task"]].unit.removesuffix("s")
    choice = f"A {one} has one label, the most likely (softmax)."
    if about.get("multi_label"):
        chosen = about.get("thresholds") or {}
        least = "at least its label's threshold" if chosen else "0.5 or more"
        choice = f"A {one} may have several labels: those with a probability of {least} (sigmoid)."
        if chosen:
            listed = "; ".join(f"{markdown.inline(label)} {value:.2f}" for label, value in chosen.items())
            choice += f" Thresholds, chosen on dev for F1: {listed}."
    size = f"{reading['max_tokens']:,} word pieces"
    if reading["reading"] == "truncate":
        return [choice, f"Trained and scored on the first {size} of each document."]
    pooled = {"mean": "the mean", "max": "the largest, label by label,"}[reading["pooling"]]
    return [choice, f"Documents are read in windows of {size}; the logits of a document are {pooled} of its windows'."]


def _value_line(about: Mapping[str, Any]) -> str:
    """What the one output of a model of values is, and how it reads long texts."""
    reading, (lowest, highest) = about["document_reading"], about["value_range"]
    return (
        f"It gives a text a value on a scale of {lowest:g} to {highest:g}, the lowest and the highest of train; its "
        f"output is 0 and 1 there. Texts are read in windows of {reading['max_tokens']:,} word pieces."
    )


def _teacher(about: Mapping[str, Any]) -> list[str]:
    retention = about.get("metrics", {}).get("retention")
    teacher = markdown.inline(about.get("teacher"))
    return [f"It keeps {retention:.1%} of the score of its teacher, {teacher}.", ""] if retention else []


def _data(about: Mapping[str, Any]) -> list[str]:
    """What was left out of the data when it was read, and other notes on it."""
    notes = [f"- {markdown.inline(note)}" for note in about.get("data_notes", ())]
    return ["Notes on the data:", "", *notes, ""] if notes else []


def _interval(about: Mapping[str, Any], name: str) -> str:
    low_high = about.get("intervals", {}).get(name.removeprefix("test_"))
    return f"{low_high[0]:.4f} to {low_high[1]:.4f}" if low_high else ""
