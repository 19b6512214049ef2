"""The papers' own runs, specs/papers, against the papers' hyperparameters and objectives, written out here again."""

from pathlib import Path

import pytest
import yaml

from trainer import models
from trainer.recipes.layer_maps import layer_map
from trainer.spec import parse, read
from trainer.training.loop import learning_rate
from trainer.zoo import compatibility, entries

PAPERS = Path(__file__).parents[2] / "specs" / "papers"
FAMILIES = {"Compact biomedical", "Lightweight clinical", "MiniALBERT", "Clinical long"}

# Training runs. None: the source does not tell, so the spec's comment must say what was chosen.
HEADINGS = ("steps", "batch", "devices", "lr", "warmup_steps", "weight_decay", "max_tokens", "corpus")
RUNS = {
    "distil-biobert": (100_000, 192, 8, 5e-4, 5_000, 0.0, 256, "PubMed"),
    "compact-biobert": (100_000, 192, 8, 5e-4, 5_000, 1e-4, 256, "PubMed"),
    "tiny-biobert": (100_000, 192, 8, 5e-4, 10_000, 1e-4, 256, "PubMed"),
    "bio-distilbert-cased": (200_000, 192, 8, 1e-4, 10_000, 0.01, 256, "PubMed"),
    "bio-distilbert-uncased": (200_000, 192, 8, 1e-4, 10_000, 0.01, 256, "PubMed"),
    "bio-tinybert": (200_000, 192, 8, 1e-4, 10_000, 0.01, 256, "PubMed"),
    "bio-mobilebert": (200_000, 192, 8, 1e-4, 10_000, 0.01, 256, "PubMed"),
    "bio-minialbert-128": (100_000, 192, 4, 5e-4, 5_000, 1e-4, 256, "PubMed"),
    "minialbert-128": (None, 192, 4, 5e-4, None, 1e-4, 256, "Wikipedia"),
    "distil-clinicalbert": (121_761, 192, 4, 5e-4, 5_000, 1e-4, None, "MIMIC-III"),
    "tiny-clinicalbert": (121_761, 192, 4, 5e-4, 5_000, 1e-4, None, "MIMIC-III"),
    "clinical-minialbert-312": (121_761, 192, 4, 5e-4, 5_000, 1e-4, None, "MIMIC-III"),
    "clinical-distilbert": (121_761, 192, 4, 5e-5, 5_000, 1e-4, None, "MIMIC-III"),
    "clinical-mobilebert": (115_626, 192, 4, 5e-5, 5_000, 1e-4, None, "MIMIC-III"),
    "clinical-longformer": (200_000, 18, 6, 3e-5, None, None, 4096, "MIMIC-III"),
    "clinical-bigbird": (300_000, 12, 6, 3e-5, None, None, 4096, "MIMIC-III"),
}
PLACES = {"PubMed": "./pubmed", "MIMIC-III": "./mimic-notes", "Wikipedia": "wikimedia/wikipedia:20231101.en"}
STARTS = {
    "bio-distilbert-cased": "distilbert-base-cased",
    "bio-distilbert-uncased": "distilbert-base-uncased",
    "bio-tinybert": "tinybert-general-4l-312d",
    "bio-mobilebert": "mobilebert-uncased",
    "clinical-distilbert": "bio-distilbert-cased",
    "clinical-mobilebert": "bio-mobilebert",
    "clinical-longformer": "longformer-base-4096",
    "clinical-bigbird": "bigbird-roberta-base",
}
# Student -> teacher, the base of the embeddings, copied teacher layers, objective.
TAUGHT = {
    "distil-biobert": ("biobert-v1.2", "biobert-v1.2", (1, 3, 5, 7, 9, 11), "distil"),
    "compact-biobert": ("biobert-v1.2", "biobert-v1.2", (2, 4, 6, 8, 10, 12), "compact"),
    "distil-clinicalbert": ("bio-clinicalbert", "bio-clinicalbert", (2, 4, 6, 8, 10, 12), "distil"),
    "tiny-biobert": ("biobert-v1.2", None, (), "tiny"),
    "tiny-clinicalbert": ("bio-clinicalbert", None, (), "tiny"),
    "bio-minialbert-128": ("biobert-v1.2", "tiny-biobert", (), "compact"),
    "minialbert-128": ("bert-base-uncased", "tinybert-general-4l-312d", (), "compact"),
    "clinical-minialbert-312": ("bio-clinicalbert", None, (), "compact"),
}
# Terms: weight, temperature, pairs of levels.
SECOND = tuple((k, 2 * k) for k in range(1, 7))
THIRD = tuple((k, 3 * k) for k in range(1, 5))
OBJECTIVES = {
    "distil": {"mlm": (2, 1, ()), "soft_targets": (5, 2, ()), "hidden_cosine": (1, 1, ((6, 12),))},
    "tiny": {
        "attention_mse": (1, 1, THIRD),
        "hidden_mse": (1, 1, ((0, 0), *THIRD)),
        "soft_cross_entropy": (1, 1, ()),
    },
    "compact": {
        "mlm": (1, 1, ()),
        "attention_kl": (3, 1, SECOND),
        "hidden_cosine": (3, 1, SECOND),
        "soft_targets": (5, 1, ()),
    },
}


def spec_of(name):
    return read(PAPERS / f"{name}.yaml")


def comment_of(name):
    lines = (PAPERS / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    return " ".join(line[2:] for line in lines if line.startswith("#"))


def shape_of(name):
    """The sizes of a zoo entry as its authors published it; nothing is built."""
    return compatibility.sizes(models.build_config(entries()[name]).to_dict())


def test_there_is_one_spec_for_each_system_of_the_papers():
    systems = {entry.id for entry in entries().values() if entry.family in FAMILIES}
    assert {path.stem for path in PAPERS.glob("*.yaml")} == systems == set(RUNS)
    assert set(TAUGHT) | set(STARTS) == systems


@pytest.mark.parametrize("name", RUNS)
def test_the_schedule_is_the_papers(name):
    steps, batch, devices, lr, warmup_steps, weight_decay, max_tokens, corpus = RUNS[name]
    spec = spec_of(name)
    schedule = spec.schedule
    assert (schedule.steps, schedule.epochs) == ((steps, None) if steps else (None, 1))
    assert (schedule.batch_size * schedule.accumulate, schedule.accumulate) == (batch, devices)
    assert (schedule.lr, spec.seed, spec.dataset) == (lr, 42, PLACES[corpus])
    if warmup_steps:
        rates = [learning_rate(step, total=steps, schedule=schedule) for step in (warmup_steps - 2, warmup_steps - 1)]
        assert rates[0] < rates[1] == lr, "the peak is reached with the last step of the warm-up"
        assert learning_rate(warmup_steps + 1, total=steps, schedule=schedule) < lr
    for known, planned in ((weight_decay, schedule.weight_decay), (max_tokens, schedule.max_tokens)):
        assert known in (None, planned)


@pytest.mark.parametrize("name", RUNS)
def test_masking_and_rows_are_the_papers(name):
    task = spec_of(name).task
    assert (task.name, task.mask_share, task.whole_words) == ("mlm", 0.15, False)
    assert (task.rows == "truncated") == (RUNS[name][-1] == "PubMed")


WORDS = {"steps": "steps", "warmup_steps": "warm-up", "weight_decay": "weight decay", "max_tokens": "maximum length"}


@pytest.mark.parametrize("name", RUNS)
def test_the_comment_says_what_is_not_known_and_where_the_data_are(name):
    comment = comment_of(name)
    assert comment.startswith(entries()[name].name)
    unknown = [WORDS[heading] for heading, value in zip(HEADINGS, RUNS[name], strict=True) if value is None]
    _, _, missing = comment.partition("Not found: ")
    assert all(word in missing for word in unknown), (unknown, missing)
    assert not unknown or "our choice" in missing
    assert RUNS[name][-1] in comment and ("Cost by the authors' " in comment or "the cost" in missing)


@pytest.mark.parametrize("name", STARTS)
def test_continual_models_start_where_the_papers_did(name):
    spec = spec_of(name)
    assert (spec.kind, spec.model, spec.teacher, spec.recipe.name) == ("pretrain", STARTS[name], None, "mlm")
    assert entries()[name].start == spec.model
    assert shape_of(spec.model) == shape_of(name)
    assert spec.schedule.max_tokens <= entries()[name].max_tokens


@pytest.mark.parametrize("name", TAUGHT)
def test_students_start_and_learn_as_the_papers_did(name):
    teacher, base, copied, objective = TAUGHT[name]
    spec = spec_of(name)
    change = spec.change
    assert (spec.kind, spec.teacher, spec.recipe.name, spec.recipe.exact) == ("distill", teacher, objective, True)
    assert teacher == entries()[name].teacher and {spec.start, spec.teacher} <= set(entries())
    assert change.start == ("random" if base is None else "copy" if copied else "embeddings")
    assert spec.start == (base or teacher)
    if copied:
        assert layer_map(change.layer_map, change.layers, 12) == copied
        assert change.head == "random", "the authors' scripts save a headless student and load it as a masked LM"


@pytest.mark.parametrize("name", TAUGHT)
def test_teacher_student_and_objective_fit(name):
    spec = spec_of(name)
    teacher, base = shape_of(spec.teacher), shape_of(spec.start)
    student = compatibility.check(spec, teacher, base)
    assert student == shape_of(name), "the published model is what this spec makes"
    terms = {term.name: term for term in compatibility.plan(spec, student, teacher)}
    terms_by_name = {name: (term.weight, term.temperature, term.pairs) for name, term in terms.items()}
    assert terms_by_name == OBJECTIVES[spec.recipe.name]
    assert [name for name, term in terms.items() if term.projected] == ["hidden_mse"] * (spec.recipe.name == "tiny")


@pytest.mark.parametrize("name", RUNS)
def test_a_model_card_can_repeat_the_spec(name):
    spec = spec_of(name)
    assert parse(yaml.safe_load(spec.to_yaml())) == spec
