"""What a process that holds notes prints of an error that nobody foresaw: its type and places, and never its message.

A message may quote a note. Streamlit, Gradio, uvicorn and asyncio print tracebacks in dozens of places, and all of them
ask Python's own `traceback` and hooks for the text; so it is changed there, once, for the whole process.
"""

import logging
import sys
import threading
import traceback
from types import TracebackType

LEFT_OUT = "its message is left out, since it may quote a note"


def keep_quiet() -> None:
    """From now on no traceback of this process holds a message."""
    traceback.format_exception, traceback.print_exception = _format, _print
    logging.getLogger("asyncio").addFilter(_without_context)
    sys.excepthook = lambda kind, error, where: _print(kind, error, where)
    threading.excepthook = lambda about: _print(about.exc_type, about.exc_value, about.exc_traceback)
    sys.unraisablehook = lambda about: _print(about.exc_type, about.exc_value, about.exc_traceback)


def _without_context(record: logging.LogRecord) -> bool:
    """asyncio writes the repr of tasks and callbacks beside an error, with its message and their arguments."""
    if record.levelno >= logging.ERROR:
        record.msg, record.args = "A task of the event loop failed.", ()
    return True


def _format(error, value=None, tb: TracebackType | None = None, *_: object, **__: object) -> list[str]:
    """As traceback.format_exception, in both of its ways to be called."""
    if isinstance(error, BaseException):
        error, value, tb = type(error), error, error.__traceback__
    head = ["Traceback (most recent call last):\n"] if tb else []
    kind = getattr(error, "__qualname__", type(value).__qualname__)
    return [*head, *traceback.format_tb(tb), f"{kind}: {LEFT_OUT}\n"]


def _print(error, value=None, tb=None, limit=None, file=None, chain=True) -> None:  # noqa: PLR0913
    """As traceback.print_exception."""
    (file or sys.stderr).write("".join(_format(error, value, tb)))
