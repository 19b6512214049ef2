"""Output of the command line: one JSON document for a program, or short tables for a person.

This is the only place that prints note text, and only text that the person at this terminal passed in.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:  # slow to import, and most commands need none of them
    from trainer.datasets import DatasetCard, Report
    from trainer.queue import Job

PIPED_WIDTH = 200  # columns when output is not a terminal, so that `| grep` sees whole rows


def answer(document: object, *, as_json: bool, view: Callable[[], None]) -> None:
    """Print the document as JSON, or call `view` to show it to a person."""
    if as_json:
        print_json(document)
    else:
        view()


def print_json(document: object) -> None:
    """Print one JSON document on stdout; NaN and infinity become null."""
    from pydantic_core import to_json

    print(to_json(document, indent=2, inf_nan_mode="null").decode())


def say(text: str, *, stderr: bool = False) -> None:
    """Print one line for a person."""
    _console(stderr=stderr).print(text, soft_wrap=True)


@runtime_checkable
class UsageError(Protocol):
    """An error of the command line that Typer raises; its class has another place in each version of Typer."""

    def show(self) -> None: ...

    def format_message(self) -> str: ...


def print_usage_error(error: UsageError, *, as_json: bool) -> None:
    """Print an error of the command line as Typer does, and with --json also as JSON."""
    error.show()
    if as_json:
        usage = {"type": "UsageError", "message": error.format_message(), "next_step": "See `stillroom --help`."}
        print_json({"error": usage})


def print_error(error: Mapping[str, Any], *, as_json: bool) -> None:
    """Print a StillroomError.to_json(): always as text on stderr, and as JSON on stdout if requested."""
    fields = [f"{item['field']}: {item['problem']}" for item in error.get("fields", ())]
    for line in fields or [error["message"]]:
        say(f"error: {line}", stderr=True)
    if error["next_step"]:
        say(error["next_step"], stderr=True)
    if as_json:
        print_json({"error": error})


def show_jobs(jobs: Iterable[Job]) -> None:
    """Show one row per job."""
    from workbench.launch import wording

    rows = [
        (job.id, wording.state(job), f"{job.progress:.0%}", _duration(job.eta_seconds), job.kind)
        + (wording.model(job.spec), job.spec["dataset"], _outcome(job))
        for job in jobs
    ]
    table(("id", "state", "done", "left", "kind", "model", "data set", "outcome"), rows)


def show_job(job: Job) -> None:
    """Show everything about one job except its spec."""
    facts = job.to_json()
    nested = ("spec", "metrics", "error")
    needed = [("needs", ", ".join(job.needs))] if job.needs else []
    table(("job", ""), [(name, value) for name, value in facts.items() if name not in nested] + needed)
    for part in ("metrics", "error"):
        if facts[part]:
            say("")
            table((part, ""), facts[part].items())


def show_state(job: Job) -> None:
    """Show a job in one line."""
    say(_state(job))


def show_step(name: str, job: Job) -> None:
    """Show a job in one line after the name of its step, which is empty outside a chain."""
    say(f"{name}  {_state(job)}".lstrip())


def show_steps(steps: Mapping[str, Job], *, whole: bool) -> None:
    """Show one row per step of a chain, or one job; with `whole` everything about it."""
    if "" in steps:
        (show_job if whole else show_state)(steps[""])
        return
    rows = [(name, job.id, job.state, f"{job.progress:.0%}", _outcome(job)) for name, job in steps.items()]
    table(("step", "id", "state", "done", "outcome"), rows)


def show_zoo(entries: Iterable[Mapping[str, Any]]) -> None:
    """Show one row per model. entries: as in `stillroom zoo --json`."""
    rows = [
        (entry["id"], entry["role"], _millions(entry["params"]["encoder"]), entry["max_tokens"], entry["licence"])
        + (entry["hub_id"] or entry["source"], "here" if entry["weights_here"] else None)
        for entry in entries
    ]
    table(("id", "role", "parameters", "max tokens", "licence", "source", "weights"), rows)


def show_datasets(cards: Iterable[DatasetCard]) -> None:
    """Show one row per data set, with the sentences or documents of each split."""
    rows = [
        (card.id, card.task, ", ".join(card.labels), *(_examples(card, split) for split in _SPLITS), card.licence)
        for card in cards
    ]
    table(("id", "task", "labels", *_SPLITS, "licence"), rows)


def show_report(report: Report) -> None:
    """Show the contents of a data set and its problems by file and line."""
    counted = [what for what in _COUNTED if any(hasattr(split, what) for split in report.splits.values())]
    rows = [(name, *(getattr(split, what, None) for what in counted)) for name, split in report.splits.items()]
    if rows:
        table(("split", *counted), rows)
    if attributes := _attribute_counts(report):
        table(("attribute", "label", "value", *report.splits), attributes)
    for note in report.notes:
        say(note)
    for problem in report.problems:
        place = f"{problem.file}, line {problem.line:,}" if problem.line else problem.file
        say(f"{place}: {problem.message} {problem.next_step}")
    if report.more_problems:
        say(f"And {report.more_problems:,} more problems.")


def _attribute_counts(report: Report) -> list[tuple[object, ...]]:
    """A row per value of an attribute of entities with a label: how often it occurs in each split."""
    counts: dict[tuple[str, str, str], dict[str, int]] = {}
    for split, contents in report.splits.items():
        for name, by_label in getattr(contents, "attributes", {}).items():
            for label, by_value in by_label.items():
                for value, number in by_value.items():
                    counts.setdefault((name, label, value), {})[split] = number
    return [(*key, *(counts[key].get(split, 0) for split in report.splits)) for key in sorted(counts)]


_COUNTED = (
    "questions",
    "documents",
    "sentences",
    "pairs",
    "unanswerable",
    "tokens",
    "entities",
    "characters",
    "longest",
    "lowest",
    "highest",
    "mean",
)  # of a split, where available
_SPLITS = ("train", "dev", "test")


def _console(*, stderr: bool = False) -> Console:
    # Strings are printed literally: names and notes are data, never markup.
    is_terminal = (sys.stderr if stderr else sys.stdout).isatty()
    return Console(
        stderr=stderr, markup=False, highlight=False, emoji=False, width=None if is_terminal else PIPED_WIDTH
    )


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table; what is None or empty is a dash."""
    rows = [list(row) for row in rows]
    drawn = Table(box=None, pad_edge=False, header_style="bold")
    for index, name in enumerate(columns):
        numeric = bool(rows) and all(isinstance(row[index], int | float | None) for row in rows)
        drawn.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*map(cell, row))
    _console().print(drawn)


def cell(value: object) -> str:
    """What a table shows of a value: a dash for none, three digits of a fraction."""
    if value is None or value == "":
        return "–"
    if isinstance(value, float):
        return f"{value:,.3f}"
    return str(value)


def visible(text: str) -> str:
    """Replace characters that would act on the terminal, such as escape sequences and direction marks, by blanks."""
    return "".join(character if character.isprintable() else " " for character in text)


def _duration(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def _millions(number: int | None) -> str | None:
    return None if number is None else f"{number / 1e6:.1f}M"


def _examples(card: DatasetCard, split: str) -> int | None:
    return card.splits[split].examples if split in card.splits else None


def _state(job: Job) -> str:
    from workbench.launch import wording

    state = wording.state(job)
    described = job.state if state == job.state else f"{job.state}, {state}"
    waits = f"  waits for {', '.join(job.waits_for)}" if job.waits_for else ""
    return f"{job.id}  {described}  {job.progress:.0%}{waits}"


def _outcome(job: Job) -> str | None:
    """The score of a job that succeeded, the error type of one that failed, or what a queued one waits for."""
    if job.error:
        return f"{job.error['type']} of {job.error['needed']}" if "needed" in job.error else job.error["type"]
    if job.waits_for:
        return f"waits for {', '.join(job.waits_for)}"
    for name, score in (("F1", "f1"), ("macro F1", "macro_f1")):
        value = job.metrics.get(f"test_{score}", job.metrics.get(score))
        if value is not None:
            return f"{name} {value:.3f}"
    return None
