"""One file per page. app.py draws the navigation from the table PAGES; the first page is the landing page.

A page module offers `render() -> None`, which draws what the flow functions return.
"""

import importlib
from collections.abc import Callable
from typing import NamedTuple

from trainer.errors import StillroomError
from workbench.widgets.demo_mode import is_demo
from workbench.widgets.messages import show_error


class Page(NamedTuple):
    """An entry of the navigation. `name` is its module in this package and its path in the URL."""

    name: str
    title: str
    icon: str
    help: str

    @property
    def render(self) -> Callable[[], None]:
        """A function that imports the page's module and draws it, and shows errors that the page does not handle."""

        def draw() -> None:
            try:
                importlib.import_module(f"{__name__}.{self.name}").render()
            except StillroomError as error:
                show_error(error)

        return draw


PAGES = (
    Page("compare", "Compare", ":material/compare:", "Compare what two to four models find in a note."),
    Page(
        "explain",
        "Explain",
        ":material/psychology:",
        "See why a model reported a finding, and how far to rely on the explanation.",
    ),
    Page(
        "train",
        "Train",
        ":material/model_training:",
        "Set up a job and queue it: fine-tune, distil or pre-train a model.",
    ),
    Page("jobs", "Jobs", ":material/list_alt:", "See jobs with their progress, curves and logs."),
    Page(
        "results",
        "Results",
        ":material/leaderboard:",
        "Compare scores and costs of all models, and see what others published.",
    ),
    Page("zoo", "Zoo", ":material/inventory_2:", "See all known models, and which are ready to use."),
)


DEMO_PAGES = ("compare", "explain", "results", "zoo")  # pages that train nothing


def offered_pages() -> tuple[Page, ...]:
    """The pages of this app, in order; a public demo has no training pages."""
    return tuple(page for page in PAGES if page.name in DEMO_PAGES or not is_demo())
