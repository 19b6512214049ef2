"""The rules that keep the two flows apart and the web process light, read from the source and tried in a process."""

import ast
import importlib
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted(path for folder in ("trainer", "workbench") for path in (ROOT / folder).rglob("*.py"))
EVERY_SOURCE = [ROOT / "app.py", *SOURCES, *sorted((ROOT / "benchmarks").rglob("*.py"))]
# The two flows: what stands to the right imports what stands to the left, and never the other way.
TRAINER = [
    "errors",
    "bounds",
    "prediction",
    "references",
    "home",
    "files",
    "resolved",
    "offline",
    "plain_yaml",
    "markdown",
    "recipes",
    "tasks",
    "datasets",
    "pieces",
    "spec",
    "chain",
    "run",
    "zoo",
    "fit",
    "queue",
    "architectures",
    "models",
    "inference",
    "evaluation",
    "examples",
    "training",
    "execute",
    "__main__",
]
WORKBENCH = [
    "quiet",
    "own_origin",
    "note",
    "model_cache",
    "predict",
    "launch",
    "results",
    "compare",
    "explain",
    "lab",
    "highlight",
    "sessions",
    "widgets",
    "pages",
    "space",
    "demo",
    "cli",
]
COMPUTING = [f"trainer.{name}" for name in TRAINER[TRAINER.index("architectures") :]]  # with tensors
# In them, what pages and the queue ask too; and the one part of datasets that makes tensors.
LIGHT = {"trainer.training", "trainer.training.estimate", "trainer.training.memory", "trainer.evaluation"}
LIGHT |= {f"trainer.evaluation.{name}" for name in ("outcomes", "significance", "calibration", "baselines", "slices")}
TENSORS = {"trainer.datasets.rows.batches"}
LARGEST_FOLDER = 16  # modules
PRINTERS = {"workbench/cli/job_commands.py", "workbench/cli/terminal.py", "trainer/execute.py", "trainer/__main__.py"}
VAGUE = {"utils", "util", "helpers", "helper", "common", "misc", "base", "core", "manager", "handler", "service"}
PICKLES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}


def module_name(path: Path) -> str:
    """trainer/tasks/ner.py -> trainer.tasks.ner; a package's __init__ is the package."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def shown(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def syntax(path: Path) -> list[ast.AST]:
    """Every syntax node of a file, its module first."""
    return list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


def nodes(path: Path, *kinds: type) -> Iterator:
    """The syntax nodes of these kinds."""
    return (node for node in syntax(path) if isinstance(node, kinds))


def imported(path: Path) -> set[str]:
    """Every module name in the file's imports, also inside functions: `from a import b` gives a and a.b."""
    names = {alias.name for node in nodes(path, ast.Import) for alias in node.names}
    for node in nodes(path, ast.ImportFrom):
        assert node.level == 0, f"{shown(path)}:{node.lineno}: write the full name of the module"
        names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def tops(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imported(path)}


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    """Every call with its dotted name: `torch.load(x)` gives ("torch.load", node)."""
    return ((ast.unparse(node.func), node) for node in nodes(path, ast.Call))


def keywords(call: ast.Call) -> dict[str, object]:
    """The keyword arguments that are written as constants."""
    return {item.arg: item.value.value for item in call.keywords if isinstance(item.value, ast.Constant)}


def room(module: str) -> str:
    """trainer.queue.lease -> trainer.queue: what stands directly below trainer or workbench."""
    return ".".join(module.split(".")[:2])


@cache
def graph() -> dict[str, set[str]]:
    """Every module with the modules of this project that its file imports, in functions and for type checkers too.

    `from trainer.queue import lease` imports trainer.queue.lease; a name that is no module, the package that has it.
    """
    files = {module_name(path): path for path in EVERY_SOURCE}
    edges: dict[str, set[str]] = {}
    for name, path in files.items():
        full = [
            (node.module, f"{node.module}.{alias.name}") for node in nodes(path, ast.ImportFrom) for alias in node.names
        ]
        names = {whole if whole in files else package for package, whole in full}
        names |= {alias.name for node in nodes(path, ast.Import) for alias in node.names}
        edges[name] = names & files.keys() - {name}
    return edges


@cache
def rooms() -> dict[str, set[str]]:
    """The same between what stands directly below trainer and workbench."""
    between: dict[str, set[str]] = {}
    for name, others in graph().items():
        between.setdefault(room(name), set()).update(room(other) for other in others)
    return {name: others - {name} for name, others in between.items()}


def reached(module: str) -> set[str]:
    """Every module that one leads to, through any chain of imports."""
    seen: set[str] = set()
    waiting = [module]
    while waiting:
        new = graph()[waiting.pop()] - seen
        seen |= new
        waiting += new
    return seen


def test_every_module_has_a_place_in_the_order():
    order = {*(f"trainer.{name}" for name in TRAINER), *(f"workbench.{name}" for name in WORKBENCH)}
    assert {name for name in rooms() if name.startswith(("trainer.", "workbench."))} == order


@pytest.mark.parametrize(("top", "order"), [("trainer", TRAINER), ("workbench", WORKBENCH)])
def test_imports_go_leftward(top, order):
    place = {f"{top}.{name}": number for number, name in enumerate(order)}
    wrong = {(name, other) for name in place for other in rooms()[name] if place.get(other, 0) > place[name]}
    assert not wrong


def test_no_module_and_no_folder_leads_back_to_itself():
    for each in (graph(), rooms()):
        TopologicalSorter(each).prepare()  # CycleError names a ring


def test_trainer_never_imports_workbench():
    assert not {name for name in graph() if room(name).startswith("trainer") and "workbench" in str(reached(name))}


def test_only_the_queue_imports_the_database():
    guilty = {module_name(path) for path in EVERY_SOURCE if "sqlalchemy" in tops(path)}
    assert {room(name) for name in guilty} == {"trainer.queue"}


def test_what_computes_reaches_neither_the_queue_nor_pages():
    barred = ("trainer.queue", "workbench", "streamlit")
    for name in graph():
        if room(name) in COMPUTING:
            assert not [other for other in reached(name) if other.startswith(barred)], name


def test_only_pages_import_pages():
    guilty = {name for name, others in rooms().items() if "workbench.pages" in others}
    assert guilty <= {"app"}


def test_no_folder_is_too_full():
    count = Counter(path.parent for path in SOURCES if path.name not in ("__init__.py", "__main__.py"))
    assert not {shown(folder): size for folder, size in count.items() if size > LARGEST_FOLDER}


def light_modules() -> list[str]:
    """Every module of trainer and workbench that has to import without torch."""
    computes = {name for name in graph() if room(name) in COMPUTING} - LIGHT
    return [name for name in map(module_name, SOURCES) if name not in computes | TENSORS]


def test_everything_but_what_computes_imports_without_torch():
    light = light_modules()
    assert {"workbench.cli", "trainer.queue.worker", "trainer.zoo", "trainer.queue", *LIGHT} <= set(light)
    program = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]:\n"
        "    importlib.import_module(name)\n"
        "    heavy = {'torch', 'transformers'} & set(sys.modules)\n"
        "    if heavy: sys.exit(f'{name} imports {sorted(heavy)}')\n"
    )
    assert_runs(program, *light)


@pytest.mark.slow
def test_what_computes_loads_neither_database_nor_streamlit():
    program = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]:\n"
        "    importlib.import_module(name)\n"
        "    if wrong := {'sqlalchemy', 'streamlit'} & set(sys.modules): sys.exit(f'{name} imports {sorted(wrong)}')\n"
    )
    assert_runs(program, *sorted(name for name in graph() if room(name) in COMPUTING and "__main__" not in name))


def test_everything_that_imports_without_torch_is_type_checked_strictly():
    """mypy's `strict` holds for every module but those that an override names: none of these imports without torch."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["mypy"]
    assert settings["strict"] is True
    ignored = {"exclude", "follow_imports", "follow_untyped_imports", "ignore_errors"}
    assert not [override for override in [settings, *settings["overrides"]] if ignored & override.keys()]
    patterns = {pattern for override in settings["overrides"] for pattern in override["module"]}
    light = light_modules()
    assert not {pattern: names for pattern in patterns if (names := [name for name in light if covers(pattern, name)])}


def covers(pattern: str, module: str) -> bool:
    """Whether a module pattern of mypy, such as trainer.zoo.*, names this module."""
    return f"{module}.".startswith(pattern[:-1]) if pattern.endswith(".*") else module == pattern


def test_only_highlight_makes_html():
    """Elsewhere nothing but what a function of highlight returns may reach the browser as HTML."""
    for path in EVERY_SOURCE:
        if shown(path).startswith("workbench/highlight/"):
            continue
        for name, call in calls(path):
            place = f"{shown(path)}:{call.lineno}"
            assert "unsafe_allow_html" not in {item.arg for item in call.keywords}, place
            argument = call.args[0] if call.args else None
            if name.endswith(".launch"):  # Gradio puts it into the head of its page
                argument = next((item.value for item in call.keywords if item.arg == "head"), argument)
            if name.endswith((".html", ".iframe", ".HTML", ".launch")):
                assert argument and _of_highlight(argument), f"{place}: pass what workbench/highlight has made"


def _of_highlight(node: ast.expr) -> bool:
    """`highlight.NAME` or `highlight.name(...)`, and nothing around it."""
    named = node.func if isinstance(node, ast.Call) else node
    return isinstance(named, ast.Attribute) and ast.unparse(named.value) == "highlight"


def test_nothing_reads_pickles_or_runs_text_as_code():
    for path in EVERY_SOURCE:
        assert not tops(path) & PICKLES, shown(path)
        for name, call in calls(path):
            place, options = f"{shown(path)}:{call.lineno}", keywords(call)
            assert name not in {"eval", "exec", "os.system", "os.popen"}, place
            assert name not in {"yaml.load", "yaml.unsafe_load", "yaml.full_load", "yaml.load_all"}, place
            assert not any(options.get(risk) for risk in ("shell", "trust_remote_code", "allow_pickle")), place
            if name.endswith("torch.load") or name == "load" and "torch.load" in imported(path):
                assert shown(path) == "trainer/models/convert.py" and options.get("weights_only") is True, place


def test_the_library_does_not_print():
    guilty = [
        f"{shown(path)}:{call.lineno}"
        for path in SOURCES
        if shown(path) not in PRINTERS
        for name, call in calls(path)
        if name == "print"
    ]
    assert not guilty, "raise an error or use logging; the command line and the pages show it"


def test_files_are_named_after_what_they_hold():
    tests = (ROOT / "tests").rglob("*.py")
    guilty = [shown(path) for path in [*EVERY_SOURCE, *tests] if {path.stem, path.parent.name} & VAGUE]
    assert not guilty


@pytest.mark.parametrize(
    ("table", "folder"),
    [
        ("trainer.recipes.RECIPES", "trainer/recipes"),
        ("trainer.tasks.TASKS", "trainer/tasks"),
        ("workbench.pages.PAGES", "workbench/pages"),
        ("trainer.examples.EXAMPLES", "trainer/examples"),
        ("workbench.explain.METHODS", "workbench/explain/methods"),
    ],
)
def test_every_file_of_a_folder_is_in_its_table(table, folder):
    files = {path.stem for path in (ROOT / folder).glob("*.py")} - {"__init__"}
    if not files:
        pytest.skip(f"{folder} holds nothing yet")
    module, name = table.rsplit(".", 1)
    entries = getattr(importlib.import_module(module), name)
    if isinstance(entries, dict):  # name -> a class or a function of the file
        listed = {entry.__module__.rpartition(".")[2] for entry in entries.values()}
    else:  # pages, which name their file
        listed = {entry.name for entry in entries}
    assert listed <= files
    parts = {part for part in files if any(f"{module}.{part}" in imported(ROOT / folder / f"{n}.py") for n in listed)}
    assert files - parts <= listed, f"in {folder}, but neither in {name} nor a part of a file that is"


def _public(body: list[ast.stmt]) -> Iterator[ast.AST]:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return (node for node in body if isinstance(node, kinds) and not node.name.startswith("_"))


def test_a_package_defines_no_name_that_one_of_its_modules_has():
    """`from package import name` would give the one or the other, by what happens to be loaded."""
    for package in (path for path in SOURCES if path.name == "__init__.py"):
        modules = {path.stem for path in package.parent.iterdir() if path.is_dir() or path.suffix == ".py"}
        assert not modules & {node.name for node in _public(syntax(package)[0].body)}, shown(package)


def test_every_public_name_has_a_docstring():
    bare = []
    for path in SOURCES:
        tree = syntax(path)[0]
        if tree.body and not ast.get_docstring(tree):
            bare.append(shown(path))
        bare += [f"{shown(path)}:{n.lineno} {n.name}" for n in _public(tree.body) if not ast.get_docstring(n)]
    assert not bare


def test_modules_stay_short():
    long = {shown(path): lines for path in SOURCES if (lines := len(path.read_text().splitlines())) > 400}
    assert not long


def assert_runs(program: str, *arguments: str) -> None:
    """Run a Python program in a fresh process, in the project's folder; its last line of stderr explains a failure."""
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr[-2000:]
