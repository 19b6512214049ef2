"""The demo's API: the same answers as JSON, in the public shapes of the command line."""

from collections.abc import Iterator
from contextlib import contextmanager

import gradio as gr

from trainer.errors import StillroomError
from workbench.demo import visit


def compare(text: str, models: list[str]) -> dict:
    """Show where two to four models disagree about a clinical note.

    The answer is {"predictions": [...], "agreement", "disagreements": [...]}, as `stillroom compare --json` prints it:
    offsets count Unicode code points of the text as given. The text is in memory until the answer is there, and nowhere
    else.

    Args:
        text: The note, at most 20,000 characters.
        models: Two to four model ids; ID@truncate reads the first window only. An unknown one is answered with a list.
    """
    with _said():
        run = visit.ask(text, models)
        for answer in run.answers:
            answer.result()
        return run.comparison.to_json()


@contextmanager
def _said() -> Iterator[None]:
    """Errors for the client. Of one that nobody foresaw only the type is said: its message may quote the note."""
    try:
        yield
    except StillroomError as error:
        raise gr.Error(str(error), print_exception=False) from None
    except Exception as error:
        message = f"The request failed with {type(error).__name__}; see the types of its arguments."
        raise gr.Error(message, print_exception=False) from None
