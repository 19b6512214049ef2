"""The only package that makes HTML: markup.py has its pieces, each other module draws one kind of picture."""

from workbench.highlight.attribution import Side, attribution
from workbench.highlight.disagreements import STEPPING
from workbench.highlight.markup import STYLE, Html, shown, style
from workbench.highlight.notices import problem, status
from workbench.highlight.panes import Pane, note, results
from workbench.highlight.report import document
from workbench.highlight.tables import agreement, costs

APP = style("app.css")  # for every page of the app
HEAD = Html(STYLE + STEPPING)  # for a page of its own, which has a head

__all__ = [
    "APP",
    "HEAD",
    "Html",
    "Pane",
    "STEPPING",
    "STYLE",
    "Side",
    "agreement",
    "attribution",
    "costs",
    "document",
    "note",
    "problem",
    "results",
    "shown",
    "status",
]
