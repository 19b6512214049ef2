"""Tiny teachers and students with random weights, and batches for them: what tests of distillation share."""

import torch
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
)

from trainer.models import seeded
from trainer.zoo.outputs import ENDS

VOCABULARY, MASK_ID, IGNORED = 50, 4, -100
TAGS = ("O", "B-Disease", "I-Disease")
KINDS = {
    "mlm": BertForMaskedLM,
    "ner": BertForTokenClassification,
    "classification": BertForSequenceClassification,
    "several labels": BertForSequenceClassification,
    "questions": BertForQuestionAnswering,
}


def bert(head="mlm", *, layers, hidden=24, heads=4, seed=0, dropout=0.1, vocabulary=VOCABULARY):
    """A BERT whose weights are large enough that attention and predictions are far from uniform."""
    names = ENDS if head == "questions" else TAGS
    config = BertConfig(
        vocab_size=vocabulary,
        num_hidden_layers=layers,
        hidden_size=hidden,
        num_attention_heads=heads,
        intermediate_size=2 * hidden,
        max_position_embeddings=40,
        initializer_range=0.2,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        id2label=dict(enumerate(names)),
        label2id={name: number for number, name in enumerate(names)},
    )
    if head == "several labels":
        config.problem_type = "multi_label_classification"
    with seeded(seed):
        return KINDS[head](config).eval()


def batch(head="mlm", *, rows=4, tokens=9, padded=True, seed=0):
    """input_ids, attention_mask and labels, each (rows, tokens): every third place masked, or every second tagged.

    Of documents the first two rows are windows of one, and the labels are those of the documents; of questions each row
    is a window whose answer is in its second half.
    """
    noise = torch.Generator().manual_seed(seed)
    ids = torch.randint(5, VOCABULARY, (rows, tokens), generator=noise)
    lengths = torch.tensor([tokens - 2 * row if padded else tokens for row in range(rows)]).clamp(min=3)
    mask = (torch.arange(tokens) < lengths[:, None]).long()
    ids[mask == 0] = 0
    if head in ("classification", "several labels"):
        documents = rows - 1
        owners = torch.tensor([0, *range(documents)])
        drawn = torch.randint(0, len(TAGS), (documents,), generator=noise)
        labels = drawn if head == "classification" else torch.rand(documents, len(TAGS), generator=noise).round()
        documents_batch = {"input_ids": ids, "attention_mask": mask, "labels": labels, "owners": owners}
        return documents_batch | {"documents": torch.arange(documents)}
    if head == "questions":
        allowed = mask.bool() & (torch.arange(tokens) != 1)  # the first token and the text, without the question
        ends = torch.stack([(lengths // 2).clamp(min=2), lengths - 1], dim=1)
        return {"input_ids": ids, "attention_mask": mask, "allowed": allowed, "labels": ends}
    chosen = (torch.arange(tokens) % (3 if head == "mlm" else 2) == 1) & mask.bool()
    if head == "mlm":
        labels = torch.where(chosen, ids, IGNORED)
        return {"input_ids": ids.masked_fill(chosen, MASK_ID), "attention_mask": mask, "labels": labels}
    tags = torch.randint(0, len(TAGS), (rows, tokens), generator=noise)
    return {"input_ids": ids, "attention_mask": mask, "labels": torch.where(chosen, tags, IGNORED)}
