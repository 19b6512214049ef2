"""What a run hands on: a model folder with weights, tokenizer, stillroom.json and a model card."""

import json
from collections.abc import Mapping
from pathlib import Path
from textwrap import indent

import torch

from trainer import chain, markdown, models
from trainer.datasets import tags
from trainer.errors import Refused
from trainer.files import MANIFEST, commit_folder, write_file
from trainer.resolved import ResolvedModel
from trainer.run import RunSpec
from trainer.tasks import MLM, TASKS, answers
from trainer.zoo import ABOUT, RUN_ID
from trainer.zoo.compatibility import shape
from trainer.zoo.outputs import HEADS, task_of


def publish(
    folder: Path, model: torch.nn.Module, tokenizer, about: Mapping, *, dtype: torch.dtype | None = None
) -> None:
    """Commit a model folder whole or not at all. `about` goes into stillroom.json and the model card.

    dtype: the number format on disk (float16 halves the file; loading on CPU makes it float32 again).
    """

    def write(draft: Path) -> None:
        models.save(model, tokenizer, draft, dtype=dtype)
        write_file(draft / ABOUT, json.dumps(about, indent=2, ensure_ascii=False).encode())
        write_file(draft / "README.md", model_card(about).encode())

    commit_folder(folder, write)


def export(found: ResolvedModel, folder: Path, *, half: bool = False) -> Path:
    """Copy a model as safetensors into `folder`, which must not hold anything yet; `half` stores 16-bit numbers."""
    folder = Path(folder).absolute()
    if folder.exists() and any(folder.iterdir()):
        raise Refused(f"{folder} is not empty.", next_step="Choose a new folder, or empty this one yourself.")
    model, tokenizer = models.load(found)
    about = read_about(Path(found.path)) or _of_others(found, model)
    publish(
        folder,
        model,
        tokenizer,
        about | {"dtype": "float16" if half else "float32"},
        dtype=torch.float16 if half else None,
    )
    (folder / MANIFEST).unlink()  # the registry checks weights by its own checksum
    return folder


def _of_others(found: ResolvedModel, model: torch.nn.Module) -> dict:
    """What can be said of a model that no run made: what its head gives, and its size."""
    its = shape(found)
    task = task_of(its.head, model.config.to_dict())
    tagged = task and HEADS[its.head].says == "tags"
    labels = tags.read(its.labels).kinds if tagged else its.labels
    return {
        "base": found.reference,
        "task": task if task and (labels or not TASKS[task].labelled) else None,
        "labels": list(labels),
        "params": sum(parameter.numel() for parameter in model.parameters()),
    }


def read_about(folder: Path) -> dict:
    """stillroom.json of a model folder; empty where there is none."""
    path = Path(folder) / ABOUT
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def lineage(run: RunSpec) -> dict[str, str]:
    """The specs that lead to a run's model, as YAML by step name: those of the runs that it starts from, its own last.

    Together they are the steps of a chain (trainer.chain) that needs no run of this machine: "@name" stands where a
    spec names a run. A run whose model does not say how it was made stays named as it is.
    """
    steps, step_of = {}, {}
    for found in (run.model, *run.others, *([run.teacher] if run.teacher else [])):
        earlier = read_about(Path(found.path)).get("steps") if RUN_ID.fullmatch(found.reference) else None
        if earlier:
            steps |= earlier
            step_of[found.reference] = list(earlier)[-1]
    models = run.spec.references("model")
    named = {each.field: f"@{step_of[each.name]}" for each in models if each.name in step_of}
    return steps | {f"run-{run.id}": chain.replaced(run.spec, named).to_yaml()}


def _digits(name: str) -> str:
    """How a metric is written: a number of documents as such, scores with four digits."""
    return ",.0f" if "support." in name or name.endswith(".n") else ".4f"


def model_card(about: Mapping) -> str:
    """A model card in Markdown from what the run recorded; nothing in it is typed by hand."""
    rows = [
        f"| {markdown.inline(name.removeprefix('test_'))} | {value:{_digits(name)}} | {_interval(about, name)} |"
        for name, value in about.get("metrics", {}).items()
        if name.startswith("test_")
    ]
    task = TASKS.get(about.get("task"), MLM)
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
            *_reads(about),
            f"{about.get('params', 0):,} parameters, weights stored as {about.get('dtype', 'float32')}.",
            "",
            "Research use only: not a medical device, not for decisions about patients. The model knows the kind of",
            "text it was trained on and will miss things in other text. Compare it on your own notes first.",
            "",
            *scores,
            "",
            *_teacher(about),
            *_data(about),
            *(_made(about, task.unit) if about.get("spec") else []),
            *(f"SHA-256 of {what}: `{about[name]}`." for name, what in _HASHES.items() if about.get(name)),
            "",
        ]
    )


def _made(about: Mapping, unit: str) -> list[str]:
    """How the scores and the model came about, with the commands that repeat both."""
    command = f"stillroom evaluate --model <this folder> --dataset {about.get('dataset')}"
    return [
        f"Intervals are percentile bootstrap over test {unit}. Scored with float32 weights, as trained;",
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


def _recipe(about: Mapping) -> str:
    """The YAML that makes the model: one spec, or a chain where the model starts from other runs."""
    steps = about.get("steps") or {}
    if len(steps) < 2:
        return about.get("spec", "").strip()
    blocks = (indent(f"name: {name}\n{spec}".rstrip(), "    ") for name, spec in steps.items())
    return "\n".join(["steps:", *(f"  - {block.lstrip()}" for block in blocks)])


def _title(about: Mapping) -> str:
    made, dataset = about.get("made_from") or about.get("base"), about.get("dataset")
    others = {"distill": f"taught by {about.get('teacher')}", "pretrain": "pre-trained", "average": "scored"}
    how = others.get(about.get("kind"), "fine-tuned")
    return f"{made}, {how} on {dataset}" if about.get("spec") else f"{made}"


def _reads(about: Mapping) -> list[str]:
    """How the model reads long documents, and how a classifier gives labels."""
    reading = about.get("document_reading")
    if not reading:
        return []
    if answers(about.get("task")) == "spans":
        return [f"Texts are read in windows of {reading['max_tokens']:,} word pieces, as long as its training rows."]
    given = (
        "A document may have several labels: those with a probability of 0.5 or more (sigmoid)."
        if about.get("multi_label")
        else "A document has one label, the likeliest (softmax)."
    )
    size = f"{reading['max_tokens']:,} word pieces"
    if reading["reading"] == "truncate":
        return [given, f"Trained and scored on the first {size} of each document."]
    pooled = {"mean": "the mean", "max": "the largest, label by label,"}[reading["pooling"]]
    return [given, f"Documents are read in windows of {size}; the logits of a document are {pooled} of its windows'."]


def _teacher(about: Mapping) -> list[str]:
    kept = about.get("metrics", {}).get("retention")
    teacher = markdown.inline(about.get("teacher"))
    return [f"It keeps {kept:.1%} of the score of its teacher, {teacher}.", ""] if kept else []


def _data(about: Mapping) -> list[str]:
    """What reading left out of the data, and whatever else there is to know of them."""
    notes = [f"- {markdown.inline(note)}" for note in about.get("data_notes", ())]
    return ["What to know of the data:", "", *notes, ""] if notes else []


def _interval(about: Mapping, name: str) -> str:
    low_high = about.get("intervals", {}).get(name.removeprefix("test_"))
    return f"{low_high[0]:.4f} to {low_high[1]:.4f}" if low_high else ""
