"""The papers' own runs, specs/papers, each taken two steps with random weights of the same architecture in a tiny size.

Layers, heads, layer maps, objectives and kinds of rows are the specs' own; widths, windows, vocabulary, data are small.
"""

import math
from pathlib import Path

import pytest
import torch
from tokenizers.pre_tokenizers import ByteLevel
from transformers import BertTokenizer, BigBirdTokenizer, RobertaTokenizer

from trainer import datasets, models
from trainer.execute import FINISHED, execute
from trainer.files import file_sha256
from trainer.resolved import ResolvedModel
from trainer.run import Run, RunSpec
from trainer.spec import parse, read
from trainer.zoo import entries
from trainer.zoo.compatibility import shape

PAPERS = Path(__file__).parents[2] / "specs" / "papers"
NAMES = sorted(path.stem for path in PAPERS.glob("*.yaml"))
# Each has the recipe and the architecture of one that is in every run.
ALIKE = {"bio-distilbert-uncased", "clinical-distilbert", "clinical-minialbert-312", "clinical-mobilebert"}
ALIKE |= {"distil-clinicalbert", "minialbert-128", "tiny-clinicalbert"}
NOTE = "patient with severe renal failure was given oral naloxone after acute heart injury and no fever"
WORDS = NOTE.split()
WINDOW, LONG = 24, 96  # pieces of a row; LONG for the two long models, so that their attention is sparse
SIZES = {768: 48, 312: 24, 128: 12, 3072: 64, 1200: 32}  # of the specs, and what they are here
TINY = {"hidden_size": SIZES[768], "intermediate_size": SIZES[3072], "max_position_embeddings": WINDOW}
TINY_BY_TYPE = {
    "bert": TINY,
    "distilbert": {"dim": SIZES[768], "hidden_dim": SIZES[3072], "max_position_embeddings": WINDOW},
    "mobilebert": TINY | {"embedding_size": 24, "intra_bottleneck_size": 24, "intermediate_size": 24},
    "longformer": TINY | {"attention_window": [16] * 12, "max_position_embeddings": LONG + 2},
    "big_bird": TINY | {"block_size": 4, "max_position_embeddings": LONG},
}
COPIED = {
    "distil-biobert": [1, 3, 5, 7, 9, 11],
    "compact-biobert": [2, 4, 6, 8, 10, 12],
    "distil-clinicalbert": [2, 4, 6, 8, 10, 12],
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Documents of different lengths, longer than any window."""
    folder = tmp_path_factory.mktemp("text")
    for split, count in (("train", 12), ("dev", 2), ("test", 3)):
        texts = (" ".join(WORDS[(start + place) % 16] for place in range(100 + start)) for start in range(count))
        (folder / f"{split}.txt").write_text("\n".join(texts) + "\n", encoding="utf-8")
    return datasets.resolve(str(folder))


def tokenizer(kind):
    """A tokenizer of the kind that the zoo states, with hardly more pieces than the corpus needs."""
    if kind == "bpe":
        pieces = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *sorted(ByteLevel.alphabet())]
        return RobertaTokenizer(vocab={piece: number for number, piece in enumerate(pieces)}, merges=[])
    if kind == "sentencepiece":
        pieces = ["<pad>", "</s>", "<s>", "<unk>", *(f"▁{word}" for word in WORDS), "[SEP]", "[MASK]", "[CLS]"]
        return BigBirdTokenizer(vocab=[(piece, 0.0 if piece[1:] not in WORDS else -2.0) for piece in pieces])
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    return BertTokenizer(vocab={piece: number for number, piece in enumerate(pieces)})


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """tiny(zoo id): its architecture with random weights in a folder, narrow, but with as many layers and heads."""
    made = {}

    def make(name):
        if name not in made:
            entry, folder = entries()[name], tmp_path_factory.mktemp("models") / name
            cutter, sizes = tokenizer(entry.tokenizer["kind"]), TINY_BY_TYPE[entry.architecture["model_type"]]
            if entry.architecture.get("hidden_size") == 312:
                sizes = sizes | {"hidden_size": SIZES[312], "intermediate_size": SIZES[1200]}
            small = entry.architecture | sizes | {"vocab_size": len(cutter)}
            models.save(models.build(entry.model_copy(update={"architecture": small})), cutter, folder)
            sha256 = file_sha256(folder / "model.safetensors")
            made[name] = ResolvedModel(reference=f"./{name}", path=str(folder), sha256=sha256)
        return made[name]

    return make


def two_steps(spec):
    """The spec with two optimiser steps of two batches each, and its student as narrow as the tiny models are."""
    fields = spec.model_dump(mode="json")
    short = {"steps": 2, "epochs": None, "batch_size": 2, "accumulate": 2, "evaluate_every": None}
    fields["schedule"] |= short | {"max_tokens": LONG if spec.schedule.max_tokens == 4096 else WINDOW}
    for size in ("hidden", "intermediate", "embedding"):
        if spec.change and fields["student"][size]:
            fields["student"][size] = SIZES[fields["student"][size]]
    return parse(fields)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in ALIKE else name for name in NAMES]
)
def test_every_run_of_the_papers_makes_a_model(name, tiny, corpus, tmp_path):
    spec = two_steps(read(PAPERS / f"{name}.yaml"))
    start, teacher = tiny(spec.start), tiny(spec.teacher) if spec.teacher else None
    ready = {"spec": spec, "model": start, "teacher": teacher, "dataset": corpus, "threads": 1, "device": "cpu"}
    run = Run.create(tmp_path / "runs", RunSpec(id="00000000-1", attempt=1, **ready))
    torch.set_num_threads(1)
    assert execute(run.folder) == FINISHED, run.result.error

    steps = [event["metrics"] for event in run.events()[0] if event["event"] == "step"]
    made = ResolvedModel(reference=name, path=str(run.folder / run.result.artifact), sha256="")
    made_shape, entry = shape(made), entries()[name]
    terms = {f"loss.{term.name}" for term in spec.recipe.plan(made_shape.layers, 12) if term.weight}
    assert len(steps) == 2 and all(math.isfinite(value) for metrics in steps for value in metrics.values())
    assert all(terms <= set(metrics) for metrics in steps)
    assert made_shape.model_type == entry.architecture["model_type"]
    assert made_shape.layers == models.build_config(entry).num_hidden_layers
    assert {"test_accuracy", "best_step"} <= set(run.result.metrics)
    assert ("retention" in run.result.metrics) == bool(spec.teacher)
    sha256 = file_sha256(Path(made.path) / "model.safetensors")
    model, _ = models.load(made.model_copy(update={"sha256": sha256}))
    assert type(model).__name__.endswith("ForMaskedLM")
    if name in COPIED:
        teaching, _ = models.load(teacher)
        assert [nearest(layer, teaching) for layer in model.bert.encoder.layer] == COPIED[name]


def nearest(layer, model):
    """The number (from 1) of the layer of a model that this one is closest to; two steps move no weight far."""
    mine = layer.intermediate.dense.weight
    theirs = [other.intermediate.dense.weight for other in model.bert.encoder.layer]
    return 1 + min(range(len(theirs)), key=lambda k: (theirs[k] - mine).abs().max().item())
