"""The events of the demo's page: each sends a request and draws the answers until all are there.

Pictures and lines come from workbench.highlight. No error that the server prints holds text of a note.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

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
from workbench.sessions.explanation import position, quote

POLL_S = 0.25  # seconds between polls
STOPPED = "Stopped."
LISTED = 60  # findings per arm that can be chosen to be explained

Drawn = AsyncIterator[tuple[Any, ...]]

Item = TypeVar("Item")


class Events:
    """The events of the page; `opening` is what a visitor sees first."""

    def __init__(self, opening: Opening):
        self.opening = opening

    async def open(self) -> Drawn:
        """The first view: results, status line, and the findings that can be explained."""
        while True:
            now = self.opening.shown
            offered = findings(now.text, now.panes) if self.opening.ready else gr.skip()
            yield highlight.results(*now[:3]), highlight.status(now.words), offered
            if self.opening.ready:
                return
            await asyncio.sleep(POLL_S)

    async def compare(self, text: str, models: list[str], request: gr.Request) -> Drawn:
        """Compare models on a text. Yields results, status line and, at the end, the findings to choose from."""
        session = visit.of(request.session_hash)
        session.stop()
        try:
            session.run = run = visit.ask(text, models)
        except StillroomError as error:
            yield gr.skip(), highlight.problem(visit.public_error(error)), gr.skip()
            return
        try:
            async for panes in _changes(lambda: run.panes, lambda: run.done):
                picture = highlight.results(run.note.text, panes, run.comparison)
                offered = findings(run.note.text, panes) if run.done else gr.skip()
                yield picture, highlight.status(visit.words(run)), offered
        finally:
            run.stop()  # the visitor has pressed Stop or left

    async def explain(self, finding: str | None, method: str, grain: str, request: gr.Request) -> Drawn:
        """The picture of an explanation as it is computed, and its status line."""
        session = visit.of(request.session_hash)
        session.stop()
        text, (name, _, target) = self._text(session), (finding or "").partition(" ")
        try:
            session.inquiry = inquiry = visit.why(text, name, target, method, grain)
        except StillroomError as error:
            yield gr.skip(), highlight.problem(visit.public_error(error))
            return
        try:
            async for sides in _changes(inquiry.sides, lambda: inquiry.explained):
                yield highlight.attribution(text, sides, inquiry.place), highlight.status(inquiry.title())
        finally:
            inquiry.stop()

    def wait(self, characters: float, models: list[str]) -> highlight.Html:
        """The wait for a comparison; the text itself is not needed for it."""
        if characters > DEMO_CHARACTERS:
            refusal = f"The note has {characters:,.0f} characters; this demo reads at most {DEMO_CHARACTERS:,}."
            return highlight.status(refusal)
        return highlight.status(PACE.words([Arm.parse(name).model for name in models], int(characters)))

    def wait_for_why(self, finding: str | None, method: str, request: gr.Request) -> highlight.Html:
        """The wait for an explanation."""
        name = (finding or "").partition(" ")[0]
        if name not in visit.offered():
            return highlight.status("Compare first: what the models find can be explained.")
        size = len(self._text(visit.of(request.session_hash)))
        return highlight.status(PACE.words([visit.pace_kind(name, method)], size))

    def stop(self, request: gr.Request) -> tuple[Any, ...]:
        """Stop all requests. Returns results and explanation as far as they came, each with its status line."""
        session = visit.of(request.session_hash)
        session.stop()
        stopped = [gr.skip()] * 4
        if (run := session.run) and any(answer.cancelled() for answer in run.answers):
            stopped[:2] = highlight.results(run.note.text, run.panes, run.comparison), highlight.status(STOPPED)
        if (inquiry := session.inquiry) and any(answer.cancelled() for answer in inquiry.answers):
            picture = highlight.attribution(inquiry.note.text, inquiry.sides(), inquiry.place)
            stopped[2:] = picture, highlight.status(STOPPED)
        return tuple(stopped)

    def _text(self, session: visit.Visit) -> str:
        return session.run.note.text if session.run else note().text


def sample(chosen: str) -> str:
    """The text of a sample note."""
    return next(each.note.text for each in samples() if each.id == chosen)


def findings(text: str, panes: list[highlight.Pane]) -> dict[str, Any]:
    """The menu of what can be explained: values are "ARM TARGET", since an arm holds no space."""
    offered = [(_finding_title(text, panes, *each), " ".join(each)) for each in visit.findings(panes, most=LISTED)]
    return gr.update(choices=offered, value=offered[0][1] if offered else None)


def _finding_title(text: str, panes: list[highlight.Pane], name: str, target: str) -> str:
    arm = letter([pane.name for pane in panes].index(name))
    parsed = targets.parse(target)
    if not isinstance(parsed, targets.SpanTarget):
        return f"{arm}  {describe_target(parsed)}"
    return f"{arm}  {describe_target(parsed, quote(text, parsed.start, parsed.end))} ({position(text, parsed.start)})"


async def _changes(read: Callable[[], list[Item]], done: Callable[[], bool]) -> AsyncIterator[list[Item]]:
    """What `read` returns whenever it has changed, until `done`."""
    before: list[Item] | None = None
    while True:
        ended = done()  # before reading, so that no change is missed
        if (now := read()) != before:
            yield now
        if ended:
            return
        before = now
        await asyncio.sleep(POLL_S)
