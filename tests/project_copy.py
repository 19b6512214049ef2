"""A copy of the project in which a test adds files and entries of tables, runs commands, and runs tests."""

import ast
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]


class ProjectCopy:
    """A copy of the project, with a state folder and a tiny tagger of its own."""

    def __init__(self, folder: Path, model: Path):
        self.folder, self.model = folder / "project", model
        self.folder.mkdir()
        for path in ROOT.iterdir():
            target = self.folder / path.name
            if path.name in ("trainer", "workbench", "tests"):
                shutil.copytree(path, target, ignore=shutil.ignore_patterns("__pycache__"))
            elif path.name == "data":
                shutil.copytree(path, target, copy_function=_link)
            elif path.suffix in (".md", ".yaml", ".toml"):
                shutil.copy(path, target)
            else:
                target.symlink_to(path)
        self.environment = os.environ | {"PYTHONPATH": str(self.folder), "STILLROOM_HOME": str(folder / "home")}

    def python(self, *arguments: object) -> str:
        """What a Python program of the copy prints; how it failed explains the failure of a test."""
        done = subprocess.run(
            [sys.executable, *map(str, arguments)],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=1000,
        )
        assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
        return done.stdout

    def stillroom(self, *words: object) -> dict | list:
        """The JSON that a command answers with."""
        return json.loads(self.python("-m", "workbench.cli", *words, "--json"))

    def test(self, *tests: tuple[str, str]) -> None:
        """Run tests of the copy, each a file and what to select there: none at all is a failure."""
        files, selected = zip(*tests, strict=True)
        options = ("-p", "no:cacheprovider", "-p", "no:xdist", "-k", " or ".join(selected))
        self.python("-m", "pytest", *options, *files)

    def train(self, **fields: object) -> dict:
        """Queue a job of two steps, work on it, and return it when it has succeeded."""
        schedule = {"steps": 2, "batch_size": 2, "max_tokens": 32}
        spec = {"dataset": "ncbi-disease-slice", "limit": 6, "schedule": schedule} | fields
        (self.folder / "spec.yaml").write_text(yaml.safe_dump(spec))
        self.python("-m", "workbench.cli", "submit", "spec.yaml")
        self.python("-m", "workbench.cli", "worker", "--drain")
        [job] = self.stillroom("jobs")
        assert job["state"] == "succeeded", job["error"]
        return job

    def write(self, path: str, content: str | Mapping[str, str]) -> None:
        """Write a file, or the files of a folder; code for a file that is there is added to it."""
        target = self.folder / path
        if isinstance(content, Mapping):
            target.mkdir()
            for name, text in content.items():
                (target / name).write_text(text)
        elif target.exists():
            target.write_text(_before_its_table(target.read_text(), content))
        else:
            target.write_text(content)

    def enter(self, table: str, path: str, entry: str) -> None:
        """Add one entry to a table, and the import that it needs, if any: the lines before its last one."""
        target = self.folder / path
        *imports, entry = entry.strip().splitlines() if target.suffix == ".py" else [entry]
        source = target.read_text()
        source = _with_entry(source, table, entry) if target.suffix == ".py" else f"{source.rstrip()}\n{entry}"
        for each in imports:
            source = _with_import(source, each)
        target.write_text(source)


def _link(source: str, target: str) -> None:
    """A hard link, since data are large; a copy where the file system has none."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy(source, target)


def _assignments(source: str) -> dict[str, ast.stmt]:
    """The statements of a module that give a value to a name."""
    statements = [each for each in ast.parse(source).body if isinstance(each, ast.Assign | ast.AnnAssign)]
    return {ast.unparse(getattr(each, "target", None) or each.targets[0]): each for each in statements}


def _with_entry(source: str, table: str, entry: str) -> str:
    """The entry comes last, before the bracket that ends the table."""
    value, encoded = _assignments(source)[table].value, source.encode()  # ast counts bytes
    end = sum(map(len, encoded.splitlines(keepends=True)[: value.end_lineno - 1])) + value.end_col_offset - 1
    head, tail = encoded[:end].decode().rstrip(), encoded[end:].decode()
    return f"{head}{'' if head.endswith(',') else ','} {entry}{tail}"


def _with_import(source: str, line: str) -> str:
    last = [each for each in ast.parse(source).body if isinstance(each, ast.Import | ast.ImportFrom)][-1]
    rows = source.splitlines(keepends=True)
    return "".join([*rows[: last.end_lineno], f"{line}\n", *rows[last.end_lineno :]])


def _before_its_table(source: str, content: str) -> str:
    rows = source.splitlines(keepends=True)
    tables = [each for each in _assignments(source).values() if isinstance(each.value, ast.Dict)]
    place = tables[0].lineno - 1 if tables else len(rows)
    return "".join([*rows[:place], f"\n\n{content.strip()}\n\n\n", *rows[place:]])
