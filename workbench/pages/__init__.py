"""One file a page. PAGES is the table that app.py draws its navigation from; the first page is the landing page.

A page module offers `render() -> None`. It draws what the flow functions return and decides nothing itself.
"""

import importlib
from collections.abc import Callable
from typing import NamedTuple

from trainer.errors import StillroomError
from workbench.widgets.demo_mode import demo
from workbench.widgets.messages import show_error


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


def offered() -> tuple[Page, ...]:
    """The pages that this app has, in order."""
    return tuple(page for page in PAGES if page.name in IN_A_DEMO or not demo())
