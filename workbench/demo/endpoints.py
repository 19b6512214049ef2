"""The demo's API: the same answers as JSON, in the public shapes of the command line."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import gradio as gr

from trainer.errors import StillroomError
from workbench.demo import visit
from workbench.explain import METHOD, METHODS


def compare(text: str, models: list[str]) -> dict:
    """Show where two to four models disagree about a clinical note.

    text: the note, at most 20,000 characters, in memory until the answer is there and nowhere else. models: two to four
    model ids; ID@truncate reads the first window only. The answer is {"predictions": [...], "agreement",
    "disagreements": [...]}, as `stillroom compare --json` prints it; offsets count Unicode code points of the text.
    """
    with _said():
        run = visit.ask(text, models)
        for answer in run.answers:
            answer.result()
        return run.comparison.to_json()


def explain(text: str, model: str, target: str, method: str = METHOD, grain: str = "") -> dict:
    """Show which parts of a clinical note a model's finding rests on, and how far to rely on that.

    text: the note, at most 20,000 characters, in memory until the answer is there and nowhere else. target: a place and
    its label, START:END:LABEL in Unicode code points. method: an attribution method. grain: section, sentence, phrase,
    word or piece; empty for the method's own. The answer is {"target", "method", "attributions": [...],
    "convergence_delta", "faithfulness": {...}, "trusted"}, as `stillroom explain --json` prints it.
    """
    with _said():
        return visit.why(text, model, target, method, grain).answers[0].result().to_json()


def described(endpoint: Callable) -> str:
    """What the API's page says of an endpoint: its docstring, and the names that it takes."""
    names = f"Models here: {', '.join(visit.offered())}."
    methods = f" Methods: {', '.join(METHODS)}." if endpoint is explain else ""
    return f"{' '.join(endpoint.__doc__.split())} {names}{methods}"


@contextmanager
def _said() -> Iterator[None]:
    """Errors for the client. Of one that nobody foresaw only the type is said: its message may quote the note."""
    try:
        yield
    except StillroomError as error:
        raise Told(str(visit.told(error)), print_exception=False) from None
    except Exception as error:
        raise unforeseen(error) from None


class Told(gr.Error):
    """An error whose message quotes nothing that was sent."""


def unforeseen(error: Exception) -> Told:
    """What is said of an error that nobody foresaw: its type, since its message may quote the note."""
    message = f"The request failed with {type(error).__name__}; see the types of its arguments."
    return Told(message, print_exception=False)
