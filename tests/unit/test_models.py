"""Loading, building, saving and fetching models: safe by default, complete or not at all."""

import hashlib
import http.server
import json
import pickle
import shutil
import socket
import threading
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertForMaskedLM, BertForTokenClassification

from trainer import models
from trainer.errors import CorruptFile, Refused, Unavailable
from trainer.models.convert import convert
from trainer.zoo import entries, resolve

TAGS = ["O", "B-Disease", "I-Disease"]


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def folder(tiny_model, tmp_path) -> Path:
    """A copy of the tiny tagger that a test may change."""
    return shutil.copytree(tiny_model, tmp_path / "copy")


@pytest.fixture
def masked_lm(folder) -> Path:
    """The tiny folder holding a masked LM, whose files have no pooler."""
    config = BertConfig.from_pretrained(folder)
    models.save(BertForMaskedLM(config), None, folder)
    return folder


def rewrite(folder: Path, change) -> None:
    path = folder / "model.safetensors"
    save_file(change(load_file(path)), path)


def edit(path: Path, **fields) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def weights_of(model) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def assert_same(one: dict, other: dict) -> None:
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_the_embedded_model_embeds(home):
    model, tokenizer = models.load("minilm")
    batch = tokenizer(
        ["The patient has a fever.", "His temperature is elevated.", "The train left the station at noon."],
        padding=True,
        return_tensors="pt",
    )
    with torch.no_grad():
        hidden = model(**batch).last_hidden_state  # (3, tokens, 384)
    mask = batch["attention_mask"].unsqueeze(-1)
    fever, temperature, train = torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1))
    assert fever @ temperature > 0.5 > 0.2 > fever @ train
    assert tokenizer.model_max_length == 512
    assert model.config._attn_implementation == "sdpa" and not model.training and model.dtype == torch.float32


def test_loading_is_silent_and_opens_no_connection(home, capfd, no_network):
    models.load("minilm", task="ner", labels=TAGS)
    assert capfd.readouterr() == ("", "")


def test_a_tagger_loads_as_it_was_saved(tiny_model):
    model, _ = models.load(str(tiny_model))
    assert isinstance(model, BertForTokenClassification)
    assert_same(weights_of(model), load_file(tiny_model / "model.safetensors"))


def test_a_fresh_head_depends_on_its_seed_alone(home):
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    heads = [models.load("minilm", task="ner", labels=TAGS, seed=seed)[0].classifier for seed in (3, 3, 4)]
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(heads[0].weight, heads[1].weight)
    assert not torch.equal(heads[0].weight, heads[2].weight)
    assert heads[0].weight.std().item() == pytest.approx(0.02, rel=0.2) and not heads[0].bias.any()


def test_a_head_is_kept_for_its_own_labels_and_replaced_for_others(tiny_model):
    saved = load_file(tiny_model / "model.safetensors")
    for labels in (None, TAGS):
        assert torch.equal(
            models.load(str(tiny_model), task="ner", labels=labels)[0].classifier.weight, saved["classifier.weight"]
        )
    for labels in (["O", "B-Drug", "I-Drug"], ["O", "B-A", "I-A", "B-B", "I-B"]):
        model, _ = models.load(str(tiny_model), task="ner", labels=labels)
        assert list(model.config.id2label.values()) == labels
        assert model.classifier.out_features == len(labels)
        assert not torch.equal(model.classifier.weight[:3], saved["classifier.weight"])
        encoder = {name: tensor for name, tensor in weights_of(model).items() if name.startswith("bert.")}
        assert all(torch.equal(tensor, saved[name]) for name, tensor in encoder.items())


def test_a_model_without_a_tagging_head_is_refused(home):
    with pytest.raises(Unavailable, match="token-classification"):
        models.load("minilm", task="ner")


def test_a_masked_lm_gives_its_encoder_to_a_tagger(masked_lm):
    saved = load_file(masked_lm / "model.safetensors")
    assert not any("pooler" in name for name in saved)
    model, _ = models.load(str(masked_lm), task="ner", labels=TAGS)
    assert torch.equal(
        model.bert.encoder.layer[1].output.dense.weight, saved["bert.encoder.layer.1.output.dense.weight"]
    )
    plain, _ = models.load(str(masked_lm))
    assert isinstance(plain, BertForMaskedLM)


def test_no_pooler_rather_than_a_random_one(masked_lm):
    edit(masked_lm / "config.json", architectures=["BertModel"])
    rewrite(
        masked_lm, lambda tensors: {n.removeprefix("bert."): t for n, t in tensors.items() if n.startswith("bert.")}
    )
    assert models.load(str(masked_lm))[0].pooler is None


def test_saving_and_loading_keeps_every_bit(home, tmp_path):
    entry = entries()["bio-tinybert"]
    built = models.build(entry, seed=11)
    _, tokenizer = models.load("minilm")
    models.save(built, tokenizer, tmp_path / "out")
    model, again = models.load(str(tmp_path / "out"))
    assert_same(weights_of(model), weights_of(built))
    assert again("Aspirin 100 mg")["input_ids"] == tokenizer("Aspirin 100 mg")["input_ids"]
    assert sum(t.numel() for t in load_file(tmp_path / "out" / "model.safetensors").values()) == entry.params["mlm"]


def test_half_precision_halves_the_file_and_loads_as_fp32(tiny_model, tmp_path):
    model, tokenizer = models.load(str(tiny_model))
    models.save(model, tokenizer, tmp_path / "half", dtype=torch.float16)
    full, half = ((p / "model.safetensors").stat().st_size for p in (tiny_model, tmp_path / "half"))
    assert half == pytest.approx(full / 2, rel=0.05)
    again, _ = models.load(str(tmp_path / "half"))
    assert {t.dtype for t in again.parameters()} == {torch.float32} == {t.dtype for t in model.parameters()}
    assert torch.equal(again.classifier.weight, model.classifier.weight.half().float())


@pytest.mark.parametrize("lost", ["bert.encoder.layer.1.output.dense.weight", "bert.embeddings.word_embeddings.weight"])
@pytest.mark.parametrize("labels", [None, ["O", "B-X", "I-X"]])
def test_a_missing_encoder_tensor_is_fatal_and_named(folder, lost, labels):
    rewrite(folder, lambda tensors: {name: t for name, t in tensors.items() if name != lost})
    with pytest.raises(CorruptFile, match=lost):
        models.load(str(folder), task="ner", labels=labels)


def test_a_missing_head_is_fatal_unless_a_new_one_is_asked_for(folder):
    rewrite(folder, lambda tensors: {name: t for name, t in tensors.items() if not name.startswith("classifier")})
    with pytest.raises(CorruptFile, match="classifier"):
        models.load(str(folder))
    models.load(str(folder), task="ner", labels=["O", "B-X", "I-X"])


def test_a_tensor_of_another_shape_is_fatal(folder):
    edit(folder / "config.json", intermediate_size=48)
    with pytest.raises(CorruptFile, match="intermediate.dense"):
        models.load(str(folder))


@pytest.mark.parametrize("task", [None, "ner"])
@pytest.mark.parametrize("named", ["MiniAlbertForMaskedLM", "BertForMaskedLM"])
def test_a_minialbert_labelled_bert_is_not_loaded_as_a_random_bert(folder, task, named):
    layer = "albert.albert.encoder.albert_layer_groups.0.albert_layers.0"
    shape = {
        f"{layer}.attention.query.weight": (32, 32),
        "albert.albert.embeddings.word_embeddings.weight": (30522, 32),
    }
    rewrite(folder, lambda tensors: {name: torch.zeros(size) for name, size in shape.items()})
    edit(folder / "config.json", architectures=[named], model_type="bert")
    with pytest.raises(CorruptFile, match=named.removesuffix("ForMaskedLM")):
        models.load(str(folder), task=task, labels=task and TAGS)


def test_the_adapters_block_of_nlpie_configs_is_ignored(folder):
    edit(folder / "config.json", adapters={"adapters": {}, "config_map": {}, "fusion_config_map": {}, "fusions": {}})
    model, _ = models.load(str(folder))
    assert not hasattr(model.config, "adapters")


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"model_type": "gliner"}, Unavailable),
        ({"model_type": None}, Unavailable),
        ({"quantization_config": {"quant_method": "gptq"}}, Unavailable),
        ({"architectures": ["BertForNextSentencePrediction"]}, Unavailable),
        ({"hidden_size": "wide"}, CorruptFile),
        ({"num_hidden_layers": 3}, CorruptFile),
    ],
)
def test_a_config_that_does_not_fit_is_a_clear_error(folder, fields, kind):
    edit(folder / "config.json", **fields)
    with pytest.raises(kind) as caught:
        models.load(str(folder))
    assert caught.value.message


def test_settings_that_choose_other_files_are_ignored(folder):
    edit(folder / "config.json", transformers_weights="evil.bin", attn_implementation="someone/kernel")
    model, _ = models.load(str(folder))
    assert model.config._attn_implementation == "sdpa"


def test_a_file_that_changed_since_it_was_resolved_is_refused(folder):
    resolved = resolve(str(folder))
    rewrite(folder, lambda tensors: tensors | {"classifier.bias": torch.ones(3)})
    with pytest.raises(CorruptFile, match="resolved"):
        models.load(resolved)


def test_folders_without_a_fitting_tokenizer_are_refused(folder):
    edit(folder / "config.json", vocab_size=100)
    rewrite(folder, lambda t: t | {n: v[:100].clone() for n, v in t.items() if "word_embeddings" in n})
    with pytest.raises(CorruptFile, match="30,522 pieces"):
        models.load(str(folder))
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(CorruptFile, match="tokenizer"):
        models.load(str(folder))
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.txt").unlink()
    with pytest.raises(Unavailable, match="tokenizer"):
        models.load(str(folder))


def test_the_tokenizer_keeps_case_where_the_zoo_entry_does(home, tiny_model):
    """Trap T12: Bio_ClinicalBERT has a cased vocabulary and a tokenizer_config that leaves lower-casing on."""
    place = shutil.copytree(tiny_model, home / "models" / "bio-clinicalbert")
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        (place / name).unlink()
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "Pain", "pain"]
    (place / "vocab.txt").write_text("\n".join(pieces))
    (place / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 10**30}))
    _, published = models.load(str(place))
    assert published.tokenize("Pain pain") == ["pain", "pain"]
    _, ours = models.load("bio-clinicalbert")
    assert ours.tokenize("Pain pain") == ["Pain", "pain"]
    assert ours.model_max_length == 512
    models.save(models.load("bio-clinicalbert")[0], ours, home / "saved")
    assert models.load(str(home / "saved"))[1].tokenize("Pain pain") == ["Pain", "pain"]


# Fetching, from a Hub on the loopback interface and without any.


class Hub(http.server.BaseHTTPRequestHandler):
    """As much of the Hub as its client needs for one repository: `server.files`, at `server.revision`."""

    def do_HEAD(self):  # noqa: N802
        self.answer(body=False)

    def do_GET(self):  # noqa: N802
        self.answer(body=True)

    def answer(self, *, body: bool) -> None:
        path = self.path.partition("?")[0]
        if path.startswith("/api/models/nlpie/bio-tinybert"):
            return self.send(json.dumps(self.info()).encode(), body, "application/json")
        prefix = f"/nlpie/bio-tinybert/resolve/{self.server.revision}/"
        data = self.server.files.get(path.removeprefix(prefix)) if path.startswith(prefix) else None
        return self.send(data, body) if data is not None else self.send_error(404)

    def info(self) -> dict:
        listed = [
            {
                "rfilename": name,
                "size": len(data),
                "lfs": {"sha256": self.promised(name), "size": len(data), "pointerSize": 1},
            }
            for name, data in self.server.files.items()
        ]
        return {"id": "nlpie/bio-tinybert", "sha": self.server.revision, "siblings": listed}

    def promised(self, name: str) -> str:
        return self.server.promises.get(name) or hashlib.sha256(self.server.files[name]).hexdigest()

    def send(self, data: bytes, body: bool, kind: str = "application/octet-stream") -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
        self.send_header("X-Repo-Commit", self.server.revision)
        self.end_headers()
        if body:
            self.wfile.write(data)

    def log_message(self, *_):
        """Quiet."""


@pytest.fixture
def online(monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


@pytest.fixture
def remote(home, tiny_model, monkeypatch, online):
    """A Hub that offers the tiny model as nlpie/bio-tinybert."""
    from huggingface_hub import constants

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    names = ("config.json", "vocab.txt", "tokenizer_config.json", "model.safetensors")
    server.files = {name: (tiny_model / name).read_bytes() for name in names} | {
        "modeling_evil.py": b"raise SystemExit"
    }
    server.revision, server.promises = "c" * 40, {}
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def no_network(monkeypatch):
    """Every attempt to reach another machine fails, and none is made quietly."""

    def refuse(*_, **__):
        raise OSError(101, "Network is unreachable")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def test_fetching_keeps_data_files_and_their_hashes(remote, home):
    place = models.fetch(entries()["bio-tinybert"])
    assert place == home / "models" / "bio-tinybert"
    assert {path.name for path in place.iterdir()} == {
        *("config.json", "vocab.txt", "tokenizer_config.json", "model.safetensors"),
        *("MANIFEST.json", "source.json"),
    }
    assert json.loads((place / "source.json").read_text())["revision"] == "c" * 40
    model, _ = models.load("bio-tinybert")
    assert isinstance(model, BertForTokenClassification)
    remote.files.clear()
    assert models.fetch(entries()["bio-tinybert"]) == place  # it is here: nothing is asked of the Hub


def test_a_file_that_is_not_what_the_hub_promised_is_dropped(remote, home):
    remote.promises["model.safetensors"] = "0" * 64
    with pytest.raises(CorruptFile, match="model.safetensors"):
        models.fetch(entries()["bio-tinybert"])
    assert not (home / "models" / "bio-tinybert").exists()


def test_an_answer_of_the_hub_is_passed_on(remote):
    with pytest.raises(Unavailable, match="404"):
        models.fetch(entries()["distil-biobert"])


def as_pickle(remote, tmp_path, content) -> None:
    torch.save(content, tmp_path / "pickle")
    del remote.files["model.safetensors"]
    remote.files["pytorch_model.bin"] = (tmp_path / "pickle").read_bytes()


def test_a_pickle_needs_permission(remote, home, tmp_path):
    as_pickle(remote, tmp_path, {"weight": torch.zeros(2)})
    with pytest.raises(Refused) as caught:
        models.fetch(entries()["bio-tinybert"])
    assert "--allow-pickle" in caught.value.next_step


@pytest.mark.slow
def test_a_pickle_becomes_safetensors(remote, home, tiny_model, tmp_path):
    tensors = load_file(tiny_model / "model.safetensors")
    tensors["tied"] = tensors["classifier.weight"]  # shares memory, as tied weights do
    as_pickle(remote, tmp_path, tensors)
    place = models.fetch(entries()["bio-tinybert"], allow_pickle=True)
    assert not list(place.glob("*.bin"))
    assert_same(load_file(place / "model.safetensors"), tensors)
    models.load("bio-tinybert")


def test_tensors_that_share_memory_are_converted_each_for_itself(tmp_path):
    weight = torch.arange(6.0).view(2, 3)
    tensors = {"weight": weight, "tied": weight, "turned": weight.T}
    torch.save(tensors | {"step": 7}, tmp_path / "pickle")
    convert(str(tmp_path / "pickle"), str(tmp_path / "weights.safetensors"))
    assert_same(load_file(tmp_path / "weights.safetensors"), tensors)


class Tripwire:
    """Unpickling it makes a folder."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.mkdir, (self.path,)


def test_code_in_a_pickle_is_not_run(tmp_path):
    torch.save({"weight": torch.zeros(2), "evil": Tripwire(tmp_path / "ran")}, tmp_path / "pickle")
    with pytest.raises(pickle.UnpicklingError):
        convert(str(tmp_path / "pickle"), str(tmp_path / "weights.safetensors"))
    assert not (tmp_path / "ran").exists() and not (tmp_path / "weights.safetensors").exists()


@pytest.mark.slow
def test_a_pickle_with_code_in_it_runs_nothing(remote, home, tmp_path):
    as_pickle(remote, tmp_path, {"weight": torch.zeros(2), "evil": Tripwire(tmp_path / "ran")})
    with pytest.raises(Refused, match="plain tensors"):
        models.fetch(entries()["bio-tinybert"], allow_pickle=True)
    assert not (tmp_path / "ran").exists()
    assert not (home / "models" / "bio-tinybert").exists()


def test_without_a_network_fetching_fails_at_once(home, online, no_network):
    start = time.monotonic()
    with pytest.raises(Unavailable) as caught:
        models.fetch(entries()["distil-biobert"])
    assert time.monotonic() - start < 5
    assert "cannot be reached" in str(caught.value)
    assert "connected machine" in caught.value.next_step and "minilm" in caught.value.next_step


def test_offline_mode_is_named(home):
    with pytest.raises(Unavailable, match="HF_HUB_OFFLINE"):
        models.fetch(entries()["distil-biobert"])


@pytest.mark.parametrize("model_id", ["abadeer-distilbert", "gliner-biomed-base"])
def test_what_could_not_be_used_is_not_fetched(home, online, no_network, model_id):
    with pytest.raises(Unavailable, match=model_id):
        models.fetch(entries()[model_id])


def test_fetching_what_is_embedded_answers_its_folder(home, no_network):
    assert models.fetch(entries()["minilm"]) == Path(resolve("minilm").path)
