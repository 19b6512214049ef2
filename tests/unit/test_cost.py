"""The cost of a model: what is timed is a text of exactly that length, and what is counted is what the model has."""

import time
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from trainer.datasets.rows.pieces import cut
from trainer.evaluation import cost


@pytest.fixture
def tokenizer(tiny_model):
    return AutoTokenizer.from_pretrained(tiny_model)


def test_costs_are_those_of_one_pass_and_of_single_items(tmp_path):
    model, read = torch.nn.Linear(3, 5), []

    def read_all() -> str:
        time.sleep(0.05)
        return "outputs"

    outputs, measured = cost.measure(model, read_all, pieces=lambda _: 100, read_one=read.append, count=7)
    assert outputs == "outputs" and sorted(set(read)) == list(range(7)) and len(read) == 8, "one is a warm-up"
    assert measured["params"] == 20 and measured["disk_bytes"] == 80
    assert 500 < measured["tokens_per_second"] < 2000
    assert 0 <= measured["latency_ms_p50"] <= measured["latency_ms_p95"] and measured["peak_memory_bytes"] > 50e6
    (tmp_path / "model.safetensors").write_bytes(b"12345")
    assert cost.weight_bytes(model, tmp_path) == 5


@pytest.mark.parametrize("texts", [["a b c"], ["a", "", "b c d e f g h " * 40], ["a b " * 3000]])
def test_texts_of_a_length_have_that_many_word_pieces(texts, tokenizer):
    read: list[str] = []
    latencies = cost.by_length(read.append, texts, tokenizer, lengths=(600, 8, 32))
    assert list(latencies) == [f"latency_ms_p{p}_at_{length}" for length in (8, 32, 600) for p in (50, 95)]
    assert [len(cut(text, tokenizer).ids) for text in dict.fromkeys(read)] == [8, 32, 600]


def test_a_slow_model_is_timed_three_times(tokenizer):
    read: list[str] = []
    latencies = cost.by_length(lambda text: (time.sleep(0.11), read.append(text)), ["a b"], tokenizer, lengths=(2,))
    assert len(read) == cost.FEWEST_ROUNDS and latencies["latency_ms_p50_at_2"] > 100


def test_texts_without_a_word_have_no_latency(tokenizer):
    assert cost.by_length(Path, ["", " "], tokenizer) == {}
