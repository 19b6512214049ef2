"""The state of an inquiry: time left from the work done so far, findings as lines, quotes on one line."""

from concurrent.futures import Future
from types import SimpleNamespace

import pytest
from unit.test_explain_agreement import explanation
from unit.test_highlight import prediction

from trainer.errors import Refused
from trainer.prediction import Value
from workbench import lab
from workbench.explain import ExplainOptions
from workbench.note import Note
from workbench.sessions.explanation import Findings, Inquiry, _Pace, quote


def test_time_left_follows_the_work_and_restarts_with_the_second_answer():
    pace = _Pace()
    assert pace.left(None, 0.0) is None
    assert pace.left(0.0, 10.0) is None and pace.left(0.02, 12.0) is None, "too little is done"
    assert pace.left(0.5, 12.5) == pytest.approx(2.5)
    assert pace.left(0.75, 16.0) == pytest.approx(2.0)
    assert pace.left(0.1, 17.0) is None, "the second answer has begun"
    assert pace.left(0.4, 17.5) is None, "too short a time to tell"
    assert pace.left(0.4, 20.0) == pytest.approx(6.0)


def done(outcome) -> Future:
    answer = Future()
    answer.stage = "reading"
    answer.set_exception(outcome) if isinstance(outcome, Exception) else answer.set_result(outcome)
    return answer


def test_findings_of_two_models_are_one_list_with_the_score_of_each():
    one, other = prediction("a", [(0, 5, "Disease")]), prediction("b", [(0, 5, "Disease"), (10, 16, "Disease")])
    findings = Findings(Note("Fever and\nchills"), {"a": done(one), "b": done(other)})
    assert findings.targets() == {"0:5:Disease": [0.5, 0.5], "10:16:Disease": [None, 0.5]}
    assert list(findings.targets()) == ["0:5:Disease", "10:16:Disease"], "in the order of the note"
    assert findings.title("0:5:@assertion=absent", [0.9]) == "Why absent? Fever, 90% (line 1, character 1)"
    assert findings.title("10:16:Disease", [None, 0.5]) == "Disease: chills, A not found, B 50% (line 2, character 1)"
    assert findings.title("0:5:Disease", [0.999]) == "Disease: Fever, >99% (line 1, character 1)"


def test_a_value_is_listed_on_its_scale_and_not_as_a_share():
    of_values = prediction("a").model_copy(update={"task": "values", "value": Value(value=3.4, lowest=0, highest=10)})
    findings = Findings(Note("Fever"), {"a": done(of_values)})
    assert findings.targets() == {"value": [3.4]}
    assert findings.title("value", [3.4]) == "value, 3.4 on a scale of 0 to 10"


def test_a_model_that_failed_finds_nothing_and_keeps_its_pane():
    findings = Findings(Note("Fever"), {"a": done(Refused("no", next_step="")), "b": done(prediction("b"))})
    assert findings.done and findings.targets() == {}
    first, second = findings.panes({"a": "A", "b": "B"})
    assert (first.error.message, first.prediction, second.error) == ("no", None, None)


def test_a_summary_names_what_supports_and_what_opposes_most(monkeypatch):
    note, target = Note("Fever today. No rash."), "16:20:@assertion=absent"
    places = [(0, 5), (6, 11), (13, 15), (16, 20)]
    why = explanation([-1.0, 0.1, 3.0, 0.0], places=places, method="integrated_gradients")
    waiting = Future()
    waiting.coarse = None
    answers = iter([done(why), waiting])
    monkeypatch.setattr(lab, "shared", lambda: SimpleNamespace(explain=lambda *_, **__: next(answers)))
    inquiry = Inquiry(note, target, {"a": "One", "b": "Two"}, ExplainOptions())
    assert inquiry.summaries() == [
        "One, “rash” as absent: what supports it most is “No”; what opposes it most is “Fever”."
    ]


def test_a_quote_is_one_line_of_what_can_be_shown():
    assert quote("a\r\n\tb\x00c", 0, 7) == "a b\N{SYMBOL FOR NULL}c"
    assert len(quote("x" * 500, 0, 500)) == 71
