"""The model cache: bounded by bytes, and refuses what does not fit into memory."""

import json
import shutil
from pathlib import Path

import psutil
import pytest

from trainer import models, zoo
from trainer.errors import BadSpec, Unavailable
from trainer.zoo import weights
from workbench import model_cache
from workbench.model_cache import ModelCache, free_bytes, limit_bytes, size_bytes


@pytest.fixture
def resolved(tiny_model, tmp_path):
    """Three models of one size, by letter."""
    for letter in "abc":
        shutil.copytree(tiny_model, tmp_path / letter)
    return {letter: zoo.resolve(str(tmp_path / letter)) for letter in "abc"}


@pytest.fixture
def loads(monkeypatch):
    """What is really loaded, letter by letter."""
    loaded, load = [], models.load
    monkeypatch.setattr(models, "load", lambda model: loaded.append(model.path[-1]) or load(model))
    return loaded


def test_what_a_folder_takes_is_what_the_loaded_model_takes(resolved):
    network, _ = models.load(resolved["a"])
    buffers = sum(each.numel() * each.element_size() for each in network.buffers())
    assert weights.loaded_bytes(Path(resolved["a"].path)) == size_bytes(network) - buffers > 1_000_000


def test_the_least_recently_used_models_leave_when_bytes_run_out(resolved, loads):
    one = size_bytes(models.load(resolved["a"])[0])
    loads.clear()
    cache = ModelCache(limit_bytes=2 * one + 100)
    for letter in "aabacab":
        cache.load(resolved[letter])
    assert "".join(loads) == "abcb"


def test_a_model_larger_than_the_limit_is_kept_alone(resolved, loads):
    cache = ModelCache(limit_bytes=10)
    for letter in "aaba":
        assert cache.load(resolved[letter])[0].config.model_type == "bert"
    assert "".join(loads) == "aba"


def test_a_model_that_does_not_fit_is_refused_with_sizes_after_all_others_left(resolved, loads, monkeypatch):
    cache = ModelCache(limit_bytes=2**40)
    cache.load(resolved["a"])
    with monkeypatch.context() as full:
        full.setattr(model_cache, "free_bytes", lambda: 3 * 2**20)
        with pytest.raises(Unavailable, match=r"needs \d+ MB of memory; 3 MB is free"):
            cache.load(resolved["b"])
    cache.load(resolved["a"])
    assert "".join(loads) == "aa"  # it went, to make room


def test_a_folder_whose_config_or_tokenizer_was_corrected_is_read_again(resolved, loads):
    cache, folder = ModelCache(limit_bytes=2**40), Path(resolved["a"].path)
    cache.load(resolved["a"])
    for name in ("config.json", "tokenizer_config.json"):
        written = json.loads((folder / name).read_text(encoding="utf-8"))
        (folder / name).write_text(json.dumps(written | {"corrected": True}), encoding="utf-8")
        again = zoo.resolve(str(folder))
        assert cache.load(again)[0] is cache.load(again)[0]
    assert cache.load(again)[0].config.corrected and "".join(loads) == "aaa"


def test_clear_gives_every_model_back(resolved, loads):
    cache = ModelCache(limit_bytes=2**40)
    cache.load(resolved["a"])
    cache.clear()
    cache.load(resolved["a"])
    assert "".join(loads) == "aa"


def test_the_limit_is_a_quarter_of_the_memory_or_what_is_said(monkeypatch):
    monkeypatch.delenv("STILLROOM_LAB_MEMORY_MB", raising=False)
    assert limit_bytes() <= psutil.virtual_memory().total // 4
    monkeypatch.setenv("STILLROOM_LAB_MEMORY_MB", "100")
    assert limit_bytes() == 100 * 2**20
    monkeypatch.setenv("STILLROOM_LAB_MEMORY_MB", "lots")
    with pytest.raises(BadSpec, match="whole number of megabytes"):
        limit_bytes()


def test_a_containers_limit_counts_and_its_cached_files_are_free(tmp_path, monkeypatch):
    monkeypatch.delenv("STILLROOM_LAB_MEMORY_MB", raising=False)
    for name, content in (("max", "4000"), ("current", "3000"), ("stat", "anon 2000\ninactive_file 500")):
        (tmp_path / f"memory.{name}").write_text(content + "\n")
    assert (limit_bytes(tmp_path), free_bytes(tmp_path)) == (1000, 1500)
    (tmp_path / "memory.max").write_text("max\n")
    assert limit_bytes(tmp_path) == psutil.virtual_memory().total // 4
