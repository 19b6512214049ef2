"""Reading, finding and checking data sets: a wrong row is named with its line and a remedy, and no word is quoted."""

import hashlib
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer import datasets
from trainer.datasets import Sentence, rules
from trainer.datasets.readers import conll
from trainer.errors import BadData, CorruptFile, Refused, UnknownName

GOOD = "Aspirin\tB-Chemical\nhelps\tO\n\nNo\tO\nheart\tB-Disease\nfailure\tI-Disease\n\n"


def folder(path: Path, **splits: str | bytes) -> Path:
    """A data-set folder; splits that are not given are good ones."""
    path.mkdir(exist_ok=True)
    for split, text in ({"train": GOOD, "dev": GOOD, "test": GOOD} | splits).items():
        (path / f"{split}.conll").write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def problem(tmp_path: Path, text: str | bytes) -> BadData:
    with pytest.raises(BadData) as caught:
        datasets.load(str(folder(tmp_path / "mine", train=text)), "train")
    return caught.value


# Reading


def test_reads_words_and_tags(tmp_path):
    sentences = datasets.load(str(folder(tmp_path / "mine")), "train")
    assert sentences == [
        Sentence(("Aspirin", "helps"), ("B-Chemical", "O")),
        Sentence(("No", "heart", "failure"), ("O", "B-Disease", "I-Disease")),
    ]
    assert datasets.entity_types(sentences) == ("Chemical", "Disease")


@pytest.mark.parametrize(
    "text",
    [
        GOOD.replace("\n", "\r\n"),
        GOOD.replace("\t", " "),
        GOOD.replace("\t", "   "),
        GOOD.rstrip(),
        "-DOCSTART-\tO\n\n" + GOOD,
        "-DOCSTART- -X- -X- O\n" + GOOD,
        "\n\n" + GOOD.replace("\n\n", "\n \t\n\n"),
        b"\xef\xbb\xbf" + GOOD.encode(),
        GOOD.replace("\tO\n", "\tO \n"),
    ],
    ids=["crlf", "blank", "blanks", "no last line end", "docstart", "docstart 4", "empty lines", "bom", "trailing"],
)
def test_harmless_variations_read_the_same(tmp_path, text):
    assert datasets.load(str(folder(tmp_path / "mine", train=text)), "train") == datasets.load(
        str(folder(tmp_path / "other")), "train"
    )


def test_only_line_feeds_end_lines(tmp_path):
    words = ("a\u2028b", "c\x85d", "e\rf", "g\u00a0h", "i j")
    conll.write(tmp_path / "odd.conll", [Sentence(words, ("O",) * 5)])
    assert next(conll.read(tmp_path / "odd.conll")).sentence.words == words


def test_limit_stops_before_the_rest_is_read(tmp_path):
    path = str(folder(tmp_path / "mine", train=GOOD + "broken\n"))
    assert len(datasets.load(path, "train", limit=2)) == 2
    with pytest.raises(BadData):
        datasets.load(path, "train")


# Wrong rows: place, finding, remedy

WRONG = {
    "three columns": ("a\tO\nsecret\tNN\tO\n", 2, "3 columns", "one word and its tag per line"),
    "one column": ("a\tO\nsecret\n", 2, "1 column where", "a tab between them"),
    "three fields with blanks": ("secret NN O\n", 1, "3 columns", "one word and its tag per line"),
    "empty word": ("a\tO\n\tO\n", 2, "the word is empty", "delete the line"),
    "blank word": ("\u2003\tO\n", 1, "the word is empty", "Write the word"),
    "plain B": ("a\tO\nsecret\tB\n", 2, "names no entity type", "Write B-<type>"),
    "plain I": ("secret\tI\n", 1, "names no entity type", "Write I-<type>"),
    "BIOES single": ("secret\tS-Disease\n", 1, "'S-Disease' is a BIOES", "Write B-Disease"),
    "BIOES end": ("a\tB-Disease\nsecret\tE-Disease\n", 2, "BIOES or BILOU", "Write I-Disease"),
    "BILOU unit": ("secret\tU-Disease\n", 1, "BIOES or BILOU", "Write B-Disease"),
    "underscore": ("secret\tB_Disease\n", 1, "'B_Disease' is not an IOB2 tag", "B-<type>"),
    "lower case": ("a\to\n", 1, "is not an IOB2 tag", "Use IOB2"),
    "no type": ("a\tB-\n", 1, "is not an IOB2 tag", "Use IOB2"),
    "columns swapped": ("O\tsecret\n", 1, "a tag of 6 characters is not an IOB2 tag", "Use IOB2"),
    "IOB1 at the start": ("a\tO\n\nsecret\tI-Disease\n", 3, "at the start of a sentence", "Write B-Disease"),
    "IOB1 after O": ("a\tO\nsecret\tI-Disease\n", 2, "after O: an entity that does not begin with B-", "the IOB1"),
    "another type": ("a\tB-Chemical\nsecret\tI-Disease\n", 2, "an entity of another type", "B-Disease"),
    "NUL": (b"a\tO\nsec\0ret\tO\n", 2, "binary", "UTF-8"),
    "UTF-16": (GOOD.encode("utf-16"), 1, "binary file, or not UTF-8", "Save the file as UTF-8"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_row_is_named_with_its_line_and_a_remedy(tmp_path, name):
    text, line, detail, remedy = WRONG[name]
    error = problem(tmp_path, text)
    assert error.line == line
    assert error.path == "mine/train.conll"
    assert f"mine/train.conll, line {line}: " in str(error)
    assert detail in str(error) and remedy in str(error)
    assert "secret" not in str(error), "a message quotes a word of the data"
    assert str(tmp_path) not in str(error), "a message shows a path of the machine"


def test_line_4217_with_three_columns(tmp_path):
    lines = ["word\tO", "other\tB-Disease", ""] * 2000
    lines[4216] = "word\tNN\tO"
    error = problem(tmp_path, "\n".join(lines))
    assert error.line == 4217
    assert str(error).startswith("mine/train.conll, line 4,217: 3 columns where 2 are needed.")


@pytest.mark.parametrize("before", [b"", b"a\tO\n", b"a\tO\n\r\nb\tO\r\n"])
@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"], ids=["", "after a byte order mark"])
def test_bytes_that_are_not_utf8_are_named_with_their_offset(tmp_path, start, before):
    data = start + before + b"na\xefve\tO\n"
    error = problem(tmp_path, data)
    assert error.line == 1 + before.count(b"\n")
    assert f"0xef at offset {data.index(b've') - 1} " in str(error)


@pytest.mark.parametrize("text", ["", "\n\n", "-DOCSTART-\tO\n\n"])
def test_an_empty_split_is_an_error(tmp_path, text):
    assert "holds no sentence" in str(problem(tmp_path, text))


def test_a_split_that_is_not_there_names_those_that_are(tmp_path):
    path = folder(tmp_path / "mine")
    (path / "dev.conll").unlink()
    with pytest.raises(BadData, match="no split 'dev'; there is train, test.*Add dev.conll"):
        datasets.load(str(path), "dev")


def test_labels_that_the_model_does_not_know_are_named_with_their_line(tmp_path):
    report = datasets.check(folder(tmp_path / "mine"), task="ner")
    how = {"task": "ner", "who": "the model", "wanted": ("train",)}
    assert not list(rules.label_problems(report.splits, report.files, {"Chemical", "Disease"}, **how))
    ((split, error),) = rules.label_problems(report.splits, report.files, {"Chemical"}, **how)
    assert split == "train" and error.line == 5
    assert "the model does not know the entity type 'Disease'; it knows Chemical." in str(error)


# Writing

WORDS = st.text(min_size=1, max_size=8).filter(
    lambda word: not word.isspace() and {"\n", "\t", "\0", "\ufeff"}.isdisjoint(word) and not word.startswith("-DOC")
)


@st.composite
def sentences(draw) -> Sentence:
    """Any words, with tags that IOB2 allows in that order."""
    words, tags = draw(st.lists(WORDS, min_size=1, max_size=6)), []
    for _ in words:
        inside = [f"I-{tags[-1][2:]}"] if tags and tags[-1] != "O" else []
        tags.append(draw(st.sampled_from(["O", "B-Disease", "B-Drug/Chemical", *inside])))
    return Sentence(tuple(words), tuple(tags))


@settings(max_examples=150, deadline=None)
@given(st.lists(sentences(), min_size=1, max_size=4))
def test_what_is_written_is_read_back(tmp_path_factory, given_sentences):
    path = tmp_path_factory.getbasetemp() / "round-trip.conll"
    conll.write(path, given_sentences)
    placed = list(conll.read(path))
    assert [item.sentence for item in placed] == given_sentences
    lines = path.read_bytes().decode().split("\n")
    for item in placed:
        rows = [f"{word}\t{tag}" for word, tag in zip(item.sentence.words, item.sentence.tags, strict=True)]
        assert [lines[line - 1] for line in item.lines] == rows


@pytest.mark.parametrize(
    ("words", "tags"),
    [
        (("a\tb",), ("O",)),
        (("a\nb",), ("O",)),
        (("",), ("O",)),
        (("-DOCSTART-",), ("O",)),
        (("a",), ("I-Disease",)),
        (("a",), ("B",)),
        ((), ()),
        (("a", "b"), ("O",)),
    ],
)
def test_what_cannot_be_read_back_is_not_written(tmp_path, words, tags):
    with pytest.raises(BadData, match="sentence 2: "):
        conll.write(tmp_path / "x.conll", [Sentence(("fine",), ("O",)), Sentence(words, tags)])


# Finding


def test_a_folder_and_an_id_are_found(tmp_path, monkeypatch):
    folder(tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    for reference in ("mine", "./mine", str(tmp_path / "mine")):
        dataset = datasets.resolve(reference)
        assert (dataset.reference, dataset.path) == (reference, str(tmp_path / "mine"))
    (tmp_path / "bc5cdr").mkdir()
    assert datasets.resolve("bc5cdr").path != str(tmp_path / "bc5cdr")


def test_the_hash_is_that_of_the_files(tmp_path):
    one, other = folder(tmp_path / "one"), folder(tmp_path / "other")
    before = datasets.resolve(str(one)).sha256
    assert before == datasets.resolve(str(other)).sha256
    (one / "notes.txt").write_text("not a split")
    assert datasets.resolve(str(one)).sha256 == before
    (one / "dev.conll").write_text(GOOD + "\n")
    assert datasets.resolve(str(one)).sha256 != before


def test_a_resolved_data_set_that_changed_is_refused(tmp_path):
    path = folder(tmp_path / "mine")
    resolved = datasets.resolve(str(path))
    assert len(datasets.load(resolved, "dev")) == 2
    (path / "train.conll").write_text("other\tO\n")
    with pytest.raises(CorruptFile, match="'mine' has changed since"):
        datasets.load(resolved, "dev")


@pytest.mark.parametrize("name", ["", " ", "no-such-set", "bc5cdrr", "a\0b", "x" * 5000, "./nowhere"])
def test_an_unknown_name_lists_the_known_ones(name):
    with pytest.raises(UnknownName, match="bc5cdr") as caught:
        datasets.resolve(name)
    assert "train.conll" in caught.value.next_step


def test_a_folder_without_splits_says_what_it_holds(tmp_path):
    (tmp_path / "train.iob").write_text(GOOD)
    with pytest.raises(BadData, match="no train.conll, no train.jsonl, no train.csv and no train.txt; found train.iob"):
        datasets.resolve(str(tmp_path))
    with pytest.raises(BadData, match="a file, not a data set"):
        datasets.resolve(str(tmp_path / "train.iob"))


def write_card(path: Path, **changes) -> Path:
    """A card for a folder, with the right hashes unless told otherwise."""
    split = {"sentences": 2, "tokens": 5, "entities": 2}
    data = {name: (path / f"{name}.conll").read_bytes() for name in ("train", "dev", "test")}
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in data.items()}
    fields = {"id": "mine", "name": "Mine", "task": "ner", "labels": ["Chemical", "Disease"]}
    fields |= {"licence": "CC0 1.0", "source": "here", "citation": "none"}
    fields["splits"] = {name: split | {"file": f"{name}.conll", "sha256": value} for name, value in hashes.items()}
    (path / "card.yaml").write_text(yaml.safe_dump(fields | changes))
    return path


def test_data_must_match_their_card(tmp_path):
    path = write_card(folder(tmp_path / "mine"))
    assert datasets.resolve(str(path)).sha256
    (path / "test.conll").write_text(GOOD.replace("Aspirin", "aspirin"))
    with pytest.raises(CorruptFile, match="mine/test.conll is not the file that card.yaml describes.*Restore"):
        datasets.resolve(str(path))


def test_a_card_cannot_point_outside_its_folder(tmp_path):
    folder(tmp_path / "other")
    path = folder(tmp_path / "mine")
    split = {"file": "../other/train.conll", "sentences": 2, "tokens": 5, "entities": 2, "sha256": ""}
    write_card(path, splits={"train": split})
    with pytest.raises(Refused, match="outside the folder"):
        datasets.resolve(str(path))


def test_a_split_may_not_be_a_link_out_of_its_folder(tmp_path):
    path = folder(tmp_path / "mine")
    (tmp_path / "private.txt").write_text(GOOD)
    (path / "dev.conll").unlink()
    (path / "dev.conll").symlink_to(tmp_path / "private.txt")
    with pytest.raises(Refused, match="outside the folder"):
        datasets.load(str(path), "dev")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("id: [1", "line 1: this is not YAML"),
        ("just words", "card: Input should be"),
        ("id: 3\nname: x", "id: Input should be a valid string"),
        ("id: x\ncolour: blue", "colour: Extra inputs"),
        (b"\xff\xfe", "this is not YAML"),
    ],
)
def test_a_wrong_card_names_its_fields(tmp_path, text, problem):
    path = folder(tmp_path / "mine")
    (path / "card.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(BadData, match=f"mine/card.yaml.*{problem}"):
        datasets.resolve(str(path))


# Checking


def test_a_good_folder_has_counts_and_no_problem(tmp_path):
    report = datasets.check(folder(tmp_path / "mine", dev="Other\tB-Disease\n"), task="ner")
    assert report.ok and not report.problems
    train = report.splits["train"]
    assert (train.sentences, train.tokens, train.entities, train.longest) == (2, 5, 2, 3)
    assert train.labels == {"Chemical": 1, "Disease": 1}
    assert report.repeated == {"train/dev": 0, "train/test": 2, "dev/test": 0}
    shown = report.to_json()
    assert shown["ok"] is True and shown["path"] == "mine" and shown["splits"]["dev"]["entities"] == 1


def test_every_problem_is_reported_with_its_line(tmp_path):
    wrong = "a\tO\nb\tNN\tO\nc\tI-Disease\nd\tI-Disease\n\ne\tS-Disease\n\nf\tO\n"
    report = datasets.check(folder(tmp_path / "mine", dev=wrong, test=b"caf\xe9\tO\n"), task="ner")
    assert not report.ok
    places = [(problem.file, problem.line) for problem in report.problems]
    assert places == [("mine/dev.conll", line) for line in (2, 3, 6)] + [("mine/test.conll", 1)]
    assert report.problems[0].message.startswith("3 columns")
    assert all(problem.next_step for problem in report.problems)
    assert report.splits["dev"].sentences == 2, "good rows are counted all the same"


def test_more_problems_than_the_limit_are_counted(tmp_path):
    report = datasets.check(folder(tmp_path / "mine", train="broken\n" * 500), task="ner", limit=20)
    assert len(report.problems) == 20
    assert report.more_problems == 481  # 500 rows, and a split without a sentence


def test_check_reads_a_folder_that_lacks_a_split(tmp_path):
    path = folder(tmp_path / "mine")
    (path / "dev.conll").unlink()
    report = datasets.check(path, task="ner")
    assert [problem.message for problem in report.problems] == ["there is no dev split."]
    assert report.splits["train"].sentences == 2


def test_check_reads_one_file(tmp_path):
    path = folder(tmp_path / "mine", train=GOOD + "x\n") / "train.conll"
    report = datasets.check(path, task="ner")
    assert [(problem.file, problem.line) for problem in report.problems] == [("train.conll", 8)]
    assert report.splits["train"].entities == 2


def test_check_reports_what_makes_a_folder_no_data_set(tmp_path):
    report = datasets.check(tmp_path, task="ner")
    assert not report.ok and not report.splits
    assert "no train.conll" in report.problems[0].message
    changed = write_card(folder(tmp_path / "mine"))
    (changed / "dev.conll").write_text("x\tO\n")
    assert "card.yaml" in datasets.check(changed, task="ner").problems[0].message


def test_check_refuses_an_unknown_task_or_path(tmp_path):
    with pytest.raises(UnknownName, match="ner"):
        datasets.check(tmp_path, task="nre")
    with pytest.raises(UnknownName, match="bc5cdr"):
        datasets.check(tmp_path / "nowhere", task="ner")


# Cost


def test_reading_bc5cdr_takes_less_than_half_a_second():
    took = []
    for _ in range(3):
        start = time.process_time()
        datasets.load("bc5cdr", "train")
        took.append(time.process_time() - start)
    assert min(took) < 0.5


def test_importing_and_checking_needs_no_torch():
    code = "import sys, trainer.datasets as d; d.check('bc5cdr-slice'); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
