"""Who can teach whom: each mismatch names its field and the nearest fix; what is accepted can be built and trained."""

import json
import shutil
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer import datasets
from trainer.errors import BadSpec, StillroomError
from trainer.files import file_sha256
from trainer.resolved import ResolvedModel
from trainer.run import RunSpec
from trainer.spec import Change, parse
from trainer.zoo import compatibility, vocabulary
from trainer.zoo.compatibility import Shape, changed, check, check_change, plan, shape, sizes

MLM = {"kind": "distill", "teacher": "teacher", "dataset": "text"}
TAGS = ("O", "B-Disease", "I-Disease")
BASE = Shape(
    model_type="bert",
    layers=12,
    hidden=768,
    embedding=768,
    heads=12,
    intermediate=3072,
    vocabulary=28996,
    pieces="cased",
    smallest_vocabulary=400,
    positions=512,
    labels=TAGS,
)


def spec(recipe, student, **more):
    return parse({**MLM, "recipe": recipe, "student": student, **more})


def verdict(recipe, student, *, teacher=BASE, base=BASE, **more):
    """The problems by field, those of one field joined; {} where all fits."""
    problems = {}
    try:
        check(spec(recipe, student, **more), teacher, base)
    except BadSpec as error:
        for field, problem in error.fields:
            problems[field] = f"{problems[field]}; {problem}" if field in problems else problem
    return problems


def other(**fields):
    return BASE.model_copy(update=fields)


TINY_SHAPE = {"layers": 4, "hidden": 312, "heads": 12, "intermediate": 1200, "start": "random"}
RELATIONS = {"name": "minilm", "relation_heads": 12}


@pytest.mark.parametrize(
    ("recipe", "student"),
    [
        ("distil", {"layers": 6, "layer_map": "first", "head": "random"}),  # DistilBioBERT
        ("compact", {"layers": 6, "layer_map": "last", "head": "random"}),  # CompactBioBERT
        ("distil", {"layers": 6, "layer_map": "spread"}),
        ("tiny", TINY_SHAPE),  # TinyBioBERT
        ("compact", {"architecture": "minialbert", "layers": 6, "embedding": 312, "start": "embeddings"}),
        (RELATIONS, {**TINY_SHAPE, "start": "embeddings"}),
        ("task_kd", {**TINY_SHAPE, "vocabulary": 8000}),
    ],
)
def test_the_systems_of_the_papers_fit(recipe, student):
    assert verdict(recipe, student) == {}


@pytest.mark.parametrize(
    ("recipe", "student", "field", "fix"),
    [
        ("tiny", {"layers": 13, "start": "random"}, "student.layers", "Give the student 1 to 12 layers"),
        ("distil", {"layers": 13}, "student.layers", "Give the student 1 to 12 layers"),
        ("distil", {"layers": 2, "layer_map": [1, 13]}, "student.layer_map", "Name 2 layers from 1 to 12"),
        ("distil", {**TINY_SHAPE}, "student.hidden", "width 768, found 312; or choose the recipe tiny, minilm"),
        ("compact", {"layers": 6, "heads": 6, "start": "random"}, "student.heads", "give the student 12 heads"),
        ("tiny", {**TINY_SHAPE, "hidden": 310, "heads": 10}, "student.heads", "drop the term"),
        ("tiny", {**TINY_SHAPE, "heads": 7}, "student.heads", "these do: 1, 2, 3, 4, 6, 8, 12, 13, 24, 26"),
        ("distil", {"layers": 6, "vocabulary": 8000}, "student.vocabulary", "from the teacher's vocabulary"),
        (RELATIONS, {"layers": 6, "vocabulary": 8000}, "student.vocabulary", "relations needs the same word pieces"),
        ("distil", {"layers": 6, "vocabulary": 399}, "student.vocabulary", "characters alone are 400"),
        ("tiny", {"layers": 6, "hidden": 384}, "student.start", "`start: embeddings` or `start: random`"),
        ("tiny", {**TINY_SHAPE, "hidden": 780, "start": "embeddings"}, "student.start", "narrower"),
        ("compact", {"architecture": "minialbert", "layers": 6}, "student.start", "model_type differ"),
        (
            RELATIONS,
            {**TINY_SHAPE, "architecture": "minialbert"},
            "student.hidden",
            "found 312; a MiniALBERT needs a mul",
        ),
        ("distil", {"layers": 6, "embedding": 128}, "student.embedding", "add `architecture: minialbert`"),
        ({"name": "minilm", "relation_heads": 7}, {"layers": 6}, "recipe.relation_heads", "do not divide"),
        (RELATIONS, {**TINY_SHAPE, "hidden": 310, "heads": 10}, "recipe.relation_heads", "hidden size 310"),
        ({**RELATIONS, "teacher_layer": 13}, {"layers": 6}, "recipe.teacher_layer", "layers 1 to 12"),
        ("distil", {}, "student", "fewer layers or a smaller size, or choose another model"),
        ("distil", "teacher", "student", "it is the teacher itself"),
        ({"name": "task_kd", "attention_kl": 1}, {"layers": 6, "vocabulary": 8000}, "student.vocabulary", "same word"),
        ({"name": "task_kd", "soft_targets": 0, "hidden_cosine": 0}, {"layers": 6}, "recipe", "at least one a weight"),
        (
            {"name": "compact", "mlm": 0, "attention_kl": 0, "hidden_cosine": 0, "soft_targets": 0},
            {"layers": 6},
            "recipe",
            "at least one a weight",
        ),
    ],
)
def test_each_mismatch_names_its_field_and_the_nearest_fix(recipe, student, field, fix):
    problems = verdict(recipe, student)
    assert field in problems, problems
    assert fix in problems[field]


def test_every_problem_is_reported_at_once():
    problems = verdict("compact", {"layers": 13, "heads": 7, "start": "random"})
    assert set(problems) == {"student.layers", "student.heads"}
    assert set(verdict("distil", {"hidden": 312, "vocabulary": 8000, "start": "random"})) == {
        "student.hidden",
        "student.vocabulary",
    }


def test_a_teacher_without_labels_cannot_teach_a_labelled_task():
    assert "fine-tune it" in verdict("task_kd", {"layers": 6}, teacher=other(labels=()))["teacher"]
    assert verdict("distil", {"layers": 6}, teacher=other(labels=())) == {}


def test_pieces_of_the_papers_scheme_cannot_be_taught():
    task = {"name": "ner", "labelling": "all"}
    assert "write first" in verdict("task_kd", {"layers": 6}, task=task)["task.labelling"]


def test_other_vocabularies_are_noticed_even_at_the_same_size():
    cased, uncased = BASE, other(pieces="uncased", model_type="distilbert")
    for recipe in ("distil", "tiny", "compact", RELATIONS, {"name": "task_kd", "attention_kl": 1.0}):
        problems = verdict(recipe, "other", teacher=cased, base=uncased)
        assert "Start the student from the teacher's vocabulary" in problems["student"]
    assert verdict("task_kd", "other", teacher=cased, base=uncased) == {}, "they meet at words"


def test_two_models_of_one_shape_may_teach_each_other():
    assert verdict("distil", "another of the same shape") == {}


@pytest.mark.parametrize("kind", ["albert", "big_bird", "modernbert"])
def test_architectures_that_cannot_be_changed(kind):
    problems = verdict("task_kd", {"layers": 2}, base=other(model_type=kind))
    assert "bert, roberta, distilbert" in problems["student.base"]
    assert verdict("task_kd", "other", base=other(model_type=kind)) == {}


def test_a_vocabulary_that_is_not_of_word_pieces_cannot_be_trimmed():
    problems = verdict("task_kd", {"layers": 2, "vocabulary": 8000}, base=other(smallest_vocabulary=None))
    assert "only WordPiece" in problems["student.vocabulary"]
    assert verdict("task_kd", {"layers": 2, "vocabulary": 28996}, base=other(smallest_vocabulary=None)) == {}


def test_what_a_change_makes():
    assert changed(BASE, None) == BASE == changed(BASE, Change())
    shape = changed(BASE, Change(layers=3, hidden=96, heads=3, intermediate=10, vocabulary=900, start="random"))
    assert (shape.layers, shape.hidden, shape.embedding, shape.heads, shape.intermediate) == (3, 96, 96, 3, 10)
    assert shape.vocabulary == 900 and shape.pieces != BASE.pieces
    assert changed(BASE, Change(vocabulary=28996)).pieces == BASE.pieces
    assert changed(BASE, Change(architecture="minialbert", embedding=128)).embedding == 128


def test_a_change_alone_is_checked_for_jobs_without_a_teacher():
    assert check_change(Change(layers=3), BASE).layers == 3
    with pytest.raises(BadSpec, match="student.heads"):
        check_change(Change(heads=7, start="random"), BASE)


def test_the_terms_that_run():
    terms = plan(spec({"name": "distil", "mlm": 0}, {"layers": 6}), other(layers=6), BASE)
    assert [term.name for term in terms] == ["soft_targets", "hidden_cosine"]
    assert terms[1].pairs == ((6, 12),)
    alone = parse({"kind": "pretrain", "model": "m", "dataset": "d"})
    assert [term.name for term in plan(alone, BASE, None)] == ["mlm"]


# Folders: shapes are read from files, and what is accepted is trained.


def resolved(folder) -> ResolvedModel:
    path = folder / "model.safetensors"
    return ResolvedModel(reference=folder.name, path=str(folder), sha256=file_sha256(path))


@pytest.fixture(scope="module")
def folders(tmp_path_factory, tiny_model):
    """name -> ResolvedModel: a teacher and what students may start from, all with one tokenizer, and two data sets."""
    from transformers import AutoTokenizer, BertConfig, DistilBertConfig

    from trainer import models
    from trainer.architectures.minialbert import MiniAlbertConfig

    top, large = tmp_path_factory.mktemp("pairs"), AutoTokenizer.from_pretrained(tiny_model)
    always = vocabulary.select_pieces(np.zeros(len(large), dtype=np.int64), large, size=1000)
    tokenizer = vocabulary.trim(large, np.union1d(always, np.arange(1996, 3000)))  # quicker to load
    common = {"id2label": dict(enumerate(TAGS)), "label2id": {tag: number for number, tag in enumerate(TAGS)}}
    common["vocab_size"] = len(tokenizer)
    small = {"hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 48, **common}
    distilbert = {"dim": 32, "n_layers": 3, "n_heads": 4, "hidden_dim": 48, **common}
    configs = {
        "bert": BertConfig(**small, num_hidden_layers=4),
        "deep": BertConfig(**small, num_hidden_layers=6),
        "distilbert": DistilBertConfig(**distilbert),
        "minialbert": MiniAlbertConfig(**small, num_hidden_layers=3, embedding_size=16),
    }
    paths = {}
    for name, config in configs.items():
        for head in ("mlm", "ner"):
            with models.seeded(0):
                model = models.CLASSES[head][type(config)](config)
            models.save(model, tokenizer, top / f"{name}-{head}")
            paths[f"{name}-{head}"] = resolved(top / f"{name}-{head}")
    return paths


def test_shapes_are_read_from_files(folders):
    bert, distilbert = shape(folders["bert-ner"]), shape(folders["distilbert-ner"])
    assert bert == Shape(
        model_type="bert",
        layers=4,
        hidden=32,
        embedding=32,
        heads=4,
        intermediate=48,
        vocabulary=bert.vocabulary,
        pieces=bert.pieces,
        smallest_vocabulary=bert.smallest_vocabulary,
        positions=512,
        token_types=2,
        head="ner",
        labels=TAGS,
    )
    assert len(bert.pieces) == 64 and 300 < bert.smallest_vocabulary < 1000 < bert.vocabulary < 1500
    same = (
        "layers",
        "hidden",
        "heads",
        "intermediate",
        "vocabulary",
        "pieces",
        "smallest_vocabulary",
        "labels",
        "positions",
    )
    assert {name for name in same if getattr(bert, name) != getattr(distilbert, name)} == {"layers"}
    assert shape(folders["minialbert-ner"]).embedding == 16


def test_a_vocabulary_is_the_same_in_either_file(folders, tmp_path):
    source = folders["bert-mlm"].path
    shutil.copytree(source, tmp_path / "plain")
    state = json.loads((tmp_path / "plain" / "tokenizer.json").read_text())
    pieces = sorted(state["model"]["vocab"], key=state["model"]["vocab"].get)
    (tmp_path / "plain" / "tokenizer.json").unlink()
    (tmp_path / "plain" / "vocab.txt").write_text("\n".join(pieces) + "\n")
    plain, usual = shape(resolved(tmp_path / "plain")), shape(folders["bert-mlm"])
    assert (plain.pieces, plain.smallest_vocabulary) == (usual.pieces, usual.smallest_vocabulary)
    (tmp_path / "plain" / "vocab.txt").write_text("\n".join(reversed(pieces)) + "\n")
    assert shape(resolved(tmp_path / "plain")).pieces != usual.pieces
    (tmp_path / "plain" / "vocab.txt").unlink()
    assert shape(resolved(tmp_path / "plain")).pieces == ""


def test_a_config_without_sizes_is_a_typed_error():
    config = {"model_type": "odd", "hidden_size": 8, "vocab_size": 9}
    with pytest.raises(StillroomError, match="names no num_hidden_layers"):
        sizes(config)
    with pytest.raises(StillroomError, match="names no model_type"):
        sizes({name: value for name, value in config.items() if name != "model_type"})


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A text data set and a tagged one, by the head that learns from it."""
    top = tmp_path_factory.mktemp("data")
    for split in ("train", "dev", "test"):
        for name in ("mlm", "ner"):
            (top / name).mkdir(exist_ok=True)
        (top / "mlm" / f"{split}.txt").write_text("naloxone reverses the effect of clonidine .\n" * 6)
        (top / "ner" / f"{split}.conll").write_text("severe\tB-Disease\nheart\tI-Disease\nfailure\tI-Disease\n\n" * 3)
    return {name: datasets.resolve(str(top / name)) for name in ("mlm", "ner")}


def maybe(values):
    return st.one_of(st.none(), st.sampled_from(values))


CHANGES = st.fixed_dictionaries(
    {
        "layers": maybe([1, 2, 3, 4, 5]),
        "layer_map": st.sampled_from(["first", "last", "spread", (1, 2), (4, 1), (2,)]),
        "hidden": maybe([8, 12, 16, 32, 32, 48]),
        "heads": maybe([1, 2, 3, 4, 4, 5]),
        "intermediate": maybe([16, 48]),
        "embedding": st.one_of(st.none(), st.none(), st.sampled_from([8, 16, 40])),
        "architecture": st.sampled_from([None, None, "minialbert"]),
        "vocabulary": st.one_of(st.none(), st.none(), st.sampled_from([100, 400, 500, 1200, 40000])),
        "start": st.sampled_from(["copy", "embeddings", "random"]),
        "head": st.sampled_from(["copy", "random"]),
    }
)
RECIPES = st.sampled_from(
    [
        {"name": "distil"},
        {"name": "tiny"},
        {"name": "tiny", "exact": True},
        {"name": "compact"},
        {"name": "compact", "embedding_cosine": 1.0, "attention_kl": 0.0},
        {"name": "minilm", "relation_heads": 4},
        {"name": "minilm", "relation_heads": 3, "teacher_layer": 2},
        {"name": "minilm", "relation_heads": 4, "exact": True, "teacher_layer": 5},
        {"name": "task_kd"},
        {"name": "task_kd", "labels": 1.0, "attention_kl": 1.0},
        {"name": "task_kd", "hidden_cosine": 0.0},
    ]
)


def test_what_is_accepted_can_be_built_and_trained(folders, data, tmp_path):
    seen = Counter()

    @given(st.sampled_from(["bert", "bert", "deep", "distilbert", "minialbert"]), CHANGES, RECIPES, st.booleans())
    @settings(max_examples=80, deadline=None)
    def search(base, change, recipe, changes):
        head = "ner" if recipe["name"] == "task_kd" else "mlm"
        student = change | {"base": f"{base}-{head}"} if changes else f"{base}-{head}"
        job = spec(recipe, student, teacher=f"bert-{head}", schedule={"steps": 1, "batch_size": 2, "max_tokens": 32})
        teacher, start = folders[f"bert-{head}"], folders[f"{base}-{head}"]
        try:
            accepted = check(job, shape(teacher), shape(start))
        except BadSpec as error:
            assert all(field and problem for field, problem in error.fields)
            seen["refused"] += 1
            return
        seen["accepted"] += 1
        options = {"id": "00000000-1", "attempt": 1, "threads": 1, "device": "cpu"}
        ready = RunSpec(spec=job, model=start, teacher=teacher, dataset=data[head], **options)
        build_and_train(ready, accepted, tmp_path)

    search()
    assert min(seen["accepted"], seen["refused"]) >= 5, seen


def build_and_train(ready, accepted, cache):
    """Make the student, take a step, and compare both with what the check said of them."""
    import torch

    from trainer.training.setup import prepare

    torch.set_num_threads(1)
    setup = prepare(ready, cache=cache)
    made = sizes(setup.objective.student.config.to_dict())
    compared = ("model_type", "layers", "hidden", "embedding", "heads", "intermediate", "labels")
    assert {name: getattr(made, name) for name in compared} == {name: getattr(accepted, name) for name in compared}
    assert made.vocabulary <= accepted.vocabulary
    terms = setup.objective.train()(setup.batch_at(0))
    terms["loss"].backward()
    promised = {f"loss.{term.name}" for term in plan(ready.spec, accepted, shape(ready.teacher))}
    assert set(terms) == promised | {"loss"}
    assert all(value.isfinite() for value in terms.values())


def test_the_tables_agree():
    from trainer.models.students import FEED_FORWARD

    assert set(compatibility.RESIZABLE) == set(FEED_FORWARD) and set(compatibility.EXTENDABLE) < set(FEED_FORWARD)
    from trainer.architectures.minialbert import MiniAlbertConfig

    assert MiniAlbertConfig().reduction_factor == compatibility.REDUCTION


def test_a_published_minialbert_is_recognised_by_its_class():
    """Its config.json says bert (trap T11)."""
    config = {"model_type": "bert", "num_hidden_layers": 6, "hidden_size": 768, "num_attention_heads": 12}
    config |= {"intermediate_size": 3072, "vocab_size": 28996, "embedding_size": 312}
    assert sizes(config).model_type == "bert"
    shape = sizes(config | {"architectures": ["MiniAlbertForMaskedLM"]})
    assert (shape.model_type, shape.embedding) == ("minialbert", 312)
