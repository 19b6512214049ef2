"""The demo's API: the same answers as JSON, in the public shapes of the command line."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gradio as gr

from trainer.errors import StillroomError
from workbench.compare import compare as compare_predictions
from workbench.demo import visit
from workbench.explain import METHOD, METHODS
from workbench.explain.explanation import Explanation

Document = dict[str, Any]  # what an endpoint answers, as JSON


def compare(text: str, models: list[str]) -> Document:
    """Show where two to four models disagree about a clinical note.

    text: the note, at most 20,000 characters, held in memory until it is answered, stored nowhere. models: two to four
    model ids; ID@truncate reads the first window only. The answer is {"predictions": [...], "agreement",
    "disagreements": [...]}, as `stillroom compare --json` prints it; offsets count Unicode code points of the text.
    """
    with _public_errors():
        run = visit.ask(text, models)
        return compare_predictions([answer.result() for answer in run.answers]).to_json()


def explain(text: str, model: str, target: str, method: str = METHOD, grain: str = "") -> Document:
    """Show which parts of a clinical note a model's finding rests on, and how far to rely on that.

    text: the note, at most 20,000 characters, held in memory until it is answered, stored nowhere. target: a place and
    its label, START:END:LABEL in Unicode code points; its own words stay in place. method: an attribution method.
    grain: section, sentence, phrase, word or piece; empty for the method's own. The answer is {"target", "method",
    "attributions": [...], "convergence_delta", "faithfulness": {...}, "trusted"}, as `stillroom explain --context
    --json` prints it.
    """
    with _public_errors():
        explanation: Explanation = visit.why(text, model, target, method, grain).answers[0].result()
        return explanation.to_json()


def description(endpoint: Callable[..., Document]) -> str:
    """The text about an endpoint on the API's page: its docstring, and the names that it takes."""
    names = f"Models here: {', '.join(visit.offered())}."
    methods = f" Methods: {', '.join(METHODS)}." if endpoint is explain else ""
    return f"{' '.join((endpoint.__doc__ or '').split())} {names}{methods}"


@contextmanager
def _public_errors() -> Iterator[None]:
    """Pass errors on to the client; an unexpected one by its type alone, since its message may quote the note."""
    try:
        yield
    except StillroomError as error:
        raise PublicError(str(visit.public_error(error)), print_exception=False) from None
    except Exception as error:
        raise unexpected_error(error) from None


class PublicError(gr.Error):
    """An error whose message quotes nothing that was sent."""


def unexpected_error(error: Exception) -> PublicError:
    """What the client gets for an unexpected error: its type alone, since its message may quote the note."""
    message = f"The request failed with {type(error).__name__}; check the types of its arguments."
    return PublicError(message, print_exception=False)
