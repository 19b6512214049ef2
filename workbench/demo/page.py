"""The demo's one page: a note, two to four models, what each of them finds and where they differ.

Pictures are HTML, and all of it comes from workbench.highlight; `_picture` refuses anything else at run time.
"""

import asyncio
from collections.abc import AsyncIterator

import gradio as gr

from trainer.errors import StillroomError
from workbench import highlight
from workbench.demo import endpoints, visit
from workbench.demo.first import ARMS, SAMPLE, Opening, note
from workbench.demo.pace import PACE
from workbench.note import DEMO_CHARACTERS, samples
from workbench.predict import Arm

POLL_S, WAIT_S = 0.25, 4.0  # how often a run under way is looked at, and the wait is said anew
HEADING = (
    "# Stillroom\nWhat two to four small clinical language models find in one note, and where they differ. "
    "**For research, not for clinical decisions. Nothing you enter is stored; do not paste real patient data into a "
    "public demo.**"
)
LENGTH = "note => note.length"  # for the wait that is enough: until Compare is pressed the text stays in the browser
_PLAIN = {"js_on_load": None, "apply_default_css": False}
_QUIET = {"api_visibility": "private", "show_progress": "hidden", "concurrency_limit": None}


def build(opening: Opening) -> gr.Blocks:
    """The page with its events and its API."""
    with gr.Blocks(title="Stillroom", analytics_enabled=False, fill_width=True, delete_cache=(3600, 3600)) as page:
        gr.Markdown(HEADING, elem_id="heading")
        with gr.Row():
            with gr.Column(scale=3, min_width=320):
                text = gr.Textbox(
                    note().text, label=f"Note, at most {DEMO_CHARACTERS:,} characters", lines=12, max_lines=12
                )
            with gr.Column(scale=2, min_width=320):
                sample = gr.Dropdown(_samples(), value=SAMPLE, label="Sample note")
                models = gr.Dropdown(
                    [(title, name) for name, title in visit.offered().items()],
                    value=list(ARMS),
                    label="Models, two to four",
                    multiselect=True,
                    max_choices=visit.MOST,
                )
                with gr.Row():
                    start = gr.Button("Compare", variant="primary")
                    stop = gr.Button("Stop")
                wait = gr.HTML(highlight.status(), elem_id="wait", **_PLAIN)
        said = gr.HTML(highlight.status(opening.shown.words), elem_id="said", **_PLAIN)
        shown = gr.HTML(highlight.results(*opening.shown[:3]), elem_id="results", **_PLAIN)
        for picture in (wait, said, shown):
            picture.postprocess = _picture

        length = gr.Number(len(note().text), visible="hidden")
        waits = [page.load, length.change, models.change, gr.Timer(WAIT_S).tick]
        page.load(_opening(opening), None, [shown, said], **_QUIET)
        sample.input(_sample, sample, text, **_QUIET)
        text.change(None, text, length, js=LENGTH, **_QUIET)
        gr.on(waits, _wait, [length, models], wait, trigger_mode="always_last", **_QUIET)
        compared = start.click(_compare, [text, models], [shown, said], **_QUIET)
        stop.click(_stop, None, [shown, said], cancels=[compared], **_QUIET)
        page.unload(_leave)
        gr.api(endpoints.compare, api_name="compare", concurrency_limit=visit.MOST)
    return page


def _picture(html: object) -> str:
    if not isinstance(html, highlight.Html):
        raise TypeError(f"found {type(html).__name__}; only what workbench.highlight has made is shown as HTML")
    return str(html)


def _samples() -> list[tuple[str, str]]:
    short = [each for each in samples() if each.characters <= DEMO_CHARACTERS]
    return [(f"{each.title} ({each.words:,} words)", each.id) for each in short]


def _sample(chosen: str) -> str:
    return next(each.note.text for each in samples() if each.id == chosen)


def _wait(characters: float, models: list[str]) -> highlight.Html:
    if characters > DEMO_CHARACTERS:
        found = f"The note has {characters:,.0f} characters; this demo reads at most {DEMO_CHARACTERS:,}."
        return highlight.status(found)
    return highlight.status(PACE.words([Arm.parse(name).model for name in models], characters))


def _opening(opening: Opening):
    async def views() -> AsyncIterator[tuple]:
        while True:
            now = opening.shown
            yield highlight.results(*now[:3]), highlight.status(now.words)
            if opening.ready:
                return
            await asyncio.sleep(POLL_S)

    return views


async def _compare(text: str, models: list[str], request: gr.Request) -> AsyncIterator[tuple]:
    visit.leave(request.session_hash)
    try:
        run = visit.ask(text, models)
    except StillroomError as error:
        yield gr.skip(), highlight.problem(error)
        return
    visit.RUNS[request.session_hash] = run
    try:
        before = None
        while before is None or not all(pane.prediction or pane.error for pane in before):
            if (panes := run.panes) != before:
                yield highlight.results(run.note.text, panes, run.comparison), highlight.status(run.words)
            before = panes
            await asyncio.sleep(POLL_S)
    finally:
        run.cancel()  # the visitor has stopped it or is gone


def _stop(request: gr.Request) -> tuple:
    run = visit.RUNS.get(request.session_hash)
    if run is None:
        return gr.skip(), gr.skip()
    run.cancel()
    return highlight.results(run.note.text, run.panes, run.comparison), highlight.status("Stopped.")


def _leave(request: gr.Request) -> None:
    visit.leave(request.session_hash)
