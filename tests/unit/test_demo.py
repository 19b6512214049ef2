"""The demo without a browser: what may be asked, waits as measured, the first view, and what reaches the page.

What needs Gradio imports it in the test: every process of the tests reads this file, and Gradio takes two seconds.
"""

import asyncio
from concurrent.futures import Future
from types import SimpleNamespace
from typing import NamedTuple

import pytest

from trainer.errors import BadData, BadSpec, Refused, UnknownName
from trainer.prediction import AttributeValue, Cost, Coverage, Prediction, Span
from workbench import highlight, lab
from workbench.compare import compare
from workbench.demo import first, visit
from workbench.demo.wait_times import Pace
from workbench.explain import ExplainOptions, explain
from workbench.note import DEMO_CHARACTERS, Note

CANARY = "canary note zq1"


@pytest.fixture(scope="module")
def real_lab():
    """One lab in this process for the module; the demo asks it."""
    in_process = lab.InProcessLab()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lab, "shared", lambda: in_process)
        yield in_process
    in_process.close()


@pytest.fixture
def idle_lab(monkeypatch) -> list:
    """A lab that never answers: the answers it was asked for."""
    asked = []

    def ask(text: str, arm, target: str = "", options=None, *, deadline_s: float, **reading) -> lab.Answer:
        assert deadline_s <= 120, "nobody may keep the lab from others for long"
        asked.append(lab.Answer())
        return asked[-1]

    idle = {"submit": staticmethod(ask), "explain": staticmethod(ask)}
    monkeypatch.setattr(lab, "shared", lambda: type("Idle", (), idle))
    monkeypatch.setattr(visit, "PACE", Pace())
    return asked


def test_only_zoo_models_that_are_here_are_offered_and_nothing_else_is_reached():
    assert {"minilm-bc5cdr", "minilm-ncbi", "minilm-ncbi@truncate"} <= set(visit.offered())
    assert len(set(visit.offered().values())) == len(visit.offered()), "titles tell arms apart"
    for name in ("../etc", "/etc", "1a2b3c4d-1", "org/name", "minilm-ncbi@whole", "biobert", ""):
        with pytest.raises(UnknownName):
            visit.arm(name)


@pytest.mark.parametrize(
    ("text", "models", "error"),
    [
        (" \n", first.ARMS, BadData),
        ("x" * (DEMO_CHARACTERS + 1), first.ARMS, Refused),
        ("x", first.ARMS[:1], BadSpec),
        ("x", [first.ARMS[0]] * 3, BadSpec),
        ("x", list(visit.offered())[:5], BadSpec),
        ("x", ["/etc/passwd", "minilm-ncbi"], UnknownName),
    ],
)
def test_what_may_not_be_asked_never_reaches_the_lab(idle_lab, text, models, error):
    with pytest.raises(error):
        visit.ask(text, models)
    assert idle_lab == []


def test_the_longest_note_is_accepted_and_leaving_cancels_and_forgets(idle_lab):
    session = visit.of("someone")
    session.run = visit.ask("x" * DEMO_CHARACTERS, first.ARMS)
    session.inquiry = visit.why("Fever", first.ARMS[0], "0:5:problem", "saliency")
    assert [pane.stage for pane in session.run.panes] == ["waiting", "waiting"] and visit.of("someone") is session
    visit.leave("someone")
    assert "someone" not in visit.VISITS and len(idle_lab) == 3 and all(answer.cancelled() for answer in idle_lab)
    visit.leave("someone")  # closing twice is nothing


def test_a_stopped_run_is_marked_in_its_panes(idle_lab):
    run = visit.ask("Fever", first.ARMS)
    run.stop()
    assert run.done and run.comparison is None
    assert all("Stopped" in pane.error.message for pane in run.panes)


def answered(seconds: float, tokens: int) -> Prediction:
    return Prediction(
        model="a",
        task="ner",
        coverage=Coverage(tokens=tokens, tokens_read=tokens, windows=1),
        cost=Cost(latency_ms=1000 * seconds, tokens_per_second=tokens / seconds),
    )


def test_a_wait_is_estimated_from_measurements_only_and_counts_what_is_ahead():
    pace, first_one, second = Pace(), Future(), Future()
    assert "not known" in pace.words(["a"], 100) and "nobody is ahead" in pace.words(["a"], 100)
    pace.follow(first_one, "a", 1000)
    assert pace.ahead() == (1, None)
    first_one.set_result(answered(2.0, 500))
    assert pace.seconds("a", 500) == 1.0 and pace.seconds("b", 500) is None
    assert (
        pace.words(["a"], 2000) == "Wait: about 4 s, at 250 tokens/s measured on this server; nobody is ahead of you."
    )
    pace.follow(second, "a", 3000)
    assert "about 10 s" in pace.words(["a"], 2000) and "1 request ahead" in pace.words(["a"], 2000)
    assert "not known" in pace.words(["a", "b"], 2000)
    second.cancel()
    second.set_running_or_notify_cancel()
    assert pace.ahead() == (0, 0) and pace.seconds("a", 500) == 1.0, "a cancelled answer measures nothing"


def test_the_shipped_view_is_what_the_models_say(real_lab):
    view = first.read_shipped()
    assert view, "note or weights have changed: run `python -m workbench.demo.first`"
    again = visit.ask(first.note().text, first.ARMS)
    for prediction, answer in zip(view.predictions, again.answers, strict=True):
        now = answer.result()
        assert [(s.start, s.end, s.label) for s in prediction.spans] == [(s.start, s.end, s.label) for s in now.spans]
        assert [s.score for s in prediction.spans] == pytest.approx([s.score for s in now.spans], abs=1e-4)
        assert prediction.coverage == now.coverage and prediction.model == now.model
    assert compare(view.predictions).disagreements, "a first view without a disagreement shows nothing"


def test_a_view_of_other_weights_or_another_note_is_not_shown(tmp_path):
    text = first.FILE.read_text(encoding="utf-8")
    view = first.read_shipped()
    stale = tmp_path / "first.json"
    for known in (*view.weights_sha256.values(), view.note_sha256):
        stale.write_text(text.replace(known, "0" * 64), encoding="utf-8")
        assert first.read_shipped(stale) is None
    stale.write_text("{", encoding="utf-8")
    assert first.read_shipped(stale) is None and first.read_shipped(tmp_path / "none.json") is None


def test_the_first_view_is_there_before_the_lab_answers_and_says_where_it_is_from(idle_lab, monkeypatch):
    opening = first.Opening()
    assert opening.ready and "another machine" in opening.shown.words
    assert len(idle_lab) > len(first.ARMS), "every model is read once, so that its wait is known"
    monkeypatch.setattr(first, "read_shipped", lambda: None)
    opening = first.Opening()
    assert not opening.ready and opening.shown.comparison is None
    for answer in idle_lab:
        answer.set_result(answered(1, 1).model_copy(update={"model": str(len(idle_lab) + id(answer))}))
    assert opening.ready and "server started" in opening.shown.words


def test_the_page_takes_html_from_highlight_alone_and_stores_nothing(idle_lab):
    import gradio as gr

    from workbench.demo import page

    built = page.build(first.Opening())
    pictures = [block for block in built.blocks.values() if isinstance(block, gr.HTML)]
    assert len(pictures) >= 2
    for picture in pictures:
        assert picture.postprocess(highlight.status("a < b")).endswith("a &lt; b</p></div>")
        with pytest.raises(TypeError, match="workbench.highlight"):
            picture.postprocess("<b>not ours</b>")
    assert built.analytics_enabled is False
    named = {fn.api_name for fn in built.fns.values() if fn.api_visibility == "public"}
    assert named == {"compare", "explain"}, "every other event is the page's own"


def test_the_api_answers_in_the_public_shape_and_no_error_quotes_the_note(real_lab, monkeypatch):
    import gradio as gr

    from workbench.demo import endpoints

    document = endpoints.compare("Naloxone reverses the hypotension.\r\n\ud800", list(first.ARMS))
    assert set(document) == {"predictions", "agreement", "disagreements"}
    assert [each["model"] for each in document["predictions"]] == list(first.ARMS)
    assert {"start": 0, "end": 8, "label": "treatment"}.items() <= document["predictions"][0]["spans"][0].items()

    def fails(*_):
        raise ValueError(CANARY)

    monkeypatch.setattr(visit, "ask", fails)
    with pytest.raises(gr.Error) as raised:
        endpoints.compare(CANARY, list(first.ARMS))
    assert CANARY not in str(raised.value) and not raised.value.print_exception


def test_an_explanation_by_the_api_is_that_of_the_command_line(real_lab):
    import gradio as gr

    from workbench.demo import endpoints

    text, target = "Naloxone reverses the hypotension.", "0:8:treatment"
    explanation = endpoints.explain(text, first.ARMS[1], target, "saliency", "word")
    options = ExplainOptions(method="saliency", grain="word", context=True)
    expected = explain(Note(text), first.ARMS[1], target, options).to_json()
    assert explanation.keys() == expected.keys() and explanation["trusted"] == expected["trusted"]
    for one, other in zip(explanation["attributions"], expected["attributions"], strict=True):
        assert one == pytest.approx(other, abs=1e-4)
    for wrong in (
        ("word", "x", ""),
        ("0:8:Nothing", "saliency", ""),
        (target, "saliency", "line"),
        ("", "saliency", ""),
    ):
        with pytest.raises(gr.Error) as raised:
            endpoints.explain(text, first.ARMS[1], *wrong)
        assert "Naloxone" not in str(raised.value)
    assert "saliency" in endpoints.description(endpoints.explain) and first.ARMS[1] in endpoints.description(
        endpoints.explain
    )


class Asked(NamedTuple):
    """What Gradio tells an event about who asks."""

    session_hash: str = "someone"


async def drawn(steps, many: int) -> list[tuple]:
    """The first so many drawings of an event; then the visitor stops it, or leaves."""
    seen = [await anext(steps) for _ in range(many)]
    await steps.aclose()
    return seen


def test_stopping_an_event_frees_the_lab(idle_lab):
    import gradio as gr

    from workbench.demo.events import Events

    events = Events(first.Opening())
    del idle_lab[:]
    ((picture, line, _),) = asyncio.run(drawn(events.compare("Fever <b>", list(first.ARMS), Asked()), 1))
    assert "Fever &lt;b&gt;" in picture and "waiting in the queue" in picture and "0 of 2 models" in line
    assert len(idle_lab) == 2 and all(answer.cancelled() for answer in idle_lab)
    ((picture, line),) = asyncio.run(drawn(events.explain(f"{first.ARMS[0]} 0:5:problem", "saliency", "", Asked()), 1))
    assert "&lt;b&gt;" in picture and "problem: Fever" in line and idle_lab[-1].cancelled()
    results, shown, why, status = events.stop(Asked())
    assert "Stopped." in results and "stopped" in why and shown == status == highlight.status("Stopped.")
    assert events.stop(Asked("another")) == (gr.skip(),) * 4
    visit.leave("someone")


def test_a_session_is_forgotten_and_nothing_fails_where_gradio_renames_its_sessions():
    from workbench.demo import page

    with page.gr.Blocks() as blocks:
        pass
    blocks.state_holder = SimpleNamespace(session_data={"someone": "a note", "another": "a note"})
    page._forget(blocks, "someone")
    page._forget(blocks, "nobody")
    assert list(blocks.state_holder.session_data) == ["another"]
    for renamed in (SimpleNamespace(state_holder=SimpleNamespace()), SimpleNamespace()):
        page._forget(renamed, "someone")


def test_errors_stand_in_the_line_and_leave_the_picture(idle_lab):
    import gradio as gr

    from workbench.demo.events import Events

    events = Events(first.Opening())
    del idle_lab[:]
    for steps in (events.compare("", list(first.ARMS), Asked()), events.explain(None, "saliency", "", Asked())):
        ((picture, line, *_),) = asyncio.run(drawn(steps, 1))
        assert picture == gr.skip() and "sr-error" in line
    assert "sr-error" in asyncio.run(drawn(events.explain("../etc 0:5:problem", "saliency", "", Asked()), 1))[0][1]
    assert idle_lab == []
    visit.leave("someone")


def test_why_absent_stands_after_its_finding_and_the_best_findings_are_offered():
    absent = AttributeValue(value="absent", score=0.7)
    spans = [
        Span(start=start, end=start + 4, label="problem", score=score, attributes={"assertion": absent})
        for start, score in ((10, 0.9), (0, 0.8), (20, 0.1))
    ]
    pane = highlight.Pane("a", prediction=answered(1, 9).model_copy(update={"spans": tuple(spans)}))
    assert [target for _, target in visit.findings([pane], most=2)] == [
        *("0:4:problem", "0:4:@assertion=absent", "10:14:problem", "10:14:@assertion=absent")
    ]


def test_findings_are_named_by_arm_and_words_and_the_wait_of_each_is_asked_for(idle_lab):
    from workbench.demo.events import Events, findings

    events = Events(opening := first.Opening())
    offered = findings(opening.shown.text, opening.shown.panes)
    names, values = zip(*offered["choices"], strict=True)
    assert offered["value"] == values[0] and len(set(values)) == len(values)
    assert {name[0] for name in names} == {"A", "B"} and any("problem: " in name and "(line " in name for name in names)
    assert "not known" in events.wait_for_why(values[0], "saliency", Asked())
    assert "Compare first" in events.wait_for_why(None, "saliency", Asked())
    assert "20,001" in events.wait(20_001, list(first.ARMS))
    visit.leave("someone")
