"""The only package that makes HTML: markup.py has its pieces, each other module draws one kind of picture."""

from workbench.highlight.attribution import Side, attribution
from workbench.highlight.markup import STYLE, Html, shown
from workbench.highlight.notices import problem, status
from workbench.highlight.panes import Pane, note, results

__all__ = [
    "STYLE",
    "Html",
    "Pane",
    "Side",
    "attribution",
    "note",
    "problem",
    "results",
    "shown",
    "status",
]
