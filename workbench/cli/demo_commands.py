"""The commands of the demo: `stillroom demo` and `stillroom space build`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from trainer.references import expanded
from workbench.cli import terminal

space_app = typer.Typer(help="Build the public demo for Hugging Face Spaces.", no_args_is_help=True)


def demo(
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Default: 7860, or the next free one.")] = None,
) -> None:
    """Start the public demo: nothing is trained, uploaded or stored; Ctrl-C stops it."""
    from workbench.demo.server import launch

    launch(port=port, say=terminal.say)


@space_app.command("build")
def build(
    out: Annotated[Path, typer.Option("--out", parser=expanded, metavar="DIR", help="A new or empty folder.")],
    kind: Annotated[Literal["gradio", "streamlit"], typer.Option(help="The front end.")] = "gradio",
) -> None:
    """Write all files of a Space: code, starter models, sample notes, pinned requirements and configuration."""
    from workbench import space

    sizes = space.build(kind, out)
    for name, size in sizes.items():
        terminal.say(f"{size / 1e6:9.2f} MB  {name}")
    terminal.say(f"{sum(sizes.values()) / 1e6:9.2f} MB  {out}: see its README.md for how to publish it")


@space_app.callback()
def space() -> None:
    """Build the public demo for Hugging Face Spaces."""
