"""Every command and every page with every kind of bad input: a typed error with a next step, never a traceback.

The commands are those of the app itself and the pages those of PAGES, so a new one fails here until it has inputs.
"""

import contextlib
import io
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from streamlit.testing.v1 import AppTest

sys.path.insert(0, str(Path(__file__).parents[1]))
import bad_inputs as bad  # noqa: E402

from workbench import cli, lab  # noqa: E402
from workbench.pages import PAGES  # noqa: E402

# How each command is called, {kind} where it takes an input; "" takes none.
COMMANDS = {
    "up": "--port {port}",
    "worker": "--drain --device {device}",
    "demo": "--port {port}",
    "doctor": "",
    "submit": "{spec} --json",
    "jobs": "--json",
    "job": "{name} --json",
    "logs": "{name} --json",
    "cancel": "{name} --json",
    "retry": "{name} --json",
    "predict": "--model {model} --text-file {note} --json",
    "compare": "--model {model} --model minilm-bc5cdr --text-file {note} --json",
    "explain": "--model {model} --text-file {note} --json",
    "evaluate": "--model {model} --dataset {data} --limit 2 --json",
    "export": "--model {model} --out {out}",
    "results": "--dataset {name} --json",
    "zoo": "--json",
    "zoo build": "{name} --out {out}",
    "zoo fetch": "{name}",
    "datasets": "--json",
    "datasets check": "{data} --json",
    "datasets import": "{data} --task ner --name mine --json",
    "datasets fetch": "{name}",
    "space build": "--out {out}",
}
LISTING = ("datasets check", "datasets import")  # whose answer is the list of problems
PORTS = {"none": lambda *_: "port", "absurd": lambda *_: "99999999999", "negative": lambda *_: "-1"}
DEVICES = {"unknown": lambda *_: "abacus", "empty": lambda *_: "", "a path": lambda *_: "/dev/sda"}
KINDS = {
    "model": bad.MODELS,
    "note": bad.NOTES,
    "data": bad.DATA,
    "spec": bad.SPECS,
    "name": bad.NAMES,
    "out": bad.OUTPUTS,
    "port": PORTS,
    "device": DEVICES,
}
ALWAYS_REFUSED = {
    "model": bad.REFUSED_MODELS,
    "note": bad.REFUSED_NOTES,
    "data": bad.REFUSED_DATA,
    "spec": bad.SPECS,
    "name": bad.NAMES,
    "out": bad.OUTPUTS,
    "port": PORTS,
    "device": DEVICES,
}


def commands() -> dict[str, typer.core.TyperCommand]:
    """The commands of the app by the words that call them."""

    def below(group, words: tuple[str, ...]) -> Iterator[tuple[str, object]]:
        for name, command in group.commands.items():
            path = (*words, name)
            if not hasattr(command, "commands") or command.invoke_without_command:
                yield " ".join(path), command
            if hasattr(command, "commands"):
                yield from below(command, path)

    return dict(below(typer.main.get_command(cli.app), ()))


@pytest.fixture
def good(home, tmp_path, tiny_model) -> dict[str, str]:
    """What is right, by kind."""
    note = tmp_path / "note.txt"
    note.write_text("Fever and naloxone.")
    right = {"model": str(tiny_model), "note": str(note), "data": "ncbi-disease-slice", "out": str(tmp_path / "new")}
    return right | {"spec": "specs/smoke-ner.yaml", "name": "biobert", "port": "1", "device": "cpu"}


def run(*arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command; whatever else it raises fails the test."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as ended:
        cli.main(list(arguments))
    return ended.value.code, out.getvalue(), err.getvalue()


def wrong(name: str, kind: str, code: int, out: str, err: str, *, as_json: bool, refused: bool) -> str | None:
    """What is wrong with how a command took an input; None where it did well."""
    where = f"{name}, {kind}"
    if code not in ((1, 2) if refused else (0, 1, 2)):
        return f"{where}: exit code {code}"
    if "Traceback" in out + err:
        return f"{where}: a traceback"
    if code and name not in LISTING and "error" not in err.lower():
        return f"{where}: silence on stderr"
    if not as_json:
        return None
    try:
        document = json.loads(out)
    except ValueError:
        return f"{where}: no JSON on stdout"
    if code and name not in LISTING:
        error = document.get("error", {})
        if lacking := [field for field in ("type", "message", "next_step") if not error.get(field)]:
            return f"{where}: an error without {' and '.join(lacking)}"
        if name != "submit" and "queued" in error["next_step"]:
            return f"{where}: it speaks of the queue"
    return None


def first_with(kind: str) -> str:
    """The first command that takes this kind of input."""
    return next(name for name in COMMANDS if f"{{{kind}}}" in COMMANDS[name])


def walk(name: str, good: dict[str, str], folder: Path, stride: int) -> Iterator[str]:
    """Calls a command with wrong inputs, one at a time; yields what went wrong.

    Of what an earlier command takes too it tries one in `stride`.
    """
    template = COMMANDS[name].split()
    for kind in [kind for kind in KINDS if f"{{{kind}}}" in template]:
        inputs = list(KINDS[kind].items())[:: 1 if first_with(kind) == name else stride]
        for number, (title, make) in enumerate(inputs):
            place = folder / f"{name} {kind} {number}"
            place.mkdir()
            values = good | {kind: make(place, Path(good["model"]))}
            arguments = [*name.split(), *(part.format(**values) for part in template)]
            try:
                code, out, err = run(*arguments)
            except BaseException as error:  # the failure names command, kind and type, and the walk goes on
                yield f"{name}, {kind} {title}: {type(error).__name__}: {str(error)[:150]}"
                continue
            refused = title in ALWAYS_REFUSED[kind]
            as_json = "--json" in arguments
            if problem := wrong(name, f"{kind} {title}", code, out, err, as_json=as_json, refused=refused):
                yield problem
            shutil.rmtree(good["out"], ignore_errors=True)


def test_every_command_has_its_inputs():
    assert set(commands()) <= set(COMMANDS), "give a new command its line in COMMANDS"


@pytest.mark.parametrize("stride", [5, pytest.param(1, marks=pytest.mark.slow)], ids=["some", "all"])
@pytest.mark.parametrize("name", [name for name in COMMANDS if COMMANDS[name]])
def test_a_command_takes_every_bad_input_with_a_typed_error(name, stride, good, tmp_path):
    if name not in commands():
        pytest.skip("a command of another version")
    (tmp_path / "bad").mkdir()
    assert not list(walk(name, good, tmp_path / "bad", stride))


@pytest.mark.parametrize("state", ["a file", "below a file", "not a database"])
@pytest.mark.parametrize("name", COMMANDS)
def test_a_state_folder_that_cannot_be_used_is_a_typed_error_in_every_command(name, state, good, tmp_path, monkeypatch):
    (tmp_path / "state").write_bytes(b"x")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "stillroom.db").write_bytes(b"no database" * 999)
    places = {"a file": "state", "below a file": "state/below", "not a database": "broken"}
    monkeypatch.setenv("STILLROOM_HOME", str(tmp_path / places[state]))
    arguments = [*name.split(), *(part.format(**good) for part in COMMANDS[name].split())]
    if name in ("up", "demo") or name not in commands():
        pytest.skip("it starts servers; tests/flow/test_up.py has it")
    code, out, err = run(*arguments)
    assert not wrong(name, state, code, out, err, as_json="--json" in arguments, refused=False)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_that_is_called_wrongly_says_so_in_json_too(name, home):
    if name not in commands():
        pytest.skip("a command of another version")
    code, out, err = run(*name.split(), "--no-such-option", "--json")
    assert code == 2 and "--no-such-option" in err and json.loads(out)["error"]["type"] == "UsageError"


# --- Pages

ADDRESSES = ("model", "job", "jobs", "from", "teacher", "sample", "target", "id", "entry")  # what pages read
ADDRESSES += ("dataset", "kind", "cost", "row")
VALUES = {name: make(Path(), Path()) for name, make in bad.NAMES.items()} | {
    "an arm that is none": "minilm-bc5cdr@skim:9",
    "a target that is none": "5:1:Disease",
    "markup": "<img src=x onerror=alert(1)>:red[x]",
}
TEXTS = {"nothing": "", "blanks": " \n\t", "control characters": "\x00\x01 Fever"}


@pytest.fixture
def answering(home, one_lab, monkeypatch) -> None:
    """A lab of this process."""
    monkeypatch.setattr(lab, "shared", lambda: one_lab)


def opened(page: str) -> AppTest:
    return AppTest.from_string(f"from workbench.pages import PAGES\nPAGES[{names().index(page)}].render()")


def names() -> list[str]:
    return [page.name for page in PAGES]


# Every value is slow to draw; three that differ most are in every run.
SOME = {title: VALUES[title] for title in ("a run that is not there", "bytes that are no text", "markup")}


@pytest.mark.parametrize("values", [SOME, pytest.param(VALUES, marks=pytest.mark.slow)], ids=["some", "all"])
@pytest.mark.parametrize("page", names())
def test_a_page_takes_every_bad_address_without_a_traceback(page, values, answering):
    for title, value in values.items():
        shown = opened(page)
        for name in ADDRESSES:
            shown.query_params[name] = value.encode("utf-8", "replace").decode()  # an address is always text
        shown.run(timeout=60)
        assert not shown.exception, (title, shown.exception[0].value)


@pytest.mark.parametrize("page", [name for name in names() if name in ("compare", "explain")])
def test_a_page_takes_every_bad_note_without_a_traceback(page, answering):
    shown = opened(page).run(timeout=60)
    for button in [button for button in shown.button if button.key == "change_note"]:  # the note's field has folded
        button.click().run(timeout=60)
    shown.segmented_control(key="source").set_value("Paste").run(timeout=60)
    for title, text in TEXTS.items():
        shown.text_area(key="pasted").set_value(text).run(timeout=60)
        for button in [button for button in shown.button if button.label in ("Read", "Compare", "Explain")]:
            button.click().run(timeout=60)
        assert not shown.exception, (title, shown.exception[0].value)


@pytest.mark.parametrize("page", names())
def test_a_page_says_what_is_wrong_with_a_state_folder_that_cannot_be_used(page, one_lab, tmp_path, monkeypatch):
    monkeypatch.setattr(lab, "shared", lambda: one_lab)
    (tmp_path / "state").write_bytes(b"x")
    monkeypatch.setenv("STILLROOM_HOME", str(tmp_path / "state"))
    shown = opened(page).run(timeout=60)
    assert not shown.exception and shown.error, "an error is said on the page"
