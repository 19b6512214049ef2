"""The `stillroom` command. Heavy modules are imported inside the commands, so that `--help` is instant.

With `--json` a command prints one JSON document on stdout and nothing else; an error is then {"error": {...}} on stdout,
and text on stderr always. Exit codes: 0 done; 1 a job or an operation failed; 2 bad input, a bad spec, an unknown name.
"""

import logging
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import typer

from trainer.errors import BadData, BadSpec, Refused, StillroomError, UnknownName
from workbench import terminal

DONE, FAILED, BAD_INPUT = 0, 1, 2  # exit codes
ENDED = ("succeeded", "failed", "cancelled")
POLL_S = 0.5

app = typer.Typer(
    help="Distil, fine-tune and compare compact clinical language models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # they print local variables, and a local variable may be a note
)
zoo_app = typer.Typer(help="List the models, build one without a network, or fetch one from the Hub.")
datasets_app = typer.Typer(help="List the data sets, or check a folder of your own.")
app.add_typer(zoo_app, name="zoo")
app.add_typer(datasets_app, name="datasets")

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else.")]
JobId = Annotated[str, typer.Argument(metavar="ID", help="A job's id, as `stillroom jobs` lists it.")]
Model = Annotated[str, typer.Option("--model", metavar="M", help="Zoo id, run id, ./folder or org/name.")]
TextFile = Annotated[Path, typer.Option("--text-file", metavar="F", help="UTF-8 text, read exactly as it is.")]
Reading = Literal["windows", "truncate", "whole"]
Split = Literal["train", "dev", "test"]


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    as_json = "--json" in arguments
    try:
        code = app(arguments, prog_name="stillroom", standalone_mode=False)
    except StillroomError as error:
        terminal.print_error(error.to_json(), as_json=as_json)
        code = BAD_INPUT if isinstance(error, BadSpec | BadData | UnknownName | Refused) else FAILED
    except Exception as error:
        if not hasattr(error, "format_message"):  # not one of typer's own usage errors
            raise
        error.show()
        if as_json:
            usage = {"type": "UsageError", "message": error.format_message(), "next_step": "See `stillroom --help`."}
            terminal.print_json({"error": usage})
        code = BAD_INPUT
    sys.exit(code or DONE)


@app.command()
def up(
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Default: 8501, or the next free one.")] = None,
    no_worker: Annotated[bool, typer.Option("--no-worker", help="Only the app and its lab.")] = False,
) -> None:
    """Start the app, its lab and one worker per device; Ctrl-C stops them gently."""
    from workbench import up as stack

    raise typer.Exit(stack.run(port=port, workers=not no_worker, say=terminal.console().print))


@app.command()
def worker(
    device: Annotated[str, typer.Option(metavar="cpu|cuda:0", help="Where this worker's jobs run.")] = "cpu",
    drain: Annotated[bool, typer.Option("--drain", help="Exit when the queue is empty.")] = False,
) -> None:
    """Take jobs from the queue and run them, one after the other."""
    from trainer.worker import work

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    threads = os.environ.get("STILLROOM_WORKER_THREADS")
    work(device=device, drain=drain, threads=int(threads) if threads else None)


@app.command()
def submit(
    spec: Annotated[Path, typer.Argument(metavar="SPEC.yaml", help="A job spec; specs/ has some.")],
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the end; exit 1 unless it succeeded.")] = False,
    as_json: AsJson = False,
) -> None:
    """Queue the job that a spec describes; while the same job is queued or running, that one is returned."""
    from trainer import queue
    from trainer.spec import read

    job = queue.submit(read(spec))
    if not wait:
        return terminal.answer({"id": job.id}, as_json, f"{job.id}  {job.state}")
    for job in _changes(job.id):
        if not as_json:
            terminal.console().print(f"{job.id}  {job.state}  {job.progress:.0%}")
    if as_json:
        terminal.print_json(job.to_json())
    if job.state != "succeeded":
        raise typer.Exit(FAILED)


@app.command()
def jobs(as_json: AsJson = False) -> None:
    """List the jobs, newest first."""
    from trainer import queue

    found = queue.jobs()
    if as_json:
        return terminal.print_json([job.to_json() for job in found])
    rows = [
        (job.id, job.state, f"{job.progress:.0%}", terminal.duration(job.eta_seconds), job.kind)
        + (job.spec["model"], job.spec["dataset"], _outcome(job))
        for job in found
    ]
    terminal.print_table(("id", "state", "done", "left", "kind", "model", "data set", "outcome"), rows)


@app.command("job")
def show_job(job_id: JobId, as_json: AsJson = False) -> None:
    """Show one job."""
    from trainer import queue

    job = queue.job(job_id).to_json()
    if as_json:
        return terminal.print_json(job)
    nested = {"spec", "metrics", "error"}
    terminal.print_table(("job", ""), [(name, value) for name, value in job.items() if name not in nested])
    for part in ("metrics", "error"):
        if job[part]:
            terminal.print_table((part, ""), job[part].items())


@app.command()
def logs(
    job_id: JobId,
    follow: Annotated[bool, typer.Option("--follow", help="Go on until the job ends.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print what the newest attempt at a job has printed."""
    from trainer import queue

    queue.job(job_id)  # an unknown id is an error; a job that has not printed yet is not
    parts = _log(job_id, follow=follow)
    if as_json:
        return terminal.print_json({"id": job_id, "log": "".join(parts)})
    for part in parts:
        print(part, end="", flush=True)


@app.command()
def cancel(job_id: JobId, as_json: AsJson = False) -> None:
    """Cancel a queued or running job; a running one stops within seconds."""
    from trainer import queue

    job = queue.cancel(job_id)
    terminal.answer(job.to_json(), as_json, f"{job.id}  {job.state}{', stopping' if job.state == 'running' else ''}")


@app.command()
def retry(
    job_id: JobId,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start over instead of from the last checkpoint.")] = False,
    as_json: AsJson = False,
) -> None:
    """Queue a job that failed or was cancelled again; it goes on from its last checkpoint."""
    from trainer import queue

    job = queue.retry(job_id, fresh=fresh)
    terminal.answer(job.to_json(), as_json, f"{job.id}  {job.state}")


@zoo_app.callback(invoke_without_command=True)
def zoo(context: typer.Context, as_json: AsJson = False) -> None:
    """List every model: the zoo's entries and the runs that published one."""
    if context.invoked_subcommand:
        return
    from trainer import registry

    entries = [*registry.zoo().values(), *registry.published()]
    here = [registry.weights_here(entry) is not None for entry in entries]
    if as_json:
        documents = [entry.model_dump(mode="json") | {"weights_here": h} for entry, h in zip(entries, here, strict=True)]
        return terminal.print_json(documents)
    rows = [
        (entry.id, entry.role, terminal.count(entry.params["encoder"]), entry.max_tokens, entry.licence)
        + (entry.hub_id or entry.source, "here" if h else None)
        for entry, h in zip(entries, here, strict=True)
    ]
    terminal.print_table(("id", "role", "parameters", "max tokens", "licence", "source", "weights"), rows)


@zoo_app.command("build")
def build(
    model_id: Annotated[str, typer.Argument(metavar="ID", help="A zoo id.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="A folder that is not there yet.")],
) -> None:
    """Build the masked-language-model architecture with random weights; needs no network."""
    from trainer import models

    if out.exists():
        raise Refused(f"{out} is there already.", next_step="Give a folder that is not there yet; nothing was written.")
    entry = _entry(model_id)
    models.save(models.build(entry, head="mlm"), None, out)
    terminal.console().print(f"{out}  {entry.params['mlm']:,} parameters, random weights")


@zoo_app.command("fetch")
def fetch(
    model_id: Annotated[str, typer.Argument(metavar="ID", help="A zoo id.")],
    allow_pickle: Annotated[
        bool, typer.Option("--allow-pickle", help="Read a pickled checkpoint once, weights only, in a process of its own.")
    ] = False,
) -> None:
    """Fetch a model's weights from the Hub, check their hashes and keep them as safetensors."""
    from trainer import models

    terminal.console().print(str(models.fetch(_entry(model_id), allow_pickle=allow_pickle)))


@datasets_app.callback(invoke_without_command=True)
def datasets(context: typer.Context, as_json: AsJson = False) -> None:
    """List the data sets that ship with Stillroom."""
    if context.invoked_subcommand:
        return
    from trainer.datasets import cards

    found = cards().values()
    if as_json:
        return terminal.print_json([card.model_dump(mode="json") for card in found])
    rows = [(c.id, c.task, ", ".join(c.labels), *_sentences(c), c.licence) for c in found]
    terminal.print_table(("id", "task", "labels", "train", "dev", "test", "licence"), rows)


@datasets_app.command("check")
def check(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A data file, or a folder with train, dev and test.")],
    task: Annotated[str, typer.Option("--task", metavar="T", help="What the data is for.")] = "ner",
    as_json: AsJson = False,
) -> None:
    """Check data row by row; exits 2 and names file and line of what is wrong."""
    from trainer.datasets import check as check_data

    report = check_data(path, task=task)
    terminal.answer(report.to_json(), as_json, str(report))


@app.command()
def predict(
    model: Model,
    text_file: TextFile,
    reading: Annotated[Reading, typer.Option(help="How a text longer than the model's window is read.")] = "windows",
    max_tokens: Annotated[int | None, typer.Option(min=8, help="Window in word pieces; default: the model's.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show what one model finds in a text; offsets count Unicode code points."""
    from workbench.predict import predict as predict_note

    note = _note(text_file)
    found = predict_note(note, model, reading=reading, max_tokens=max_tokens)
    if as_json:
        return terminal.print_json(found.to_json())
    rows = [(s.label, s.start, s.end, s.score, terminal.visible(note.text[s.start : s.end])) for s in found.spans]
    terminal.print_table(("label", "start", "end", "score", "text"), rows)
    terminal.console().print(_coverage(found))


@app.command()
def compare(
    models: Annotated[list[str], typer.Option("--model", metavar="M", help="M, M@reading or M@reading:max_tokens.")],
    text_file: TextFile,
    as_json: AsJson = False,
) -> None:
    """Show where two to four models disagree about a text."""
    from workbench.compare import compare as compare_predictions
    from workbench.predict import Arm
    from workbench.predict import predict as predict_note

    arms = [Arm.parse(text) for text in models]
    note = _note(text_file)
    predictions = [predict_note(note, a.model, reading=a.reading, max_tokens=a.max_tokens) for a in arms]
    compared = compare_predictions(predictions)
    if as_json:
        return terminal.print_json(compared.to_json())


@app.command()
def evaluate(
    model: Model,
    dataset: Annotated[str, typer.Option("--dataset", metavar="D", help="Data-set id or a folder.")],
    split: Annotated[Split, typer.Option(help="The split to score.")] = "test",
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many sentences.")] = None,
    as_json: AsJson = False,
) -> None:
    """Score a model on labelled data: word-level F1 with a bootstrap 95 % interval, and what it costs."""
    from trainer import datasets, models, registry
    from trainer.evaluate import evaluate as score
