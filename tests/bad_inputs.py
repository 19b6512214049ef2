"""Every kind of bad input, as tables: what a person may hand to a command or a page by mistake.

Each kind of input has a table of name -> function, which makes one in a folder and gives what is written for it.
REFUSED_... are those that no command may take; the others may suit one command and not another.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

ROWS = "Naloxone\tB-Disease\nhelps\tO\n\n" * 3
SPEC = {"kind": "finetune", "model": "minilm", "dataset": "ncbi-disease-slice", "schedule": {"steps": 1}}
Make = Callable[[Path, Path], str]  # (an empty folder, a tagger that is right) -> what is written


def _model(change: Callable[[Path], object]) -> Make:
    """A copy of the tagger in which something is changed."""

    def make(folder: Path, tagger: Path) -> str:
        shutil.copytree(tagger, folder / "m")
        change(folder / "m")
        return str(folder / "m")

    return make


def _config(**fields: object) -> Make:
    def change(model: Path) -> None:
        config = json.loads((model / "config.json").read_text()) | fields
        config = {name: value for name, value in config.items() if value is not ...}
        (model / "config.json").write_text(json.dumps(config))

    return _model(change)


def _file(name: str, content: str | bytes) -> Make:
    def make(folder: Path, _tagger: Path) -> str:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    return make


def _folder(**files: str | bytes) -> Make:
    def make(folder: Path, _tagger: Path) -> str:
        (folder / "d").mkdir()
        for name, content in files.items():
            _file(name.replace("__", "."), content)(folder / "d", folder)
        return str(folder / "d")

    return make


def _written(text: str) -> Make:
    return lambda _folder, _tagger: text


def _not_finite(model: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    weights = load_file(model / "model.safetensors")
    weights["classifier.weight"] = torch.full_like(weights["classifier.weight"], float("nan"))
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})


def _cut(model: Path) -> None:
    (model / "model.safetensors").write_bytes((model / "model.safetensors").read_bytes()[:1000])


def _without_tokenizer(model: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"):
        (model / name).unlink(missing_ok=True)


def _pickle_only(model: Path) -> None:
    (model / "model.safetensors").rename(model / "pytorch_model.bin")


BINARY = bytes(range(256)) * 4
REFUSED_MODELS: dict[str, Make] = {
    "a missing folder": _written("./no-such-folder"),
    "an unknown name": _written("no-such-model"),
    "an empty name": _written(""),
    "a name of a Hub model that is not here": _written("nobody/nothing"),
    "a run that is not there": _written("0a1b2c3d-9"),
    "a file": _file("model.safetensors", b""),
    "an empty folder": _folder(),
    "no config": _model(lambda model: (model / "config.json").unlink()),
    "a config that is no JSON": _model(lambda model: (model / "config.json").write_text("{")),
    "a config that is a list": _model(lambda model: (model / "config.json").write_text("[]")),
    "a binary config": _model(lambda model: (model / "config.json").write_bytes(BINARY)),
    "no weights": _model(lambda model: (model / "model.safetensors").unlink()),
    "weights cut short": _model(_cut),
    "weights that are no safetensors": _model(lambda model: (model / "model.safetensors").write_bytes(BINARY)),
    "a pickle": _model(_pickle_only),
    "remote code": _config(auto_map={"AutoModel": "evil.Model"}),
    "bytes that are no text": _written("./caf\udce9"),
    "a NUL": _written("./m\0"),
    "a path of another system": _written("C:\\models\\m"),
}
MODELS: dict[str, Make] = REFUSED_MODELS | {
    "outputs that are no numbers": _model(_not_finite),
    "no tokenizer": _model(_without_tokenizer),
    "a broken tokenizer": _model(lambda model: (model / "tokenizer.json").write_text("{")),
    "labels that are numbers": _config(id2label={"0": 0, "1": 1, "2": 2}),
    "labels that are null": _config(id2label={"0": None, "1": "B-Disease", "2": "I-Disease"}),
    "labels that are a list": _config(id2label=["O", "B-Disease", "I-Disease"]),
    "one label twice": _config(id2label={"0": "O", "1": "B-Disease", "2": "B-Disease"}),
    "no labels": _config(id2label=..., label2id=...),
    "no architectures": _config(architectures=...),
    "architectures that are a number": _config(architectures=7),
    "an unknown architecture": _config(model_type="no-such-type", architectures=["NoSuchModel"]),
    "no model type": _config(model_type=...),
    "sizes that are words": _config(hidden_size="large"),
    "sizes that are negative": _config(num_hidden_layers=-1),
    "sizes that are not those of the weights": _config(hidden_size=64),
    "an absurd size": _config(vocab_size=10**12),
    "a masked language model": _config(architectures=["BertForMaskedLM"]),
    "no head": _config(architectures=["BertModel"]),
    "a classifier": _written("mtsamples-specialty"),
}
REFUSED_NOTES: dict[str, Make] = {
    "a missing file": _written("no-such-note.txt"),
    "an empty path": _written(""),
    "a folder": _folder(a__txt="Fever"),
    "an empty file": _file("note.txt", b""),
    "blanks": _file("note.txt", " \n\t\u00a0\n"),
    "a byte order mark alone": _file("note.txt", b"\xef\xbb\xbf"),
    "a binary file": _file("note.txt", BINARY),
    "a PDF": _file("note.pdf", b"%PDF-1.7 ..."),
    "UTF-16": _file("note.txt", "Fever".encode("utf-16")),
    "Latin-1": _file("note.txt", "Fièvre".encode("latin-1")),
    "a lone surrogate": _file("note.txt", b"Fever \xed\xa0\x80"),
    "a huge file": _file("note.txt", b"Fever. " * 800_000),
    "bytes that are no text": _written("./caf\udce9.txt"),
    "a name that is too long": _written("x" * 5000),
}
NOTES = REFUSED_NOTES | {
    "nothing visible": _file("note.txt", "\u200b\u200d"),
    "one sign": _file("note.txt", "."),
    "control characters": _file("note.txt", "\x01\x02 \x1b[31m Fever \x7f"),
    "right to left": _file("note.txt", "שלום \u202e Fever"),
}
REFUSED_DATA: dict[str, Make] = {
    "a missing folder": _written("./no-such-data"),
    "an unknown name": _written("no-such-data"),
    "an empty name": _written(""),
    "a Hub data set that is not here": _written("hf:nobody/nothing"),
    "an empty folder": _folder(),
    "a folder of something else": _folder(readme__md="# x"),
    "an empty split": _folder(train__conll="", dev__conll="", test__conll=""),
    "a row too wide": _folder(train__conll="a\tb\tc\td\n", dev__conll=ROWS, test__conll="a\tb\tc\td\n"),
    "a tag that is none": _folder(train__conll="a\tDisease-\n", dev__conll=ROWS, test__conll="a\tDisease-\n"),
    "a binary file": _folder(train__conll=BINARY, dev__conll=BINARY, test__conll=BINARY),
    "JSONL that is none": _folder(train__jsonl="{", dev__jsonl="{", test__jsonl="{"),
    "JSONL of lists": _folder(train__jsonl="[]\n", test__jsonl="[]\n"),
    "spans beyond their text": _folder(
        test__spans__jsonl='{"text": "a", "entities": [{"start": 0, "end": 9, "label": "Disease"}]}\n'
    ),
    "a broken card": _folder(card__yaml="a: [", train__conll=ROWS, test__conll=ROWS),
    "a card that is a list": _folder(card__yaml="- a", train__conll=ROWS, test__conll=ROWS),
    "bytes that are no text": _written("./caf\udce9"),
    "a NUL": _written("./d\0"),
}
DATA = REFUSED_DATA | {
    "a file of something else": _file("train.xyz", ROWS),
    "text alone": _folder(train__txt="Fever\n" * 9),
    "one split": _folder(train__conll=ROWS),
    "labels that the model lacks": _folder(train__conll=ROWS, test__conll=ROWS.replace("Disease", "Planet")),
    "a CSV with its header twice": _folder(train__csv="text,text,label\na,b,c\n", test__csv="text,text,label\na,b,c\n"),
    "a BRAT folder without texts": _folder(**{"train/a__ann": "T1\tDisease 0 5\tFever\n"}),
}


def _spec(**changes: object) -> Make:
    import yaml

    return _file("job.yaml", yaml.safe_dump(SPEC | changes))


SPECS: dict[str, Make] = {
    "a missing file": _written("no-such-spec.yaml"),
    "an empty path": _written(""),
    "a folder": _folder(job__yaml="kind: finetune"),
    "an empty file": _file("job.yaml", b""),
    "a comment alone": _file("job.yaml", "# nothing\n"),
    "a binary file": _file("job.yaml", BINARY),
    "a list": _file("job.yaml", "- kind: finetune\n"),
    "a word": _file("job.yaml", "finetune"),
    "a number": _file("job.yaml", "7"),
    "tabs": _file("job.yaml", "kind: finetune\n\tmodel: minilm\n"),
    "an open bracket": _file("job.yaml", "kind: [finetune\n"),
    "two documents": _file("job.yaml", "kind: finetune\n---\nkind: finetune\n"),
    "an object of Python": _file("job.yaml", "!!python/object/apply:os.system [true]\n"),
    "a key twice": _file("job.yaml", "kind: finetune\nkind: evaluate\n"),
    "a key that is a list": _file("job.yaml", "? [a, b]\n: 1\n"),
    "keys that are numbers": _file("job.yaml", "1: 2\n3: 4\n"),
    "an alias of itself": _file("job.yaml", "&a [*a]\n"),
    "nested too deeply": _file("job.yaml", "[" * 5000),
    "a bomb": _file("job.yaml", "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nkind: [*b,*b,*b,*b]\n"),
    "UTF-16": _file("job.yaml", "kind: finetune".encode("utf-16")),
    "JSON": _file("job.yaml", "{}"),
    "bytes that are no text": _written("./caf\udce9.yaml"),
    "an unknown kind": _spec(kind="dance"),
    "a kind that is a list": _spec(kind=["finetune"]),
    "a recipe whose name is a list": _spec(recipe={"name": ["finetune"]}),
    "a recipe that is a list": _spec(recipe=["finetune"]),
    "a task whose name is a mapping": _spec(task={"name": {"a": 1}}),
    "a task that is a number": _spec(task=7),
    "a data set that is a list": _spec(dataset=["bc5cdr"]),
    "a change with a list as base": _spec(model={"base": ["minilm"], "layers": 2}),
    "layers that are words": _spec(model={"base": "minilm", "layers": 2, "layer_map": ["a"]}),
    "an unknown field": _spec(colour="blue"),
    "an unknown model": _spec(model="minilmm"),
    "an unknown data set": _spec(dataset="./nowhere"),
    "a model that is a number": _spec(model=7),
    "a model that is null": _spec(model=None),
    "a model that is a list": _spec(model=["minilm"]),
    "a model that is a surrogate": _file("job.yaml", 'kind: finetune\nmodel: "\\ud800"\ndataset: bc5cdr\n'),
    "a schedule that is a list": _spec(schedule=[1]),
    "an absurd number": _spec(schedule={"steps": 10**23}),
    "a number too large to be written": _file("job.yaml", f"kind: finetune\nseed: {'9' * 5000}\n"),
    "a number that is none": _spec(schedule={"lr": float("nan")}),
    "an infinite number": _spec(schedule={"clip": float("inf")}),
    "a negative number": _spec(schedule={"steps": -1}),
    "a date": _file("job.yaml", "kind: 2026-01-01\nmodel: minilm\ndataset: 2026-01-01\n"),
    "steps that are a word": _file("job.yaml", "steps: none\n"),
    "steps that are empty": _file("job.yaml", "steps: []\n"),
    "a step without a name": _file("job.yaml", "steps: [{kind: finetune}]\n"),
    "a step that is a word": _file("job.yaml", "steps: [finetune]\n"),
    "a step that waits for itself": _file(
        "job.yaml", 'steps: [{name: a, kind: evaluate, model: "@a", dataset: bc5cdr}]'
    ),
    "a classifier on tagged words": _spec(kind="evaluate", model="mtsamples-specialty", schedule={}),
}
NAMES: dict[str, Make] = {  # of jobs, and of models of the zoo
    "nobody": _written("nobody"),
    "empty": _written(""),
    "a run that is not there": _written("0a1b2c3d-9"),
    "a path": _written("../../etc/passwd"),
    "SQL": _written("x' OR 1=1 --"),
    "bytes that are no text": _written("caf\udce9"),
    "a NUL": _written("a\0b"),
    "very long": _written("x" * 5000),
}
OUTPUTS: dict[str, Make] = {
    "a file": _file("out", b"x"),
    "a folder that holds something": _folder(a__txt="x"),
    "below a file": lambda folder, tagger: _file("out", b"x")(folder, tagger) + "/below",
    "a name that is too long": _written("x" * 5000),
}
