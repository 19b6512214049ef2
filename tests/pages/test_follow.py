"""A moving part is polled until it is over, then drawn once; a late poll finds nothing to run."""

import os

import pytest
from streamlit.runtime.fragment import MemoryFragmentStorage
from streamlit.testing.v1 import AppTest

from trainer import queue
from trainer.queue import store
from trainer.queue.engines import Process
from trainer.spec import parse

PAGE = """
import streamlit as st
from workbench.widgets.polling import follow
state = st.session_state
drawn = lambda: (state.update(drawn=state.get("drawn", 0) + 1), st.text("left" if state["moving"] else "over"))
follow(drawn, every_s=60, moving=state["moving"], done=lambda: not state["moving"])
"""
JOBS = "from workbench.pages import jobs; jobs.render()"


@pytest.fixture
def fragments(monkeypatch) -> list[str]:
    """The ids of the fragments that are drawn, as they are drawn."""
    known: list[str] = []
    register = MemoryFragmentStorage.register
    monkeypatch.setattr(
        MemoryFragmentStorage,
        "register",
        lambda *arguments, **how: (known.append(arguments[1]), register(*arguments, **how))[1],
    )
    return known


def opened(page: str, **state) -> AppTest:
    test = AppTest.from_string(page, default_timeout=30)
    for name, value in state.items():
        test.session_state[name] = value
    return test.run()


def test_only_what_moves_is_a_fragment_and_it_keeps_its_place(fragments):
    moving = opened(PAGE, moving=True)
    assert len(fragments) == 1 and moving.session_state["drawn"] == 1
    over = opened(PAGE, moving=False)
    assert len(fragments) == 1 and over.session_state["drawn"] == 1
    places = [test.main.children[0].children[0].value for test in (moving, over)]
    assert places == ["left", "over"]


def test_it_is_over_as_soon_as_that_is_asked():
    page = """
import streamlit as st
from workbench.widgets.polling import follow
state = st.session_state
state["runs"] = state.get("runs", 0) + 1
follow(lambda: st.text("here"), every_s=60, moving=state["runs"] == 1, done=lambda: True)
"""
    assert opened(page).session_state["runs"] == 2


def test_a_job_that_is_over_has_no_fragment_left(home, fragments):
    worker = queue.enlist(store.open_store(), device="cpu", process=Process.of(os.getpid()))
    job = queue.submit(parse({"kind": "finetune", "model": "minilm", "dataset": "ncbi-disease-slice"}))
    lease = queue.claim(store.open_store(), worker)
    for address, polled in (({"job": job.id}, 3), ({}, 1)):
        page = AppTest.from_string(JOBS, default_timeout=30)
        page.query_params.update(address)
        page.run()
        assert len(set(fragments)) == polled, address
        fragments.clear()
    queue.finish(store.open_store(), lease, state="succeeded", artifact="/a/model")
    for address in ({"job": job.id}, {}):
        page = AppTest.from_string(JOBS, default_timeout=30)
        page.query_params.update(address)
        page.run()
        assert not page.exception and not fragments, address
