"""The largest numbers that a spec, a model's config and a line of events may hold: what every database can store.

A number without a bound passes validation and breaks where it is used, in the worker or in the database.
"""

from typing import Any

COUNT = 2**31 - 1  # of steps, examples, pieces: an INTEGER column of PostgreSQL
FACTOR = 1e6  # of a loss term's weight, a temperature, a norm
SHOWN = 80  # characters of a wrong value that an error quotes


def shown(value: Any) -> str:
    """The beginning of a value's repr. Python writes no whole number of more than 4,300 digits."""
    try:
        return f"{value!r:.{SHOWN}}"
    except (ValueError, RecursionError):
        return f"a {type(value).__name__} too large to be written"
