"""Serves the demo, on this machine or where GRADIO_SERVER_NAME and GRADIO_SERVER_PORT say, as on Spaces."""

from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path

import gradio as gr
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from trainer.errors import Unavailable
from workbench import highlight
from workbench.demo.first import Opening
from workbench.demo.page import build
from workbench.quiet import keep_quiet

HERE = Path(__file__).parent
WAITING = 64  # requests in Gradio's queue; later ones are asked to come again


def launch(*, port: int | None = None, say: Callable[[str], None] | None = None) -> None:
    """Serve until the process is stopped. `say` gets the address. Unavailable if the port is taken.

    Analytics, sharing, monitoring, run history, uploads, the installable app and outside fonts are off.
    """
    keep_quiet()
    page = build(Opening()).queue(max_size=WAITING)
    switched_off = dict.fromkeys(("share", "enable_monitoring", "run_history", "pwa", "mcp_server", "ssr_mode"), False)
    try:
        _, address, _ = page.launch(
            server_port=port,
            prevent_thread_lock=True,
            quiet=True,
            max_file_size=1,
            state_session_capacity=200,
            footer_links=["api"],
            favicon_path=HERE.parent / "stillroom.svg",
            theme=_theme(),
            css_paths=HERE / "demo.css",
            js=(HERE / "jump.js").read_text(encoding="utf-8"),
            head=highlight.HEAD,
            app_kwargs={"exception_handlers": {HTTPException: _refuse, RequestValidationError: _refuse}},
            **switched_off,
        )
    except OSError:
        raise Unavailable(
            f"Port {port or '7860 and those after it'} is taken.", next_step="Choose another with --port."
        ) from None
    if say:
        say(f"The demo is at {address}  (Ctrl-C stops it)")
    page.block_thread()


def _refuse(_: Request, error: HTTPException | RequestValidationError) -> JSONResponse:
    """Answer a request that Gradio or FastAPI refuses; their own answers would repeat what was sent."""
    status = HTTPStatus(getattr(error, "status_code", HTTPStatus.UNPROCESSABLE_ENTITY))
    return JSONResponse({"detail": f"{status.phrase}. {status.description}".strip(". ") + "."}, status)


def _theme() -> gr.themes.Base:
    """The colours of .streamlit/config.toml."""
    teal = gr.themes.Color(
        c50="#eef7f7", c100="#d5ecec", c200="#aedadb", c300="#6cc5c7", c400="#3d9c9f", c500="#258083",
        c600="#0f6a70", c700="#0c565b", c800="#0a464a", c900="#08383b", c950="#052426",
    )  # fmt: skip
    return gr.themes.Default(primary_hue=teal, secondary_hue=teal, neutral_hue="slate", radius_size="sm").set(
        body_background_fill="#fbfcfc",
        body_background_fill_dark="#12191c",
        body_text_color="#0f181c",
        body_text_color_subdued="#56605f",
        body_text_color_subdued_dark="#a9b5b8",
        input_placeholder_color="#56605f",
        input_placeholder_color_dark="#a9b5b8",
        body_text_color_dark="#dfe7e9",
        input_background_fill_dark="#12191c",
        button_large_text_weight="600",
        button_large_text_size="*text_md",
        button_large_padding="*spacing_md",
        background_fill_secondary_dark="#1b2529",
        block_background_fill_dark="#1b2529",
        border_color_primary="#d5dee0",
        border_color_primary_dark="#2f3d42",
        button_primary_background_fill="#0f6a70",
        button_primary_background_fill_hover="#0c565b",
        button_primary_background_fill_dark="#258083",
        button_primary_background_fill_hover_dark="#0f6a70",
    )
