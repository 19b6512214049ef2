"""The `stillroom` command. Heavy modules are imported inside the commands, so that `--help` is fast.

With `--json` a command prints one JSON document on stdout and nothing else. Errors are text on stderr, and then also
{"error": {...}} on stdout. Exit codes: 0 done; 1 a job or an operation failed; 2 bad input, spec or name.
"""

import logging
import os
import re
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from trainer.errors import BadData, BadSpec, Refused, StillroomError, Unavailable, UnknownName
from trainer.home import unavailable as state_error
from trainer.offline import go_offline
from trainer.references import expanded
from workbench.cli import (
    dataset_commands,
    demo_commands,
    findings,
    inputs,
    job_commands,
    results_commands,
    terminal,
)

if TYPE_CHECKING:
    from trainer.zoo import ModelEntry

DONE, FAILED, BAD_INPUT = 0, 1, 2  # exit codes
DEVICE = re.compile(r"cpu|mps|cuda(:\d{1,3})?")
NETWORK_COMMANDS = (["zoo", "fetch"], ["datasets", "fetch"])  # all others run offline

app = typer.Typer(
    help="Fine-tune and compare compact clinical language models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # they print local variables, and a local variable may be a note
)
zoo_app = typer.Typer(help="List the models, build one without a network, or download one from the Hub.")
app.add_typer(zoo_app, name="zoo")
app.add_typer(dataset_commands.datasets_app, name="datasets")
app.command("results")(results_commands.results)
app.command("demo")(demo_commands.demo)
app.add_typer(demo_commands.space_app, name="space")

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else.")]
ZooId = Annotated[str, typer.Argument(metavar="ID", help="A model's id, as `stillroom zoo` lists it.")]
Model = Annotated[str, typer.Option("--model", metavar="M", help="Zoo id, run id, ./folder or org/name.")]
Relations = Annotated[str | None, typer.Option(metavar="M", help="A model that relates the entities found.")]
Reading = Literal["windows", "truncate", "whole"]
Grain = Literal["section", "sentence", "phrase", "word", "piece"]


def main(arguments: list[str] | None = None) -> None:
    """Run a command and exit with its code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    as_json = "--json" in arguments
    if arguments[:2] not in NETWORK_COMMANDS:
        go_offline()
    try:
        code = app(arguments, prog_name="stillroom", standalone_mode=False)
    except StillroomError as error:
        terminal.print_error(error.to_json(), as_json=as_json)
        code = BAD_INPUT if isinstance(error, BadSpec | BadData | UnknownName | Refused) else FAILED
    except Exception as error:
        if system_error := _system_error(error):
            terminal.print_error(system_error.to_json(), as_json=as_json)
            sys.exit(FAILED)
        if not isinstance(error, terminal.UsageError):
            raise
        terminal.print_usage_error(error, as_json=as_json)
        code = BAD_INPUT
    sys.exit(code or DONE)


def _system_error(error: Exception) -> StillroomError | None:
    """The error to show if a file, a folder or memory was refused by the system; None for a bug."""
    if isinstance(error, OSError) and error.filename is not None:
        step = "Check the path and its permissions, or give another path."
        return state_error(error) or Unavailable(f"{os.fsdecode(error.filename)}: {error.strerror}.", next_step=step)
    from trainer.training.memory import OutOfMemory, ran_out

    if ran_out(error):
        step = "Choose a smaller model or a shorter text, or free memory: a training job may be using it."
        return OutOfMemory("There is not enough memory for this.", next_step=step)
    return None


@app.command()
def up(
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Default: 8501, or the next free one.")] = None,
    no_worker: Annotated[bool, typer.Option("--no-worker", help="Start only the app and its lab.")] = False,
) -> None:
    """Start the app, its lab and one worker per device; Ctrl-C stops them cleanly."""
    from workbench.cli import processes

    raise typer.Exit(processes.run(port=port, workers=not no_worker, say=terminal.say))


@app.command()
def worker(
    device: Annotated[str, typer.Option(metavar="cpu|cuda:0", help="The device that runs the jobs.")] = "cpu",
    drain: Annotated[bool, typer.Option("--drain", help="Exit when the queue is empty.")] = False,
) -> None:
    """Take jobs from the queue and run them, one after the other."""
    from trainer.queue.worker import work

    if not DEVICE.fullmatch(device):
        raise BadSpec([("--device", f"found {device!r:.80}; write cpu, mps, cuda or cuda:0")])
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    threads = os.environ.get("STILLROOM_WORKER_THREADS")
    work(device=device, drain=drain, threads=int(threads) if threads else None)


for command in job_commands.COMMANDS:
    app.command(command.__name__.replace("show_", ""))(command)


@zoo_app.callback(invoke_without_command=True)
def zoo(context: typer.Context, as_json: AsJson = False) -> None:
    """List the models, build one without a network, or download one from the Hub."""
    if context.invoked_subcommand:
        return
    from trainer import zoo as registry
    from trainer.queue import published

    entries = [
        entry.model_dump(mode="json") | {"weights_here": registry.weights_here(entry) is not None}
        for entry in [*registry.entries().values(), *published.runs()]
    ]
    terminal.answer(entries, as_json=as_json, view=lambda: terminal.show_zoo(entries))


@zoo_app.command("build")
def build(
    model_id: ZooId,
    out: Annotated[Path, typer.Option("--out", parser=expanded, metavar="DIR", help="A new folder.")],
) -> None:
    """Build a masked language model with random weights, without a network."""
    entry = _entry(model_id)
    if out.exists():
        raise Refused(f"{out} already exists.", next_step="Give the path of a new folder; nothing was written.")
    from trainer import models

    network = models.build(entry)
    models.save(network, None, out)
    terminal.say(f"{out}: {sum(p.numel() for p in network.parameters()):,} parameters, random weights")


@zoo_app.command("fetch")
def fetch(
    model_id: ZooId,
    allow_pickle: Annotated[
        bool,
        typer.Option("--allow-pickle", help="Allow pickled weights: read once, weights only, in a separate process."),
    ] = False,
) -> None:
    """Download a model's weights from the Hub, check their hashes and store them as safetensors."""
    entry = _entry(model_id)
    from trainer import models

    terminal.say(str(models.fetch(entry, allow_pickle=allow_pickle)))


@app.command()
def predict(
    model: Model,
    text_file: inputs.TextFile,
    hypothesis: inputs.Hypothesis = "",
    question: inputs.Question = "",
    relations: Relations = None,
    reading: Annotated[Reading, typer.Option(help="How to read a text longer than the model's window.")] = "windows",
    max_tokens: Annotated[int | None, typer.Option(min=8, help="Window in word pieces; default: the model's.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show what one model finds in a text; offsets count Unicode code points."""
    from trainer.zoo import resolve
    from workbench.predict import predict as predict_note

    note, resolved = inputs.read_note(text_file, hypothesis, question), resolve(model)
    inputs.check_read(note, [resolved])
    relating = resolve(relations) if relations else None
    prediction = predict_note(note, resolved, relations=relating, reading=reading, max_tokens=max_tokens)
    view = partial(findings.show_prediction, note.text, prediction)
    terminal.answer(prediction.to_json(note.text), as_json=as_json, view=view)


@app.command()
def compare(
    models: Annotated[list[str], typer.Option("--model", metavar="M", help="M, M@reading or M@reading:max_tokens.")],
    text_file: inputs.TextFile,
    hypothesis: inputs.Hypothesis = "",
    question: inputs.Question = "",
    relations: Relations = None,
    as_json: AsJson = False,
) -> None:
    """Show where two or more models disagree about a text."""
    from trainer.zoo import resolve
    from workbench.compare import compare as compare_predictions
    from workbench.predict import Arm
    from workbench.predict import predict as predict_note

    arms = [Arm.parse(text) for text in models]
    if len({arm.name for arm in arms}) < max(2, len(arms)):
        raise BadSpec([("--model", f"found {', '.join(models)}; give two or more different arms")])
    # All of them before one is loaded.
    note, resolved = inputs.read_note(text_file, hypothesis, question), [resolve(arm.model) for arm in arms]
    inputs.check_read(note, resolved)
    relating = resolve(relations) if relations else None
    compared = compare_predictions(
        [
            predict_note(note, model, relations=relating, reading=arm.reading, max_tokens=arm.max_tokens, name=arm.name)
            for model, arm in zip(resolved, arms, strict=True)
        ]
    )
    document = compared.to_json(note.text)
    terminal.answer(document, as_json=as_json, view=lambda: findings.show_comparison(note.text, compared))


@app.command()
def explain(
    model: Model,
    text_file: inputs.TextFile,
    target: Annotated[
        str | None, typer.Option(metavar="T", help="START:END:LABEL or LABEL; leave out to list what can be asked.")
    ] = None,
    hypothesis: inputs.Hypothesis = "",
    question: inputs.Question = "",
    method: Annotated[str, typer.Option(metavar="NAME", help="The attribution method.")] = "integrated_gradients",
    grain: Annotated[Grain | None, typer.Option(help="The parts that get a score; default: the method's.")] = None,
    context: Annotated[
        bool, typer.Option("--context", help="Explain by context only; the target's words stay in place.")
    ] = False,
    checks: Annotated[
        bool, typer.Option("--checks", help="Also check infidelity, sensitivity and randomised weights.")
    ] = False,
    reading: Annotated[Reading, typer.Option(help="How to read a text longer than the model's window.")] = "windows",
    max_tokens: Annotated[int | None, typer.Option(min=8, help="Window in word pieces; default: the model's.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show which parts of a text support a model's finding, and how far to rely on the explanation."""
    from trainer.zoo import resolve
    from workbench import explain as why
    from workbench.predict import predict as predict_note

    note, resolved = inputs.read_note(text_file, hypothesis, question), resolve(model)
    inputs.check_read(note, [resolved])
    if target is None:
        listed = why.targets.list_targets(predict_note(note, resolved, reading=reading, max_tokens=max_tokens))
        document = {"targets": listed}
        terminal.answer(document, as_json=as_json, view=lambda: findings.show_targets(note.text, listed))
        return
    options = why.ExplainOptions(
        method=method, grain=grain, context=context, checks=checks, reading=reading, max_tokens=max_tokens
    )
    answer = why.explain(note, resolved, target, options)
    terminal.answer(answer.to_json(), as_json=as_json, view=lambda: findings.show_explanation(note.text, answer))


app.command("evaluate")(results_commands.evaluate)


@app.command()
def export(
    model: Model,
    out: Annotated[Path, typer.Option("--out", parser=expanded, metavar="DIR", help="A new or empty folder.")],
    form: Annotated[Literal["safetensors"], typer.Option("--format", help="The file format.")] = "safetensors",
    half: Annotated[bool, typer.Option("--half", help="Store 16-bit numbers, half the size.")] = False,
) -> None:
    """Export a model with its tokenizer and model card to a folder."""
    from trainer.zoo import resolve

    resolved = resolve(model)
    from trainer.models.export import export as write_model

    terminal.say(str(write_model(resolved, out, half=half)))


def _entry(model_id: str) -> "ModelEntry":
    from trainer.zoo import entries

    if model_id not in entries():
        raise UnknownName("model", model_id, entries(), next_step="`stillroom zoo` lists them.")
    return entries()[model_id]
