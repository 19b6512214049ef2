"""Where a library renames something private, only the speed that rests on it is lost, and no number changes."""

import copy
import json
import os
import subprocess
import sys
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch
from transformers import AttentionInterface
from transformers.models.bert.modeling_bert import BertLayer
from transformers.models.mobilebert.modeling_mobilebert import MobileBertLMPredictionHead

from trainer import models
from trainer.architectures.layer_outputs import attention_of, capturing
from trainer.inference.target_score import last_layer_at
from trainer.models import heads
from trainer.zoo import entries

# Everything that minialbert, longformer and bigbird are built on is gone, and so are torch's own operators.
RENAMED = """
import json, sys, torch
from transformers import masking_utils, modeling_layers
from transformers.models.bert import modeling_bert
from transformers.models.big_bird import modeling_big_bird
from transformers.models.longformer import modeling_longformer
from transformers.utils import output_capturing

del masking_utils.create_bidirectional_mask, modeling_layers.GradientCheckpointingLayer
del output_capturing.capture_outputs
del modeling_big_bird.BigBirdLayer, modeling_longformer.LongformerLayer
namespace = type(torch.ops.aten)
look = namespace.__getattr__

def renamed(self, name):
    if name.startswith("_"):
        raise AttributeError(name)
    return look(self, name)

namespace.__getattr__ = renamed
"""
PREDICTS = """
from trainer.architectures import ARCHITECTURES, QUICK
from workbench import predict
from workbench.note import Note

prediction = predict.predict(Note("Naloxone reverses the hypotension."), sys.argv[1])
print(json.dumps([sorted(ARCHITECTURES), len(QUICK), [span.score for span in prediction.spans]]))
"""


@contextmanager
def renamed(kind: type, name: str):
    """In the block a class has another name."""
    before, kind.__name__ = kind.__name__, name
    try:
        yield
    finally:
        kind.__name__ = before


def predicted(code: str, model) -> list:
    paths = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    ended = subprocess.run([sys.executable, "-c", code, str(model)], env=paths, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr[-3000:]
    return [*json.loads(ended.stdout), ended.stderr]


@pytest.mark.slow
def test_a_bert_gives_the_same_outputs_whatever_the_libraries_rename(tiny_model):
    ours, quick, scores, _ = predicted("import json, sys\n" + PREDICTS, tiny_model)
    assert ours == ["minialbert"] and quick == 6 and scores
    ours, quick, same, log = predicted(RENAMED + PREDICTS, tiny_model)
    assert ours == [] and quick == 0 and same == pytest.approx(scores, abs=1e-6)
    assert all(name in log for name in ("minialbert", "longformer", "bigbird"))


def test_a_layer_of_another_name_is_computed_at_every_place(tiny_model):
    model, _ = models.load(str(tiny_model))
    words = torch.randn(2, 7, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        with last_layer_at(model, [2, 5]) as narrow:
            some = model(inputs_embeds=words).logits
        with renamed(BertLayer, "BertBlock"), last_layer_at(model, [2, 5]) as whole:
            every = model(inputs_embeds=words).logits
    assert narrow and not whole and every.shape[1] == 7
    torch.testing.assert_close(some, every[:, [2, 5]], rtol=0, atol=1e-6)


def test_a_mobilebert_head_of_another_name_gives_the_same_outputs():
    entry = next(each for each in entries().values() if each.architecture["model_type"] == "mobilebert")
    small = {"num_hidden_layers": 1, "vocab_size": 60}
    model = models.build(entry.model_copy(update={"architecture": entry.architecture | small}))
    ids = torch.arange(12).view(2, 6)
    labels = torch.where(ids % 3 == 0, ids, heads.IGNORED)
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}
    answers = []
    for name in ("MobileBertLMPredictionHead", "MobileBertHead"):
        network = copy.deepcopy(model)  # whether a head is narrowed is tried once per model
        with renamed(MobileBertLMPredictionHead, name), torch.no_grad():
            answers.append(heads.vocabulary_logits(heads.forward(network, batch, head="mlm").logits))
    torch.testing.assert_close(*answers, rtol=1e-4, atol=1e-4)


def test_maps_are_captured_where_the_name_of_the_attention_cannot_be_read(tiny_model):
    model, _ = models.load(str(tiny_model))
    assert attention_of(model.config) == "sdpa" in AttentionInterface() and attention_of(SimpleNamespace()) is None
    set_to = []
    network = SimpleNamespace(config=SimpleNamespace(), set_attn_implementation=set_to.append)
    with pytest.raises(Exception, match="exposes no attention of layer 1"), capturing(network, maps=[1]):
        pass
    assert set_to == ["stillroom"]
