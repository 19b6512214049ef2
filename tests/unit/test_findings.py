"""The list of findings: each once, under its heading, with its places and the score that each model gives it."""

import csv
import io
import re

from hypothesis import given
from hypothesis import strategies as st

from trainer.prediction import AttributeValue, Cost, Coverage, Prediction, Span
from workbench.compare import findings
from workbench.highlight.findings import findings_table

TEXT = "Fever and cough. No  Rash.\nfever again, denies rash. Mother: asthma. Aspirin for pain if any; CT, x."


def span(
    words: str, label: str = "problem", value: str | None = "present", *, time: int = 0, score: float = 0.9
) -> Span:
    start = -1
    for _ in range(time + 1):
        start = TEXT.index(words, start + 1)
    attributes = {"assertion": AttributeValue(value=value, score=0.8)} if value else {}
    return Span(start=start, end=start + len(words), label=label, score=score, attributes=attributes)


def prediction(name: str, *spans: Span) -> Prediction:
    return Prediction(
        model=name,
        task="ner",
        spans=spans,
        coverage=Coverage(tokens=30, tokens_read=30, windows=1),
        cost=Cost(latency_ms=1, tokens_per_second=1),
        label_set=("problem", "test", "treatment"),
    )


ONE = prediction(
    "a",
    span("CT", "test", None),
    span("Aspirin", "treatment", None),
    span("asthma", value="family"),
    span("pain", value="hypothetical"),
    span("Rash", value="absent"),
    span("rash", value="absent", score=0.5),
    span("Fever", score=0.7),
    span("fever"),
    span("cough", value="possible"),
)


def test_each_finding_is_listed_once_with_its_places_under_its_heading():
    listed = findings.by_section(findings.list_findings(TEXT, [ONE]))
    assert [(title, [(each.words, len(each.places)) for each in group]) for title, group in listed] == [
        ("Problems present", [("Fever", 2)]),
        ("Problems possible", [("cough", 1)]),
        ("Problems hypothetical", [("pain", 1)]),
        ("Problems in the family", [("asthma", 1)]),
        ("Problems absent", [("Rash", 2)]),
        ("Treatments", [("Aspirin", 1)]),
        ("Tests", [("CT", 1)]),
    ]
    assert listed[0][1][0].scores == (0.9,), "the highest of its places"


def test_a_line_that_holds_a_finding_several_times_is_listed_once():
    arm = prediction("a", span("fever"), span("Fever"), *(span(" ", "test", None, time=time) for time in range(3)))
    page = str(findings_table(TEXT, [arm], [0], {"problem": "sr-l0", "test": "sr-l1"}))
    links = re.findall('href="#sr-f([0-9]+)-0">([0-9]+)</a>([^<,]*)', page)
    starts = ["0", str(TEXT.index("fever")), str(TEXT.index(" "))]
    assert links == list(zip(starts, "121", ["", "", "\N{NARROW NO-BREAK SPACE}×3"], strict=True))


def test_two_models_share_a_row_unless_label_or_assertion_differ():
    other = prediction("b", span("Fever", score=0.6), span("cough", value="absent"), span("Aspirin", "problem"))
    rows = {(each.words, each.label, each.values): each.scores for each in findings.list_findings(TEXT, [ONE, other])}
    assert rows["Fever", "problem", ("present",)] == (0.9, 0.6)
    assert rows["cough", "problem", ("possible",)] == (0.9, None)
    assert rows["cough", "problem", ("absent",)] == (None, 0.9)
    assert rows["Aspirin", "treatment", ()] == (0.9, None) and rows["Aspirin", "problem", ("present",)] == (None, 0.9)


def test_a_model_without_assertions_is_listed_by_label_in_the_order_of_the_note():
    plain = prediction(
        "a", span("asthma", "Disease", None), span("Fever", "Disease", None), span("Aspirin", "Chemical", None)
    )
    listed = findings.by_section(findings.list_findings(TEXT, [plain]))
    assert [(title, [each.words for each in group]) for title, group in listed] == [
        ("Chemical", ["Aspirin"]),
        ("Disease", ["Fever", "asthma"]),
    ]


def test_the_csv_holds_text_only_where_it_is_asked_for():
    silent = list(csv.reader(io.StringIO(findings.as_csv(TEXT, [ONE], with_text=False))))
    assert silent[0] == ["label", "assertion", "times", "places", "score a"]
    assert silent[1] == ["problem", "present", "2", "0-5 27-32", "0.9"], "a row per finding, as with the text"
    speaking = list(csv.reader(io.StringIO(findings.as_csv(TEXT, [ONE], with_text=True))))
    assert speaking[0][0] == "finding" and speaking[1] == ["Fever", "problem", "present", "2", "0-5 27-32", "0.9"]
    assert "ever" not in str(silent)


def test_no_words_of_a_note_are_a_formula_in_a_spreadsheet():
    text = "=HYPERLINK(1)"
    formula = prediction("a", Span(start=0, end=len(text), label="problem", score=0.5))
    assert list(csv.reader(io.StringIO(findings.as_csv(text, [formula], with_text=True))))[1][0] == f"'{text}"


SPANS = st.lists(st.tuples(st.integers(-3, 130), st.integers(-3, 130), st.sampled_from(["problem", "x"])), max_size=9)


@given(st.text(max_size=40), SPANS, SPANS)
def test_every_span_is_in_one_finding(text, first, second):
    arms = [
        prediction(name, *(Span(start=start, end=end, label=label, score=0.5) for start, end, label in spans))
        for name, spans in (("a", first), ("b", second))
    ]
    listed = findings.list_findings(text, arms)
    places = [(place, each.label) for each in listed for place in each.places]
    assert len(places) == len(set(places))
    assert set(places) == {((span.start, span.end), span.label) for arm in arms for span in arm.spans}
    assert sum(len(group) for _, group in findings.by_section(listed)) == len(listed)
