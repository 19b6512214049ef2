"""Readers of data files, one module per format. Every row is checked; a wrong one is named by its line. No torch."""

from collections.abc import Callable

from trainer.errors import BadData

Reporter = Callable[[BadData], None]


def raise_problem(problem: BadData) -> None:
    """The default reporter: the first wrong row ends the reading."""
    raise problem


def at_line(problem: BadData, name: str, line: int, *, next_step: str = "") -> BadData:
    """The same problem with its place; next_step counts where the problem has none."""
    return BadData(problem.message, path=name, line=line, next_step=problem.next_step or next_step)
