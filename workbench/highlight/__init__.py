"""The only package that makes HTML: markup.py has its pieces, each other module draws one kind of picture."""

from workbench.highlight.asking import ASK_BUTTON, ASKING
from workbench.highlight.attribution import Side, attribution
from workbench.highlight.disagreements import STEPPING
from workbench.highlight.explanation_report import explanation_page
from workbench.highlight.markup import STYLE, Html, displayable, style
from workbench.highlight.notices import problem, status
from workbench.highlight.panes import Pane, note, results
from workbench.highlight.relations import relations_table
from workbench.highlight.report import report_page
from workbench.highlight.tables import agreement_table, cost_table

APP = style("app.css")  # for every page of the app
HEAD = Html(STYLE + STEPPING)  # for the head of a page outside the app

__all__ = [
    "APP",
    "ASKING",
    "ASK_BUTTON",
    "HEAD",
    "Html",
    "Pane",
    "STEPPING",
    "STYLE",
    "Side",
    "agreement_table",
    "attribution",
    "cost_table",
    "displayable",
    "explanation_page",
    "note",
    "problem",
    "relations_table",
    "report_page",
    "results",
    "status",
]
