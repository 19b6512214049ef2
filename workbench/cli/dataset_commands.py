"""The commands about data sets: `stillroom datasets`, `datasets check` and `datasets fetch`."""

from typing import Annotated

import typer

from workbench.cli import terminal

BAD_INPUT = 2  # the exit code
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else.")]

datasets_app = typer.Typer(help="List the data sets, check one of your own, or fetch one from the Hub.")


@datasets_app.callback(invoke_without_command=True)
def datasets(context: typer.Context, as_json: AsJson = False) -> None:
    """List the data sets, or check one of your own."""
    if context.invoked_subcommand:
        return
    from trainer.datasets import cards

    found = list(cards().values())
    documents = [card.model_dump(mode="json") for card in found]
    terminal.answer(documents, as_json=as_json, view=lambda: terminal.show_datasets(found))


@datasets_app.command("fetch")
def fetch_dataset(
    reference: Annotated[str, typer.Argument(metavar="hf:OWNER/NAME", help="With :CONFIG and @REVISION if needed.")],
) -> None:
    """Fetch a text data set from the Hub into this machine's cache, where every command then reads it."""
    from trainer.datasets import hub

    terminal.say(hub.fetch(reference).path)


@datasets_app.command("check")
def check(
    path: Annotated[str, typer.Argument(metavar="PATH", help="A folder with train, dev and test, or one file.")],
    task: Annotated[
        str | None,
        typer.Option("--task", metavar="T", help="What the data are for; default: as the card says, or ner."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check every row; exits 2 if something is wrong, and names file and line."""
    from trainer.datasets import check as check_data

    report = check_data(path, task=task)
    terminal.answer(report.to_json(), as_json=as_json, view=lambda: terminal.show_report(report))
    if report.problems:
        raise typer.Exit(BAD_INPUT)
