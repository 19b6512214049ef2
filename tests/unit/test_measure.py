"""The benchmark helpers: counts checked by hand, interleaved timing, one JSON object per case."""

import json
import time
from types import SimpleNamespace

import pytest
import torch

from benchmarks import measure

CONFIG = SimpleNamespace(hidden_size=4, intermediate_size=8, num_hidden_layers=2, num_labels=3)


def test_forward_flops_are_those_of_the_products_one_by_one():
    """Two tokens, h 4, f 8: four projections, two attention products, two feed-forward products, the head."""
    layer = 4 * (2 * 2 * 4 * 4) + 2 * (2 * 2 * 2 * 4) + 2 * (2 * 2 * 4 * 8)
    assert measure.forward_flops(CONFIG, [2]) == 2 * layer + 2 * 2 * 4 * 3
    assert measure.forward_flops(CONFIG, [2, 2]) == 2 * measure.forward_flops(CONFIG, [2])
    assert measure.forward_flops(CONFIG, [4]) > 2 * measure.forward_flops(CONFIG, [2])  # attention is quadratic
    assert measure.training_flops(CONFIG, [2]) == 3 * measure.forward_flops(CONFIG, [2])


def test_forward_flops_equal_what_torch_counts(tiny_model):
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import AutoModelForTokenClassification

    model = AutoModelForTokenClassification.from_pretrained(tiny_model, attn_implementation="eager").eval()
    ids = torch.ones(1, 7, dtype=torch.long)
    with torch.inference_mode(), FlopCounterMode(display=False) as counted:
        model(input_ids=ids, attention_mask=ids)
    assert measure.forward_flops(model.config, [7]) == counted.get_total_flops()


def test_the_peak_is_a_rate_and_leaves_the_threads_as_they_were():
    before = torch.get_num_threads()
    peak = measure.matrix_peak(threads=1, shapes=[(64, 64, 64)], seconds=0.02)
    assert 1e7 < peak < 1e14
    assert torch.get_num_threads() == before


def test_interleaved_gives_the_median_of_each_side_and_runs_them_in_turn():
    order = []
    waits = {"ours": iter([0, 0, 0.02, 0.2]), "peer": iter([0, 0.05, 0.05, 0.05])}

    def side(name):
        def run():
            order.append(name)
            time.sleep(next(waits[name]))

        return run

    medians = measure.interleaved({name: side(name) for name in waits}, rounds=3)
    assert medians["ours"] == pytest.approx(0.02, abs=0.015)
    assert medians["peer"] == pytest.approx(0.05, abs=0.04)
    rounds = [order[i : i + 2] for i in range(0, len(order), 2)]
    assert all(later == earlier[::-1] for earlier, later in zip(rounds, rounds[1:], strict=False))


def test_show_prints_one_json_object_per_line(capsys):
    cases = [{"name": "a", "ours": 1.0, "ratio": 2.0}, {"name": "b", "ours": 2.0, "ratio": None}]
    measure.show(cases, as_json=True)
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == cases
    measure.show(cases, as_json=False)
    assert "ratio" in capsys.readouterr().out
