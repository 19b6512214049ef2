"""Distillation from a spec to a published model that is loaded and used: every recipe, kept teachers, failures."""

import json

import pytest
import torch
from safetensors import safe_open
from tiny_pair import bert
from transformers import AutoTokenizer
from transformers.models.bert.modeling_bert import BertModel

from trainer import datasets, inference, models, zoo
from trainer.execute import execute
from trainer.files import file_sha256
from trainer.resolved import ResolvedModel
from trainer.run import Run, RunSpec
from trainer.spec import parse
from trainer.training import teacher_cache

TEACHER_LAYERS = 6


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def start(home, fields, *, model, teacher, dataset, number=1, unlabelled=None) -> Run:
    """A run folder below home/runs, as the worker prepares it."""
    options = {"attempt": 1, "threads": 1, "device": "cpu", "dataset": datasets.resolve(dataset)}
    options |= {"unlabelled": datasets.resolve(unlabelled) if unlabelled else None}
    ready = RunSpec(id=f"00000000-{number}", spec=parse(fields), model=model, teacher=teacher, **options)
    return Run.create(home / "runs", ready)


def published(run: Run):
    """The folder of the model that a run has published."""
    assert run.result.state == "succeeded", run.result.error
    return run.folder / run.result.artifact


def figures(run: Run, name: str) -> list[float]:
    """A measured figure, step by step."""
    return [event["metrics"][name] for event in run.events()[0] if event["event"] == "step"]


class TeacherPasses:
    """Counts forward passes of BERT encoders as deep as the teacher."""

    def __enter__(self):
        self.count = 0
        self.handle = torch.nn.modules.module.register_module_forward_hook(self._add)
        return self

    def _add(self, module, inputs, output):
        self.count += isinstance(module, BertModel) and module.config.num_hidden_layers == TEACHER_LAYERS

    def __exit__(self, *_):
        self.handle.remove()


# A fine-tuned teacher and its task, on real data.

TASK = {
    "kind": "distill",
    "teacher": "minilm-ncbi",
    "student": {"layers": 2, "vocabulary": 4000},
    "recipe": {"name": "task_kd", "labels": 0.5},
    "dataset": "ncbi-disease-slice",
    "limit": 40,
    "schedule": {"steps": 24, "batch_tokens": 512, "lr": 8e-4, "evaluate_every": 24},
}
QUICK = {"student": {"layers": 1}, "schedule": {"steps": 2, "batch_tokens": 512, "evaluate_every": 2}}


@pytest.fixture(scope="module")
def taught():
    return zoo.resolve("minilm-ncbi")


def distil(home, taught, *, number=1, **changes):
    """Run TASK with changes to its end: (run, forward passes of the teacher)."""
    run = start(home, TASK | changes, model=taught, teacher=taught, dataset=TASK["dataset"], number=number)
    with TeacherPasses() as passes:
        execute(run.folder)
    return run, passes.count


@pytest.fixture(scope="module")
def first(tmp_path_factory, taught):
    """The first distillation in a home of its own: (home, run, forward passes of the teacher)."""
    torch.set_num_threads(1)
    home = tmp_path_factory.mktemp("home")
    return home, *distil(home, taught)


@pytest.mark.slow
def test_a_tagger_learns_from_its_teacher_and_is_used(first):
    _, run, _ = first
    folder = published(run)
    for name in ("loss.soft_targets", "loss.hidden_cosine", "loss.task"):
        values = figures(run, name)
        assert sum(values[-5:]) < 0.7 * sum(values[:5]), name
    metrics = run.result.metrics
    assert metrics["retention"] == pytest.approx(metrics["test_f1"] / metrics["teacher_test_f1"])
    assert metrics["test_f1"] > 0.1 and metrics["teacher_test_f1"] > 0.5
    student, tokenizer = models.load(str(folder))
    texts = [" ".join(sentence.words) for sentence in datasets.load(TASK["dataset"], "test", limit=TASK["limit"])]
    predictions = inference.predict_many(texts, student, tokenizer, name="student")
    spans = [(text, span) for text, prediction in zip(texts, predictions, strict=True) for span in prediction.spans]
    assert spans and all(0 <= span.start < span.end <= len(text) for text, span in spans)


def test_a_tagger_is_distilled_and_nothing_but_the_student_is_published(home, taught):
    run, passes = distil(home, taught, limit=10, schedule=QUICK["schedule"])
    assert passes > 0
    folder = published(run)
    student, tokenizer = models.load(str(folder))
    assert (student.config.num_hidden_layers, student.config.vocab_size) == (2, len(tokenizer))
    assert 300 < len(tokenizer) <= 4000
    assert inference.tag_names(student) == ["O", "B-Disease", "I-Disease"]
    with safe_open(folder / "model.safetensors", "pt") as file:
        names = set(file.keys())
    assert names and all(name.startswith(("bert.", "classifier.")) for name in names)
    assert {name.split(".")[3] for name in names if ".layer." in name} == {"0", "1"}
    config = json.loads((folder / "config.json").read_text())
    assert {name for name in config if name.startswith("stillroom")} == {"stillroom_decoding"}, "nothing of the recipe"
    about = json.loads((folder / "stillroom.json").read_text())
    assert (about["teacher"], about["base"]) == ("minilm-ncbi", "minilm-ncbi")
    card = (folder / "README.md").read_text()
    assert f"SHA-256 of the teacher's weights: `{run.spec.teacher.sha256}`." in card
    assert f"SHA-256 of the data: `{run.spec.dataset.sha256}`." in card and "unlabelled" not in card
    assert about["made_from"] == "minilm-ncbi with layers 2, vocabulary 4000"
    kinds = {event["event"] for event in run.events()[0]}
    assert kinds >= {"plan", "step", "evaluation", "checkpoint"}
    dev = [event["metrics"] for event in run.events()[0] if event["event"] == "evaluation"]
    assert "teacher_dev_f1" in dev[0] and all("dev_f1" in metrics for metrics in dev[1:])


def weights(run):
    return file_sha256(published(run) / "model.safetensors")


def scores(run):
    """All metrics but the measured memory, which is not the same twice."""
    return {name: value for name, value in run.result.metrics.items() if name != "peak_memory_bytes"}


@pytest.mark.slow
def test_the_second_run_pays_nothing_for_the_teacher_and_ends_with_the_same_bits(first, taught):
    home, run, passes = first
    assert passes > 0
    again, passes = distil(home, taught, number=2)
    assert passes == 0
    assert weights(again) == weights(run)
    assert scores(again) == scores(run)


@pytest.mark.slow
def test_damaged_outputs_of_the_teacher_are_computed_again(first, taught):
    home = first[0]
    whole, passes = distil(home, taught, number=3, **QUICK)
    assert passes == 0, "another student of the same teacher on the same data"
    for number, name in ((4, teacher_cache.LOGITS), (5, teacher_cache.STATES)):
        (path,) = (home / "cache" / "teacher").glob(f"*/{name}")
        data = bytearray(path.read_bytes())
        data[-1] ^= 64
        path.write_bytes(data)
        again, passes = distil(home, taught, number=number, **QUICK)
        assert passes > 0
        assert weights(again) == weights(whole)


@pytest.mark.parametrize("weights", [{}, pytest.param({"attention_kl": 1.0}, marks=pytest.mark.slow)])
def test_unlabelled_text_is_labelled_by_the_teacher(weights, home, taught, tmp_path):
    text = tmp_path / "notes.txt"
    text.write_text("The patient had severe renal failure. It was seen again after naloxone was given.\n" * 20)
    recipe = {"name": "task_kd", "unlabelled": str(text), "unlabelled_limit": 30} | weights
    fields = TASK | QUICK | {"recipe": recipe, "limit": 10}
    run = start(home, fields, model=taught, teacher=taught, dataset=TASK["dataset"], unlabelled=str(text))
    execute(run.folder)
    assert published(run)
    assert all(value > 0 for value in figures(run, "loss.soft_targets"))


# Masked-LM teachers, tiny and random: every recipe once through the whole way.


@pytest.fixture(scope="module")
def tiny(tmp_path_factory, tiny_model):
    """A masked LM with the real tokenizer; 6 layers of 24, so that layer maps have something to choose from."""
    folder = tmp_path_factory.mktemp("mlm") / "teacher"
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    models.save(bert(layers=TEACHER_LAYERS, vocabulary=len(tokenizer)), tokenizer, folder)
    digest = file_sha256(folder / "model.safetensors")
    return ResolvedModel(reference="./teacher", path=str(folder), sha256=digest)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("text")
    for split, times in (("train", 12), ("dev", 3), ("test", 3)):
        (folder / f"{split}.txt").write_text("naloxone reverses the effect of clonidine in the patient .\n" * times)
    return str(folder)


NARROW = {"layers": 2, "hidden": 12, "intermediate": 24, "start": "random"}
MINIALBERT = {"architecture": "minialbert", "hidden": 48, "layers": 2, "embedding": 12, "start": "embeddings"}
CASES = {
    "distil": ("distil", {"layers": 3, "layer_map": "first", "head": "random"}),
    "distil-exact": ({"name": "distil", "exact": True}, {"layers": 3, "layer_map": "spread"}),
    "tiny": ("tiny", NARROW),
    "tiny-exact": ({"name": "tiny", "exact": True}, NARROW),
    "compact": ("compact", {"layers": 3, "layer_map": "last"}),
    "compact-exact": ({"name": "compact", "exact": True}, {"layers": 3}),
    "minilm": ("minilm", NARROW),
    "minilm-exact": ({"name": "minilm", "exact": True}, NARROW),
    "minilm-minialbert": ("minilm", MINIALBERT),
}


# What the others add, tests/unit/test_recipes.py has in every run.
QUICKEST = ("distil", "tiny", "minilm-minialbert")


@pytest.mark.parametrize(
    "case", [case if case in QUICKEST else pytest.param(case, marks=pytest.mark.slow) for case in CASES]
)
def test_a_masked_lm_is_distilled_published_and_used(case, home, tiny, corpus):
    recipe, student = CASES[case]
    schedule = {"steps": 4, "batch_size": 4, "max_tokens": 32, "lr": 1e-3}
    fields = {"kind": "distill", "teacher": "./teacher", "student": student, "recipe": recipe, "dataset": corpus}
    run = start(home, fields | {"schedule": schedule}, model=tiny, teacher=tiny, dataset=corpus)
    execute(run.folder)
    folder, metrics = published(run), run.result.metrics
    assert {"dev_accuracy", "test_accuracy", "test_loss", "teacher_test_accuracy", "retention"} <= set(metrics)
    assert len(figures(run, "loss")) == 4
    with safe_open(folder / "model.safetensors", "pt") as file:
        assert not [name for name in file.keys() if name.startswith(("projection", "student", "teacher"))]  # noqa: SIM118
    model, tokenizer = models.load(str(folder))
    inputs = tokenizer("naloxone reverses the [MASK] of clonidine", return_tensors="pt")
    with torch.no_grad():
        logits = model(**inputs).logits
    assert logits.isfinite().all() and logits.shape[-1] == len(tokenizer) == 30522


# What cannot go well ends as a typed error in result.json.


def failed(run: Run) -> dict:
    assert execute(run.folder) == 1
    assert run.result.state == "failed" and not (run.folder / "artifacts").exists()
    return run.result.error


def test_a_pair_that_does_not_fit_fails_before_anything_is_loaded(home, tiny, corpus):
    fields = {"kind": "distill", "teacher": "./teacher", "student": {"layers": 9}, "recipe": "tiny", "dataset": corpus}
    error = failed(start(home, fields, model=tiny, teacher=tiny, dataset=corpus))
    assert error["type"] == "BadSpec"
    assert [item["field"] for item in error["fields"]] == ["student.layers"]


def test_a_teacher_whose_outputs_are_no_numbers_fails_with_what_to_do(home, tiny, corpus, tmp_path):
    model, tokenizer = models.load(tiny)
    with torch.no_grad():
        model.bert.encoder.layer[-1].output.dense.bias[0] = float("nan")
    models.save(model, tokenizer, tmp_path / "broken")
    digest = file_sha256(tmp_path / "broken" / "model.safetensors")
    broken = ResolvedModel(reference="./teacher", path=str(tmp_path / "broken"), sha256=digest)
    fields = {"kind": "distill", "teacher": "./teacher", "student": "./start", "recipe": "distil", "dataset": corpus}
    error = failed(start(home, fields, model=tiny, teacher=broken, dataset=corpus))
    assert error["type"] == "NonFiniteOutputs" and "choose another model" in error["next_step"]
