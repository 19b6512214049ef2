"""The documents match the project: what they name exists, and what exists is named."""

import re
import shlex
import tomllib
from pathlib import Path

import pytest
import typer
import yaml

from workbench.cli import app, main

ROOT = Path(__file__).parents[1]
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
UNLISTED = re.compile(r"^__(init|main)__\.py$")


def section(title: str) -> str:
    """The text of README under one heading."""
    return re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", README, re.M | re.S)[1]


def mapped() -> list[str]:
    """The paths of README's file map, those in braces one by one."""
    entries = re.findall(r"^    (\S+(?:, \S+)*)\s{2,}\S", section("File map"), re.M)
    return [path for entry in entries for written in entry.split(", ") for path in _spelled_out(written)]


def _spelled_out(written: str) -> list[str]:
    """a/{b,c}.py -> a/b.py, a/c.py"""
    if not (braces := re.search(r"\{(.*?)\}", written)):
        return [written]
    return [written.replace(braces[0], name) for name in braces[1].split(",")]


def code_lines() -> list[str]:
    """Every line of README that is code: indented by four, or in backticks."""
    indented = re.findall(r"^    (\S.*)$", README.replace(section("File map"), ""), re.M)
    return [re.sub(r"\s{2,}#.*", "", line) for line in indented] + re.findall(r"`([^`\n]+)`", README)


def test_readme_is_short():
    assert len(README.replace(section("File map"), "").splitlines()) <= 140  # the map is counted by itself


def test_file_map_is_short():
    assert len(re.findall(r"^    \S", section("File map"), re.M)) <= 25


def test_file_map_names_what_is_there():
    absent = [path for path in mapped() if not (ROOT / path).exists()]
    assert not absent


def test_file_map_names_every_module_and_folder():
    folders = [path for path in (ROOT / "trainer", ROOT / "workbench") for path in path.iterdir()]
    there = {
        f"{path.relative_to(ROOT).as_posix()}{'/' * path.is_dir()}"
        for path in folders
        if (path.suffix == ".py" and not UNLISTED.search(path.name)) or (path.is_dir() and _has_modules(path))
    }
    assert there <= set(mapped()), f"missing in README's file map: {sorted(there - set(mapped()))}"


def _has_modules(folder: Path) -> bool:
    return any(path.stem != "__init__" for path in folder.glob("*.py"))


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_relative_links_exist(path):
    text = re.sub(r"^    .*$|`[^`\n]*`", "", path.read_text(encoding="utf-8"), flags=re.M)
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    absent = [t for t in targets if "://" not in t and not (path.parent / t.partition("#")[0]).exists()]
    assert not absent


def test_commands_named_in_readme_exist():
    named = [line for line in code_lines() if re.match(r"(\.venv/bin/)?stillroom \S", line)]
    assert len(named) >= 5
    for line in named:
        check_command(shlex.split(line)[1:])


def test_readmes_first_result_comes(capsys, home, monkeypatch):
    monkeypatch.chdir(ROOT)
    first = re.search(r"stillroom (compare .*)$", section("First result"), re.M)[1]
    with pytest.raises(SystemExit) as ended:
        main(shlex.split(first))
    assert (ended.value.code, "Disagreements: " in capsys.readouterr().out) == (0, True)


def check_command(words: list[str]) -> None:
    """Every word that could be a command is one, and every option is one of that command's."""
    command = typer.main.get_command(app)
    options = {"--help"}
    for word in words:
        if word.startswith("--"):
            assert word in options, f"no option {word} in: stillroom {' '.join(words)}"
        elif word in getattr(command, "commands", {}):
            command = command.commands[word]
            options = {name for parameter in command.params for name in parameter.opts} | {"--help"}
        else:
            assert command.params, f"no command {word} in: stillroom {' '.join(words)}"


def test_changelog_names_every_command_and_no_other():
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## {PROJECT['version']}" in changes
    listed = "".join(re.findall(r"The `stillroom` command: (.*?); with", changes, re.S))
    assert set(re.findall(r"`(\w+)`", listed)) == set(typer.main.get_command(app).commands)


def test_make_targets_named_in_readme_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = {re.findall(r"[a-z]+", line.partition("#")[0])[-1] for line in code_lines() if line.startswith("make ")}
    assert {"app", "test"} <= targets
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.M), target


def test_continuous_integration_runs_readmes_test_command():
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert script.rstrip().endswith("\nmake test")
    assert "make test" in section("Two commands")


def test_files_and_modules_named_in_readme_code_exist():
    for line in code_lines():
        for word in line.split():
            if re.match(r"(specs|data|docs|tests|trainer|workbench|benchmarks)/", word):
                assert (ROOT / word).exists(), word
        for module in re.findall(r"python -m (benchmarks\.\w+)", line):
            assert (ROOT / f"{module.replace('.', '/')}.py").is_file(), module


def test_contributing_names_tables_that_exist():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"`(\w+)` in `(\S+)`", text)
    assert {"TASKS", "RECIPES", "PAGES", "ENGINES", "METHODS", "TERMS", "models"} <= {name for name, _ in rows}
    for name, file in rows:
        source = (ROOT / file).read_text(encoding="utf-8")
        if file.endswith(".yaml"):
            assert name in yaml.safe_load(source)
        else:
            assert re.search(rf"^{name}\b.*=", source, re.M), f"{file} has no {name}"


def test_constraints_pin_every_requirement():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = {_plain(line.partition("==")[0]) for line in lines if "==" in line}
    wanted = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["test"]]
    assert {_plain(re.match(r"[\w.-]+", requirement)[0]) for requirement in wanted} <= pins
    assert "torch==2.13.0" in lines


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
