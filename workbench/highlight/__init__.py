"""The only package that makes HTML: markup.py has its pieces, each other module draws one kind of picture."""

from workbench.highlight.markup import STYLE, Html, shown
from workbench.highlight.panes import Pane, note, results
from workbench.highlight.rail import STEPPING

__all__ = ["STEPPING", "STYLE", "Html", "Pane", "note", "results", "shown"]
