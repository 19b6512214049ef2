"""What the command line prints: one JSON document for a program, or short tables for a person.

The only place that prints note text, and only what the person at this terminal handed in.
"""

import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence

from rich.console import Console
from rich.table import Table

PIPED_WIDTH = 200  # columns when nobody watches, so that `| grep` sees whole rows


def answer(document: object, *, as_json: bool, view: Callable[[], None]) -> None:
    """The document for a program, or the view of it for a person."""
    if as_json:
        print_json(document)
    else:
        view()


def print_json(document: object) -> None:
    """One JSON document on stdout; numbers that JSON lacks (NaN, infinity) become null."""
    from pydantic_core import to_json

    print(to_json(document, indent=2, inf_nan_mode="null").decode())


def say(text: str, *, stderr: bool = False) -> None:
    """One line for a person."""
    _console(stderr=stderr).print(text, soft_wrap=True)


def print_error(error: Mapping, *, as_json: bool) -> None:
    """`error` is StillroomError.to_json(): text on stderr always, and as JSON on stdout when that was asked for."""
    fields = [f"{item['field']}: {item['problem']}" for item in error.get("fields", ())]
    for line in fields or [error["message"]]:
        say(f"error: {line}", stderr=True)
    if error["next_step"]:
        say(error["next_step"], stderr=True)
    if as_json:
        print_json({"error": error})


def show_jobs(jobs: Iterable) -> None:
    """A row for each job."""
    from workbench.launch import wording

    rows = [
        (job.id, wording.state(job), f"{job.progress:.0%}", _duration(job.eta_seconds), job.kind)
        + (wording.model(job.spec), job.spec["dataset"], _outcome(job))
        for job in jobs
    ]
    _table(("id", "state", "done", "left", "kind", "model", "data set", "outcome"), rows)


def show_job(job) -> None:
    """Everything about one job but its spec."""
    facts = job.to_json()
    nested = ("spec", "metrics", "error")
    needed = [("needs", ", ".join(job.needs))] if job.needs else []
    _table(("job", ""), [(name, value) for name, value in facts.items() if name not in nested] + needed)
    for part in ("metrics", "error"):
        if facts[part]:
            say("")
            _table((part, ""), facts[part].items())


def show_state(job) -> None:
    """A job in one line."""
    say(_state(job))


def show_step(name: str, job) -> None:
    """A job of a chain in one line, after the name of its step; that of a job that is no step is empty."""
    say(f"{name}  {_state(job)}".lstrip())


def show_steps(steps: Mapping, *, whole: bool) -> None:
    """A row for each step of a chain, or one job: with `whole` everything about it."""
    if "" in steps:
        (show_job if whole else show_state)(steps[""])
        return
    rows = [(name, job.id, job.state, f"{job.progress:.0%}", _outcome(job)) for name, job in steps.items()]
    _table(("step", "id", "state", "done", "outcome"), rows)


def show_zoo(entries: Iterable[Mapping]) -> None:
    """A row for each model, as `stillroom zoo --json` has them."""
    rows = [
        (entry["id"], entry["role"], _millions(entry["params"]["encoder"]), entry["max_tokens"], entry["licence"])
        + (entry["hub_id"] or entry["source"], "here" if entry["weights_here"] else None)
        for entry in entries
    ]
    _table(("id", "role", "parameters", "max tokens", "licence", "source", "weights"), rows)


def show_datasets(cards: Iterable) -> None:
    """A row for each data set; the splits in sentences, or documents."""
    rows = [
        (
            card.id,
            card.task,
            ", ".join(getattr(card, "labels", ())),
            *(_examples(card, split) for split in _SPLITS),
            card.licence,
        )
        for card in cards
    ]
    _table(("id", "task", "labels", *_SPLITS, "licence"), rows)


def show_report(report) -> None:
    """What a data set holds and what is wrong in it, problem by problem with its line."""
    counted = [what for what in _COUNTED if any(hasattr(split, what) for split in report.splits.values())]
    rows = [(name, *(getattr(split, what, None) for what in counted)) for name, split in report.splits.items()]
    if rows:
        _table(("split", *counted), rows)
    for note in report.notes:
        say(note)
    for problem in report.problems:
        place = f"{problem.file}, line {problem.line:,}" if problem.line else problem.file
        say(f"{place}: {problem.message} {problem.next_step}")
    if report.more_problems:
        say(f"And {report.more_problems:,} more problems.")


def show_prediction(text: str, found) -> None:
    """The spans with the text they cover, or the labels of the whole; what was read, and what it cost."""
    from trainer.tasks import answers  # here, so that other commands need not wait for it

    if answers(found.task) == "labels":
        given = set(found.chosen)
        ranked = [(said.label, said.score, "given" if said.label in given else "") for said in found.labels]
        _table(("label", "probability", ""), ranked)
        say(_coverage(found))
        return
    rows = [
        (span.label, span.start, span.end, span.score, _visible(text[span.start : span.end])) for span in found.spans
    ]
    _table(("label", "start", "end", "score", "text"), rows)
    say(_coverage(found))


def show_comparison(text: str, compared) -> None:
    """Each disagreement with every arm's vote, then how far the arms agree and what each read."""
    arms = [found.model for found in compared.predictions]
    rows = [
        (item.start, item.end, *(_vote(item.votes, arm) for arm in arms), _place(text, item))
        for item in compared.disagreements
    ]
    _table(("start", "end", *arms, "text"), rows)
    say(f"Disagreements: {len(rows)}; {compared.no_agreement or _agreement(compared)}")
    for found in compared.predictions:
        said = ", ".join(found.chosen) or "no label" if found.labels else f"{len(found.spans)} spans"
        say(f"{found.model}: {said}. {_coverage(found)}")


def _agreement(compared) -> str:
    from trainer.tasks import answers  # here, so that other commands need not wait for it

    measures = sorted({_MEASURES[answers(found.task)] for found in compared.predictions})
    return f"agreement: {', '.join(measures)} {compared.agreement:.3f}."


def show_targets(text: str, targets: Sequence[Mapping]) -> None:
    """What a model found, each as a target that can be explained, with the text that it covers."""
    rows = [(each["target"], each["score"], _quoted(text, each["target"])) for each in targets]
    _table(("target", "score", "text"), rows)
    say("Give one of them as --target, or any other START:END:LABEL or LABEL." if rows else "The model found nothing.")


def show_explanation(text: str, found, *, most: int = 15) -> None:
    """The parts that count most, either way, then whether to rely on it and how it was computed."""
    parts = sorted((part for part in found.attributions if part.score), key=lambda part: -abs(part.score))
    rows = [(part.score, part.start, part.end, _visible(text[part.start : part.end])) for part in parts[:most]]
    _table(("score", "start", "end", f"{found.grain}, {min(most, len(parts)):,} of {len(found.attributions):,}"), rows)
    say(f"{found.target}: probability {found.probability:.3f}, log-odds {found.log_odds:.2f}. {_trust(found)}")
    settings = "".join(f", {name} {value}" for name, value in found.options.items())
    delta = "" if found.convergence_delta is None else f", convergence delta {found.convergence_delta:+.3f}"
    around = ", the target's own words left in place" if found.context else ""
    say(f"{found.method}{settings}, baseline {found.baseline}{around}{delta}.")
    if found.checks:
        say(", ".join(f"{name} {_cell(value)}" for name, value in found.checks.model_dump().items()) + ".")
    say(_coverage(found))


def show_scores(report: Mapping) -> None:
    """Scores with their intervals, and the cost."""
    intervals = report["intervals"]
    rows = [(name, value, _interval(intervals.get(name))) for name, value in report["metrics"].items()]
    _table(("score", f"n = {report['n']:,}", "95 % interval"), rows)
    say("")
    _table(("cost", ""), report["cost"].items())
    for note in report.get("notes", ()):
        say(note)


_COUNTED = ("sentences", "documents", "tokens", "entities", "characters", "longest")  # of a split, as far as it has it
_PLACES = re.compile(r"[0-9]{1,15}:[0-9]{1,15}:")  # START:END: of a target
_SPLITS = ("train", "dev", "test")
_MEASURES: dict[str | None, str] = {
    "spans": "mean F1 of the pairs",
    "labels": "mean agreement of the pairs",
}  # by what they answer


def _console(*, stderr: bool = False) -> Console:
    # Strings are taken literally: names and notes are data, never markup.
    watched = (sys.stderr if stderr else sys.stdout).isatty()
    return Console(stderr=stderr, markup=False, highlight=False, emoji=False, width=None if watched else PIPED_WIDTH)


def _table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    rows = [list(row) for row in rows]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for index, name in enumerate(columns):
        numeric = bool(rows) and all(isinstance(row[index], int | float | None) for row in rows)
        table.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(_cell, row))
    _console().print(table)


def _cell(value: object) -> str:
    if value is None or value == "":
        return "–"
    if isinstance(value, float):
        return f"{value:,.3f}"
    return str(value)


def _visible(text: str) -> str:
    """Control characters, escape sequences and direction marks would act on the terminal; they show as blanks."""
    return "".join(character if character.isprintable() else " " for character in text)


def _duration(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def _millions(number: int | None) -> str | None:
    return None if number is None else f"{number / 1e6:.1f}M"


def _examples(card, split: str) -> int | None:
    return card.splits[split].examples if split in card.splits else None


def _state(job) -> str:
    from workbench.launch import wording

    state = wording.state(job)
    stands = job.state if state == job.state else f"{job.state}, {state}"
    waits = f"  waits for {', '.join(job.waits_for)}" if job.waits_for else ""
    return f"{job.id}  {stands}  {job.progress:.0%}{waits}"


def _outcome(job) -> str | None:
    """The score of a job that succeeded, the kind of error of one that failed, what a queued one waits for."""
    if job.error:
        return f"{job.error['type']} of {job.error['needed']}" if "needed" in job.error else job.error["type"]
    if job.waits_for:
        return f"waits for {', '.join(job.waits_for)}"
    for name, score in (("F1", "f1"), ("macro F1", "macro_f1")):
        value = job.metrics.get(f"test_{score}", job.metrics.get(score))
        if value is not None:
            return f"{name} {value:.3f}"
    return None


def _quoted(text: str, target: str) -> str | None:
    start, end = (*target.split(":"), "", "")[:2]
    return _visible(text[int(start) : int(end)]) if _PLACES.match(target) else None


def _trust(found) -> str:
    if found.faithfulness is None:
        return "Faithfulness was not measured."
    own = found.faithfulness
    verdict = "Better than random orders" if found.trusted else "Do not rely on this: no better than random orders"
    return (
        f"{verdict}: hiding the highest parts takes {own.comprehensiveness:.3f} of the probability (random "
        f"{own.random_comprehensiveness:.3f}), hiding all others {own.sufficiency:.3f} ({own.random_sufficiency:.3f})."
    )


def _vote(votes: Mapping[str, str | None], arm: str) -> str:
    return "cannot say it" if arm not in votes else votes[arm] or "nothing"


def _place(text: str, item) -> str:
    return "the whole note" if item.start is None else _visible(text[item.start : item.end])


def _coverage(found) -> str:
    read, cost = found.coverage, found.cost
    unread = f" Not read: {', '.join(f'{start}-{end}' for start, end in read.unread)}." if read.unread else ""
    speed = f"{cost.latency_ms:,.0f} ms, {cost.tokens_per_second:,.0f} tokens/s"
    windows = f"{read.windows:,} window{'s' * (read.windows != 1)}"
    return f"Read {read.tokens_read:,} of {read.tokens:,} tokens, {windows}, {speed}.{unread}"


def _interval(bounds: Sequence[float] | None) -> str | None:
    return f"{bounds[0]:.3f} to {bounds[1]:.3f}" if bounds else None
