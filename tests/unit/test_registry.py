"""What a model reference means, what is on this machine, and what a model folder may hold."""

import json
import os
import shutil
import struct
import subprocess
import sys

import pytest
from left_models import leave

from trainer import files, queue
from trainer import zoo as registry
from trainer.errors import CorruptFile, Refused, Unavailable, UnknownName
from trainer.files import commit_folder
from trainer.home import runs_dir
from trainer.queue import lease
from trainer.queue import published as published_runs
from trainer.queue.published import ready
from trainer.queue.store import open_store
from trainer.spec import parse
from trainer.zoo import entries, resolve, weights, weights_here

MINILM = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


@pytest.fixture
def folder(tiny_model, tmp_path):
    """A copy of the tiny model that a test may damage."""
    return shutil.copytree(tiny_model, tmp_path / "copy")


@pytest.fixture
def run_of(home, tiny_model):
    """Queue a job and end it as `state`; its artifact is the tiny model."""

    def end(state="succeeded", artifact=str(tiny_model), **fields):
        job = queue.submit(parse({"kind": "finetune", "model": "minilm", "dataset": "ncbi-disease-slice"} | fields))
        if state != "queued":
            store = open_store()
            me = lease.enlist(store, device="cpu", process=lease.Process.of(os.getpid()))
            folder = leave(job.id, artifact, state=state)
            lease.finish(store, lease.claim(store, me), state=state, artifact=artifact and str(folder))
        return job.id

    return end


def header_of(tensors: dict) -> bytes:
    text = json.dumps(tensors).encode()
    return struct.pack("<Q", len(text)) + text


def test_the_registry_is_light():
    program = (
        "import sys, time\n"
        "import trainer.run, typing_extensions\n"
        "start = time.process_time()\n"
        "from trainer.zoo import entries\n"
        "entries()\n"
        "print(time.process_time() - start, 'torch' in sys.modules, 'sqlalchemy' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    seconds, torch, database = done.stdout.split()
    assert (torch, database) == ("False", "False")
    assert float(seconds) < 0.3


def test_the_embedded_model_is_here(home):
    model = resolve("minilm")
    assert (model.sha256, model.zoo_id) == (MINILM, "minilm")
    assert resolve("sentence-transformers/all-MiniLM-L6-v2").path == model.path
    assert "minilm" in {entry.id for entry in ready()}
    assert "minilm" not in {entry.id for entry in ready(task="ner")}


def test_a_name_that_is_nearly_right_is_suggested(home):
    with pytest.raises(UnknownName) as caught:
        resolve("distilbiobert")
    assert "'distil-biobert'" in str(caught.value)


@pytest.mark.parametrize("reference", ["", "a b", "nobody", "a/b/c", "../\0x", "./a\nb", "a/..", "$(true)", "x" * 300])
def test_what_is_no_reference_is_refused(home, reference):
    with pytest.raises((UnknownName, Unavailable)):
        resolve(reference)


def test_missing_weights_say_every_way_out(home):
    with pytest.raises(Unavailable) as caught:
        resolve("distil-biobert")
    message = str(caught.value)
    assert "nlpie/distil-biobert" in message and "not on this machine" in message
    assert "stillroom zoo fetch distil-biobert" in message and str(home / "models" / "distil-biobert") in message
    assert "stillroom zoo build distil-biobert" in message
    assert "minilm" in caught.value.next_step
    with pytest.raises(Unavailable) as caught:
        resolve("ultrabert-150m")
    assert "zoo fetch" in str(caught.value) and "zoo build" not in str(caught.value)


def test_an_architecture_that_this_version_lacks_is_said_to_be_so(home, tiny_model):
    shutil.copytree(tiny_model, home / "models" / "gliner-biomed-base")
    with pytest.raises(Unavailable) as caught:
        resolve("gliner-biomed-base")
    assert "not part of this version" in str(caught.value) and "minilm" in caught.value.next_step
    assert "zoo fetch" not in str(caught.value)
    assert "gliner-biomed-base" not in {entry.id for entry in ready()}


def test_a_starter_works_where_its_files_are_and_says_so_where_not(home, tmp_path, monkeypatch):
    starter = entries()["minilm-bc5cdr"]
    shipped = weights_here(starter)
    monkeypatch.setattr(registry, "ROOT", tmp_path)
    assert weights_here(starter) is None
    with pytest.raises(Unavailable) as caught:
        resolve("minilm-bc5cdr")
    assert "data/models/minilm-bc5cdr" in str(caught.value)
    shutil.copytree(shipped, tmp_path / "data/models/minilm-bc5cdr")
    assert resolve("minilm-bc5cdr").zoo_id == "minilm-bc5cdr"
    assert [entry.id for entry in ready(task="ner")] == ["minilm-bc5cdr"]


def test_a_fetched_folder_makes_an_entry_ready(home, tiny_model):
    shutil.copytree(tiny_model, home / "models" / "bio-tinybert")
    assert resolve("bio-tinybert").path == resolve("nlpie/bio-tinybert").path == str(home / "models" / "bio-tinybert")
    assert "bio-tinybert" in {entry.id for entry in ready()}


def in_hub_cache(root, hub_id, revision, tiny_model):
    repository = root / f"models--{hub_id.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True, exist_ok=True)
    (repository / "refs" / "main").write_text(revision)
    return shutil.copytree(tiny_model, repository / "snapshots" / revision)


def test_the_hub_cache_is_looked_up(home, tiny_model, tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(Unavailable) as caught:
        resolve("some/model")
    assert "hf download some/model" in str(caught.value)
    with pytest.raises(Unavailable):  # no name that the Hub would have
        resolve("some/mo..del")
    cached = in_hub_cache(tmp_path / "hub", "some/model", "a" * 40, tiny_model)
    assert (resolve("some/model").path, resolve("some/model").zoo_id) == (str(cached), None)
    # A pinned entry takes its pinned revision, not what main was.
    in_hub_cache(tmp_path / "hub", "nlpie/distil-biobert", "b" * 40, tiny_model)
    assert weights_here(entries()["distil-biobert"]) is None
    pinned = in_hub_cache(tmp_path / "hub", "nlpie/distil-biobert", entries()["distil-biobert"].revision, tiny_model)
    assert weights_here(entries()["distil-biobert"]) == pinned


def test_a_folder_is_a_reference(home, folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    assert resolve("./copy").path == resolve(str(folder)).path == str(folder)
    with pytest.raises(Unavailable):
        resolve("./nothing")


def test_a_published_run_is_a_model(home, tiny_model, run_of):
    run_id = run_of()
    (entry,) = published_runs.runs()
    assert (entry.id, entry.source, entry.task, entry.labels) == (run_id, "run", "ner", ("Disease",))
    assert entry.params["encoder"] == json.loads((tiny_model / "stillroom.json").read_text())["params"]
    folder = runs_dir() / run_id / "attempt-1" / "artifacts" / "model"
    assert weights_here(entry) == folder
    assert resolve(run_id).path == str(folder)
    assert run_id in {entry.id for entry in ready(task="ner")}


def test_a_run_that_was_pretrained_is_a_model_without_a_task(home, tiny_model, tmp_path, run_of):
    folder = tmp_path / "pretrained"
    shutil.copytree(tiny_model, folder)
    about = json.loads((folder / "stillroom.json").read_text()) | {"task": "mlm", "labels": []}
    (folder / "stillroom.json").write_text(json.dumps(about))
    run_id = run_of(artifact=str(folder))
    assert [(entry.id, entry.task) for entry in published_runs.runs()] == [(run_id, None)]
    assert run_id not in {entry.id for entry in ready(task=("ner", "classification"))}


def test_runs_without_a_model_say_why(home, run_of, tmp_path):
    waiting = run_of("queued")
    with pytest.raises(Unavailable, match="has not started"):
        resolve(waiting)
    queue.cancel(waiting)
    with pytest.raises(Unavailable, match="produced no model"):
        resolve(run_of(kind="evaluate", artifact=None))
    with pytest.raises(Unavailable, match="There is no run 00000000-1"):
        resolve("00000000-1")
    with pytest.raises(Unavailable, match="its state is failed"):
        resolve(run_of("failed", seed=7, artifact=None))
    gone = run_of(seed=3, artifact=str(tmp_path / "gone"))
    assert published_runs.runs() == []
    with pytest.raises(CorruptFile):
        resolve(gone)


def test_only_a_pickle_is_refused_with_the_remedy(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(Refused) as caught:
        resolve(str(folder))
    assert "pytorch_model.bin" in str(caught.value) and "--allow-pickle" in caught.value.next_step


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_remote_code_is_refused(folder, name):
    config = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps(config | {"auto_map": {"AutoModel": "evil.Model"}}))
    with pytest.raises(Refused, match="auto_map"):
        resolve(str(folder))


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (lambda data: data[:-100], CorruptFile),
        (lambda data: data + b"x", CorruptFile),
        (lambda data: b"", CorruptFile),
        (lambda data: data[:5], CorruptFile),
        (lambda data: b"\x80\x04pickle" * 50, Refused),
        (lambda data: struct.pack("<Q", 2**40) + data[8:], Refused),
        (lambda data: struct.pack("<Q", 11 * 2**20) + b" " * (11 * 2**20), Refused),
        (lambda data: header_of({"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}), CorruptFile),
        (lambda data: header_of({"a": {"dtype": "F32", "shape": [1], "data_offsets": "no"}}), CorruptFile),
        (lambda data: header_of({"a": 5}), CorruptFile),
        (lambda data: struct.pack("<Q", 200_000) + b"[" * 200_000, CorruptFile),
    ],
    ids=["short", "long", "empty", "stub", "pickle", "huge", "bloated", "overrun", "offsets", "shape", "deep"],
)
def test_what_is_no_safetensors_file_is_found_out(folder, content, kind):
    path = folder / "model.safetensors"
    path.write_bytes(content(path.read_bytes()))
    with pytest.raises(kind):
        resolve(str(folder))


@pytest.mark.parametrize("content", ["", "[]", "{", "\x00"])
def test_a_config_that_is_no_json_object_is_found_out(folder, content):
    (folder / "config.json").write_text(content)
    with pytest.raises(CorruptFile, match="config.json"):
        resolve(str(folder))


@pytest.mark.parametrize("name", ["config.json", "vocab.txt"])
def test_a_text_file_of_absurd_size_is_refused_unread(folder, name):
    with (folder / name).open("r+b") as file:
        file.truncate(weights.TEXT_CAP + 1)  # sparse: takes no room
    with pytest.raises(Refused, match=name):
        resolve(str(folder))


def test_an_adapter_or_shards_are_explained(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(CorruptFile):
        resolve(str(folder))
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(Unavailable, match="adapter"):
        resolve(str(folder))
    (folder / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(Unavailable, match="several files"):
        resolve(str(folder))


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json", "stillroom.json"])
def test_a_flipped_byte_is_found_by_the_folders_manifest(folder, tmp_path, name):
    target = tmp_path / "published"
    commit_folder(target, lambda draft: shutil.copytree(folder, draft, dirs_exist_ok=True))
    assert resolve(str(target)).path == str(target)
    data = bytearray((target / name).read_bytes())
    data[-2] ^= 1
    (target / name).write_bytes(data)
    with pytest.raises(CorruptFile, match=name):
        resolve(str(target))


def test_a_flipped_byte_is_found_by_the_zoos_pin(home, tiny_model, monkeypatch):
    place = shutil.copytree(tiny_model, home / "models" / "bio-tinybert")
    pins = {"model.safetensors": files.sha256(place / "model.safetensors")}
    entry = entries()["bio-tinybert"].model_copy(update={"files": pins})
    monkeypatch.setattr(registry, "entries", lambda: {"bio-tinybert": entry})
    assert resolve("bio-tinybert").sha256 == pins["model.safetensors"]
    data = bytearray((place / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (place / "model.safetensors").write_bytes(data)
    with pytest.raises(CorruptFile, match="checksum"):
        resolve("bio-tinybert")
