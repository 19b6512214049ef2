"""YAML: a key given twice is an error wherever people write YAML."""

from pathlib import Path

import pytest
import yaml

from trainer import chain, spec, zoo
from trainer.datasets.cards import card
from trainer.errors import BadData, BadSpec
from trainer.plain_yaml import parse_yaml

TWICE = "kind: finetune\nmodel: minilm\ndataset: bc5cdr\nschedule: {steps: 2, steps: 3}\n"


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize(
    ("text", "line", "key"),
    [("a: 1\nb: 2\na: 3\n", 3, "a"), ("x:\n  - {a: 1, b: 2,\n     a: 1}\n", 3, "a"), ("1: a\n'1': b\n1: c\n", 3, "1")],
)
def test_a_key_given_twice_is_named_with_its_line(text, line, key, fast):
    with pytest.raises(yaml.YAMLError) as caught:
        parse_yaml(text, fast=fast)
    assert caught.value.problem == f"the key `{key}` is given twice" and caught.value.problem_mark.line + 1 == line


@pytest.mark.parametrize("fast", [False, True])
def test_everything_else_is_read_as_before(fast):
    text = "base: &b {a: 1, c: [x, 1.5, null, true]}\nnew: {<<: *b, a: 2}\nagain: *b\nempty:\n"
    assert parse_yaml(text, fast=fast) == yaml.safe_load(text) and parse_yaml("") is None


@pytest.mark.parametrize("read", [spec.read, chain.read])
def test_specs_and_chains_refuse_it(read, tmp_path: Path):
    path = tmp_path / "spec.yaml"
    path.write_text(TWICE)
    with pytest.raises(BadSpec, match=r"spec.yaml, line 4 is not YAML: the key `steps` is given twice"):
        read(path)
    path.write_text("dataset: bc5cdr\nsteps: []\nsteps: []\n")
    with pytest.raises(BadSpec, match=r"line 3 is not YAML: the key `steps` is given twice"):
        read(path)


def test_cards_and_the_zoo_refuse_it(tmp_path: Path):
    (tmp_path / "card.yaml").write_text("id: a\nid: b\n")
    with pytest.raises(BadData, match="line 2: this is not YAML: the key `id` is given twice"):
        card(tmp_path)
    (tmp_path / "zoo.yaml").write_text("models:\n  - {id: a, id: b}\n")
    with pytest.raises(BadData, match="zoo.yaml, line 2: not YAML: the key `id` is given twice"):
        zoo.read_zoo(tmp_path / "zoo.yaml")


def test_a_value_of_a_card_that_cannot_be_read_is_no_crash(tmp_path: Path):
    (tmp_path / "card.yaml").write_text("id: 2021-13-45\n")
    with pytest.raises(BadData, match="card.yaml: this is not YAML"):
        card(tmp_path)
