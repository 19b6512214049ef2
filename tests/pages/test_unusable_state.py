"""Every page reports a state folder that cannot be used, without a traceback."""

import pytest
from streamlit.testing.v1 import AppTest

from workbench.pages import PAGES


def draw(name: str) -> None:
    from workbench.pages import PAGES

    next(page for page in PAGES if page.name == name).render()


@pytest.mark.parametrize("page", [page.name for page in PAGES])
def test_a_page_says_that_the_state_cannot_be_used(page, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("STILLROOM_HOME", str(tmp_path / "file"))
    drawn = AppTest.from_function(draw, args=(page,), default_timeout=60).run()
    assert not drawn.exception, [error.message for error in drawn.exception]
    assert any("The state folder cannot be used" in error.value for error in drawn.error)
