"""BRAT, PubTator, JSONL: redundant facts are compared, rows belong to their document, every loss is reported."""

import gzip
import json
from pathlib import Path

import pytest

from trainer import datasets
from trainer.datasets.readers import brat, spans
from trainer.datasets.readers.entities import Tally
from trainer.errors import BadData, Refused

SPLITS = ("train", "dev", "test")
SECRET = "Zebulon"


def pubtator(folder: Path, content: str, *, newline: str = "\n") -> Path:
    """A file of PubTator, as it is written."""
    path = folder / "train.pubtator"
    path.write_bytes(content.replace("\n", newline).encode())
    return path


def brat_folder(folder: Path, text: str, *rows: str, newline: str = "\n") -> Path:
    """A BRAT split of one document, `text` as it stands."""
    place = folder / "train"
    place.mkdir(parents=True)
    (place / "d.txt").write_bytes(text.encode())
    (place / "d.ann").write_bytes("".join(f"{row}{newline}" for row in rows).encode())
    return place


def jsonl(folder: Path, *rows: dict, split: str = "train") -> Path:
    path = folder / f"{split}.spans.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def mentions(path: Path) -> list[list[str]]:
    """The words of each entity of each document, by which one sees what is taught."""
    marks = []
    for placed in spans.read(path):
        words: list[list[str]] = []
        for word, tag in zip(placed.sentence.words, placed.sentence.tags, strict=True):
            if tag[0] == "B":
                words.append([])
            if tag != "O":
                words[-1].append(word)
        marks.append([" ".join(each) for each in words])
    return marks


def problems(path: Path) -> list[tuple[int | None, str]]:
    """(line, message without its place) of everything that is wrong."""
    errors: list[BadData] = []
    list(spans.read(path, report=errors.append))
    assert all(problem.next_step for problem in errors)
    assert not any(SECRET in str(problem) for problem in errors)
    return [(problem.line, problem.message.partition(": ")[2]) for problem in errors]


# How offsets count

NOTE = "Visit one.\nNo fever \U0001f600.\nTakes aspirin, d\u00e9j\u00e0 \U0001f600 daily.\nStop warfarin."


def counted(text: str, word: str, unit) -> tuple[int, int]:
    """Where a word stands in a text, as a tool counts that gives every character `unit` of it."""
    start = sum(map(unit, text[: text.index(word)]))
    return start, start + sum(map(unit, word))


UNITS = {
    "characters": lambda character: 1,
    "UTF-16": lambda character: len(character.encode("utf-16-le")) // 2,
    "bytes": lambda character: len(character.encode()),
}


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize(("line_end", "seen"), [("\n", "\n"), ("\r\n", "\n"), ("\r\n", "\r\n")])
@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["", "BOM"])
@pytest.mark.parametrize("mark_counts", [False, True])
def test_mentions_show_how_brat_offsets_count(unit, line_end, seen, mark, mark_counts, tmp_path):
    text = NOTE.replace("\n", seen)
    before = UNITS[unit](mark) if mark and mark_counts and unit != "bytes" else 0
    places = [[before + place for place in counted(text, word, UNITS[unit])] for word in ("aspirin", "warfarin")]
    rows = [f"T{n}\tDrug {a} {b}\t{w}" for n, (a, b), w in zip((1, 2), places, ("aspirin", "warfarin"), strict=True)]
    folder = brat_folder(tmp_path, mark + NOTE.replace("\n", line_end), *rows, newline=line_end)
    assert mentions(folder) == [["aspirin", "warfarin"]]


@pytest.mark.parametrize("unit", UNITS)
def test_mentions_show_how_offsets_of_the_other_formats_count(unit, tmp_path):
    title, abstract = "D\u00e9j\u00e0 \U0001f600 aspirin.", "No \U0001f600 warfarin."
    text = f"{title}\n{abstract}"
    places = {word: counted(text, word, UNITS[unit]) for word in ("aspirin", "warfarin")}
    rows = "".join(f"1\t{start}\t{end}\t{word}\tDrug\n" for word, (start, end) in places.items())
    assert mentions(pubtator(tmp_path, f"1|t|{title}\n1|a|{abstract}\n{rows}")) == [["aspirin", "warfarin"]]
    entities = [{"label": "Drug", "start": a, "end": b, "text": word} for word, (a, b) in places.items()]
    assert mentions(jsonl(tmp_path, {"text": text, "entities": entities})) == [["aspirin", "warfarin"]]


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize(
    ("title", "shift"), [("Aspirin trial. ", 16), ("Aspirin trial. ", 15), ("\u00a0Aspirin trial.", 15)]
)
def test_blanks_around_a_title_count_or_not_as_the_mentions_say(newline, title, shift, tmp_path):
    path = pubtator(
        tmp_path, f"1|t|{title}\n1|a|Asthma improved.\n1\t{shift}\t{shift + 6}\tAsthma\tD\n", newline=newline
    )
    assert mentions(path) == [["Asthma"]]


@pytest.mark.parametrize(
    "written", ["lung cancer", "lung\u00a0cancer", "lung  cancer ", "Lung Cancer", "lungcancer", ""]
)
def test_a_mention_may_be_spaced_and_cased_otherwise(written, tmp_path):
    text = "He has lung\ncancer now."
    assert mentions(brat_folder(tmp_path, text, f"T1\tDisease 7 18\t{written}")) == [["lung cancer"]]


WRONG_PLACE = "the text from 2 to 13 is not the mention given for it (7 characters, which is at 0 to 7)."


def test_a_mention_that_is_not_the_text_at_its_offsets_is_named_with_its_line(tmp_path):
    text = "Aspirin trial.\nAsthma improved."
    assert problems(pubtator(tmp_path, "1|t|Aspirin trial.\n1|a|Asthma improved.\n1\t2\t13\tAspirin\tDrug\n")) == [
        (3, WRONG_PLACE)
    ]
    rows = ["T1\tDrug 0 7\tAspirin", "T2\tDrug 2 13\tAspirin", f"T3\tDrug 15 21\t{SECRET}"]
    unknown = "the text from 15 to 21 is not the mention given for it (7 characters)."
    assert problems(brat_folder(tmp_path, text, *rows)) == [(2, WRONG_PLACE), (3, unknown)]
    entity = {"label": "Drug", "start": 2, "end": 13, "text": "Aspirin"}
    assert problems(jsonl(tmp_path, {"text": text, "entities": [entity]})) == [(1, WRONG_PLACE)]
    with pytest.raises(BadData, match=r"train.spans.jsonl, line 1: the text from 2 to 13"):
        list(spans.read(tmp_path / "train.spans.jsonl"))


# Pieces


@pytest.mark.parametrize("gap", ["\n", "\r\n", " ", "\n    ", "\u00a0", "\n\n", ""])
def test_pieces_that_only_white_space_separates_are_one_mention(gap, tmp_path):
    text, start = f"He has lung{gap}cancer now.", 11 + len(gap)
    folder = brat_folder(tmp_path, text, f"T1\tDisease 7 11;{start} {start + 6}\tlung cancer")
    tally = Tally()
    [placed] = spans.read(folder, tally=tally)
    assert [tag for tag in placed.sentence.tags if tag != "O"] == ["B-Disease", "I-Disease"][: 2 if gap else 1]
    assert (tally.given, tally.entities, tally.discontinuous) == (1, 1, 0)
    backwards = {"label": "Disease", "spans": [[start, start + 6], [7, 11]]}
    assert mentions(jsonl(tmp_path, {"text": text, "entities": [backwards]})) == mentions(folder)


def test_what_is_lost_to_overlaps_pieces_and_blanks_is_counted(tmp_path):
    for split in SPLITS:
        entities = [(7, 8), (0, 18), (0, 7)]
        row = {"text": "Aspirin for asthma.", "entities": [{"label": "D", "start": a, "end": b} for a, b in entities]}
        apart = {"text": "left and right kidney", "entities": [{"label": "D", "spans": [[0, 4], [9, 21]]}]}
        jsonl(tmp_path, row, apart, {"text": " ", "entities": []}, split=split)
    report = datasets.check(tmp_path)
    train = report.splits["train"]
    assert (train.given, train.entities, train.overlapping, train.discontinuous, train.empty) == (4, 2, 1, 1, 1)
    assert [(problem.line, problem.message) for problem in report.problems if problem.split == "train"] == [
        (1, "an entity from 7 to 8 that covers no word, only blanks.")
    ]
    assert any(note.startswith("train: entities 4 given, 2 kept; wrong: 1; overlapping") for note in report.notes)


def test_a_split_that_keeps_everything_has_no_note(tmp_path):
    for split in SPLITS:
        entity = {"label": "Drug", "start": 0, "end": 7}
        jsonl(tmp_path, {"text": f"Aspirin {split}.", "entities": [entity]}, split=split)
    report = datasets.check(tmp_path)
    assert report.ok and not report.notes and report.splits["dev"].given == report.splits["dev"].entities == 1


# PubTator

FIRST = "1|t|Aspirin trial.\n1|a|Asthma improved.\n1\t0\t7\tAspirin\tChemical\tD1\n1\t15\t21\tAsthma\tDisease\tD2\n"
SECOND = "2|t|Ibuprofen trial.\n2|a|Pain improved.\n2\t0\t9\tIbuprofen\tChemical\tD3\n"
BOTH = [["Aspirin", "Asthma"], ["Ibuprofen"]]


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize(
    "content",
    [
        f"{FIRST}\n{SECOND}\n",
        FIRST + SECOND,
        f"\n\n{FIRST}\n\n\n{SECOND}",
        f"\ufeff{FIRST}\ufeff{SECOND}",
        f"{FIRST}1\tCID\tD1\tD2\n1\tAssociation\t1234\tD5\tNovel\n{SECOND}",
        f"{FIRST}{SECOND}2\tCID\t-\tD2\t1.0",
        f"{FIRST}1\tinteracts with\tBRCA\tKRAS\n{SECOND}",
        "1\t0\t7\tAspirin\tChemical\tD1\n" + FIRST.replace("1\t0\t7\tAspirin\tChemical\tD1\n", "") + SECOND,
        FIRST.replace("1\t0", "\n1\t0") + SECOND,
    ],
    ids=[
        "usual",
        "joined",
        "more empty lines",
        "marks",
        "relations",
        "relation last",
        "relation of names",
        "entity first",
        "line between",
    ],
)
def test_a_new_id_begins_a_document(content, newline, tmp_path):
    assert mentions(pubtator(tmp_path, content, newline=newline)) == BOTH


def test_relations_are_counted(tmp_path):
    tally = Tally()
    list(spans.read(pubtator(tmp_path, f"{FIRST}1\tCID\tD1\tD2\n{SECOND}"), tally=tally))
    assert (tally.given, tally.entities, tally.others) == (3, 3, 1)


NO_ROW = "a row of {} that is neither title, abstract, entity nor relation."
NO_TITLE = "rows without the title line of their document; their id is not that of the rows before them."


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (FIRST + "2\t0\t7\tAspirin\tChemical\n", [(5, NO_TITLE)]),
        (f"2|a|{SECRET}\n", [(1, NO_TITLE)]),
        (FIRST + "2\tCID\tD1\tD2\n" + "1\tCID\tD1\tD2\n", [(5, NO_TITLE), (6, NO_TITLE)]),
        ("1|t|Aspirin.\n2|a|Asthma.\n", [(2, NO_TITLE)]),
        (FIRST + SECOND + FIRST, [(8, "a document whose id is given twice; that of line 1 has it too.")]),
        ("1|t|a\n1|a|b\n1|a|c\n", [(3, "a second abstract line of the same document.")]),
        (f"{SECRET}\n{FIRST}", [(1, NO_ROW.format("1 column"))]),
        (f"{FIRST}1\t0\t7\t{SECRET}\n", [(5, NO_ROW.format("4 columns"))]),
        (f"{FIRST}1 0 7 {SECRET} Chemical\n", [(5, NO_ROW.format("1 column"))]),
        (f"{FIRST}1\tzero\t7\t{SECRET}\tChemical\n", [(5, NO_ROW.format("5 columns"))]),
        (f"{FIRST}\t0\t7\tAspirin\tChemical\n", [(5, NO_ROW.format("5 columns"))]),
        ("1|t|a\r1|a|b\n", [(1, "a carriage return (CR) within the line.")]),
    ],
)  # fmt: skip
def test_a_row_that_does_not_belong_is_named_with_its_line(content, message, tmp_path):
    assert problems(pubtator(tmp_path, content)) == message


NUMBERS = ["\u00b2", "\u0663", "\uff11", "-1", "+1", "1_0", "1.0", "", " ", "x", "9" * 5000]


@pytest.mark.parametrize("number", NUMBERS)
def test_an_offset_is_written_in_ascii_digits(number, tmp_path):
    [(line, _)] = problems(pubtator(tmp_path, f"1|t|Aspirin trial.\n1|a|x\n1\t{number}\t7\tAspirin\tChemical\n"))
    assert line == 3
    [(line, message)] = problems(brat_folder(tmp_path, "Aspirin trial.", f"T1\tChemical {number} 7\tAspirin"))
    assert (line, message) == (1, "a text-bound annotation without label, start and end as whole numbers.")


@pytest.mark.parametrize("number", ["1.5", "true", "null", '"1"', "-1", "1" + "0" * 4000, "NaN", "1e400"])
def test_an_offset_of_jsonl_is_a_whole_number_of_the_text(number, tmp_path):
    path = tmp_path / "train.spans.jsonl"
    path.write_text(f'{{"text": "Aspirin", "entities": [{{"label": "D", "start": {number}, "end": 7}}]}}\n')
    [(line, message)] = problems(path)
    assert line == 1 and len(message) < 200


# BRAT


def test_what_no_split_holds_is_passed_over_by_reading_and_hashing(tmp_path):
    for split in SPLITS:
        brat_folder(tmp_path / split, "Aspirin for asthma.", "T1\tDrug 0 7\tAspirin").rename(tmp_path / f"{split}_")
        (tmp_path / split).rmdir()
        (tmp_path / f"{split}_").rename(tmp_path / split)
    before = datasets.resolve(str(tmp_path)).sha256
    (tmp_path / "train" / ".ipynb_checkpoints").mkdir()
    (tmp_path / "train" / ".ipynb_checkpoints" / "d-checkpoint.txt").write_text("x")
    for name in ("._d.txt", "._d.ann", ".DS_Store", ".stats_cache", "annotation.conf", "d.ann~", "d.json"):
        (tmp_path / "train" / name).write_bytes(b"\0\xff")
    assert datasets.resolve(str(tmp_path)).sha256 == before and datasets.check(tmp_path).ok
    assert mentions(tmp_path / "train") == [["Aspirin"]]


def test_files_without_their_other_half_and_folders_are_named(tmp_path):
    folder = brat_folder(tmp_path, "Aspirin.", "T1\tDrug 0 7\tAspirin")
    (folder / "more").mkdir()
    (folder / "alone.txt").write_text(SECRET)
    (folder / "lost.ann").write_text("T1\tDrug 0 7\tAspirin\n")
    errors: list[BadData] = []
    assert len(list(spans.read(folder, report=errors.append))) == 1
    assert [problem.message for problem in errors] == [
        "train/more: a folder inside a split; its files are not read.",
        "train/lost.txt: there is no such file.",
        "train/alone.ann: there is no such file.",
    ]


def test_the_case_of_an_ending_does_not_matter(tmp_path):
    folder = brat_folder(tmp_path, "Aspirin.", "T1\tDrug 0 7\tAspirin")
    (folder / "d.txt").rename(folder / "d.TXT")
    assert mentions(folder) == [["Aspirin"]] and len(brat.files(folder)) == 2
    (folder / "d.txt").write_text("Asthma.")
    errors: list[BadData] = []
    list(spans.read(folder, report=errors.append))
    assert "d.TXT and this file are the same document" in errors[0].message


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("T1\tDrug 0 7\tAspirin", "T1 is given twice; line 1 has it too."),
        (f"{SECRET}", "a row that is not an annotation"),
        (f"T2 Drug 0 7 {SECRET}", "a row that is not an annotation"),
        (f"T\tDrug 0 7\t{SECRET}", "a row that is not an annotation"),
        ("T2\tDrug", "a text-bound annotation without label"),
        ("T2", "a row that is not an annotation"),
        ("T2\tDrug 0 7;\tAspirin", "a text-bound annotation without label"),
        ("T2\tDrug 0 7\tAspirin\rT3\tDrug 0 7\tAspirin", "a carriage return (CR) within the line."),
        ("T2\tDrug 3 3\tx", "an entity from 3 to 3 in a text of 19 characters."),
        ("T2\tDrug 7 8\t ", "an entity from 7 to 8 that covers no word, only blanks."),
    ],
)
def test_a_wrong_row_of_brat_is_named_and_the_others_are_read(row, expected, tmp_path):
    folder = brat_folder(tmp_path, "Aspirin for asthma.", "T1\tDrug 0 7\tAspirin", row, "T9\tSign 12 18\tasthma")
    [(line, message)] = problems(folder)
    assert line == 2 and message.startswith(expected)
    tally = Tally()
    [placed] = spans.read(folder, report=lambda problem: None, tally=tally)
    assert placed.sentence.tags.count("B-Drug") == placed.sentence.tags.count("B-Sign") == 1
    assert (tally.given, tally.entities) == (3, 2)


def test_other_annotations_are_known_and_counted(tmp_path):
    rows = ["R1\tCause Arg1:T1 Arg2:T2", "E1\tDrug:T1 ", "A1\tNegated T1", "M1\tNegation E1", "N1\tReference T1 W:5\tx"]
    rows += ["*\tEquiv T1 T2", "#1\tAnnotatorNotes T1\tsure", "#\ta remark", ""]
    folder = brat_folder(tmp_path, "Aspirin.", "T1\tDrug 0 7\tAspirin", *rows)
    tally = Tally()
    assert len(list(spans.read(folder, tally=tally))) == 1
    assert (tally.given, tally.entities, tally.others) == (1, 1, 6)


def test_attributes_of_brat_belong_to_their_entity_or_to_the_trigger_of_their_event(tmp_path):
    rows = ["T2\tSign 12 18\tasthma", "E1\tFinding:T2 ", "A1\tAssertion E1 absent", "A2\tSevere T2", "M1\tSure T1"]
    folder = brat_folder(tmp_path, "Aspirin for asthma.", "T1\tDrug 0 7\tAspirin", *rows)
    [placed] = spans.read(folder)
    assert placed.sentence.attributes == {
        "Assertion": ("", "", "absent", ""),
        "Severe": ("", "", "yes", ""),
        "Sure": ("yes", "", "", ""),
    }


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("A1\tAssertion T7 absent", "an attribute of T7, which is not in this file."),
        ("A1\tAssertion", "an attribute without a name and the id of what has it."),
        ("A1\tAssertion T1 absent\nA2\tAssertion T1 present", "a second value of the attribute Assertion of T1."),
        ("A1\tAsser=tion T1 absent", "an attribute whose name or value is not a short text on one line."),
    ],
)
def test_a_wrong_attribute_of_brat_is_named_and_the_entity_stays(row, message, tmp_path):
    folder = brat_folder(tmp_path, "Aspirin for asthma.", "T1\tDrug 0 7\tAspirin", row)
    [(line, problem)] = problems(folder)
    assert line >= 2 and problem.startswith(message)
    [placed] = spans.read(folder, report=lambda problem: None)
    assert placed.sentence.tags[0] == "B-Drug"


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"assertion": "absent"}, {"assertion": ("absent", "")}),
        ({"negated": True, "family": False, "grade": 2}, {"grade": ("2", ""), "negated": ("yes", "")}),
        (["negated"], {"negated": ("yes", "")}),
        ({}, {}),
        (None, {}),
    ],
)
def test_attributes_of_jsonl_are_names_and_values(attributes, expected, tmp_path):
    path = tmp_path / "train.spans.jsonl"
    entity = {"label": "Sign", "start": 0, "end": 5, "attributes": attributes}
    path.write_text(json.dumps({"text": "Fever.", "entities": [entity]}))
    [placed] = spans.read(path)
    assert placed.sentence.attributes == expected


@pytest.mark.parametrize(
    "attributes", ["absent", {"a b": "x"}, {"a": ["x"]}, {"a": ""}, {"a": "x\ny"}, {"@a": "x"}, [1]]
)
def test_wrong_attributes_of_jsonl_are_named(attributes, tmp_path):
    path = tmp_path / "train.spans.jsonl"
    entity = {"label": "Sign", "start": 0, "end": 5, "attributes": attributes}
    path.write_text(json.dumps({"text": "Fever.", "entities": [entity]}))
    [(line, message)] = problems(path)
    assert line == 1 and "attribute" in message


@pytest.mark.parametrize("key", ["assertion", "Assertion", "attribute", "severity"])
def test_an_attribute_beside_the_label_is_no_entity_without_one(key, tmp_path):
    entity = {"label": "Sign", "start": 0, "end": 5}
    rows = [entity | {"attributes": {"severity": "mild"}, "id": "T1", key: None}, entity | {key: "canary"}]
    path = tmp_path / "train.spans.jsonl"
    path.write_text("\n".join(json.dumps({"text": "Fever.", "entities": [each]}) for each in rows))
    [(line, message)] = problems(path)
    assert line == 2 and f"`{key}` beside its label" in message
    assert "and `attributes`" in message and "canary" not in message


@pytest.mark.parametrize(
    ("name", "content"), [("d.ann", b"T1\tDrug 0 7\tAspirin\n\xff"), ("d.txt", b"\xff"), ("d.txt", b"a\0")]
)
def test_a_file_that_cannot_be_read_is_named_and_the_next_is_read(name, content, tmp_path):
    folder = brat_folder(tmp_path, "Aspirin.", "T1\tDrug 0 7\tAspirin")
    (folder / "e.txt").write_text("Aspirin.")
    (folder / "e.ann").write_text("T1\tDrug 0 7\tAspirin\n")
    (folder / name).write_bytes(content)
    errors: list[BadData] = []
    assert len(list(spans.read(folder, report=errors.append))) == 1
    assert [problem.path for problem in errors] == [f"train/{name}"]


def test_a_brat_folder_alone_can_be_checked(tmp_path):
    report = datasets.check(brat_folder(tmp_path, "Aspirin.", "T1\tDrug 0 7\tAspirin", "T1\tDrug 0 7\tAspirin"))
    assert [(problem.file, problem.line) for problem in report.problems] == [("train/d.ann", 2)]
    assert report.splits["train"].given == 2 and report.splits["train"].entities == 1


def test_a_link_out_of_a_brat_folder_is_refused(tmp_path):
    folder = brat_folder(tmp_path / "data", "Aspirin.", "T1\tDrug 0 7\tAspirin")
    (tmp_path / "private.txt").write_text(SECRET)
    (folder / "e.txt").symlink_to(tmp_path / "private.txt")
    with pytest.raises(Refused, match="outside the folder"):
        datasets.resolve(str(tmp_path / "data"))


# JSON


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ('{"text": "a", "text": "b", "entities": []}', "the field `text` is given twice in one object."),
        ('{"text": "Aspirin", "entities": [{"label": "A", "label": "B", "start": 0, "end": 7}]}', "the field `label`"),
        (f'{{"{SECRET} has it": 1, "{SECRET} has it": 2}}', "a field is given twice"),
        ('{"text": "\\ud83d alone", "entities": []}', "a text holds half of a character"),
    ],
)
def test_a_name_given_twice_and_half_a_character_are_named(row, problem, tmp_path):
    path = tmp_path / "train.spans.jsonl"
    path.write_text(f"{row}\n")
    [(line, message)] = problems(path)
    assert line == 1 and message.startswith(problem)


def test_a_whole_pair_of_surrogates_is_a_character(tmp_path):
    (tmp_path / "train.spans.jsonl").write_text(
        '{"text": "\\ud83d\\ude00 aspirin", "entities": [{"label": "D", "start": 2, "end": 9}]}\n'
    )
    assert mentions(tmp_path / "train.spans.jsonl") == [["aspirin"]]


# Data sets


@pytest.mark.parametrize("ending", [".jsonl", ".jsonl.gz"])
def test_rows_with_entities_are_understood_whatever_the_file_is_called(ending, tmp_path):
    for number, split in enumerate(SPLITS):
        row = json.dumps({"text": f"Aspirin {number}.", "entities": [{"label": "Drug", "start": 0, "end": 7}]}) + "\n"
        data = row.encode()
        (tmp_path / f"{split}{ending}").write_bytes(gzip.compress(data) if ending.endswith("gz") else data)
    report = datasets.check(tmp_path)
    assert report.ok and report.splits["train"].labels == {"Drug": 1}
    assert [each.tags for each in datasets.load(str(tmp_path), "test")] == [("B-Drug", "O", "O")]
    assert list(datasets.documents(str(tmp_path), "dev")) == ["Aspirin 1."], "it is text as well"
