"""What happens on the demo's page: each event asks, and draws what has come until all has.

Pictures and lines are workbench.highlight's. Nothing of a note is said in an error that the server prints.
"""

import asyncio
from collections.abc import AsyncIterator

import gradio as gr

from trainer.errors import StillroomError
from workbench import highlight
from workbench.demo import visit
from workbench.demo.first import Opening, note
from workbench.demo.wait_times import PACE
from workbench.explain import targets
from workbench.explain.wording import describe_target
from workbench.note import DEMO_CHARACTERS, samples
from workbench.predict import Arm, letter
from workbench.sessions.explanation import quote

POLL_S = 0.25  # between looks at what is under way
STOPPED = "Stopped."
LISTED = 60  # findings of an arm that are offered to be explained

Drawn = AsyncIterator[tuple]


class Events:
    """The events of the page; `opening` is what a visitor sees first."""

    def __init__(self, opening: Opening):
        self.opening = opening

    async def open(self) -> Drawn:
        """The first view: results, their line, and what of them may be explained."""
        while True:
            now = self.opening.shown
            offered = findings(now.text, now.panes) if self.opening.ready else gr.skip()
            yield highlight.results(*now[:3]), highlight.status(now.words), offered
            if self.opening.ready:
                return
            await asyncio.sleep(POLL_S)

    async def compare(self, text: str, models: list[str], request: gr.Request) -> Drawn:
        """Results, their line, and at the end the findings."""
        own = visit.of(request.session_hash)
        own.stop()
        try:
            own.run = run = visit.ask(text, models)
        except StillroomError as error:
            yield gr.skip(), highlight.problem(visit.told(error)), gr.skip()
            return
        try:
            async for panes in _changes(lambda: run.panes, lambda: run.done):
                picture = highlight.results(run.note.text, panes, run.comparison)
                offered = findings(run.note.text, panes) if run.done else gr.skip()
                yield picture, highlight.status(visit.words(run)), offered
        finally:
            run.stop()  # the visitor has pressed Stop or is gone

    async def explain(self, finding: str | None, method: str, grain: str, request: gr.Request) -> Drawn:
        """The picture of an explanation as it comes, and its line."""
        own = visit.of(request.session_hash)
        own.stop()
        text, (name, _, target) = self._text(own), (finding or "").partition(" ")
        try:
            own.inquiry = inquiry = visit.why(text, name, target, method, grain)
        except StillroomError as error:
            yield gr.skip(), highlight.problem(visit.told(error))
            return
        try:
            async for sides in _changes(inquiry.sides, lambda: inquiry.explained):
                yield highlight.attribution(text, sides, inquiry.place), highlight.status(inquiry.title())
        finally:
            inquiry.stop()

    def wait(self, characters: float, models: list[str]) -> highlight.Html:
        """The wait for a comparison; the text itself is not needed for it."""
        if characters > DEMO_CHARACTERS:
            found = f"The note has {characters:,.0f} characters; this demo reads at most {DEMO_CHARACTERS:,}."
            return highlight.status(found)
        return highlight.status(PACE.words([Arm.parse(name).model for name in models], characters))

    def wait_for_why(self, finding: str | None, method: str, request: gr.Request) -> highlight.Html:
        """The wait for an explanation."""
        name = (finding or "").partition(" ")[0]
        if name not in visit.offered():
            return highlight.status("Compare first: what the models find can be explained.")
        size = len(self._text(visit.of(request.session_hash)))
        return highlight.status(PACE.words([visit.kind(name, method)], size))

    def stop(self, request: gr.Request) -> tuple:
        """Results, their line, the explanation and its line, as far as they were stopped; what has come stays."""
        own = visit.of(request.session_hash)
        own.stop()
        stopped = [gr.skip()] * 4
        if (run := own.run) and any(answer.cancelled() for answer in run.answers):
            stopped[:2] = highlight.results(run.note.text, run.panes, run.comparison), highlight.status(STOPPED)
        if (inquiry := own.inquiry) and any(answer.cancelled() for answer in inquiry.answers):
            picture = highlight.attribution(inquiry.note.text, inquiry.sides(), inquiry.place)
            stopped[2:] = picture, highlight.status(STOPPED)
        return tuple(stopped)

    def _text(self, own: visit.Visit) -> str:
        return own.run.note.text if own.run else note().text


def sample(chosen: str) -> str:
    """The text of a sample note."""
    return next(each.note.text for each in samples() if each.id == chosen)


def findings(text: str, panes: list[highlight.Pane]) -> dict:
    """The choice of what may be explained: values are "ARM TARGET", an arm has no space."""
    offered = [(_named(text, panes, *each), " ".join(each)) for each in visit.findings(panes, most=LISTED)]
    return gr.update(choices=offered, value=offered[0][1] if offered else None)


def _named(text: str, panes: list[highlight.Pane], name: str, target: str) -> str:
    of = letter([pane.name for pane in panes].index(name))
    parsed = targets.parse(target)
    if not isinstance(parsed, targets.SpanTarget):
        return f"{of}  {describe_target(parsed)}"
    return f"{of}  {describe_target(parsed, quote(text, parsed.start, parsed.end))} (at {parsed.start:,})"


async def _changes(look, done) -> AsyncIterator[list]:
    """What `look` sees whenever that is something new, the last time when all is done."""
    before = None
    while True:
        ended = done()  # before the look, so that nothing comes between
        if (now := look()) != before:
            yield now
        if ended:
            return
        before = now
        await asyncio.sleep(POLL_S)
