"""The app as a public demo (STILLROOM_DEMO=1): nothing is trained, uploaded or fetched, and notes are short."""

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from trainer import zoo
from workbench import pages
from workbench.note import DEMO_CHARACTERS

APP = Path(__file__).parents[2] / "app.py"
NOTE = "from workbench.widgets import note_field; import streamlit as st; st.text(str(note_field.choose()))"
ZOO = "from workbench.pages import zoo; zoo.render()"


@pytest.fixture
def demo(monkeypatch, home) -> None:
    monkeypatch.setenv("STILLROOM_DEMO", "1")


def ran(page: AppTest) -> AppTest:
    page.run()
    assert not page.exception
    return page


def test_pages_that_train_are_gone_and_come_back_without_the_switch(demo, monkeypatch):
    assert {"train", "jobs"}.isdisjoint(page.name for page in pages.offered_pages())
    assert [page.name for page in pages.offered_pages()][0] == "compare"
    monkeypatch.delenv("STILLROOM_DEMO")
    assert pages.offered_pages() == pages.PAGES
    assert "offered_pages()" in APP.read_text(encoding="utf-8")


def test_there_is_no_upload_and_a_pasted_note_has_a_limit(demo, monkeypatch):
    page = AppTest.from_string(NOTE, default_timeout=30)
    page.session_state["source"] = "Paste"
    assert list(ran(page).segmented_control(key="source").options) == ["Sample", "Paste"]
    page.text_area(key="pasted").set_value("x" * DEMO_CHARACTERS)
    assert "Note(20,000 characters)" in ran(page).text[0].value
    page.text_area(key="pasted").set_value("x" * (DEMO_CHARACTERS + 1))
    assert "at most 20,000" in ran(page).text[0].value
    monkeypatch.delenv("STILLROOM_DEMO")
    assert "Note(20,001 characters)" in ran(page).text[0].value
    assert "Upload" in page.segmented_control(key="source").options


@pytest.mark.parametrize("model", ["minilm-bc5cdr", "clinical-longformer"])
def test_the_zoo_neither_fetches_nor_trains(demo, model):
    page = AppTest.from_string(ZOO, default_timeout=30)
    page.query_params["model"] = model
    ran(page)
    assert not page.code and "Fine-tune" not in str(page.get("page_link"))
    here = zoo.weights_here(zoo.entries()[model]) is not None
    assert here or any("not part of this demo" in text.value for text in page.text)
