"""Long models through whole runs: lengthened and trained, scored at every length, taught from, fine-tuned."""

import json
import math

import pytest
import torch
from transformers import (
    AutoTokenizer,
    BigBirdConfig,
    BigBirdForMaskedLM,
    ModernBertConfig,
    ModernBertForMaskedLM,
    UltrabertConfig,
    UltrabertForMaskedLM,
)

from trainer import datasets, inference, models, zoo
from trainer.execute import FINISHED, execute
from trainer.models import seeded
from trainer.run import Run, RunSpec
from trainer.spec import parse

SHORT = {"steps": 2, "batch_size": 2, "lr": 1e-3}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """run(spec fields...) -> the folder of the model that it makes, and its result."""
    folder, count = tmp_path_factory.mktemp("runs"), iter(range(1, 100))

    def go(**fields):
        spec = parse(fields)
        resolved = {
            "model": zoo.resolve(spec.start),
            "teacher": zoo.resolve(spec.teacher) if spec.teacher else None,
            "dataset": datasets.resolve(spec.dataset),
        }
        ready = RunSpec(id=f"00000000-{next(count)}", attempt=1, spec=spec, threads=1, device="cpu", **resolved)
        made = Run.create(folder, ready)
        torch.set_num_threads(1)
        assert execute(made.folder) == FINISHED, made.result.error
        steps = [event["metrics"] for event in made.events()[0] if event["event"] == "step"]
        assert all(math.isfinite(value) for metrics in steps for value in metrics.values())
        assert len(steps) == (0 if spec.kind == "evaluate" else 2)
        return made.folder / (made.result.artifact or ""), made.result

    return go


@pytest.fixture(scope="module")
def long(run, tiny_model):
    """tiny_model lengthened to 300 word pieces and trained for two steps on rows of as many."""
    folder, _ = run(
        kind="pretrain",
        model={"base": str(tiny_model), "max_tokens": 300, "attention": "sliding_window", "window": 64},
        dataset="clinical-text-slice",
        limit=8,
        schedule=SHORT | {"max_tokens": 300},
    )
    return folder


def test_a_lengthened_model_is_trained_on_rows_longer_than_its_base_could_read(long):
    model, tokenizer = models.load(str(long))
    assert type(model).__name__ == "LongformerForMaskedLM" and inference.model_limit(model, tokenizer) == 300
    assert model.config.attention_window == [64, 64]
    assert json.loads((long / "config.json").read_text())["model_type"] == "longformer"


def test_one_model_is_scored_at_every_length(run, long):
    def score(most):
        schedule = {"max_tokens": most, "batch_tokens": 512}
        task = {"kind": "evaluate", "task": "mlm", "dataset": "clinical-text-slice", "limit": 8}
        return run(model=str(long), schedule=schedule, **task)[1].metrics

    metrics_by_length = {most: score(most) for most in (32, 128, 300)}
    assert len({metrics["perplexity"] for metrics in metrics_by_length.values()}) == 3
    assert all(1 < metrics["perplexity"] < 1e6 for metrics in metrics_by_length.values())


def test_a_lengthened_teacher_teaches_a_student(run, long):
    folder, _ = run(
        kind="distill",
        teacher=str(long),
        student={"layers": 1},
        recipe="distil",
        dataset="clinical-text-slice",
        limit=6,
        schedule=SHORT | {"max_tokens": 200},
    )
    student, tokenizer = models.load(str(folder))
    assert (student.config.model_type, student.config.num_hidden_layers) == ("longformer", 1)
    assert inference.model_limit(student, tokenizer) == 300


FAMILIES = {
    "big_bird": (BigBirdForMaskedLM, BigBirdConfig, {"block_size": 8, "num_random_blocks": 1, "sep_token_id": 102}),
    "modernbert": (
        ModernBertForMaskedLM,
        ModernBertConfig,
        {"local_attention": 16, "pad_token_id": 0, "bos_token_id": 101, "cls_token_id": 101}
        | {"eos_token_id": 102, "sep_token_id": 102},
    ),
    "ultrabert": (
        UltrabertForMaskedLM,
        UltrabertConfig,
        {"sliding_window": 8, "prediction_head_size": 24, "pad_token_id": 0, "bos_token_id": 101, "eos_token_id": 102},
    ),
}
SIZES = {
    "vocab_size": 30522,
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 128,
}


@pytest.fixture(scope="module", params=FAMILIES)
def family(request, tiny_model, tmp_path_factory):
    """A folder with a tiny masked LM of a family, with random weights."""
    kind, config, options = FAMILIES[request.param]
    with seeded(0):
        model = kind(config(**SIZES | options))
    folder = tmp_path_factory.mktemp(request.param) / "model"
    models.save(model, AutoTokenizer.from_pretrained(tiny_model), folder)
    return folder


@pytest.mark.slow
def test_other_long_families_learn_to_fill_gaps(run, family):
    schedule = SHORT | {"max_tokens": 128}
    folder, result = run(kind="pretrain", model=str(family), dataset="clinical-text-slice", limit=6, schedule=schedule)
    model, _ = models.load(str(folder))
    assert model.config.model_type == json.loads((family / "config.json").read_text())["model_type"]
    assert "test_accuracy" in result.metrics


def test_other_long_families_learn_to_tag_and_read_more_than_their_window(run, family):
    folder, result = run(
        kind="finetune",
        model=str(family),
        dataset="ncbi-disease-slice",
        limit=8,
        schedule=SHORT | {"max_tokens": 128},
    )
    model, tokenizer = models.load(str(folder))
    prediction = inference.predict("renal failure and fever " * 100, model, tokenizer, name="m")
    assert prediction.coverage.windows > 1 and prediction.coverage.tokens_read == prediction.coverage.tokens >= 400
    assert "test_f1" in result.metrics


@pytest.mark.parametrize("named", ["ModernBertForMaskedLM", None])
def test_a_modernbert_whose_config_says_bert_is_loaded_as_what_the_zoo_says(home, tiny_model, named):
    """As Clinical ModernBERT is published; without its class in the config only the zoo knows."""
    kind, config, options = FAMILIES["modernbert"]
    folder = home / "models" / "clinical-modernbert"
    with seeded(0):
        model = kind(config(**SIZES | options)).eval()
    models.save(model, AutoTokenizer.from_pretrained(tiny_model), folder)
    written = json.loads((folder / "config.json").read_text()) | {"model_type": "bert"}
    if named is None:
        written["architectures"] = ["BertForMaskedLM"]
    (folder / "config.json").write_text(json.dumps(written))
    loaded, tokenizer = models.load("clinical-modernbert")
    ids = torch.randint(5, 1000, (1, 40))
    with torch.no_grad():
        assert torch.equal(loaded(ids).logits, model(ids).logits)
    assert loaded.config.model_type == "modernbert" and tokenizer.model_max_length == 8192
    if named:
        assert models.load(str(folder))[0].config.model_type == "modernbert", "its class is enough"
