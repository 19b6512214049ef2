"""Imported data sets: every form becomes a version with card and splits that a job can use, or nothing at all."""

import json
from pathlib import Path

import pytest

from trainer import datasets
from trainer.datasets import imports
from trainer.datasets.readers import spans
from trainer.errors import BadData, BadSpec, UnknownName

TEXTS = [f"Note {number}: the aspirin gave rash {number}." for number in range(20)]
ENTITIES = [
    {"id": "T1", "label": "Drug", "start": 12, "end": 19},
    {"id": "T2", "label": "Problem", "start": 25, "end": 29},
]
CAUSES = [{"label": "causes", "head": "T1", "tail": "T2"}]


@pytest.fixture(autouse=True)
def state(home):
    return home


def lines(path, rows):
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def marked(folder):
    rows = [{"text": f"{n:>8}the aspirin gave rash.", "entities": ENTITIES, "relations": CAUSES} for n in range(20)]
    return lines(folder / "x.jsonl", rows)


def brat(folder):
    (folder / "x").mkdir()
    for n in range(20):
        (folder / "x" / f"{n}.txt").write_text(f"{n:>8}the aspirin gave rash.")
        annotations = (
            "T1\tDrug 12 19\taspirin\nT2\tProblem 25 29\trash\nA1\tassertion T2 present\nR1\tcauses Arg1:T1 Arg2:T2\n"
        )
        (folder / "x" / f"{n}.ann").write_text(annotations)
    return folder / "x"


def pubtator(folder):
    blocks = [
        f"{n}|t|{n:>8}the aspirin gave rash.\n{n}\t12\t19\taspirin\tDrug\tD1\n{n}\t25\t29\trash\tProblem\tC2\n"
        f"{n}\tcauses\tD1\tC2\n"
        for n in range(10, 30)
    ]
    (folder / "x.pubtator").write_text("\n".join(blocks))
    return folder / "x.pubtator"


def table(folder):
    (folder / "x.csv").write_text("text,label\n" + "".join(f'"{text}",{"ab"[n % 2]}\n' for n, text in enumerate(TEXTS)))
    return folder / "x.csv"


def pair_rows(folder):
    rows = [f"{'yes' if n % 2 else 'no'}\tRash?\t{text}" for n, text in enumerate(TEXTS)]
    (folder / "x.tsv").write_text("\n".join(["label\thypothesis\tpremise", *rows]) + "\n")
    return folder / "x.tsv"


def squad(folder):
    asked = {"id": "1", "question": "Of what?", "answers": [{"text": "aspirin", "answer_start": 12}]}
    rows = [{"context": f"{n:>8}the aspirin gave rash.", "qas": [asked | {"id": f"{n}"}]} for n in range(20)]
    (folder / "x.json").write_text(json.dumps({"data": [{"paragraphs": rows}]}))
    return folder / "x.json"


def conll(folder):
    (folder / "x.conll").write_text("".join(f"note{n} O\naspirin B-Drug\n\n".replace(" ", "\t") for n in range(20)))
    return folder / "x.conll"


@pytest.mark.parametrize(
    ("make", "task"),
    [(marked, "ner"), (marked, "relations"), (brat, "ner"), (brat, "relations"), (pubtator, "relations"),
     (table, "classification"), (pair_rows, "pairs"), (conll, "ner"), (squad, "questions")],
)  # fmt: skip
def test_every_form_becomes_three_splits_that_a_job_can_use(make, task, tmp_path):
    reference, report = datasets.import_data(make(tmp_path), task=task, name="mine")
    assert report.ok and {name: split.examples for name, split in report.splits.items()} == {
        "train": 14, "dev": 2, "test": 4,
    }  # fmt: skip
    for written in ("mine", reference):
        resolved = datasets.resolve(written)
        assert resolved.sha256.startswith(reference.removeprefix("mine@"))
        assert datasets.survey(resolved, task=task).splits == report.splits
    assert datasets.cards()["mine"].task == task and not any(report.repeated.values())
    assert datasets.import_data(datasets.resolve("mine").path, task=task, name="mine")[0] == reference


def test_brat_and_pubtator_lose_nothing(tmp_path):
    reference, _ = datasets.import_data(brat(tmp_path), task="relations", name="mine")
    document = next(spans.read_marked(datasets.resolve(reference).path + "/train.jsonl"))
    assert [entity.attributes for entity in document.entities] == [(), (("assertion", "present"),)]
    reference, report = datasets.import_data(pubtator(tmp_path), task="relations", name="concepts")
    assert report.splits["train"].relations == 14
    document = next(spans.read_marked(datasets.resolve(reference).path + "/train.jsonl"))
    assert [entity.concepts for entity in document.entities] == [("D1",), ("C2",)]


def test_rows_of_one_document_or_text_stay_together_and_train_has_every_label(tmp_path):
    rows = [{"text": f"Note {n}.", "label": "ab"[n % 2], "patient": f"p{n // 4}"} for n in range(40)]
    rows += [
        {"text": "note  0. ", "label": "a", "patient": "p77"},
        {"text": "The only one.", "label": "rare", "patient": "p78"},
    ]
    reference, report = datasets.import_data(lines(tmp_path / "x.jsonl", rows), task="classification", name="mine")
    folder = Path(datasets.resolve(reference).path)
    patients = {
        split: {json.loads(line)["patient"] for line in (folder / f"{split}.jsonl").read_text().splitlines()}
        for split in ("train", "dev", "test")
    }
    assert sum(map(len, patients.values())) == len(set.union(*patients.values())) == 12
    assert "p78" in patients["train"] and any({"p0", "p77"} <= each for each in patients.values())


def test_splits_that_are_there_stay_and_what_is_missing_comes_from_train(tmp_path):
    rows = [{"text": text, "label": "ab"[n % 2]} for n, text in enumerate(TEXTS)]
    lines(tmp_path / "train.jsonl", rows[:16])
    lines(tmp_path / "test.jsonl", rows[16:])
    _, report = datasets.import_data(tmp_path, task="classification", name="mine")
    assert {name: split.examples for name, split in report.splits.items()} == {"train": 14, "dev": 2, "test": 4}


def test_rows_of_the_hub_are_taken_in_its_usual_forms():
    tagged = {"tokens": ["Aspirin", "helps"], "ner_tags": ["B-Drug", "O"]}
    assert imports._hub_row(tagged, "tagged") == datasets.Sentence(("Aspirin", "helps"), ("B-Drug", "O"))
    asked = {"id": "1", "context": "Rash.", "question": "What?", "answers": {"text": ["Rash"], "answer_start": [0]}}
    assert imports._hub_row(asked, "questions")["answers"] == [{"text": "Rash", "answer_start": 0}]
    unanswered = asked | {"answers": {"text": [], "answer_start": []}}
    assert imports._hub_row(unanswered, "questions")["is_impossible"] is True


def test_text_needs_no_splits(tmp_path):
    (tmp_path / "x.txt").write_text("\n".join(TEXTS))
    _, report = datasets.import_data(tmp_path / "x.txt", task="mlm", name="mine")
    assert report.ok and set(report.splits) == {"train"}


def test_a_name_stands_for_the_newest_version_and_older_ones_stay(tmp_path):
    first, _ = datasets.import_data(table(tmp_path), task="classification", name="mine")
    before = datasets.resolve(first)
    lines(tmp_path / "y.jsonl", [{"text": f"{text} More.", "label": "ab"[n % 2]} for n, text in enumerate(TEXTS)])
    second, _ = datasets.import_data(tmp_path / "y.jsonl", task="classification", name="mine")
    assert first != second and datasets.resolve("mine").sha256 == datasets.resolve(second).sha256
    assert datasets.resolve(first) == before and datasets.version_of("mine") == second
    assert datasets.version_of("bc5cdr") == "bc5cdr" and datasets.version_of("mine@00000000") is None
    assert "mine" in datasets.cards()


def test_with_any_problem_nothing_is_imported(tmp_path, state):
    rows = [{"text": text, "label": "a"} for text in TEXTS]
    path = lines(tmp_path / "x.jsonl", [*rows, {"text": "Mr Miller is ill."}])
    reference, report = datasets.import_data(path, task="classification", name="mine")
    assert not reference and report.problems[0].line == 21 and "Miller" not in str(report.problems)
    assert "mine" not in datasets.cards() and not [*state.rglob("*.jsonl")]


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"name": "bc5cdr"}, BadSpec, "ships with Stillroom"),
        ({"name": "../x"}, BadSpec, "small letters"),
        ({"task": "nothing"}, UnknownName, "ner"),
        ({"path": "/no/where"}, UnknownName, "Give one of these ids"),
        ({"group": "patient"}, BadData, "without the field 'patient'"),
    ],
)
def test_what_cannot_be_imported_is_refused(changes, error, message, tmp_path):
    options = {"path": table(tmp_path), "task": "classification", "name": "mine"} | changes
    with pytest.raises(error, match=message):
        datasets.import_data(options.pop("path"), **options)
    assert "mine" not in datasets.cards()


def test_lengths_are_described_against_usual_windows():
    assert imports.describe_lengths([10] * 9 + [5000]) == (
        "Texts have 10 word pieces of MiniLM in the median, 2,754 at the 95th percentile and 5,000 at most; "
        "10% do not fit a window of 512 and 10% do not fit a window of 4,096."
    )


def test_too_few_documents_are_not_split(tmp_path):
    path = lines(tmp_path / "x.jsonl", [{"text": "One.", "label": "a"}, {"text": "one. ", "label": "b"}])
    with pytest.raises(BadData, match="1 documents"):
        datasets.import_data(path, task="classification", name="mine")


def test_the_command(tmp_path, stillroom):
    words = ("datasets", "import", table(tmp_path), "--task", "classification", "--name")
    code, out, _ = stillroom(*words, "mine", "--json")
    answer = json.loads(out)
    assert code == 0 and answer["reference"].startswith("mine@") and answer["splits"]["train"]["documents"] == 14
    assert "mine" in stillroom("datasets")[1]
    assert "MiniLM in the median" in datasets.cards()["mine"].notes[-1]
    words = ("datasets", "import", lines(tmp_path / "wrong.jsonl", [{"label": "a"}]), *words[3:])
    code, out, _ = stillroom(*words, "other")
    assert code == 2 and "line 1" in out and "Nothing was imported" in out


def test_a_folder_is_checked_for_the_task_on_its_card(tmp_path):
    reference, _ = datasets.import_data(table(tmp_path), task="classification", name="mine")
    report = datasets.check(datasets.resolve(reference).path)
    assert report.ok and report.task == "classification"
