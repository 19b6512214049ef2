"""The commands about data sets: `stillroom datasets`, `datasets check`, `datasets import` and `datasets fetch`."""

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from workbench.cli import terminal

BAD_INPUT = 2  # the exit code
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else.")]

datasets_app = typer.Typer(help="List the data sets, check or import your own, or download one from the Hub.")


@datasets_app.callback(invoke_without_command=True)
def datasets(context: typer.Context, as_json: AsJson = False) -> None:
    """List the data sets, check or import your own, or download one from the Hub."""
    if context.invoked_subcommand:
        return
    from trainer.datasets import cards

    listed = list(cards().values())
    documents = [card.model_dump(mode="json") for card in listed]
    terminal.answer(documents, as_json=as_json, view=lambda: terminal.show_datasets(listed))


@datasets_app.command("fetch")
def fetch_dataset(
    reference: Annotated[str, typer.Argument(metavar="hf:OWNER/NAME", help="Add :CONFIG and @REVISION if needed.")],
) -> None:
    """Download a text data set from the Hub into the local cache, which all commands read."""
    from trainer.datasets import hub

    terminal.say(hub.fetch(reference).path)


@datasets_app.command("check")
def check(
    path: Annotated[str, typer.Argument(metavar="PATH", help="A folder with train, dev and test, or one file.")],
    task: Annotated[
        str | None,
        typer.Option("--task", metavar="T", help="The task of the data; default: the card's, or ner."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check every row and report problems by file and line; exits with 2 if there are any."""
    from trainer.datasets import check as check_data

    report = check_data(path, task=task)
    terminal.answer(report.to_json(), as_json=as_json, view=lambda: terminal.show_report(report))
    if report.problems:
        raise typer.Exit(BAD_INPUT)


@datasets_app.command("import")
def import_dataset(
    path: Annotated[str, typer.Argument(metavar="PATH", help="A folder with train, dev and test, or one file.")],
    task: Annotated[str, typer.Option("--task", metavar="T", help="The task of the data.")],
    name: Annotated[str, typer.Option("--name", metavar="N", help="What commands and pages will call it.")],
    group: Annotated[
        str | None,
        typer.Option("--group", metavar="FIELD", help="Rows with the same value stay in one split, such as patient."),
    ] = None,
    licence: Annotated[str, typer.Option("--licence", metavar="TEXT", help="For the card.")] = "not stated",
    source: Annotated[str, typer.Option("--source", metavar="TEXT", help="For the card.")] = "",
    as_json: AsJson = False,
) -> None:
    """Keep a version of your data in the state folder, split by document where splits are missing.

    Nothing is imported while there are problems: they are reported by file and line, and the exit code is 2.
    """
    from trainer.datasets import cards, import_data

    options: dict[str, Any] = {"group": group, "licence": licence, "source": source}
    reference, report = import_data(path, task=task, name=name, count_pieces=_count_pieces, **options)

    def view() -> None:
        terminal.show_report(report)
        for note in cards()[name].notes[-1:] if reference else ():
            terminal.say(note)
        terminal.say(f"Imported as {reference}; {name} stands for it." if reference else "Nothing was imported.")

    terminal.answer({"reference": reference, **report.to_json()}, as_json=as_json, view=view)
    if report.problems:
        raise typer.Exit(BAD_INPUT)


def _count_pieces(texts: Sequence[str]) -> list[int]:
    """The word pieces of each text by the tokenizer that ships."""
    from tokenizers import Tokenizer

    from trainer import zoo

    tokenizer = Tokenizer.from_file(f"{zoo.resolve('minilm').path}/tokenizer.json")
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return [len(encoding.ids) - 2 for encoding in tokenizer.encode_batch([*texts])]
