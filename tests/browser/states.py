"""Every page in every state that a person meets, by name: for the checks of accessibility and for pictures of them all.

    python tests/browser/states.py OUT [--only PREFIX]

writes OUT/STATE-WIDTH-SCHEME.png of each state, on a desk and on a phone, in light and in dark, to be looked at.

    python tests/browser/states.py docs/images --documents

makes the pictures in the documents again: OUT/NAME.png of DOCUMENTS, on a desk, in light.
"""

import argparse
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, NamedTuple

from PIL import Image
from playwright.sync_api import Page

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]  # where this is run as a script

from browser.app_server import SETTLED, Server, browsing, served  # noqa: E402
from browser.space_server import Space, running  # noqa: E402
from browser.staged_jobs import FINETUNING, claimed  # noqa: E402
from conftest import (  # noqa: E402
    chromium_path,
    tiny_assertion_model,
    tiny_pair_model,
    tiny_question_model,
    tiny_relation_model,
    tiny_role_model,
    tiny_value_model,
)
from left_models import leave, leave_scored  # noqa: E402

from trainer import queue  # noqa: E402
from trainer.home import runs_dir  # noqa: E402
from trainer.queue import Progress, store  # noqa: E402
from trainer.run import Result, Run  # noqa: E402
from trainer.spec import parse  # noqa: E402

WAIT_MS = 120_000
WIDTHS: tuple[int, ...] = (1280, 390)
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
NOTE = "Fever and chills after naloxone.\n\nPLAN: stop naloxone. No rash, no sepsis."
BOTH = "model=minilm-bc5cdr&model=minilm-bc5cdr-l3"
TEACHING = {
    "kind": "distill",
    "teacher": "minilm-ncbi",
    "student": {"layers": 3},
    "recipe": "task_kd",
    "dataset": "ncbi-disease",
}
SCORING = {"kind": "evaluate", "model": "minilm-ncbi", "dataset": "ncbi-disease-slice"}
LOSSES = ("loss", "soft_targets", "hidden_cosine")
DOCUMENTS = {  # the pictures in the documents: a state, and the height of the window
    "compare": ("compare-first", 900),
    "explain": ("explain-result", 1200),
    "train": ("train-form", 900),
    "train-distil": ("train-distil", 2000),
    "jobs": ("jobs-running", 1150),
    "zoo": ("zoo-list", 900),
}
COLOURS = 128  # of such a picture, which then stays below 200 kB


class Places:
    """Where the states are found: the app with a job of each state, and the demo."""

    def __init__(self, app: str, demo: str, jobs: dict[str, str], start_empty: Callable[[], str]):
        self.app, self.demo, self.jobs, self._start_empty = app, demo, jobs, start_empty

    @cached_property
    def empty(self) -> str:
        """The app without any job, started when it is first asked for."""
        return self._start_empty()


State = Callable[[Page, Places], None]
STATES: dict[str, State] = {}


def state(function: State) -> State:
    """Enter a function that brings a page into the state of its name."""
    STATES[function.__name__.replace("_", "-")] = function
    return function


@state
def compare_first(page: Page, at: Places) -> None:
    page.goto(at.app)
    _read(page)


@state
def compare_empty(page: Page, at: Places) -> None:
    page.goto(f"{at.app}/?{BOTH}")
    _change_note(page, "Paste")
    page.get_by_role("textbox", name="Text of the note").wait_for()
    _still(page)


@state
def compare_loading(page: Page, at: Places) -> None:
    page.goto(f"{at.app}/?{BOTH}")
    _change_note(page, "Erythema nodosum without a cause")
    page.locator(".sr-waiting").first.wait_for()


@state
def compare_result(page: Page, at: Places) -> None:
    page.goto(f"{at.app}/?{BOTH}&sample=gemcitabine-case-report")
    _read(page)


@state
def compare_one(page: Page, at: Places) -> None:
    page.goto(f"{at.app}/?model=minilm-bc5cdr&sample=ed-chest-pain")
    page.locator(".sr-findings .sr-jump").first.wait_for()
    _still(page)


@state
def compare_asked(page: Page, at: Places) -> None:
    compare_one(page, at)
    page.locator("mark.sr-span").first.click()
    page.get_by_role("dialog").get_by_role("link").first.wait_for()
    _still(page)


@state
def compare_asked_why_not(page: Page, at: Places) -> None:
    compare_one(page, at)
    page.locator(".sr-line").filter(has_text="DM2").dblclick(position={"x": 60, "y": 10})
    page.get_by_role("button", name="Ask about these words").click()
    page.get_by_role("dialog").get_by_role("link", name="Explain why not").wait_for()
    _still(page)


@state
def compare_selected(page: Page, at: Places) -> None:
    compare_one(page, at)
    page.locator(".sr-line").filter(has_text="DM2").dblclick(position={"x": 60, "y": 10})
    page.get_by_role("button", name="Ask about these words").wait_for()


@state
def compare_findings(page: Page, at: Places) -> None:
    compare_result(page, at)
    page.get_by_role("radio", name="Findings").click()
    page.locator(".sr-findings .sr-jump").first.wait_for()
    _still(page)


@state
def compare_assertions(page: Page, at: Places) -> None:
    page.goto(f"{at.app}/?model={at.jobs['assertions']}")
    page.locator(".sr-findings").first.wait_for()
    _change_note(page, "Paste")
    page.get_by_role("textbox", name="Text of the note").fill(NOTE)
    page.keyboard.press("Control+Enter")
    page.locator(".sr-pane:not(.sr-waiting)").filter(has_text="naloxone").wait_for()
    page.locator(".sr-findings .sr-jump").first.wait_for()
    _still(page)


@state
def compare_filter(page: Page, at: Places) -> None:
    compare_assertions(page, at)
    page.get_by_role("button", name="Filter").click()
    page.get_by_role("slider", name="Minimum score").press("ArrowRight")
    _still(page)


@state
def compare_export(page: Page, at: Places) -> None:
    compare_one(page, at)
    page.get_by_text("Export", exact=True).click()
    page.get_by_role("button", name="Report (HTML)").wait_for()
    _still(page)


@state
def compare_reloaded(page: Page, at: Places) -> None:
    page.goto(f"{at.app}/?model=minilm-bc5cdr&sample=pasted")
    page.get_by_text("is gone").wait_for()
    _still(page)


@state
def compare_relations(page: Page, at: Places) -> None:
    page.goto(f"{at.app}/?model=minilm-bc5cdr&relations={at.jobs['relations']}&sample=hyperkalaemia-abstract")
    page.get_by_text("Relations as arcs").click()
    page.locator(".sr-arc").first.wait_for()
    _still(page)


@state
def compare_pairs(page: Page, at: Places) -> None:
    _answered(page, at, "pairs", "Hypothesis", "The patient has chest pain.")


@state
def compare_question(page: Page, at: Places) -> None:
    _answered(page, at, "questions", "Question", "Which drugs does the patient take?")


@state
def compare_roles(page: Page, at: Places) -> None:
    page.goto(f"{at.app}/?model={at.jobs['roles']}&model=minilm-bc5cdr&sample=ed-chest-pain")
    page.locator(".sr-panes .sr-pane").nth(1).wait_for()
    page.locator(".sr-waiting").first.wait_for(state="detached")
    _still(page)


@state
def compare_values(page: Page, at: Places) -> None:
    page.goto(f"{at.app}/?model={at.jobs['values']}&model=minilm-bc5cdr&sample=ed-chest-pain")
    page.locator(".sr-panes .sr-pane").nth(1).wait_for()
    page.locator(".sr-waiting").first.wait_for(state="detached")
    _still(page)


@state
def compare_error(page: Page, at: Places) -> None:
    page.goto(f"{at.app}/?model=minilm-bc5cdr&model=no-such-model")
    page.get_by_text("no-such-model").first.wait_for()
    _still(page)


@state
def explain_empty(page: Page, at: Places) -> None:
    page.goto(f"{at.app}/explain")
    page.get_by_role("heading", name="Explain").wait_for()
    _still(page)


@state
def explain_loading(page: Page, at: Places) -> None:
    _explained(page, at)
    page.locator(".sr-waiting, [data-testid=stSpinner]").or_(page.get_by_text("Stop", exact=True)).first.wait_for()


@state
def explain_result(page: Page, at: Places) -> None:
    _explained(page, at)
    page.locator(".sr-better, .sr-doubtful").nth(1).wait_for()
    _still(page)


@state
def explain_absent(page: Page, at: Places) -> None:
    page.goto(f"{at.app}/explain?model={at.jobs['assertions']}&sample=ed-chest-pain")
    page.get_by_role("combobox", name="Finding to explain").fill("Why ")
    page.get_by_role("option", name=re.compile("^Why ")).first.click()
    page.get_by_role("button", name=re.compile("^Explain")).click()
    page.locator(".sr-better, .sr-doubtful").first.wait_for()
    _still(page)


@state
def explain_export(page: Page, at: Places) -> None:
    explain_absent(page, at)
    page.get_by_text("Export", exact=True).click()
    page.get_by_role("button", name="Report (HTML)").wait_for()
    _still(page)


@state
def explain_reloaded(page: Page, at: Places) -> None:
    page.goto(f"{at.app}/explain?model=minilm-bc5cdr&sample=pasted")
    page.get_by_text("is gone").wait_for()
    _still(page)


@state
def explain_error(page: Page, at: Places) -> None:
    page.goto(f"{at.app}/explain?model=no-such-model")
    page.get_by_text("no-such-model").first.wait_for()
    _still(page)


@state
def train_form(page: Page, at: Places) -> None:
    page.goto(f"{at.app}/train")
    page.get_by_role("button", name="Queue this job").wait_for()
    _still(page)


@state
def train_distil(page: Page, at: Places) -> None:
    page.goto(f"{at.app}/train")
    page.get_by_role("radio", name="Distil", exact=True).or_(page.get_by_role("button", name="Distil")).first.click()
    page.locator(".js-plotly-plot").first.wait_for()
    _still(page)


@state
def train_average(page: Page, at: Places) -> None:
    page.goto(f"{at.app}/train")
    page.get_by_role("radio", name="Average").click()
    page.get_by_role("combobox", name="Models").fill("minilm")
    page.get_by_role("option", name="minilm-bc5cdr · ").click()
    page.get_by_role("option", name="minilm-bc5cdr-l3").click()
    page.get_by_role("combobox", name="Models").press("Escape")
    page.get_by_text("differs from minilm-bc5cdr").first.wait_for(timeout=WAIT_MS)
    _still(page)


@state
def train_error(page: Page, at: Places) -> None:
    page.goto(f"{at.app}/train")
    box = page.get_by_role("combobox", name="Data set")
    box.fill("/no/such/folder")
    box.press("Enter")
    page.get_by_text("/no/such/folder").nth(1).wait_for()
    _still(page)


@state
def jobs_empty(page: Page, at: Places) -> None:
    page.goto(f"{at.empty}/jobs")
    page.get_by_text("No jobs yet").wait_for()
    _still(page)


@state
def jobs_list(page: Page, at: Places) -> None:
    page.goto(f"{at.app}/jobs")
    page.get_by_text("1 running").wait_for()
    _still(page)


@state
def jobs_running(page: Page, at: Places) -> None:
    _job(page, at, "running")


@state
def jobs_succeeded(page: Page, at: Places) -> None:
    _job(page, at, "succeeded")


@state
def jobs_failed(page: Page, at: Places) -> None:
    _job(page, at, "failed")


@state
def jobs_unknown(page: Page, at: Places) -> None:
    page.goto(f"{at.app}/jobs?job=no-such-job")
    page.get_by_text("no-such-job").first.wait_for()
    _still(page)


@state
def zoo_list(page: Page, at: Places) -> None:
    page.goto(f"{at.app}/zoo")
    page.get_by_test_id("stDataFrame").first.wait_for()
    _still(page)


@state
def zoo_model(page: Page, at: Places) -> None:
    page.goto(f"{at.app}/zoo?model=minilm-bc5cdr-l3")
    page.get_by_test_id("stDataFrame").first.wait_for()
    _still(page)


@state
def results_first(page: Page, at: Places) -> None:
    page.goto(f"{at.app}/results")
    page.locator(".js-plotly-plot").first.wait_for()
    _still(page)


@state
def results_every(page: Page, at: Places) -> None:
    page.goto(f"{at.app}/results?dataset=All+data+sets&row=minilm-bc5cdr&row=minilm-bc5cdr-l3")
    page.get_by_role("link", name="minilm-bc5cdr-l3 in the zoo").wait_for()
    _still(page)


@state
def results_compared(page: Page, at: Places) -> None:
    rows = "&".join(f"row={at.jobs[name]}" for name in ("scored", "scored better"))
    page.goto(f"{at.app}/results?dataset=ncbi-disease-slice&{rows}")
    page.get_by_role("heading", name="Difference, item by item").wait_for()
    _still(page)


@state
def jobs_mistakes(page: Page, at: Places) -> None:
    page.goto(f"{at.app}/jobs?job={at.jobs['scored']}")
    page.get_by_role("heading", name="Worst items").wait_for()
    page.locator(".js-plotly-plot").first.wait_for()
    _still(page)


@state
def demo_first(page: Page, at: Places) -> None:
    page.goto(at.demo)
    page.locator("mark").first.wait_for()
    page.wait_for_timeout(1500)


@state
def demo_result(page: Page, at: Places) -> None:
    demo_first(page, at)
    page.get_by_role("textbox", name="Note, at most").fill(NOTE)
    page.get_by_role("button", name="Compare", exact=True).click()
    page.locator(".sr-pane").filter(has_text="PLAN: stop").nth(1).wait_for()
    page.locator(".sr-waiting").first.wait_for(state="detached")
    page.wait_for_timeout(1500)


@state
def demo_error(page: Page, at: Places) -> None:
    demo_first(page, at)
    page.get_by_role("textbox", name="Note, at most").fill("")
    page.get_by_role("button", name="Compare", exact=True).click()
    page.wait_for_timeout(2500)


def _change_note(page: Page, source: str) -> None:
    """Choose another sample, or another source, on Compare."""
    page.get_by_role("button", name="Change the note").click()
    page.get_by_role("radio", name=source).click()


def _read(page: Page) -> None:
    """Until two models have read the note."""
    page.locator(".sr-panes .sr-pane").nth(1).wait_for()
    page.locator(".sr-waiting").first.wait_for(state="detached")
    page.locator(".sr-rail").wait_for()
    _still(page)


def _answered(page: Page, at: Places, model: str, field: str, words: str) -> None:
    """A note that a model has read with the words of a field, beside a model that needs none."""
    page.goto(f"{at.app}/?model={at.jobs[model]}&model=minilm-bc5cdr&sample=ed-chest-pain")
    page.get_by_role("textbox", name=field).fill(words)
    page.get_by_role("textbox", name=field).press("Enter")
    _still(page)
    page.keyboard.press("Control+Enter")
    page.locator(".sr-panes .sr-pane").nth(1).wait_for()
    page.locator(".sr-waiting").first.wait_for(state="detached")
    _still(page)


def _explained(page: Page, at: Places) -> None:
    """A pasted note whose first finding is being explained."""
    page.goto(f"{at.app}/explain?{BOTH}")
    page.get_by_role("radio", name="Paste").click()
    page.get_by_role("textbox", name="Text of the note").fill(NOTE)
    page.keyboard.press("Control+Enter")
    page.get_by_role("button", name=re.compile("^Explain")).click()


def _job(page: Page, at: Places, name: str) -> None:
    page.goto(f"{at.app}/jobs?job={at.jobs[name]}")
    page.locator(".js-plotly-plot").or_(page.get_by_text("What went wrong")).first.wait_for()
    _still(page)


def _still(page: Page) -> None:
    """Until the page's script has ended, and what it drew is there."""
    page.wait_for_timeout(700)
    page.locator(SETTLED).wait_for()
    page.wait_for_timeout(300)


@contextmanager
def places(app: Server, demo: Space, folder: Path) -> Iterator[Places]:
    """The places of all states: `app` on this process's state folder, and a second one without jobs below `folder`."""
    (folder / "empty").mkdir()
    models = {"assertions": tiny_assertion_model(folder / "assertions"), "pairs": tiny_pair_model(folder / "pairs")}
    models["questions"] = tiny_question_model(folder / "questions")
    models["roles"] = tiny_role_model(folder / "roles")
    models["values"] = tiny_value_model(folder / "values")
    models["relations"] = tiny_relation_model(folder / "relations")
    with ExitStack() as stack, _jobs(models) as jobs:
        yield Places(app.address, demo.address, jobs, lambda: stack.enter_context(served(folder / "empty")).address)


@contextmanager
def _jobs(models: dict[str, Path]) -> Iterator[dict[str, str]]:
    """The ids of a job of each state by its name, and of one by the name of each model, which published it."""
    ids = {}
    with ExitStack() as stack:
        for seed, (name, model) in enumerate(models.items(), 5):
            lease = stack.enter_context(claimed(FINETUNING | {"seed": seed}))
            artifact = str(leave(lease.id, model))
            queue.finish(store.open_store(), lease, state="succeeded", artifact=artifact)
            ids[name] = lease.id
        for name, every in (("scored", 3), ("scored better", 5)):
            lease = stack.enter_context(claimed(SCORING | {"seed": every}))
            metrics = leave_scored(lease.id, every=every)
            queue.finish(store.open_store(), lease, state="succeeded", progress=Progress(step=1, metrics=metrics))
            ids[name] = lease.id
        for name, seed in (("succeeded", 1), ("failed", 2), ("running", 3)):
            lease = stack.enter_context(claimed(TEACHING | {"seed": seed}))
            ids[name] = lease.id
            rows = {(step, term): 2 / step for step in range(1, 31) for term in LOSSES}
            rows |= {(step, "dev_f1"): step / 40 for step in (10, 20, 30)}
            queue.renew(store.open_store(), lease, Progress(step=30, steps=40, rate=1.0, rows=rows))
            if name == "succeeded":
                run = Run(runs_dir() / lease.id / "attempt-1")
                run.folder.mkdir(parents=True)
                scores = {"f1": 0.79, "f1_Disease": 0.79, "teacher_f1": 0.827}
                intervals = {"f1": [0.77, 0.81]}
                run.finish(Result(state="succeeded", metrics=scores, report={"n": 100, "intervals": intervals}))
                queue.finish(store.open_store(), lease, state="succeeded", progress=Progress(step=40, metrics=scores))
            elif name == "failed":
                error = {
                    "type": "OutOfMemory",
                    "message": "Memory ran out in step 31.",
                    "next_step": "Submit it with batch_tokens: 512.",
                }
                queue.finish(store.open_store(), lease, state="failed", error=error)
        waiting = queue.submit(parse(TEACHING | {"seed": 4}))
        stack.callback(queue.cancel, waiting.id)
        yield ids


def main() -> None:
    """Take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", default="", help="states whose names begin so")
    parser.add_argument("--height", type=int, default=900, help="of the window; a large one shows whole pages")
    parser.add_argument("--documents", action="store_true", help="the pictures in the documents")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        base = Path(stack.enter_context(TemporaryDirectory()))
        os.environ["STILLROOM_HOME"] = str(base / "home")
        (base / "home").mkdir()
        app = stack.enter_context(served(base / "home"))
        (base / "demo").mkdir()
        demo = stack.enter_context(running("gradio", base / "demo"))
        at = stack.enter_context(places(app, demo, base))
        browser = stack.enter_context(browsing(chromium_path()))
        for picture in _documents() if options.documents else _looks(options.height):
            if picture.state.startswith(options.only):
                page = browser.new_page()
                page.set_viewport_size({"width": picture.width, "height": picture.height})
                page.emulate_media(color_scheme=picture.scheme)
                page.set_default_timeout(WAIT_MS)
                STATES[picture.state](page, at)
                page.screenshot(path=options.out / picture.name)
                page.close()
                if options.documents:
                    with Image.open(options.out / picture.name) as taken:
                        few = taken.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
                    few.save(options.out / picture.name, optimize=True)
                print(picture.name, flush=True)


class Picture(NamedTuple):
    """A file of a state in a window of this size in pixels."""

    name: str
    state: str
    width: int
    height: int
    scheme: Literal["light", "dark"]


def _documents() -> Iterator[Picture]:
    for name, (each, height) in DOCUMENTS.items():
        yield Picture(f"{name}.png", each, WIDTHS[0], height, SCHEMES[0])


def _looks(height: int) -> Iterator[Picture]:
    for each, width, scheme in product(STATES, WIDTHS, SCHEMES):
        yield Picture(f"{each}-{width}-{scheme}.png", each, width, height, scheme)


if __name__ == "__main__":
    main()
