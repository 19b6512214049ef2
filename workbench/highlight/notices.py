"""Single lines beside a picture: what is going on, and what went wrong."""

from trainer.errors import StillroomError
from workbench.highlight.markup import Html, escape


def status(words: str = "") -> Html:
    """A line in small letters; no words, no line."""
    return _alone(f'<p class="sr-status">{escape(words)}</p>' if words else "")


def problem(error: StillroomError) -> Html:
    """An error with its next step."""
    return _alone(f'<p class="sr-error"><b>{escape(error.message)}</b> {escape(error.next_step)}</p>')


def _alone(inner: str) -> Html:
    return Html(f'<div class="sr">{inner}</div>' if inner else "")
