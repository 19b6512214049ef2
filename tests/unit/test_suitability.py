"""Which models are accepted: those whose answer for a text does not depend on longer texts in the batch."""

import known_models as known
import numpy as np
import pytest
import torch
import transformers
from families import small_config, small_tokenizer
from tokenizers.processors import TemplateProcessing

from trainer import inference, models
from trainer.errors import CorruptFile, Unavailable

LABELS = {0: "no", 1: "yes", 2: "perhaps"}
TEXTS = ["a b c d e f g h a b c d", "a", "c d e", "h g f e d"]


@pytest.fixture
def saved(tmp_path):
    """saved(class, kind, ...): a folder with a tiny random model of that class, far from uniform."""

    def save(cls, kind, tokenizer=None, noise=0.3, **options):
        config = small_config(kind, **options)
        config.id2label, config.label2id = LABELS, {label: number for number, label in LABELS.items()}
        with models.seeded(0):
            network = getattr(transformers, cls)(config)
            with torch.no_grad():
                for parameter in network.parameters():
                    parameter.add_(torch.randn_like(parameter) * noise)
        network.save_pretrained(tmp_path / "model")
        (tokenizer or small_tokenizer()).save_pretrained(tmp_path / "model")
        return str(tmp_path / "model")

    return save


def assert_alike_alone_and_together(reference):
    model, tokenizer = models.load(reference)
    together = inference.classify(TEXTS, model, tokenizer, batch_tokens=9999).probabilities
    alone = np.concatenate([inference.classify([text], model, tokenizer).probabilities for text in TEXTS])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert np.ptp(together, axis=0).max() > 0.01, "the texts have other answers"


@pytest.mark.parametrize("kind", ["bert", "deberta", "deberta-v2", "electra", "mpnet"])
def test_encoders_answer_alike_alone_and_together(saved, kind):
    name = {"bert": "Bert", "deberta": "Deberta", "deberta-v2": "DebertaV2", "electra": "Electra", "mpnet": "MPNet"}
    assert_alike_alone_and_together(saved(f"{name[kind]}ForSequenceClassification", kind))


def test_a_decoder_that_knows_its_padding_answers_alike_alone_and_together(saved):
    assert_alike_alone_and_together(saved("GPT2ForSequenceClassification", "gpt2"))


def test_a_decoder_that_pads_with_another_token_than_its_tokenizer_is_refused(saved):
    folder = saved("GPT2ForSequenceClassification", "gpt2", small_tokenizer(pad_token=None), pad_token_id=2)
    with pytest.raises(Unavailable, match="next to a longer one.*pad_token_id 2, but its tokenizer pads with 0"):
        models.load(folder)


def test_a_decoder_without_padding_is_refused(saved):
    folder = saved("GPT2ForSequenceClassification", "gpt2", pad_token_id=None)
    with pytest.raises(Unavailable, match="texts of different lengths in one batch"):
        models.load(folder)


@pytest.mark.parametrize(
    ("cls", "kind", "reason"),
    [
        ("XLNetForSequenceClassification", "xlnet", "reads padding as text"),
        ("CanineForSequenceClassification", "canine", "reads padding as text"),
        ("FunnelForTokenClassification", "funnel", "reads padding as text"),
        ("BartForSequenceClassification", "bart", "an encoder and a decoder"),
        ("LayoutLMForTokenClassification", "layoutlm", "the position of each word on a page"),
    ],
)
def test_what_is_not_read_is_said_at_loading(saved, cls, kind, reason):
    with pytest.raises(Unavailable, match=reason) as refusal:
        models.load(saved(cls, kind))
    assert cls in refusal.value.message and refusal.value.next_step


def test_token_types_that_would_change_the_answer_are_not_left_out_in_silence(saved):
    """Funnel's own tokenizer, for one, gives its first token the type 2."""
    tokenizer = small_tokenizer(model_input_names=["input_ids", "token_type_ids", "attention_mask"])
    assert any(tokenizer("a")["token_type_ids"]) is False
    models.load(saved("BertForTokenClassification", "bert", tokenizer))
    backend = tokenizer.backend_tokenizer
    backend.post_processor = TemplateProcessing(
        single="[CLS]:1 $A:0 [SEP]:0", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    with pytest.raises(Unavailable, match="token types"):
        models.load(saved("BertForTokenClassification", "bert", tokenizer))


def test_a_mobilebert_sees_nothing_past_the_end_of_a_text(saved):
    """Its embeddings take in their neighbours, and published files hold a row of numbers for padding."""
    assert_alike_alone_and_together(saved("MobileBertForSequenceClassification", "mobilebert", noise=0.15))


def test_a_fresh_head_is_fresh_whatever_its_layers_are_called(saved):
    """GPT2's is `score`: as many labels of other names must not start from the old ones' weights."""
    folder = saved("GPT2ForSequenceClassification", "gpt2")
    before = models.load(folder)[0].score.weight.detach()
    fresh, again, other = (
        models.load(folder, task="classification", labels=["x", "y", "z"], seed=seed)[0].score.weight.detach()
        for seed in (0, 0, 1)
    )
    assert torch.equal(fresh, again) and not torch.equal(fresh, other)
    assert float(fresh.abs().max()) < 0.1 < float(before.abs().max())


@pytest.mark.parametrize(
    "fault",
    [
        {"num_attention_heads": 5},
        {"num_attention_heads": 0},
        {"hidden_size": -1},
        {"hidden_act": "none such"},
        {"pad_token_id": 10**6},
        {"hidden_dropout_prob": 7},
        {"num_hidden_layers": 0},
        {"document_reading": "windows"},
        {"document_reading": {"max_tokens": "many"}},
    ],
    ids=str,
)
def test_a_config_that_no_network_or_other_weights_can_have_is_one_error(tmp_path, fault):
    folder = known.edit(known.tagger(tmp_path / "m", {}, ["O", "B-X", "I-X"]), **fault)
    with pytest.raises(CorruptFile, match=r"config\.json") as caught:
        models.load(str(folder))
    assert caught.value.next_step
    with pytest.raises(Unavailable, match="architecture"):
        models.load(str(known.edit(folder, model_type=["bert"])))


def test_how_a_computation_is_cut_into_parts_changes_no_answer(tmp_path):
    folder = known.tagger(tmp_path / "m", {"aspirin": "B-X"}, ["O", "B-X", "I-X"])
    spans = inference.predict("aspirin for asthma", *models.load(str(folder)), name="m").spans
    known.edit(folder, chunk_size_feed_forward=4)
    assert inference.predict("aspirin for asthma", *models.load(str(folder)), name="m").spans == spans != ()
