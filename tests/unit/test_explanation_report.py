"""The export of an explanation: whole without the note's text, which is in it only where a person ticked it."""

import json
from datetime import UTC, datetime

from unit.test_explain_agreement import explanation
from unit.test_highlight import HOSTILE

from workbench.explain.report import ExplanationReport, as_json
from workbench.highlight import explanation_page
from workbench.note import Note

TEXT = "No canary-7 today. <img src=x onerror=alert(1)>"
PLACES = [(0, 2), (3, 11), (12, 17)]


def report(**fields) -> ExplanationReport:
    why = explanation([3.0, 0.0, -1.0], places=PLACES, method="integrated_gradients")
    why = why.model_copy(update={"target": "3:11:@assertion=absent"})
    sentences = ("x: what supports it most is “No” and canary-7.",)
    made = datetime(2026, 11, 30, 9, 5, tzinfo=UTC)
    title = "Why absent? canary-7"
    return ExplanationReport(Note(TEXT), why.target, {HOSTILE[1]: why}, title, sentences, made, **fields)


def test_without_the_tick_no_file_holds_text_of_the_note():
    page = str(explanation_page(report()))
    assert "canary" not in page and "Why absent? characters 3 to 11" in page
    assert "+3.00" in page and "0–2" in page
    document = json.loads(as_json(report(with_text=True)))
    assert "canary" not in json.dumps(document) and document["target"] == "3:11:@assertion=absent"
    assert [part["score"] for part in document["explanations"][0]["attributions"]] == [3.0, 0.0, -1.0]


def test_with_the_tick_the_page_shows_the_note_escaped_and_says_so_in_its_name():
    ticked = report(with_text=True)
    page = str(explanation_page(ticked))
    assert "Why absent? canary-7" in page and "what supports it most is" in page and "<img" not in page
    assert "&lt;img src=x" in page and "sr-asked" in page
    assert ticked.name("html") == "stillroom-explain-20261130-090500-with-text.html"
    assert ticked.name("json") == report().name("json") == "stillroom-explain-20261130-090500.json"
