"""Markdown: names show as they are and break no table, whatever is in them."""

import re

import pytest
import yaml

from benchmarks import frontier
from trainer.markdown import block, code, inline
from trainer.models.export import model_card

HOSTILE = [
    "a|b",
    "a\\|b",
    "a\nb",
    "a\r\n| x |",
    "`a`",
    "``a|b`",
    "<b>x</b>",
    "*a* _b_ ~~c~~",
    "[a](http://x)",
    "&lt;",
    "\\",
]


def cells(row: str) -> list[str]:
    """The cells of a table row, as GFM splits it: at each bar that no backslash escapes."""
    return re.split(r"(?<!\\)(?:\\\\)*\|", row)[1:-1]


def shown(text: str) -> str:
    """What a reader sees: backslashes before punctuation taken away."""
    return re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", text)


@pytest.mark.parametrize("name", [*HOSTILE, "macro_f1", "Cardiovascular / Pulmonary", "f1.GO_BP", "B-Drug", "Übelkeit"])
def test_a_name_is_one_cell_and_shows_as_it_is(name):
    written = inline(name)
    assert shown(written) == " ".join(name.split())
    assert len(cells(f"| {written} | 1 |")) == 2
    assert not re.search(r"(?<!\\)[<>`*\[\]]", written.replace("\\\\", ""))


def test_usual_names_stay_as_they_are():
    for name in ("macro_f1", "f1.GO_BP", "Cardiovascular / Pulmonary", "B-Drug (new), 0.5 %"):
        assert inline(name) == name


@pytest.mark.parametrize("text", [*HOSTILE, "```\nx\n```", "dataset: '\n\n  ````'"])
def test_code_ends_where_it_should(text):
    run = re.match("`+", code(text))[0]
    assert code(text).endswith(run) and run not in code(text)[len(run) : -len(run)].strip()
    first, *_, last = block(text, "yaml").split("\n")
    fence = first.removesuffix("yaml")
    assert last == fence and len(fence) >= 3 and fence not in text


@pytest.mark.parametrize("name", HOSTILE)
def test_the_model_card_keeps_its_table_and_its_headings(name):
    scores = {f"test_f1.{name}": 0.6, "test_macro_f1": 0.5}
    about = {"task": "classification", "labels": [name, "c"], "metrics": scores, "dataset": name, "base": name}
    about |= {
        "teacher": name,
        "kind": "distill",
        "spec": yaml.safe_dump({"dataset": name}),
        "data_notes": [f"train: {name}"],
    }
    about |= {"intervals": {f"f1.{name}": [0.5, 0.7]}, "metrics": scores | {"retention": 0.9}}
    card = model_card(about)
    table = [line for line in card.splitlines() if line.startswith("|") and "---" not in line]
    assert len(table) >= 3 and all(len(cells(row)) == 3 for row in table)
    assert shown(cells(table[1])[0]).strip() == " ".join(f"f1.{name}".split())
    assert [line for line in card.splitlines() if line.startswith("#")][1:] == ["## How it was made"]
    assert "- train:" in card


def test_the_results_table_keeps_its_columns():
    row = {"name": "a|b", "params": 1e6, "f1": 0.6, "interval": (0.5, 0.7), "f1_by_seed": [0.6], "retention": 0.75}
    rows = frontier.markdown([row | {"ratio": 1.0, "alone_f1": None}]).splitlines()
    assert {len(cells(line)) for line in rows} == {7} and r"| a\|b |" in rows[-1]
