"""Files of a comparison: nothing of the note unless asked, offsets that other tools read, escaped HTML."""

import csv
import io
import json
import re
import zipfile
from datetime import UTC, datetime
from html.parser import HTMLParser

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from trainer.datasets.readers.spans import read_marked
from trainer.prediction import AttributeValue, Cost, Coverage, LabelScore, Prediction, Span
from workbench.compare import Comparison, compare, report
from workbench.compare.costs import Weights, find_weights
from workbench.compare.filters import Filter
from workbench.compare.findings import list_findings
from workbench.highlight import displayable, report_page
from workbench.highlight.markup import TAGS
from workbench.note import Note

HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "</span></mark><script>alert(1)</script><!-- --><![CDATA[",
    "a\r\nb\rc\n\n  \t\td \n",
    "\x00\x01\x07\x1b[31m\x7f\x0b\x0c\u2028\u2029\ufeff",
    "\u202eעברית\u202c שלום \u2066mixed\u2069 العربية",
    "e\u0301 👩🏽‍⚕️ \U0001f9ec \ud800 &amp; &#13; &lt;b&gt; \"'",
]
TEXT = (st.text(max_size=80) | st.lists(st.sampled_from(HOSTILE), max_size=3).map("".join)).filter(str.strip)
LABEL = st.sampled_from(["Disease", "Chemical", "", *HOSTILE]) | st.text(max_size=8)
SPANS = st.lists(st.tuples(st.integers(0, 90), st.integers(1, 20), LABEL), max_size=6)
MADE = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
HASH = "ab" * 32


def prediction(name: str, *spans: tuple, unread=()) -> Prediction:
    return Prediction(
        model=name,
        task="ner",
        spans=tuple(Span(start=a, end=a + size, label=label, score=0.9) for a, size, label in spans),
        coverage=Coverage(tokens=99, tokens_read=90, windows=2, unread=unread),
        cost=Cost(latency_ms=1234, tokens_per_second=56),
        label_set=("Disease", "Chemical"),
    )


def made(text: str, *arms: Prediction, with_text=False, **fields) -> report.Report:
    names = {arm.model: f"Title of {arm.model}" for arm in arms}
    weighed = tuple(Weights(reference=name, sha256=HASH, parameters=9_500_000, size_bytes=19_000_000) for name in names)
    compared = compare(arms) if len(arms) > 1 else Comparison(predictions=arms, agreement=None, disagreements=())
    return report.Report(Note(text), compared, names, weighed, MADE, with_text=with_text, **fields)


class Page(HTMLParser):
    """Tags, attributes and the note's text of a report, as a browser would see them."""

    def __init__(self, source: str):
        super().__init__(convert_charrefs=True)
        self.tags, self.words, self.note, self.depth = [], [], "", 0
        self.feed(re.sub("\r\n?", "\n", source))
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.depth += bool(self.depth) or dict(attributes).get("class") == "sr-note"

    def handle_endtag(self, tag):
        self.depth -= bool(self.depth)

    def handle_data(self, data):
        self.note += data if self.depth else ""
        self.words.append(data.strip())

    def handle_comment(self, data):
        raise AssertionError("a comment came through")


@settings(deadline=None)
@given(TEXT, SPANS, SPANS)
@example("Patient has a fever after the naloxone.", [(14, 5, "Disease")], [(14, 9, "Disease")])
def test_without_the_tick_no_file_depends_on_the_text(text, first, second):
    arms = prediction("a", *first), prediction("b", *second)
    other_text = "".join(chr(0xE000 + at) for at in range(len(text)))  # no two places have the same words
    silent, blank = made(text, *arms), made(other_text, *arms)
    ours, other = ([file(each) for file in (report_page, report.as_json, report.as_csv)] for each in (silent, blank))
    assert ours[1:] == other[1:], "the same for any text of this length"
    if all(len(each.places) == 1 for each in list_findings(text, arms)):
        assert ours[0] == other[0], "the report says of the text only which places are one finding"
    parts = {text[at : at + 12] for at in range(len(text) - 11)}
    assume(not any(part in file for file in other for part in parts))  # words of ours, by chance
    assert not any(part in file for file in ours for part in parts)
    with zipfile.ZipFile(io.BytesIO(report.as_brat(silent))) as packed:
        assert packed.namelist() == ["A/note.ann", "B/note.ann"]
        with zipfile.ZipFile(io.BytesIO(report.as_brat(blank))) as like:
            assert all(packed.read(name) == like.read(name) for name in packed.namelist())


@settings(deadline=None)
@given(TEXT, SPANS, SPANS, LABEL)
@example("".join(HOSTILE), [(0, 9, HOSTILE[1])], [(3, 40, HOSTILE[0])], HOSTILE[1])
def test_with_the_tick_the_report_holds_the_text_and_everything_is_escaped(text, first, second, name):
    page = Page(
        report_page(made(text, prediction(f"a{name}", *first), prediction(f"b{name}", *second), with_text=True))
    )
    assert page.note == displayable(text)
    shell = {"html", "head", "body", "meta", "title", "style", "h1"}
    assert text.count("\n") + (not text.endswith("\n")) == sum(each.get("class") == "sr-first" for _, each in page.tags)
    for tag, attributes in page.tags:
        assert tag in TAGS | shell
        assert set(attributes) <= {"class", "dir", "id", "tabindex", "name", "content", "charset", "lang", "http-equiv"}
    assert [tag for tag, _ in page.tags].count("style") == 2


def test_the_report_says_versions_hashes_date_coverage_cost_and_what_was_kept():
    arms = prediction("a", (0, 5, "Disease")), prediction("b", unread=((0, 9),))
    html = report_page(
        made("Fever after naloxone", *arms, filter=Filter(labels=("Disease",), min_score=0.8), context=512)
    )
    for fact in ("01 March 2026, 09:30", HASH, "1,234 ms", "90 of 99 (91%)", "9.5 million", "0–5", "Not read by"):
        assert fact in html, fact
    assert "only labels Disease; only scores of at least 80%" in html and "first 512 tokens" in html
    for package, number in report.versions().items():
        assert f"{package} {number}" in html and number != "not installed"
    assert "http://" not in html and "https://" not in html and "<script" not in html and "url(" not in html


def test_the_json_is_the_public_shape_with_versions_and_hashes():
    arms = prediction("a", (0, 5, "Disease")), prediction("b")
    document = json.loads(report.as_json(made("Fever", *arms)))
    public = compare(arms).to_json()
    assert {name: document[name] for name in public} == json.loads(json.dumps(public))
    assert document["versions"] == report.versions() and document["models"][0]["sha256"] == HASH
    assert document["filter"] == {"labels": [], "least": 0.0} and document["made"] == "2026-03-01T09:30:00+00:00"


def test_the_csv_has_a_row_a_span_and_one_for_each_label_that_a_note_is_given():
    labels = (LabelScore(label='=x,"y"', score=0.7), LabelScore(label="z", score=0.3))
    classified = prediction("c").model_copy(update={"task": "classification", "labels": labels})
    arms = prediction("a", (0, 5, "Disease"), (6, 3, "Chemical")), prediction("b", (0, 5, "Disease")), classified
    rows = list(csv.reader(io.StringIO(report.as_csv(made("Fever after", *arms)))))
    assert rows == [
        ["arm", "start", "end", "label", "score", "agreed"],
        ["a", "0", "5", "Disease", "0.9", "yes"],
        ["a", "6", "9", "Chemical", "0.9", "no"],
        ["b", "0", "5", "Disease", "0.9", "yes"],
        ["c", "", "", '=x,"y"', "0.7", ""],
    ]


def negated(arm: Prediction) -> Prediction:
    """The same with an assertion for its first span."""
    first = arm.spans[0].model_copy(
        update={"attributes": {"assertion": AttributeValue(value="surely absent", score=0.8)}}
    )
    return arm.model_copy(update={"spans": (first, *arm.spans[1:])})


def test_attributes_have_columns_and_annotations_of_their_own(tmp_path):
    arms = negated(prediction("a", (0, 5, "Disease"), (6, 3, "Chemical"))), prediction("b", (0, 5, "Disease"))
    made_of_both = made("Fever after", *arms, with_text=True)
    assert list(csv.reader(io.StringIO(report.as_csv(made_of_both))))[:3] == [
        ["arm", "start", "end", "label", "score", "agreed", "assertion", "assertion_score"],
        ["a", "0", "5", "Disease", "0.9", "yes", "surely absent", "0.8"],
        ["a", "6", "9", "Chemical", "0.9", "no", "", ""],
    ]
    zipfile.ZipFile(io.BytesIO(report.as_brat(made_of_both))).extractall(tmp_path)
    (read,) = read_marked(tmp_path / "A")
    assert [entity.attributes for entity in read.entities] == [(("assertion", "surely_absent"),), ()]


@pytest.mark.parametrize("with_text", [True, False])
def test_our_own_reader_of_brat_finds_the_same_spans(tmp_path, with_text):
    text = "Fever\r\nafter 👩🏽‍⚕️ naloxone,\te\u0301 rash"
    arm = prediction("a", (0, 5, "Disease"), (text.index("nal"), 8, "Chemical name"))
    archive = report.as_brat(made(text, arm, prediction("b"), with_text=with_text))
    zipfile.ZipFile(io.BytesIO(archive)).extractall(tmp_path)
    if not with_text:
        (tmp_path / "A" / "note.txt").write_bytes(text.encode())
    (read,) = read_marked(tmp_path / "A")
    assert read.text == text
    entities = [(entity.start, entity.end, entity.label) for entity in read.entities]
    assert entities == [(0, 5, "Disease"), (text.index("nal"), text.index("nal") + 8, "Chemical_name")]


def test_an_annotation_over_a_line_end_has_a_fragment_a_line():
    made_of = made("Fever\r\nand\n\nrash.", prediction("a", (2, 12, "Disease")), prediction("b"), with_text=True)
    with zipfile.ZipFile(io.BytesIO(report.as_brat(made_of))) as packed:
        first = packed.read("A/note.ann").decode().splitlines()[0]
    assert first == "T1\tDisease 2 5;7 10;12 14\tver and ra"


def test_fragments_have_no_white_space_at_their_ends():
    made_of = made("lung \r\n \t\n  cancer", prediction("a", (0, 18, "Disease")), prediction("b"), with_text=True)
    with zipfile.ZipFile(io.BytesIO(report.as_brat(made_of))) as packed:
        first = packed.read("A/note.ann").decode().splitlines()[0]
    assert first == "T1\tDisease 0 4;12 18\tlung cancer"


def test_a_lone_surrogate_moves_no_offset():
    with zipfile.ZipFile(
        io.BytesIO(report.as_brat(made("a\ud800b", *map(prediction, "ab"), with_text=True)))
    ) as packed:
        assert packed.read("A/note.txt") == b"a?b"


def test_a_file_name_is_a_date_and_says_whether_the_text_is_in_it():
    silent, with_text_in_it = (
        made("Fever", *map(prediction, "ab"), with_text=with_text) for with_text in (False, True)
    )
    assert silent.name("html") == "stillroom-compare-20260301-093000.html"
    assert with_text_in_it.name("html") == "stillroom-compare-20260301-093000-with-text.html"
    assert with_text_in_it.name("json") == "stillroom-compare-20260301-093000.json", "which never holds it"


def test_the_weights_of_a_starter_and_of_a_model_that_is_gone():
    digest = find_weights("minilm-bc5cdr-l3@truncate:128")
    assert digest.reference == "minilm-bc5cdr-l3" and 8_000_000 < digest.parameters < 9_000_000
    assert digest.size_bytes > digest.parameters and len(digest.sha256) == 64
    assert find_weights("./gone@windows") == Weights(reference="./gone")


def test_of_very_many_disagreements_the_first_are_listed_and_all_are_counted():
    text = "".join(f"{number:05}. " for number in range(1_500))
    one = prediction("one", *[(at, 5, "Disease") for at in range(0, len(text), 7)])
    page = report_page(made(text, one, prediction("two", (0, 5, "Disease"))))
    assert [len(listed) for listed in rows(page).values()] == [1_000, 1_000]
    assert "<b>1,500</b>" in page and "<b>1,499</b>" in page and page.count("Only the first 1,000 are listed") == 2
    few = report_page(made("Fever. Cough.", one.model_copy(update={"spans": one.spans[:2]}), prediction("two")))
    assert few.count("<b>2</b>") == 2 and "are listed" not in few


def test_where_nothing_was_found_the_files_say_that_there_is_nothing_to_compare():
    comparison = made("Fever", prediction("a"), prediction("b"))
    document_read = json.loads(report.as_json(comparison))
    assert document_read["agreement"] is None and "nothing to compare" in document_read["no_agreement"]
    assert (
        document_read["no_agreement"] in report_page(comparison)
        and "100%" not in report_page(comparison).partition("Agreement")[2]
    )


NOTE = "Fever. No rash.\nMother: gout.\nfever again, CT done."


def reading(name: str, /, labels=("problem", "test"), unread=(), **assertions: str) -> Prediction:
    """A model that finds fever twice, rash, gout and CT, and gives problems their assertion or another one."""
    usual = {"Fever": "present", "rash": "absent", "gout": "family", "fever": "present"} | assertions
    spans = [
        Span(
            start=NOTE.index(words),
            end=NOTE.index(words) + len(words),
            label="problem",
            score=0.9,
            attributes={"assertion": AttributeValue(value=value, score=0.7)},
        )
        for words, value in usual.items()
        if value and "problem" in labels
    ]
    if "test" in labels:
        spans.append(Span(start=NOTE.index("CT"), end=NOTE.index("CT") + 2, label="test", score=0.8))
    read = [span for span in spans if not any(start <= span.start < end for start, end in unread)]
    return prediction(name, unread=unread).model_copy(update={"spans": tuple(read), "label_set": labels})


def rows(page: str) -> dict[str, list[list[str]]]:
    """The cells of each table of findings or disagreements, by its heading."""
    tables = {}
    for source in re.findall('<table class="sr-rows">(.*?)</table>', page, re.S):
        head, body = source.split("</thead>")
        cells = [re.findall("<td>(.*?)</td>", row, re.S) for row in body.split("</tr>")[:-1]]
        plain = [[" ".join(" ".join(Page(cell).words).split()) for cell in row] for row in cells]
        title = re.findall("<th>(.*?)</th>", head, re.S)[0].partition(" <b>")[0]
        tables["".join(Page(title).words)] = plain
    return tables


@pytest.mark.parametrize("models", [1, 2, 3])
def test_findings_are_shown_where_models_agree_on_everything(models):
    scores = ["90% / 70%"] * models
    page = report_page(made(NOTE, *map(reading, "abc"[:models]), with_text=True))
    assert rows(page) == {
        "Problems present": [["Fever", "2", "1, 3", *scores]],
        "Problems in the family": [["gout in the family", "1", "2", *scores]],
        "Problems absent": [["rash absent", "1", "1", *scores]],
        "Tests": [["CT", "1", "3", *["80%"] * models]],
    }
    assert page.count('<span class="sr-struck"><bdi>rash</bdi></span>') == 1
    assert ("The models agree on every finding" in page) == ("Agreement" in page) == (models > 1)
    assert ("Every model read" if models > 1 else "The whole note was read") not in page
    assert "differs" not in page.partition("</head>")[2] and "struck through: the patient does not have it" in page


def test_without_the_text_a_finding_is_its_label_how_often_and_where():
    page = report_page(made(NOTE, reading("a")))
    assert rows(page)["Problems present"] == [["problem", "2", "0–5, 30–35", "90% / 70%"]]
    assert rows(page)["Problems absent"] == [["problem absent", "1", "10–14", "90% / 70%"]]


def test_a_model_without_a_finding_says_why():
    other_words = reading("d", rash="").model_copy(
        update={"spans": (Span(start=7, end=14, label="problem", score=0.6), *reading("d", rash="").spans)}
    )
    arms = reading("a"), reading("b", rash="possible", unread=((16, 30),)), reading("c", ("test",)), other_words
    page = report_page(made(NOTE, *arms, with_text=True))
    shown = rows(page)
    assert shown["Problems absent"] == [["rash absent", "1", "1", "90% / 70%", "possible", "–", "differs"]]
    assert shown["Problems in the family"][0][-4:] == ["90% / 70%", "not read", "–", "90% / 70%"]
    assert "B</b> read 91% of the note. Not read: characters 16–30 (<bdi>Mother: gout.…</bdi>)" in page
    assert "the model did not read it" in page and "see the disagreements" in page


def test_assertions_that_differ_are_listed_with_their_words():
    shown = rows(report_page(made(NOTE, reading("a"), reading("b", rash="present"), with_text=True)))
    assert shown["Different assertion"] == [["No rash . Mother: gout. fever", "problem absent", "problem present"]]


def test_what_the_report_says_comes_in_the_order_in_which_it_is_read():
    page = report_page(made(NOTE, reading("a"), reading("b", rash="present"), with_text=True))
    order = ["Findings", "Agreement and disagreements", "What was not read", "The note", "Details"]
    assert re.findall("<h2>(.*?)</h2>", page) == order
    assert page.index("SHA-256") > page.index("<h2>Details")


def test_labels_of_the_whole_note_have_a_table():
    labels = (LabelScore(label="urology", score=0.7), LabelScore(label="surgery", score=0.3))
    classified = prediction("c").model_copy(update={"task": "classification", "labels": labels, "label_set": ()})
    page = report_page(made(NOTE, classified))
    assert rows(page) == {"Labels of the whole note": [["urology", "70%"]]} and "No findings" not in page


def test_a_model_that_was_not_trained_on_notes_says_so_beside_its_name():
    page = report_page(made(NOTE, reading("a"), reading("b"), cautions={"b": "Trained on abstracts."}))
    assert "4 findings in 5 places. Trained on abstracts.</li>" in page and page.count("Trained on") == 1


def test_the_filter_is_named():
    page = report_page(made(NOTE, reading("a"), filter=Filter(values=("absent", "family"))))
    assert "only absent, in the family" in page
