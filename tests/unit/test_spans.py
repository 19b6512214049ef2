"""Entities by offset: three formats give the same words and tags; wrong rows are named, and never quoted."""

import json

import pytest

from trainer import datasets
from trainer.datasets.readers import conll, spans
from trainer.datasets.rows.words import words_in
from trainer.errors import BadData

TEXT = "No fever, but café-au-lait spots and a 38.5°C reading.\nHe denies chest pain."
ENTITIES = [("Sign", "fever"), ("Sign", "café-au-lait spots"), ("Sign", "chest pain"), ("Value", "38.5°C")]


def entities():
    return [spans.Entity(TEXT.index(written), TEXT.index(written) + len(written), label) for label, written in ENTITIES]


def written(tmp_path, kind):
    marks = entities()
    if kind == "jsonl":
        path = tmp_path / "train.spans.jsonl"
        path.write_text(json.dumps({"text": TEXT, "entities": [mark._asdict() for mark in marks]}) + "\n")
        return path
    if kind == "brat":
        folder = tmp_path / "train"
        folder.mkdir()
        (folder / "a.txt").write_text(TEXT)
        rows = [f"T{n}\t{m.label} {m.start} {m.end}\t{TEXT[m.start : m.end]}\n" for n, m in enumerate(marks)]
        (folder / "a.ann").write_text(
            "".join([*rows, "E1\tSign:T0\n", "R1\tOVERLAP Arg1:T0 Arg2:T1\n", "#1\tnote T0\tx\n"])
        )
        return folder
    path = tmp_path / "train.pubtator"
    title, abstract = TEXT.split("\n")
    rows = [f"7\t{m.start}\t{m.end}\t{TEXT[m.start : m.end]}\t{m.label}\tD0\n" for m in marks]
    path.write_text(f"7|t|{title}\n7|a|{abstract}\n{''.join(rows)}7\tCID\tD1\tD2\n\n")
    return path


@pytest.mark.parametrize("kind", ["jsonl", "brat", "pubtator"])
def test_every_format_gives_the_same_words_and_tags(kind, tmp_path):
    [placed] = spans.read(written(tmp_path, kind))
    words, tags = placed.sentence
    assert " ".join(words).startswith("No fever , but café - au - lait spots and a 38 . 5 ° C")
    signs = [word for word, tag in zip(words, tags, strict=True) if tag.endswith("Sign")]
    assert signs == ["fever", "café", "-", "au", "-", "lait", "spots", "chest", "pain"]
    assert [tag for tag in tags if tag.startswith("B-")] == ["B-Sign", "B-Sign", "B-Value", "B-Sign"]
    out = tmp_path / "out.conll"
    conll.write(out, [placed.sentence])
    assert next(conll.read(out)).sentence == placed.sentence  # sound IOB2


def test_of_entities_that_overlap_the_longest_stays():
    outer, inner = spans.Entity(0, 15, "Disease"), spans.Entity(0, 6, "Site")
    sentence = spans.tag_words("breast cancer x after", [inner, outer, spans.Entity(14, 21, "Time")])
    assert sentence.tags == ("B-Disease", "I-Disease", "I-Disease", "O")


@pytest.mark.parametrize("text", ["ab, c  de", " a-b c ", "..", "café x\n\ny"])
def test_a_word_belongs_to_an_entity_that_covers_any_of_it(text):
    words = words_in(text).places.tolist()
    for start in range(len(text)):
        for end in range(start + 1, len(text) + 1):
            shared = [bool(set(range(start, end)) & set(range(*word))) for word in words]
            tags = spans.tag_words(text, [spans.Entity(start, end, "X")]).tags
            assert [tag != "O" for tag in tags] == shared


def test_of_an_entity_in_pieces_the_longest_piece_stays(tmp_path):
    path = tmp_path / "train.spans.jsonl"
    path.write_text(
        json.dumps({"text": "left and right kidney", "entities": [{"label": "A", "spans": [[0, 4], [9, 21]]}]})
    )
    [placed] = spans.read(path)
    assert placed.sentence.tags == ("O", "O", "B-A", "I-A")


SECRET = "Zebulon"


@pytest.mark.parametrize(
    "row, problem",
    [
        ("{", "not JSON"),
        ("[1]", "a JSON list"),
        ('{"entities": []}', "`text`"),
        (f'{{"text": "{SECRET}"}}', "`entities`"),
        (f'{{"text": "{SECRET}", "entities": [{{"label": "A", "start": 3, "end": 99}}]}}', "from 3 to 99"),
        (f'{{"text": "{SECRET}", "entities": [{{"label": "A", "start": "0", "end": 2}}]}}', "whole numbers"),
        (f'{{"text": "{SECRET}", "entities": [{{"label": "A b", "start": 0, "end": 2}}]}}', "label"),
        (f'{{"text": "{SECRET}", "entities": [{{"label": "A", "spans": []}}]}}', "whole numbers"),
        (f'{{"text": "{SECRET}", "entities": ["x"]}}', "not an object"),
    ],
)
def test_a_wrong_row_is_named_with_its_line_and_never_quoted(row, problem, tmp_path):
    path = tmp_path / "dev.spans.jsonl"
    good = json.dumps({"text": "fine", "entities": []})
    path.write_text(f"{good}\n{row}\n{good}\n")
    with pytest.raises(BadData) as caught:
        list(spans.read(path))
    assert "line 2" in str(caught.value) and problem in str(caught.value) and SECRET not in str(caught.value)
    errors = []
    assert len(list(spans.read(path, report=errors.append))) == 2 and len(errors) == 1


@pytest.mark.parametrize(
    "line, problem", [("T1\tSign 0 99\tx", "from 0 to 99"), ("T1\tSign zero 4\tx", "without label")]
)
def test_a_wrong_brat_annotation_is_named(line, problem, tmp_path):
    folder = tmp_path / "test"
    folder.mkdir()
    (folder / "a.txt").write_text(f"{SECRET} is well")
    (folder / "a.ann").write_text(f"{line}\n")
    with pytest.raises(BadData, match=problem) as caught:
        list(spans.read(folder))
    assert "test/a.ann, line 1" in str(caught.value) and SECRET not in str(caught.value)


def test_a_brat_text_without_annotations_is_named(tmp_path):
    folder = tmp_path / "test"
    folder.mkdir()
    with pytest.raises(BadData, match="no .txt"):
        list(spans.read(folder))
    (folder / "a.txt").write_text("well")
    with pytest.raises(BadData, match="a.ann: there is no such file"):
        list(spans.read(folder))


def test_no_repr_shows_text(tmp_path):
    [document] = spans.read_marked(written(tmp_path, "jsonl"))
    assert "fever" not in repr(document) and "4 entities" in repr(document)


# A data set of them


def folder(tmp_path, kind):
    """train, dev and test of the same document."""
    for split in ("train", "dev", "test"):
        written(tmp_path / "one", kind).rename(
            tmp_path / {"jsonl": f"{split}.spans.jsonl", "brat": split}.get(kind, f"{split}.pubtator")
        )
    return tmp_path


@pytest.mark.parametrize("kind", ["jsonl", "brat", "pubtator"])
def test_a_folder_of_any_format_is_a_data_set(kind, tmp_path):
    (tmp_path / "one").mkdir()
    place = str(folder(tmp_path, kind))
    report = datasets.check(place, task="ner")
    assert report.ok, report.problems
    assert report.splits["dev"].documents == 1 and report.splits["dev"].labels == {"Sign": 3, "Value": 1}
    [document] = datasets.load(datasets.resolve(place), "test")
    assert document.tags.count("B-Sign") == 3
    before = datasets.resolve(place).sha256
    where = tmp_path / "test" / "a.ann" if kind == "brat" else next(tmp_path.glob("test.*"))
    where.write_text(where.read_text().replace("Sign", "Mark"))
    assert datasets.resolve(place).sha256 != before
    (problem,) = datasets.check(place, task="ner").problems
    assert problem.split == "test" and "the entity type 'Mark' is not in train" in problem.message


def test_sentences_end_before_a_capital_and_never_inside_an_entity():
    words = ("He", "has", "St", ".", "Vitus", "dance", ".", "It", "is", "mild", ".", "no", "fever")
    tags = ("O", "O", "B-D", "I-D", "I-D", "I-D", "O", "O", "O", "O", "O", "O", "O")
    parts = list(datasets.sentences(conll.Sentence(words, tags)))
    assert [len(each.words) for each in parts] == [7, 6]
    assert sum((each.words for each in parts), ()) == words and sum((each.tags for each in parts), ()) == tags
