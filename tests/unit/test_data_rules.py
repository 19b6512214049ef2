"""What a data set needs beyond readable rows: something to learn from and something to score."""

import json

import pytest

from trainer import datasets

GOOD = {"train": "a\tB-Disease\n\nb\tO\n", "dev": "c\tB-Disease\n", "test": "d\tB-Disease\n"}


def tagged(folder, **splits):
    """A folder of tagged words; None leaves a split out."""
    folder.mkdir(exist_ok=True)
    for split, text in (GOOD | splits).items():
        if text is not None:
            (folder / f"{split}.conll").write_text(text)
    return folder


def classified(folder, *, field="label", **splits):
    """A folder of labelled documents: each split is a list of labels."""
    folder.mkdir(exist_ok=True)
    usual = {split: ["eye", "heart"] if field == "label" else [["eye"], ["heart"]] for split in GOOD}
    for split, labels in (usual | splits).items():
        rows = [{"text": f"{split} {number}", field: label} for number, label in enumerate(labels)]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def problems(folder, task):
    return [(problem.split, problem.line, str(problem)) for problem in datasets.check(folder, task=task).problems]


@pytest.mark.parametrize("split", ["dev", "test"])
def test_labels_missing_from_train_are_named_with_their_line(tmp_path, split):
    path = tagged(tmp_path / "mine", **{split: "c\tB-Disease\n\nd\tB-Drug\ne\tI-Drug\n\nf\tB-Drug\n\ng\tB-Gene\n"})
    assert [(where, line) for where, line, _ in problems(path, "ner")] == [(split, 3), (split, 8)]
    message = problems(path, "ner")[0][2]
    assert message.startswith(f"mine/{split}.conll, line 3: the entity type 'Drug' is not in train, which has Disease.")
    assert message.endswith("Add examples of it to train, or remove these.")
    path = classified(tmp_path / "documents", **{split: ["eye", "skin", "skin"]})
    ((where, line, message),) = problems(path, "classification")
    assert (where, line) == (split, 2) and "the label 'skin' is not in train, which has eye, heart." in message
    path = classified(tmp_path / "several", field="labels", **{split: [[], ["eye", "skin"]]})
    ((where, line, message),) = problems(path, "classification")
    assert (where, line) == (split, 2) and "'skin'" in message


def test_train_has_to_hold_something_to_learn(tmp_path):
    ((split, _, message),) = problems(tagged(tmp_path / "none", train="a\tO\n"), "ner")
    assert split == "train" and "none/train.conll: the split has no entity" in message
    ((split, _, message),) = problems(classified(tmp_path / "one", train=["eye", "eye"]), "classification")
    assert split == "train" and "the split has only the label eye" in message
    ((split, _, message),) = problems(classified(tmp_path / "no", field="labels", train=[[], []]), "classification")
    assert split == "train" and "the split has no label" in message
    one_of_several = classified(tmp_path / "yes", field="labels", train=[[], ["eye"]], dev=[["eye"]], test=[[]])
    assert not problems(one_of_several, "classification")


def test_a_split_that_is_missing_or_empty_is_one_problem(tmp_path):
    assert [split for split, *_ in problems(tagged(tmp_path / "a", dev=None, test=""), "ner")] == ["dev", "test"]
    assert [split for split, *_ in problems(tagged(tmp_path / "b", train=""), "ner")] == ["train"]
    assert [split for split, *_ in problems(tagged(tmp_path / "c", train=None), "ner")] == ["train"]


def test_labels_wait_until_the_rows_of_train_are_right(tmp_path):
    path = tagged(tmp_path / "mine", train="a\tB-Drug\tO\n\nb\tB-Disease\n", test="d\tB-Drug\n")
    assert [line for _, line, _ in problems(path, "ner")] == [1]


def test_text_has_to_have_something_for_every_split(tmp_path):
    for number in (1, 2, 3, 4, 20, 1000):
        path = tmp_path / f"{number}.txt"
        path.write_text("".join(f"Note {each}.\n" for each in range(number)))
        parts = [list(datasets.documents(str(path), split)) for split in ("train", "dev", "test")]
        assert sorted(sum(parts, [])) == sorted(path.read_text().splitlines()), "each document is in one split"
        assert bool(problems(path, "mlm")) == (not all(parts)) == (number < 3)
    (tmp_path / "same.txt").write_text("Note.\n" * 30)
    ((split, _, message),) = problems(tmp_path / "same.txt", "mlm")
    assert (
        split == "train" and "same.txt: 30 documents, which have to serve as train and as dev and test too." in message
    )


def test_what_splits_share_is_found_whatever_its_white_space_and_case(tmp_path):
    path = classified(tmp_path / "mine")
    (path / "test.jsonl").write_text('{"text": " TRAIN\\n 0", "label": "eye"}\n{"text": "new", "label": "eye"}\n')
    report = datasets.check(path, task="classification")
    assert report.repeated == {"train/dev": 0, "train/test": 1, "dev/test": 0} and report.ok
    assert report.notes == ("In both train and test: 1 document. This makes scores on test higher.",)
    assert report.to_json()["notes"] == list(report.notes)
    report = datasets.check(tagged(tmp_path / "words", test="A\tB-Disease\n", dev="x\tO\n"), task="ner")
    assert report.repeated["train/test"] == 1
    assert any("dev split has no entity" in note for note in report.notes)


def test_a_survey_is_read_once_as_long_as_the_files_stay(tmp_path):
    path = tagged(tmp_path / "mine")
    first = datasets.survey(datasets.resolve(str(path)), task="ner")
    assert datasets.survey(datasets.resolve(str(path)), task="ner") is first and first.ok
    tagged(path, test="d\tB-Drug\n")
    assert not datasets.survey(datasets.resolve(str(path)), task="ner").ok
