"""How far a token sees, in numbers and words, from a config alone."""

import json
import subprocess
import sys

import pytest
from transformers import BertConfig, BigBirdConfig, DistilBertConfig, LongformerConfig, ModernBertConfig

from trainer.zoo.attention_pattern import reach


@pytest.mark.parametrize(
    ("config", "head", "numbers", "words"),
    [
        (LongformerConfig(attention_window=[512] * 12), "classification", (256, 1, 0, 3072),
         "each token sees 256 on either side and 1 global token; 12 layers reach 3,072"),
        (LongformerConfig(attention_window=128, num_hidden_layers=6), "ner", (64, 0, 0, 384),
         "each token sees 64 on either side; 6 layers reach 384"),
        (LongformerConfig(attention_window=[64, 32], num_hidden_layers=2), "mlm", (16, 0, 0, 48),
         "each token sees 16 on either side; 2 layers reach 48"),
        (BigBirdConfig(), "ner", (64, 128, 0, 768),
         "each token sees 64 on either side and 128 global tokens; 12 layers reach 768; "
         "an input of up to 704 is seen whole"),
        (BigBirdConfig(seeded_blocks=True), "ner", (64, 128, 192, 768),
         "each token sees 64 on either side, 128 global tokens and 192 elsewhere; 12 layers reach 768; "
         "an input of up to 704 is seen whole"),
        (ModernBertConfig(), "ner", (64, 0, 0, None),
         "each token sees 64 on either side; every third of 22 layers sees the whole input"),
        (BertConfig(), "ner", (None, 0, 0, None), "each token sees the whole input in each of 12 layers"),
        (DistilBertConfig(), "ner", (None, 0, 0, None), "each token sees the whole input in each of 6 layers"),
        (BigBirdConfig(attention_type="original_full"), "ner", (None, 0, 0, None),
         "each token sees the whole input in each of 12 layers"),
    ],
)  # fmt: skip
def test_numbers_and_words(config, head, numbers, words):
    limit = reach(config.to_dict(), head=head)
    assert (limit.side, limit.shared, limit.drawn, limit.through) == numbers
    assert limit.words == words


def test_it_needs_no_torch():
    code = "import sys, trainer.zoo.attention_pattern; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_it_reads_a_config_file(tmp_path):
    ModernBertConfig(num_hidden_layers=4, global_attn_every_n_layers=2, local_attention=32).save_pretrained(tmp_path)
    limit = reach(json.loads((tmp_path / "config.json").read_text()))
    assert limit.words == "each token sees 16 on either side; every second of 4 layers sees the whole input"


@pytest.mark.parametrize("config", [LongformerConfig, BigBirdConfig, ModernBertConfig])
def test_layers_that_a_config_leaves_out_are_those_of_its_class(config):
    assert reach({"model_type": config.model_type}).layers == config().num_hidden_layers
