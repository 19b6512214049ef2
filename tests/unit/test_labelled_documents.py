"""Labelled documents: what is read, what is refused with its line, cards, and that no text gets into a message."""

import gzip
import json

import pytest

from trainer import datasets
from trainer.datasets.readers.labelled import LabelledDocument, detect_field, read
from trainer.errors import BadData, CorruptFile
from trainer.examples import open_data
from trainer.tasks.classification import Classification

CANARY = "canary7d1"
ONE = [{"text": "Fever.", "label": "a"}, {"text": "Cough\nand chills.", "label": "b"}]
SEVERAL = [{"text": "Fever.", "labels": ["a", "b"]}, {"text": "Nothing.", "labels": []}]


def jsonl(rows) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def folder(path, rows=ONE, *, ending=".jsonl", **splits):
    path.mkdir()
    for split in ("train", "dev", "test"):
        text = splits.get(split, rows if isinstance(rows, str) else jsonl(rows))
        data = text.encode()
        (path / f"{split}{ending}").write_bytes(gzip.compress(data) if ending.endswith(".gz") else data)
    return path


def documents_of(path, field="label"):
    return [(document.text, document.labels, document.line) for document in read(path, field=field)]


def test_objects_with_one_label_or_several_are_read_with_their_lines(tmp_path):
    (tmp_path / "x.jsonl").write_text("\ufeff" + jsonl(ONE) + "\n" + jsonl([{"text": "z", "label": "a", "id": 3}]))
    texts = [("Fever.", ("a",), 1), ("Cough\nand chills.", ("b",), 2), ("z", ("a",), 4)]
    assert documents_of(tmp_path / "x.jsonl") == texts
    (tmp_path / "y.jsonl.gz").write_bytes(gzip.compress(jsonl(SEVERAL).encode()))
    assert documents_of(tmp_path / "y.jsonl.gz", "labels") == [("Fever.", ("a", "b"), 1), ("Nothing.", (), 2)]


def test_csv_cells_may_hold_line_ends_and_labels_are_parted_by_semicolon_or_bar(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text('id,text,labels\n1,"Fever,\r\nand ""chills""",a; b\n\n2,Nothing.,\n3,Cough,a|c\n', newline="")
    wanted = [('Fever,\nand "chills"', ("a", "b"), 2), ("Nothing.", (), 5), ("Cough", ("a", "c"), 6)]
    assert documents_of(path, "labels") == wanted
    (tmp_path / "y.csv.gz").write_bytes(gzip.compress(b"label,text\na,Fever\n"))
    assert documents_of(tmp_path / "y.csv.gz") == [("Fever", ("a",), 2)]


def test_the_first_row_says_which_field_counts(tmp_path):
    for name, rows, field in (
        ("one", ONE, "label"),
        ("several", SEVERAL, "labels"),
        ("both", [ONE[0] | SEVERAL[0]], "label"),
    ):
        (tmp_path / f"{name}.jsonl").write_text(jsonl(rows))
        assert detect_field(tmp_path / f"{name}.jsonl") == field


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (f'{{"text": "{CANARY}"', "not JSON"),
        (f'["{CANARY}"]', "a JSON list where an object is needed"),
        ('{"label": "a"}', "without the field `text`"),
        (f'{{"text": "{CANARY}", "label": "a", "label": "b"}}', "the field `label` is given twice"),
        ('{"text": 5, "label": "a"}', "the field `text` is a int, not a string"),
        ('{"text": " \\n", "label": "a"}', "the document is empty"),
        (f'{{"text": "{CANARY}"}}', "neither `label` nor `labels`"),
        (f'{{"text": "{CANARY}", "labels": ["a"]}}', "without the field `label`; it has `labels`"),
        (f'{{"text": "{CANARY}", "label": 1}}', "a label in `label` is a int, not a string"),
        (f'{{"text": "{CANARY}", "label": " a"}}', "has blanks around it"),
        (f'{{"text": "x", "label": "{CANARY} {"x" * 200}"}}', "characters long; up to 100"),
    ],
)
def test_a_wrong_row_is_refused_with_its_line_and_without_its_text(tmp_path, row, message):
    path = tmp_path / "x.jsonl"
    path.write_text(jsonl(ONE[:1]) + row + "\n" + jsonl(ONE[1:]))
    with pytest.raises(BadData, match="x.jsonl, line 2") as caught:
        documents_of(path)
    assert message in caught.value.message and caught.value.next_step
    assert CANARY not in str(caught.value)
    problems = []
    assert len(list(read(path, field="label", report=problems.append))) == 2 and len(problems) == 1


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('{"text": "x", "labels": "a"}', "the field `labels` is a str, not a list"),
        ('{"text": "x", "labels": ["a", "a"]}', "one of its 2 labels is given twice"),
        ('{"text": "x", "label": "a"}', "without the field `labels`; it has `label`"),
    ],
)
def test_a_wrong_list_of_labels_is_refused(tmp_path, row, message):
    (tmp_path / "x.jsonl").write_text(row)
    with pytest.raises(BadData, match="line 1") as caught:
        documents_of(tmp_path / "x.jsonl", "labels")
    assert message in caught.value.message


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        (f"note,label\n{CANARY},a\n", 1, "the header has 2 columns, but not `text`"),
        (f'text,label\nx,a\n"{CANARY},a\n', 3, "quotes do not match"),
        (f"text,label\nx,a\n{CANARY},a,b\n", 3, "3 cells under 2 columns"),
    ],
)
def test_a_wrong_csv_is_refused_with_its_line_and_without_its_text(tmp_path, text, line, message):
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(BadData) as caught:
        documents_of(tmp_path / "x.csv")
    assert (caught.value.line, message in caught.value.message) == (line, True)
    assert CANARY not in str(caught.value)


def csv_problems(tmp_path, content: bytes) -> tuple[list[tuple[int, str]], list[int]]:
    """(line, message without its place) of what is wrong in a CSV file, and the lines of the documents that it has."""
    (tmp_path / "x.csv").write_bytes(content)
    problems: list[BadData] = []
    lines = [document.line for document in read(tmp_path / "x.csv", field="label", report=problems.append)]
    assert all(problem.next_step and CANARY not in str(problem) for problem in problems)
    return [(problem.line, problem.message.partition(": ")[2]) for problem in problems], lines


CLOSING, OPEN = (
    "quotes do not match: a cell continues after",
    "quotes do not match: one that opens in this row is never",
)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (f"first\r{CANARY},a", "a carriage return (CR) stands alone"),
        (f'"{CANARY},a', OPEN),
        (f'"a" {CANARY},a', CLOSING),
        (f'"a\nb\n" {CANARY},a', CLOSING),
        (f"{CANARY}\0,a", "a NUL character: this is a binary file"),
        (f"{CANARY}\x80,a", "the byte 0x80 at offset"),
        (f"{CANARY},a,b", "3 cells under 2 columns"),
        (CANARY, "1 cells under 2 columns"),
    ],
)
def test_each_fault_of_a_csv_row_is_named_and_the_rows_after_it_are_checked(tmp_path, row, message):
    content = f"text,label\nfine,a\n{row}\nfine,b\n,b\nfine,a\n".encode("latin-1")
    problems, lines = csv_problems(tmp_path, content)
    first, *others, last = problems
    assert first[0] == 3 and first[1].startswith(message)
    assert last == (5 + row.count("\n"), "the document is empty.")
    assert [line for line in lines if line > 2 + row.count("\n") + 1] == [4 + row.count("\n"), 6 + row.count("\n")]
    assert len(others) <= row.count("\n")


def test_a_cell_that_is_too_long_is_named_and_the_rows_after_it_are_checked(tmp_path, monkeypatch):
    monkeypatch.setattr("trainer.datasets.readers.csv_rows.LONGEST", 1000)
    long = "\n".join(["word"] * 400)
    problems, lines = csv_problems(tmp_path, f'text,label\n"{long}",a\n,b\nfine,a\n'.encode())
    assert problems[0][0] == 2 and "a cell is longer than" in problems[0][1]
    assert problems[-1] == (402, "the document is empty.") and lines[-1] == 403


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("text,text,label", "the column `text` is given twice in the header."),
        ("text, label ,label", "the column `label` is given twice in the header."),
        ("id,text,id,label", "the column `id` is given twice in the header."),
        (f"text,label,{CANARY} and more,{CANARY} and more", "a column is given twice in the header."),
        ("text\r,label", "a carriage return (CR) stands alone in a cell without quotes."),
    ],
)
def test_an_ambiguous_header_ends_the_reading(tmp_path, header, message):
    (tmp_path / "x.csv").write_text(f"{header}\na,b,c,d\n", newline="")
    with pytest.raises(BadData) as caught:
        documents_of(tmp_path / "x.csv")
    assert (caught.value.line, caught.value.message.partition(": ")[2]) == (1, message)
    assert CANARY not in str(caught.value)


def test_columns_without_a_name_may_be_several(tmp_path):
    (tmp_path / "x.csv").write_text("text,label,,\nFever,a,,\n")
    assert documents_of(tmp_path / "x.csv") == [("Fever", ("a",), 2)]


def test_a_document_never_shows_its_text():
    assert CANARY not in repr(LabelledDocument(CANARY, ("a",), 3))


# Data sets


def test_a_folder_serves_the_task_that_asks(tmp_path):
    path = str(folder(tmp_path / "mine"))
    assert [document.labels for document in datasets.labelled_documents(path, "dev", field="label")] == [("a",), ("b",)]
    assert list(datasets.documents(path, "dev")) == ["Fever.", "Cough\nand chills."], "labels are ignored for mlm"
    with pytest.raises(BadData, match="for the task mlm or classification, not ner"):
        datasets.load(path, "train")
    with pytest.raises(BadData, match="for the task ner, not classification"):
        datasets.labelled_documents("bc5cdr-slice", "train", field="label")
    with pytest.raises(BadData, match="for the task classification, not mlm"):
        datasets.documents(str(folder(tmp_path / "sheet", "text,label\nx,a\n", ending=".csv")), "train")


def test_what_the_card_says_counts():
    assert datasets.label_field("mtsamples-slice") == "label"
    assert datasets.label_field("mtsamples-slice", multi_label=True) == "labels"
    with pytest.raises(BadData, match="for the task mlm, not classification"):
        datasets.labelled_documents("clinical-text-slice", "train", field="label")


def test_only_labels_of_train_are_accepted(tmp_path):
    good = folder(tmp_path / "good")
    data = open_data(Classification(), datasets.resolve(str(good)))
    assert (data.labels, data.multi_label, list(data.texts("dev"))) == (("a", "b"), False, [row["text"] for row in ONE])
    several = open_data(Classification(), datasets.resolve(str(folder(tmp_path / "several", SEVERAL))))
    assert (several.labels, several.multi_label) == (("a", "b"), True)
    wrong = folder(tmp_path / "wrong", test=jsonl([*ONE, {"text": CANARY, "label": "c"}]))
    [problem] = datasets.check(wrong, task="classification").problems
    assert str(problem).startswith("wrong/test.jsonl, line 3: the label 'c' is not in train, which has a, b.")
    assert CANARY not in str(problem)
    single = datasets.check(folder(tmp_path / "single", ONE[:1]), task="classification")
    assert "has only the label a; there is nothing to tell apart" in single.problems[0].message
    with pytest.raises(BadData, match="without the field `labels`; it has `label`"):
        open_data(Classification(multi_label=True), datasets.resolve(str(good))).examples("train")


def test_a_changed_file_and_a_missing_split_are_refused(tmp_path):
    path = folder(tmp_path / "mine")
    resolved = datasets.resolve(str(path))
    (path / "dev.jsonl").unlink()
    with pytest.raises(CorruptFile, match="has changed"):
        datasets.labelled_documents(resolved, "train", field="label")
    with pytest.raises(BadData, match="there is no split 'dev'; there is train, test") as caught:
        datasets.labelled_documents(str(path), "dev", field="label")
    assert "Add dev.jsonl" in caught.value.next_step


def test_a_check_counts_labels_and_lists_every_wrong_row(tmp_path):
    wrong = jsonl(ONE) + f'{{"text": "{CANARY}"}}\n{{"text": "{CANARY}", "label": ""}}\n' + jsonl(ONE[:1])
    report = datasets.check(folder(tmp_path / "mine", dev=wrong), task="classification")
    assert [(problem.file, problem.line) for problem in report.problems] == [
        ("mine/dev.jsonl", 3),
        ("mine/dev.jsonl", 4),
    ]
    split = report.splits["dev"]
    assert (split.documents, split.characters, split.longest, split.repeated) == (3, 29, 17, 1)
    assert split.labels == {"a": 2, "b": 1} and report.repeated["train/test"] == 2
    assert CANARY not in report.model_dump_json()


def test_a_check_of_one_file_and_of_one_that_is_not_there(tmp_path):
    (tmp_path / "all.csv").write_text("text,labels\nFever,a;b\n")
    report = datasets.check(tmp_path / "all.csv", task="classification")
    assert report.ok and report.splits["all"].labels == {"a": 1, "b": 1}
    (folder(tmp_path / "mine") / "test.jsonl").unlink()
    assert [p.message for p in datasets.check(tmp_path / "mine", task="classification").problems] == [
        "there is no test split."
    ]
