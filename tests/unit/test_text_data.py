"""Data sets of plain text: every format reads the same, wrong rows are named, held-out shares stay, the Hub works."""

import gzip
import hashlib
import json
import shutil
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import datasets as library
import pytest
import yaml

from trainer import datasets
from trainer.datasets.cards import TaggedCard, TextCard
from trainer.datasets.readers import lines, text
from trainer.errors import BadData, CorruptFile, Refused, Unavailable, UnknownName
from trainer.resolved import ResolvedDataset

DOCUMENTS = ["Aspirin helps.", "No fever\u2028was seen.", "Caf\u00e9 au lait spots."]
PLAIN = "".join(f"{document}\n" for document in DOCUMENTS)
ROWS = "".join(json.dumps({"id": 1, "text": document}) + "\n" for document in DOCUMENTS)
FORMATS = {
    "train.txt": PLAIN.encode(),
    "train.jsonl": ROWS.encode(),
    "train.txt.gz": gzip.compress(PLAIN.encode()),
    "train.jsonl.gz": gzip.compress(ROWS.encode()),
}


def folder(path: Path, **files: str | bytes) -> Path:
    """A folder of text files: train="..." becomes train.txt, and so on."""
    path.mkdir(exist_ok=True)
    for split, content in files.items():
        (path / f"{split}.txt").write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def all_three(path: Path) -> Path:
    """A folder with three splits that share nothing."""
    return folder(path, train=PLAIN, dev="One dev document.\n", test="One test document.\n")


# Reading


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_documents(tmp_path, name):
    path = folder(tmp_path / "mine", dev="x\n", test="y\n")
    (path / name).write_bytes(FORMATS[name])
    assert list(datasets.documents(str(path), "train")) == DOCUMENTS
    assert list(datasets.documents(str(path), "dev")) == ["x"]


@pytest.mark.parametrize(
    "content",
    [
        PLAIN.replace("\n", "\r\n"),
        PLAIN.rstrip(),
        "\n \n" + PLAIN.replace("\n", "\n\t\n"),
        b"\xef\xbb\xbf" + PLAIN.encode(),
        PLAIN.replace("\n", "  \n"),
    ],
    ids=["crlf", "no last line end", "empty lines", "bom", "trailing blanks"],
)
def test_harmless_variations_read_the_same(tmp_path, content):
    path = folder(tmp_path / "mine", train=content, dev="x", test="y")
    assert list(datasets.documents(str(path), "train")) == DOCUMENTS


def test_json_texts_may_hold_line_ends_and_empty_ones_are_skipped(tmp_path):
    rows = [{"text": "one\ntwo"}, {"text": ""}, {"text": " \n"}, {"text": "three"}]
    (tmp_path / "notes.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert [document.text for document in text.read(tmp_path / "notes.jsonl")] == ["one\ntwo", "three"]
    assert [document.line for document in text.read(tmp_path / "notes.jsonl")] == [1, 4]


def test_only_what_is_asked_for_is_read(tmp_path):
    path = folder(tmp_path / "mine", train=PLAIN.encode() + b"\xff\n", dev="x", test="y")
    assert list(datasets.documents(str(path), "train", limit=3)) == DOCUMENTS
    with pytest.raises(BadData):
        list(datasets.documents(str(path), "train"))


def test_a_document_does_not_show_its_text():
    assert repr(text.Document("secret", 3)) == "Document(6 characters, line 3)"


WRONG = {
    "not UTF-8": ("train.txt", b"fine\nsecr\xe9t\n", 2, "0xe9 at offset 9 is not UTF-8", "Save the file as UTF-8"),
    "NUL": ("train.txt", b"fine\nsec\0ret\n", 2, "binary", "UTF-8"),
    "UTF-16": ("train.txt", PLAIN.encode("utf-16"), 1, "binary", "UTF-8"),
    "no JSON": ("train.jsonl", b'{"text": "a"}\n{"text": "secret"\n', 2, "not JSON", '{"text": "..."}'),
    "a list": ("train.jsonl", b'["secret"]\n', 1, "a JSON list where an object is needed", "other fields"),
    "no field": ("train.jsonl", b'{"note": "secret", "b": 1}\n', 1, "2 fields without the field `text`", "one object"),
    "null": ("train.jsonl", b'\n{"text": null}\n', 2, "is a NoneType, not a string", "one object"),
    "very deep": ("train.jsonl", b"[" * 100_000, 1, "not JSON", "one object"),
    "no gzip": ("train.txt.gz", PLAIN.encode(), 1, "damaged or incomplete", "Copy it again"),
    "half a gzip": ("train.txt.gz", gzip.compress(PLAIN.encode())[:-9], 4, "damaged or incomplete", "pack it again"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_row_is_named_with_its_line_and_a_remedy(tmp_path, name):
    file, content, line, detail, remedy = WRONG[name]
    path = folder(tmp_path / "mine", dev="x", test="y")
    (path / file).write_bytes(content)
    with pytest.raises(BadData) as caught:
        list(datasets.documents(str(path), "train"))
    assert (caught.value.path, caught.value.line) == (f"mine/{file}", line)
    assert detail in str(caught.value) and remedy.lower() in caught.value.next_step.lower()
    assert "secr" not in str(caught.value) and str(tmp_path) not in str(caught.value)


def test_a_line_without_end_is_refused_before_it_fills_the_memory(tmp_path):
    path = tmp_path / "train.txt"
    path.write_text("a\n" + "b" * 10_000_000)
    tracemalloc.start()
    try:
        with pytest.raises(BadData, match="mine/train.txt, line 2: the line is longer than"):
            list(lines.lines(path, name="mine/train.txt", longest=1000))
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


# Held-out shares


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> Path:
    return folder(tmp_path_factory.mktemp("many") / "mine", train="".join(f"Document {i}.\n" for i in range(5000)))


def test_a_share_of_train_stands_in_for_dev_and_test(many):
    parts = {split: list(datasets.documents(str(many), split)) for split in ("train", "dev", "test")}
    assert sorted(sum(parts.values(), [])) == sorted(f"Document {i}." for i in range(5000))
    assert all(60 < len(parts[split]) < 140 for split in ("dev", "test"))  # 2 % each


def test_the_shares_are_the_same_in_every_process():
    """Written down: another hash would change every held-out share, and train on what was held out before."""
    shares = [text.split_by_hash(f"Document {i}.") for i in range(100)]
    assert [i for i, share in enumerate(shares) if share == "dev"] == [34, 63, 91]


def test_a_split_that_is_there_takes_nothing_from_train(many, tmp_path):
    path = folder(tmp_path / "mine", train=(many / "train.txt").read_bytes(), test="Mine.\n")
    train, dev = (list(datasets.documents(str(path), split)) for split in ("train", "dev"))
    assert dev == list(datasets.documents(str(many), "dev"))
    assert len(train) + len(dev) == 5000
    assert list(datasets.documents(str(path), "test")) == ["Mine."]


def test_repeated_documents_stay_on_one_side(tmp_path):
    path = folder(tmp_path / "mine", train="".join(f"Document {i}.\n" for i in range(300)) * 2)
    dev, train = (list(datasets.documents(str(path), split)) for split in ("dev", "train"))
    assert dev and not set(dev) & set(train)


def test_a_folder_without_train_has_what_it_has(tmp_path):
    path = folder(tmp_path / "mine", test="only this\n")
    assert list(datasets.documents(str(path), "test")) == ["only this"]
    with pytest.raises(BadData, match="no split 'dev'; there is test"):
        datasets.documents(str(path), "dev")
    with pytest.raises(BadData, match="no split 'validation'"):
        datasets.documents(str(all_three(tmp_path / "other")), "validation")


# Finding


def test_a_folder_and_a_file_are_found_and_hashed(tmp_path):
    path = all_three(tmp_path / "mine")
    dataset = datasets.resolve(str(path))
    sums = {
        name: hashlib.sha256((path / name).read_bytes()).hexdigest() for name in sorted(p.name for p in path.iterdir())
    }
    stated = "".join(f"{value}  {name}\n" for name, value in sums.items())
    assert dataset.sha256 == hashlib.sha256(stated.encode()).hexdigest()
    one = datasets.resolve(str(path / "train.txt"))
    assert one.path == str(path / "train.txt") and one.sha256 != dataset.sha256
    assert sorted(sum((list(datasets.documents(one, s)) for s in ("train", "dev", "test")), [])) == sorted(DOCUMENTS)


def test_a_resolved_corpus_that_changed_is_refused(tmp_path):
    path = all_three(tmp_path / "mine")
    resolved = datasets.resolve(str(path))
    assert len(list(datasets.documents(resolved, "train"))) == 3
    (path / "dev.txt").write_text("another\n")
    with pytest.raises(CorruptFile, match="'mine' has changed since"):
        datasets.documents(resolved, "train")


def test_two_files_for_one_split_are_refused(tmp_path):
    path = all_three(tmp_path / "mine")
    (path / "train.jsonl").write_text(ROWS)
    with pytest.raises(BadData, match="train.txt and train.jsonl are both this split"):
        datasets.resolve(str(path))


def test_a_link_out_of_the_folder_is_refused(tmp_path):
    path = folder(tmp_path / "mine", train=PLAIN)
    (tmp_path / "private.txt").write_text("secret\n")
    (path / "dev.txt").symlink_to(tmp_path / "private.txt")
    with pytest.raises(Refused, match="outside the folder"):
        datasets.resolve(str(path))


def test_text_is_not_taken_for_labels_nor_labels_for_text(tmp_path):
    with pytest.raises(BadData, match="for the task mlm, not ner"):
        datasets.load(str(all_three(tmp_path / "mine")), "train")
    with pytest.raises(BadData, match="for the task ner, not mlm"):
        datasets.documents("bc5cdr-slice", "train")


# Cards


def write_card(path: Path, **changes) -> Path:
    fields = {"id": "mine", "name": "Mine", "task": "mlm", "licence": "CC0 1.0", "source": "here", "citation": "none"}
    sums = {
        split: hashlib.sha256((path / f"{split}.txt").read_bytes()).hexdigest() for split in ("train", "dev", "test")
    }
    stated = {"documents": 3, "characters": 60}
    fields["splits"] = {split: stated | {"file": f"{split}.txt", "sha256": value} for split, value in sums.items()}
    (path / "card.yaml").write_text(yaml.safe_dump(fields | changes))
    return path


def test_text_must_match_its_card(tmp_path):
    path = write_card(all_three(tmp_path / "mine"))
    assert list(datasets.documents(str(path), "train")) == DOCUMENTS
    (path / "test.txt").write_text("changed\n")
    with pytest.raises(CorruptFile, match="mine/test.txt is not the file that card.yaml describes"):
        datasets.resolve(str(path))


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"labels": ["Disease"]}, "labels"),
        ({"splits": {"train": {"file": "train.txt", "sentences": 3, "sha256": ""}}}, "splits.train.documents: Field"),
        ({"task": "summarise"}, "task: Input should be 'ner'"),
        ({"task": ["mlm"]}, "task: "),
    ],
)
def test_a_wrong_text_card_names_its_fields(tmp_path, changes, problem):
    path = write_card(all_three(tmp_path / "mine"), **changes)
    with pytest.raises(BadData, match=f"mine/card.yaml: .*{problem}"):
        datasets.resolve(str(path))


def test_cards_of_both_kinds_say_how_much_there_is():
    cards = datasets.cards()
    assert isinstance(cards["bc5cdr"], TaggedCard) and isinstance(cards["clinical-text"], TextCard)
    split = cards["bc5cdr"].splits["dev"]
    assert (split.unit, split.examples) == ("sentences", split.sentences)
    split = cards["clinical-text"].splits["dev"]
    assert (split.unit, split.examples) == ("documents", split.documents)
    assert cards["clinical-text"].labels == ()


# Checking


def test_a_good_corpus_has_counts_and_no_problem(tmp_path):
    path = folder(tmp_path / "mine", train=PLAIN + DOCUMENTS[0], dev=DOCUMENTS[1], test="new")
    report = datasets.check(path, task="mlm")
    assert report.ok
    train = report.splits["train"]
    assert (train.documents, train.characters) == (4, sum(map(len, DOCUMENTS)) + len(DOCUMENTS[0]))
    assert (train.longest, train.repeated) == (max(map(len, DOCUMENTS)), 1)
    assert report.repeated == {"train/dev": 1, "train/test": 0, "dev/test": 0}
    assert report.to_json()["splits"]["dev"] == {"documents": 1, "characters": 18, "longest": 18, "repeated": 0}


def test_every_problem_of_a_corpus_is_reported_with_its_line(tmp_path):
    path = folder(tmp_path / "mine", dev=b"fine\n\xff\n")
    (path / "train.jsonl").write_text('{"text": "a"}\n{"x": 1}\nnothing\n{"text": "b"}\n')
    report = datasets.check(path, task="mlm")
    places = [(problem.file, problem.line) for problem in report.problems]
    assert places == [("mine/train.jsonl", 2), ("mine/train.jsonl", 3), ("mine/dev.txt", 2)]
    assert report.splits["train"].documents == 2, "good rows are counted all the same"
    assert all(problem.next_step for problem in report.problems)


def test_a_corpus_needs_train_only_and_one_file_is_a_corpus(tmp_path):
    assert datasets.check(folder(tmp_path / "mine", train=PLAIN), task="mlm").ok
    assert datasets.check(tmp_path / "mine" / "train.txt", task="mlm").splits["train"].documents == 3
    (tmp_path / "notes.iob").write_text(PLAIN)
    assert "not a data set" in datasets.check(tmp_path / "notes.iob", task="mlm").problems[0].message
    (tmp_path / "notes.csv").write_text(PLAIN)
    assert "classification, not mlm" in datasets.check(tmp_path / "notes.csv", task="mlm").problems[0].message


def test_checking_for_another_task_is_an_error(tmp_path):
    report = datasets.check(all_three(tmp_path / "mine"), task="ner")
    assert [problem.message for problem in report.problems] == ["its splits are for the task mlm, not ner."]
    assert "for the task ner, not mlm" in datasets.check("bc5cdr-slice", task="mlm").problems[0].message


def test_an_empty_corpus_is_a_problem(tmp_path):
    report = datasets.check(folder(tmp_path / "mine", train="\n\n"), task="mlm")
    assert [problem.message for problem in report.problems] == ["the file holds no document."]


# The Hub


@pytest.fixture(scope="module")
def hub_cache(tmp_path_factory) -> Path:
    """What `datasets.load_dataset("some/notes")` leaves behind: text in train and validation; some/pairs has none, and
    some/wards has labels, as numbers that its features name.
    """
    cache = tmp_path_factory.mktemp("hub")
    named = library.Features(text=library.Value("string"), label=library.ClassLabel(names=["eye", "heart"]))
    for name, field, features in (("notes", "text", None), ("pairs", "question", None), ("wards", "text", named)):
        rows = [{field: f"Row {i}."} | ({"label": i % 2} if features else {"id": i}) for i in range(200)]
        (cache / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        files = {"train": str(cache / "rows.jsonl"), "validation": str(cache / "rows.jsonl")}
        library.load_dataset("json", data_files=files, cache_dir=str(cache / name), features=features)
        made = next((cache / name / "json").glob("*/*/*/"))
        folder = cache / f"some___{name}" / "default" / "0.0.0" / "c0ffee"
        shutil.copytree(made, folder)
        for file in folder.glob("json-*"):
            file.rename(file.with_name(file.name.replace("json-", f"{name}-")))
        info = json.loads((folder / "dataset_info.json").read_text()) | {"config_name": "default", "dataset_name": name}
        (folder / "dataset_info.json").write_text(json.dumps(info))
    return cache


@pytest.fixture
def hub(hub_cache, monkeypatch) -> Path:
    monkeypatch.setattr(library.config, "HF_DATASETS_CACHE", hub_cache)
    datasets.hub._pinned.cache_clear()
    return hub_cache


def test_a_cached_hub_data_set_is_streamed(hub):
    dataset = datasets.resolve("hf:some/notes")
    assert (dataset.reference, dataset.path) == ("hf:some/notes", "hf:some/notes@c0ffee")
    assert datasets.resolve(dataset.path).sha256 == dataset.sha256, "the pinned reference is the same data set"
    assert list(datasets.documents(dataset, "dev")) == [f"Row {i}." for i in range(200)]  # its validation split
    train, test = (list(datasets.documents(dataset, split)) for split in ("train", "test"))
    assert test and sorted(train + test) == sorted(f"Row {i}." for i in range(200))
    assert list(datasets.documents("hf:some/notes:default", "train", limit=2)) == train[:2]


@pytest.mark.parametrize("name", ["hf:some/other", "hf:some/notes:large", "hf:some/notes@deadbeef"])
def test_a_hub_data_set_that_is_not_here_is_unavailable_at_once(hub, name):
    started = time.monotonic()
    with pytest.raises(Unavailable, match="is not on this machine") as caught:
        datasets.resolve(name)
    assert "stillroom datasets fetch hf:some/" in caught.value.next_step
    assert time.monotonic() - started < 5


def test_the_cache_is_read_where_the_library_renames_its_reader(hub, monkeypatch):
    from datasets.packaged_modules.cache import cache

    usual = datasets.resolve("hf:some/notes")
    monkeypatch.setattr(cache, "CacheReader", cache.Cache, raising=False)
    monkeypatch.delattr(cache, "Cache")
    datasets.hub._pinned.cache_clear()
    assert datasets.resolve("hf:some/notes") == usual
    assert len(list(datasets.documents(usual, "dev"))) == 200
    with pytest.raises(Unavailable, match="is not on this machine"):
        datasets.resolve("hf:some/other")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with pytest.raises(Unavailable, match="is not on this machine"):  # rather than that it is asked for elsewhere
        datasets.resolve("hf:some/notes")


def test_a_hub_data_set_without_text_says_what_it_has(hub):
    with pytest.raises(BadData, match="no field `text`; it has question, id") as refused:
        datasets.resolve("hf:some/pairs")
    assert "stillroom datasets import hf:some/pairs" in refused.value.next_step


def test_a_hub_data_set_is_imported_with_the_names_of_its_labels(hub, home):
    reference, report = datasets.import_data("hf:some/wards", task="classification", name="wards")
    assert report.ok and report.labels == ("eye", "heart") and report.splits["dev"].documents == 200
    assert datasets.labelled_documents(reference, "test", field="label", limit=1)[0].labels[0] in ("eye", "heart")
    reference, report = datasets.import_data("hf:some/pairs", task="pairs", name="other")
    assert not reference and "without `premise` and `hypothesis`" in report.problems[0].message


def test_a_cached_hub_data_set_gives_labels_by_their_names(hub):
    dataset = datasets.resolve("hf:some/wards")
    assert datasets.label_field(dataset) == "label"
    first = datasets.labelled_documents(dataset, "dev", field="label", limit=3)
    assert [(row.text, row.labels) for row in first] == [
        ("Row 0.", ("eye",)),
        ("Row 1.", ("heart",)),
        ("Row 2.", ("eye",)),
    ]
    with pytest.raises(BadData, match="there is no split 'test'; there is train, dev"):
        datasets.labelled_documents(dataset, "test", field="label")
    report = datasets.survey(dataset, task="classification")
    assert report.splits["dev"].labels == {"eye": 100, "heart": 100} and report.splits["dev"].lines["heart"] == 2
    (problem,) = report.problems
    assert problem.split == "test" and "there is no test split" in problem.message
    with pytest.raises(BadData, match="neither `label` nor `labels`"):
        datasets.labelled_documents("hf:some/notes", "train", field="label")


def test_a_hub_data_set_has_no_tagged_words(hub):
    with pytest.raises(BadData, match="a Hub data set has no tagged words"):
        datasets.load("hf:some/notes", "train")


def test_an_existing_folder_wins_over_the_hub(tmp_path, monkeypatch):
    (tmp_path / "hf:some").mkdir()
    all_three(tmp_path / "hf:some" / "notes")
    monkeypatch.chdir(tmp_path)
    assert datasets.resolve("hf:some/notes").path == str(tmp_path / "hf:some" / "notes")


def test_a_hub_data_set_says_that_it_is_one_and_what_was_stored_without_that_is_still_read(hub):
    with pytest.raises(UnknownName, match="hf:owner/name") as refused:
        datasets.resolve("some/notes")
    assert "clinical-text" in str(refused.value) and "a folder" in str(refused.value)
    for wrong in ("hf:notes", "hf:", "hf:a/b/c", "hf:../etc", "hf:a/b@x/y"):
        with pytest.raises(UnknownName, match="hf:owner/name"):
            datasets.resolve(wrong)
    new = datasets.resolve("hf:some/notes")
    old = ResolvedDataset(reference="some/notes", path="some/notes@c0ffee", sha256=new.sha256)
    assert new.sha256 == hashlib.sha256(b"some/notes@c0ffee").hexdigest(), "caches of older versions are found"
    assert list(datasets.documents(old, "dev", limit=2)) == list(datasets.documents(new, "dev", limit=2))


def test_an_invalid_name_is_unknown():
    with pytest.raises(UnknownName, match="clinical-text"):
        datasets.resolve("clinical-texts")


def test_reading_and_checking_text_needs_no_torch():
    check = "d.check('clinical-text-slice', task='mlm')"
    code = f"import sys, trainer.datasets as d; {check}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
