"""The errors shown to users. Each says what is wrong, what was found, what is allowed and what to do next.

Messages about notes contain lengths and offsets, never text.
"""

import difflib
from collections.abc import Iterable, Sequence
from typing import Any


def printable(text: str) -> str:
    """The text with what is not valid UTF-8 (as in some file names) escaped, so that it can be printed and stored."""
    return text.encode("utf-8", "backslashreplace").decode()


class StillroomError(Exception):
    """An error with a next step. Library code raises it; pages and the command line show both."""

    next_step = ""

    def __init__(self, message: str, *, next_step: str = ""):
        self.message = printable(message)
        self.next_step = printable(next_step) or self.next_step
        super().__init__(self.message)

    def __str__(self) -> str:
        return f"{self.message} {self.next_step}".strip()

    def to_json(self) -> dict[str, Any]:
        """The shape of `error` in job rows, result.json and --json output."""
        return {"type": type(self).__name__, "message": self.message, "next_step": self.next_step}


class BadSpec(StillroomError):
    """A job spec, or a request, that does not validate."""

    next_step = "Correct the fields named above and try again; nothing was done."

    def __init__(self, fields: Sequence[tuple[str, str]], *, next_step: str = ""):
        self.fields = tuple((printable(name), printable(problem)) for name, problem in fields)  # dotted name, problem
        super().__init__("; ".join(f"{name}: {problem}" for name, problem in self.fields), next_step=next_step)

    def to_json(self) -> dict[str, Any]:
        return super().to_json() | {"fields": [{"field": name, "problem": problem} for name, problem in self.fields]}


class BadData(StillroomError):
    """A data file that cannot be read in its stated format; names the file and the line (1-based)."""

    def __init__(self, message: str, *, path: str = "", line: int | None = None, next_step: str = ""):
        self.path, self.line = str(path), line
        place = f"{self.path}, line {line:,}: " if line else f"{self.path}: " if path else ""
        super().__init__(place + message, next_step=next_step)


class UnknownName(StillroomError):
    """A name that is not in a table; lists the known names and the nearest match."""

    def __init__(self, what: str, name: object, known: Iterable[str], *, next_step: str = ""):
        known = sorted(known)
        near = difflib.get_close_matches(str(name), known, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        listed = ", ".join(known[:40]) + (f" and {len(known) - 40} more" if len(known) > 40 else "")
        message = f"There is no {what} {name!r}.{hint} Known: {listed or 'none yet'}."
        super().__init__(message, next_step=next_step or ("Give one of these." if known else ""))


class Unavailable(StillroomError):
    """Something that exists but cannot be used on this machine now: weights, a network, a package."""


class CorruptFile(StillroomError):
    """A file whose content does not match its manifest, checksum or format."""

    next_step = "Copy or fetch it again from its source."


class Refused(StillroomError):
    """Something that is possible but not allowed: a pickle, remote code, a file outside its folder."""


class LeaseLost(StillroomError):
    """Another worker holds the job now; this one must stop and must not write anything more."""

    next_step = "Nothing to do: another worker continues the job from its last checkpoint."


class NonFiniteOutputs(StillroomError):
    """A model's outputs contain NaN or infinity: there is no answer, which is not the same as an empty answer."""

    next_step = "Its weights are damaged, or its numbers overflow. Fetch or train it again, or choose another model."
