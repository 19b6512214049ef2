"""Model folders with known answers: the layers add nothing, and a table gives the tag of each word."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from transformers import BertConfig, BertForSequenceClassification, BertForTokenClassification

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
WORDS = ("aspirin", "warfarin", "asthma", "lung", "cancer", "fever", "for", "and", ",", ".")
HIDDEN = 24  # at least as many as there are labels
SHAPE = {
    "hidden_size": HIDDEN,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "intermediate_size": 8,
    "vocab_size": len(SPECIAL) + len(WORDS),
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}


def tagger(folder: Path, tags: Mapping[str, str], labels: Sequence[str], *, outside: str = "O", **config) -> Path:
    """A tagger that gives each word of WORDS its tag, or `outside`; config: other fields of its config.json."""
    model = _silent(BertForTokenClassification(_config(labels)))
    table = model.bert.embeddings.word_embeddings.weight
    for number, word in enumerate(WORDS, len(SPECIAL)):
        table[number, labels.index(tags.get(word, outside))] = 9.0
    model.classifier.weight[:, : len(labels)] = torch.eye(len(labels)) * 4
    return _save(model, folder, config)


def classifier(folder: Path, biases: Sequence[float], labels: Sequence[str], **config) -> Path:
    """A classifier whose outputs are `biases`, whatever the text."""
    model = _silent(BertForSequenceClassification(_config(labels)))
    model.classifier.bias.copy_(torch.tensor(biases))
    return _save(model, folder, config)


def edit(folder: Path, **fields: object) -> Path:
    """Change fields of config.json; None deletes one."""
    path = folder / "config.json"
    config = json.loads(path.read_text()) | fields
    path.write_text(json.dumps({name: value for name, value in config.items() if value is not None}))
    return folder


def _config(labels: Sequence[str]) -> BertConfig:
    return BertConfig(**SHAPE, id2label=dict(enumerate(labels)), label2id={name: i for i, name in enumerate(labels)})


def _silent(model: torch.nn.Module) -> torch.nn.Module:
    torch.set_grad_enabled(False)
    for name, parameter in model.named_parameters():
        parameter.fill_(1.0 if "LayerNorm.weight" in name else 0.0)
    torch.set_grad_enabled(True)
    return model.requires_grad_(False)


def _save(model: torch.nn.Module, folder: Path, config: Mapping) -> Path:
    model.requires_grad_(True).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join((*SPECIAL, *WORDS)) + "\n")
    return edit(folder, **config)
