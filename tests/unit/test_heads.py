"""What trains is the model's own forward pass: for every (architecture, head) that transformers' Auto classes can load.

Each ends as equal, or as refused with its reason; none is left out.
"""

import pytest
import torch
from families import FAMILIES, small_config, small_tokenizer
from transformers import (
    MODEL_FOR_MASKED_LM_MAPPING,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING,
)
from transformers.models.auto import modeling_auto

from trainer import models
from trainer.architectures import global_attention
from trainer.architectures.layer_outputs import capturing, quicken_attention
from trainer.errors import Unavailable
from trainer.inference.target_score import Probe, Score
from trainer.models import heads, suitability
from trainer.recipes.terms import Term
from trainer.training.objective import Objective

HEADS = {
    "ner": ("TOKEN_CLASSIFICATION", MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING),
    "classification": ("SEQUENCE_CLASSIFICATION", MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING),
    "mlm": ("MASKED_LM", MODEL_FOR_MASKED_LM_MAPPING),
}
MEMBERS = [
    (head, kind)
    for head, (name, _) in HEADS.items()
    for kind in ("minialbert", *getattr(modeling_auto, f"MODEL_FOR_{name}_MAPPING_NAMES"))
]
# Encoders of text that let padding into their answers: their convolutions, Fourier transforms, pools and landmarks run
# over it, or (XLNet) their head reads the last place of the batch.
PADDING_COUNTS = {"canine", "convbert", "fnet", "funnel", "nystromformer", "yoso"}
LEARNT = {"bert", "mobilebert", "modernbert", "deberta", "deberta-v2", "canine", "xlnet", "funnel", "esm"}


def members(*names: str) -> list:
    """Each head (all, or those of `names`) with each architecture that has it; architectures seldom used are slow."""
    return [
        (head, kind) if kind in FAMILIES or kind in LEARNT else pytest.param(head, kind, marks=pytest.mark.slow)
        for head, kind in MEMBERS
        if not names or head in names
    ]


FAST = {"albert", "bert", "big_bird", "deberta", "distilbert", "longformer", "minialbert", "mobilebert", "modernbert"}
FAST |= {"roberta", "ultrabert"}


def network_of(head, kind, **options):
    """A tiny model, its biases and norms random too: fresh ones would hide a step that is left out."""
    config = small_config(kind, **options)
    config.num_labels = 5
    if head == "ner":
        config.id2label = dict(enumerate(("O", "B-Drug", "I-Drug", "B-Disease", "I-Disease")))
    cls = HEADS[head][1][type(config)]
    suitability.check_class(cls, config)
    with models.seeded(0):
        network = cls(config).eval()
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.05)
            if kind == "mobilebert":  # whose embeddings look at their neighbours: models.load sees to this
                network.get_input_embeddings().weight[config.pad_token_id] = 0
    return network


def batch_of(head, *, padded=True):
    """Two rows, the second shorter; of documents the two windows of one."""
    ids = torch.tensor([[1, 10, 11, 12, 13, 14, 2], [1, 10, 11, 12, 2, *([0, 0] if padded else [15, 2])]])
    batch = {"input_ids": ids, "attention_mask": (ids != 0).long()}
    if head == "classification":
        return batch | {"owners": torch.tensor([0, 0]), "documents": torch.tensor([7]), "labels": torch.tensor([3])}
    labels = torch.full_like(ids, heads.IGNORED)
    labels[0, 2], labels[0, 5], labels[1, 1] = 3, 1, 4
    return batch | {"labels": labels}


def whole(network, batch):
    """The logits of the model's own forward pass at what counts."""
    ids, owners = batch["input_ids"], "owners" in batch
    more = global_attention(network, {"input_ids": ids}, "classification" if owners else "ner")
    logits = network(input_ids=ids, attention_mask=batch["attention_mask"], **more).logits
    return logits.mean(0, keepdim=True) if owners else logits[batch["labels"] != heads.IGNORED]


def close(one, other):
    return torch.allclose(one, other, rtol=1e-5, atol=1e-5 * max(1.0, float(other.abs().max())))


@pytest.mark.parametrize(("head", "kind"), members())
def test_every_head_trains_as_it_is_read_or_is_refused(head, kind):
    try:
        network = network_of(head, kind)
    except Unavailable as refusal:
        assert refusal.message and refusal.next_step
        assert kind not in suitability.TESTED
        return
    for padded in (True, False):
        batch = batch_of(head, padded=padded)
        with torch.no_grad():
            expected = whole(network, batch)
            output = heads.forward(network, batch, head=head)
            assert close(heads.vocabulary_logits(output.logits), expected)
            # As an objective has it, with our attention, and with maps where it has plain ones.
            quicken_attention(network)
            assert close(heads.vocabulary_logits(heads.forward(network, batch, head=head).logits), expected)
            _check_maps(network, batch, expected)
    if kind in FAST and head != "classification":
        assert heads.narrows(network, head), "only what counts is computed"
    _check_alone_and_beside(network, head, kind)


def _check_maps(network, batch, expected):
    layers = range(1, network.config.num_hidden_layers + 1)
    before = network.config._attn_implementation
    try:
        with capturing(network, maps=layers) as seen:
            output = whole(network, batch)
    except (Unavailable, ValueError, AttributeError):
        return  # said by Probe.attention and by the objective
    finally:
        network.set_attn_implementation(before)
    assert close(output, expected)
    assert all(torch.allclose(each.sum(-1), torch.ones(()), atol=1e-4) for each in seen.maps.values())


def _check_alone_and_beside(network, head, kind):
    batch = batch_of(head)
    tensors = {name: batch[name] for name in ("input_ids", "attention_mask")}
    alone = {name: value[1:, :5] for name, value in tensors.items()}
    with torch.no_grad():
        logits = network(**heads.inputs(network, tensors)).logits[1:]
        difference = suitability.largest_difference(network(**heads.inputs(network, alone)).logits, logits[:, :5])
    try:
        suitability.check_answers(network, small_tokenizer())
    except Unavailable as refusal:
        assert kind in PADDING_COUNTS or (head, kind) == ("classification", "xlnet")
        assert "next to a longer one" in refusal.message
    else:
        assert not difference and kind not in PADDING_COUNTS


@pytest.mark.parametrize(("head", "kind"), [(head, kind) for head, kind in MEMBERS if kind in LEARNT])
def test_gradients_are_those_of_the_models_own_forward_pass(head, kind):
    network = network_of(head, kind)
    batch = batch_of(head)
    labels = batch["labels"][batch["labels"] != heads.IGNORED]
    torch.nn.functional.cross_entropy(whole(network, batch), labels).backward()
    expected = {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}
    network.zero_grad()
    objective = Objective(network, [Term(name="mlm" if head == "mlm" else "task", weight=1.0)], head=head).eval()
    objective(batch)["loss"].backward()
    gradients = {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
    assert gradients.keys() == expected.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize(("head", "kind"), members("ner", "classification"))
def test_what_is_explained_is_the_models_own_answer_or_is_refused(head, kind):
    try:
        network = network_of(head, kind)
    except Unavailable:
        return  # not loaded at all
    ids, places = [5, 10, 11, 12, 13, 2], [0] if head == "classification" else [2, 4]
    about = {"before": 1, "free": [True] * 4, "places": places, "score": Score.of([0], range(5)), "baseline_id": 4}
    try:
        probe = Probe(network, ids, **about)
    except Unavailable as refusal:
        assert "word embeddings" in refusal.message and kind not in suitability.TESTED
        return
    row = torch.tensor([ids])
    with torch.no_grad():
        whole_row = network(**heads.inputs(network, {"input_ids": row, "attention_mask": torch.ones_like(row)})).logits
    expected = whole_row[:, None] if head == "classification" else whole_row[:, places]
    with probe._ready():
        assert close(probe.logits(probe.words[None]), expected)
