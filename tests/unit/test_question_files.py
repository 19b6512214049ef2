"""The reader of SQuAD files: both versions, every wrong question named by its place without its text, and data sets."""

import gzip
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trainer import datasets
from trainer.datasets.places import tasks_of
from trainer.datasets.readers import questions
from trainer.datasets.readers.questions import Question
from trainer.errors import BadData

TEXT = "He has had fever since Monday. No rash."


def asked(id="1", question="What does he have?", answers=((11, "fever"),), **fields):
    stated = [{"text": words, "answer_start": start} for start, words in answers]
    return {"id": id, "question": question, "answers": stated} | fields


def squad(*questions, context=TEXT):
    return {"version": "1.1", "data": [{"title": "A", "paragraphs": [{"context": context, "qas": list(questions)}]}]}


def read(path, document):
    path.write_text(document if isinstance(document, str) else json.dumps(document), encoding="utf-8")
    problems = []
    return list(questions.read(path, report=problems.append)), [str(problem) for problem in problems]


def test_both_versions_are_read(tmp_path):
    first = asked(answers=((11, "fever"), (11, "fever since Monday"), (11, "fever")))
    second = asked(id=2, question="Who came?", answers=(), is_impossible=True)
    found, problems = read(tmp_path / "x.json", squad(first, second))
    assert not problems and [each.answers for each in found] == [((11, 16), (11, 29)), ()]
    assert [(each.id, each.number) for each in found] == [("1", 1), ("2", 2)]
    assert found[0].text is found[1].text and "fever" not in repr(found)
    with gzip.open(tmp_path / "x.json.gz", "wt") as file:
        json.dump(squad(first, second), file)
    assert list(questions.read(tmp_path / "x.json.gz")) == found


# SQuAD's own files count characters; others count UTF-16 code units, bytes, or a line end as one.
@pytest.mark.parametrize(
    ("text", "start"),
    [("😀 He has fever", 9), ("😀 He has fever", 10), ("😀 He has fever", 12), ("é\r\nHe has fever", 9)],
)
def test_the_words_of_an_answer_say_how_offsets_count(text, start, tmp_path):
    [found], problems = read(tmp_path / "x.json", squad(asked(answers=((start, "fever"),)), context=text))
    assert not problems and [text[slice(*place)] for place in found.answers] == ["fever"]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (asked(answers=((12, "fever"),)), "not in the context at its offset 12; it occurs first at 11"),
        (asked(answers=((0, "cough"),)), "it does not occur there at all"),
        (asked(answers=((400, "fever"),)), "starts at 400, outside its context of 39 characters"),
        (asked(answers=((-1, "fever"),)), "starts at -1, outside"),
        (asked(answers=((10**20, "fever"),)), "a number of more than 15 digits"),
        (asked(answers=((True, "fever"),)), "no whole number `answer_start`"),
        (asked(answers=((11, " "),)), "the text of an answer is empty"),
        (asked(answers=((11, 5),)), "no string `text`"),
        (asked(question=" "), "the question is empty"),
        (asked(question="a\ud800"), "half of a character"),
        (asked(id=None), "no `id`"),
        (asked(id="0"), "that of an earlier question"),
        (asked(answers=()), "has no answer"),
        (asked(is_impossible=True), "is marked as impossible to answer and has answers"),
        (asked(is_impossible="no"), "neither true nor false"),
        ({"id": "1", "question": "Why?"}, "no list `answers`"),
        ([], "a JSON list where an object is needed"),
    ],
)
def test_a_wrong_question_is_named_by_its_place_and_left_out(wrong, says, tmp_path):
    right = asked(id="0")
    found, problems = read(tmp_path / "x.json", squad(right, wrong, right | {"id": "9"}))
    assert [each.id for each in found] == ["0", "9"]
    assert len(problems) == 1 and "x.json: article 1, paragraph 1, question 2: " in problems[0] and says in problems[0]
    assert "fever" not in problems[0] and "What does" not in problems[0]
    with pytest.raises(BadData, match="question 2"):
        list(questions.read(tmp_path / "x.json"))


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ("", "not JSON"),
        ('{"data": [\n}', "line 2: this is not JSON"),
        ("[1]", "no list `data`"),
        ('{"data": 3}', "no list `data`"),
        ('{"data": [], "data": []}', "the field `data` is given twice"),
        ("[" * 10**6, "not JSON"),
        ('{"data": [' + "9" * 5000 + "]}", "not JSON"),
    ],
)
def test_a_file_of_another_form_is_refused(document, says, tmp_path):
    with pytest.raises(BadData, match=says):
        read(tmp_path / "x.json", document)


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ({"data": [3]}, "article 1: a JSON int"),
        ({"data": [{"title": "x"}]}, "article 1: it has no list `paragraphs`"),
        ({"data": [{"paragraphs": [{"context": "", "qas": []}]}]}, "paragraph 1: the context is empty"),
        ({"data": [{"paragraphs": [{"context": "x"}]}]}, "no list `qas`"),
    ],
)
def test_a_wrong_part_of_a_file_is_named(document, says, tmp_path):
    found, problems = read(tmp_path / "x.json", document)
    assert not found and len(problems) == 1 and says in problems[0]


def test_damaged_files_say_so(tmp_path):
    (tmp_path / "x.json").write_bytes(b'{"data": ["\xff"]}')
    with pytest.raises(BadData, match="not UTF-8"):
        list(questions.read(tmp_path / "x.json"))
    (tmp_path / "x.json.gz").write_bytes(gzip.compress(b'{"data": []}')[:-6])
    with pytest.raises(BadData, match="damaged or incomplete"):
        list(questions.read(tmp_path / "x.json.gz"))


NAMES = st.sampled_from(
    ("data", "paragraphs", "context", "qas", "id", "question", "answers", "text", "answer_start", "is_impossible")
)
LEAVES = st.one_of(st.none(), st.booleans(), st.integers(-1, 9), st.text(max_size=3))
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(NAMES, inner), max_leaves=6)
ROWS = st.fixed_dictionaries({}, optional=dict.fromkeys(("id", "question", "answers", "is_impossible"), VALUES))


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.one_of(
        st.binary(max_size=80),
        VALUES.map(lambda value: json.dumps({"data": value}).encode()),
        st.lists(ROWS, max_size=3).map(lambda rows: json.dumps(squad(*rows)).encode()),
    )
)
def test_whatever_a_file_holds_it_is_read_or_refused(content, tmp_path):
    path = tmp_path / "x.json"
    path.write_bytes(content)
    try:
        found = list(questions.read(path, report=lambda problem: None))
    except BadData:
        return
    assert all(isinstance(each, Question) for each in found)


def test_a_folder_of_them_is_checked(tmp_path):
    for split in ("train", "dev", "test"):
        read(tmp_path / f"{split}.json", squad(asked(), asked(id="2", question="Who?", answers=(), is_impossible=True)))
    assert tasks_of(tmp_path) == ("questions",)
    report = datasets.check(tmp_path, task="questions")
    train = report.splits["train"]
    assert report.ok and (train.questions, train.unanswerable, train.documents, train.characters) == (
        2,
        1,
        1,
        len(TEXT),
    )
    assert report.repeated["train/test"] == 2 and report.labels == ("answer",)
    read(tmp_path / "dev.json", squad(asked(), asked(answers=((3, "fever"),))))
    read(tmp_path / "train.json", squad(asked(answers=(), is_impossible=True)))
    problems = [str(problem) for problem in datasets.check(tmp_path, task="questions").problems]
    assert len(problems) == 2
    assert any("dev.json: article 1, paragraph 1, question 2" in problem for problem in problems)
    assert any("no question with an answer" in problem for problem in problems)
