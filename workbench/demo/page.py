"""The demo's page: a note, two to four models, what each finds, where they differ, and why one gave an answer.

All HTML comes from workbench.highlight; `_check_html` refuses anything else at run time.
"""

from collections.abc import Callable
from typing import Any

import gradio as gr

from workbench import highlight
from workbench.demo import endpoints, visit
from workbench.demo.events import Events, sample
from workbench.demo.first import ARMS, SAMPLE, Opening, note
from workbench.explain import GRAINS, METHOD, METHODS
from workbench.explain.wording import PARTS
from workbench.note import DEMO_CHARACTERS, samples

WAIT_S = 4.0  # seconds between updates of the wait
HEADING = (
    "# Stillroom\nWhat two to four small clinical language models find in one note, and where they differ. "
    "**For research, not for clinical decisions. Nothing you enter is stored; do not paste real patient data into a "
    "public demo.**"
)
WHY = "## Why did a model give an answer?\nThe parts of the note that a finding rests on, and how far to rely on that."
LENGTH = "note => note.length"  # enough for the wait; the text stays in the browser until Compare is pressed
_PLAIN: dict[str, Any] = {"js_on_load": None, "apply_default_css": False}
_QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", "concurrency_limit": None}


class Page(gr.Blocks):
    """A page whose errors quote nothing that was sent, wherever Gradio raises them: before, in or after an event."""

    async def process_api(self, *arguments: Any, **options: Any) -> dict[str, Any]:
        """Gradio's, for every event and endpoint, including hidden ones."""
        try:
            return await super().process_api(*arguments, **options)
        except endpoints.PublicError:
            raise
        except Exception as error:
            raise endpoints.unexpected_error(error) from None


def build(opening: Opening) -> gr.Blocks:
    """The page with its events and its API."""
    events = Events(opening)
    page = Page(title="Stillroom", analytics_enabled=False, fill_width=True, delete_cache=(3600, 3600))
    with page:
        gr.Markdown(HEADING, elem_id="heading")
        with gr.Row():
            with gr.Column(scale=3, min_width=320):
                label = f"Note, at most {DEMO_CHARACTERS:,} characters"
                text = gr.Textbox(note().text, label=label, lines=12, max_lines=12, elem_id="note")
                length = gr.Number(len(note().text), visible="hidden")
            with gr.Column(scale=2, min_width=320):
                chosen = gr.Dropdown(_samples(), value=SAMPLE, label="Sample note")
                models = gr.Dropdown(_models(), value=list(ARMS), label="Models, two to four", **_TWO_TO_FOUR)
                with gr.Row():
                    start = gr.Button("Compare", variant="primary")
                    stop = gr.Button("Stop")
                wait = gr.HTML(highlight.status(), elem_id="wait", **_PLAIN)
        results_line = gr.HTML(highlight.status(opening.shown.words), elem_id="said", **_PLAIN)
        shown = gr.HTML(highlight.results(*opening.shown[:3]), elem_id="results", **_PLAIN)
        gr.Markdown(WHY, elem_id="why-heading")
        finding = gr.Dropdown([], label="Finding")
        with gr.Accordion("Details", open=False, elem_id="why-choices"), gr.Row():
            method = gr.Dropdown(_methods(), value=METHOD, label="Method", min_width=180)
            grain = gr.Dropdown(_grains(), value="", label="Parts", min_width=180)
        with gr.Row(elem_id="why-buttons"):
            explain = gr.Button("Explain", variant="primary")
            stop_why = gr.Button("Stop")
        why_line = gr.HTML(highlight.status(), elem_id="told", **_PLAIN)
        why = gr.HTML(highlight.status(), elem_id="why", **_PLAIN)
        for picture in (wait, results_line, shown, why_line, why):
            # Not a subclass, which Gradio would take for a component of its own.
            picture.postprocess = _check_html  # type: ignore[method-assign, assignment]

        for endpoint in (endpoints.compare, endpoints.explain):  # first, so that no event below takes their names
            about = endpoints.description(endpoint)
            gr.api(endpoint, api_name=endpoint.__name__, api_description=about, concurrency_limit=visit.MOST)
        page.load(events.open, None, [shown, results_line, finding], **_QUIET)
        chosen.input(sample, chosen, text, **_QUIET)
        text.change(None, text, length, js=LENGTH, **_QUIET)
        waits = [page.load, length.change, models.change, gr.Timer(WAIT_S).tick]
        gr.on(waits, events.wait, [length, models], wait, trigger_mode="always_last", **_QUIET)
        compared = start.click(events.compare, [text, models], [shown, results_line, finding], **_QUIET)
        gr.on([finding.change, method.change], events.wait_for_why, [finding, method], why_line, **_QUIET)
        explained = explain.click(events.explain, [finding, method, grain], [why, why_line], **_QUIET)
        for button in (stop, stop_why):
            drawn = [shown, results_line, why, why_line]
            button.click(events.stop, None, drawn, cancels=[compared, explained], **_QUIET)
        page.unload(_leaving(page))
    return page


_TWO_TO_FOUR: dict[str, Any] = {"multiselect": True, "max_choices": visit.MOST}


def _check_html(html: object) -> str:
    if not isinstance(html, highlight.Html):
        raise TypeError(f"found {type(html).__name__}; only HTML made by workbench.highlight is shown")
    return str(html)


def _samples() -> list[tuple[str, str]]:
    short = [each for each in samples() if each.characters <= DEMO_CHARACTERS]
    return [(f"{each.title} ({each.words:,} words)", each.id) for each in short]


def _models() -> list[tuple[str, str]]:
    return [(title, name) for name, title in visit.offered().items()]


def _methods() -> list[tuple[str, str]]:
    return [(kind.title, name) for name, kind in METHODS.items()]


def _grains() -> list[tuple[str, str]]:
    return [("the method's own", ""), *((PARTS[grain], grain) for grain in GRAINS)]


def _leaving(page: gr.Blocks) -> Callable[[gr.Request], None]:
    def leave(request: gr.Request) -> None:
        visit.leave(request.session_hash)
        _forget(page, request.session_hash)

    return leave


def _forget(page: gr.Blocks, session: str | None) -> None:
    """Drop a session's choices, which quote the note. Gradio keeps them for an hour, without a public way to drop them.

    If a future Gradio names its table of sessions differently, they are kept for that hour.
    """
    sessions = getattr(getattr(page, "state_holder", None), "session_data", {})
    sessions.pop(session, None)
