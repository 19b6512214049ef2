"""References: one set of rules for models, data sets, arms and files."""

import json
import shutil
from pathlib import Path

import pytest

from trainer import datasets, references, zoo
from trainer.errors import BadData, StillroomError, Unavailable, UnknownName
from trainer.home import place
from trainer.spec import parse
from workbench import cli
from workbench.launch import submission
from workbench.predict import Arm

ROWS = "Naloxone\tB-Chemical\nhelps\tO\n"
NAMES = (
    "m",
    "m@v2",
    "m@truncate",
    "m@windows:64",
    "my model",
    "a:b",
    "ünï",
    "m.v2",
    "-m",
    "m~",
    "~",
    "(m)",
    "m#1",
    "m\\n",
)


@pytest.fixture
def here(tmp_path, home, monkeypatch) -> Path:
    """The working folder, which is the home folder too."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(folder))
    return folder


def ways(name: str) -> tuple[str, ...]:
    """How a person may write the folder of this name in the working folder."""
    return (f"./{name}", f"./{name}/", f"../here/{name}", f"~/{name}", f"~/../here/{name}//", str(Path.cwd() / name))


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_that_is_there_is_a_folder_for_models_arms_and_data_sets(here, tiny_model, name):
    both = here / name
    both.mkdir()
    for file in tiny_model.iterdir():
        (both / file.name).symlink_to(file)
    for split in ("train", "dev", "test"):
        (both / f"{split}.conll").write_text(ROWS)
    for written in ways(name):
        assert zoo.resolve(written).path == datasets.resolve(written).path == str(both)
        assert (Arm.parse(written).model, Arm.parse(written).name) == (written, written)
        arm = Arm.parse(f"{written}@truncate:64")
        assert (arm.model, arm.reading, arm.max_tokens) == (written, "truncate", 64)
        spec = parse({"kind": "finetune", "model": written, "dataset": written})
        assert (submission.resolve_references(spec).model, submission.resolve_references(spec).dataset) == (
            str(both),
            str(both),
        )


def test_an_id_comes_before_a_folder_and_a_folder_before_the_hub(here, tiny_model):
    for name in ("minilm", "bc5cdr", "org/name", "mine"):
        shutil.copytree(tiny_model, here / name)
        (here / name / "train.conll").write_text(ROWS)
    assert zoo.resolve("minilm").zoo_id == "minilm"
    assert datasets.resolve("bc5cdr").path != str(here / "bc5cdr")
    for name in ("org/name", "mine"):
        assert zoo.resolve(name).path == datasets.resolve(name).path == str(here / name)


@pytest.mark.parametrize(
    "written", ["./gone", "~/gone", "../gone/", "~nobody-of-that-name/m", "C:\\models\\m", ".\\m", "./m\0"]
)
def test_a_path_at_which_nothing_is_says_where_it_looked(here, written):
    with pytest.raises(Unavailable, match="There is nothing at"):
        zoo.resolve(written)
    with pytest.raises(UnknownName, match="There is no data set"):
        datasets.resolve(written)


def test_an_arm_of_a_folder_that_is_not_there_is_no_unknown_way_to_read(here, tiny_model):
    assert Arm.parse("./gone@v2").model == "./gone@v2"
    shutil.copytree(tiny_model, here / "m")
    with pytest.raises(UnknownName, match="Did you mean 'truncate'.* no folder './m@truncat' either"):
        Arm.parse("./m@truncat")


def test_a_file_is_no_model_and_bytes_that_are_no_text_are_no_reference(here):
    (here / "model.safetensors").write_bytes(b"")
    with pytest.raises(BadData, match="this is a file; a model is a folder"):
        zoo.resolve("./model.safetensors")
    (here / "caf\udce9").mkdir()
    assert references.here("./caf\udce9") is None
    with pytest.raises(StillroomError, match=r"udce9"):
        zoo.resolve("./caf\udce9")


def test_tilde_is_the_home_folder_in_every_option_that_takes_a_path(here, tiny_model, capsys):
    shutil.copytree(tiny_model, here / "m")
    (here / "note.txt").write_text("Fever and naloxone.")
    (here / "job.yaml").write_text("{kind: evaluate, model: minilm-bc5cdr, dataset: bc5cdr}")

    def stillroom(*arguments: str) -> str:
        with pytest.raises(SystemExit) as ended:
            cli.main(list(arguments))
        out = capsys.readouterr().out
        assert ended.value.code == 0, out
        return out

    stillroom("export", "--model", "~/m", "--out", "~/out")
    assert (here / "out" / "config.json").is_file() and not (here / "~").exists()
    assert json.loads(stillroom("predict", "--model", "~/m", "--text-file", "~/note.txt", "--json"))["model"] == "~/m"
    assert stillroom("submit", "~/job.yaml")


def test_tilde_is_the_home_folder_in_the_place_of_the_state_too(here, monkeypatch):
    monkeypatch.setenv("STILLROOM_HOME", "~/state")
    assert place() == here / "state"
