"""The Zoo page: every entry and every published run, filters that add up, and the details of the selected one."""

import os

import pytest
from left_models import leave
from streamlit.testing.v1 import AppTest

from trainer import queue, zoo
from trainer.queue import Progress, store
from trainer.queue import published as published_runs
from trainer.queue.engines import Process
from trainer.spec import parse

PAGE = "from workbench.pages import zoo; zoo.render()"


def opened(**address: str) -> AppTest:
    page = AppTest.from_string(PAGE, default_timeout=30)
    for name, value in address.items():
        page.query_params[name] = value
    page.run()
    assert not page.exception
    return page


def ids(page: AppTest) -> list[str]:
    return list(page.dataframe[0].value["Id"])


def words_on(page: AppTest) -> str:
    kinds = ("header", "markdown", "caption", "text", "code")
    return "\n".join(str(element.value) for kind in kinds for element in page.get(kind))


@pytest.fixture
def published(home, tiny_model) -> str:
    """A run that succeeded and left the tiny model behind; its id."""
    worker = queue.enlist(store.open_store(), device="cpu", process=Process.of(os.getpid()))
    job = queue.submit(parse({"kind": "finetune", "model": "minilm", "dataset": "ncbi-disease-slice"}))
    lease = queue.claim(store.open_store(), worker)
    folder = leave(job.id, tiny_model)
    scores = Progress(metrics={"test_f1": 0.5})
    queue.finish(store.open_store(), lease, state="succeeded", artifact=str(folder), progress=scores)
    return job.id


def test_every_entry_of_the_zoo_is_in_the_table(home):
    page = opened()
    assert ids(page) == list(zoo.entries())
    table = page.dataframe[0].value.set_index("Id")
    assert table.loc["clinical-longformer", "Context"] == 4096
    assert table.loc["tiny-biobert", "Parameters"] == pytest.approx(13.874136)
    assert table.loc["minilm", ["Ready", "Casing", "Licence"]].tolist() == ["yes", "uncased", "Apache-2.0"]


def test_filters_add_up(home):
    page = opened()
    page.multiselect(key="zoo.role").set_value(["long"]).run()
    assert ids(page) == ["clinical-longformer", "clinical-bigbird"]
    page.text_input(key="zoo.text").set_value("BIRD").run()
    assert ids(page) == ["clinical-bigbird"]
    page.toggle(key="zoo.here").set_value(True).run()
    assert not page.dataframe and "No model matches" in words_on(page)


def test_weights_here_leaves_what_is_here(home):
    page = opened()
    page.toggle(key="zoo.here").set_value(True).run()
    assert set(ids(page)) == {entry.id for entry in published_runs.ready()} >= {"minilm"}


def test_the_address_opens_a_model_with_its_sources(home):
    page = opened(model="tiny-clinicalbert")
    words = words_on(page)
    entry = zoo.entries()["tiny-clinicalbert"]
    assert page.header[0].value == "TinyClinicalBERT"
    for part in (
        "nlpie/tiny-clinicalbert",
        "13,874,136 encoder",
        "bio-clinicalbert",
        "wordpiece",
        *entry.notes.split(),
    ):
        assert part in words
    assert "stillroom zoo fetch tiny-clinicalbert\nstillroom zoo build tiny-clinicalbert" in words
    figures = page.dataframe[1].value
    assert list(figures["Source"]) == [figure["source"] for figure in entry.reported]


def test_a_model_of_every_role_can_be_opened(home):
    for entry in {entry.role: entry for entry in zoo.entries().values()}.values():
        assert entry.id in words_on(opened(model=entry.id))


def test_a_published_run_is_a_model_like_any_other(published):
    page = opened(model=published)
    assert published in ids(page)
    assert "Compare on a note" in [link.label for link in page.get("page_link")]
    assert "ner: Disease" in words_on(page)


def test_an_unknown_model_is_an_error_with_what_is_known(home):
    page = opened(model="<img src=x>:red[x]")
    assert "There is no model" in page.error[0].value
    assert "\\<img" in page.error[0].value and "\\:red\\[" in page.error[0].value  # escaped
    assert ids(page) == list(zoo.entries())


def test_a_model_whose_weights_are_here_can_be_used_at_once(home):
    page = opened(model="minilm")
    links = {link.label: link.proto.query_string for link in page.get("page_link")}
    assert links == {"Fine-tune": "model=minilm"}
    assert "stillroom zoo fetch" not in words_on(page)
