"""The Explain page: a finding and a model chosen by click, by link or from Compare; a picture, a verdict, a table."""

import threading
import time

import pytest
from conftest import tiny_assertion_model
from pages.test_compare import CANARY, HOSTILE, published
from streamlit.testing.v1 import AppTest

from trainer import zoo
from trainer.queue import published as published_runs
from workbench import lab
from workbench.note import samples
from workbench.pages.compare import Run
from workbench.predict import Arm

PAGE = "from workbench.pages import explain; explain.render()"
CAUTION = "Trained on abstracts of papers, not on clinical notes."  # of the data set of the tiny tagger
SHORT = "Fever and chills after naloxone.\n\nPLAN: stop naloxone. No rash, no sepsis."


@pytest.fixture
def runs(home, tiny_model, one_lab, monkeypatch) -> list[str]:
    """Two published runs of the tiny tagger, and one lab of this process."""
    monkeypatch.setattr(lab, "shared", lambda: one_lab)
    return [published(tiny_model, seed) for seed in (2, 1)]


@pytest.fixture
def classifier(home, tiny_classifier, one_lab, monkeypatch) -> str:
    monkeypatch.setattr(lab, "shared", lambda: one_lab)
    return published(tiny_classifier, 1)


def opened(*models: str, text: str = SHORT, **state) -> AppTest:
    """The page with a pasted note, once the models have read it."""
    page = AppTest.from_string(PAGE, default_timeout=30)
    page.session_state["source"], page.session_state["pasted"] = "Paste", text
    for name, value in state.items():
        page.session_state[name] = value
    if models:
        page.query_params["model"] = list(models)
    return read(page.run())


def read(page: AppTest) -> AppTest:
    wait(lambda: page.session_state["explain_findings"].done)
    return ran(page)


def explained(page: AppTest) -> AppTest:
    """The page once there is nothing more to come."""
    wait(lambda: page.session_state["explain_inquiry"].explained)
    ran(page)
    wait(lambda: page.session_state["explain_inquiry"].settled)
    return ran(page)


def wait(until) -> None:
    deadline = time.monotonic() + 60
    while not until():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def ran(page: AppTest) -> AppTest:
    page.run()
    assert not page.exception
    return page


def button(page: AppTest, label: str):
    return next(each for each in page.button if each.label == label)


def html(page: AppTest) -> str:
    return next(element.value for element in page.html if not element.value.startswith("<style>"))


def words_on(page: AppTest) -> str:
    kinds = (page.error, page.warning, page.caption, page.markdown, page.header)
    return "\n".join(element.value for kind in kinds for element in kind).replace("\\", "")


def targets(page: AppTest):
    return next(each for each in page.selectbox if each.label == "Finding to explain")


def target(page: AppTest) -> str:
    return targets(page).value


def test_the_first_visit_shows_what_the_model_finds_and_explains_nothing_yet(runs):
    page = opened(model=runs)  # as chosen on Compare
    assert page.selectbox(key="explain_first").value == runs[0] and page.selectbox(key="explain_second").value is None
    assert "sr-span" in html(page) and "explain_inquiry" not in page.session_state
    first = targets(page).options[0]
    start, end, label = target(page).split(":")
    assert first.startswith(f"Disease: {SHORT[int(start) : int(end)]}, ") and label == "Disease"


def test_a_finding_is_explained_with_picture_verdict_and_table(runs):
    page = opened(runs[0])
    button(page, "Explain").click()
    page = explained(ran(page))
    (answer,) = page.session_state["explain_inquiry"].answers
    assert answer.coarse.grain == "sentence" and answer.result().grain == "word"
    picture = html(page)
    assert (
        'class="sr-part' in picture and "<table>" in picture and "log-odds" in picture and 'class="sr-asked"' in picture
    )
    assert ("Better than chance" in picture) != ("Do not rely on this" in picture)
    assert "convergence delta" in picture and "steps 50" in picture and "hidden parts become mask" in picture
    assert page.query_params == {"model": runs[0], "sample": "pasted", "target": target(page)}
    assert "as Disease " in words_on(page) and "Without the " in words_on(page)


def test_the_note_folds_once_it_is_explained_until_it_is_to_be_changed(runs):
    page = opened(runs[0])
    button(page, "Explain").click()
    page = explained(ran(page))
    assert not page.text_area and "Pasted note" in words_on(page) and CAUTION in html(page)
    button(page, "Change the note").click()
    page = ran(page)
    assert page.text_area(key="pasted").value == SHORT and page.session_state["explain_inquiry"].settled
    page.text_area(key="pasted").set_value("No rash.")
    page = read(ran(page))
    assert "explain_inquiry" not in page.session_state and page.text_area and CAUTION in html(page)


def test_larger_parts_are_shown_without_asking_again(runs):
    page = opened(runs[0])
    button(page, "Explain").click()
    page = explained(ran(page))
    before = page.session_state["explain_inquiry"].answers
    assert "The strongest words" in html(page)
    page.segmented_control(key="explain_shown_word").set_value("sentence")
    page = ran(page)
    assert "The strongest sentences" in html(page) and page.session_state["explain_inquiry"].answers == before


def test_how_it_is_computed_is_the_persons_choice_and_is_stated(runs):
    page = opened(runs[0])
    page.selectbox(key="explain_method").set_value("feature_ablation")
    page.selectbox(key="explain_grain").set_value("phrase")
    page.selectbox(key="explain_baseline").set_value("pad")
    page.toggle(key="explain_checks").set_value(True)
    button(ran(page), "Explain").click()
    picture = html(explained(ran(page)))
    assert "Leave one out" in picture and "by phrase" in picture and "hidden parts become pad" in picture
    assert "own words stay in place" in picture, "unless a person includes them"
    assert "Infidelity" in picture and "Randomised weights" in picture


def test_a_method_takes_its_options(runs):
    page = opened(runs[0])
    page.text_input(key="explain_integrated_gradients_steps").set_value("7")
    button(ran(page), "Explain").click()
    assert "steps 7" in html(explained(ran(page)))


@pytest.mark.parametrize("typed", ["1", "1001", "many", "2.5", "", "9" * 5000])
def test_a_wrong_number_explains_nothing_with_the_one_before(runs, typed):
    page = opened(runs[0])
    page.text_input(key="explain_integrated_gradients_steps").set_value(typed)
    page = ran(page)
    assert any("Input should be" in text.value or "Unable to parse" in text.value for text in page.text)
    button(page, "Explain").click()
    page = ran(page)
    assert "explain_inquiry" not in page.session_state and "Correct the marked number" in page.error[0].value


def test_two_models_stand_side_by_side_with_their_agreement(runs):
    page = opened(*runs)
    assert page.selectbox(key="explain_second").value == runs[1]
    assert "%, B " in targets(page).options[0]
    button(page, "Explain").click()
    page = explained(ran(page))
    assert html(page).count('class="sr-pane') == 2 + ('class="sr-panes' in html(page))
    assert "Spearman 1.00, Kendall 1.00" in words_on(page), "both have the same weights"
    assert "Of the 10 words with the strongest support, 10 are the same." in words_on(page)


def test_a_changed_request_waits_for_the_button(runs):
    page = opened(runs[0])
    button(page, "Explain").click()
    page = explained(ran(page))
    page.selectbox(key="explain_method").set_value("saliency")
    assert "Showing the previous explanation" in words_on(ran(page))
    targets(page).set_value(last := list(page.session_state["explain_findings"].targets())[-1])
    page = ran(page)
    page.selectbox(key="explain_second").set_value(runs[1])
    page = read(ran(page))
    assert "explain_inquiry" not in page.session_state and "sr-span" in html(page)
    assert target(page) == last, "what was chosen stays, where both can be asked"


def test_what_the_models_did_not_find_can_be_asked_about(runs):
    page = opened(runs[0])
    page.text_input(key="explain_typed").set_value("10:16:Disease")
    page = ran(page)
    assert any("chills, not found" in option for option in targets(page).options)
    button(page, "Explain").click()
    page = explained(ran(page))
    assert "Disease: chills" in words_on(page) and "sr-part" in html(page)
    assert page.query_params == {"model": runs[0], "sample": "pasted"}, "what a person typed is in no address"


def test_an_invalid_target_is_refused_beside_its_field(runs):
    page = opened(runs[0], explain_asked="", explain_typed="70:900:Disease")
    button(page, "Explain").click()
    page = ran(page)
    assert page.error and "explain_inquiry" not in page.session_state
    assert "target" in words_on(page)


def test_an_unknown_label_fails_in_its_own_pane_and_is_in_no_address(runs, home):
    page = opened(runs[0], explain_asked="", explain_typed=f"0:5:{CANARY}")
    button(page, "Explain").click()
    page = explained(ran(page))
    assert "sr-failed" in html(page) and "There is no label of this model" in html(page)
    assert CANARY not in str(page.query_params)


def test_a_link_to_a_finding_of_a_sample_explains_it_at_once(runs):
    sample = samples()[0]
    wanted = read_targets(runs[0], sample.note.text)[-1]
    page = AppTest.from_string(PAGE, default_timeout=30)
    for name, value in (("model", runs[0]), ("sample", sample.id), ("target", wanted)):
        page.query_params[name] = value
    page = explained(read(page.run()))
    assert page.session_state["explain_inquiry"].target == wanted == target(page)
    assert page.query_params == {"model": runs[0], "sample": sample.id, "target": wanted}


def read_targets(run: str, text: str) -> list[str]:
    from workbench.explain.targets import list_targets

    return [each["target"] for each in list_targets(lab.shared().submit(text, Arm.parse(run)).result(60))]


def test_a_sample_chosen_while_the_models_still_read_is_not_lost(runs, monkeypatch):
    gate, resolve = threading.Event(), zoo.resolve
    monkeypatch.setattr(zoo, "resolve", lambda *arguments: (gate.wait(30), resolve(*arguments))[1])
    first, second = samples()[:2]
    page = AppTest.from_string(PAGE, default_timeout=30)
    page.query_params.update({"model": [runs[0]], "sample": first.id, "target": "0:7:Disease"})
    try:
        page.run()
        page.pills(key="sample").set_value(second.id)
        page = ran(page)
    finally:
        gate.set()
    page = read(page)
    assert page.session_state["explain_findings"].note == second.note and page.query_params["sample"] == second.id
    assert "explain_inquiry" not in page.session_state, "the link asked about another note"


def test_note_models_and_findings_come_along_from_compare(runs):
    from workbench.note import Note

    arms = [f"{runs[1]}@truncate", runs[0]]
    answers = tuple(lab.shared().submit(SHORT, Arm.parse(arm)) for arm in arms)
    run = Run(Note(SHORT), dict(zip(arms, ("First", "Second"), strict=True)), answers)
    page = AppTest.from_string(PAGE, default_timeout=30)
    page.session_state["source"], page.session_state["compare_run"] = "Upload", run
    page = read(page.run())
    assert [page.selectbox(key=f"explain_{which}").value for which in ("first", "second")] == arms
    findings = page.session_state["explain_findings"]
    assert findings.note == run.note and tuple(findings.answers.values()) == answers
    page.selectbox(key="explain_second").set_value(None)
    assert page.selectbox(key="explain_second").value is None
    assert list(ran(page).session_state["explain_findings"].answers) == arms[:1], "a choice made here stays"


def test_a_classifier_is_asked_why_the_note_has_a_label(classifier):
    page = opened(classifier)
    assert target(page) in targets(page).options[0] and ":" not in target(page)
    button(page, "Explain").click()
    page = explained(ran(page))
    assert f"{target(page)}, of the whole note" in words_on(page) and "sr-part" in html(page)


def test_a_hostile_note_is_shown_as_text_and_is_in_no_address_and_no_file(runs, home):
    page = opened(runs[0], text=HOSTILE)
    button(page, "Explain").click()
    page = explained(ran(page))
    assert CANARY in html(page) and "<img" not in html(page) and ":red[x]" not in page.header[0].value
    assert all(":red[x]" not in element.value for element in page.markdown)
    assert CANARY not in str(page.query_params)
    for file in filter(lambda path: path.is_file(), home.rglob("*")):
        assert CANARY.encode() not in file.read_bytes(), file.name


def test_why_it_is_absent_can_be_asked_of_a_hostile_note(home, one_lab, monkeypatch, tmp_path):
    monkeypatch.setattr(lab, "shared", lambda: one_lab)
    page = opened(published(tiny_assertion_model(tmp_path / "model"), 1), text=HOSTILE)
    why = next(place for place, words in enumerate(targets(page).options) if words.startswith("Why "))
    targets(page).select_index(why)
    button(ran(page), "Explain").click()
    page = explained(page.run())
    assert page.header[0].value.startswith("Why ") and "@assertion=" in str(page.query_params)
    assert all(":red[x]" not in element.value for kind in (page.header, page.markdown) for element in kind)
    assert CANARY in html(page) and "<img" not in html(page) and CANARY not in str(page.query_params)


def test_after_a_reload_a_pasted_note_is_said_to_be_gone_and_no_sample_takes_its_place(runs):
    page = opened(runs[0])
    again = AppTest.from_string(PAGE, default_timeout=30)  # a reload: the same address in a new session
    again.query_params.update({"model": [runs[0]], "sample": "pasted", "target": target(page)})
    again = ran(again)
    assert "is gone" in again.info[0].value and "explain_findings" not in again.session_state
    again.text_area(key="pasted").set_value(SHORT)
    again = read(ran(again))
    assert not again.info and "explain_inquiry" not in again.session_state, "nothing starts by itself"


def test_stop_ends_a_waiting_run_and_is_shown(runs, monkeypatch):
    page = opened(runs[0])
    gate, resolve = threading.Event(), zoo.resolve
    monkeypatch.setattr(zoo, "resolve", lambda *arguments: (gate.wait(30), resolve(*arguments))[1])
    try:
        blocking = lab.shared().submit(SHORT, Arm.parse(runs[0]))
        button(page, "Explain").click()
        page = ran(page)
        assert "waiting in the queue" in html(page)
        button(page, "Stop").click()
        page = ran(page)
    finally:
        gate.set()
    blocking.result(60)
    assert page.session_state["explain_inquiry"].settled and "stopped" in html(page)
    assert all(each.label != "Stop" for each in page.button)


def test_without_a_note_or_a_model_nothing_is_asked(home, monkeypatch):
    monkeypatch.setattr(published_runs, "ready", lambda **_: [])
    page = AppTest.from_string(PAGE, default_timeout=30)
    assert "No model" in words_on(ran(page)) and "explain_findings" not in page.session_state
