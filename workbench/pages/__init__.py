"""One file a page. PAGES is the table that app.py draws its navigation from; the first page is the landing page.

A page module offers `render() -> None`. It draws what the flow functions return and decides nothing itself.
"""

import importlib
import os
import re
from collections.abc import Callable
from typing import NamedTuple

import streamlit as st

from trainer.errors import BadSpec, StillroomError

_PUNCTUATION = re.compile(r"([!-/:-@\[-`{-~])")
_ADDRESS = re.compile(r"(://|\bwww\.)")


class Page(NamedTuple):
    """An entry of the navigation: the module in this package, which is also its path in the URL."""

    name: str
    title: str
    icon: str
    help: str

    @property
    def render(self) -> Callable[[], None]:
        """The page's function; the module is imported when it is first shown. An error it did not expect is said."""

        def draw() -> None:
            try:
                importlib.import_module(f"{__name__}.{self.name}").render()
            except StillroomError as error:
                show_error(error)

        return draw


PAGES = (
    Page(
        "compare", "Compare", ":material/compare:", "What two to four models find in one note, and where they differ."
    ),
    Page(
        "explain",
        "Explain",
        ":material/psychology:",
        "Why a model said it, and how far to rely on that.",
    ),
    Page("train", "Train", ":material/model_training:", "Fine-tune, distil or pre-train: describe a job and queue it."),
    Page("jobs", "Jobs", ":material/list_alt:", "Jobs with their progress, curves and logs."),
    Page("zoo", "Zoo", ":material/inventory_2:", "Every model that is known, and which are ready to use."),
)


IN_A_DEMO = ("compare", "explain", "zoo")  # pages that train nothing


def demo() -> bool:
    """Whether this app is a public demo (STILLROOM_DEMO=1): nothing is trained, fetched or uploaded there."""
    return os.environ.get("STILLROOM_DEMO") == "1"


def offered() -> tuple[Page, ...]:
    """The pages that this app has, in order."""
    return tuple(page for page in PAGES if page.name in IN_A_DEMO or not demo())


def plain(text: object) -> str:
    """Text that Streamlit's Markdown shows as it is: every ASCII punctuation mark escaped.

    Names and messages may carry what a person typed or a link carried (`![](http://...)`, `:red[x]`, `$x$`). A word
    joiner, which takes no room, keeps a bare web address from becoming a link; no escape does.
    """
    return _PUNCTUATION.sub(r"\\\1", _ADDRESS.sub("\\1\N{WORD JOINER}", str(text)))


def show_error(error: StillroomError) -> None:
    """An error with its next step, beside what caused it; a BadSpec names each field on a line of its own."""
    fields = [f"**{plain(name)}**: {plain(problem)}" for name, problem in error.fields] if _has_fields(error) else []
    lines = fields or [plain(error.message)]
    st.error("\n\n".join([*lines, plain(error.next_step)]).strip(), icon=":material/error:")


def _has_fields(error: StillroomError) -> bool:
    return isinstance(error, BadSpec) and len(error.fields) > 1
