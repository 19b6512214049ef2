"""Omits messages from tracebacks in processes that hold notes, since a message may quote a note.

Streamlit, Gradio, uvicorn and asyncio print tracebacks in dozens of places, but always through Python's `traceback`
module or its hooks, so these are replaced once for the whole process.
"""

import logging
import sys
import threading
import traceback
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

OMITTED = "message omitted, since it may quote a note"


def keep_quiet() -> None:
    """Omit the message from every traceback of this process."""
    traceback.format_exception, traceback.print_exception = _format, _print
    logging.getLogger("asyncio").addFilter(_remove_context)
    sys.excepthook = lambda kind, error, where: _print(kind, error, where)
    threading.excepthook = lambda about: _print(about.exc_type, about.exc_value, about.exc_traceback)
    sys.unraisablehook = lambda about: _print(about.exc_type, about.exc_value, about.exc_traceback)


def _remove_context(record: logging.LogRecord) -> bool:
    """Remove the details that asyncio logs with an error: reprs of tasks and callbacks, which show their arguments."""
    if record.levelno >= logging.ERROR:
        record.msg, record.args = "A task of the event loop failed.", ()
    return True


def _format(
    error: object, value: object = None, tb: TracebackType | None = None, *_: object, **__: object
) -> list[str]:
    """Replacement for traceback.format_exception, with both of its signatures."""
    if isinstance(error, BaseException):
        error, value, tb = type(error), error, error.__traceback__
    head = ["Traceback (most recent call last):\n"] if tb else []
    kind = getattr(error, "__qualname__", type(value).__qualname__)
    return [*head, *traceback.format_tb(tb), f"{kind}: {OMITTED}\n"]


def _print(
    error: object,
    value: object = None,
    tb: TracebackType | None = None,
    limit: int | None = None,
    file: "SupportsWrite[str] | None" = None,
    chain: bool = True,
) -> None:
    """Replacement for traceback.print_exception."""
    (file or sys.stderr).write("".join(_format(error, value, tb)))
