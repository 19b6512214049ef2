"""The Compare page: a note and models chosen by click or by link, panes that fill, and errors beside their cause."""

import json
import os
import re
import time
from pathlib import Path

import pytest
import streamlit as st
from conftest import tiny_pair_model, tiny_question_model, tiny_role_model, tiny_value_model
from left_models import leave
from streamlit.testing.v1 import AppTest

from trainer import queue, zoo
from trainer.datasets.rows.sentences import sentence_places
from trainer.prediction import AttributeValue, Span
from trainer.queue import published as published_runs
from trainer.queue import store
from trainer.queue.engines import Process
from trainer.spec import parse
from workbench import lab
from workbench.compare import presets
from workbench.compare.context import share_read
from workbench.note import MAX_BYTES, samples
from workbench.pages.compare import Run
from workbench.pages.parts import asking, links
from workbench.predict import percent

PAGE = "from workbench.pages import compare; compare.render()"
CANARY = "canary9c2e"
HOSTILE = f"{CANARY} <img src=x onerror=alert(1)> :red[x] $\\alpha$ **b**"


@pytest.fixture
def runs(home, tiny_model, one_lab, monkeypatch) -> list[str]:
    """Two published runs of the tiny model, and one lab of this process; their ids, the newer first."""
    monkeypatch.setattr(lab, "shared", lambda: one_lab)
    return [published(tiny_model, seed) for seed in (2, 1)]


def published(model, seed: int) -> str:
    worker = queue.enlist(store.open_store(), device="cpu", process=Process.of(os.getpid()))
    spec = {"kind": "finetune", "model": "minilm", "dataset": "ncbi-disease-slice", "seed": seed}
    job = queue.submit(parse(spec))
    lease = queue.claim(store.open_store(), worker)
    folder = leave(job.id, model)
    queue.finish(store.open_store(), lease, state="succeeded", artifact=str(folder))
    return job.id


@pytest.fixture
def classifiers(home, tiny_classifier, tiny_model, one_lab, monkeypatch) -> list[str]:
    """Two published runs of a classifier, and one of a tagger; their ids in this order."""
    monkeypatch.setattr(lab, "shared", lambda: one_lab)
    return [published(tiny_classifier, 2), published(tiny_classifier, 1), published(tiny_model, 3)]


@pytest.fixture
def mixed(home, tiny_model, one_lab, monkeypatch) -> list[str]:
    """Two runs whose different last layers say Chemical and Disease with scores of all sizes."""
    import torch
    from safetensors.torch import load_file, save_file

    monkeypatch.setattr(lab, "shared", lambda: one_lab)
    made = [published(tiny_model, seed) for seed in (1, 2)]
    tags = dict(enumerate(("O", "B-Disease", "I-Disease", "B-Chemical", "I-Chemical")))
    for seed, folder in enumerate(Path(queue.job(run).artifact) for run in made):
        weights = load_file(folder / "model.safetensors")
        weights["classifier.weight"] = 0.4 * torch.randn(5, 32, generator=torch.Generator().manual_seed(seed))
        weights["classifier.bias"] = torch.zeros(5)
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        config = json.loads((folder / "config.json").read_text())
        config |= {"id2label": tags, "label2id": {tag: number for number, tag in tags.items()}}
        (folder / "config.json").write_text(json.dumps(config))
    return made


def opened(*models: str, **address: str) -> AppTest:
    page = AppTest.from_string(PAGE, default_timeout=30)
    page.query_params["model"] = list(models)
    for name, value in address.items():
        page.query_params[name] = value
    return ran(page)


def ran(page: AppTest) -> AppTest:
    page.run()
    assert not page.exception
    return page


def filled(page: AppTest) -> AppTest:
    """The page once every answer is there."""
    run: Run = page.session_state["compare_run"]
    deadline = time.monotonic() + 60
    while not all(answer.done() for answer in run.answers):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return ran(page)


def changing(page: AppTest) -> AppTest:
    """The page with the field of the note, which is one line once the note is read."""
    page.button(key="change_note").click()
    return ran(page)


def html(page: AppTest) -> str:
    """The panes with their list of disagreements."""
    return next(element.value for element in page.html if element.value.startswith('<div class="sr"><div class="sr-re'))


def words_on(page: AppTest) -> str:
    return "\n".join(element.value for kind in (page.error, page.warning) for element in kind)


def test_the_first_visit_compares_the_first_sample(runs):
    page = opened(*runs)
    assert html(page).count("sr-waiting") + html(page).count("read all") == 2  # each pane as far as it is
    page = filled(page)
    assert html(page).count('class="sr-pane"') == 2 and html(page).count("read all") == 2
    assert "sr-waiting" not in html(page) and "agreement" in html(page)
    assert page.query_params == {"sample": samples()[0].id, "model": runs}


def test_one_click_on_a_sample_compares_it(runs):
    page = filled(opened(*runs))
    long = next(sample for sample in samples() if sample.kind == "article")
    page = changing(page)
    page.pills(key="sample").set_value(long.id)
    page = filled(ran(page))
    assert page.session_state["compare_run"].note == long.note
    assert page.query_params["sample"] == long.id
    assert "windows</span>" in html(page)


def test_a_click_before_the_page_is_drawn_is_not_lost(runs, monkeypatch):
    """A click ends the run that is drawing: here it has read the address, and not yet written its own."""
    interruptions, three_ways = [st.stop], presets.three_ways
    monkeypatch.setattr(
        presets, "three_ways", lambda *models: interruptions.pop()() if interruptions else three_ways(*models)
    )
    page = changing(opened(*runs))
    long = next(sample for sample in samples() if sample.kind == "article")
    page.pills(key="sample").set_value(long.id)
    page = filled(ran(page))
    assert page.session_state["compare_run"].note == long.note and page.query_params["sample"] == long.id


def test_a_click_that_overtakes_the_address_is_not_lost_and_the_way_back_is_taken(runs, monkeypatch):
    """The address that a page writes reaches the browser late: until then clicks come with the old one."""
    page = opened(*runs)
    written, first = dict(page.query_params), page.session_state["sample"]
    assert "sample" in written
    del page.query_params["sample"]
    page = changing(page)
    page.segmented_control(key="source").set_value("Paste")
    page = ran(page)
    assert page.segmented_control(key="source").value == "Paste" and page.text_area, "the click counts"
    page.query_params.update(written)
    page.text_area(key="pasted").set_value("Fever.")
    page = ran(page)
    assert page.segmented_control(key="source").value == "Paste", "the first address comes late, with one more entry"
    monkeypatch.setattr(links, "LATE_S", 0.0)
    page.query_params.update(written)
    page = filled(ran(page))
    assert page.session_state["compare_run"].note == samples()[0].note, "without a click it is the browser's way back"
    assert changing(page).pills(key="sample").value == first


def test_a_link_opens_sample_and_arms(runs):
    sample = samples()[-1]
    page = filled(opened(runs[0], f"{runs[0]}@truncate", sample=sample.id))
    assert page.multiselect(key="model").value == [runs[0], f"{runs[0]}@truncate"]
    assert page.session_state["compare_run"].note == sample.note
    assert html(page).count("not read by this model") == 2  # on its ruler, and in the text
    assert "read 510 of 5,095 tokens (10%)" in html(page)


def test_a_context_length_shows_the_note_as_a_short_window_sees_it(runs):
    sample = samples()[-1]
    page = filled(opened(*runs, sample=sample.id))
    slider = page.select_slider[0]
    assert slider.label == "Context length" and slider.value == "whole note"
    slider.set_value(256)
    page = ran(page)
    run, chosen, answers = page.session_state["compare_context"]
    assert chosen == 256 and run == page.session_state["compare_run"]
    deadline = time.monotonic() + 60
    while not all(answer.done() for answer in answers):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    page = ran(page)
    assert html(page).count("read 256 of 5,095 tokens (5%)") == len(runs)
    assert any("within its first 256 tokens" in caption.value for caption in page.caption)
    page.select_slider[0].set_value("whole note")
    assert "read all 5,095 tokens" in html(ran(page))


def test_a_short_note_has_no_context_to_choose(runs):
    page = changing(filled(opened(*runs)))
    page.segmented_control(key="source").set_value("Paste").run()
    page.text_area(key="pasted").set_value("Fever and chills.")
    page.button(key="compare").click()
    assert not filled(ran(page)).select_slider


def test_after_a_reload_a_pasted_note_is_said_to_be_gone_and_no_sample_is_read_instead(runs):
    page = opened(*runs, sample="pasted")
    assert "is gone" in page.info[0].value and not page.error and "compare_run" not in page.session_state


def test_a_link_to_a_missing_model_is_reported_and_not_interpreted(runs):
    page = opened(*runs, "![x](http://evil.example/x.png)")
    assert "not available on this machine" in words_on(page)
    assert "![x](http://" not in words_on(page)
    assert page.multiselect(key="model").value == runs


def test_a_pasted_note_is_compared_and_is_in_no_address_and_no_file(runs, home):
    page = changing(filled(opened(*runs)))
    page.segmented_control(key="source").set_value("Paste").run()
    page.text_area(key="pasted").set_value(HOSTILE)
    page.button(key="compare").click()
    page = filled(ran(page))
    assert page.session_state["compare_run"].note.text == HOSTILE
    assert CANARY in html(page) and "&lt;" in html(page) and "<img" not in html(page)
    assert CANARY not in str(page.query_params) and page.query_params["sample"] == "pasted"
    for file in filter(lambda path: path.is_file(), home.rglob("*")):
        assert CANARY.encode() not in file.read_bytes(), file.name


def test_an_empty_note_is_refused_beside_the_note_and_the_panes_stay(runs):
    page = changing(filled(opened(*runs)))
    page.segmented_control(key="source").set_value("Paste").run()
    assert not page.error
    page.button(key="compare").click()
    page = ran(page)
    assert "note is empty" in words_on(page)
    assert html(page).count("read all") == 2


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"%PDF-1.4", "PDF"),
        (b"\xff\x00", "binary"),
        (b"x" * (MAX_BYTES + 1), "5 MB"),
        ("\xe8".encode("latin-1"), "UTF"),
    ],
)
def test_an_upload_that_is_no_text_is_refused_with_a_remedy(runs, content, problem):
    page = changing(opened(*runs))
    page.segmented_control(key="source").set_value("Upload").run()
    page.file_uploader(key="uploaded").set_value(("note.txt", content, "text/plain"))
    page = ran(page)
    assert problem in words_on(page).replace("\\", "")


def test_an_uploaded_text_is_compared(runs):
    page = changing(opened(*runs))
    page.segmented_control(key="source").set_value("Upload").run()
    page.file_uploader(key="uploaded").set_value(("note.txt", b"Fever\r\nafter naloxone", "text/plain"))
    page.button(key="compare").click()
    page = filled(ran(page))
    assert page.session_state["compare_run"].note.text == "Fever\r\nafter naloxone"


def test_one_model_reads_a_note_with_its_findings_beside_it(mixed):
    page = filled(opened(mixed[0], sample=samples()[0].id))
    assert page.button(key="compare").label == "Read" and page.query_params["model"] == mixed[0]
    assert html(page).count('class="sr-pane"') == 1 and "sr-findings" in html(page) and not page.segmented_control
    prediction = page.session_state["compare_run"].answers[0].result()
    assert prediction.spans and "Chemical" in html(page)
    assert "Cost" in shown_in(page, "Cost") and page.checkbox(key="compare_include_text").value is False
    page.slider(key="compare_minimum").set_value(100)
    assert "No findings" in html(ran(page))
    assert any(caption.value == f"Shown: 0 of {len(prediction.spans):,}." for caption in page.caption)


def test_without_a_model_the_button_says_what_to_choose(runs):
    page = filled(opened(*runs))
    page.multiselect(key="model").set_value([])
    page.button(key="compare").click()
    page = ran(page)
    assert "choose one to four" in words_on(page)
    assert html(page).count('class="sr-pane"') == 2  # what was there stays


def test_several_models_have_the_findings_by_one_click(mixed):
    page = filled(opened(*mixed, sample=samples()[0].id))
    assert page.button(key="compare").label == "Compare" and "sr-findings" not in html(page)
    page.segmented_control(key="compare_list").set_value("Findings")
    assert "sr-findings" in html(ran(page)) and html(page).count('class="sr-pane"') == 2


def test_the_note_is_one_line_once_it_is_read(runs):
    page = opened(*runs)
    assert not page.pills and any(samples()[0].title in text.value for text in page.markdown)
    page = changing(page)
    assert page.pills(key="sample").value == samples()[0].id
    page.pills(key="sample").set_value(samples()[1].id)
    page = ran(page)
    assert not page.pills and any(samples()[1].title in text.value for text in page.markdown)


def test_changed_models_wait_for_the_button_with_a_notice(runs):
    page = filled(opened(*runs))
    page.multiselect(key="model").set_value([runs[0], f"{runs[0]}@truncate"])
    page = ran(page)
    assert any("previous reading" in caption.value for caption in page.caption)


def test_a_model_that_fails_does_so_in_its_own_pane(runs):
    page = filled(opened(*runs))
    broken = zoo.resolve(runs[1]).path
    os.truncate(f"{broken}/model.safetensors", 100)
    page.button(key="compare").click()
    page = filled(ran(page))
    assert html(page).count("sr-failed") == 1 and html(page).count("read all") == 1


def test_without_any_model_the_note_is_shown_and_what_to_do(home, monkeypatch):
    monkeypatch.setattr(published_runs, "ready", lambda **_: [])
    page = opened()
    assert "No model" in words_on(page) and "sr-line" in html(page)
    page.button(key="compare").click()
    assert "sr-line" in html(ran(page))


def test_the_panes_stay_the_same_element_whether_the_note_is_one_line_or_a_field(runs):
    def place(page: AppTest) -> list[int]:
        """The number of the page's part that holds the panes: where it changes, the browser may show them twice."""
        panes = {
            number: [e for e in part if e.type == "html" and 'class="sr-panes' in e.value]
            for number, part in page.main.children.items()
        }
        return [number for number, elements in panes.items() if elements]

    page = filled(opened(*runs))
    folded = place(page)
    assert len(folded) == 1 and place(changing(page)) == folded


# Asking about a place


def test_what_the_browser_sends_is_a_place_of_the_note_or_nothing():
    text = "Fever  and\nrash"
    assert asking.read_place({"pane": 1, "start": 5, "end": 11}, text, 2) == (1, 7, 10), "without white space"
    for sent in (None, "x", {}, {"pane": 2, "start": 0, "end": 5}, {"pane": 0, "start": 3, "end": 99}):
        assert asking.read_place(sent, text, 2) is None
    assert asking.read_place({"pane": 0, "start": 5, "end": 7}, text, 2) is None
    assert asking.read_place({"pane": 0, "start": "0", "end": 5}, text, 2) is None


def asked(page: AppTest, monkeypatch, start: int, end: int) -> AppTest:
    """The page after a click on a place, with the answer in it."""
    place = asking.Place(0, start, end)
    monkeypatch.setattr(asking, "read_place", lambda *_: place)
    return ran(page)


def test_a_click_on_a_finding_says_who_found_it_and_how_sure_and_leads_to_why(mixed, monkeypatch):
    page = filled(opened(*mixed, sample=samples()[0].id))
    first = page.session_state["compare_run"].answers[0].result().spans[0]
    page = asked(page, monkeypatch, first.start, first.end)
    words = "\n".join(element.value for element in page.markdown).replace("\\", "")
    assert f"{first.label} ({percent(first.score)})" in words
    (link,) = [each for each in page.get("page_link") if f"{first.start}%3A{first.end}%3A" in str(each.proto)][:1]
    assert samples()[0].note.text[first.start : first.end] not in link.proto.query_string


def test_words_that_no_model_found_can_be_asked_about(runs, monkeypatch):
    page = changing(filled(opened(*runs)))
    page.segmented_control(key="source").set_value("Paste").run()
    page.text_area(key="pasted").set_value("12 34")
    page.slider(key="compare_minimum").set_value(100)
    page.button(key="compare").click()
    page = filled(ran(page))
    page.slider(key="compare_minimum").set_value(100)
    page = asked(page, monkeypatch, 0, 2)
    assert any("Nothing found here" in element.value for element in page.markdown)
    assert any("0%3A2%3A" in str(each.proto) for each in page.get("page_link"))


def test_a_finding_that_is_not_present_can_be_asked_why():
    absent = {"assertion": AttributeValue(value="absent", score=0.9)}
    finding = Span(start=3, end=8, label="problem", score=0.97, attributes=absent)
    asked_of = asking.targets_of(finding)
    assert asked_of == ["3:8:problem", "3:8:@assertion=absent"]
    assert [asking.question("No fever", each) for each in asked_of] == [
        *("Explain “fever” as problem", "Why absent? fever")
    ]
    present = {"assertion": AttributeValue(value="present", score=0.9)}
    assert len(asking.targets_of(finding.model_copy(update={"attributes": present}))) == 1


def test_the_dialog_shows_hostile_words_as_they_are(runs, monkeypatch):
    page = changing(filled(opened(*runs)))
    page.segmented_control(key="source").set_value("Paste").run()
    page.text_area(key="pasted").set_value(HOSTILE)
    page.button(key="compare").click()
    page = asked(filled(ran(page)), monkeypatch, 0, len(HOSTILE))
    (quoted,) = [each.value for each in page.markdown if each.value.startswith("“") and CANARY in each.value]
    assert quoted.replace("\\", "").startswith(f"“{HOSTILE[:50]}".replace("\\", ""))
    assert all("<img" not in each.value.replace("\\<", "") and ":red[" not in each.value for each in page.markdown)
    assert all(CANARY not in str(each.proto.query_string) for each in page.get("page_link"))


def test_attributes_of_a_finding_are_said_with_their_scores():
    attributes = {"assertion": AttributeValue(value="family", score=0.9)}
    finding = Span(start=0, end=5, label="problem", score=0.97, attributes=attributes)
    assert asking.in_words(finding, "Fever") == "“Fever”, problem (97%): in the family (90%)"


# Models that label the whole note


def test_classifiers_show_ranked_labels_and_agree(classifiers):
    first, second, _ = classifiers
    panes = html(filled(opened(first, second, sample="sepsis-progress-note")))
    assert panes.count('class="sr-bars"') == 2 and panes.count("sr-given") == 2 and "100% agreement" in panes
    assert (
        "Cardiovascular / Pulmonary" in panes and "share of pairs of models that give the note the same label" in panes
    )


def test_a_tagger_and_a_classifier_stand_side_by_side(classifiers):
    first, _, tagger = classifiers
    page = filled(opened(first, tagger, sample="sepsis-progress-note"))
    assert html(page).count(
        'class="sr-bars"'
    ) == 1 and "One model marks words, the other labels the whole note" in html(page)
    assert not page.error


# What differs, filtered and exported


def shown_in(page: AppTest, start: str) -> str:
    """The HTML element that begins a table with this caption."""
    return next(element.value for element in page.html if f"<caption>{start}" in element.value)


def test_a_score_and_a_label_filter_panes_list_and_figures_without_asking_again(mixed):
    page = filled(opened(*mixed, sample=samples()[0].id))
    answers = page.session_state["compare_run"].answers
    spans = [span for answer in answers for span in answer.result().spans]
    percent = round(100 * sorted(span.score for span in spans)[len(spans) // 2]) // 5 * 5
    page.slider(key="compare_minimum").set_value(percent)
    page = ran(page)
    spans_shown = [[span for span in answer.result().spans if span.score >= percent / 100] for answer in answers]
    assert 0 < sum(map(len, spans_shown)) < len(spans)
    assert html(page).count('class="sr-score"') == sum(map(len, spans_shown))
    counts = ", ".join(
        f"{name} {len(few):,} of {len(answer.result().spans):,}"
        for name, few, answer in zip("AB", spans_shown, answers, strict=True)
    )
    assert any(caption.value.startswith(f"Shown: {counts}. Agreement: ") for caption in page.caption)
    assert page.session_state["compare_run"].answers is answers

    page.slider(key="compare_minimum").set_value(0)
    page.multiselect(key="compare_labels").set_value(["Disease"])
    page = ran(page)
    assert re.findall(r'sr-chip sr-l\d">(\w+)<span class="sr-score"', html(page)).count("Chemical") == 0
    assert "Chemical" not in shown_in(page, "Agreement")


def test_a_score_that_hides_all_leaves_nothing_to_compare(mixed):
    page = filled(opened(*mixed, sample=samples()[0].id))
    page.slider(key="compare_minimum").set_value(100)
    page = ran(page)
    assert any("Nothing is left to compare" in caption.value for caption in page.caption)
    assert "nothing to compare" in html(page) and "100% agreement" not in html(page)


def test_agreement_and_cost_stand_beneath(mixed):
    page = filled(opened(*mixed, sample=samples()[0].id))
    for answer in page.session_state["compare_run"].answers:
        prediction = answer.result()
        assert f"{prediction.cost.latency_ms:,.0f} ms" in shown_in(page, "Cost")
        assert f"{prediction.coverage.tokens_read:,} of {prediction.coverage.tokens:,} (100%)" in shown_in(page, "Cost")
    assert shown_in(page, "Cost").count(" MB</td>") == 2 and shown_in(page, "Cost").count(" million</td>") == 2
    assert "All labels" in shown_in(page, "Agreement") and "Chemical" in shown_in(page, "Agreement")


def test_a_classifier_has_no_labels_to_choose_and_no_one_label_below_the_threshold(classifiers):
    first, second, _ = classifiers
    page = filled(opened(first, second, sample="sepsis-progress-note"))
    assert [widget.key for widget in page.multiselect] == ["model"]
    page.slider(key="compare_minimum").set_value(95)
    assert html(ran(page)).count("sr-given") == 0


def test_three_ways_to_read_is_one_click_and_tells_its_story(runs):
    page = filled(opened(*runs, sample=samples()[-1].id))
    assert not unread_warning(page)
    next(button for button in page.button if button.label == "Three ways to read").click()
    page = filled(ran(page))
    arms = [f"{runs[0]}@truncate:128", f"{runs[0]}@windows", "minilm-bc5cdr-long@windows"]
    assert list(page.session_state["compare_run"].arms) == page.query_params["model"] == arms
    short, full, _ = (answer.result() for answer in page.session_state["compare_run"].answers)
    place = short.coverage.unread[0][0]
    assert f"A read {share_read(short.coverage)} of the note" in unread_warning(page)
    assert f"B found {sum(span.start >= place for span in full.spans):,} things" in unread_warning(page)
    assert html(page).count('<section class="sr-pane" tabindex="0">') == 3

    page = changing(page)
    page.pills(key="sample").set_value(samples()[0].id)
    page = filled(ran(page))
    assert bool(unread_warning(page)) == bool(page.session_state["compare_run"].answers[0].result().coverage.unread)


def unread_warning(page: AppTest) -> str:
    return next((text.value for text in page.markdown if "Find what the short model missed" in text.value), "")


def test_a_teacher_stands_beside_its_student_by_one_click(home, tiny_model, one_lab, monkeypatch):
    monkeypatch.setattr(lab, "shared", lambda: one_lab)
    teacher, student = published(tiny_model, 1), published(tiny_model, 2)
    about = Path(queue.job(student).artifact) / "stillroom.json"
    about.write_text(json.dumps(json.loads(about.read_text()) | {"teacher": teacher}))
    page = opened(teacher, f"{teacher}@truncate")
    key = f"preset {teacher} {student}"
    page.button(key=key).click()
    assert list(filled(ran(page)).session_state["compare_run"].arms) == [teacher, student]


def test_a_link_may_name_any_way_of_reading(runs):
    page = filled(opened(f"{runs[0]}@windows:64", f"{runs[1]}@truncate:32", sample=samples()[0].id))
    assert list(page.session_state["compare_run"].arms) == [f"{runs[0]}@windows:64", f"{runs[1]}@truncate:32"]
    assert html(page).count("sr-failed") == 0 and "beginning only (32 tokens)" in html(page)


def test_the_tick_for_the_text_is_off_and_goes_with_the_next_comparison(runs):
    page = filled(opened(*runs))
    assert page.checkbox(key="compare_include_text").value is False
    page.checkbox(key="compare_include_text").check()
    assert ran(page).checkbox(key="compare_include_text").value is True
    page.button(key="compare").click()
    assert filled(ran(page)).checkbox(key="compare_include_text").value is False


def test_a_waiting_run_can_be_stopped_and_is_marked(runs, monkeypatch):
    waiting = lab.Answer
    monkeypatch.setattr(lab.InProcessLab, "submit", lambda self, text, arm, **how: waiting())
    page = opened(*runs)
    page.button(key="stop").click()
    page = ran(page)
    assert html(page).count("sr-failed") == 2 and "Stopped." in html(page)
    assert "stop" not in [button.key for button in page.button] and not page.error


# --- Roles of sentences


def test_the_role_of_each_sentence_is_marked(home, tiny_model, one_lab, monkeypatch, tmp_path):
    monkeypatch.setattr(lab, "shared", lambda: one_lab)
    reader, tagger = published(tiny_role_model(tmp_path / "roles"), 2), published(tiny_model, 1)
    page = filled(opened(reader, tagger))
    run: Run = page.session_state["compare_run"]
    [roles, _] = run.predictions
    assert len(roles.spans) == len(sentence_places(run.note.text)) > 3
    assert {span.label for span in roles.spans} <= {"CONCLUSIONS", "METHODS", "RESULTS"}
    assert roles.spans[0].label in html(page) and not page.error
    assert run.comparison.agreement is None and not run.comparison.disagreements
    assert "tells what each sentence does, the other does not" in html(page)


# --- Values


def test_a_value_stands_above_the_note_on_its_scale(home, tiny_model, one_lab, monkeypatch, tmp_path):
    monkeypatch.setattr(lab, "shared", lambda: one_lab)
    reader, tagger = published(tiny_value_model(tmp_path / "values"), 2), published(tiny_model, 1)
    page = filled(opened(reader, tagger))
    value = page.session_state["compare_run"].predictions[0].value
    assert f"Value: <b>{value}</b>" in html(page) and str(value).endswith("on a scale of 0 to 10")
    assert "One model gives the note a value, the other does not" in html(page) and not page.error


# --- Pairs


@pytest.fixture
def of_pairs(home, tiny_model, one_lab, monkeypatch, tmp_path) -> list[str]:
    """A run of a model that reads a hypothesis with the note, and one of a tagger; their ids in this order."""
    monkeypatch.setattr(lab, "shared", lambda: one_lab)
    return [published(tiny_pair_model(tmp_path / "pairs"), 2), published(tiny_model, 1)]


def hypothesis_fields(page: AppTest) -> list:
    return [field for field in page.text_input if field.label == "Hypothesis"]


def test_a_model_of_pairs_is_asked_about_a_hypothesis(of_pairs):
    reader, tagger = of_pairs
    page = opened(tagger)
    assert not hypothesis_fields(page)
    page = opened(reader, tagger)
    assert "compare_run" not in page.session_state, "it first asks for the hypothesis"
    [field] = hypothesis_fields(page)
    field.set_value(HOSTILE)
    page.button(key="compare").click()
    page = filled(ran(page))
    run: Run = page.session_state["compare_run"]
    assert run.note.hypothesis == HOSTILE.strip() and [len(each.labels) for each in run.predictions] == [3, 0]
    assert CANARY not in repr(run.note) and CANARY not in json.dumps(dict(page.query_params))
    first = run.predictions[0].labels
    hypothesis_fields(page)[0].set_value("The patient has diabetes.")
    page = ran(page)
    assert any("previous reading" in each.value for each in page.caption)
    page.button(key="compare").click()
    page = filled(ran(page))
    assert page.session_state["compare_run"].predictions[0].labels != first
    page.multiselect(key="model").set_value([tagger])
    assert not hypothesis_fields(ran(page))


def question_fields(page: AppTest) -> list:
    return [field for field in page.text_input if field.label == "Question"]


def test_a_model_for_questions_is_asked_one_and_its_answer_is_marked(home, tiny_model, one_lab, monkeypatch, tmp_path):
    monkeypatch.setattr(lab, "shared", lambda: one_lab)
    reader, tagger = published(tiny_question_model(tmp_path / "questions"), 2), published(tiny_model, 1)
    assert not question_fields(opened(tagger))
    page = opened(reader, tagger)
    assert "compare_run" not in page.session_state, "it first asks for the question"
    [field] = question_fields(page)
    field.set_value(HOSTILE)
    page.button(key="compare").click()
    page = filled(ran(page))
    run: Run = page.session_state["compare_run"]
    [first, second] = run.predictions
    assert run.note.question == HOSTILE.strip() and not run.note.hypothesis
    assert first.answer and first.spans[0].label == "answer" and second.no_answer is None
    assert CANARY not in repr(run.note) and CANARY not in json.dumps(dict(page.query_params))
    drawn = "".join(element.proto.body for element in page.get("html"))
    assert "Next likeliest" in drawn and drawn.count('class="sr-answer"') == 1
    question_fields(page)[0].set_value("Which drug was stopped?")
    page = ran(page)
    assert any("previous reading" in each.value for each in page.caption)
    page.multiselect(key="model").set_value([tagger])
    assert not question_fields(ran(page))
