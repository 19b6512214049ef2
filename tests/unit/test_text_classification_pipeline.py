"""Document labels beside transformers' text-classification pipeline, for each architecture and tokenizer of the zoo."""

import pytest
import torch
from families import small_config
from tokenizers_of_the_zoo import KINDS, tokenizer_of
from transformers import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING, pipeline

from trainer import inference, models
from trainer.zoo import entries

ARCHITECTURES = sorted({entry.architecture["model_type"] for entry in entries().values() if not entry.cannot_build})
LABELS = ("absent", "present", "unknown")
TEXTS = (
    "aspirin for chest pain",
    "PLAN:\n1. aspirin\n2. asthma/fever\n",
    "\tNo fever,  no pain (yet); see http://example.org/a-b.\r\n",
    "naïve café 37°C, 25mg/kg 🫀",
    "患者は胸痛を訴えた。 ปวดหัวมาก المريض",
)


def classifier(kind, tokenizer, problem):
    options = {"vocab_size": len(tokenizer), "max_position_embeddings": 300, "pad_token_id": tokenizer.pad_token_id}
    config = small_config(kind, **options, num_labels=len(LABELS), problem_type=problem)
    config.id2label = dict(enumerate(LABELS))
    with models.seeded(0):
        model = MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING[type(config)](config).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.2)
            if kind == "mobilebert":  # as models.load does
                model.get_input_embeddings().weight[config.pad_token_id] = 0
    return model


@pytest.mark.parametrize("problem", ["single_label_classification", "multi_label_classification"])
@pytest.mark.parametrize("tokenizer", KINDS)
@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_probabilities_are_those_of_the_pipeline(kind, tokenizer, problem):
    tokenizer = tokenizer_of(tokenizer)
    model = classifier(kind, tokenizer, problem)
    theirs = pipeline("text-classification", model=model, tokenizer=tokenizer, top_k=None)(list(TEXTS))
    mine = inference.predict_many(TEXTS, model, tokenizer, name="model")
    for expected, prediction in zip(theirs, mine, strict=True):
        assert prediction.coverage.windows == 1
        scores = {label.label: label.score for label in prediction.labels}
        assert scores == pytest.approx({each["label"]: each["score"] for each in expected}, abs=1e-5)
        assert [label.label for label in prediction.labels] == sorted(scores, key=scores.get, reverse=True)


def test_a_text_without_pieces_has_no_label_where_the_pipeline_gives_one():
    """On purpose: the pipeline then reads the special tokens alone, and says something of a note that says nothing."""
    tokenizer = tokenizer_of("wordpiece uncased")
    model = classifier("bert", tokenizer, "single_label_classification")
    assert pipeline("text-classification", model=model, tokenizer=tokenizer)("  ")[0]["label"] in LABELS
    assert inference.predict("  ", model, tokenizer, name="model").labels == ()
