"""Where a model errs, on the page of its run, and two runs item by item on Results."""

import json
import os

import pytest
from left_models import leave_scored
from streamlit.testing.v1 import AppTest

from trainer import datasets, queue
from trainer.evaluation.outcomes import FILE
from trainer.home import home as state_home
from trainer.home import runs_dir
from trainer.queue import Progress, store
from trainer.queue.engines import Process
from trainer.spec import parse

DATASET = "ncbi-disease-slice"


def opened(page: str, **address: str | list[str]) -> AppTest:
    test = AppTest.from_string(f"from workbench.pages import {page}; {page}.render()", default_timeout=60)
    for name, value in address.items():
        test.query_params[name] = value
    test.run()
    assert not test.exception
    return test


def words_on(page: AppTest) -> str:
    kinds = ("header", "subheader", "markdown", "caption", "text", "error")
    return "\n".join(str(element.value) for kind in kinds for element in page.get(kind))


@pytest.fixture
def scored(home):
    """Leaves an evaluation that reads every n-th mention wrong; its id."""
    worker = queue.enlist(store.open_store(), device="cpu", process=Process.of(os.getpid()))

    def score(every: int, **fields) -> str:
        spec = {"kind": "evaluate", "model": "minilm-ncbi", "dataset": DATASET, "seed": every} | fields
        job = queue.submit(parse(spec))
        lease = queue.claim(store.open_store(), worker)
        metrics = Progress(metrics=leave_scored(job.id, every=every))
        queue.finish(store.open_store(), lease, state="succeeded", progress=metrics)
        return job.id

    return score


def test_the_page_of_a_run_shows_each_mistake_in_its_words_with_a_link_to_ask_why(scored):
    page = opened("jobs", job=scored(2))
    assert {"Where it errs", "How far its probabilities can be believed"} <= {each.value for each in page.header}
    kinds = {metric.label: metric.value for metric in page.metric}
    assert {"Missed", "Wrong boundary", "Expected calibration error"} <= set(kinds)
    text = words_on(page)
    assert "A trivial baseline, mentions of train, looked up, has F1 0.400" in text
    explain = [link for link in page.get("page_link") if link.label == "Explain"]
    address = explain[0].proto.query_string
    assert "model=minilm-ncbi" in address and f"data%3A{DATASET}%3Atest%3A" in address and "Disease" in address
    sentence = datasets.load(DATASET, "test")[int(address.split("%3A")[3].split("&")[0])]
    assert any(" ".join(sentence.words[:2]) in each.value for each in page.markdown) or len(sentence.words) > 10
    assert not [word for word in sentence.words if len(word) > 8 and word in address]
    by_label = page.dataframe[0].value
    assert list(by_label["Label"]) == ["Disease"] and 0 < by_label["Recall"][0] < 1


def test_a_run_without_stored_outcomes_has_no_such_part(scored):
    job = scored(2)
    (runs_dir() / job / "attempt-1" / FILE).unlink()
    assert "Where it errs" not in words_on(opened("jobs", job=job))


def test_two_selected_rows_are_compared_item_by_item(scored):
    first, second = scored(2), scored(7)
    page = opened("results", dataset=DATASET, row=[first, second])
    metrics = {metric.label: metric.value for metric in page.metric}
    assert {"Difference", "p, paired bootstrap", "p, McNemar"} <= set(metrics)
    assert float(metrics["Difference"]) < 0 and "They differ by more than chance explains" in words_on(page)
    table = page.dataframe[0].value.set_index("Id")
    assert table.loc[first, "Measured on"] == "A processor, 1 thread, float32" and table.loc[first, "Baseline"] == 0.4
    assert "no stored outcomes" in words_on(
        opened("results", dataset="bc5cdr", row=["minilm-bc5cdr", "minilm-bc5cdr-l3"])
    )


def test_a_link_to_an_item_opens_its_text_and_only_its_number_is_in_the_address(home):
    page = AppTest.from_string(
        "from workbench.widgets import note_field\n"
        "import streamlit as st\n"
        "if 'begun' not in st.session_state:\n"
        f"    st.session_state.begun = note_field.arrive('data:{DATASET}:test:1')\n"
        "note, _ = note_field.choose()\n"
        "st.text(note.text)\n"
        "st.caption(note_field.address())\n",
        default_timeout=60,
    ).run()
    assert not page.exception
    assert page.text[0].value == " ".join(datasets.load(DATASET, "test")[1].words)
    assert page.caption[-1].value == f"data:{DATASET}:test:1"


def test_no_word_of_the_data_is_in_the_state_folder(scored):
    job = scored(2)
    opened("jobs", job=job)
    words = {word for each in datasets.load(DATASET, "test") for word in each.words if len(word) > 10} - {"probability"}
    stored = b"".join(path.read_bytes() for path in state_home().rglob("*") if path.is_file())
    assert json.loads((runs_dir() / job / "attempt-1" / FILE).read_text())["mistakes"]
    assert words and not [word for word in words if word.encode() in stored]
