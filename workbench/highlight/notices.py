"""Single lines beside a picture: what is going on, and what went wrong."""

from trainer.errors import StillroomError
from workbench.highlight.markup import Html, error_line


def status(words: str = "") -> Html:
    """A status line in small letters; no HTML at all if `words` is empty."""
    return Html('<div class="sr"><p class="sr-status">{}</p></div>').format(words) if words else Html()


def problem(error: StillroomError) -> Html:
    """An error with its next step."""
    return Html('<div class="sr">{}</div>').format(error_line(error))
