"""Readers of related mentions: every form gives the same relations, and a wrong row is named without its text."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trainer.datasets.places import tasks_of
from trainer.datasets.readers import related, tagged
from trainer.datasets.readers.related import RelatedDocument
from trainer.errors import BadData

TEXT = "Aspirin gave him a rash."
ENTITIES = [
    {"id": "T1", "label": "Drug", "start": 0, "end": 7},
    {"id": "T2", "label": "Problem", "start": 19, "end": 23},
]
CAUSES = {"label": "causes", "head": "T1", "tail": "T2"}


def spans(path, relations=(CAUSES,), entities=ENTITIES):
    path.write_text(json.dumps({"text": TEXT, "entities": entities, "relations": relations}) + "\n")
    return path


def brat(folder, relations="R1\tcauses Arg1:T1 Arg2:E1\n"):
    folder.mkdir()
    (folder / "a.txt").write_text(TEXT)
    (folder / "a.ann").write_text(f"T1\tDrug 0 7\tAspirin\nT2\tProblem 19 23\trash\nE1\tProblem:T2\n{relations}")
    return folder


def pubtator(path, relations="1\tcauses\tD1\tC2\n"):
    rows = "1\t0\t7\tAspirin\tDrug\tD1|D9\n1\t19\t23\trash\tProblem\tC2\n"
    path.write_text(f"1|t|{TEXT}\n{rows}{relations}")
    return path


def read(path):
    problems = []
    return list(related.read(path, report=problems.append)), [str(problem) for problem in problems]


def relations_of(document: RelatedDocument):
    named = []
    for relation in document.relations:
        ends = [document.mentions[document.groups[group][0]] for group in relation[:2]]
        named.append((*(document.text[each.start : each.end] for each in ends), relation.label))
    return named


@pytest.mark.parametrize(
    "make",
    [
        lambda folder: spans(folder / "x.spans.jsonl"),
        lambda folder: spans(folder / "x.jsonl"),
        lambda folder: brat(folder / "x"),
        lambda folder: pubtator(folder / "x.pubtator"),
    ],
    ids=["spans", "jsonl", "brat", "pubtator"],
)
def test_every_form_of_documents_gives_the_same_relations(make, tmp_path):
    path = make(tmp_path)
    (document,), problems = read(path)
    assert related.is_related(path) and not problems and not document.single
    assert relations_of(document) == [("Aspirin", "rash", "causes")]
    assert document.types(document.relations[0]) == ("Drug", "Problem")
    assert "Aspirin" not in repr(document)


@pytest.mark.parametrize("ends", [{"head": "D1", "tail": "C2"}, {"chemical": "D1", "disease": "C2"}])
def test_relations_of_jsonl_may_hold_between_concepts(ends, tmp_path):
    mentions = [*ENTITIES, {"id": "T3", "label": "Drug", "start": 13, "end": 16}]
    concepts = ["D1|D9", "C2", "D1"]
    entities = [mention | {"concept": concept} for mention, concept in zip(mentions, concepts, strict=True)]
    (document,), problems = read(spans(tmp_path / "x.jsonl", [{"label": "CID"} | ends], entities))
    assert not problems and document.groups == ((0, 2), (0,), (1,))
    assert relations_of(document) == [("Aspirin", "rash", "CID")]


def test_a_concept_has_all_its_mentions(tmp_path):
    rows = (
        "1\t0\t7\tAspirin\tDrug\tD1\n1\t8\t12\tgave\tDrug\tD1\n1\t19\t23\trash\tProblem\tC2\n1\t13\t16\thim\tDrug\t-1\n"
    )
    path = tmp_path / "x.pubtator"
    path.write_text(f"1|t|{TEXT}\n{rows}1\tcauses\tD1\tC2\n")
    (document,), problems = read(path)
    assert not problems and document.groups == ((0, 1), (2,), (3,)) and document.relations[0][:2] == (0, 1)


def pair(**changes):
    row = {
        "text": TEXT,
        "label": "causes",
        "head": {"span": [0, 7]},
        "tail": {"start": 19, "end": 23, "type": "Problem"},
    }
    return {name: value for name, value in (row | changes).items() if value is not None}


def test_a_row_with_one_pair(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps(pair(label=1)) + "\n" + json.dumps(pair(head={"span": [0, 7], "text": "aspirin"})))
    documents, problems = read(path)
    assert related.is_related(path) and not problems and all(document.single for document in documents)
    assert relations_of(documents[0]) == [("Aspirin", "rash", "1")]
    assert documents[0].types(documents[0].relations[0]) == ("entity", "Problem")


PAPERS = "A @GENE$ and a @DISEASE$.\t1\n"


@pytest.mark.parametrize(
    "content",
    [f"text\tlabel\n{PAPERS}", PAPERS, f"index\tsentence\tlabel\n0\t{PAPERS}"],
    ids=["header", "no header", "as the papers"],
)
def test_anonymised_rows_with_tabs(content, tmp_path):
    path = tmp_path / "x.tsv"
    path.write_text(content)
    (document,), problems = read(path)
    assert not problems and document.anonymised and document.single
    assert relations_of(document) == [("@DISEASE$", "@GENE$", "1")]  # by type, whatever their order


def test_anonymised_objects_and_mentions_that_overlap(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text('{"text": "A @CHEM-GENE$ here.", "label": "false"}\n{"text": "@b$ @a$ @c$", "label": "x"}\n')
    (document,), problems = read(path)
    assert related.is_related(path) and document.groups == ((0,),) and document.relations[0][:2] == (0, 0)
    assert "line 2" in problems[0] and "3 mentions" in problems[0]


def test_rows_of_one_pair_become_one_with_all_labels(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text("".join(json.dumps(pair(label=label)) + "\n" for label in ("causes", "worsens", "causes")))
    documents, _ = read(path)
    (merged,) = related.merge_pairs(documents)
    assert [relation.label for relation in merged.relations] == ["causes", "worsens"] and merged.repeated == 1


@pytest.mark.parametrize(
    ("relation", "problem"),
    [
        ({"label": "causes", "head": "T1"}, "not both entities"),
        ({"label": "causes", "head": "T1", "tail": "T9"}, "not both entities"),
        ({"label": "causes", "head": "T1", "tail": "T1"}, "with itself"),
        ({"label": "two words", "head": "T1", "tail": "T2"}, "blanks in its label"),
        ({"head": "T1", "tail": "T2"}, "without a label"),
        ("Aspirin", "without a label"),
    ],
)
def test_a_wrong_relation_is_named_and_the_document_stays(relation, problem, tmp_path):
    (document,), problems = read(spans(tmp_path / "x.jsonl", (relation, CAUSES)))
    assert len(document.relations) == 1 and len(problems) == 1
    assert problem in problems[0] and "line 1" in problems[0] and "Aspirin" not in problems[0]


def test_a_wrong_relation_does_not_disturb_who_reads_entities(tmp_path):
    for path in (spans(tmp_path / "x.spans.jsonl", ({"label": 1},)), brat(tmp_path / "x", "R1\tcauses T1\n")):
        assert len(read(path)[1]) == 1
        assert [tag for item in tagged.read(path, name="x") for tag in item.sentence.tags if tag != "O"]


@pytest.mark.parametrize(
    "row",
    [
        pair(head=None),
        pair(tail="rash"),
        pair(head={"span": [0]}),
        pair(head={"span": [0, 99]}),
        pair(head={"span": [0, 7], "text": "rash"}),
        pair(label=None),
        pair(label=True),
        pair(text=" "),
        {"text": "no mention", "label": "x"},
    ],
)
def test_a_wrong_pair_is_refused_without_its_text(row, tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps(row))
    documents, problems = read(path)
    assert not documents and len(problems) == 1
    assert "Aspirin" not in problems[0] and "no mention" not in problems[0]
    with pytest.raises(BadData, match="line 1"):
        list(related.read(path))


NAMES = st.sampled_from(("id", "label", "span", "start", "end", "head", "tail", "type"))
LEAVES = st.one_of(st.none(), st.integers(-1, 9), st.text(max_size=3))
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(NAMES, inner), max_leaves=6)
ROWS = st.fixed_dictionaries(
    {"text": st.text(max_size=9), "label": LEAVES},
    optional=dict.fromkeys(("head", "tail", "entities", "relations"), VALUES),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    ending=st.sampled_from((".jsonl", ".tsv", ".csv", ".pubtator")),
    content=st.one_of(
        st.binary(max_size=80),
        st.text(st.sampled_from('{}[]":,\t\n|@$0123459Ttexlabhdi'), max_size=120).map(str.encode),
        ROWS.map(lambda row: json.dumps(row).encode()),
    ),
)
def test_whatever_a_file_holds_it_is_read_or_refused(ending, content, tmp_path):
    path = tmp_path / f"x{ending}"
    path.write_bytes(content)
    try:
        documents = list(related.read(path, report=lambda problem: None))
    except BadData:
        return
    assert all(isinstance(document, RelatedDocument) for document in related.merge_pairs(documents))


@pytest.mark.parametrize(
    ("name", "content", "serves"),
    [
        ("jsonl", json.dumps(pair()), True),
        ("jsonl", '{"text": "A @GENE$.", "label": "x"}', True),
        ("jsonl", '{"text": "A gene.", "label": "x"}', False),
        ("jsonl", json.dumps({"text": TEXT, "entities": ENTITIES}), False),
        ("tsv", "A @GENE$.\tx", True),
    ],
)
def test_a_folder_serves_relations_only_where_it_has_them(name, content, serves, tmp_path):
    (tmp_path / f"train.{name}").write_text(content)
    assert ("relations" in tasks_of(tmp_path)) == serves
